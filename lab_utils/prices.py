"""What the pipeline costs on AWS: dated prices, how much of what it uses, and the two multiplied.

The prices lie in `prices.json`, each with its unit, its source and a mark: `documented` was read
from AWS's own list or page, `remembered` was not read again. They change, so look before a class.
How much is used follows from a `Design` and from the `Usage` of each message, where every number
says how it was obtained. Free tiers are named and never subtracted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from lab_utils.errors import LabError

HOME = "us-east-1"
"""Whose prices stand in where the file has none."""
HOUR = 3600.0
MONTH = 730 * HOUR
"""Seconds of a month, as AWS's own calculator counts."""
KB, GB = 1024, 1024**3
PUT_UNIT = 25 * KB
"""Bytes of a record that Kinesis counts as one PUT payload unit."""

Amounts = Mapping[str, Mapping[str, float]]
"""Of each part of the pipeline: how many units of each price it uses."""


# -- prices -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Price:
    """What one unit costs (USD), where that is written and when it was read there."""

    usd: float
    unit: str
    mark: str
    url: str
    read: str
    free: str = ""


@dataclass(frozen=True)
class Prices:
    """All prices of the file, by Region and name."""

    as_of: str
    currency: str
    source: str
    regions: Mapping[str, Mapping[str, Price]] = field(repr=False)

    def price(self, name: str, region: str = HOME) -> Price:
        """The Region's price; that of us-east-1 where the file has none for the Region."""
        home = self.regions[HOME]
        if name not in home:
            raise LabError(f"There is no price {name!r}: use one of {', '.join(home)}.")
        return self.regions.get(region, home).get(name, home[name])

    def remark(self, region: str = HOME) -> str:
        """Whose prices these are and of when, in words to be printed beside a sum."""
        start = f"Prices as of {self.as_of}, without free tiers"
        own, home = self.regions.get(region, {}), self.regions[HOME]
        if not own:
            return f"{start}: those of {HOME}, as none are known here for {region}."
        if len(own) < len(home):
            return f"{start}: those of {region} and, where none is known here, of {HOME}."
        return f"{start}: those of {region}."


@cache
def load() -> Prices:
    """The prices that came with this release."""
    data = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    units, free, sources = data["units"], data["free"], data["sources"]

    def price(name: str, found: dict[str, Any]) -> Price:
        source = sources[found["source"]]
        return Price(
            found["usd"], units[name], found["mark"], source["url"], source["read"],
            free.get(name, ""),
        )  # fmt: skip

    regions = {
        region: {name: price(name, found) for name, found in own.items()}
        for region, own in data["regions"].items()
    }
    return Prices(data["as_of"], data["currency"], data["source"], regions)


# -- what a message uses ------------------------------------------------------------------------


def measured(default: Any, how: str) -> Any:
    return field(default=default, metadata={"mark": "measured", "how": how})


def modelled(default: Any, how: str) -> Any:
    return field(default=default, metadata={"mark": "modelled", "how": how})


def documented(default: Any, how: str) -> Any:
    return field(default=default, metadata={"mark": "documented", "how": how})


def assumed(default: Any, how: str) -> Any:
    return field(default=default, metadata={"mark": "assumed", "how": how})


