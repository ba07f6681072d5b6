"""What the pipeline costs on AWS: how much of everything it uses, and that times the prices.

How much follows from a `Design`, which one decides, and a `Usage`, which one measures; every number
of it says how it was obtained. A `Flow` is what goes on in a second of a steady rate; `steady` and
`burst` are how much of which price is used, `bill` is dollars.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lab_utils.errors import LabError
from lab_utils.prices import Prices

HOUR = 3600.0
MONTH = 730 * HOUR
"""Seconds of a month as AWS's own examples count it."""
KB, MB, GB = 1024, 1024**2, 1024**3
PUT_UNIT = 25 * KB
"""So many bytes of a record are one PUT payload unit."""
PAYLOAD = 6 * MB
"""The largest event of a synchronous invocation."""
SHARD_RECORDS, SHARD_BYTES = 1000, MB
"""What a Kinesis shard takes in a second."""
PARTITION_WRITES, FIRST_PARTITIONS = 1000, 4
"""What a partition takes in a second, and how many a new on-demand table has (assumed)."""
HEADROOM = 2
"""An on-demand table is ready for twice its peak."""
KINESIS_POLL, TABLE_POLL = 1.0, 0.25
"""Seconds between two reads of a shard by Lambda."""
STREAMS = ("provisioned", "on-demand")
TABLES = ("on-demand", "provisioned")
PROCESSORS = ("x86", "arm")

Amounts = Mapping[str, Mapping[str, float]]
"""Of each part of the pipeline: how many units of each price it uses."""


def measured(default: float, how: str) -> Any:
    return field(default=default, metadata={"mark": "measured", "how": how})


def documented(default: float, how: str) -> Any:
    return field(default=default, metadata={"mark": "documented", "how": how})


def assumed(default: float, how: str) -> Any:
    return field(default=default, metadata={"mark": "assumed", "how": how})


@dataclass(frozen=True)
class Usage:
    """What a message, a batch and an invocation use: bytes, units, seconds.

    What is measured on the embedded lab is the same on AWS: bytes and units. Its times are made of
    latencies that it assumes, and computing costs no time in it, so those are assumed here, too;
    the sizes of a burst's batches hang on them, and are measured for this lab alone.
    """

    message_bytes: float = measured(193, "a burst's records, without their keys")
    key_bytes: float = measured(64, "their partition keys: a SHA-256 in hexadecimal")
    state_event_bytes: float = measured(879, "a record in StateLambda's event")
    map_event_bytes: float = measured(743, "a record in MapLambda's event")
    item_bytes: float = measured(145, "an item of StateTable")
    row_bytes: float = measured(801, "a row of ReduceTable")
    index_bytes: float = documented(100, "Developer Guide: stored beside each item")
    update_units: float = measured(1, "ConsumedCapacity of StateLambda's update")
    row_units: float = measured(1, "ConsumedCapacity of MapLambda's put")
    total_units: float = measured(2, "ConsumedCapacity of one update in a transaction")
    totals: float = measured(19, "updates in ReduceLambda's transaction")
    look_units: float = measured(1, "ConsumedCapacity of a look into ParameterTable")
    log_bytes: float = measured(513, "four lines an invocation, 26 bytes beside each")
    memory: float = documented(256, "MB of each function, as the workshop sets it")
    read_time: float = assumed(0.003, "the mean of Physics.read_latency")
    write_time: float = assumed(0.0045, "the mean of Physics.write_latency")
    transaction_time: float = assumed(0.0185, "the mean of Physics.transaction_latency")
    state_work: float = assumed(0.003, "Python's own work for a message")
    map_work: float = assumed(0.0002, "Python's own work for a record")
    reduce_work: float = assumed(0.010, "Python's own work for a batch")
    burst_states: float = measured(76, "records a batch of StateLambda's, in a burst")
    burst_maps: float = measured(1250, "records a batch of MapLambda's, in a burst")
    burst_reduces: float = measured(1.6, "rows a batch of ReduceLambda's, in a burst")


AS_MEASURED = Usage()


