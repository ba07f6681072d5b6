"""What AWS charges: dated prices, each with its unit, its source and a mark.

They lie in `prices.json`. A price is `documented` if somebody read it in AWS's list, or on AWS's
page, on the day given there; it is `remembered` if nobody did again. Prices change: look before a
class. Free tiers are named and never subtracted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from lab_utils.errors import LabError

HOME = "us-east-1"
"""Whose prices stand in where the file has none."""


@dataclass(frozen=True)
class Price:
    """What one unit costs (USD), where that is written and when it was read there."""

    usd: float
    unit: str
    mark: str
    url: str
    read: str
    free: str
    """How much of it costs nothing, in words; empty if all of it costs."""


@dataclass(frozen=True)
class Prices:
    """The prices of a day, by Region and name."""

    as_of: str
    currency: str
    source: str
    regions: Mapping[str, Mapping[str, Price]] = field(repr=False)

    def price(self, name: str, region: str = HOME) -> Price:
        """The Region's price; that of us-east-1 where none is known for the Region."""
        home = self.regions[HOME]
        if name not in home:
            raise LabError(f"There is no price {name!r}: use one of {', '.join(home)}.")
        return self.regions.get(region, home).get(name, home[name])

    def as_records(self, region: str = HOME) -> list[dict[str, Any]]:
        """The Region's prices as rows: USD, for (what one pays), mark, read.

        Of what costs less than a hundredth of a cent the row is for a million.
        """
        rows = []
        for name in self.regions[HOME]:
            price = self.price(name, region)
            many, start = (10**6, "a million times: ") if price.usd < 1e-4 else (1, "")
            usd = f"{price.usd * many:.6g}"
            words = start + price.unit
            rows.append({"USD": usd, "for": words, "mark": price.mark, "read": price.read})
        return rows

    def remark(self, region: str = HOME) -> str:
        """Whose prices these are and of when: a sentence to be printed beside a sum."""
        own, home = self.regions.get(region, {}), self.regions[HOME]
        whose = f"those of {region}"
        if not own:
            whose = f"those of {HOME}, as none are known here for {region}"
        elif len(own) < len(home):
            whose += f" and, where none is known here, of {HOME}"
        return f"Prices as of {self.as_of}, without free tiers: {whose}."


@cache
def load() -> Prices:
    """The prices that came with this release."""
    data = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))

    def price(name: str, found: dict[str, Any]) -> Price:
        source = data["sources"][found["source"]]
        return Price(
            usd=found["usd"],
            unit=data["units"][name],
            mark=found["mark"],
            url=source["url"],
            read=source["read"],
            free=data["free"].get(name, ""),
        )

    regions = {
        region: {name: price(name, found) for name, found in own.items()}
        for region, own in data["regions"].items()
    }
    return Prices(data["as_of"], data["currency"], data["source"], regions)
