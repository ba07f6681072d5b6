"""The partitions under a table: which slice of the key space an item falls into.

A table's key space is a ring of 128-bit hashes, cut into contiguous ranges; each range is one
partition. DynamoDB does not publish its hash function, and no API lists partitions: MD5 and the
even first cut are assumptions, the rest (contiguous ranges, splits, never a merge) is documented.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from lab_utils.emulator.physics import Physics

RING = 1 << 128


@dataclass
class Partition:
    """A contiguous range of key hashes, `low` to `high` - 1, and what is stored there."""

    id: int
    low: int
    high: int
    items: int = 0
    bytes: int = 0

    @property
    def name(self) -> str:
        return f"partition-{self.id:05d}"


def key_hash(partition_key: str) -> int:
    """Where on the ring a partition-key value falls (assumed to be MD5)."""
    return int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest())


def first_partitions(physics: Physics, reads: int, writes: int) -> int:
    """How many partitions a new table has; throughput 0, 0 means on demand."""
    if not reads and not writes:
        return physics.on_demand_partitions
    return max(1, -(-reads // physics.partition_reads), -(-writes // physics.partition_writes))


class PartitionMap:
    """The partitions of one table, in the order of the ring; together they tile it."""

    def __init__(self, count: int) -> None:
        bounds = [RING * number // count for number in range(count + 1)]
        self._partitions = [
            Partition(number, low, high) for number, (low, high) in enumerate(pairwise(bounds))
        ]
        self._lows = bounds[:-1]
        self._next_id = count

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._partitions)

    def __len__(self) -> int:
        return len(self._partitions)

    def of_hash(self, position: int) -> Partition:
        """The partition that owns a place on the ring."""
        return self._partitions[bisect.bisect_right(self._lows, position) - 1]

    def of_key(self, partition_key: str) -> Partition:
        return self.of_hash(key_hash(partition_key))

    def by_id(self, partition_id: int) -> Partition | None:
        return next((each for each in self._partitions if each.id == partition_id), None)

    def split(self, partition: Partition, at: int | None = None) -> tuple[Partition, Partition]:
        """Cut a partition in two, in the middle or `at` a hash inside it. The parts start empty:
        whoever stores the items counts them again."""
        cut = (partition.low + partition.high) // 2 if at is None else at
        if not partition.low < cut < partition.high:
            raise ValueError(f"{cut} is not inside {partition.name}")
        index = self._partitions.index(partition)
        left = Partition(self._next_id, partition.low, cut)
        right = Partition(self._next_id + 1, cut, partition.high)
        self._next_id += 2
        self._partitions[index : index + 1] = [left, right]
        self._lows[index : index + 1] = [left.low, right.low]
        return left, right
