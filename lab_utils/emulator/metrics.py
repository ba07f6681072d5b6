"""What Lambda counts. Kept here, and handed to CloudWatch when somebody reads metrics.

Equal values of one minute are one entry with a count, so that a million invocations stay small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lab_utils.emulator.physics import MICROSECONDS

if TYPE_CHECKING:
    from lab_utils.emulator.world import World

NAMESPACE = "AWS/Lambda"
MINUTE = 60 * MICROSECONDS
DATA_PER_CALL = 1000
HEADERS = {"content-type": "application/x-amz-json-1.0"}

Dimensions = tuple[tuple[str, str], ...]
Series = tuple[str, str, str, Dimensions]
"""One metric: Region, name, unit, dimensions."""
Point = tuple[Series, int]
"""One metric in one minute."""


class Metrics:
    """All data points of a world that CloudWatch has not got yet: `world.metrics`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pending: dict[Series, dict[tuple[int, float], int]] = {}
        """How often a metric had a value in a minute."""
        self._levels: dict[Series, tuple[int, int]] = {}
        """How high each level is now, and the first minute for which this is not yet noted."""

    def add(
        self,
        region: str,
        name: str,
        value: float,
        unit: str,
        dimensions: Mapping[str, str],
        count: int = 1,
        at: int | None = None,
    ) -> None:
        """Note a value, `count` times, at a moment (microseconds; None: now)."""
        moment = self._world.scheduler.env.now if at is None else at
        series = region, name, unit, tuple(dimensions.items())
        self._note(series, int(moment // MINUTE), value, count)

    def _note(self, series: Series, minute: int, value: float, count: int = 1) -> None:
        counts = self._pending.get(series)
        if counts is None:
            counts = self._pending[series] = {}
        counts[minute, value] = counts.get((minute, value), 0) + count

    def level(
        self, region: str, name: str, value: int, unit: str, dimensions: Mapping[str, str]
    ) -> None:
        """A value that holds until the next one: noted when it rises, and in every minute.

        Its maximum is what counts. Zero is not noted: what rests has no data points.
        """
        series = region, name, unit, tuple(dimensions.items())
        before, _ = self._levels.get(series, (0, 0))
        minute = self._carry_on(series)
        self._levels[series] = value, minute + 1
        if value > before:
            self._note(series, minute, value)

    def _carry_on(self, series: Series) -> int:
        """Note a level in the minutes that have begun since it changed; the present minute."""
        value, minute = self._levels.get(series, (0, 0))
        present = int(self._world.scheduler.env.now // MINUTE)
        if value:
            for each in range(minute, present + 1):
                self._note(series, each, value)
        return present

    def deliver(self) -> None:
        """Hand over what is pending: called before anybody reads metrics."""
        for series, (level, _) in self._levels.items():
            self._levels[series] = level, self._carry_on(series) + 1
        pending, self._pending = self._pending, {}
        data: dict[str, dict[Point, dict[float, int]]] = {}
        for series, counts in pending.items():
            points = data.setdefault(series[0], {})
            for (minute, value), count in counts.items():
                points.setdefault((series, minute), {})[value] = count
        for region, points in data.items():
            listed = list(points.items())
            for start in range(0, len(listed), DATA_PER_CALL):
                self._put(region, listed[start : start + DATA_PER_CALL])

    def _put(self, region: str, data: list[tuple[Point, dict[float, int]]]) -> None:
        body = {
            "Namespace": NAMESPACE,
            "MetricData": [
                {
                    "MetricName": name,
                    "Dimensions": [{"Name": each, "Value": value} for each, value in dimensions],
                    "Timestamp": minute * 60,
                    "Unit": unit,
                    "Values": list(values),
                    "Counts": list(values.values()),
                }
                for ((_, name, unit, dimensions), minute), values in data
            ],
        }
        self._world.backing.request(
            "cloudwatch",
            region,
            "POST",
            "/",
            HEADERS | {"x-amz-target": "GraniteServiceVersion20100801.PutMetricData"},
            json.dumps(body).encode(),
            {},
        )
