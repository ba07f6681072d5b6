"""What the lab does not model itself: items, roles, queues, topics, buckets, logs and metrics.

They are MiniStack's, called in process as the request handlers that they are. This is the only
file that knows MiniStack. It touches exactly four things there, and
`tests/test_backing.py` proves each of them against the pinned version:

* the stores, which belong to the process: the lab whose turn it is puts its own in their place,
  so that two labs share nothing although both are account 123456789012;
* `time`, `datetime` and `uuid` as its modules see them: virtual time and seeded ids;
* the two functions through which DynamoDB stores or removes an item: every write, whatever its
  kind, passes there once, and its old and new images are noted;
* its server, of which the services import one setting: a stand-in with that setting takes its place
  while a request runs, for the real one is large and begins to log as soon as it is imported.
"""

from __future__ import annotations

import copy
import datetime as real_datetime
import importlib
import random
import sys
import time as real_time
import uuid as real_uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

from ministack.core import iam_evaluator, responses

from lab_utils.emulator.physics import MICROSECONDS

ACCOUNT = "123456789012"

Item = dict[str, Any]
Answer = tuple[int, dict[str, str], bytes]

_MODULES: dict[str, tuple[str, ...]] = {
    "dynamodb": ("dynamodb",),
    "iam": ("iam",),
    "sts": ("iam", "sts"),
    "sqs": ("sqs",),
    "sns": ("sqs", "sns"),
    "s3": ("s3",),
    "cloudwatch": ("cloudwatch",),
    "logs": ("cloudwatch_logs",),
}
"""The services reached through here, and the modules (with those they call) behind each."""


@dataclass(frozen=True, slots=True)
class Change:
    """One item before and after a write; None where there is no such item."""

    table: str
    old: Item | None
    new: Item | None


class Backing:
    """One lab's share of MiniStack. Not for two threads at once, as nothing in a lab is."""

    _present: ClassVar[Backing | None] = None
    _loaded: ClassVar[dict[str, ModuleType]] = {}

    def __init__(self, now: Callable[[], int], rng: random.Random) -> None:
        self.now = now
        self._rng = rng
        self._stores: dict[tuple[str, str], dict[Any, Any]] = {}
        self._changes: list[Change] | None = None

    # -- requests --------------------------------------------------------------------------

    def request(
        self,
        service: str,
        region: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, list[str]],
    ) -> Answer:
        """One request to its end; header names in lower case. No request is ever cut half-way."""
        module = self._enter(service)
        handler = module.handle_request(method, path, dict(headers), body, dict(query))
        with responses.request_scope(ACCOUNT, region):
            status, answer_headers, answer = _run_to_completion(handler)
        return status, answer_headers, answer if isinstance(answer, bytes) else answer.encode()

    def write(
        self, region: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[Answer, list[Change]]:
        """A DynamoDB request, and what it changed, in the order in which it did."""
        self._changes = []
        try:
            answer = self.request("dynamodb", region, "POST", "/", headers, body, {})
            return answer, self._changes
        finally:
            self._changes = None

    def table(self, region: str, name: str) -> dict[str, Any] | None:
        """MiniStack's own description of a table, with its items, or None."""
        module = self._enter("dynamodb")
        with responses.request_scope(ACCOUNT, region):
            found: dict[str, Any] | None = module._tables.get(name)
            return found

    def decide(self, region: str, role_arn: str, action: str, resource: str) -> str:
        """What a role's policies say to an action on a resource: Allow, Deny or ImplicitDeny."""
        self._enter("iam")
        with responses.request_scope(ACCOUNT, region):
            role = role_arn.split(":role/", 1)[-1].split("/")[-1]
            policies = iam_evaluator._gather_role_policies(role, ACCOUNT)
            context = iam_evaluator.EvalContext(
                principal_arn=role_arn,
                principal_type="AssumedRole",
                principal_account=ACCOUNT,
                action=action,
                resource_arn=resource,
                region=region,
                source_ip="127.0.0.1",
                secure_transport=True,
            )
            return str(iam_evaluator.evaluate(context, policies).decision)

    def lambda_may_assume(self, region: str, role_arn: str) -> bool:
        """Whether there is such a role, and it trusts the Lambda service."""
        module = self._enter("iam")
        with responses.request_scope(ACCOUNT, region):
            role = module._roles.get(role_arn.rpartition("/")[2])
        return (
            role is not None
            and role["Arn"] == role_arn
            and ("lambda.amazonaws.com" in str(role["AssumeRolePolicyDocument"]))
        )

    def needs(
        self,
        service: str,
        region: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, list[str]],
    ) -> tuple[str | None, str]:
        """The IAM action and the resource ARN of a request to one of MiniStack's services."""
        from ministack.core import iam_actions

        self._enter(service)
        with responses.request_scope(ACCOUNT, region):
            action = iam_actions.extract_iam_action(
                service, method, path, dict(headers), body, dict(query)
            )
            resource = iam_actions.extract_resource_arn(
                service, method, path, dict(headers), body, dict(query), region, ACCOUNT
            )
        return action, resource or "*"

    def close(self) -> None:
        """Forget this lab's stores."""
        if Backing._present is self:
            for (module, name), pristine in _PRISTINE.items():
                getattr(Backing._loaded[module], name)._data = copy.deepcopy(pristine)
            Backing._present = None
        self._stores.clear()

    # -- whose turn it is --------------------------------------------------------------------

    def _enter(self, service: str) -> ModuleType:
        for name in _MODULES[service]:
            if name not in Backing._loaded:
                _load(name)
        if Backing._present is not self or len(self._stores) != len(_PRISTINE):
            self._put_stores_in_place()
        return Backing._loaded[_MODULES[service][-1]]

    def _put_stores_in_place(self) -> None:
        Backing._present = self
        for key, pristine in _PRISTINE.items():
            store = self._stores.setdefault(key, copy.deepcopy(pristine))
            module, name = key
            getattr(Backing._loaded[module], name)._data = store

    def note(self, table: dict[str, Any], old: Item | None, new: Item | None) -> None:
        if self._changes is not None:
            self._changes.append(Change(table["TableName"], old, new))

    def seeded_uuid4(self) -> real_uuid.UUID:
        return real_uuid.UUID(int=self._rng.getrandbits(128), version=4)


