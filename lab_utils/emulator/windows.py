"""Tumbling windows: what a function carries from batch to batch of one shard, window by window.

A record belongs to the window in which it was written. What the function returns as its state goes
with the next batch of the window; at the window's end it gets the state once more, to make
something of it. A state is a shard's: a child of it begins with none (Lambda Developer Guide).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lab_utils.emulator.physics import MB, MICROSECONDS

LARGEST_STATE = 1 * MB
"""What a function may carry on (Lambda Developer Guide)."""


@dataclass(eq=False)
class TumblingWindow:
    """The windows of one shard, one after the other; all times in microseconds."""

    length: int
    shard: str
    source: str
    """The ARN of the shard's stream."""
    start: int | None = None
    """When the window began that is going on, if one is."""
    state: str = "{}"
    """What the function returned last in this window, as JSON text."""

    @property
    def end(self) -> int:
        return (self.start or 0) + self.length

    def start_of(self, moment: int) -> int:
        """When the window began that a moment falls in; windows are counted from 1970."""
        return moment - moment % self.length

    def is_over(self, moment: int) -> bool:
        """Whether a window is going on that a moment no longer falls in."""
        return self.start is not None and moment >= self.end

    @property
    def overflows(self) -> bool:
        """Whether the state has grown too large, which ends a window early."""
        return len(self.state) > LARGEST_STATE

    def event(self, records: str, final: bool = False) -> str:
        """What the function gets: records (JSON texts with commas between) and the window."""
        about = {
            "window": {"start": _iso(self.start or 0), "end": _iso(self.end)},
            "shardId": self.shard,
            "eventSourceARN": self.source,
            "isFinalInvokeForWindow": final,
            "isWindowTerminatedEarly": final and self.overflows,
        }
        rest = json.dumps(about, separators=(",", ":"))
        return f'{{"Records":[{records}],"state":{self.state},{rest[1:]}'

    def take(self, answer: str) -> None:
        """Carry on what a function returned."""
        self.state = json.dumps(json.loads(answer)["state"], separators=(",", ":"))

    def finish(self) -> None:
        """The state is dropped. A window that ends early goes on, with a fresh one (assumed)."""
        if not self.overflows:
            self.start = None
        self.state = "{}"


def has_state(answer: str) -> bool:
    """Whether an answer has what a window needs; without it Lambda holds that the call failed."""
    response: Any = json.loads(answer)
    return isinstance(response, dict) and isinstance(response.get("state"), dict)


def _iso(moment: int) -> str:
    return datetime.fromtimestamp(moment // MICROSECONDS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