@dataclass(frozen=True)
class Usage:
    """What the pipeline's parts use for each message, batch and row.

    Measured: on the embedded lab, and the same on AWS. Modelled: measured there too, but made of
    latencies that the lab assumes (`Physics`), so measure them anew on AWS.
    """

    message_bytes: float = measured(193.0, "the mean of a burst's records, without their keys")
    key_bytes: float = measured(64.0, "the partition key: SHA-256 as hexadecimal digits")
    state_item_bytes: float = measured(145.0, "the mean of StateTable's items")
    row_bytes: float = measured(801.0, "the mean of ReduceTable's rows")
    item_overhead: float = documented(100.0, "Developer Guide: bytes stored beside each item")
    update_units: float = measured(1.0, "ConsumedCapacity of StateLambda's UpdateItem")
    row_units: float = measured(1.0, "write units of MapLambda's PutItem: a row is under 1 KB")
    transaction_units: float = measured(38.0, "ConsumedCapacity of 19 updates: twice one each")
    parameter_units: float = measured(1.0, "ConsumedCapacity of one look into ParameterTable")
    log_bytes: float = measured(343.0, "three lines an invocation, 26 bytes counted for each line")
    update_seconds: float = modelled(0.0045, "one UpdateItem of StateLambda after the other")
    state_seconds: float = modelled(0.003, "StateLambda's time for a batch, however small")
    map_seconds: float = modelled(0.007, "MapLambda's time for a batch: two calls")
    reduce_seconds: float = modelled(0.022, "ReduceLambda's time for a batch: two calls")
    payload_rate: float = modelled(20 * 1024**2, "bytes a second to hand a batch over")
    state_event_bytes: float = measured(900.0, "one Kinesis record in StateLambda's event")
    map_event_bytes: float = measured(900.0, "one record of StateTable in MapLambda's event")
    memory: float = documented(256.0, "MB of each function, the workshop's setting")
    burst_state_batch: float = measured(76.0, "records in StateLambda's batches in a burst")
    burst_map_batch: float = measured(1250.0, "records in MapLambda's batches in a burst")
    burst_reduce_batch: float = measured(1.6, "rows in ReduceLambda's batches in a burst")


@dataclass(frozen=True)
class Design:
    """What one decides about the pipeline; the defaults are the workshop's."""

    shards: int = 20
    stream: str = "provisioned"
    tables: str = "on-demand"
    filled: float = 0.7
    """The part of provisioned capacity that is used: the rest is room for what comes suddenly."""
    state_batch: int = 100
    map_batch: int = 10_000
    map_window: float = 3.0
    reduce_batch: int = 1000
    architecture: str = "x86"


def burst(messages: int = 10_000, usage: Usage = Usage()) -> Amounts:
    """What so many messages at once use, beside the hours: batches as large as were measured."""
    states = math.ceil(messages / usage.burst_state_batch)
    maps = math.ceil(messages / usage.burst_map_batch)
    reduces = math.ceil(maps / usage.burst_reduce_batch)
    return {
        "IncomingDataStream": {"kinesis_put": messages},
        "StateLambda": _function(
            usage, states, messages * usage.update_seconds + states * usage.state_seconds
        ),
        "StateTable": {"dynamodb_write": messages * usage.update_units},
        "MapLambda": _function(usage, maps, maps * usage.map_seconds),
        "ReduceTable": {"dynamodb_write": maps * usage.row_units},
        "ReduceLambda": _function(usage, reduces, reduces * usage.reduce_seconds),
        "AggregateTable": {"dynamodb_write": reduces * usage.transaction_units},
        "ParameterTable": {"dynamodb_read": (states + maps + reduces) * usage.parameter_units},
        "logs": {"logs_in": (states + maps + reduces) * usage.log_bytes / GB},
    }


def _function(usage: Usage, invocations: float, seconds: float) -> dict[str, float]:
    return {"lambda_request": invocations, "lambda_x86": seconds * usage.memory / KB}


def bill(prices: Prices, region: str, amounts: Amounts) -> dict[str, float]:
    """USD of each part of the pipeline for these amounts."""
    return {
        part: sum(prices.price(name, region).usd * amount for name, amount in used.items())
        for part, used in amounts.items()
    }


def pipeline_hour(prices: Prices, region: str, shards: int = 20) -> float:
    """USD an hour of the pipeline while nothing is sent: only the shards cost."""
    return sum(
        bill(prices, region, {"IncomingDataStream": {"kinesis_shard_hour": shards}}).values()
    )


def pipeline_burst(prices: Prices, region: str, messages: int = 10_000) -> float:
    """USD of a burst of so many messages, beside the hours."""
    return sum(bill(prices, region, burst(messages)).values())
