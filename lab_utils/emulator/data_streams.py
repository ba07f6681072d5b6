"""One Kinesis data stream: its shards, which together tile the ring of hashes, and their limits.

The same `ShardLog` as under DynamoDB Streams, with other rules: no shard rolls over by itself; who
owns the stream splits and merges them.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from lab_utils.emulator.backing import ACCOUNT
from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.partitions import RING
from lab_utils.emulator.physics import HOUR, Physics, microseconds
from lab_utils.emulator.shards import Record, Shard, ShardLog
from lab_utils.emulator.throughput import UNIT, Bucket, calls_left, may_call

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region

SHARD_DIGITS = 11
"""A sequence number ends in the number of its shard (observed)."""


class ShardLimits:
    """What one shard takes and gives in a second."""

    def __init__(self, physics: Physics, now: int) -> None:
        self._physics = physics
        self._records = Bucket(physics.kinesis_write_records, 1.0, now)
        self._bytes = Bucket(physics.kinesis_write_bytes, physics.kinesis_write_burst, now)
        self._bytes.level = self._bytes.most
        self._read_bytes = Bucket(physics.kinesis_shard_read_bytes, 1.0, now)

    def admit_write(self, size: int, now: int) -> bool:
        """Whether one more record of so many bytes is let in; it is counted if it is."""
        cost = min(size * UNIT, self._bytes.most)
        if self._records.fill(now) < UNIT or self._bytes.fill(now) < cost:
            return False
        self._records.take(UNIT, now)
        self._bytes.take(cost, now)
        return True

    def admit_read(self, shard: Shard, now: int) -> bool:
        """Whether one more GetRecords is let in: of those that mappings leave, and no sooner than
        what was read before allows."""
        physics = self._physics
        rate, polls = physics.kinesis_shard_reads, shard.pollers / physics.kinesis_poll
        shard.reads = calls_left(shard.reads, rate - polls, rate, physics.kinesis_read_burst, now)
        return self._read_bytes.fill(now) > 0 and may_call(shard.reads, now)

    def note_read(self, size: int, now: int) -> None:
        """Count what was read. Whoever takes more than is left waits for all of it: 10 MB are
        followed by 5 seconds of refusals (API reference, GetRecords)."""
        left, cost = self._read_bytes.fill(now), size * UNIT
        self._read_bytes.take(cost if cost <= left else cost + max(left, 0), now)


class KinesisStream:
    """One data stream. `status` is ACTIVE or UPDATING; times in microseconds."""

    def __init__(self, region: Region, name: str, shards: int, mode: str) -> None:
        self.physics, self._scheduler = region.world.physics, region.world.scheduler
        self.name, self.mode = name, mode
        self.arn = f"arn:aws:kinesis:{region.name}:{ACCOUNT}:stream/{name}"
        self.created = self._scheduler.now
        self.record_bytes = self.physics.kinesis_record_bytes
        self.tags: dict[str, str] = {}
        self.status = "ACTIVE"
        self.deleted = False
        self.scalings: list[int] = []
        """When UpdateShardCount was called."""
        self.switches: list[int] = []
        """When the mode was changed."""
        self.log = ShardLog(microseconds(self.physics.kinesis_retention))
        self._rng = region.world.rng(f"kinesis {name} {self.created}")
        self._counter = self._rng.randrange(10**6)
        self._newest = 0
        self._born = 0
        self._open: list[Shard] = []
        self._lows: list[int] = []
        """Where the range of each open shard begins, in order, as the shards are."""
        self._limits: dict[str, ShardLimits] = {}
        for number in range(shards):
            self._begin(RING * number // shards, RING * (number + 1) // shards)

    def __str__(self) -> str:
        return f"stream {self.name} under account {ACCOUNT}"

    @property
    def retention_hours(self) -> int:
        return int(self.log.retention // microseconds(HOUR))

    def keep(self, hours: int) -> None:
        """Keep records so long from now on. What is gone already does not come back."""
        self.log.retain(microseconds(hours * HOUR), self._scheduler.now)

    # -- the lives of shards ------------------------------------------------------------------

    def open_shards(self) -> list[Shard]:
        """The shards that still grow, in the order of their ranges."""
        return list(self._open)

    def split(self, shard: Shard, point: int) -> None:
        """Close a shard; two children share its range, the second from `point` on."""
        self._end(shard)
        self._begin(shard.low, point, shard)
        self._begin(point, shard.high, shard)

    def merge(self, first: Shard, second: Shard) -> None:
        """Close two neighbours; one child has both of their ranges."""
        self._end(first)
        self._end(second)
        self._begin(first.low, second.high, first, second)

    def delete(self) -> None:
        """Nothing more comes, nobody finds the stream any more, and its records are gone for those
        who still read it, too (API reference, DeleteStream)."""
        self.deleted = True
        for shard in self.open_shards():
            self._end(shard)
        self.log.empty(self._scheduler.now)

    def _begin(self, low: int, high: int, *parents: Shard) -> None:
        number, self._born = self._born, self._born + 1
        shard = Shard(
            id=f"shardId-{number:012d}",
            parents=tuple(parent.id for parent in parents),
            started=self._scheduler.now,
            starting=self._next_sequence(number),
            low=low,
            high=high,
        )
        place = bisect_right(self._lows, low)
        self._open.insert(place, shard)
        self._lows.insert(place, low)
        self.log.add(shard)

    def _end(self, shard: Shard) -> None:
        place = self._open.index(shard)
        del self._open[place], self._lows[place]
        shard.close(self._scheduler.now, self._next_sequence(number_of(shard)))

    def _next_sequence(self, shard_number: int) -> int:
        """56 digits, as observed: they rise with time and end in the shard's number."""
        self._counter += self._rng.randrange(1, 10)
        text = f"496{self._scheduler.now:017d}{self._counter:025d}{shard_number:0{SHARD_DIGITS}d}"
        self._newest = int(text)
        return self._newest

    # -- records ------------------------------------------------------------------------------

    def put(self, data: str, size: int, key: str, position: int) -> tuple[Shard, Record]:
        """Store a record whose data is base64 text in the shard that holds `position`.

        ProvisionedThroughputExceededException if that is too much for the shard.
        """
        shard, now = self._open[bisect_right(self._lows, position) - 1], self._scheduler.now
        if not self.limits(shard).admit_write(size, now):
            raise self.exceeded(shard)
        sequence = self._next_sequence(number_of(shard))
        body = {
            "SequenceNumber": str(sequence),
            "Data": data,
            "PartitionKey": key,
            "ApproximateArrivalTimestamp": now // 1000 / 1000,
        }
        record = Record(sequence, now, size, key, body)
        shard.append(record)
        return shard, record

    def has_given(self, sequence: int) -> bool:
        """Whether a sequence number may have been given out already."""
        return sequence <= self._newest

    def limits(self, shard: Shard) -> ShardLimits:
        if shard.id not in self._limits:
            self._limits[shard.id] = ShardLimits(self.physics, shard.started)
        return self._limits[shard.id]

    def exceeded(self, shard: Shard) -> ApiError:
        """AWS's error for too much (API reference, PutRecords)."""
        return ApiError(
            "ProvisionedThroughputExceededException",
            f"Rate exceeded for shard {shard.id} in {self}.",
        )


def number_of(shard: Shard) -> int:
    return int(shard.id[-12:])
