"""What the emulator knows, as pandas frames. pandas is imported when the first one is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lab_utils.clock import instant
from lab_utils.emulator import why as words
from lab_utils.emulator.dynamodb import Table
from lab_utils.emulator.partitions import Position, sort_value
from lab_utils.emulator.physics import MICROSECONDS, microseconds
from lab_utils.emulator.traffic import Keys, Traffic, typed_value
from lab_utils.errors import LabError

if TYPE_CHECKING:
    import pandas as pd

    from lab_utils.emulator.event_source_mappings import Mapping
    from lab_utils.emulator.pollers import Poller
    from lab_utils.emulator.world import World

SHORTEST_STEP = microseconds(0.01)
SHOWN = 20
"""So many ids of partitions are named in an error."""
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
TRY_COLUMNS = [
    "function",
    "shard",
    "lane",
    "batch",
    "first",
    "size",
    "attempt",
    "outcome",
    "started",
]
SPLIT_COLUMNS = [
    "at",
    "partition",
    "cause",
    "parts",
    "reason",
    "low",
    "high",
    "point",
    "sort_point",
    "born",
]


def invocations(world: World, function: str | None) -> pd.DataFrame:
    """All invocations that are over, in the order in which they began."""
    return invocation_frame(
        row
        for row in world.records()
        if row["ended"] is not None and function in (None, row["function"])
    )


def invocation_frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A frame of invocations that are over, whoever told of them; moments are microseconds."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=INVOCATION_COLUMNS)
    for column in ("started", "ended"):
        frame[column] = pd.to_datetime(frame[column].astype("int64"), unit="us", utc=True)
    for column in ("lane", "batch_size"):
        frame[column] = frame[column].astype("Int64")
    return frame.astype({"attempt": "int64", "iterator_age": "float64"})


def tries(world: World, function: str | None) -> pd.DataFrame:
    """Every handing-over of a part of a batch that is over, in the order in which they began."""
    import pandas as pd

    rows = [
        {**row, "size": row["batch_size"]}
        for row in world.records()
        if row["ended"] is not None
        and row["batch"] is not None
        and function in (None, row["function"])
    ]
    frame = pd.DataFrame(rows, columns=TRY_COLUMNS)
    frame["started"] = pd.to_datetime(frame["started"].astype("int64"), unit="us", utc=True)
    return frame.astype(dict.fromkeys(("lane", "batch", "first", "size", "attempt"), "int64"))


def why(world: World, region: str, uuid: str) -> str:
    """What a mapping's pollers are doing, in words; see `Lab.why`."""
    mappings = world.region(region).mappings
    for mapping in mappings:
        if mapping.uuid == uuid:
            return words.why(mappings, mapping)
    there = ", ".join(sorted(mapping.uuid for mapping in mappings)) or "none"
    raise LabError(f"There is no mapping {uuid!r} (there is: {there}): give the UUID of one.")


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

    known, rows = table_of(world, region, table), []
    for each in known.partitions:
        write_rate, read_rate = known.admin.rates(each)
        rows.append(
            {
                "partition": each.id,
                "low": each.low,
                "high": each.high,
                "items": each.items,
                "bytes": each.size,
                "write_rate": write_rate,
                "read_rate": read_rate,
                "open_shard": known.stream.shard_of(each).id if known.stream else None,
            }
        )
    frame = pd.DataFrame(rows).set_index("partition")
    bounds = [(_sort_bound(each.start), _sort_bound(each.end)) for each in known.partitions]
    if any(bound is not None for pair in bounds for bound in pair):
        for number, name in enumerate(("sort_from", "sort_to")):
            column = [pair[number] for pair in bounds]
            frame[name] = pd.Series(column, index=frame.index, dtype=object)
    return _measured(frame, world, known)


def splits(world: World, region: str, table: str) -> pd.DataFrame:
    """Every split of a table's partitions, and every refusal of one, in order."""
    import pandas as pd

    known, rows = table_of(world, region, table), []
    for each in known.admin.splits:
        rows.append(
            {
                "at": each.at,
                "partition": each.partition.id,
                "cause": each.cause,
                "parts": each.parts,
                "reason": each.reason,
                "low": each.partition.low,
                "high": each.partition.high,
                "point": each.point[0] if each.point else None,
                "sort_point": _sort_bound(each.point or ()),
                "born": each.partition.born,
            }
        )
    frame = pd.DataFrame(rows, columns=SPLIT_COLUMNS, dtype=object)
    for column in ("at", "born"):
        frame[column] = pd.to_datetime(frame[column].astype("int64"), unit="us", utc=True)
    return _measured(frame.astype({"partition": "int64"}), world, known)


def traffic(
    world: World,
    region: str,
    table: str,
    keys: Keys,
    rate: float,
    minutes: float,
    *,
    size: int,
    operation: str,
    growing: bool,
) -> pd.DataFrame:
    """What became of a rate of requests, minute by minute; see `Lab.traffic`."""
    import pandas as pd

    flow = Traffic(
        table_of(world, region, table),
        world.scheduler,
        keys,
        rate,
        minutes,
        size=size,
        operation=operation,
        growing=growing,
    )
    return pd.DataFrame(flow.run()).set_index("minute")


def split(world: World, region: str, table: str, partition: int, at: Any) -> None:
    """Split a partition by its id, in the middle or at a hash, or at a hash and a sort key."""
    known = table_of(world, region, table)
    found = known.partitions.by_id(partition)
    if found is None:
        ids = [str(each.id) for each in known.partitions]
        more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
        raise LabError(
            f"{table} has no partition {partition}: it has {', '.join(ids[:SHOWN])}{more}."
        )
    cut = found.middle() if at is None else _cut(known, at)
    if cut is None or not found.holds(cut):
        where = "in the middle" if at is None else f"at {at!r}"
        pair = ", or a pair of a hash and a sort key" if known.sort_key else ""
        raise LabError(
            f"Partition {partition} of {table} cannot be split {where}: give at= a hash between "
            f"its low and its high{pair}."
        )
    world.region(region).dynamodb.split(known, found, cut)


def _cut(table: Table, at: Any) -> Position | None:
    """A cut as the reader gives it; None if it is none of this table."""
    given = at if isinstance(at, tuple) else (at,)
    if not given or not isinstance(given[0], int) or len(given) > 1 + (table.sort_key is not None):
        return None
    if table.sort_key is None or len(given) == 1:
        return (given[0],)
    typed = typed_value(given[1])
    fits = typed is not None and table.key_types[table.sort_key] in typed
    return (given[0], sort_value(typed)) if typed and fits else None


def _sort_bound(position: Position) -> Any:
    """The sort key of a bound, as a reader knows it: text where it is text."""
    if len(position) < 2:
        return None
    value = position[1]
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _measured(frame: pd.DataFrame, world: World, table: Table) -> pd.DataFrame:
    """What a plot of partitions has to know besides."""
    writes, reads = table.admin.ceilings
    frame.attrs |= {
        "scale": world.physics.scale,
        "write_ceiling": writes,
        "read_ceiling": reads,
        "created": instant(table.created),
        "now": instant(world.scheduler.now),
    }
    return frame


def table_of(world: World, region: str, name: str) -> Table:
    """A table of the emulator, or a sentence that names those there are."""
    tables = world.region(region).dynamodb.tables
    if name not in tables:
        there = ", ".join(sorted(tables)) or "none"
        raise LabError(
            f"There is no table {name!r} in this lab (there is: {there}): create it first."
        )
    return tables[name]
