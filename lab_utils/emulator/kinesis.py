"""Kinesis Data Streams: shards that the user counts, placed by the MD5 of a partition key.

Codes and words of errors are AWS's, from the API reference, from what was recorded, and from mocks
that were tried against AWS (kinesalite, moto); where only the code is known the words are ours, and
say more than AWS would.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from lab_utils.emulator.backing import ACCOUNT
from lab_utils.emulator.data_streams import SHARD_DIGITS, KinesisStream, number_of
from lab_utils.emulator.errors import ApiError, refuse
from lab_utils.emulator.kinesis_tokens import (
    KinesisIterator,
    Params,
    ShardsPage,
    StreamsPage,
    invalid,
)
from lab_utils.emulator.partitions import RING, key_hash
from lab_utils.emulator.physics import KB, MICROSECONDS, microseconds
from lab_utils.emulator.resharding import Resharding
from lab_utils.emulator.shard_filters import ShardFilter
from lab_utils.emulator.shards import Record, Shard
from lab_utils.emulator.tags import tagged
from lab_utils.emulator.wire import decode_blob, timestamp

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region

DESCRIBED_SHARDS = 100
LISTED_SHARDS = 1000
"""The most on a page of DescribeStream and of ListShards (API reference)."""
SHORTEST_RETENTION, LONGEST_RETENTION = 24, 8760
"""Hours (API reference, DecreaseStreamRetentionPeriod and IncreaseStreamRetentionPeriod)."""
LIMITS_PAGE = "http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html"


class Kinesis:
    """The calls of the Kinesis API that are modelled."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._physics, self._scheduler = region.world.physics, region.world.scheduler
        self._streams: dict[str, KinesisStream] = {}
        self.resharding = Resharding(self, region.world)

    def find(self, arn: str) -> KinesisStream | None:
        stream = self._streams.get(arn.rpartition("/")[2])
        return stream if stream is not None and stream.arn == arn else None

    # -- streams ------------------------------------------------------------------------------

    def create_stream(self, params: Params) -> Params:
        name = params["StreamName"]
        refuse(
            params,
            "a stream",
            "WarmThroughputMiBps",
            "RecordDistributionStrategy",
            service="Kinesis",
        )
        mode, shards = self._capacity(params)
        if name in self._streams:
            raise ApiError(
                "ResourceInUseException", f"Stream {name} under account {ACCOUNT} already exists."
            )
        self.check_shard_limit(shards)
        tags = tagged("kinesis", {}, params.get("Tags"))
        stream = KinesisStream(self._region, name, shards, mode)
        stream.tags = tags
        if "MaxRecordSizeInKiB" in params:
            stream.record_bytes = params["MaxRecordSizeInKiB"] * KB
        self._streams[name] = stream
        return {}

    def _capacity(self, params: Params) -> tuple[str, int]:
        """The mode and the shards of a new stream; without a number of shards it is on demand."""
        shards = params.get("ShardCount")
        usual = "ON_DEMAND" if shards is None else "PROVISIONED"
        mode = params.get("StreamModeDetails", {}).get("StreamMode", usual)
        if mode == "PROVISIONED" and shards is None:
            raise invalid("A stream of mode PROVISIONED needs a ShardCount.")
        if mode == "ON_DEMAND" and shards is not None:
            raise invalid("A stream of mode ON_DEMAND must not have a ShardCount.")
        return mode, self._physics.kinesis_on_demand_shards if shards is None else shards

    def check_shard_limit(self, more: int) -> None:
        """Refuse so many more open shards if all streams together would have too many."""
        there = sum(len(stream.open_shards()) for stream in self._streams.values())
        most = self._physics.kinesis_shards
        if there + more > most:
            raise ApiError(
                "LimitExceededException",
                f"This request would exceed the shard limit for the account {ACCOUNT} in "
                f"{self._region.name}. Current shard count for the account: {there}. Limit: {most}."
                " Number of additional shards that would have resulted from this request: "
                f"{more}. Refer to the AWS Service Limits page ({LIMITS_PAGE}) for current limits "
                "and how to request higher limits.",
            )

    def delete_stream(self, params: Params) -> Params:
        stream = self.stream(params)
        stream.delete()
        del self._streams[stream.name]
        return {}

    def update_max_record_size(self, params: Params) -> Params:
        self.stream(params).record_bytes = params["MaxRecordSizeInKiB"] * KB
        return {}

    def increase_retention(self, params: Params) -> Params:
        stream, hours = self._retention_asked(params)
        if hours < stream.retention_hours:
            raise _retention_refused(stream, hours, "shorter", "Decrease")
        stream.keep(hours)
        return {}

    def decrease_retention(self, params: Params) -> Params:
        stream, hours = self._retention_asked(params)
        if hours > stream.retention_hours:
            raise _retention_refused(stream, hours, "longer", "Increase")
        stream.keep(hours)
        return {}

    def _retention_asked(self, params: Params) -> tuple[KinesisStream, int]:
        stream, hours = self.stream(params), params["RetentionPeriodHours"]
        for bound, word, lies_beyond, much in (
            (SHORTEST_RETENTION, "Minimum", hours < SHORTEST_RETENTION, "short"),
            (LONGEST_RETENTION, "Maximum", hours > LONGEST_RETENTION, "long"),
        ):
            if lies_beyond:
                raise invalid(
                    f"{word} allowed retention period is {bound} hours. "
                    f"Requested retention period ({hours} hours) is too {much}."
                )
        return stream, hours

    # -- listing ------------------------------------------------------------------------------

    def list_streams(self, params: Params) -> Params:
        after = (
            StreamsPage.decode(params["NextToken"]).after
            if "NextToken" in params
            else params.get("ExclusiveStartStreamName", "")
        )
        names = sorted(name for name in self._streams if name > after)
        page = names[: params.get("Limit", 100)]
        result: Params = {
            "StreamNames": page,
            "HasMoreStreams": len(page) < len(names),
            "StreamSummaries": [_summary(self._streams[name]) for name in page],
        }
        if len(page) < len(names):
            result["NextToken"] = StreamsPage(page[-1]).encode()
        return result

    def describe_stream(self, params: Params) -> Params:
        stream = self.stream(params)
        limit = min(params.get("Limit", DESCRIBED_SHARDS), DESCRIBED_SHARDS)
        shards = list(islice(stream.log.after(params.get("ExclusiveStartShardId", "")), limit + 1))
        return {
            "StreamDescription": _summary(stream)
            | {
                "Shards": [_described(shard) for shard in shards[:limit]],
                "HasMoreShards": len(shards) > limit,
                **_settings(stream),
            }
        }

    def describe_stream_summary(self, params: Params) -> Params:
        stream = self.stream(params)
        return {
            "StreamDescriptionSummary": _summary(stream)
            | {
                "OpenShardCount": len(stream.open_shards()),
                "ConsumerCount": 0,
                "MaxRecordSizeInKiB": stream.record_bytes // KB,
                **_settings(stream),
            }
        }

    def list_shards(self, params: Params) -> Params:
        now = self._scheduler.now
        if "NextToken" in params:
            stream, page = self._page(params)
            wanted, after = ShardFilter(page.kind, page.moment), page.after
        else:
            stream = self._listed_stream(params)
            horizon = max(stream.created, now - stream.log.retention)
            wanted = ShardFilter.of(params.get("ShardFilter"), horizon)
            after = max(params.get("ExclusiveStartShardId", ""), wanted.after)
        most = min(params.get("MaxResults", LISTED_SHARDS), LISTED_SHARDS)
        found = list(islice(filter(wanted.wants, stream.log.after(after)), most + 1))
        result: Params = {"Shards": [_described(shard) for shard in found[:most]]}
        if len(found) > most:
            last, kind, moment = found[most - 1].id, wanted.kind, wanted.moment
            token = ShardsPage(stream.name, stream.created, last, kind, moment, now)
            result["NextToken"] = token.encode()
        return result

    def _listed_stream(self, params: Params) -> KinesisStream:
        if "StreamName" not in params and "StreamARN" not in params:
            raise invalid("Either NextToken or StreamName should be provided.")
        stream = self.stream(params)
        created = params.get("StreamCreationTimestamp")
        if created is not None and int(timestamp(created)) != stream.created // MICROSECONDS:
            raise _not_found(stream.name)
        return stream

    def _page(self, params: Params) -> tuple[KinesisStream, ShardsPage]:
        """Where a token leads to; it says all that a first request says, and lives 5 minutes."""
        for other in ("StreamName", "StreamARN", "ExclusiveStartShardId",
                      "StreamCreationTimestamp", "ShardFilter"):  # fmt: skip
            if other in params:
                raise invalid(f"NextToken and {other} cannot be provided together.")
        page = ShardsPage.decode(params["NextToken"])
        stream = self.stream({"StreamName": page.stream})
        if page.created != stream.created:
            raise _not_found(page.stream)
        if self._scheduler.now - page.issued > microseconds(self._physics.kinesis_token_life):
            raise ApiError(
                "ExpiredNextTokenException",
                "The NextToken is older than "
                f"{self._physics.kinesis_token_life:.0f} seconds: list the shards anew.",
            )
        return stream, page

    # -- writing --------------------------------------------------------------------------------

    def put_record(self, params: Params) -> Params:
        stream = self.stream(params)
        size, position = self._checked(stream, params, "partitionKey")
        order = params.get("SequenceNumberForOrdering")
        if order is not None and not stream.has_given(int(order)):
            raise invalid(
                f"ExclusiveMinimumSequenceNumber {order} used in PutRecord on {stream} is invalid."
            )
        return _placed(*stream.put(params["Data"], size, params["PartitionKey"], position))

    def put_records(self, params: Params) -> Params:
        """Records that are too much for their shard fail, each for itself; the others are stored.

        A request that is malformed stores nothing.
        """
        stream, entries = self.stream(params), params["Records"]
        checked = [
            self._checked(stream, entry, f"records.{number}.member.partitionKey")
            for number, entry in enumerate(entries, start=1)
        ]
        if sum(size for size, _ in checked) > self._physics.kinesis_put_bytes:
            raise invalid(f"Records size exceeds {self._physics.kinesis_put_bytes} bytes")
        results = []
        for entry, (size, position) in zip(entries, checked, strict=True):
            try:
                placed = stream.put(entry["Data"], size, entry["PartitionKey"], position)
                results.append(_placed(*placed))
            except ApiError as refusal:
                results.append({"ErrorCode": refusal.code, "ErrorMessage": refusal.message})
        failed = sum("ErrorCode" in each for each in results)
        return {"FailedRecordCount": failed, "Records": results}

    def _checked(self, stream: KinesisStream, entry: Params, path: str) -> tuple[int, int]:
        """The size of a record to be put, with its key, and its place in the ring of hashes.

        A key is optional only where records are distributed without one, which is not modelled.
        """
        if entry.get("PartitionKey") is None:
            raise ApiError(
                "ValidationException",
                f"1 validation error detected: Value null at '{path}' failed to satisfy "
                "constraint: Member must not be null",
            )
        size = len(decode_blob(entry["Data"])) + len(entry["PartitionKey"].encode())
        if size > stream.record_bytes:
            raise invalid(f"Record data and partition key exceed {stream.record_bytes} bytes")
        explicit = entry.get("ExplicitHashKey")
        position = int(explicit) if explicit else key_hash(entry["PartitionKey"])
        if position >= RING:
            raise invalid(
                "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. "
                f"Specified value was {explicit}"
            )
        return size, position

    # -- reading --------------------------------------------------------------------------------

    def get_shard_iterator(self, params: Params) -> Params:
        stream = self.stream(params)
        shard = self.shard(stream, params["ShardId"])
        position = self._start(stream, shard, params)
        iterator = KinesisIterator(
            stream.arn, stream.created, shard.id, position, self._scheduler.now
        )
        return {"ShardIterator": iterator.encode()}

    def _start(self, stream: KinesisStream, shard: Shard, params: Params) -> int:
        """The position at which an iterator begins; what it does not need is refused."""
        kind, number = params["ShardIteratorType"], params.get("StartingSequenceNumber")
        if kind == "AT_TIMESTAMP":
            return shard.position_at(self._moment(params.get("Timestamp")))
        numbered = kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER")
        if numbered != bool(number):
            given = "also a" if number else "no"
            raise invalid(
                "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and "
                "StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no "
                f"StartingSequenceNumber. Request specified {kind} and {given} "
                "StartingSequenceNumber."
            )
        if not number:
            return shard.trimmed if kind == "TRIM_HORIZON" else shard.end
        _check_number(stream, shard, number)
        return shard.position_of(int(number) + (kind == "AFTER_SEQUENCE_NUMBER"))

    def _moment(self, given: Any) -> int:
        """The Timestamp of an iterator in microseconds."""
        if given is None:
            raise invalid(
                "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. "
                "Current request has no timestamp parameter."
            )
        seconds, now = timestamp(given), self._scheduler.now
        if not seconds * MICROSECONDS <= now:
            raise invalid(
                "The timestampInMillis parameter cannot be greater than the "
                f"currentTimestampInMillis. timestampInMillis: {seconds * 1000:.0f}, "
                f"currentTimestampInMillis: {now // 1000}"
            )
        return microseconds(max(seconds, 0.0))

    def get_records(self, params: Params) -> Params:
        iterator = KinesisIterator.decode(params["ShardIterator"])
        stream = self.stream(params | {"StreamARN": iterator.arn})
        if iterator.created != stream.created:
            raise invalid(KinesisIterator.refusal)
        now = self._scheduler.now
        life = microseconds(self._physics.kinesis_iterator_life)
        if now - iterator.issued > life:
            raise ApiError(
                "ExpiredIteratorException",
                f"Iterator expired. The iterator was created at time {_clock(iterator.issued)} "
                f"while right now it is {_clock(now)} which is further in the future than the "
                f"tolerated delay of {life // 1000} milliseconds.",
            )
        shard = self.shard(stream, iterator.shard)
        limits = stream.limits(shard)
        if not limits.admit_read(shard, now):
            raise stream.exceeded(shard)
        records, position = self._read(shard, iterator.position, params.get("Limit"))
        limits.note_read(sum(record.size for record in records), now)
        behind = (now - records[-1].at) // 1000 if records and position < shard.end else 0
        result: Params = {"Records": [each.body for each in records], "MillisBehindLatest": behind}
        if shard.open or position < shard.end:
            following = KinesisIterator(stream.arn, stream.created, shard.id, position, now)
            result["NextShardIterator"] = following.encode()
        else:
            result["ChildShards"] = [_child(each) for each in stream.log.children(shard.id)]
        return result

    def _read(self, shard: Shard, position: int, limit: int | None) -> tuple[list[Record], int]:
        """A page of records, and the position behind them. What is gone is passed over."""
        position = max(position, shard.trimmed)
        most = limit or self._physics.kinesis_read_records
        records = shard.read(position, most, self._physics.kinesis_read_bytes)
        return records, position + len(records)

    # -- looking up -----------------------------------------------------------------------------

    def stream(self, params: Params) -> KinesisStream:
        refuse(params, "a request", "StreamId", "DryRun", service="Kinesis")
        arn = params.get("StreamARN", "")
        name = params.get("StreamName") or arn.rpartition("/")[2]
        if not name:
            raise invalid("Either StreamName or StreamARN must be specified.")
        stream = self._streams.get(name)
        if stream is None or (arn and arn != stream.arn):
            raise _not_found(name)
        stream.log.trim(self._scheduler.now)
        return stream

    def shard(self, stream: KinesisStream, shard_id: str) -> Shard:
        shard = stream.log.get(shard_id)
        if shard is None:
            raise ApiError(
                "ResourceNotFoundException", f"Could not find shard {shard_id} in {stream}."
            )
        return shard


