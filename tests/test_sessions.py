"""Lab clients: private, answered in process, waiting in virtual time."""

from __future__ import annotations

import io
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import handlers
from botocore.awsrequest import AWSResponse, HeadersDict
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, ParamValidationError, WaiterError

from lab_utils.emulator import sessions
from lab_utils.errors import LabError


class Raw(io.BytesIO):
    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


def reply(status: int = 200, body: dict[str, Any] | None = None, **headers: str) -> AWSResponse:
    raw = Raw(b"" if body is None else json.dumps(body).encode())
    return AWSResponse("https://lab", status, HeadersDict(headers), raw)


def fault(code: str, status: int = 400) -> AWSResponse:
    return reply(
        status, {"__type": code, "Type": "User", "message": "no"}, **{"x-amzn-errortype": code}
    )


class World:
    """Answers from a script, and notes what was asked and how long was waited."""

    def __init__(self, *answers: AWSResponse) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, Any]] = []
        self.waited: list[float] = []

    def send(self, request: Any, event_name: str) -> AWSResponse:
        self.asked.append((event_name, request))
        return self.answers.pop(0) if self.answers else reply(200, {})

    def session(self, seed: int = 0, region: str = "eu-central-1") -> sessions.LabSession:
        return sessions.make_session(
            region=region, send=self.send, wait=self.waited.append, rng=random.Random(seed)
        )

    @property
    def events(self) -> list[str]:
        return [name for name, _ in self.asked]


@pytest.fixture(autouse=True)
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual clients made here for comparison read the environment: it has nothing for them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture(autouse=True)
def no_real_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = time.sleep

    def short(seconds: float) -> None:
        assert seconds < 0.01, f"{seconds} s of real sleep"
        usual(seconds)

    monkeypatch.setattr(time, "sleep", short)


NONSENSE = {
    "AWS_PROFILE": "nonsense",
    "AWS_DEFAULT_PROFILE": "nonsense",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9",
    "AWS_MAX_ATTEMPTS": "2",
    "AWS_RETRY_MODE": "adaptive",
    "AWS_DEFAULTS_MODE": "auto",
    "AWS_DEFAULT_REGION": "no where",
    "AWS_REGION": "no where",
    "AWS_CA_BUNDLE": "/nowhere.pem",
    "AWS_DATA_PATH": "/nowhere",
    "AWS_CONFIG_FILE": "/nowhere",
    "AWS_ACCESS_KEY_ID": "READER",
    "AWS_SECRET_ACCESS_KEY": "READER",
    "AWS_BEARER_TOKEN_DYNAMODB": "READER",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_CSM_ENABLED": "true",
    "BOTOCORE_EXPERIMENTAL__PLUGINS": "x=no_such_module",
}


def test_environment_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NONSENSE.items():
        monkeypatch.setenv(name, value)
    world = World(*[fault("ThrottlingException")] * 10)
    client = sessions.make_client(world.session(), "dynamodb")
    with pytest.raises(ClientError):
        client.list_tables()
    assert len(world.asked) == 10
    for _, request in world.asked:
        assert request.url == "https://dynamodb.eu-central-1.amazonaws.com/"
        assert "Authorization" not in request.headers
        assert b"READER" not in b"".join(
            v if isinstance(v, bytes) else str(v).encode() for v in request.headers.values()
        )


