"""Virtual time tied to the time that really passes."""

from __future__ import annotations

import asyncio
import math
import sys
import time
import traceback
from collections.abc import Callable

from lab_utils.emulator.physics import microseconds
from lab_utils.emulator.scheduler import Scheduler

TICK = 0.02
"""Seconds between two moves of a world that nobody asks anything."""
PATIENCE = 0.005
"""Seconds that a request lets a world catch up that has fallen behind; the ticks do the rest."""


class Pace:
    """Moves a world as far as real time has come, times a speed.

    Real time is the monotonic clock's from the moment the pace was made. A world with too much to
    do falls behind and catches up later, a slice at a time, so that requests never wait long.
    """

    def __init__(self, scheduler: Scheduler, speed: float, interrupted: Callable[[], None]) -> None:
        self._scheduler, self._interrupted = scheduler, interrupted
        self._speed, self._slice = speed, max(1, microseconds(TICK * speed))
        self._origin, self._began = scheduler.now, time.monotonic()
        scheduler.breath_every = math.inf  # the one thread gives way to others when it has no work

    def let_in(self, arrive: Callable[[int], None]) -> None:
        """Let something arrive, in so many microseconds from now, and happen.

        It arrives at the moment that is due; in a world that has fallen behind, at the moment to
        which this one has caught up.
        """
        due = self._due()
        if due - self._scheduler.now > self._slice:
            self._catch_up(due, PATIENCE)
            due = self._scheduler.now
        arrive(max(0, due - self._scheduler.now))
        self._run(max(due, self._scheduler.now))

    async def keep(self) -> None:
        """Move the world for ever."""
        while True:
            self._catch_up(self._due(), TICK)
            await asyncio.sleep(TICK)

    def _due(self) -> int:
        """The moment of the world that real time has come to."""
        return self._origin + microseconds((time.monotonic() - self._began) * self._speed)

    def _catch_up(self, due: int, patience: float) -> None:
        """Let happen what is due, for at most about so many seconds."""
        enough = time.monotonic() + patience
        while self._scheduler.now < due and time.monotonic() <= enough:
            self._run(min(due, self._scheduler.now + self._slice))

    def _run(self, moment: int) -> None:
        """A mistake in one event is told, and does not end the world for all others."""
        finished = False
        while not finished:
            try:
                self._scheduler.run(moment)
                finished = True
            except KeyboardInterrupt:
                self._interrupted()
                finished = True
            except Exception:
                traceback.print_exc(file=sys.stderr)
