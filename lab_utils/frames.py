"""What the emulator knows, as pandas frames. pandas is imported when the first one is asked for."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from lab_utils.clock import instant
from lab_utils.emulator.dynamodb import Table
from lab_utils.emulator.physics import MICROSECONDS, microseconds
from lab_utils.errors import LabError

if TYPE_CHECKING:
    import pandas as pd

    from lab_utils.emulator.event_source_mappings import Mapping, Poller
    from lab_utils.emulator.world import World

SHORTEST_STEP = microseconds(0.01)
INVOCATION_COLUMNS = [
    "function",
    "instance",
    "shard",
    "lane",
    "batch_size",
    "started",
    "ended",
    "outcome",
    "attempt",
    "iterator_age",
]


def invocations(world: World, function: str | None) -> pd.DataFrame:
    """All invocations that are over, in the order in which they began."""
    import pandas as pd

    rows = [
        row
        for row in world.records()
        if row["ended"] is not None and function in (None, row["function"])
    ]
    frame = pd.DataFrame(rows, columns=INVOCATION_COLUMNS)
    for column in ("started", "ended"):
        frame[column] = pd.to_datetime(frame[column].astype("int64"), unit="us", utc=True)
    for column in ("lane", "batch_size"):
        frame[column] = frame[column].astype("Int64")
    return frame.astype({"attempt": "int64", "iterator_age": "float64"})


def backlog(world: World, function: str | None, every: float) -> pd.DataFrame:
    """Records waiting and the age of the oldest, per function, at steps of `every` seconds."""
    import pandas as pd

    if microseconds(every) < SHORTEST_STEP:
        raise LabError(f"every={every} is too short a step: give a hundredth of a second or more.")
    step, rows = microseconds(every), []
    mappings = [
        mapping
        for region in world.regions
        for mapping in region.mappings
        if function in (None, mapping.function)
    ]
    first_seen = list(dict.fromkeys(row["function"] for row in world.records()))
    mappings.sort(
        key=lambda mapping: (
            first_seen.index(mapping.function)
            if mapping.function in first_seen
            else len(first_seen)
        )
    )
    lines = [
        (mapping, [_Line(poller) for poller in mapping.pollers.values()]) for mapping in mappings
    ]
    begins = [line.arrivals[0] for _, each in lines for line in each if line.arrivals]
    moments = range(min(begins) - step, world.scheduler.now + step, step) if begins else ()
    for mapping, waiting_lines in lines:
        for moment in moments:
            rows.append(_look(mapping, waiting_lines, min(moment, world.scheduler.now)))
    frame = pd.DataFrame(rows, columns=["at", "function", "waiting", "age"])
    return frame.astype({"waiting": "int64", "age": "float64"})


class _Line:
    """The records of one shard waiting for one function: when they came, when they went."""

    def __init__(self, poller: Poller) -> None:
        shard = poller.shard
        self._first = max(poller.first, shard.trimmed)
        self.arrivals = [record.at for record in shard.records[self._first - shard.trimmed :]]
        self._moments = [moment for moment, _ in poller.progress]
        self._positions = [poller.first, *(position for _, position in poller.progress)]

    def at(self, moment: int) -> tuple[int, int | None]:
        """How many records waited at a moment, and when the oldest of them came."""
        came = bisect_right(self.arrivals, moment)
        went = max(0, self._positions[bisect_right(self._moments, moment)] - self._first)
        return (came - went, self.arrivals[went]) if came > went else (0, None)


def _look(mapping: Mapping, lines: list[_Line], moment: int) -> dict[str, Any]:
    looks = [line.at(moment) for line in lines]
    oldest = min((came for _, came in looks if came is not None), default=None)
    return {
        "at": instant(moment),
        "function": mapping.function,
        "waiting": sum(count for count, _ in looks),
        "age": None if oldest is None else (moment - oldest) / MICROSECONDS,
    }


def partitions(world: World, region: str, table: str) -> pd.DataFrame:
    """The partitions of a table in the order of the ring, indexed by their id."""
    import pandas as pd

    known = table_of(world, region, table)
    rows = [
        {
            "partition": each.id,
            "low": each.low,
            "high": each.high,
            "items": each.items,
            "bytes": each.bytes,
            "open_shard": known.stream.shard_of(each).id if known.stream else None,
        }
        for each in known.partitions
    ]
    return pd.DataFrame(rows).set_index("partition")


def table_of(world: World, region: str, name: str) -> Table:
    """A table of the emulator, or a sentence that names those there are."""
    tables = world.region(region).dynamodb.tables
    if name not in tables:
        there = ", ".join(sorted(tables)) or "none"
        raise LabError(
            f"There is no table {name!r} in this lab (there is: {there}): create it first."
        )
    return tables[name]
