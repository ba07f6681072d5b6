"""DynamoDB Streams: what a table's partitions write, kept in shards for a day.

Each partition writes to exactly one open shard. A shard closes when it is some hours old, when its
partition splits and when the stream is disabled; the shard that follows names it as its parent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lab_utils.emulator.backing import Change
from lab_utils.emulator.errors import ApiError, not_modelled
from lab_utils.emulator.partitions import Partition
from lab_utils.emulator.physics import MICROSECONDS, between, microseconds
from lab_utils.emulator.shards import Record, Shard, ShardLog
from lab_utils.emulator.sizes import item_size

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region

Item = dict[str, Any]
Params = dict[str, Any]

SEQUENCE_TAIL = 10**20
"""Observed numbers are a small counter followed by 20 digits."""


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
        key_schema: list[Params],
        view_type: str,
        partitions: Iterable[Partition],
    ) -> None:
        world = region.world
        self._region, self._physics, self._scheduler = region, world.physics, world.scheduler
        self.table, self.key_schema, self.view_type = table, key_schema, view_type
        self.created = self._scheduler.now
        self.label = stream_label(self.created)
        self.arn = f"{table_arn}/stream/{self.label}"
        self.disabled: int | None = None
        self.log = ShardLog(microseconds(self._physics.retention))
        self._rng: random.Random = world.rng(f"stream {self.arn}")
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

    def append(self, partition: Partition, change: Change, old_size: int, new_size: int) -> None:
        """Note that an item changed; a write that changes nothing leaves no record."""
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
        body = {
            "eventID": hashlib.md5(
                f"{self.arn}{sequence}".encode(), usedforsecurity=False
            ).hexdigest(),
            "eventName": "INSERT" if old is None else "REMOVE" if new is None else "MODIFY",
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
        key = "".join(str(keys[name]) for name in self._keys)
        self._shard_of[partition.id].append(Record(sequence, now, size, key, body))

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
            id=f"shardId-{now // 1000:020d}-{self._rng.getrandbits(32):08x}",
            parents=tuple(parent.id for parent in parents),
            started=now,
            starting=self._next_sequence(),
            low=partition.low,
            high=partition.high,
        )
        self._shard_of[partition.id] = shard
        self.log.add(shard)
        life = between(self._rng, self._physics.rollover)
        self._scheduler.after(life, lambda: self._roll_over(partition, shard))

    def _roll_over(self, partition: Partition, shard: Shard) -> None:
        if shard.open:
            shard.close(self._scheduler.now)
            self._begin(partition, shard)
            self.log.trim(self._scheduler.now)

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


def same_item(old: Item | None, new: Item | None) -> bool:
    """Whether a write changed nothing; the members of a set have no order."""
    return old == new or (old is not None and new is not None and _same({"M": old}, {"M": new}))


def _same(old: Item, new: Item) -> bool:
    ((kind, before),) = old.items()
    ((new_kind, after),) = new.items()
    if kind != new_kind or kind not in ("M", "L", "SS", "NS", "BS"):
        return old == new
    if kind == "M":
        return before.keys() == after.keys() and all(
            _same(before[name], after[name]) for name in before
        )
    if kind == "L":
        return len(before) == len(after) and all(map(_same, before, after))
    return set(before) == set(after)


@dataclass(frozen=True)
class ShardIterator:
    """What a shard iterator says: which shard, from which position, and when it was handed out."""

    arn: str
    shard: str
    position: int
    issued: int

    def encode(self) -> str:
        inner = f"{self.shard}|{self.position}|{self.issued}"
        return f"{self.arn}|1|{base64.b64encode(inner.encode()).decode()}"

    @classmethod
    def decode(cls, text: str) -> ShardIterator:
        try:
            arn, _, inner = text.strip('"').split("|", 2)
            shard, position, issued = base64.b64decode(inner, validate=True).decode().split("|")
            return cls(arn, shard, int(position), int(issued))
        except (ValueError, binascii.Error):
            raise ApiError("ValidationException", "Invalid ShardIterator") from None


class DynamoDBStreams:
    """The four calls of the DynamoDB Streams API."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._physics, self._scheduler = region.world.physics, region.world.scheduler
        self._streams: dict[str, TableStream] = {}

    # -- for the table ----------------------------------------------------------------------

    def enable(
        self,
        table: str,
        table_arn: str,
        key_schema: list[Params],
        view_type: str,
        partitions: Iterable[Partition],
    ) -> TableStream:
        stream = TableStream(self._region, table, table_arn, key_schema, view_type, partitions)
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
        wanted, after = params.get("TableName"), params.get("ExclusiveStartStreamArn", "")
        limit = _limit(params, self._physics.shards_per_page)
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
        stream = self._stream(params["StreamArn"])
        shards = sorted(stream.log, key=lambda shard: shard.id)
        shards = _filtered(stream, shards, params.get("ShardFilter"))
        after = params.get("ExclusiveStartShardId", "")
        shards = [shard for shard in shards if shard.id > after]
        limit = _limit(params, self._physics.shards_per_page)
        description: Params = {
            "StreamArn": stream.arn,
            "StreamLabel": stream.label,
            "StreamStatus": "ENABLED" if stream.enabled else "DISABLED",
            "StreamViewType": stream.view_type,
            "CreationRequestDateTime": stream.created // 1000 / 1000,
            "TableName": stream.table,
            "KeySchema": stream.key_schema,
            "Shards": [_described(shard) for shard in shards[:limit]],
        }
        if len(shards) > limit:
            description["LastEvaluatedShardId"] = shards[limit - 1].id
        return {"StreamDescription": description}

    def get_shard_iterator(self, params: Params) -> Params:
        stream = self._stream(params["StreamArn"])
        shard = self._shard(stream, params["ShardId"])
        position = self._start(shard, params["ShardIteratorType"], params.get("SequenceNumber"))
        return {
            "ShardIterator": ShardIterator(
                stream.arn, shard.id, position, self._scheduler.now
            ).encode()
        }

    def get_records(self, params: Params) -> Params:
        iterator = ShardIterator.decode(params["ShardIterator"])
        stream = self._stream(iterator.arn)
        if self._scheduler.now - iterator.issued > microseconds(self._physics.stream_iterator_life):
            raise ApiError(
                "ExpiredIteratorException", "The provided iterator exceeds the maximum age allowed."
            )
        shard = self._shard(stream, iterator.shard)
        if iterator.position < shard.trimmed:
            raise _trimmed()
        limit = _limit(params, self._physics.stream_read_records)
        records = shard.read(iterator.position, limit, self._physics.stream_read_bytes)
        result: Params = {"Records": [record.body for record in records]}
        position = iterator.position + len(records)
        if shard.open or position < shard.end:
            result["NextShardIterator"] = ShardIterator(
                stream.arn, shard.id, position, self._scheduler.now
            ).encode()
        return result

    def _stream(self, arn: str) -> TableStream:
        if "/stream/" not in arn or not arn.startswith("arn:"):
            raise ApiError("ValidationException", "Invalid StreamArn")
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
            raise ApiError(
                "ResourceNotFoundException",
                f"Requested resource not found: Shard: {shard_id} in Stream: "
                f"{stream.arn} not found",
            )
        return shard

    def _start(self, shard: Shard, kind: str, number: str | None) -> int:
        if kind == "TRIM_HORIZON" or kind == "LATEST":
            if number is not None:
                raise ApiError(
                    "ValidationException", f"SequenceNumber must not be given with {kind}"
                )
            return shard.trimmed if kind == "TRIM_HORIZON" else shard.end
        if kind == "AT_TIMESTAMP":
            raise not_modelled("The iterator type AT_TIMESTAMP", "DynamoDB Streams")
        if not number or not number.isdecimal():
            raise ApiError("ValidationException", "Invalid SequenceNumber")
        sequence = int(number)
        if sequence < shard.starting or (shard.ending is not None and sequence > shard.ending):
            raise ApiError("ValidationException", "Invalid SequenceNumber")
        first_wanted = sequence + (kind == "AFTER_SEQUENCE_NUMBER")
        if first_wanted <= shard.lost:
            raise _trimmed()
        return shard.position_of(first_wanted)


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


def _filtered(stream: TableStream, shards: list[Shard], only: Params | None) -> list[Shard]:
    """ShardFilter CHILD_SHARDS: the children of one shard only (API reference, since July 2025)."""
    if only is None:
        return shards
    if only.get("Type") != "CHILD_SHARDS" or not only.get("ShardId"):
        raise ApiError("ValidationException", "ShardFilter needs Type CHILD_SHARDS and a ShardId")
    return sorted(stream.log.children(only["ShardId"]), key=lambda shard: shard.id)


def _described(shard: Shard) -> Params:
    numbers = {"StartingSequenceNumber": str(shard.starting)}
    if shard.ending is not None:
        numbers["EndingSequenceNumber"] = str(shard.ending)
    described: Params = {"ShardId": shard.id, "SequenceNumberRange": numbers}
    if shard.parents:
        described["ParentShardId"] = shard.parents[0]
    return described


def _trimmed() -> ApiError:
    return ApiError(
        "TrimmedDataAccessException",
        "The operation attempted to read past the oldest stream record in a shard.",
    )