# -- shapes of answers --------------------------------------------------------------------------


def _summary(stream: KinesisStream) -> Params:
    return {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "StreamStatus": stream.status,
        "StreamModeDetails": {"StreamMode": stream.mode},
        "StreamCreationTimestamp": stream.created // MICROSECONDS,
    }


def _settings(stream: KinesisStream) -> Params:
    return {
        "RetentionPeriodHours": stream.retention_hours,
        "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
        "EncryptionType": "NONE",
    }


def _hashes(shard: Shard) -> Params:
    return {"StartingHashKey": str(shard.low), "EndingHashKey": str(shard.high - 1)}


def _described(shard: Shard) -> Params:
    numbers = {"StartingSequenceNumber": str(shard.starting)}
    if shard.ending is not None:
        numbers["EndingSequenceNumber"] = str(shard.ending)
    described: Params = {
        "ShardId": shard.id,
        "SequenceNumberRange": numbers,
        "HashKeyRange": _hashes(shard),
    }
    for name, parent in zip(
        ("ParentShardId", "AdjacentParentShardId"), shard.parents, strict=False
    ):
        described[name] = parent
    return described


def _child(shard: Shard) -> Params:
    return {
        "ShardId": shard.id,
        "ParentShards": list(shard.parents),
        "HashKeyRange": _hashes(shard),
    }


