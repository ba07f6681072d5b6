"""The virtual clock and the wall clock, with one face."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from lab_utils.at_once import sleep
from lab_utils.emulator.physics import MICROSECONDS
from lab_utils.emulator.scheduler import Scheduler
from lab_utils.errors import LabError, NotOnThisTarget
from lab_utils.progress import waiting

FIRST_LOOK, LOOK_GROWTH, LAST_LOOK = 0.05, 1.5, 0.5
"""Seconds between two looks at what is waited for: short at first, then patient."""

LAST_DAY = datetime(9000, 12, 31, tzinfo=UTC)
"""No clock goes beyond it: Python's own calendar ends with the year 9999."""


class Clock(Protocol):
    """The target's own time."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""

    def advance(self, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> datetime:
        """Move time and let everything that falls due happen; returns the new instant."""

    def let_pass(self, seconds: float) -> None:
        """Let a little time go by, whatever it costs on this target."""


class VirtualClock:
    """Time that stands still until somebody uses or moves it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def now(self) -> datetime:
        return instant(self._scheduler.now)

    def advance(self, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> datetime:
        try:
            span = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        except (OverflowError, TypeError, ValueError):
            raise LabError(
                f"Time cannot move by hours={hours!r}, minutes={minutes!r}, seconds={seconds!r}: "
                "give finite numbers."
            ) from None
        if span > LAST_DAY - self.now():
            raise LabError(
                f"Time cannot move by {span}: the lab's calendar ends with {LAST_DAY.year}."
            )
        if span < timedelta(0):
            raise LabError(
                f"Time cannot go back by {-span}: advance by zero or more, or begin "
                "again with lab.reset()."
            )
        self._scheduler.run(self._scheduler.now + round(span.total_seconds() * MICROSECONDS))
        return self.now()

    def let_pass(self, seconds: float) -> None:
        self.advance(seconds=seconds)

    def __repr__(self) -> str:
        return f"<virtual clock at {self.now():%Y-%m-%d %H:%M:%S.%f} UTC>"


class WallClock:
    """The time on everybody's wall, which nobody moves."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def advance(self, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> datetime:
        raise NotOnThisTarget(
            "Only the embedded target can move time: run this with "
            "LAB_TARGET=embedded, or wait with lab.wait_until(...)."
        )

    def let_pass(self, seconds: float) -> None:
        sleep(seconds)

    def __repr__(self) -> str:
        return "<wall clock>"


def instant(microseconds: int) -> datetime:
    """Microseconds since 1970 as an aware datetime, in UTC, without rounding."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def pause(client: Any, seconds: float) -> None:
    """Let time pass for code that has no clock but a boto3 client.

    The embedded lab's clients answer the event, in virtual time; for all others it is real time.
    """
    _, answered = client.meta.events.emit_until_response("lab-wait", seconds=seconds)
    if not answered:
        sleep(seconds)


def wait_until(clock: Clock, predicate: Callable[[], Any], timeout: float) -> Any:
    """Let time pass until a predicate holds, and return what it said.

    `timeout` is in seconds of the target's own time; a TimeoutError names what was waited for, and
    so does a bar where time is real.
    """
    deadline = clock.now() + timedelta(seconds=timeout)
    real = isinstance(clock, WallClock)
    pause = FIRST_LOOK
    with waiting(_described(predicate), timeout) if real else nullcontext(_unseen) as went_by:
        while not (found := predicate()):
            left = (deadline - clock.now()).total_seconds()
            if left <= 0:
                raise TimeoutError(f"{timeout:g} seconds went by without: {_described(predicate)}")
            clock.let_pass(min(pause, left))
            went_by(min(pause, left))
            pause = min(pause * LOOK_GROWTH, LAST_LOOK)
    return found


def _unseen(_: float) -> None:
    """Virtual time is over before anybody could read what was waited for."""


def _described(predicate: Callable[[], Any]) -> str:
    """What a predicate waits for, in words: its docstring, its name, or its source."""
    if predicate.__doc__:
        return predicate.__doc__.strip().splitlines()[0]
    name = getattr(predicate, "__name__", "the predicate")
    if name != "<lambda>":
        return name.replace("_", " ")
    import inspect

    try:
        return " ".join(inspect.getsource(predicate).split())
    except (OSError, TypeError):
        return "the predicate that was given"
