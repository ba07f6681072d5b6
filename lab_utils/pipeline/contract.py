"""What the pipeline asks of a lab: boto3 clients, a clock, a way to wait, and functions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol


class Clock(Protocol):
    """The target's own time."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""


class Lab(Protocol):
    """The part of a lab that the pipeline uses; every target offers it."""

    def name(self, plain: str) -> str:
        """What a resource called ``plain`` is called in this lab."""

    def together(self, *calls: Callable[[], Any]) -> list[Any]:
        """Make calls that do not depend on one another; their answers, in the same order."""

    def explaining(self, doing: str) -> AbstractContextManager[None]:
        """Say in a sentence what the target refuses in the block; ``doing`` is a gerund."""

    @property
    def clock(self) -> Clock:
        """The target's clock: virtual on the embedded target, the wall's elsewhere."""

    def client(self, name: str) -> Any:
        """A boto3 client of the target, e.g. ``client("kinesis")``."""

    def wait_until(self, predicate: Callable[[], bool], timeout: float = 300) -> Any:
        """Let the world run until ``predicate()`` holds; ``timeout`` in the target's seconds."""

    def role(self, name: str, *statements: dict[str, Any]) -> str:
        """Create a Lambda role or replace its statements; its ARN."""

    def deploy_function(
        self,
        name: str,
        handler: Any,
        *,
        role: str,
        timeout: int = 3,
        memory: int = 128,
        environment: dict[str, str] | None = None,
    ) -> str:
        """Create or update a function from a file, text or function; its ARN."""


def function_file(name: str) -> Path:
    """The file of one of the pipeline's functions: ``state``, ``map`` or ``reduce``."""
    return Path(__file__).parent / "functions" / f"{name}.py"


def every(lab: Lab, seconds: float, check: Callable[[], bool]) -> Callable[[], bool]:
    """A predicate for ``wait_until`` that calls ``check`` at most once in ``seconds``.

    A lab asks its predicate as often as it likes; a check that costs an API call should be
    asked at steady steps of the target's time instead.
    """
    due: datetime | None = None

    def predicate() -> bool:
        nonlocal due
        now = lab.clock.now()
        if due is not None and now < due:
            return False
        due = now + timedelta(seconds=seconds)
        return check()

    # What a TimeoutError says was waited for.
    predicate.__name__ = predicate.__qualname__ = check.__name__
    predicate.__doc__ = check.__doc__
    return predicate


def pause(lab: Lab, seconds: float) -> None:
    """Let ``seconds`` of the target's time go by."""
    end = lab.clock.now() + timedelta(seconds=seconds)

    def over() -> bool:
        """The pause is over."""
        return lab.clock.now() >= end

    lab.wait_until(over, timeout=seconds + 60)
