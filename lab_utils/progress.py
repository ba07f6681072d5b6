"""A progress bar for what takes longer than a moment; LAB_PROGRESS=0 switches all of them off."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Sequence[Item], doing: str) -> Iterator[Item] | Iterable[Item]:
    """The items one by one, with a bar that says how far it got and vanishes at the end."""
    if os.environ.get("LAB_PROGRESS", "1") == "0":
        return items
    from tqdm import tqdm

    bar: Iterable[Item] = tqdm(items, desc=doing, leave=False)
    return bar
