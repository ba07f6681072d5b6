"""Before class: is a target ready, and what is missing?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from lab_utils.errors import LabError
from lab_utils.targets import FEATURES, SERVICES

if TYPE_CHECKING:
    from lab_utils.lab import Lab

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
                + (f" -> {check.remedy}" if not check.well else "")
            )
        lines += [
            f"  --  this target cannot {each}: cells that need it say so and go on"
            for each in self.cannot
        ]
        return "\n".join(lines)


def examine(lab: Lab) -> Diagnosis:
    """Ask every service one harmless question, and say what this target cannot do."""
    checks = [_versions(), *(_service(lab, name) for name in SERVICES)]
    cannot = tuple(text for feature, text in FEATURES.items() if not lab.can(feature))
    return Diagnosis(lab.target, tuple(checks), cannot)


def _versions() -> Check:
    found = ", ".join(f"{name} {version(name)}" for name in PINNED)
    return Check("libraries", True, found)


def _service(lab: Lab, name: str) -> Check:
    try:
        PROBES[name](lab.client(name))
    except (BotoCoreError, ClientError, LabError) as problem:
        return Check(name, False, str(problem), _remedy(lab.target, name))
    return Check(name, True, "answers")


def _remedy(target: str, service: str) -> str:
    if target == "embedded":
        return "install the book's locked libraries again: make venv"
    return f"switch {service} on in LocalStack (SERVICES), and check its log and its token"
