"""What AWS refuses only for now: what was just made or changed is not known everywhere at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from botocore.exceptions import ClientError

PATIENCE = 120
"""Seconds for which such a refusal is taken for one that passes."""

_PASSING = (
    (
        "InvalidParameterValueException",
        "cannot be assumed by Lambda",
        "Lambda knows the function's role",
    ),
    (
        "InvalidParameterValueException",
        "is invalid for CreateGrant",
        "KMS, which keeps the function's environment, knows its role",
    ),
    (
        "InvalidParameterValueException",
        "ensure the role can perform",
        "Lambda knows what the role may do",
    ),
    (
        "InvalidParameterValueException",
        "role does not have permissions",
        "Lambda knows what the role may do",
    ),
    ("NoSuchEntity", "The role with name", "IAM knows the role everywhere"),
    (
        "ResourceConflictException",
        "cannot be performed at this time",
        "the function's last change is carried out",
    ),
    ("LimitExceededException", "", "fewer changes are under way at once in this account"),
)
"""A refusal's code, words of its message, and what has to come true before it passes.

The last two are documented (LimitExceededException for DynamoDB: 500 tables being made, 50 with
indexes; for Kinesis: five streams a second). The words of the others are those that users report.
"""


class Waits(Protocol):
    """Who can wait: a lab."""

    def wait_until(self, predicate: Callable[[], Any], timeout: float = 300) -> Any:
        """Let the world run until ``predicate()`` holds."""


def settled(lab: Waits, call: Callable[..., Any], **request: Any) -> Any:
    """The answer to a call, which is made again while it is refused for something that passes.

    After `PATIENCE` seconds of the target's time the last refusal is raised.
    """
    try:
        return call(**request)
    except ClientError as refused:
        refusal, awaited = refused, _passes(refused)
        if awaited is None:
            raise

    def accepted() -> tuple[Any] | None:
        nonlocal refusal
        try:
            return (call(**request),)
        except ClientError as refused:
            if _passes(refused) is None:
                raise
            refusal = refused
            return None

    accepted.__doc__ = awaited
    try:
        (answer,) = lab.wait_until(accepted, timeout=PATIENCE)
    except TimeoutError:
        raise refusal from None
    return answer


def _passes(refusal: ClientError) -> str | None:
    """What has to come true before this refusal passes; None if it stays."""
    error = refusal.response["Error"]
    for code, words, awaited in _PASSING:
        if error["Code"] == code and words in error.get("Message", ""):
            return awaited
    return None