@dataclass(frozen=True)
class Design:
    """What one decides; the defaults are the workshop's."""

    shards: int = 20
    stream: str = "provisioned"
    state_batch: int = 100
    state_lanes: int = 1
    """StateLambda's ParallelizationFactor."""
    map_batch: int = 10_000
    map_window: float = 3.0
    reduce_batch: int = 1000
    tables: str = "on-demand"
    processor: str = "x86"
    filled: float = 0.7
    """So full capacity may be that one pays for; the rest is room for what comes suddenly."""

    def __post_init__(self) -> None:
        for name, known in (("stream", STREAMS), ("tables", TABLES), ("processor", PROCESSORS)):
            if getattr(self, name) not in known:
                given = f"Design({name}={getattr(self, name)!r})"
                raise LabError(f"{given} is not known: use {' or '.join(known)}.")

    def fit(self, rate: float, usage: Usage = AS_MEASURED) -> Design:
        """The same with as many shards and lanes as so many messages a second need, with room."""
        bytes_each = usage.message_bytes + usage.key_bytes
        load = max(rate / SHARD_RECORDS, rate * bytes_each / SHARD_BYTES)
        shards = max(self.shards, math.ceil(load / self.filled))
        busy = flow(rate, replace(self, shards=shards), usage).state_busy
        lanes = max(self.state_lanes, math.ceil(busy / shards / self.filled))
        return replace(self, shards=shards, state_lanes=min(lanes, 10))


WORKSHOP = Design()


@dataclass(frozen=True)
class Flow:
    """What goes on in one second at a steady rate of messages.

    `states`, `maps`, `reduces`: invocations a second. `state_busy` and so on: how many of them run
    at once on average, which is as many seconds of running a second.
    """

    rate: float
    shards: int
    state_shards: int
    """Of StateTable's stream: one for each of its partitions."""
    reduce_shards: int
    states: float
    maps: float
    reduces: float
    state_busy: float
    map_busy: float
    reduce_busy: float


