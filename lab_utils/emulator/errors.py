"""What AWS says when it refuses a request."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An AWS error answer: its code, its words and its HTTP status.

    `extra` holds further members of the error body (`CancellationReasons`, `Type`, ...).
    """

    def __init__(self, code: str, message: str, status: int = 400, **extra: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.extra = extra


def not_modelled(what: str, service: str) -> ApiError:
    """Refuse what the emulator does not model; silence would teach something false.

    `NotImplemented` is no code of AWS's JSON services, so nobody takes it for AWS's own answer.
    """
    return ApiError("NotImplemented", f"{what} is not modelled in the lab's {service} yet.", 501)


def refuse(params: dict[str, Any], thing: str, *names: str, service: str) -> None:
    """Refuse the members of a request that would have no effect."""
    for name in names:
        if params.get(name):
            raise not_modelled(f"{name} of {thing}", service)
