"""The partitions under a table: which slice of the key space an item falls into.

A table's key space is a ring of 128-bit hashes, cut into contiguous ranges; each range is one
partition. Where a table has a sort key, items of one hash lie in the order of it, and a range may
begin or end between two of them. DynamoDB does not publish its hash function, and no API lists
partitions: MD5 and the even first cut are assumptions, the rest (contiguous ranges, splits, never a
merge) is documented.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from itertools import pairwise
from typing import Any

from lab_utils.emulator.physics import Physics

RING = 1 << 128
EXACT = Context(prec=60)
"""For all digits of DynamoDB's numbers (38 at most), whatever precision the reader has set."""
MOST_PARTITIONS = 100_000
"""A table of the lab grows no larger by throughput: a slip of some zeros would fill the memory."""
Position = tuple[Any, ...]
"""A place in the key space: (hash,) or (hash, sort key). (5,) comes before (5, b"a")."""


@dataclass(eq=False)
class Partition:
    """A contiguous range of the key space, from `start` up to but not including `end`.

    `sizes` has the bytes of every item that is stored there, `bytes` their sum, `phantom` bytes of
    traffic that was not stored; times in microseconds.
    """

    id: int
    start: Position
    end: Position
    born: int = 0
    bytes: int = 0
    phantom: int = 0
    sizes: dict[Position, int] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return f"partition-{self.id:05d}"

    @property
    def items(self) -> int:
        return len(self.sizes)

    @property
    def low(self) -> int:
        """The first hash that it holds, if only a part of it."""
        return int(self.start[0])

    @property
    def high(self) -> int:
        """The hash after the last one that it holds; a collection that is cut lies in two."""
        return int(self.end[0]) + (len(self.end) > 1)

    @property
    def size(self) -> int:
        """All bytes that count, stored or not."""
        return self.bytes + self.phantom

    def holds(self, cut: Position) -> bool:
        """Whether a cut lies inside, so that something is left on either side."""
        return self.start < cut < self.end

    def middle(self) -> Position | None:
        """The middle of its range of hashes; None if it is too narrow to have one."""
        cut = ((self.low + int(self.end[0])) // 2,)
        return cut if self.holds(cut) else None


def key_hash(partition_key: str) -> int:
    """Where on the ring a partition-key value falls (assumed to be MD5)."""
    return int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest())


def key_text(typed: Mapping[str, str]) -> str:
    """A key value as text; 1, 1.0 and 1e0 are one number, and so one item."""
    ((kind, value),) = typed.items()
    return f"N:{Decimal(value).normalize(EXACT):f}" if kind == "N" else f"{kind}:{value}"


def sort_value(typed: Mapping[str, str]) -> bytes | Decimal:
    """A sort key as DynamoDB orders it: strings by their UTF-8, binary by bytes, numbers."""
    ((kind, value),) = typed.items()
    if kind == "N":
        return Decimal(value)
    return value.encode() if kind == "S" else base64.b64decode(value)


def first_partitions(physics: Physics, reads: int, writes: int) -> int:
    """How many partitions a new table has; throughput 0, 0 means on demand.

    For provisioned throughput the public formula of 2016 (AWS Loft), reads / 3,000 + writes /
    1,000, rounded up; the current guide gives none. A table of 5/5 has one (recorded on AWS).
    """
    if not reads and not writes:
        return physics.on_demand_partitions
    by_writes, by_reads = physics.partition_writes, physics.partition_reads
    return max(1, -(-(reads * by_writes + writes * by_reads) // (by_writes * by_reads)))


def warm_partitions(physics: Physics, reads: int, writes: int) -> int:
    """How many partitions can take so many reads and so many writes a second at once."""
    return max(-(-reads // physics.partition_reads), -(-writes // physics.partition_writes))


class PartitionMap:
    """The partitions of one table, in the order of the ring; together they tile it."""

    def __init__(self, count: int, now: int = 0) -> None:
        bounds = [(RING * number // count,) for number in range(count + 1)]
        self._partitions = [
            Partition(number, low, high, now) for number, (low, high) in enumerate(pairwise(bounds))
        ]
        self._starts: list[Position] = [*bounds[:-1]]
        self._by_id = {each.id: each for each in self._partitions}
        self._next_id = count

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._partitions)

    def __len__(self) -> int:
        return len(self._partitions)

    @property
    def cuts(self) -> int:
        """How many cuts were ever made; as long as it stays the same, so does every range."""
        return self._next_id

    def at(self, position: Position) -> Partition:
        """The partition that owns a place in the key space."""
        return self._partitions[bisect.bisect_right(self._starts, position) - 1]

    def by_id(self, partition_id: int) -> Partition | None:
        return self._by_id.get(partition_id)

    def split(
        self, partition: Partition, cut: Position, now: int = 0
    ) -> tuple[Partition, Partition]:
        """Cut a partition in two; every item goes with its part."""
        if not partition.holds(cut):
            raise ValueError(f"{cut} is not inside {partition.name}")
        index = bisect.bisect_left(self._starts, partition.start)
        left = Partition(self._next_id, partition.start, cut, now)
        right = Partition(self._next_id + 1, cut, partition.end, now)
        for position, size in partition.sizes.items():
            part = right if position >= cut else left
            part.sizes[position] = size
            part.bytes += size
        self._next_id += 2
        self._partitions[index : index + 1] = [left, right]
        self._starts[index : index + 1] = [left.start, right.start]
        del self._by_id[partition.id]
        self._by_id |= {left.id: left, right.id: right}
        return left, right
