"""DynamoDB Streams: what a table's partitions write, kept in shards for a day.

Each partition writes to exactly one open shard. A shard closes when it is some hours old, when it
is full, when its partition splits and when the stream is disabled; the shard that follows names it
as its parent.

Codes and words of errors are AWS's, from the API reference and from what was recorded or reported;
where only the code is known (Invalid StreamArn, SequenceNumber, Timestamp, ShardIterator and
ShardFilter) the words are ours.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

from lab_utils.emulator.backing import Change
from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.partitions import Partition
from lab_utils.emulator.physics import MICROSECONDS, between, microseconds
from lab_utils.emulator.shards import Record, Shard, ShardLog
from lab_utils.emulator.sizes import item_size
from lab_utils.emulator.throughput import Bucket, calls, calls_left, may_call
from lab_utils.emulator.wire import timestamp

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region

Item = dict[str, Any]
Params = dict[str, Any]

SEQUENCE_TAIL = 10**20
"""Observed numbers are a small counter followed by 20 digits."""
STREAM_ARN = re.compile(
    r"arn:aws[a-z-]*:dynamodb:[a-z0-9-]+:\d{12}:table/[A-Za-z0-9_.-]+/stream/[^/|]+"
)
NO_LAG = (0, 0, 0)
BIRTH, END, READING = 0, 1, 2
"""What of a shard is late for others, in the order of `Shard.lag`."""


def stream_label(now: int) -> str:
    """A stream's label: the moment it was enabled, to the millisecond."""
    moment = datetime.fromtimestamp(now / MICROSECONDS, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


class TableStream:
    """One stream of one table, from the moment it is enabled until its last record is gone."""

    def __init__(
        self,
        region: Region,
        table: str,
        table_arn: str,
        label: str,
        key_schema: list[Params],
        view_type: str,
        partitions: Iterable[Partition],
    ) -> None:
        world = region.world
        self._region, self._physics, self._scheduler = region, world.physics, world.scheduler
        self.table, self.key_schema, self.view_type = table, key_schema, view_type
        self.created = self._scheduler.now
        self.label = label
        self.arn = f"{table_arn}/stream/{label}"
        self.disabled: int | None = None
        self.log = ShardLog(microseconds(self._physics.retention + self._physics.trim_lag))
        physics = self._physics
        self.describes = calls(physics.describe_rate, physics.call_burst, self.created)
        self._rng: random.Random = world.rng(f"stream {self.arn}")
        self._lags: random.Random = world.rng(f"listing {self.arn}")
        self._counter, self._tail = self._rng.randrange(100, 950), self._rng.randrange(10**6)
        self._keys = [each["AttributeName"] for each in key_schema]
        self._shard_of: dict[int, Shard] = {}
        for partition in partitions:
            self._begin(partition)

    @property
    def enabled(self) -> bool:
        return self.disabled is None

    def shard_of(self, partition: Partition) -> Shard:
        """The one shard that a partition writes to now."""
        return self._shard_of[partition.id]

    # -- writing -----------------------------------------------------------------------------

    def append(
        self,
        partition: Partition,
        change: Change,
        old_size: int,
        new_size: int,
        by: Params | None = None,
    ) -> None:
        """Note that an item changed; a write that changes nothing leaves no record.

        `by` is the record's userIdentity: who changed it, where that was DynamoDB itself.
        """
        old, new = change.old, change.new
        if same_item(old, new):
            return
        item = new if new is not None else old or {}
        keys = {name: item[name] for name in self._keys}
        sequence = self._next_sequence()
        images = self._images(old, new)
        size = (
            item_size(keys) + ("OldImage" in images) * old_size + ("NewImage" in images) * new_size
        )
        now = self._scheduler.now
        body: Params = {
            "eventID": hashlib.md5(
                f"{self.arn}{sequence}".encode(), usedforsecurity=False
            ).hexdigest(),
            "eventName": event_name(old, new),
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": self._region.name,
            "dynamodb": {
                "ApproximateCreationDateTime": float(now // MICROSECONDS),
                "Keys": keys,
                **images,
                "SequenceNumber": str(sequence),
                "SizeBytes": size,
                "StreamViewType": self.view_type,
            },
        }
        if by is not None:
            body["userIdentity"] = by
        key = "".join(str(keys[name]) for name in self._keys)
        shard = self._shard_of[partition.id]
        shard.append(Record(sequence, now, size, key, body))
        self._roll_over_if_full(partition, shard)

    def weigh(self, partition: Partition, size: int) -> None:
        """Let a partition's shard grow by so many bytes of records that nobody will read."""
        shard = self._shard_of[partition.id]
        shard.bytes += size
        self._roll_over_if_full(partition, shard)

    def _images(self, old: Item | None, new: Item | None) -> dict[str, Item]:
        images = {}
        if new is not None and self.view_type in ("NEW_IMAGE", "NEW_AND_OLD_IMAGES"):
            images["NewImage"] = new
        if old is not None and self.view_type in ("OLD_IMAGE", "NEW_AND_OLD_IMAGES"):
            images["OldImage"] = old
        return images

    def _next_sequence(self) -> int:
        self._tail += self._rng.randrange(1, 10)
        step = microseconds(self._physics.sequence_step)
        counter = self._counter + (self._scheduler.now - self.created) // step
        return counter * SEQUENCE_TAIL + self._tail

    # -- the lives of shards -----------------------------------------------------------------

    def _begin(self, partition: Partition, *parents: Shard) -> None:
        now = self._scheduler.now
        shard = Shard(
            id=self._new_id(now),
            parents=tuple(parent.id for parent in parents),
            started=now,
            starting=self._next_sequence(),
            low=partition.low,
            high=partition.high,
            lag=self._lag(),
        )
        self._shard_of[partition.id] = shard
        self.log.add(shard)
        life = between(self._rng, self._physics.rollover)
        self._scheduler.after(life, lambda: self._roll_over(partition, shard))

    def _new_id(self, now: int) -> str:
        while True:
            found = f"shardId-{now // 1000:020d}-{self._rng.getrandbits(32):08x}"
            if found not in self.log:
                return found

    def _lag(self) -> tuple[int, int, int]:
        """How late a shard's birth and end are listed, and iterators for it are handed out."""
        bounds = self._physics.listing_lag
        if not bounds[1]:
            return NO_LAG
        return between(self._lags, bounds), between(self._lags, bounds), between(self._lags, bounds)

    def _roll_over(self, partition: Partition, shard: Shard) -> None:
        if shard.open:
            shard.close(self._scheduler.now)
            self._begin(partition, shard)
            self.log.trim(self._scheduler.now)

    def _roll_over_if_full(self, partition: Partition, shard: Shard) -> None:
        if shard.bytes >= self._physics.shard_bytes:
            self._roll_over(partition, shard)

    def split(self, partition: Partition, parts: Iterable[Partition]) -> None:
        """A partition split: its open shard closes, and each part begins a child of it."""
        parent = self._shard_of.pop(partition.id)
        parent.close(self._scheduler.now)
        for part in parts:
            self._begin(part, parent)

    def disable(self) -> None:
        """Close every shard; what was written stays readable until its day is over."""
        self.disabled = self._scheduler.now
        for shard in self.log.open_shards():
            shard.close(self.disabled)
        self._shard_of.clear()


def event_name(old: Item | None, new: Item | None) -> str:
    return "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"


def same_item(old: Item | None, new: Item | None) -> bool:
    """Whether a write changed nothing; the members of a set have no order, and 1.0 is 1.

    DynamoDB stores a number in one form only. So does MiniStack, but for those of PartiQL.
    """
    return old == new or (old is not None and new is not None and _same({"M": old}, {"M": new}))


def _same(old: Item, new: Item) -> bool:
    ((kind, before),) = old.items()
    ((new_kind, after),) = new.items()
    if kind != new_kind or kind not in ("N", "M", "L", "SS", "NS", "BS"):
        return old == new
    if kind == "N":
        return Decimal(before) == Decimal(after)
    if kind == "M":
        return before.keys() == after.keys() and all(
            _same(before[name], after[name]) for name in before
        )
    if kind == "L":
        return len(before) == len(after) and all(map(_same, before, after))
    if kind == "NS":
        return {Decimal(each) for each in before} == {Decimal(each) for each in after}
    return set(before) == set(after)


@dataclass(frozen=True)
class ShardIterator:
    """What a shard iterator says: which shard, from which position, and when it was handed out.

    Records that are older than `blind` are passed over (LATEST, with `Physics.latest_lag`).
    """

    arn: str
    shard: str
    position: int
    issued: int
    blind: int = 0

    def encode(self) -> str:
        inner = f"{self.shard}|{self.position}|{self.issued}|{self.blind}"
        text = f"{inner}|{_seal(self.arn, inner)}"
        return f"{self.arn}|1|{base64.b64encode(text.encode()).decode()}"

    @classmethod
    def decode(cls, text: str) -> ShardIterator:
        try:
            arn, _, hidden = text.strip('"').split("|", 2)
            inner, _, seal = base64.b64decode(hidden, validate=True).decode().rpartition("|")
            shard, position, issued, blind = inner.split("|")
            if seal != _seal(arn, inner):
                raise ValueError
            return cls(arn, shard, int(position), int(issued), int(blind))
        except (ValueError, binascii.Error):
            raise _invalid("ShardIterator") from None


def _seal(arn: str, inner: str) -> str:
    """Ties an iterator to its stream: pieces of two iterators make none."""
    return hashlib.md5(f"{arn}|{inner}".encode(), usedforsecurity=False).hexdigest()[:8]


class DynamoDBStreams:
    """The four calls of the DynamoDB Streams API."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._physics, self._scheduler = region.world.physics, region.world.scheduler
        self._streams: dict[str, TableStream] = {}
        physics = self._physics
        self._lists = calls(physics.list_rate, physics.call_burst, self._scheduler.now)

    # -- for the table ----------------------------------------------------------------------

    def enable(
        self,
        table: str,
        table_arn: str,
        key_schema: list[Params],
        view_type: str,
        partitions: Iterable[Partition],
    ) -> TableStream:
        """A new stream for a table, with a label that no stream of the table had before."""
        label = stream_label(self._scheduler.now)
        while f"{table_arn}/stream/{label}" in self._streams:
            later = datetime.fromisoformat(f"{label}+00:00").timestamp() * MICROSECONDS + 1000
            label = stream_label(round(later))
        stream = TableStream(
            self._region, table, table_arn, label, key_schema, view_type, partitions
        )
        self._streams[stream.arn] = stream
        return stream

    def find(self, arn: str) -> TableStream | None:
        """A stream that still has something to say, trimmed to the present moment."""
        stream = self._streams.get(arn)
        if stream is None:
            return None
        stream.log.trim(self._scheduler.now)
        if stream.disabled is not None and not len(stream.log):
            del self._streams[arn]
            return None
        return stream

    # -- the API ----------------------------------------------------------------------------

    def list_streams(self, params: Params) -> Params:
        limit = _limit(params, self._physics.shards_per_page)
        wanted, after = params.get("TableName"), params.get("ExclusiveStartStreamArn", "")
        if after and not STREAM_ARN.fullmatch(after):
            raise _invalid("ExclusiveStartStreamArn")
        self._admit(self._lists)
        found = [
            stream
            for arn in sorted(self._streams)
            if arn > after and (stream := self.find(arn)) and wanted in (None, stream.table)
        ]
        page = found[:limit]
        result: Params = {
            "Streams": [
                {"StreamArn": each.arn, "TableName": each.table, "StreamLabel": each.label}
                for each in page
            ]
        }
        if len(found) > limit:
            result["LastEvaluatedStreamArn"] = page[-1].arn
        return result

    def describe_stream(self, params: Params) -> Params:
        limit = _limit(params, self._physics.shards_per_page)
        stream, now = self._stream(params["StreamArn"]), self._scheduler.now
        after, only = params.get("ExclusiveStartShardId", ""), params.get("ShardFilter")
        shards = stream.log.after(after) if only is None else _children(stream, only, after)
        listed = (shard for shard in shards if shard.started + shard.lag[BIRTH] <= now)
        self._admit(stream.describes)
        page = list(islice(listed, limit + 1))
        description: Params = {
            "StreamArn": stream.arn,
            "StreamLabel": stream.label,
            "StreamStatus": "ENABLED" if stream.enabled else "DISABLED",
            "StreamViewType": stream.view_type,
            "CreationRequestDateTime": stream.created // 1000 / 1000,
            "TableName": stream.table,
            "KeySchema": stream.key_schema,
            "Shards": [_described(shard, now) for shard in page[:limit]],
        }
        if len(page) > limit:
            description["LastEvaluatedShardId"] = page[limit - 1].id
        return {"StreamDescription": description}

    def get_shard_iterator(self, params: Params) -> Params:
        stream, now = self._stream(params["StreamArn"]), self._scheduler.now
        shard = self._shard(stream, params["ShardId"])
        if shard.started + shard.lag[READING] > now:
            raise _no_shard(stream, shard.id)
        kind = params["ShardIteratorType"]
        position = self._start(shard, kind, params.get("SequenceNumber"), params.get("Timestamp"))
        lag = microseconds(self._physics.latest_lag)
        blind = now + lag if kind == "LATEST" and lag else 0
        return {"ShardIterator": ShardIterator(stream.arn, shard.id, position, now, blind).encode()}

    def get_records(self, params: Params) -> Params:
        limit = _limit(params, self._physics.stream_read_records)
        iterator, now = ShardIterator.decode(params["ShardIterator"]), self._scheduler.now
        stream = self._stream(iterator.arn)
        if now - iterator.issued > microseconds(self._physics.stream_iterator_life):
            raise ApiError(
                "ExpiredIteratorException", "The provided iterator exceeds the maximum age allowed."
            )
        shard = self._shard(stream, iterator.shard)
        self._admit_reader(shard)
        if iterator.position < shard.trimmed:
            raise _trimmed()
        position, blind = iterator.position, iterator.blind
        if blind:
            position = max(position, shard.position_at(min(blind, now)))
            blind = blind if blind > now else 0
        records = shard.read(position, limit, self._physics.stream_read_bytes)
        result: Params = {"Records": [record.body for record in records]}
        position += len(records)
        if shard.open or position < shard.end:
            result["NextShardIterator"] = ShardIterator(
                stream.arn, shard.id, position, now, blind
            ).encode()
        return result

    # -- looking up and letting in ----------------------------------------------------------

    def _stream(self, arn: str) -> TableStream:
        if not STREAM_ARN.fullmatch(arn):
            raise _invalid("StreamArn")
        stream = self.find(arn)
        if stream is None:
            raise ApiError(
                "ResourceNotFoundException",
                f"Requested resource not found: Stream: {arn} not found",
            )
        return stream

    def _shard(self, stream: TableStream, shard_id: str) -> Shard:
        shard = stream.log.get(shard_id)
        if shard is None:
            raise _no_shard(stream, shard_id)
        return shard

    def _admit(self, bucket: Bucket) -> None:
        if not may_call(bucket, self._scheduler.now):
            raise ApiError("ThrottlingException", "Rate exceeded")

    def _admit_reader(self, shard: Shard) -> None:
        """AWS lets two processes read a shard at a time; here it is calls that are counted.

        Mappings poll at their pace whether there is anything or not; others get what they leave,
        and one call a second at the least (assumed).
        """
        physics, now = self._physics, self._scheduler.now
        rate, polls = physics.shard_read_rate, shard.pollers / physics.dynamodb_poll
        shard.reads = calls_left(shard.reads, rate - polls, rate, physics.shard_read_burst, now)
        if not may_call(shard.reads, now):
            raise ApiError("LimitExceededException", "Too many operations for a given subscriber.")

    def _start(self, shard: Shard, kind: str, number: str | None, moment: Any) -> int:
        """The position at which an iterator of some type begins."""
        numbered = kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER")
        for name, value, belongs in (
            ("SequenceNumber", number, numbered),
            ("Timestamp", moment, kind == "AT_TIMESTAMP"),
        ):
            if value is not None and not belongs:
                raise ApiError("ValidationException", f"{name} must not be given with {kind}")
        if kind == "TRIM_HORIZON":
            return shard.trimmed
        if kind == "LATEST":
            return shard.end
        if kind == "AT_TIMESTAMP":
            return shard.position_at(self._moment(moment))
        if not number or not (number.isascii() and number.isdecimal()):
            raise _invalid("SequenceNumber")
        sequence = int(number)
        if sequence < shard.starting or (shard.ending is not None and sequence > shard.ending):
            raise _invalid("SequenceNumber")
        first_wanted = sequence + (kind == "AFTER_SEQUENCE_NUMBER")
        if first_wanted <= shard.lost:
            raise _trimmed()
        return shard.position_of(first_wanted)

    def _moment(self, seconds: Any) -> int:
        """The Timestamp of an iterator in microseconds; one in the future is refused."""
        if seconds is None:
            raise _invalid("Timestamp")
        moment = timestamp(seconds)
        if not math.isfinite(moment) or microseconds(moment) > self._scheduler.now:
            raise _invalid("Timestamp")
        return microseconds(moment)


def _limit(params: Params, most: int) -> int:
    """How many are asked for; more than a page holds is refused (observed), not cut."""
    limit: int = params.get("Limit", most)
    if limit > most:
        raise ApiError(
            "ValidationException",
            f"1 validation error detected: Value '{limit}' at "
            "'limit' failed to satisfy constraint: Member must have value less than "
            f"or equal to {most}",
        )
    return limit


def _children(stream: TableStream, only: Params, after: str) -> list[Shard]:
    """ShardFilter CHILD_SHARDS: the children of one shard only (API reference, since July 2025).

    What AWS answers for a shard that is no more is not known; here it has no children.
    """
    if only.get("Type") != "CHILD_SHARDS" or not only.get("ShardId"):
        raise ApiError("ValidationException", "ShardFilter needs Type CHILD_SHARDS and a ShardId")
    children = (each for each in stream.log.children(only["ShardId"]) if each.id > after)
    return sorted(children, key=lambda shard: shard.id)


def _described(shard: Shard, now: int) -> Params:
    numbers = {"StartingSequenceNumber": str(shard.starting)}
    if shard.ended is not None and shard.ended + shard.lag[END] <= now:
        numbers["EndingSequenceNumber"] = str(shard.ending)
    described: Params = {"ShardId": shard.id, "SequenceNumberRange": numbers}
    if shard.parents:
        described["ParentShardId"] = shard.parents[0]
    return described


def _invalid(member: str) -> ApiError:
    return ApiError("ValidationException", f"Invalid {member}")


def _no_shard(stream: TableStream, shard_id: str) -> ApiError:
    return ApiError(
        "ResourceNotFoundException",
        f"Requested resource not found: Shard: {shard_id} in Stream: {stream.arn} not found",
    )


def _trimmed() -> ApiError:
    return ApiError(
        "TrimmedDataAccessException",
        "The operation attempted to read past the oldest stream record in a shard.",
    )
