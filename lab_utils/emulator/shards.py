"""Shards and the log they make up: append, read, close, trim. Both stream services use it.

A shard is a list of records in the order in which they came. While it is open it grows; once it is
closed it has an ending sequence number and never changes again, except that its oldest records are
trimmed away. A closed shard's children name it as their parent: that is the lineage.

Positions count the records of a shard from its birth, trimmed ones included, so a position stays
true while records go.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab_utils.emulator.throughput import Bucket

SWEEP = 1024
"""A growing shard is relieved of what is past its retention at every so many records."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record as its shard keeps it: `at` in microseconds, `size` in bytes.

    `body` is the record in its service's own JSON shape, shared by all who read it.
    """

    sequence: int
    at: int
    size: int
    key: str
    body: dict[str, Any]


@dataclass(eq=False, slots=True)
class Shard:
    """A list of records that grows until it is closed. Times in microseconds.

    `low` to `high` - 1 is the range of hashes whose records come here; `newest` is the sequence
    number of the last record that came, `lost` that of the last one trimmed away (0: none).
    `bytes` counts every record that ever came, those that are trimmed too. `lag` says how late
    others see its birth, its end, and that it can be read; `reads` how often it may be read.
    """

    id: str
    parents: tuple[str, ...]
    started: int
    starting: int
    low: int = 0
    high: int = 0
    ended: int | None = None
    ending: int | None = None
    records: list[Record] = field(default_factory=list, repr=False)
    trimmed: int = 0
    newest: int = 0
    lost: int = 0
    bytes: int = 0
    lag: tuple[int, int, int] = (0, 0, 0)
    reads: Bucket | None = field(default=None, repr=False)
    pollers: int = 0
    """How many mappings poll it at present; their polls count as reads, the idle ones too."""
    log: ShardLog | None = field(default=None, repr=False)
    """The log that holds it, which is told of its end."""
    _watchers: list[Callable[[], None]] | None = field(default=None, repr=False)

    @property
    def open(self) -> bool:
        return self.ended is None

    @property
    def end(self) -> int:
        """The position after the newest record."""
        return self.trimmed + len(self.records)

    def append(self, record: Record) -> None:
        if not self.open:
            raise ValueError(f"{self.id} is closed")
        self.records.append(record)
        self.newest = record.sequence
        self.bytes += record.size
        if not len(self.records) % SWEEP and self.log is not None:
            self.trim(record.at - self.log.retention)
        self._notify()

    def close(self, now: int, ending: int | None = None) -> None:
        """End the shard at a number, or else its last record's, or its first if it has none."""
        self.ended, self.ending = now, ending or self.newest or self.starting
        if self.log is not None:
            self.log.note_end(self)
        self._notify()

    def trim(self, horizon: int) -> None:
        """Drop the records that are older than a moment."""
        if self.records and self.records[0].at < horizon:
            gone = bisect.bisect_left(self.records, horizon, key=lambda record: record.at)
            self.lost = self.records[gone - 1].sequence
            del self.records[:gone]
            self.trimmed += gone

    def read(self, position: int, limit: int, max_bytes: int) -> list[Record]:
        """At most `limit` records and `max_bytes` bytes from a position that is not trimmed.

        One record is handed out even if it alone is larger than `max_bytes`.
        """
        start = position - self.trimmed
        taken, total = start, 0
        stop = min(start + limit, len(self.records))
        while taken < stop:
            total += self.records[taken].size
            if total > max_bytes and taken > start:
                break
            taken += 1
        return self.records[start:taken]

    def position_of(self, sequence: int) -> int:
        """The position of the first record whose sequence number is not below `sequence`."""
        return self.trimmed + bisect.bisect_left(
            self.records, sequence, key=lambda record: record.sequence
        )

    def position_at(self, moment: int) -> int:
        """The position of the first record that is not older than a moment."""
        return self.trimmed + bisect.bisect_left(self.records, moment, key=lambda record: record.at)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have `watcher` called once, at the next append or at the close."""
        if self._watchers is None:
            self._watchers = []
        self._watchers.append(watcher)

    def _notify(self) -> None:
        if self._watchers:
            watchers, self._watchers = self._watchers, None
            for watcher in watchers:
                watcher()


class ShardLog:
    """All shards of one stream that can still be listed.

    Nothing here looks at every shard: closed ones wait in the order of their ends to be forgotten,
    and a shard sheds its old records when somebody looks at it.
    """

    def __init__(self, retention: int) -> None:
        self.retention = retention
        self._shards: dict[str, Shard] = {}
        self._open: dict[str, Shard] = {}
        self._closed: deque[Shard] = deque()
        self._children: dict[str, list[Shard]] = {}
        self._ids: list[str] = []
        """Sorted. Forgotten ids stay until all before them are forgotten, too."""
        self._first = 0
        """Where in `_ids` the first shard is that is not forgotten."""
        self._horizon = 0
        self._birth_watchers: dict[object, Callable[[Shard], None]] = {}

    def add(self, shard: Shard) -> None:
        """Take in a newborn shard."""
        shard.log = self
        self._shards[shard.id] = self._open[shard.id] = shard
        bisect.insort(self._ids, shard.id)
        for parent in shard.parents:
            self._children.setdefault(parent, []).append(shard)
        for watcher in list(self._birth_watchers.values()):
            watcher(shard)

    def note_end(self, shard: Shard) -> None:
        """Called by a shard that closes."""
        del self._open[shard.id]
        self._closed.append(shard)

    def on_birth(self, who: object, watcher: Callable[[Shard], None]) -> None:
        """Have `watcher` told of every newborn shard, until `off_birth` of the same `who`."""
        self._birth_watchers[who] = watcher

    def off_birth(self, who: object) -> None:
        del self._birth_watchers[who]

    def __iter__(self) -> Iterator[Shard]:
        """All shards, oldest first."""
        for shard in list(self._shards.values()):
            shard.trim(self._horizon)
            yield shard

    def __len__(self) -> int:
        return len(self._shards)

    def __contains__(self, shard_id: str) -> bool:
        return shard_id in self._shards

    def get(self, shard_id: str) -> Shard | None:
        """A shard by its id, without the records that are past their retention."""
        shard = self._shards.get(shard_id)
        if shard is not None:
            shard.trim(self._horizon)
        return shard

    def after(self, shard_id: str) -> Iterator[Shard]:
        """The shards behind an id (which need not exist), in the order of their ids."""
        start = max(self._first, bisect.bisect_right(self._ids, shard_id))
        for index in range(start, len(self._ids)):
            shard = self._shards.get(self._ids[index])
            if shard is not None:
                yield shard

    def children(self, shard_id: str) -> list[Shard]:
        return list(self._children.get(shard_id, ()))

    def open_shards(self) -> list[Shard]:
        """The shards that still grow, oldest first."""
        return list(self._open.values())

    def trim(self, now: int) -> None:
        """Forget the shards that closed longer ago than their retention; records go with a look.

        Both go from the moment they may go; AWS only promises not to drop them earlier.
        """
        self._horizon = max(self._horizon, now - self.retention)
        while self._closed and (self._closed[0].ended or 0) <= self._horizon:
            self._forget(self._closed.popleft())

    def retain(self, retention: int, now: int) -> None:
        """Keep records and shards so long from now on; what is past its time by then is gone."""
        self.trim(now)
        self.retention = retention
        self.trim(now)
        for shard in self._shards.values():
            shard.trim(self._horizon)

    def empty(self, now: int) -> None:
        """Drop all records that there are now, whatever their age."""
        for shard in self._shards.values():
            shard.trim(now + 1)

    def _forget(self, shard: Shard) -> None:
        shard.trim((shard.ended or 0) + 1)
        del self._shards[shard.id]
        self._children.pop(shard.id, None)
        while self._first < len(self._ids) and self._ids[self._first] not in self._shards:
            self._first += 1
        if self._first > len(self._ids) // 2:
            del self._ids[: self._first]
            self._first = 0
