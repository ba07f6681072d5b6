"""Which limits the pipeline comes up against, and at which rate of messages.

Some are AWS's quotas, some are ceilings of the design itself: one batch of a shard at a time, one
ReduceLambda at a time. Numbers that the emulator keeps to as well are those of its `Physics`.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab_utils.costs import (
    AS_MEASURED,
    PAYLOAD,
    SHARD_BYTES,
    SHARD_RECORDS,
    WORKSHOP,
    Design,
    Usage,
    flow,
)
from lab_utils.emulator.physics import Physics

TABLE_WRITES = 40_000
"""Write units a second of one table, the default quota (Developer Guide, quotas)."""
STREAM_READERS = 2
"""Of a shard of a table's stream at a time (Developer Guide, quotas)."""
PHYSICS = Physics()


@dataclass(frozen=True)
class Quota:
    """A limit, how much of it is used, and what helps.

    `mark`: documented if the limit and what is used of it are both known, assumed if what is used
    follows from times that are.
    """

    name: str
    used: float
    limit: float
    mark: str
    remedy: str

    @property
    def share(self) -> float:
        """How much of the limit is used: at 1 it is reached."""
        return self.used / self.limit


def quotas(rate: float, design: Design = WORKSHOP, usage: Usage = AS_MEASURED) -> list[Quota]:
    """All limits at a steady rate of messages, in the order in which a message meets them."""
    now = flow(rate, design, usage)
    lanes = design.shards * design.state_lanes
    running = sum(
        min(busy, most)
        for busy, most in (
            (now.state_busy, lanes),
            (now.map_busy, now.state_shards),
            (now.reduce_busy, 1),
        )
    )
    record = usage.message_bytes + usage.key_bytes
    event = rate / now.maps * usage.map_event_bytes if rate else 0.0
    reads = PHYSICS.stream_read_records / PHYSICS.dynamodb_poll
    known, times = "documented", "assumed"
    return [
        Quota("Kinesis: records a second and shard", rate / design.shards, SHARD_RECORDS, known,
              "more shards"),
        Quota("Kinesis: bytes a second and shard", rate * record / design.shards, SHARD_BYTES,
              known, "more shards"),
        Quota("Kinesis: shards of the account", design.shards, PHYSICS.kinesis_shards, known,
              "ask AWS"),
        Quota("StateLambda: one batch a lane", now.state_busy, lanes,
              times, "more lanes, more shards"),
        Quota("StateTable: write units while it is new", rate * usage.update_units,
              PHYSICS.warm_writes, known, "WarmThroughput"),
        Quota("StateTable: write units of a table", rate * usage.update_units, TABLE_WRITES,
              known, "ask AWS"),
        Quota("StateTable's stream: records read from a shard", rate / now.state_shards, reads,
              known, "none needed"),
        Quota("StateTable's stream: readers of a shard", 1, STREAM_READERS, known,
              "fan out behind one reader"),
        Quota("MapLambda: one batch a shard", now.map_busy, now.state_shards,
              times, "ParallelizationFactor"),
        Quota("MapLambda: bytes of an event", event, PAYLOAD, known, "a shorter window"),
        Quota("ReduceLambda: one at a time", now.reduce_busy, 1, times, "larger batches"),
        Quota("AggregateTable: write units of its hottest item", now.reduces * usage.total_units,
              PHYSICS.partition_writes, known, "larger batches before it"),
        Quota("Lambda: running at once", running, PHYSICS.account_concurrency, times,
              "ask AWS; faster functions"),
    ]  # fmt: skip


def reached(name: str, design: Design = WORKSHOP, usage: Usage = AS_MEASURED) -> float:
    """The lowest rate of messages a second at which the named limit is used up; infinity if none.

    Found by halving between one message a second and a billion: shares grow with the rate.
    """

    def full(rate: float) -> bool:
        return any(q.name == name and q.share >= 1 for q in quotas(rate, design, usage))

    low, high = 1.0, 1e9
    if not full(high):
        return float("inf")
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if full(middle) else (middle, high)
    return high
