"""Before class: is a target ready, and what is missing?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from lab_utils.errors import LabError
from lab_utils.targets import FEATURES, SERVICES, Aws, Target

if TYPE_CHECKING:
    from lab_utils.lab import Lab
    from lab_utils.localstack import LocalStack

PROBES: dict[str, Callable[[Any], Any]] = {
    "dynamodb": lambda client: client.list_tables(),
    "dynamodbstreams": lambda client: client.list_streams(),
    "kinesis": lambda client: client.list_streams(),
    "lambda": lambda client: client.list_functions(),
    "iam": lambda client: client.list_roles(),
    "sqs": lambda client: client.list_queues(),
    "sns": lambda client: client.list_topics(),
    "s3": lambda client: client.list_buckets(),
    "logs": lambda client: client.describe_log_groups(),
    "cloudwatch": lambda client: client.list_metrics(),
    "sts": lambda client: client.get_caller_identity(),
}
"""One harmless call for each service."""
PINNED = ("boto3", "ministack", "localstack-client", "simpy", "greenlet")
HELLO = "def handler(event, context):\n    return event\n"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `remedy` says what to do if it is not well."""

    what: str
    well: bool
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All checks of a target; `ready` if each of them is well."""

    target: str
    checks: tuple[Check, ...]
    cannot: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return all(check.well for check in self.checks)

    def __repr__(self) -> str:
        lines = [f"{self.target}: {'ready for class' if self.ready else 'NOT ready'}"]
        for check in self.checks:
            lines.append(
                f"  {'ok ' if check.well else 'NO '} {check.what}: {check.found}"
                + (f" -> {check.remedy}" if check.remedy and not check.well else "")
            )
        lines += [
            f"  --  this target cannot {each}: cells that need it say so and go on"
            for each in self.cannot
        ]
        return "\n".join(lines)


def examine(lab: Lab, target: Target) -> Diagnosis:
    """Ask every service one harmless question, and say what this target cannot do.

    On LocalStack a function is made, called and removed again; on AWS nothing is made.
    """
    from lab_utils.localstack import LocalStack

    checks = [_versions()]
    if isinstance(target, LocalStack):
        checks += _localstack(lab, target)
    elif isinstance(target, Aws):
        checks += _aws(lab)
    else:
        checks += _services(lab, lambda _: "install the book's locked libraries: make venv")
    cannot = tuple(text for feature, text in FEATURES.items() if not lab.can(feature))
    return Diagnosis(lab.target, tuple(checks), cannot)


def _versions() -> Check:
    found = ", ".join(f"{name} {version(name)}" for name in PINNED)
    return Check("libraries", True, found)


def _services(
    lab: Lab, remedy: Callable[[str], str], state: Callable[[str], str] = lambda _: ""
) -> Iterator[Check]:
    """Whether each service answers, and in which `state` it says to be; `remedy` reads errors."""
    for name in SERVICES:
        try:
            with lab.explaining(f"asking {name}"):
                PROBES[name](lab.client(name))
        except (BotoCoreError, ClientError, LabError) as problem:
            yield Check(name, False, str(problem), remedy(str(problem)))
        else:
            yield Check(name, True, " and is ".join(filter(None, ("answers", state(name)))))


# -- LocalStack -----------------------------------------------------------------------------------


def _localstack(lab: Lab, target: LocalStack) -> Iterator[Check]:
    from lab_utils.localstack import admit

    about = admit(target.endpoint)  # as it is now
    yield Check("endpoint", True, f"{target.endpoint}, {about}")
    tokens = {True: "activated", False: "none; this version runs without", None: "needs none"}
    yield Check("token", True, tokens[about.licensed])
    yield from _services(lab, target.remedy, about.state)
    yield _function(lab, target)


def _function(lab: Lab, target: LocalStack) -> Check:
    """Make a function, call it, remove it: the first time, its image is pulled meanwhile."""
    name = target.owner.name("doctor")
    try:
        lab.deploy_function(name, HELLO, role=lab.role(name))
        answer = lab.client("lambda").invoke(FunctionName=name, Payload=b'"well"')
        said = json.loads(answer["Payload"].read())
    except LabError as problem:
        return Check("functions", False, str(problem))  # it names its remedy
    except (BotoCoreError, ClientError, TimeoutError) as problem:
        return Check("functions", False, str(problem), target.remedy(str(problem)))
    finally:
        _remove_function(lab, name)
    well = said == "well"
    found = "one was made and ran" if well else f"one was made, and answered {said}"
    return Check("functions", well, found, target.remedy(found))


def _remove_function(lab: Lab, name: str) -> None:
    from lab_utils.kinds import KINDS
    from lab_utils.roles import log_group

    made = {"function": name, "log group": log_group(name), "role": name}
    for kind in KINDS:
        if kind.name in made:
            kind.delete(lab.client(kind.service), made[kind.name])


# -- AWS ------------------------------------------------------------------------------------------


def _aws(lab: Lab) -> Iterator[Check]:
    """What can be told by looking; what the reader may make, only making tells."""
    from lab_utils.refusals import NOTHING_TO_RESERVE, UNRESERVED

    assert lab.plan, "a lab on AWS has one"
    account, expired = lab.plan.account, lab.plan.expired
    alias = "its alias may not be read" if account.alias is None else account.alias
    yield Check("account", True, ", ".join(filter(None, (account.id, alias))))
    yield Check("identity", True, account.identity)
    yield Check("region", True, account.region)
    if account.endpoint:
        yield Check("endpoint", True, f"{account.endpoint}, not AWS's own")
    left = account.unreserved
    yield Check(
        "concurrency",
        left is None or left > UNRESERVED,
        "the limit may not be read" if left is None else f"{left} executions are unreserved",
        NOTHING_TO_RESERVE,
    )
    yield from _services(lab, lambda _: "")  # what is refused on AWS names its remedy itself
    remedy = "; `python -m lab_utils sweep` removes what they left" if expired else ""
    yield Check("expired labs", True, (", ".join(map(str, expired)) or "none") + remedy)
