"""Calls that do not depend on one another, made at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab_utils.progress import progress

AT_ONCE = 8
"""So many calls are under way at a time: fewer than a client has connections (10)."""


def at_once(*calls: Callable[[], Any], doing: str = "") -> list[Any]:
    """Make the calls in threads; their answers, in the order of the calls.

    All of them are finished when it returns or raises; of several errors it raises the first's.
    Ctrl-C drops those that have not begun. With `doing`, a bar says how far it got.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        under_way = [pool.submit(call) for call in calls]
        try:
            for each in progress(under_way, doing) if doing else under_way:
                each.exception()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [each.result() for each in under_way]
