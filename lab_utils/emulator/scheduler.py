"""Virtual time: who runs, who waits, and what happens next.

Exactly one thing runs at any moment: the notebook's cell, or one *guest* (the code of a Lambda
handler). A guest is a greenlet; when it calls AWS or sleeps it is parked, the loop goes on with
whatever is due, and resumes the guest when its answer is there. That is how two functions overlap,
race and conflict, and why they do so in the same way at every run.

simpy keeps the queue of events. Time is an integer: microseconds since 1970.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import signal
import sys
import threading
import time
from _signal import (  # type: ignore[import-not-found]  # no enums: 0.3 instead of 20 us
    signal as set_handler,
)
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO

import greenlet
import simpy
from simpy.events import URGENT

from lab_utils.emulator.physics import microseconds
from lab_utils.errors import LabClosed, LabError

Resume = Callable[[Any], None]
Waiting = Callable[[Resume], None]
"""Something to wait for: told how to resume, it sees to it that this happens once."""

HAS_ALARM = hasattr(signal, "setitimer")
"""Windows has no alarm: a guest that computes for ever is ended by Ctrl-C alone there."""
COMPUTING_LIMIT, LIMIT_AGAIN = 10.0, 0.1
"""Wall seconds that a guest may compute without calling AWS or sleeping, and how soon it is told
again if it swallowed the exception."""
REFUSALS = 3
"""How often a guest that is over is told so, before it is left where it stands for ever."""
GARBAGE_EVERY = 20_000
"""New objects between two collections while the world runs: records stay, so looking is in vain."""
BREATH_EVERY, BREATH = 0.02, 1e-4
"""Without a real pause now and then no other thread runs, the kernel's output thread included."""


class GuestOverrun(BaseException):
    """Thrown into a guest that computes without end: virtual time stands still meanwhile."""


class GuestEnded(BaseException):
    """Thrown into a guest that calls AWS after its invocation was over."""


class GuestGreenlet(greenlet.greenlet):  # type: ignore[misc]
    """A greenlet that runs a guest's code; `greenlet.getcurrent()` tells whose code runs."""

    guest: Guest


class Guest:
    """One run of foreign code in virtual time. `done` is the event of its outcome."""

    def __init__(
        self, scheduler: Scheduler, work: Callable[[], Any], owner: Any, stdout: TextIO | None
    ) -> None:
        self.scheduler = scheduler
        self.owner = owner
        self.stdout = stdout if stdout is not None else io.StringIO()
        self.done: simpy.Event = scheduler.env.event()
        self.abandoned = False
        self._refused = 0
        self.greenlet = GuestGreenlet(work)
        self.greenlet.guest = self

    def park(self, waiting: Waiting) -> Any:
        """Called inside the guest: hand over to the loop until `waiting` resumes this guest."""
        if self.abandoned and self._refused < REFUSALS:
            self._refused += 1
            raise GuestEnded
        return self.greenlet.parent.switch(waiting)

    def send(self, request: Any, event_name: str) -> Any:
        """Answer a request that this guest's code sent, with whatever client."""
        return self.owner.world.gateway.answer(request, event_name)


_IMMORTAL: list[Guest] = []
"""Guests of closed labs that swallowed every exception: to collect them would resume them."""


def current_guest() -> Guest | None:
    """The guest whose code is running, in whatever lab, or None in a cell or a foreign thread."""
    running = greenlet.getcurrent()
    return running.guest if isinstance(running, GuestGreenlet) else None


