"""Where partitions lie in a picture: along the ring of hashes, and in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_hex

from lab_utils.errors import LabError
from lab_utils.plots.style import Frame, Numbers, TimeAxis

RING = 1 << 128
HEAT = LinearSegmentedColormap.from_list("heat", ["#FDF3DC", "#F4BE4F", "#C9650A", "#8A3200"])
"""From idle to the ceiling, ever darker, so that it needs no colour vision."""

# Heights on the y axis, in inches of a figure that plot_partitions makes itself.
CELL = 0.9  #: of partitions that were never split, or since the last split
STEP = 0.48  #: between two splits, on average
TALL = 3.6  #: of all steps together at most


class Ring:
    """The living partitions along the x axis, from 0 to 1."""

    def __init__(self, partitions: Frame) -> None:
        self.ids = [int(each) for each in partitions.index]
        self.count = len(self.ids)
        self.attrs = partitions.attrs
        self._frame = partitions
        ends = [(int(low) / RING, int(high) / RING) for low, high in
                zip(partitions["low"], partitions["high"], strict=True)]  # fmt: skip
        self.hashes = np.array([*(low for low, _ in ends), ends[-1][1]])
        true = np.array([high - low for low, high in ends])
        least = min(0.05, 0.6 / self.count)
        self.widened = bool((true < least).any())
        widths = np.maximum(true, least)
        self.edges = np.concatenate([[0.0], np.cumsum(widths / widths.sum())])

    def column(self, name: str) -> Numbers:
        """A column of numbers, one per partition; nothing counts as zero."""
        if name not in self._frame.columns:
            return np.zeros(self.count)
        return np.nan_to_num(self._frame[name].to_numpy(dtype=float))

    @cached_property
    def loads(self) -> Numbers:
        """Writes and reads as parts of their ceilings: two rows."""
        return np.array([
            self.column(f"{kind}_rate") / (self.attrs[f"{kind}_ceiling"] or np.inf)
            for kind in ("write", "read")
        ])  # fmt: skip

    @cached_property
    def heat(self) -> Numbers:
        """The busier of the two."""
        return self.loads.max(axis=0)

    @cached_property
    def stock(self) -> tuple[str, Numbers]:
        """What the bars show: items, or bytes in a table that has only those (made by traffic)."""
        items, size = self.column("items"), self.column("bytes")
        if items.any() or not size.any():
            return "items", items
        power = int(min(np.log2(size.max()) // 10, 3))
        return ("bytes", "KB", "MB", "GB")[power], size / 1024**power

    @cached_property
    def fills(self) -> list[str]:
        return [to_hex(HEAT(min(float(each), 1.0))) for each in self.heat]

    def busier(self, place: int) -> str:
        return "reads" if self.loads[1, place] > self.loads[0, place] else "writes"

    def kept(self, place: int) -> str:
        """What a partition holds if that is not whole ranges of hashes."""
        if self.sort_range(place):
            return "part of a key"
        row = self._frame.iloc[place]
        return "one key" if int(row["high"]) - int(row["low"]) <= 1 else ""

    def sort_range(self, place: int) -> str:
        """Between which sort keys a collection was cut, or nothing."""
        row = self._frame.iloc[place]
        bounds = ((word, row.get(f"sort_{word}")) for word in ("from", "to"))
        return " ".join(
            f"{word} {bound}" for word, bound in bounds if bound is not None and bound == bound
        )


@dataclass(frozen=True)
class Split:
    """A row of `lab.splits(table)`; a refusal has no parts."""

    at: datetime
    partition: int
    cause: str
    parts: tuple[int, ...]
    reason: str


def rows_of(splits: Frame | None) -> list[Split]:
    """The splits and refusals, oldest first."""
    if splits is None:
        return []
    rows = zip(*(splits[name] for name in ("at", "partition", "cause", "parts", "reason")),
               strict=True)  # fmt: skip
    found = [
        Split(at, int(partition), str(cause), tuple(int(part) for part in parts), str(reason))
        for at, partition, cause, parts, reason in rows
    ]
    return sorted(found, key=lambda split: split.at)


class Past:
    """Where partitions lie, gone ones too, and when they lived: heights on the y axis."""

    def __init__(
        self, ring: Ring, splits: list[Split], origin: datetime | None, since: str | None
    ) -> None:
        self.splits = splits
        self.moments = sorted({split.at for split in splits})
        created = ring.attrs.get("created")
        self.time = self._time(origin or created)
        told = origin is None and created is not None
        self.since = since or ("the table was created" if told else "the first split")
        self.levels, self.height = self._levels(created, ring.attrs.get("now"))
        self.spans = {
            partition: (left, right)
            for partition, left, right in zip(ring.ids, ring.edges, ring.edges[1:], strict=False)
        }
        self.refused = {
            split.partition: self.levels[split.at] for split in splits if not split.parts
        }
        self.born: dict[int, float] = {}
        self.ended: dict[int, float] = {}
        for split in reversed(splits):
            self._go_back(split)

    def _time(self, origin: datetime | None) -> TimeAxis | None:
        if not self.moments:
            return None
        origin = origin or self.moments[0]
        return TimeAxis.over(origin, max(self.moments[-1], origin + timedelta(minutes=5)))

    def _levels(
        self, created: datetime | None, now: datetime | None
    ) -> tuple[dict[datetime, float], float]:
        """The height of each moment of a split, and of the present.

        Steps grow with the time that they stand for, but none is too low to be seen; the last has
        room for words. If nobody knows when the table was made, the first step is a usual one.
        """
        if not self.moments:
            return {}, CELL
        points = sorted({created or self.moments[0], *self.moments})
        floor = 0.0 if created else STEP
        gaps = np.diff(
            [point.timestamp() for point in [*points, max(now or points[-1], points[-1])]]
        )
        share = np.maximum(gaps / (gaps.sum() or 1.0), 0.7 / len(gaps))
        steps = min(TALL, STEP * len(gaps)) * share / share.sum()
        steps[-1] = max(steps[-1], CELL)
        levels = floor + np.concatenate([[0.0], np.cumsum(steps)])
        return dict(zip(points, levels.tolist(), strict=False)), float(levels[-1])

    def _go_back(self, split: Split) -> None:
        """From its parts to a partition: it spanned what they span."""
        if not split.parts:
            return
        unknown = [part for part in split.parts if part not in self.spans]
        if unknown:
            raise LabError(
                f"The splits speak of partition {unknown[0]}, which the partitions do not have: "
                "ask for lab.partitions(table) and lab.splits(table) at the same moment."
            )
        spans = [self.spans[part] for part in split.parts]
        level = self.levels[split.at]
        self.spans[split.partition] = (min(a for a, _ in spans), max(b for _, b in spans))
        self.ended[split.partition] = level
        self.born |= dict.fromkeys(split.parts, level)

    @property
    def gone(self) -> list[int]:
        """Partitions that lived for a while, oldest last."""
        return [each for each in self.ended if self.life(each)[0] < self.life(each)[1]]

    def life(self, partition: int) -> tuple[float, float]:
        """From where to where a partition reaches on the y axis."""
        return self.born.get(partition, 0.0), self.ended.get(partition, self.height)
