"""What CloudWatch measures of a function, minute by minute: the same call on every target.

Developer Guide of Lambda, "Types of metrics for Lambda functions".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lab_utils.errors import LabError

if TYPE_CHECKING:
    import pandas as pd

NAMESPACE = "AWS/Lambda"
MINUTE = 60
LONGEST = 15 * 24 * 60
"""So many minutes CloudWatch keeps a minute's numbers (User Guide, "Metrics retention")."""


@dataclass(frozen=True)
class Measure:
    """A metric of functions, the statistic that is asked for, and the column that it becomes."""

    metric: str
    statistic: str
    column: str
    unit: float = 1.0
    """What one of CloudWatch's units is in those of the column."""

    def frame(self, cloudwatch: Any, function: str, now: datetime, minutes: float) -> pd.DataFrame:
        """Columns: at (UTC, the beginning of a minute) and the measure; minutes without are left
        out."""
        import pandas as pd

        if not 0 < minutes <= LONGEST:
            raise LabError(
                f"minutes={minutes} can't be looked at: give more than 0 and at most {LONGEST:,}, "
                "as CloudWatch keeps single minutes for 15 days."
            )
        points = self._points(cloudwatch, function, now - timedelta(minutes=minutes), now)
        frame = pd.DataFrame(points, columns=["at", self.column])
        frame["at"] = pd.to_datetime(frame["at"], utc=True).astype("datetime64[us, UTC]")
        frame[self.column] = frame[self.column].astype("float64") * self.unit
        return frame

    def _points(
        self, cloudwatch: Any, function: str, since: datetime, until: datetime
    ) -> list[tuple[datetime, float]]:
        pages = cloudwatch.get_paginator("get_metric_data").paginate(
            MetricDataQueries=[{"Id": "asked", "MetricStat": self._statistic_of(function)}],
            StartTime=since,
            EndTime=until + timedelta(seconds=MINUTE),  # the minute that is not over yet
            ScanBy="TimestampAscending",
        )
        return sorted(
            point
            for page in pages
            for result in page["MetricDataResults"]
            for point in zip(result["Timestamps"], result["Values"], strict=True)
        )

    def _statistic_of(self, function: str) -> dict[str, Any]:
        dimensions = [{"Name": "FunctionName", "Value": function}]
        return {
            "Metric": {
                "Namespace": NAMESPACE,
                "MetricName": self.metric,
                "Dimensions": dimensions,
            },
            "Period": MINUTE,
            "Stat": self.statistic,
        }


ITERATOR_AGE = Measure("IteratorAge", "Maximum", "age", unit=0.001)
"""Milliseconds there, seconds here."""
THROTTLES = Measure("Throttles", "Sum", "throttles")
