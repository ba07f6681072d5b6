"""ListShards' ShardFilter: the shards behind one, those of a moment, or those since a moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lab_utils.emulator.kinesis_tokens import invalid
from lab_utils.emulator.physics import microseconds
from lab_utils.emulator.shards import Shard
from lab_utils.emulator.wire import timestamp

Params = dict[str, Any]

WITH_TIME = ("AT_TIMESTAMP", "FROM_TIMESTAMP")


@dataclass(frozen=True)
class ShardFilter:
    """Which shards of a listing are wanted (API reference, ListShards).

    `moment` in microseconds; `after` is the id that they stand behind.
    """

    kind: str = "FROM_TRIM_HORIZON"
    moment: int = 0
    after: str = ""

    @classmethod
    def of(cls, asked: Params | None, horizon: int) -> ShardFilter:
        """The filter of a request; no record is older than `horizon`. The words of its refusals
        are the lab's."""
        if asked is None:
            return cls()
        kind, after, moment = asked["Type"], asked.get("ShardId"), asked.get("Timestamp")
        for name, value, belongs in (
            ("ShardId", after, kind == "AFTER_SHARD_ID"),
            ("Timestamp", moment, kind in WITH_TIME),
        ):
            if (value is not None) != belongs:
                must = "needs" if belongs else "must not have"
                raise invalid(f"A ShardFilter of type {kind} {must} a {name}.")
        seconds = 0.0 if moment is None else timestamp(moment)
        return cls(kind, horizon if moment is None else microseconds(seconds), after or "")

    def wants(self, shard: Shard) -> bool:
        if self.kind == "AT_LATEST":
            return shard.open
        if self.kind in ("AT_TRIM_HORIZON", "AT_TIMESTAMP"):
            return shard.started <= self.moment and self._reaches(shard)
        return self.kind != "FROM_TIMESTAMP" or self._reaches(shard)

    def _reaches(self, shard: Shard) -> bool:
        """Whether a shard was open at the moment, or later."""
        return shard.ended is None or shard.ended >= self.moment
