"""Load as a rate: what many clients would ask of a table, without a single request.

A notebook's loop makes some 250 writes a second and cannot fill 10 GB. Traffic asks every partition
for its part of a rate in steps of a few seconds: buckets, heat, peaks and sizes count it like real
requests, the sizes of the stream's shards too, only no item is stored and no record is written.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lab_utils.emulator.heat import MINUTE
from lab_utils.emulator.partitions import Partition, Position
from lab_utils.emulator.physics import MICROSECONDS, microseconds
from lab_utils.emulator.throughput import READ, UNIT, WRITE, read_cost, write_cost
from lab_utils.errors import LabError

if TYPE_CHECKING:
    from lab_utils.emulator.dynamodb import Table
    from lab_utils.emulator.scheduler import Scheduler

Keys = Iterable[Any] | Mapping[Any, float] | Callable[[int], Iterable[Any] | Mapping[Any, float]]
Loads = dict[Position, float]
"""The part of the rate that each position has; together one."""
Row = dict[str, Any]

STEP = 5 * MICROSECONDS
LARGEST_ITEM = 400 * 1024
OPERATIONS = {"write": WRITE, "read": READ}


@dataclass
class Tally:
    """One minute's requests."""

    offered: float = 0.0
    accepted: float = 0.0


class Traffic:
    """A rate of requests to one table; `run` moves virtual time and gives a row per minute."""

    def __init__(
        self,
        table: Table,
        scheduler: Scheduler,
        keys: Keys,
        rate: float,
        minutes: float,
        *,
        size: int,
        operation: str,
        growing: bool,
    ) -> None:
        self._table, self._scheduler = table, scheduler
        self._rate = _number(rate, "rate", "requests a second", zero=True)
        self._span = microseconds(60 * _number(minutes, "minutes", "minutes of virtual time"))
        if operation not in OPERATIONS:
            raise LabError(f"operation={operation!r} is neither 'write' nor 'read': give one.")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= LARGEST_ITEM:
            raise LabError(f"size={size!r} must be the bytes of an item, from 1 to 409,600.")
        if growing and operation == "read":
            raise LabError("Reads store nothing: leave growing out, or let the traffic write.")
        self._kind, self._size, self._growing = OPERATIONS[operation], size, growing
        self._cost = write_cost(size) if operation == "write" else read_cost(size, True)
        self._loads = self._plan(keys)

    def run(self) -> list[Row]:
        """Let the traffic flow; its rows, see `lab.traffic`."""
        rows = []
        for minute in range(math.ceil(self._span / MINUTE)):
            span = min(MINUTE, self._span - minute * MINUTE)
            rows.append({"minute": minute, **self._minute(self._loads(minute), span)})
        return rows

    # -- who is asked ---------------------------------------------------------------------------

    def _plan(self, keys: Keys) -> Callable[[int], Loads]:
        """All loads, placed before time moves: bad keys leave the lab as it was."""
        known: dict[Any, Position] = {}
        if not callable(keys):
            loads = self._place(keys, known)
            return lambda _: loads
        minutes = range(math.ceil(self._span / MINUTE))
        each = [self._place(keys(minute), known) for minute in minutes]
        return lambda minute: each[minute]

    def _place(self, keys: Any, known: dict[Any, Position]) -> Loads:
        if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
            raise LabError(
                f"keys={keys!r} is no list of keys: give a list, a dict of shares, or a function "
                "of the minute that returns one of them."
            )
        shares = keys.items() if isinstance(keys, Mapping) else ((key, 1.0) for key in keys)
        loads: Loads = {}
        for key, share in shares:
            if not _is_number(share) or share < 0:
                raise LabError(f"The share {share!r} of the key {key!r} must be zero or more.")
            try:
                position = known.get(key) or known.setdefault(key, self._position(key))
            except TypeError:
                raise self._wrong(key) from None
            loads[position] = loads.get(position, 0.0) + share
        whole = sum(loads.values())
        if not whole > 0:
            raise LabError("There are no keys to ask for: give at least one, with a share above 0.")
        return {position: share / whole for position, share in loads.items()}

    def _position(self, key: Any) -> Position:
        table = self._table
        names = [table.hash_key] if table.sort_key is None else [table.hash_key, table.sort_key]
        values = key if isinstance(key, tuple) else (key,)
        if len(values) != len(names):
            raise self._wrong(key)
        item = {}
        for name, value in zip(names, values, strict=True):
            typed = typed_value(value)
            if typed is None or table.key_types[name] not in typed:
                raise self._wrong(key)
            item[name] = typed
        return table.position_of(item)

    def _wrong(self, key: Any) -> LabError:
        table = self._table
        types = {"S": "a str", "N": "an int, float or Decimal", "B": "bytes"}

        def named(name: str) -> str:
            return f"{name} as {types[table.key_types[name]]}"

        shape = named(table.hash_key)
        if table.sort_key is not None:
            shape = f"a pair ({shape}, {named(table.sort_key)})"
        return LabError(f"{key!r} is no key of {table.name}: give {shape}.")

    # -- a minute -------------------------------------------------------------------------------

    def _minute(self, loads: Loads, span: int) -> Row:
        partitions, tally, cuts = self._table.partitions, Tally(), -1
        places: dict[Partition, float] = {}
        left = span
        while left:
            now = self._scheduler.now
            step = min(STEP, left, MINUTE - now % MINUTE)  # no step lies in two minutes
            self._scheduler.run(now + step)
            if cuts != partitions.cuts:
                cuts, places = partitions.cuts, self._by_partition(loads)
            accepted = self._step(places, step / MICROSECONDS, tally)
            if left == span:
                self._observe(loads, span)
            self._count_bytes(accepted)
            left -= step
        hottest = max(self._by_partition(loads).values())
        ceiling = self._table.admin.ceilings[self._kind]
        offered, granted = round(tally.offered), round(tally.accepted)
        return {
            "offered": offered,
            "accepted": granted,
            "throttled": offered - granted,
            "partitions": len(partitions),
            "hottest": hottest * self._rate * self._cost / UNIT / ceiling,
        }

    def _by_partition(self, loads: Loads) -> dict[Partition, float]:
        """The part of the rate that each partition has."""
        at = self._table.partitions.at
        shares: dict[Partition, float] = {}
        for position, share in loads.items():
            partition = at(position)
            shares[partition] = shares.get(partition, 0.0) + share
        return shares

    def _observe(self, loads: Loads, span: int) -> None:
        """Which keys the minute asks for, in the order in which they were given."""
        admin, at = self._table.admin, self._table.partitions.at
        whole = self._rate * span / MICROSECONDS * self._cost
        for position, share in loads.items():
            if cost := round(whole * share):
                admin.observe(at(position), position, cost)

    def _step(
        self, places: dict[Partition, float], seconds: float, tally: Tally
    ) -> dict[Partition, float]:
        """Ask every partition for its part of some seconds; the requests that each let in."""
        requests = self._rate * seconds
        whole = requests * self._cost
        granted = self._table.admin.offer(
            self._kind, {partition: round(whole * share) for partition, share in places.items()}
        )
        accepted = {
            partition: min(cost / self._cost, requests * places[partition])
            for partition, cost in granted.items()
        }
        tally.offered += requests
        tally.accepted += sum(accepted.values())
        return accepted

    def _count_bytes(self, accepted: dict[Partition, float]) -> None:
        """What was written makes a growing table larger, and its stream's shards in any case."""
        if self._kind != WRITE:
            return
        for partition, requests in accepted.items():
            size = round(requests * self._size)
            if size and self._growing:
                partition.phantom += size
                self._table.admin.look_at_size(partition)
            if size and self._table.stream is not None:
                self._table.stream.weigh(partition, size)


def typed_value(value: Any) -> dict[str, str] | None:
    """A plain Python value as DynamoDB JSON; None if it cannot be a key."""
    if isinstance(value, str) and value:
        return {"S": value}
    if isinstance(value, bytes) and value:
        return {"B": base64.b64encode(value).decode()}
    if _is_number(value):
        return {"N": str(value)}
    return None


def _is_number(value: Any) -> bool:
    fits = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    return fits and math.isfinite(value)


def _number(value: Any, name: str, what: str, zero: bool = False) -> float:
    if not _is_number(value) or value < 0 or (value == 0 and not zero):
        least = "zero or more" if zero else "more than zero"
        raise LabError(f"{name}={value!r} must be {least}: give {what}.")
    return float(value)
