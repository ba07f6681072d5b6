"""Kinesis Data Streams: shards that the user counts, placed by the MD5 of a partition key.

The same `ShardLog` as under DynamoDB Streams, with other rules: no shard rolls over by itself.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab_utils.emulator.backing import ACCOUNT
from lab_utils.emulator.errors import ApiError, not_modelled, refuse
from lab_utils.emulator.partitions import RING, key_hash
from lab_utils.emulator.physics import MICROSECONDS, microseconds
from lab_utils.emulator.shards import Record, Shard, ShardLog
from lab_utils.emulator.wire import decode_blob

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region

Params = dict[str, Any]


class KinesisStream:
    """One data stream and its shards; together their ranges tile the ring of hashes."""

    def __init__(self, region: Region, name: str, shards: int) -> None:
        physics = region.world.physics
        self._scheduler = region.world.scheduler
        self.name = name
        self.arn = f"arn:aws:kinesis:{region.name}:{ACCOUNT}:stream/{name}"
        self.created = self._scheduler.now
        self.retention = physics.kinesis_retention
        self.log = ShardLog(microseconds(self.retention))
        self._rng = region.world.rng(f"kinesis {name} {self.created}")
        self._counter = self._rng.randrange(10**6)
        self._open: list[Shard] = []
        for number in range(shards):
            self._begin(number, RING * number // shards, RING * (number + 1) // shards)

    def _begin(self, number: int, low: int, high: int) -> None:
        shard = Shard(
            id=f"shardId-{number:012d}",
            parents=(),
            started=self._scheduler.now,
            starting=self._next_sequence(number),
            low=low,
            high=high,
        )
        self.log.add(shard)
        self._open.append(shard)

    def _next_sequence(self, shard_number: int) -> int:
        """56 digits, as observed: they rise with time and end in the shard's number."""
        self._counter += self._rng.randrange(1, 10)
        return int(f"496{self._scheduler.now:017d}{self._counter:025d}{shard_number:011d}")

    def shard_for(self, position: int) -> Shard:
        """The open shard whose range holds a hash."""
        for shard in self._open:
            if shard.low <= position < shard.high:
                return shard
        raise ValueError(f"{position} lies outside of the ring of hashes")

    def append(self, data: str, key: str, position: int) -> tuple[Shard, Record]:
        """Store a record whose data is base64 text; its place is decided by `position`."""
        shard = self.shard_for(position)
        now = self._scheduler.now
        sequence = self._next_sequence(int(shard.id[-12:]))
        body = {
            "SequenceNumber": str(sequence),
            "Data": data,
            "PartitionKey": key,
            "ApproximateArrivalTimestamp": now // 1000 / 1000,
        }
        record = Record(sequence, now, len(data) * 3 // 4 + len(key), key, body)
        shard.append(record)
        return shard, record


@dataclass(frozen=True)
class KinesisIterator:
    """What a shard iterator says; Kinesis hands out text that nobody can read.

    `created` tells a stream from a later one of its name, whose iterator this is not.
    """

    arn: str
    created: int
    shard: str
    position: int
    issued: int

    def encode(self) -> str:
        members = self.arn, self.created, self.shard, self.position, self.issued
        return base64.b64encode("|".join(map(str, members)).encode()).decode()

    @classmethod
    def decode(cls, text: str) -> KinesisIterator:
        try:
            inner = base64.b64decode(text.strip('"'), validate=True).decode()
            arn, created, shard, position, issued = inner.split("|")
            return cls(arn, int(created), shard, int(position), int(issued))
        except (ValueError, binascii.Error):
            raise _invalid_iterator() from None


class Kinesis:
    """The calls of the Kinesis API that are modelled."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._physics, self._scheduler = region.world.physics, region.world.scheduler
        self._streams: dict[str, KinesisStream] = {}

    def find(self, arn: str) -> KinesisStream | None:
        stream = self._streams.get(arn.rpartition("/")[2])
        return stream if stream is not None and stream.arn == arn else None

    # -- streams ------------------------------------------------------------------------------

    def create_stream(self, params: Params) -> Params:
        name = params["StreamName"]
        refuse(
            params,
            "a stream",
            "Tags",
            "WarmThroughputMiBps",
            "MaxRecordSizeInKiB",
            "RecordDistributionStrategy",
            service="Kinesis",
        )
        mode = params.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
        if mode != "PROVISIONED" or "ShardCount" not in params:
            raise not_modelled(
                "On-demand capacity of a Kinesis stream: give a ShardCount; it", "Kinesis"
            )
        if name in self._streams:
            raise ApiError(
                "ResourceInUseException", f"Stream {name} under account {ACCOUNT} already exists."
            )
        self._streams[name] = KinesisStream(self._region, name, params["ShardCount"])
        return {}

    def delete_stream(self, params: Params) -> Params:
        stream = self._stream(params)
        for shard in stream.log.open_shards():
            shard.close(self._scheduler.now)
        del self._streams[stream.name]
        return {}

    def list_streams(self, params: Params) -> Params:
        after = (
            _token(params["NextToken"])[2]
            if "NextToken" in params
            else params.get("ExclusiveStartStreamName", "")
        )
        names = sorted(name for name in self._streams if name > after)
        page = names[: params.get("Limit", 100)]
        result: Params = {
            "StreamNames": page,
            "HasMoreStreams": len(page) < len(names),
            "StreamSummaries": [self._summary(self._streams[name]) for name in page],
        }
        if len(page) < len(names):
            result["NextToken"] = _next_token("", page[-1])
        return result

    def _summary(self, stream: KinesisStream) -> Params:
        return {
            "StreamName": stream.name,
            "StreamARN": stream.arn,
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": "PROVISIONED"},
            "StreamCreationTimestamp": stream.created // MICROSECONDS,
        }

    def describe_stream(self, params: Params) -> Params:
        stream = self._stream(params)
        after = params.get("ExclusiveStartShardId", "")
        shards = [shard for shard in stream.log if shard.id > after]
        page = shards[: params.get("Limit", 100)]
        return {
            "StreamDescription": self._summary(stream)
            | {
                "Shards": [_described(shard) for shard in page],
                "HasMoreShards": len(page) < len(shards),
                **self._settings(stream),
            }
        }

    def describe_stream_summary(self, params: Params) -> Params:
        stream = self._stream(params)
        return {
            "StreamDescriptionSummary": self._summary(stream)
            | {
                "OpenShardCount": len(stream.log.open_shards()),
                "ConsumerCount": 0,
                **self._settings(stream),
            }
        }

    def _settings(self, stream: KinesisStream) -> Params:
        return {
            "RetentionPeriodHours": int(stream.retention // 3600),
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
        }

    def list_shards(self, params: Params) -> Params:
        refuse(params, "a stream", "ShardFilter", "StreamCreationTimestamp", service="Kinesis")
        if "NextToken" in params:
            name, _, after = _token(params["NextToken"])
            stream = self._stream({"StreamName": name})
        else:
            stream, after = self._stream(params), params.get("ExclusiveStartShardId", "")
        shards = [shard for shard in stream.log if shard.id > after]
        page = shards[: params.get("MaxResults", 1000)]
        result: Params = {"Shards": [_described(shard) for shard in page]}
        if len(page) < len(shards):
            result["NextToken"] = _next_token(stream.name, page[-1].id)
        return result

    # -- records --------------------------------------------------------------------------------

    def put_record(self, params: Params) -> Params:
        stream = self._stream(params)
        self._check_size(params)
        shard, record = self._append(stream, params)
        return {"ShardId": shard.id, "SequenceNumber": str(record.sequence)}

    def put_records(self, params: Params) -> Params:
        stream = self._stream(params)
        total = sum(self._check_size(each) for each in params["Records"])
        if total > self._physics.kinesis_put_bytes:
            raise ApiError(
                "InvalidArgumentException",
                f"Records size exceeds {self._physics.kinesis_put_bytes} bytes",
            )
        stored = [self._append(stream, each) for each in params["Records"]]
        return {
            "FailedRecordCount": 0,
            "Records": [
                {"ShardId": shard.id, "SequenceNumber": str(record.sequence)}
                for shard, record in stored
            ],
        }

    def _append(self, stream: KinesisStream, entry: Params) -> tuple[Shard, Record]:
        explicit = entry.get("ExplicitHashKey")
        position = int(explicit) if explicit else key_hash(entry["PartitionKey"])
        if position >= RING:
            raise ApiError(
                "InvalidArgumentException",
                f"ExplicitHashKey {explicit} is not in the "
                "valid range: [0, 340282366920938463463374607431768211455].",
            )
        return stream.append(entry["Data"], entry["PartitionKey"], position)

    def _check_size(self, entry: Params) -> int:
        size = len(decode_blob(entry["Data"])) + len(entry["PartitionKey"].encode())
        if size > self._physics.kinesis_record_bytes:
            raise ApiError(
                "InvalidArgumentException",
                f"Record data and partition key exceed {self._physics.kinesis_record_bytes} bytes",
            )
        return size

    def get_shard_iterator(self, params: Params) -> Params:
        stream = self._stream(params)
        shard = self._shard(stream, params["ShardId"])
        kind = params["ShardIteratorType"]
        if kind == "AT_TIMESTAMP":
            raise not_modelled("The iterator type AT_TIMESTAMP", "Kinesis")
        if kind in ("TRIM_HORIZON", "LATEST"):
            position = shard.trimmed if kind == "TRIM_HORIZON" else shard.end
        else:
            number = params.get("StartingSequenceNumber", "")
            if not number.isdecimal() or int(number) < shard.starting:
                raise ApiError(
                    "InvalidArgumentException",
                    f"StartingSequenceNumber {number} used "
                    f"in GetShardIterator on shard {shard.id} in stream {stream.name} "
                    f"under account {ACCOUNT} is invalid.",
                )
            position = shard.position_of(int(number) + (kind == "AFTER_SEQUENCE_NUMBER"))
        return {
            "ShardIterator": KinesisIterator(
                stream.arn, stream.created, shard.id, position, self._scheduler.now
            ).encode()
        }

    def get_records(self, params: Params) -> Params:
        iterator = KinesisIterator.decode(params["ShardIterator"])
        stream = self._stream(params | {"StreamARN": iterator.arn})
        if iterator.created != stream.created:
            raise _invalid_iterator()
        now = self._scheduler.now
        if now - iterator.issued > microseconds(self._physics.kinesis_iterator_life):
            raise ApiError(
                "ExpiredIteratorException",
                "Iterator expired. The iterator was created "
                f"more than {self._physics.kinesis_iterator_life:.0f} seconds ago.",
            )
        shard = self._shard(stream, iterator.shard)
        position = max(iterator.position, shard.trimmed)
        records = shard.read(
            position,
            params.get("Limit", self._physics.kinesis_read_records),
            self._physics.kinesis_read_bytes,
        )
        position += len(records)
        behind = (now - records[-1].at) // 1000 if records and position < shard.end else 0
        result: Params = {"Records": [each.body for each in records], "MillisBehindLatest": behind}
        if shard.open or position < shard.end:
            result["NextShardIterator"] = KinesisIterator(
                stream.arn, stream.created, shard.id, position, now
            ).encode()
        return result

    # -- looking up -----------------------------------------------------------------------------

    def _stream(self, params: Params) -> KinesisStream:
        refuse(params, "a request", "StreamId", "DryRun", service="Kinesis")
        arn = params.get("StreamARN", "")
        name = params.get("StreamName") or arn.rpartition("/")[2]
        if not name:
            raise ApiError(
                "InvalidArgumentException", "Either StreamName or StreamARN must be specified."
            )
        stream = self._streams.get(name)
        if stream is None or (arn and arn != stream.arn):
            raise ApiError(
                "ResourceNotFoundException", f"Stream {name} under account {ACCOUNT} not found."
            )
        stream.log.trim(self._scheduler.now)
        return stream

    def _shard(self, stream: KinesisStream, shard_id: str) -> Shard:
        shard = stream.log.get(shard_id)
        if shard is None:
            raise ApiError(
                "ResourceNotFoundException",
                f"Could not find shard {shard_id} in stream {stream.name} under account {ACCOUNT}.",
            )
        return shard


def stream_name(params: Params) -> str:
    """Which stream a request is about: by its name, its ARN, or what an answer handed out."""
    if "NextToken" in params and "StreamName" not in params:
        return _token(params["NextToken"])[0]
    arn = params.get("StreamARN") or (
        KinesisIterator.decode(params["ShardIterator"]).arn if "ShardIterator" in params else ""
    )
    return str(params.get("StreamName") or arn.rpartition("/")[2])


def _invalid_iterator() -> ApiError:
    return ApiError("InvalidArgumentException", "Invalid ShardIterator.")


def _next_token(name: str, after: str) -> str:
    return base64.b64encode(f"{name}|{after}".encode()).decode()


def _token(text: str) -> tuple[str, str, str]:
    try:
        name, mark, after = base64.b64decode(text, validate=True).decode().partition("|")
    except (ValueError, binascii.Error):
        raise ApiError("InvalidArgumentException", "NextToken is invalid.") from None
    return name, mark, after


def _described(shard: Shard) -> Params:
    numbers = {"StartingSequenceNumber": str(shard.starting)}
    if shard.ending is not None:
        numbers["EndingSequenceNumber"] = str(shard.ending)
    described: Params = {
        "ShardId": shard.id,
        "SequenceNumberRange": numbers,
        "HashKeyRange": {"StartingHashKey": str(shard.low), "EndingHashKey": str(shard.high - 1)},
    }
    for name, parent in zip(
        ("ParentShardId", "AdjacentParentShardId"), shard.parents, strict=False
    ):
        described[name] = parent
    return described