def test_configuration_files_are_not_read(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(
        "[default]\nregion = us-west-1\nmax_attempts = 2\nparameter_validation = false\n"
        "endpoint_url = http://127.0.0.1:9\n[profile own]\nregion = us-west-2\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / ".aws" / "config"))
    session = World().session()
    client = session.create_client("dynamodb")
    assert client.meta.region_name == "eu-central-1"
    assert client.meta.endpoint_url == "https://dynamodb.eu-central-1.amazonaws.com"
    assert session.available_profiles == []
    with pytest.raises(ParamValidationError):
        client.put_item(TableName="t")


def test_each_service_answers_without_a_socket() -> None:
    world = World()
    session = world.session()
    session.client("dynamodb").list_tables()
    session.client("kinesis").list_streams()
    session.client("lambda").list_functions()
    assert world.events == [
        "before-send.dynamodb.ListTables",
        "before-send.kinesis.ListStreams",
        "before-send.lambda.ListFunctions",
    ]


def test_s3_addresses_buckets_by_path() -> None:
    world = World(reply(200))
    world.session().client("s3").put_object(Bucket="letters", Key="a/b", Body=b"x")
    assert world.asked[0][1].url == "https://s3.eu-central-1.amazonaws.com/letters/a/b"


def test_unanswered_call_goes_nowhere() -> None:
    session = sessions.make_session(
        region="eu-central-1", send=lambda *_: None, wait=lambda _: None, rng=random.Random()
    )
    with pytest.raises(LabError, match="did not answer POST https://dynamodb"):
        session.client("dynamodb").list_tables()


def test_client_that_asks_for_a_signature_gets_no_credentials_of_the_reader() -> None:
    world = World()
    client = world.session().create_client("dynamodb", config=Config(signature_version="v4"))
    client.list_tables()
    assert b"Credential=lab/" in world.asked[0][1].headers["Authorization"]


def test_defaults_mode_auto_does_not_ask_the_metadata_service() -> None:
    world = World()
    world.session().create_client("dynamodb", config=Config(defaults_mode="auto")).list_tables()
    assert len(world.asked) == 1


def test_handlers_that_others_install_do_not_answer_lab_clients() -> None:
    def intruder(**_: Any) -> AWSResponse:
        return reply(200, {"TableNames": ["intruder"]})

    entry = ("before-send", intruder)
    handlers.BUILTIN_HANDLERS.append(entry)
    try:
        world = World(reply(200, {"TableNames": ["ours"]}))
        assert world.session().client("dynamodb").list_tables()["TableNames"] == ["ours"]
    finally:
        handlers.BUILTIN_HANDLERS.remove(entry)


def test_two_sessions_do_not_see_each_other() -> None:
    one, two = World(), World()
    a, b = one.session(), two.session(region="us-east-1")
    a.client("dynamodb").list_tables()
    b.client("dynamodb").list_tables()
    assert [len(one.asked), len(two.asked)] == [1, 1]
    assert "us-east-1" in two.asked[0][1].url


def test_sessions_share_one_loader() -> None:
    one, two = World().session(), World().session()
    assert one.get_component("data_loader") is two.get_component("data_loader")
    paths = list(one.get_component("data_loader").search_paths)
    one.boto3()
    two.boto3()
    assert one.get_component("data_loader").search_paths == paths


def test_client_is_made_once_per_options() -> None:
    session = World().session()
    assert session.client("dynamodb") is session.client("dynamodb")
    assert session.client("dynamodb", config=Config(read_timeout=3)) is session.client(
        "dynamodb", config=Config(read_timeout=3)
    )
    assert session.client("dynamodb", config=Config(read_timeout=4)) is not session.client(
        "dynamodb", config=Config(read_timeout=3)
    )
    assert session.client("dynamodb") is not session.client("dynamodb", region_name="us-east-1")
    assert sessions.make_client(session, "dynamodb") is not sessions.make_client(
        session, "dynamodb"
    )


def test_idempotency_tokens_come_from_the_seed() -> None:
    def token(seed: int) -> str:
        world = World()
        items = [{"Delete": {"TableName": "t", "Key": {"k": {"S": "x"}}}}]
        world.session(seed).client("dynamodb").transact_write_items(TransactItems=items)
        return str(json.loads(world.asked[0][1].body)["ClientRequestToken"])

    assert token(1) == token(1) != token(2)
    assert len(token(1)) == 36


def test_timestamps_are_in_utc_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        world = World(reply(200, {"Table": {"CreationDateTime": 1_700_000_000.5}}))
        answer = world.session().client("dynamodb").describe_table(TableName="t")
        assert str(answer["Table"]["CreationDateTime"]) == "2023-11-14 22:13:20.500000+00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


# --- retries --------------------------------------------------------------------------------


def test_throttled_dynamodb_call_is_tried_ten_times_in_virtual_time() -> None:
    world = World(*[fault("ProvisionedThroughputExceededException")] * 30)
    before = time.perf_counter()
    with pytest.raises(ClientError) as caught:
        world.session().client("dynamodb").put_item(TableName="t", Item={"k": {"S": "x"}})
    assert time.perf_counter() - before < 2
    assert len(world.asked) == 10
    assert world.waited == [0.05 * 2**n for n in range(9)]
    metadata = caught.value.response["ResponseMetadata"]
    assert metadata["RetryAttempts"] == 9
    assert metadata["MaxAttemptsReached"] is True


def test_throttled_lambda_call_is_tried_five_times_with_seeded_jitter() -> None:
    def waits(seed: int) -> list[float]:
        world = World(*[fault("TooManyRequestsException", 429)] * 30)
        client = world.session(seed).client("lambda")
        with pytest.raises(client.exceptions.TooManyRequestsException):
            client.invoke(FunctionName="f")
        assert len(world.asked) == 5
        return world.waited

    assert waits(1) == waits(1) != waits(2)
    jitter = random.Random(1)
    assert waits(1) == [jitter.random() * 2**n for n in range(4)]


def test_call_that_works_at_last_returns() -> None:
    world = World(fault("ThrottlingException"), fault("ThrottlingException"), reply(200, {}))
    answer = world.session().client("dynamodb").list_tables()
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2
    assert world.waited == [0.05, 0.1]


@pytest.mark.parametrize("code", ["ValidationException", "ConditionalCheckFailedException"])
def test_what_botocore_does_not_retry_is_not_retried(code: str) -> None:
    world = World(fault(code))
    with pytest.raises(ClientError):
        world.session().client("dynamodb").list_tables()
    assert (len(world.asked), world.waited) == (1, [])


def test_number_of_attempts_can_be_configured() -> None:
    for retries, attempts in (({"max_attempts": 2}, 3), ({"total_max_attempts": 2}, 2)):
        world = World(*[fault("ThrottlingException")] * 30)
        with pytest.raises(ClientError):
            world.session().client("dynamodb", config=Config(retries=retries)).list_tables()
        assert len(world.asked) == attempts


def test_standard_mode_waits_in_virtual_time_too() -> None:
    def waits(seed: int) -> list[float]:
        world = World(*[fault("ThrottlingException")] * 30)
        config = Config(retries={"mode": "standard"})
        with pytest.raises(ClientError):
            world.session(seed).client("dynamodb", config=config).list_tables()
        assert len(world.asked) == 3
        return world.waited

    jitter = random.Random(1)
    assert waits(1) == [jitter.random() * 2**n for n in range(2)]


def test_adaptive_mode_is_refused() -> None:
    with pytest.raises(LabError, match="use 'standard' or 'legacy'"):
        World().session().client("dynamodb", config=Config(retries={"mode": "adaptive"}))


def test_attempts_are_those_of_botocore() -> None:
    """The same faults, met by botocore's own client, are tried as often."""
    for service, call, code, status in (
        ("dynamodb", "list_tables", "ThrottlingException", 400),
        ("dynamodb", "list_tables", "InternalServerError", 500),
        ("kinesis", "list_streams", "LimitExceededException", 400),
        ("kinesis", "list_streams", "ProvisionedThroughputExceededException", 400),
        ("lambda", "list_functions", "TooManyRequestsException", 429),
        ("sqs", "list_queues", "ServiceUnavailable", 503),
    ):
        asked: list[int] = []

        def answer(code: str = code, status: int = status, asked: Any = asked, **_: Any) -> Any:
            asked.append(1)
            return fault(code, status)

        usual = boto3.client(
            service, "eu-central-1", aws_access_key_id="x", aws_secret_access_key="y"
        )
        usual.meta.events.register("before-send", answer)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("botocore.endpoint.time.sleep", lambda _: None)
            with pytest.raises(ClientError):
                getattr(usual, call)()
        world = World(*[fault(code, status) for _ in range(30)])
        with pytest.raises(ClientError):
            getattr(world.session().client(service), call)()
        assert len(world.asked) == len(asked), (service, code)


# --- waiters and paginators -----------------------------------------------------------------


def table(status: str) -> AWSResponse:
    return reply(200, {"Table": {"TableName": "t", "TableStatus": status}})


def test_waiter_waits_in_virtual_time() -> None:
    world = World(table("CREATING"), fault("ResourceNotFoundException"), table("ACTIVE"))
    waiter = world.session().client("dynamodb").get_waiter("table_exists")
    assert (waiter.name, type(waiter).__name__) == ("TableExists", "DynamoDB.Waiter.TableExists")
    assert waiter.wait(TableName="t") is None
    assert world.waited == [20, 20]


def test_waiter_takes_its_configuration_and_gives_up() -> None:
    world = World(*[table("CREATING") for _ in range(9)])
    waiter = world.session().client("dynamodb").get_waiter("table_exists")
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        waiter.wait(TableName="t", WaiterConfig={"Delay": 3, "MaxAttempts": 4})
    assert (len(world.asked), world.waited) == (4, [3, 3, 3])


def test_unknown_waiter_is_the_usual_error() -> None:
    with pytest.raises(ValueError, match="Waiter does not exist: nope"):
        World().session().client("dynamodb").get_waiter("nope")


def test_resource_waits_in_virtual_time() -> None:
    world = World(table("CREATING"), table("ACTIVE"))
    world.session().boto3().resource("dynamodb").Table("t").wait_until_exists()
    assert world.waited == [20]


def test_paginator() -> None:
    world = World(
        reply(200, {"TableNames": ["one"], "LastEvaluatedTableName": "one"}),
        reply(200, {"TableNames": ["two"]}),
    )
    pages = world.session().client("dynamodb").get_paginator("list_tables").paginate()
    assert [name for page in pages for name in page["TableNames"]] == ["one", "two"]


# --- the net --------------------------------------------------------------------------------


class Somebody:
    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, request: Any, event_name: str) -> AWSResponse:
        self.sent.append(event_name)
        return reply(200, {"TableNames": ["lab"]})


def usual_client() -> Any:
    return botocore.session.Session().create_client(
        "dynamodb", "eu-central-1", aws_access_key_id="x", aws_secret_access_key="y",
        config=Config(retries={"max_attempts": 0}),
    )  # fmt: skip


def test_router_catches_what_a_guest_sends_with_its_own_boto3() -> None:
    somebody = Somebody()
    running: list[Somebody] = []
    router = sessions.make_router(lambda: running[0] if running else None)
    before = list(handlers.BUILTIN_HANDLERS)
    sessions.install_router(router)
    sessions.install_router(router)
    try:
        # Labs that are open in this process have the net in place already: it is there once.
        assert handlers.BUILTIN_HANDLERS.count(sessions._NET) == 1
        assert sessions._routers.count(router) == 1
        client = usual_client()
        running.append(somebody)
        assert client.list_tables()["TableNames"] == ["lab"]
        assert somebody.sent == ["before-send.dynamodb.ListTables"]
        world = World()
        world.session().client("dynamodb").list_tables()
        assert (len(world.asked), len(somebody.sent)) == (1, 1)
        running.clear()
        with pytest.raises(HTTPClientError, match="a socket was opened"):
            client.list_tables()
    finally:
        sessions.remove_router(router)
    assert before == handlers.BUILTIN_HANDLERS
    assert router not in sessions._routers


def test_readers_own_boto3_is_untouched() -> None:
    World().session().client("dynamodb").list_tables()
    with pytest.raises(HTTPClientError, match="a socket was opened"):
        usual_client().list_tables()
    assert boto3.DEFAULT_SESSION is None or not isinstance(
        boto3.DEFAULT_SESSION._session, sessions.LabSession
    )