def _placed(shard: Shard, record: Record) -> Params:
    return {"ShardId": shard.id, "SequenceNumber": str(record.sequence)}


# -- refusals -----------------------------------------------------------------------------------


def _not_found(name: str) -> ApiError:
    return ApiError(
        "ResourceNotFoundException", f"Stream {name} under account {ACCOUNT} not found."
    )


def _retention_refused(stream: KinesisStream, hours: int, way: str, other: str) -> ApiError:
    return invalid(
        f"Requested retention period ({hours} hours) for stream {stream.name} can not be {way} "
        f"than existing retention period ({stream.retention_hours} hours). "
        f"Use {other}RetentionPeriod API."
    )


def _check_number(stream: KinesisStream, shard: Shard, number: str) -> None:
    """A sequence number tells its shard, and must lie between the shard's first and last."""
    used = f"StartingSequenceNumber {number} used in GetShardIterator on shard {shard.id} in"
    if len(number) != len(str(shard.starting)):
        raise invalid(f"{used} {stream} is invalid.")
    encoded = int(number[-SHARD_DIGITS:])
    if encoded != number_of(shard):
        raise invalid(
            f"Invalid StartingSequenceNumber. It encodes shardId-{encoded:012d}, while it was used "
            f"in a call to a shard with {shard.id}"
        )
    last = shard.ending or int(number)
    if not shard.starting <= int(number) <= last:
        raise invalid(f"{used} {stream} is invalid because it did not come from this stream.")


def _clock(moment: int) -> str:
    """A moment as Kinesis writes it in its refusals: Thu Jan 22 01:22:02 UTC 2015."""
    return datetime.fromtimestamp(moment // MICROSECONDS, UTC).strftime("%a %b %d %H:%M:%S UTC %Y")
