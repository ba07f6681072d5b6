"""Virtual time tied to the time that really passes."""

from __future__ import annotations

import asyncio
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

    def keep_up(self, patience: float = PATIENCE) -> None:
        """Let happen what is due, for at most about so many seconds."""
        began = time.monotonic()
        due = self._origin + microseconds((began - self._began) * self._speed)
        while self._scheduler.now < due and time.monotonic() - began <= patience:
            self._run(min(due, self._scheduler.now + self._slice))

    def finish_moment(self) -> None:
        """Let happen what is to happen at the present virtual moment."""
        self._run(self._scheduler.now)

    async def keep(self) -> None:
        """Move the world for ever."""
        while True:
            self.keep_up(TICK)
            await asyncio.sleep(TICK)

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