_PRISTINE: dict[tuple[str, str], dict[Any, Any]] = {}


_SERVER = "ministack.app"
_STAND_IN = ModuleType(_SERVER)
_STAND_IN.AUTH = False  # type: ignore[attr-defined]


def _run_to_completion(handler: Any) -> Any:
    """The handlers used here never wait, so one step ends them: no event loop is needed."""
    stand_in = sys.modules.setdefault(_SERVER, _STAND_IN) is _STAND_IN
    try:
        handler.send(None)
    except StopIteration as finished:
        return finished.value
    finally:
        if stand_in:
            del sys.modules[_SERVER]
    handler.close()
    raise RuntimeError("a request handler wanted to wait in real time")


def _load(name: str) -> None:
    # A module that loads makes ids of its own; they must not be taken from the lab that needs it.
    responses.uuid = _seeded_uuid(random.Random(name))
    module = importlib.import_module(f"ministack.services.{name}")
    responses.uuid = _LAB_UUID
    for attribute, shim in (("time", _VIRTUAL_TIME), ("datetime", _VirtualDatetime)):
        if hasattr(module, attribute):
            setattr(module, attribute, shim)
    if name == "s3":
        module._dt = _VIRTUAL_DATETIME_MODULE  # type: ignore[attr-defined]
    if name == "dynamodb":
        _tap(module)
    for attribute, value in sorted(vars(module).items()):
        if isinstance(value, (responses.AccountScopedDict, responses.AccountRegionScopedDict)):
            _PRISTINE[name, attribute] = copy.deepcopy(value._data)
    Backing._loaded[name] = module


def _tap(dynamodb: ModuleType) -> None:
    """Have every stored and every removed item noted, whatever kind of request it came with."""
    store, remove = dynamodb._set_item, dynamodb._remove_item

    def noted_store(table: dict[str, Any], pk: Any, sk: Any, item: Item) -> Item | None:
        old: Item | None = store(table, pk, sk, item)
        _now_present().note(table, old, item)
        return old

    def noted_remove(table: dict[str, Any], pk: Any, sk: Any) -> Item | None:
        old: Item | None = remove(table, pk, sk)
        if old is not None:
            _now_present().note(table, old, None)
        return old

    dynamodb._set_item = noted_store  # type: ignore[attr-defined]
    dynamodb._remove_item = noted_remove  # type: ignore[attr-defined]


def _seeded_uuid(rng: random.Random) -> SimpleNamespace:
    return SimpleNamespace(
        uuid4=lambda: real_uuid.UUID(int=rng.getrandbits(128), version=4), UUID=real_uuid.UUID
    )


# -- time and ids as MiniStack's modules see them ---------------------------------------------


def _now_present() -> Backing:
    if Backing._present is None:
        raise RuntimeError("MiniStack was called outside of a lab")
    return Backing._present


def _seconds() -> float:
    # Outside of any lab (its own background thread, say) MiniStack sees a clock that stands still.
    return Backing._present.now() / MICROSECONDS if Backing._present else 0.0


class _VirtualTime:
    """The `time` module with the lab's clock."""

    def time(self) -> float:
        return _seconds()

    def gmtime(self, seconds: float | None = None) -> real_time.struct_time:
        return real_time.gmtime(_seconds() if seconds is None else seconds)

    def strftime(self, form: str, moment: real_time.struct_time | None = None) -> str:
        return real_time.strftime(form, self.gmtime() if moment is None else moment)

    def __getattr__(self, name: str) -> Any:
        return getattr(real_time, name)


class _VirtualDatetime(real_datetime.datetime):
    """`datetime` with the lab's clock."""

    @classmethod
    def now(cls, tz: real_datetime.tzinfo | None = None) -> _VirtualDatetime:
        return cls.fromtimestamp(_seconds(), tz or real_datetime.UTC) if tz else cls.utcnow()

    @classmethod
    def utcnow(cls) -> _VirtualDatetime:
        return cls.fromtimestamp(_seconds(), real_datetime.UTC).replace(tzinfo=None)


_VIRTUAL_TIME = _VirtualTime()
_VIRTUAL_DATETIME_MODULE = SimpleNamespace(**vars(real_datetime) | {"datetime": _VirtualDatetime})
responses.datetime = _VirtualDatetime
_LAB_UUID = SimpleNamespace(uuid4=lambda: _now_present().seeded_uuid4(), UUID=real_uuid.UUID)
responses.uuid = _LAB_UUID
