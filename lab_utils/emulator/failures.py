"""What becomes of a batch that failed: tried again, cut in pieces, or given up.

Nothing here waits, calls or draws: outcomes go in, decisions come out. A batch is worked off in
parts. It begins as one part; a bisection makes two of one, and a partial answer or an age limit
takes records away from a part's beginning.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]

UNLIMITED = -1


@dataclass(frozen=True)
class Policy:
    """A mapping's settings for failures, with AWS's defaults: the same batch, for ever."""

    retries: int = UNLIMITED
    """Tries after the first; -1: no limit."""
    record_age: int = UNLIMITED
    """Seconds after which a record is given up; -1: no limit."""
    bisect: bool = False
    reports: bool = False
    """Whether the function's answers tell which records failed."""


@dataclass(frozen=True)
class Part:
    """The records `start` to `stop` - 1 of a batch, which are handed over together.

    `attempt` counts their tries from 1 and is the number of the next one.
    """

    start: int
    stop: int
    attempt: int = 1

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Decision:
    """What follows an invocation: parts to try again, in this order, or one that is given up.

    Whatever is in neither is done.
    """

    again: tuple[Part, ...] = ()
    given_up: Part | None = None


def decide(part: Part, done: int, policy: Policy) -> Decision:
    """What follows a try of a part of which the first `done` records succeeded.

    Progress resets the count of tries. A bisection costs no try. A report that names the part's
    very first record leaves nothing to cut there, so that the part is cut in the middle (assumed).
    """
    if done >= part.size:
        return Decision()
    if done > 0:
        return Decision((Part(part.start + done, part.stop),))
    if policy.bisect and part.size > 1:
        middle = part.start + part.size // 2
        return Decision(
            (Part(part.start, middle, part.attempt), Part(middle, part.stop, part.attempt))
        )
    if policy.retries == UNLIMITED or part.attempt <= policy.retries:
        return Decision((Part(part.start, part.stop, part.attempt + 1),))
    return Decision(given_up=part)


def cut(part: Part, times: Sequence[int], oldest: int) -> tuple[Part, Part]:
    """A part without the records that were written before `oldest`: those, and the others.

    `times` are those of the whole batch, in microseconds, and rise.
    """
    first = part.start
    while first < part.stop and times[first] < oldest:
        first += 1
    return Part(part.start, first, part.attempt), Part(first, part.stop, part.attempt)


def calls_of_aged(part: Part) -> int:
    """`approximateInvokeCount` of records that grew too old: 1 even if they were never sent."""
    return max(1, part.attempt - 1)


def reported(answer: str, numbers: Sequence[str]) -> int | None:
    """How many records of a batch succeeded, by a function's answer; None: all of them.

    The lowest sequence number that is named is the first record that failed. An answer that
    names none, or one that the batch does not have, or that has another form, fails all.
    """
    response: Any = json.loads(answer)
    if not response:
        return None  # "", [], null and {}
    if not isinstance(response, dict):
        return 0
    failures = response.get("batchItemFailures")
    if failures is None or failures == []:
        return None
    if not isinstance(failures, list):
        return 0
    places = {number: place for place, number in enumerate(numbers)}
    found = [places.get(_identifier(each)) for each in failures]
    known = [place for place in found if place is not None]
    return min(known) if len(known) == len(found) else 0


def _identifier(failure: Any) -> str:
    named = failure.get("itemIdentifier") if isinstance(failure, dict) else None
    return named if isinstance(named, str) else ""
