"""AggregateTable, read as it stands: the running totals and the count of messages."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from lab_utils.pipeline.contract import Lab
from lab_utils.pipeline.messages import TOTAL_KEYS
from lab_utils.pipeline.parts import NAMES

if TYPE_CHECKING:
    import pandas as pd

MESSAGE_COUNT = "message_count"
_ORDER = {key: place for place, key in enumerate((*TOTAL_KEYS, MESSAGE_COUNT))}


def read_totals(lab: Lab) -> dict[str, Decimal]:
    """Every item of AggregateTable (strongly consistent), in the order of the hierarchy."""
    request = {"TableName": lab.name(NAMES.aggregate_table), "ConsistentRead": True}
    pages = lab.client("dynamodb").get_paginator("scan").paginate(**request)
    with lab.explaining("reading the totals"):
        items = [item for page in pages for item in page["Items"]]
    totals = {item["Identifier"]["S"]: Decimal(item["Value"]["N"]) for item in items}
    return dict(sorted(totals.items(), key=lambda item: (_ORDER.get(item[0], 99), item[0])))


def in_cents(totals: dict[str, Decimal]) -> dict[str, int]:
    """The 18 totals as whole cents; a total that is not there yet is 0."""
    return {key: int(totals.get(key, Decimal(0)) * 100) for key in TOTAL_KEYS}


def money(cents: int) -> str:
    """An amount of cents for people: ``money(-1234567)`` is ``"-12,345.67"``."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100:,}.{abs(cents) % 100:02}"


def totals_frame(lab: Lab) -> pd.DataFrame:
    """AggregateTable as a frame: one row per item, indexed by the levels of its hierarchy."""
    import pandas as pd

    totals = read_totals(lab)
    levels = [(*key.split(":"), "", "")[:3] for key in totals]
    index = pd.MultiIndex.from_tuples(levels, names=["RiskType", "TradeDesk", "Region"])
    return pd.DataFrame({"Value": [float(value) for value in totals.values()]}, index=index)
