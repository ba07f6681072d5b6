"""What is touched in MiniStack, held against the pinned version, and what must not leak there.

When this file fails after an update of MiniStack, `lab_utils/emulator/backing.py` has to be looked
at before anything else.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import inspect
import json
import random
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from ministack.core import iam_evaluator, responses

from lab_utils.emulator import backing
from lab_utils.emulator.backing import Backing

START = 1_767_603_600_000_000
DYNAMODB = {"content-type": "application/x-amz-json-1.0"}
KEY = {
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}
SERVICES = sorted({name for names in backing._MODULES.values() for name in names})


class Clock:
    def __init__(self) -> None:
        self.now = START


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Iterator[Backing]:
    made = Backing(lambda: clock.now, random.Random(0))
    yield made
    made.close()


def call(store: Backing, operation: str, **params: Any) -> dict[str, Any]:
    headers = DYNAMODB | {"x-amz-target": f"DynamoDB_20120810.{operation}"}
    status, _, body = store.request(
        "dynamodb", "us-east-1", "POST", "/", headers, json.dumps(params).encode(), {}
    )
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer


def write(store: Backing, operation: str, **params: Any) -> list[tuple[Any, Any]]:
    headers = DYNAMODB | {"x-amz-target": f"DynamoDB_20120810.{operation}"}
    _, changes = store.write("us-east-1", headers, json.dumps(params).encode())
    return [(each.old, each.new) for each in changes]


def module(name: str) -> Any:
    if name not in Backing._loaded:
        loader = Backing(lambda: START, random.Random(0))
        loader._enter(next(service for service, names in backing._MODULES.items() if name in names))
        loader.close()
    return importlib.import_module(f"ministack.services.{name}")


# -- the pinned version -------------------------------------------------------------------------


def test_the_version_is_the_one_that_was_examined() -> None:
    assert importlib.metadata.version("ministack") == "1.5.33"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_one_coroutine_function(name: str) -> None:
    handler = module(name).handle_request
    assert inspect.iscoroutinefunction(handler)
    names, required = zip(
        *(
            (each.name, each.default is each.empty)
            for each in inspect.signature(handler).parameters.values()
        ),
        strict=True,
    )
    assert names[:4] == ("method", "path", "headers", "body")
    assert "query" in names[4]
    assert required.count(True) <= 5


def test_the_two_functions_through_which_every_item_goes() -> None:
    """They are looked up in the module at each call; no other line stores or removes an item."""
    dynamodb = module("dynamodb")
    source = inspect.getsource(dynamodb)
    assert "def _set_item(table, pk_val, sk_val, item):" in source
    assert "def _remove_item(table, pk_val, sk_val):" in source
    calls = re.findall(r"(?<!def )\b(_set_item|_remove_item)\(", source)
    assert (calls.count("_set_item"), calls.count("_remove_item")) == (8, 6)
    assert dynamodb._set_item.__module__ == dynamodb._remove_item.__module__ == backing.__name__
    stores = [
        line.strip()
        for line in source.splitlines()
        if '["items"]' in line and ("[sk_val] =" in line or ".pop(" in line)
    ]
    assert stores == ['table["items"].setdefault(pk_val, {})[sk_val] = item']


@pytest.mark.parametrize("name", SERVICES)
def test_the_clock_of_each_service_is_the_labs(name: str) -> None:
    service = module(name)
    if "time.time()" in inspect.getsource(service):
        assert service.time is backing._VIRTUAL_TIME, "looked up at each call, as `time.time()`"
    if hasattr(service, "datetime"):
        assert service.datetime is backing._VirtualDatetime
    assert not inspect.isbuiltin(getattr(service, "now_iso", None))


def test_what_is_imported_by_name_is_not_time() -> None:
    """`from time import time` in a service would keep the real clock."""
    for name in SERVICES:
        for attribute, value in vars(module(name)).items():
            assert value not in (time.time, time.time_ns, time.gmtime, time.strftime), (
                f"{name}.{attribute}"
            )


def test_new_uuid_asks_the_module_at_each_call(store: Backing) -> None:
    store._enter("dynamodb")
    assert "uuid.uuid4()" in inspect.getsource(responses.new_uuid)
    assert responses.new_uuid() == str(uuid.UUID(int=random.Random(0).getrandbits(128), version=4))


def test_now_iso_asks_the_module_at_each_call(store: Backing, clock: Clock) -> None:
    store._enter("dynamodb")
    clock.now += 86_400_000_000
    assert responses.now_iso().startswith("2026-01-06T09:00:00")


def test_a_stand_in_for_the_server_has_what_the_services_import() -> None:
    """They import its setting AUTH, and nothing else in what the lab calls, at each request."""
    assert "from ministack.app import AUTH" in inspect.getsource(iam_evaluator.pin_request_caller)
    assert backing._STAND_IN.AUTH is False
    for name in SERVICES:
        source = inspect.getsource(module(name))
        assert source.count("ministack.app") == source.count("from ministack.app import AUTH")
    assert "ministack.app" not in sys.modules


def test_the_evaluator_is_called_as_it_wants_to_be() -> None:
    assert list(inspect.signature(iam_evaluator._gather_role_policies).parameters) == [
        "role_name",
        "account_id",
    ]
    assert {
        "principal_arn",
        "principal_type",
        "principal_account",
        "action",
        "resource_arn",
        "region",
        "source_ip",
        "secure_transport",
    } <= set(iam_evaluator.EvalContext.__dataclass_fields__)


@pytest.mark.parametrize("name", SERVICES)
def test_the_stores_are_swapped_as_a_whole(name: str) -> None:
    service = module(name)
    scoped = {
        attribute
        for attribute, value in vars(service).items()
        if isinstance(value, (responses.AccountScopedDict, responses.AccountRegionScopedDict))
    }
    known = {attribute for owner, attribute in backing._PRISTINE if owner == name}
    assert scoped == known
    assert scoped or name == "sts"
    source = inspect.getsource(responses.AccountScopedDict)
    assert "self._data" in source


# -- what it does -------------------------------------------------------------------------------

A = {"id": {"S": "a"}}


def test_changes_are_noted_in_order_with_their_images(store: Backing) -> None:
    call(store, "CreateTable", TableName="Table", **KEY)
    new = A | {"v": {"S": "1"}}
    assert write(store, "PutItem", TableName="Table", Item=A) == [(None, A)]
    assert write(store, "PutItem", TableName="Table", Item=new) == [(A, new)]
    assert write(store, "DeleteItem", TableName="Table", Key=A) == [(new, None)]
    assert write(store, "DeleteItem", TableName="Table", Key=A) == []
    assert write(store, "GetItem", TableName="Table", Key=A) == []
    b = {"id": {"S": "b"}}
    assert write(
        store,
        "BatchWriteItem",
        RequestItems={"Table": [{"PutRequest": {"Item": b}}, {"PutRequest": {"Item": A}}]},
    ) == [(None, b), (None, A)]


def test_no_change_is_noted_outside_of_a_write(store: Backing) -> None:
    call(store, "CreateTable", TableName="Table", **KEY)
    call(store, "PutItem", TableName="Table", Item=A)
    assert write(store, "GetItem", TableName="Table", Key=A) == []


def test_its_own_stream_is_never_on(store: Backing) -> None:
    call(store, "CreateTable", TableName="Table", **KEY)
    write(store, "PutItem", TableName="Table", Item=A)
    assert module("dynamodb")._stream_records._data == {}


def test_times_are_the_labs(store: Backing, clock: Clock) -> None:
    clock.now += 3600_000_000
    made = call(store, "CreateTable", TableName="Table", **KEY)["TableDescription"]
    assert made["CreationDateTime"] == pytest.approx((START + 3600_000_000) / 1e6)


def test_ids_come_from_the_seed() -> None:
    ids = []
    for seed in (1, 1, 2):
        store = Backing(lambda: START, random.Random(seed))
        ids.append(
            call(store, "CreateTable", TableName="Table", **KEY)["TableDescription"]["TableId"]
        )
        store.close()
    assert ids[0] == ids[1] != ids[2]
    assert uuid.UUID(ids[0]).version == 4


def test_two_stores_do_not_see_each_other(store: Backing) -> None:
    other = Backing(lambda: START + 5_000_000, random.Random(1))
    call(store, "CreateTable", TableName="Table", **KEY)
    assert call(other, "ListTables")["TableNames"] == []
    call(other, "CreateTable", TableName="Table", **KEY)
    write(store, "PutItem", TableName="Table", Item=A)
    assert call(other, "Scan", TableName="Table")["Count"] == 0
    assert call(store, "Scan", TableName="Table")["Count"] == 1
    other.close()
    assert call(store, "Scan", TableName="Table")["Count"] == 1


def every_store() -> dict[tuple[str, str], Any]:
    return {
        (name, attribute): getattr(module, attribute)._data
        for name, module in Backing._loaded.items()
        for attribute, value in vars(module).items()
        if isinstance(value, (responses.AccountScopedDict, responses.AccountRegionScopedDict))
    }


def test_close_leaves_the_stores_as_they_were_found(store: Backing) -> None:
    call(store, "CreateTable", TableName="Table", **KEY)
    write(store, "PutItem", TableName="Table", Item=A)
    assert every_store() != backing._PRISTINE
    store.close()
    assert every_store() == backing._PRISTINE
    assert Backing._present is None
    pristine = backing._PRISTINE["dynamodb", "_tables"]
    assert module("dynamodb")._tables._data is not pristine, "a copy, not the original"


def test_outside_of_a_lab_nobody_may_write(store: Backing) -> None:
    store.close()
    with pytest.raises(RuntimeError, match="outside of a lab"):
        module("dynamodb")._set_item({"items": {}, "TableName": "Table"}, "a", "b", {})


def test_its_background_thread_sees_a_clock_that_stands_still(store: Backing) -> None:
    """It sleeps by the virtual `time` module, which passes real sleeping on, and deletes what has
    expired by that clock: at zero, nothing has."""
    store.close()
    assert module("dynamodb").time.time() == 0.0
    assert module("dynamodb").time.sleep is time.sleep
    assert module("dynamodb").time.strftime("%Y") == "1970"


def test_virtual_dates_are_dates(store: Backing, clock: Clock) -> None:
    store._enter("cloudwatch")
    virtual = backing._VirtualDatetime
    assert virtual.utcnow() == datetime.datetime(2026, 1, 5, 9)
    assert virtual.now() == datetime.datetime(2026, 1, 5, 9)
    assert virtual.now(datetime.UTC) == datetime.datetime(2026, 1, 5, 9, tzinfo=datetime.UTC)
    assert isinstance(virtual.now(), datetime.datetime)
    clock.now += 1
    assert virtual.utcnow().microsecond == 1


def test_importing_it_starts_no_server_and_opens_nothing() -> None:
    """In a process of its own: no socket, no event loop, none of MiniStack's server modules."""
    script = """
import sys
import botocore.httpsession  # urllib3 tries on import whether it could bind an IPv6 socket
seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith("socket.")
                 and event != "socket.gethostname" else None)
import lab_utils as lu
with lu.open_lab("embedded") as lab:
    lab.client("dynamodb").list_tables()
    lab.client("s3").list_buckets()
    lab.client("sts").get_caller_identity()
    lab.client("sqs").create_queue(QueueName="queue")
    lab.client("sns").create_topic(Name="topic")
import logging
print(seen, "ministack.app" in sys.modules, logging.getLogger().handlers)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("[] False []\n", "")
