"""Calls that do not depend on one another, made at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from threading import Event
from typing import Any

from lab_utils.progress import progress

AT_ONCE = 8
"""So many calls are under way at a time: fewer than a client has connections (10)."""
_given_up: ContextVar[Event | None] = ContextVar("given_up", default=None)
"""In a thread of `at_once`: whether whoever waits for it has pressed Ctrl-C."""


def at_once(*calls: Callable[[], Any], doing: str = "") -> list[Any]:
    """Make the calls in threads; their answers, in the order of the calls.

    All of them are finished when it returns or raises; of several errors it raises the first's.
    Ctrl-C drops those that have not begun, and ends those that `sleep`. With `doing`, a bar says
    how far it got.
    """
    given_up = _given_up.get() or Event()
    with ThreadPoolExecutor(AT_ONCE, initializer=_given_up.set, initargs=(given_up,)) as pool:
        try:
            under_way = [pool.submit(call) for call in calls]
            for each in progress(under_way, doing) if doing else under_way:
                each.exception()
        except BaseException:
            given_up.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [each.result() for each in under_way]


def sleep(seconds: float) -> None:
    """Let real time go by; Ctrl-C ends it in a thread of `at_once`, too."""
    given_up = _given_up.get()
    if given_up is None:
        time.sleep(seconds)
    elif given_up.wait(seconds):
        raise KeyboardInterrupt
