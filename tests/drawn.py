"""Made-up invocations for pictures, and what a picture shows when one reads it back."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex

NOON = pd.Timestamp("2026-01-01T12:00:00Z")
COLUMNS = [
    "function", "instance", "shard", "lane", "batch_size", "started", "ended", "outcome",
    "attempt", "iterator_age",
]  # fmt: skip


def invocation(start: float, seconds: float, **more: Any) -> dict[str, Any]:
    began = NOON + pd.Timedelta(seconds=start)
    usual = {
        "function": "MapLambda", "instance": "one", "shard": kinesis_shard(0), "lane": 0,
        "batch_size": 100, "started": began, "ended": began + pd.Timedelta(seconds=seconds),
        "outcome": "ok", "attempt": 1, "iterator_age": 0.5,
    }  # fmt: skip
    return usual | more


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=COLUMNS)


def kinesis_shard(number: int) -> str:
    return f"shardId-{number:012d}"


def table_shard(number: int, age: int = 0) -> str:
    return f"shardId-{1767258000000 + age:020d}-{number:08x}"


def words(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


def png(ax: Any) -> bytes:
    picture = io.BytesIO()
    ax.get_figure().savefig(picture, format="png", bbox_inches="tight")
    return picture.getvalue()


def polygons(ax: Any) -> list[np.ndarray]:
    """The bars: their corners, in the order in which they were drawn."""
    shapes = [c for c in ax.collections if type(c) is PolyCollection]
    return [np.asarray(path.vertices) for c in shapes for path in c.get_paths()]


def fills(ax: Any) -> list[str]:
    shapes = [c for c in ax.collections if type(c) is PolyCollection]
    return [to_hex(colour).upper() for c in shapes for colour in c.get_facecolors()]