class Scheduler:
    """The loop over simpy's events; see the module's text."""

    def __init__(self, start: int) -> None:
        self.env = simpy.Environment(initial_time=start)
        self.critical = 0
        self.closed = False
        self.breath_every = BREATH_EVERY
        """Real seconds; more where no other thread wants to run."""
        self.inside: Guest | None = None
        """The guest whose code the lab's thread runs now, for threads that this code started."""
        self._thread = threading.get_ident()
        self._left_behind: list[Guest] = []
        self._guests: dict[Guest, None] = {}
        self._interrupted = False
        self._last_breath = 0.0
        self._running = False

    @property
    def now(self) -> int:
        """Virtual time, microseconds since 1970."""
        return int(self.env.now)

    # -- waiting ---------------------------------------------------------------------------

    def wait(self, waiting: Waiting) -> Any:
        """Wait in virtual time: a guest that asks is parked, a cell runs the world meanwhile."""
        guest = current_guest()
        if guest is not None:
            return guest.park(waiting)
        self.check_open()
        self._refuse_foreign_threads()
        event = self.env.event()

        def resume(answer: Any) -> None:
            event.succeed(answer)

        waiting(resume)
        return self.run(event)

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass for whoever asks."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        self.wait(lambda resume: self.after(microseconds(seconds), lambda: resume(None)))

    def after(self, delay: int, action: Callable[[], Any], first: bool = False) -> None:
        """Do something `delay` microseconds from now, `first` before all else of that moment."""
        if first:
            event = self.env.event()
            event._ok, event._value = True, None  # as simpy's own timeouts are made
            self.env.schedule(event, URGENT, delay)
        else:
            event = self.env.timeout(delay)
        event.callbacks.append(lambda _: action())

    @property
    def in_foreign_thread(self) -> bool:
        return threading.get_ident() != self._thread

    def _refuse_foreign_threads(self) -> None:
        if self.in_foreign_thread:
            raise LabError(
                "Only the thread that opened the lab can wait in virtual time: "
                "do the waiting outside of threads of your own."
            )

    # -- guests ----------------------------------------------------------------------------

    def start(self, work: Callable[[], Any], owner: Any, stdout: TextIO | None = None) -> Guest:
        """Run foreign code until it first waits; `work` returns its outcome and never raises."""
        guest = Guest(self, work, owner, stdout)
        self._guests[guest] = None
        self._enter(guest)
        return guest

    def abandon(self, guest: Guest) -> None:
        """Never resume a guest again: Lambda runs no `finally` of a function that timed out."""
        if not guest.abandoned:
            guest.abandoned = True
            self._guests.pop(guest, None)
            self._left_behind.append(guest)

    def _enter(self, guest: Guest, *answer: Any) -> None:
        if guest.abandoned or self.closed:
            return
        guest.greenlet.parent = greenlet.getcurrent()
        with self._guest_surroundings(guest):
            try:
                waiting = guest.greenlet.switch(*answer)
            except (KeyboardInterrupt, GuestOverrun) as stop:
                waiting = stop  # it struck outside of `work`'s own try: the guest ends with it
        if guest.greenlet.dead:
            self._guests.pop(guest, None)
            guest.done.succeed(waiting)
        else:
            waiting(lambda later: self._enter(guest, later))

    @contextlib.contextmanager
    def _guest_surroundings(self, guest: Guest) -> Iterator[None]:
        """A guest prints into its log, may run an event loop of its own, and not for ever."""
        out, err = sys.stdout, sys.stderr
        loop = asyncio._get_running_loop()
        self.inside = guest
        sys.stdout = sys.stderr = guest.stdout
        asyncio._set_running_loop(None)
        guarded = HAS_ALARM and threading.current_thread() is threading.main_thread()
        if guarded:
            signal.setitimer(signal.ITIMER_REAL, COMPUTING_LIMIT, LIMIT_AGAIN)
        try:
            yield
        finally:
            if guarded:
                signal.setitimer(signal.ITIMER_REAL, 0)
            asyncio._set_running_loop(loop)
            sys.stdout, sys.stderr = out, err
            self.inside = None

    # -- the loop --------------------------------------------------------------------------

    def run(self, until: int | simpy.Event) -> Any:
        """Let everything happen that is due until a moment (microseconds) or an event."""
        self.check_open()
        self._refuse_foreign_threads()
        if self._running:
            raise LabError(
                "Virtual time cannot be moved while it is being moved: "
                "call the lab from a cell, not from inside one of its own callbacks."
            )
        collect_every = gc.get_threshold()
        handlers = self._take_signals()  # from here on Ctrl-C raises a flag, and nothing is cut
        try:
            self._running = True
            gc.set_threshold(GARBAGE_EVERY, *collect_every[1:])
            if isinstance(until, int):
                self._run_to(until)
            else:
                self._run_till(until)
        finally:
            gc.set_threshold(*collect_every)
            self._running = False
            self._give_signals_back(handlers)
        self._heed_interrupt()
        return None if isinstance(until, int) else until.value

    def check_open(self) -> None:
        if self.closed:
            raise LabClosed(
                "This lab is closed: open another with open_lab(), or, if it was begun again with "
                "reset(), ask it for new clients."
            )

    def _run_to(self, moment: int) -> None:
        while self.env.peek() <= moment:
            self._step()
        self._move_to(moment)

    def _run_till(self, event: simpy.Event) -> None:
        while not event.processed:
            if self.env.peek() == simpy.core.Infinity:
                raise LabError("Nothing is left that could happen, so the wait would never end.")
            self._step()

    def _step(self) -> None:
        self._heed_interrupt()
        self.env.step()
        if time.perf_counter() - self._last_breath > self.breath_every:
            time.sleep(BREATH)
            self._last_breath = time.perf_counter()

    def _heed_interrupt(self) -> None:
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def _move_to(self, moment: int) -> None:
        # simpy has no public way to pass time in which nothing happens, short of queueing an
        # event that an interrupted run would leave behind.
        self.env._now = max(self.env._now, moment)

    # -- Ctrl-C ----------------------------------------------------------------------------

    def _take_signals(self) -> tuple[Any, Any] | None:
        """Between two events Ctrl-C stops the cell; inside a guest it ends that guest's attempt."""
        if threading.current_thread() is not threading.main_thread():
            return None
        self._interrupted = False
        alarm = set_handler(signal.SIGALRM, self._on_alarm) if HAS_ALARM else None
        return set_handler(signal.SIGINT, self._on_interrupt), alarm

    def _give_signals_back(self, handlers: tuple[Any, Any] | None) -> None:
        if handlers is not None:
            interrupt, alarm = handlers
            if HAS_ALARM:
                set_handler(signal.SIGALRM, alarm)
            set_handler(signal.SIGINT, interrupt)

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupted = True
        if current_guest() is not None and not self.critical:
            raise KeyboardInterrupt

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        if current_guest() is not None and not self.critical:
            raise GuestOverrun(
                f"the function computed for {COMPUTING_LIMIT:.0f} seconds of real time without "
                "calling AWS or sleeping, and virtual time stood still meanwhile: let its loop end"
            )

    # -- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Forget all that was to happen, and end the guests that still wait for something."""
        if self.closed:
            return
        self.closed = True
        handlers = self._take_signals()
        try:
            for guest in [*self._guests, *self._left_behind]:
                guest.abandoned = True
                self._end(guest)
        finally:
            self._give_signals_back(handlers)
        self._guests.clear()
        self._left_behind.clear()
        self.env = simpy.Environment(initial_time=self.now)

    def _end(self, guest: Guest) -> None:
        if guest.greenlet.dead or not guest.greenlet:
            return
        guest.greenlet.parent = greenlet.getcurrent()
        with self._guest_surroundings(guest), contextlib.suppress(BaseException):
            guest.greenlet.throw(greenlet.GreenletExit)  # a `finally` may raise what it likes
        if not guest.greenlet.dead:
            _IMMORTAL.append(guest)
