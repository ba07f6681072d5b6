"""Every number that the emulator runs on, with where it comes from.

Three kinds, and the book never mixes them up:

* **documented** - AWS says so in a guide, an API reference or a service model;
* **observed** - measured on real AWS and published;
* **assumed** - nobody outside AWS knows; the value here is a choice, and yours to change.

All times are seconds, all sizes bytes, unless a name says otherwise.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, fields
from typing import Any

from lab_utils.errors import LabError

KB, MB, GB = 1024, 1024**2, 1024**3
HOUR = 3600.0
MICROSECONDS = 1_000_000

Range = tuple[float, float]

ABOVE_ZERO = frozenset(
    {
        "on_demand_partitions",
        "partition_writes",
        "partition_reads",
        "partition_bytes",
        "burst",
        "heat_share",
        "heat_time",
        "heat_sample",
        "on_demand_headroom",
        "scale",
        "rollover",
        "shard_bytes",
        "shard_read_rate",
        "shard_read_burst",
        "kinesis_shard_reads",
        "kinesis_shard_read_bytes",
        "kinesis_read_burst",
        "kinesis_write_records",
        "kinesis_write_bytes",
        "kinesis_write_burst",
        "kinesis_on_demand_shards",
        "lane_read_ahead",
        "describe_rate",
        "list_rate",
        "call_burst",
        "shards_per_page",
        "stream_read_records",
        "kinesis_read_records",
        "dynamodb_poll",
        "kinesis_poll",
        "throttle_delay",
        "retry_delay",
        "log_event_bytes",
        "sequence_step",
    }
)
"""Constants that cannot be zero: time would stand still, or be divided by nothing."""


def documented(default: Any, source: str) -> Any:
    return field(default=default, metadata={"mark": "documented", "source": source})


def observed(default: Any, source: str) -> Any:
    return field(default=default, metadata={"mark": "observed", "source": source})


def assumed(default: Any, why: str) -> Any:
    return field(default=default, metadata={"mark": "assumed", "source": why})


@dataclass(frozen=True)
class Physics:
    """The constants of the embedded world. `Physics(rollover=(4 * 3600, 4 * 3600))` overrides."""

    scale: int = assumed(1, "1 is AWS's own size; `Physics.scaled(n)` is a model 1 : n")

    # -- tables and their partitions
    on_demand_partitions: int = assumed(
        4, "a new on-demand table's warm throughput is 4,000 writes/s, and a partition takes 1,000"
    )
    partition_writes: int = documented(1000, "Developer Guide, best practices for partition keys")
    partition_reads: int = documented(3000, "Developer Guide, best practices for partition keys")
    partition_bytes: int = documented(10 * GB, "AWS Database Blog, Scaling DynamoDB, part 3")
    burst: float = documented(300.0, "Developer Guide, burst capacity: seconds of unused capacity")
    warm_reads: int = documented(12000, "Developer Guide, warm throughput")
    warm_writes: int = documented(4000, "Developer Guide, warm throughput")
    on_demand_headroom: float = documented(
        2.0, "Developer Guide, on-demand mode: up to double the previous peak"
    )
    heat_share: float = assumed(0.8, "from this part of its ceiling on, a partition counts as hot")
    heat_time: float = assumed(300.0, "so long a partition must be hot before it is split")
    heat_sample: int = assumed(1000, "so many different keys of a hot partition are looked at")
    split_time: Range = assumed((60.0, 180.0), "AWS says that a split takes minutes")
    expiry_delay: Range = assumed(
        (0.0, 60.0), "an expired item is deleted so much later; AWS says within a few days"
    )
    token_life: float = documented(600.0, "API reference, TransactWriteItems ClientRequestToken")

    # -- streams of a table
    retention: float = documented(24 * HOUR, "Developer Guide, change data capture with Streams")
    rollover: Range = observed(
        (4.0 * HOUR, 4.5 * HOUR),
        "gaps of 4.04 to 4.50 h in the sample of DescribeStream; the even draw is assumed",
    )
    shard_bytes: int = assumed(1 * GB, "a shard closes past a size, too; no figure is published")
    trim_lag: float = assumed(0.0, "records may stay longer than 24 h; AWS promises no less")
    listing_lag: Range = assumed(
        (0.0, 0.0), "how late a listing shows births and ends; on AWS it may be a minute"
    )
    latest_lag: float = assumed(
        0.0, "LATEST was seen to miss a write that followed at once; here it does so if you ask"
    )
    sequence_step: float = assumed(
        60.0, "the counter in sequence numbers grows in idle shards too; its pace is unknown"
    )
    stream_iterator_life: float = documented(15 * 60.0, "API reference, GetShardIterator")
    stream_read_records: int = documented(1000, "API reference, Streams GetRecords")
    stream_read_bytes: int = documented(1 * MB, "API reference, Streams GetRecords")
    shard_read_rate: float = assumed(
        10.0, "GetRecords calls a second and shard: two readers at five each, as AWS allows two"
    )
    shard_read_burst: float = assumed(30.0, "seconds of unused calls kept, for cells run again")
    describe_rate: float = documented(10.0, "API reference, DescribeStream, calls a second")
    list_rate: float = documented(5.0, "API reference, ListStreams, calls a second")
    call_burst: float = assumed(10.0, "seconds of unused Describe and List calls kept")
    shards_per_page: int = documented(100, "API reference, DescribeStream")

    # -- Kinesis
    kinesis_retention: float = documented(24 * HOUR, "Kinesis Developer Guide")
    kinesis_iterator_life: float = documented(5 * 60.0, "API reference, GetShardIterator")
    kinesis_read_records: int = documented(10000, "API reference, Kinesis GetRecords")
    kinesis_read_bytes: int = documented(10 * MB, "API reference, Kinesis GetRecords")
    kinesis_put_records: int = documented(500, "API reference, PutRecords")
    kinesis_put_bytes: int = documented(10 * MB, "API reference, PutRecords")
    kinesis_shard_reads: float = documented(
        5.0, "API reference, Kinesis GetRecords, calls a second and shard"
    )
    kinesis_shard_read_bytes: int = documented(
        2 * MB, "API reference, Kinesis GetRecords, bytes a second and shard"
    )
    kinesis_read_burst: float = assumed(30.0, "seconds of unused calls kept, for cells run again")
    kinesis_record_bytes: int = documented(1 * MB, "API reference, PutRecord, default size")
    kinesis_write_records: int = documented(1000, "API reference, PutRecords, a second and shard")
    kinesis_write_bytes: int = documented(1 * MB, "API reference, PutRecords, a second and shard")
    kinesis_write_burst: float = documented(
        10.0, "Developer Guide, large records: seconds of unused bytes kept"
    )
    kinesis_shards: int = documented(20000, "Kinesis quotas, open shards in us-east-1")
    kinesis_on_demand_shards: int = observed(4, "ListShards of a new on-demand stream")
    kinesis_scalings: int = documented(10, "API reference, UpdateShardCount, in 24 hours")
    kinesis_mode_switches: int = documented(2, "Developer Guide, capacity modes, in 24 hours")
    kinesis_token_life: float = documented(300.0, "API reference, ListShards NextToken")
    reshard_time: Range = assumed(
        (20.0, 40.0), "a split, a merge, or one round of UpdateShardCount; no figure is published"
    )

    # -- changes of a table sent to Kinesis
    destination_enabling: Range = observed(
        (2.0, 7.0), "polls of DescribeKinesisStreamingDestination by ack-api-quirks, 2026"
    )
    destination_disabling: Range = observed((1.0, 2.0), "ack-api-quirks, 2026")
    destination_updating: Range = observed((120.0, 150.0), "ack-api-quirks, 2026")
    destination_lag: Range = assumed((0.05, 0.5), "a change is put into the data stream so late")
    destination_strays: float = assumed(
        0.02, "part of the changes that come out of order; AWS says only that it may happen"
    )
    destination_stray_lag: Range = assumed((0.5, 5.0), "so much later than others these come")
    destination_repeats: float = assumed(
        0.02, "part of the changes that come twice; AWS says only that it may happen"
    )

    # -- functions
    payload_bytes: int = documented(6 * MB, "Lambda quotas, synchronous invocation")
    async_payload_bytes: int = documented(1 * MB, "Lambda quotas, asynchronous invocation")
    account_concurrency: int = documented(1000, "Lambda quotas, concurrent executions")
    unreserved_concurrency: int = documented(100, "Lambda Developer Guide, reserved concurrency")
    async_retries: int = documented(2, "Lambda Developer Guide, asynchronous invocation")
    async_retry_delays: tuple[float, ...] = documented(
        (60.0, 120.0), "Lambda Developer Guide, asynchronous invocation"
    )
    async_throttle_delay: Range = documented(
        (1.0, 300.0), "Lambda Developer Guide, asynchronous invocation: doubled from try to try"
    )
    async_event_life: float = documented(
        6 * HOUR, "Lambda Developer Guide, asynchronous invocation"
    )
    cold_start: Range = assumed((0.18, 0.32), "a small Python function, before its own imports")
    invoke_overhead: Range = assumed((0.001, 0.003), "from the poller to the handler's first line")
    payload_rate: float = assumed(20.0 * MB, "bytes a second, to hand over and parse a payload")
    idle_instance_life: float = assumed(600.0, "an idle execution environment is kept some minutes")
    log_event_bytes: int = documented(1 * MB, "API reference, PutLogEvents")
    memory_used: int = assumed(64, "MB that REPORT shows; memory is not measured")

    # -- event source mappings
    mapping_creation: Range = assumed((3.0, 8.0), "the guide says it can take minutes")
    mapping_update: Range = assumed((2.0, 6.0), "the guide says up to 90 seconds")
    dynamodb_poll: float = documented(0.25, "Lambda Developer Guide, four polls a second")
    kinesis_poll: float = documented(1.0, "Lambda Developer Guide, one poll a second")
    lane_read_ahead: int = assumed(
        10_000, "so many records a shard's lanes may be ahead of the slowest; nothing is published"
    )
    child_discovery: Range = assumed((0.0, 1.0), "new shards are found with some delay")
    retry_delay: float = assumed(1.0, "with the factor below: 8 calls in 60 s, as recorded")
    retry_factor: float = assumed(1.6, "with the delay above: 8 calls in 60 s, as recorded")
    retry_ceiling: float = assumed(60.0, "the schedule of back-off is not published")
    throttle_delay: Range = assumed((0.1, 0.4), "how soon a throttled poller asks again")
    throttle_patience: int = assumed(
        16, "so many throttles in a row, and a poller begins to ask less often"
    )

    # -- latencies of API calls, shortest and longest; how they lie between is assumed as well
    read_latency: Range = assumed((0.002, 0.004), "single-digit milliseconds")
    write_latency: Range = assumed((0.003, 0.006), "single-digit milliseconds")
    transaction_latency: Range = assumed((0.012, 0.025), "a transaction makes two rounds")
    stream_latency: Range = assumed((0.005, 0.012), "one call to a stream")
    control_latency: Range = assumed((0.020, 0.060), "one call that makes or describes a resource")

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            parts = value if isinstance(value, tuple) else (value,)
            given, least = f"Physics({each.name}={value!r})", 1e-6 * (each.name in ABOVE_ZERO)
            kinds = (int,) if each.type == "int" else (int, float)
            if any(not isinstance(part, kinds) or not least <= part < math.inf for part in parts):
                raise LabError(
                    f"{given} must be {'more than zero' if least else 'zero or more'}: give "
                    f"{'a whole number' if each.type == 'int' else 'a number of seconds'}."
                )
            if each.type == "Range" and (len(parts) != 2 or parts[0] > parts[1]):
                raise LabError(f"{given} must be a pair (shortest, longest).")

    @classmethod
    def scaled(cls, n: int, **overrides: Any) -> Physics:
        """A scale model, 1 : n: a partition and a shard hold and do a part of what AWS's do.

        With n = 100 a partition takes 10 writes a second, which a loop in a cell exceeds. Times
        are not scaled: an hour is an hour. `Physics.scale` and every figure say that it is a model.
        """
        if not isinstance(n, int) or not 1 <= n <= cls.partition_writes:
            raise LabError(f"Physics.scaled({n!r}) must be a whole number from 1 to 1000.")
        sizes = ("partition_writes", "partition_reads", "partition_bytes", "warm_reads",
                 "warm_writes", "shard_bytes")  # fmt: skip
        smaller = {name: max(1, round(getattr(cls, name) / n)) for name in sizes}
        return cls(**{"scale": n, **smaller, **overrides})

    def backoff(self, attempt: int) -> float:
        """Seconds before the next try of a batch whose try number `attempt` (from 1) failed."""
        return min(self.retry_delay * self.retry_factor ** (attempt - 1), self.retry_ceiling)


def microseconds(seconds: float) -> int:
    """Virtual time is kept in whole microseconds, so that sums of times are exact."""
    return round(seconds * MICROSECONDS)


def between(rng: random.Random, bounds: Range) -> int:
    """A moment between two bounds (seconds), in microseconds."""
    low, high = bounds
    return microseconds(low + (high - low) * rng.random())


def as_records(physics: Physics) -> list[dict[str, Any]]:
    """The constants as rows (name, value, mark, source), for the page that lists them all."""
    return [
        {"name": each.name, "value": getattr(physics, each.name), **each.metadata}
        for each in fields(physics)
    ]