def flow(rate: float, design: Design = WORKSHOP, usage: Usage = AS_MEASURED) -> Flow:
    """What goes on in a second when so many messages come in it, at even distances or nearly so."""
    if not 0 <= rate < math.inf:
        raise LabError(f"rate={rate!r} is no rate: give messages a second, zero or more.")
    state_size = min(design.state_batch, PAYLOAD // usage.state_event_bytes)
    map_size = min(design.map_batch, PAYLOAD // usage.map_event_bytes)
    state_shards = _table_shards(rate * usage.update_units)
    lanes = design.shards * design.state_lanes
    states = batches(rate, lanes, state_size, KINESIS_POLL)
    maps = batches(rate, state_shards, map_size, TABLE_POLL, design.map_window)
    reduce_shards = _table_shards(maps * usage.row_units)
    reduces = batches(maps, reduce_shards, design.reduce_batch, TABLE_POLL)
    return Flow(
        rate, design.shards, state_shards, reduce_shards, states, maps, reduces,
        state_busy=states * usage.read_time + rate * (usage.write_time + usage.state_work),
        map_busy=maps * (usage.read_time + usage.write_time) + rate * usage.map_work,
        reduce_busy=reduces * (usage.read_time + usage.transaction_time + usage.reduce_work),
    )  # fmt: skip


def batches(rate: float, lanes: int, size: float, poll: float, window: float = 0.0) -> float:
    """Batches a second that so many records a second make, spread evenly over shards or lanes.

    A lane without a window has a batch after each read that brought anything, one with a window
    when it is over; more come only where batches are full. Records are taken to come
    independently of one another, so that a read brings none with probability e to the minus mean.
    """
    if not rate:
        return 0.0
    each = rate / lanes
    turn = 1 / each + window if window else poll / -math.expm1(-each * poll)
    return max(lanes / turn, rate / size)


def _table_shards(writes: float) -> int:
    """Of an on-demand table's stream when its partitions have split as far as its load wants."""
    return max(FIRST_PARTITIONS, math.ceil(HEADROOM * writes / PARTITION_WRITES))


# -- how much of what ---------------------------------------------------------------------------


def steady(rate: float, design: Design = WORKSHOP, usage: Usage = AS_MEASURED) -> Amounts:
    """What is used in one second of a steady rate of messages; 0 is the idle pipeline."""
    now = flow(rate, design, usage)
    return {
        "IncomingDataStream": _stream(rate, design, usage),
        "StateLambda": _function(now.states, now.state_busy, design, usage),
        "StateTable": _writes(rate * usage.update_units, design),
        "MapLambda": _function(now.maps, now.map_busy, design, usage),
        "ReduceTable": _writes(now.maps * usage.row_units, design),
        "ReduceLambda": _function(now.reduces, now.reduce_busy, design, usage),
        "AggregateTable": _writes(now.reduces * usage.totals * usage.total_units, design),
        **_beside(now.states + now.maps + now.reduces, usage),
    }


def burst(messages: int = 10_000, usage: Usage = AS_MEASURED) -> Amounts:
    """What so many messages at once use, beside the hours: in batches as large as were measured."""
    if not 0 <= messages < math.inf:
        raise LabError(f"messages={messages!r} is no number of messages: give zero or more.")
    design = WORKSHOP
    states = messages / usage.burst_states
    maps = messages / usage.burst_maps
    reduces = maps / usage.burst_reduces
    update, put = usage.write_time + usage.state_work, usage.read_time + usage.write_time
    add = usage.read_time + usage.transaction_time + usage.reduce_work
    busy = states * usage.read_time + messages * update
    return {
        "IncomingDataStream": {"kinesis_put": messages * _put_units(usage)},
        "StateLambda": _function(states, busy, design, usage),
        "StateTable": _writes(messages * usage.update_units, design),
        "MapLambda": _function(maps, maps * put + messages * usage.map_work, design, usage),
        "ReduceTable": _writes(maps * usage.row_units, design),
        "ReduceLambda": _function(reduces, reduces * add, design, usage),
        "AggregateTable": _writes(reduces * usage.totals * usage.total_units, design),
        **_beside(states + maps + reduces, usage),
    }


def growth(rate: float, design: Design = WORKSHOP, usage: Usage = AS_MEASURED) -> Amounts:
    """The GB that a month of nothing but new trades adds to what is stored from then on."""
    rows = flow(rate, design, usage).maps
    items = {
        "StateTable": rate * (usage.item_bytes + usage.index_bytes),
        "ReduceTable": rows * (usage.row_bytes + usage.index_bytes),
    }
    return {table: {"dynamodb_storage": size * MONTH / GB} for table, size in items.items()}


def _stream(rate: float, design: Design, usage: Usage) -> dict[str, float]:
    if design.stream == "provisioned":
        return {
            "kinesis_shard_hour": design.shards / HOUR,
            "kinesis_put": rate * _put_units(usage),
        }
    record = usage.message_bytes + usage.key_bytes
    return {
        "kinesis_stream_hour": 1 / HOUR,
        "kinesis_in": rate * math.ceil(record / KB) * KB / GB,
        "kinesis_out": rate * record / GB,
    }


def _put_units(usage: Usage) -> int:
    return math.ceil(usage.message_bytes / PUT_UNIT)


def _function(invocations: float, seconds: float, design: Design, usage: Usage) -> dict[str, float]:
    return {
        "lambda_request": invocations,
        f"lambda_{design.processor}": seconds * usage.memory / KB,
    }


def _writes(units: float, design: Design) -> dict[str, float]:
    if design.tables == "on-demand":
        return {"dynamodb_write": units}
    return {"dynamodb_write_hour": units / design.filled / HOUR}


def _beside(invocations: float, usage: Usage) -> Amounts:
    """What every invocation reads and logs."""
    return {
        "ParameterTable": {"dynamodb_read": invocations * usage.look_units},
        "logs": {"logs_in": invocations * usage.log_bytes / GB},
    }


# -- dollars ------------------------------------------------------------------------------------


def bill(prices: Prices, region: str, amounts: Amounts) -> dict[str, float]:
    """USD of each part of the pipeline."""
    return {
        part: sum(prices.price(name, region).usd * amount for name, amount in used.items())
        for part, used in amounts.items()
    }


def pipeline_hour(prices: Prices, region: str, shards: int = 20) -> float:
    """USD an hour of the pipeline while nothing is sent: shards cost, the rest waits for free."""
    return HOUR * sum(bill(prices, region, steady(0, Design(shards=shards))).values())


def pipeline_burst(prices: Prices, region: str, messages: int = 10_000) -> float:
    """USD of a burst of so many messages, beside the hours."""
    return sum(bill(prices, region, burst(messages)).values())


def as_records(usage: Usage = AS_MEASURED) -> list[dict[str, Any]]:
    """The numbers of a usage as rows: name, value, mark, how it was obtained."""
    return [
        {"name": each.name, "value": getattr(usage, each.name), **each.metadata}
        for each in fields(usage)
    ]
