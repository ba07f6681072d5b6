"""A progress bar for what takes longer than a moment; LAB_PROGRESS=0 switches all of them off."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from threading import Lock
from typing import Any, TypeVar

Item = TypeVar("Item")

A_MOMENT = 2.0
"""Seconds for which nobody wants to be told what is waited for."""
_SHOWN = Lock()
"""Held by the wait that is shown."""


def progress(items: Sequence[Item], doing: str) -> Iterator[Item] | Iterable[Item]:
    """The items one by one, with a bar that says how far it got and vanishes at the end."""
    if _switched_off():
        return items
    from tqdm import tqdm

    bar: Iterable[Item] = tqdm(items, desc=doing, delay=A_MOMENT, leave=False)
    return bar


@contextmanager
def waiting(awaited: str, timeout: float) -> Iterator[Callable[[float], object]]:
    """A bar that says what is waited for, from the third second on, and vanishes at the end.

    What it yields is to be called with the seconds that went by since the last time. Of several
    waits at the same time one is shown, and then the next: two bars would get in each other's way.
    """
    if _switched_off():
        yield lambda _: None
        return
    from tqdm import tqdm

    longest = timedelta(seconds=round(timeout))
    past = 0.0
    bar: Any = None

    def went_by(seconds: float) -> None:
        nonlocal past, bar
        past += seconds
        if bar is not None:
            bar.update(seconds)
        elif past >= A_MOMENT and _SHOWN.acquire(blocking=False):
            bar = tqdm(
                total=timeout,
                initial=past,
                desc=f"waiting: {awaited}",
                bar_format="{desc} |{bar:20}| {elapsed}" + f", {longest} at most",
                miniters=0,
                leave=False,
            )
            bar.start_t -= past

    try:
        yield went_by
    finally:
        if bar is not None:
            bar.close()
            _SHOWN.release()


@contextmanager
def counting(doing: str, total: int) -> Iterator[Callable[[str], object]]:
    """A bar that counts up to a total, and vanishes at the end.

    What it yields is to be called at each step, with what is to be said of it.
    """
    if _switched_off():
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(
        total=total,
        desc=doing,
        bar_format="{desc} |{bar:20}| {n_fmt} of {total_fmt}{postfix}",
        miniters=0,
        leave=False,
    ) as bar:

        def step(words: str) -> None:
            bar.set_postfix_str(words, refresh=False)
            bar.update()
            bar.refresh()

        yield step


def _switched_off() -> bool:
    return os.environ.get("LAB_PROGRESS", "1") == "0"
