"""A lane hands batches to a function, one at a time.

The next batch of a lane is not invoked before the last one is done with, and a batch that failed is
tried again as the very same batch, unless the mapping's settings cut it or give it up.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import simpy

from lab_utils.emulator import failures
from lab_utils.emulator.destinations import GivenUp
from lab_utils.emulator.failures import Condition, Part
from lab_utils.emulator.invocations import Result, Trigger
from lab_utils.emulator.physics import between, microseconds
from lab_utils.emulator.shards import Record
from lab_utils.emulator.versions import LATEST
from lab_utils.emulator.windows import has_state

if TYPE_CHECKING:
    from lab_utils.emulator.pollers import Poller

Steps = Generator[simpy.Event, Any, None]
Attempt = Generator[simpy.Event, Any, Result | None]
Doing = Literal[
    "waiting", "collecting", "working", "backing off", "throttled", "missing", "paused", "done"
]

FAILED = "PROBLEM: Function call failed"
FRAME = '{"Records":[]}'

_text = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(eq=False)
class Batch:
    """Records that were collected to be handed over together, and how far they are done."""

    number: int
    records: list[Record] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """The position of each record in its shard."""
    texts: list[str] = field(default_factory=list)
    """The records as the function gets them."""
    done: int = 0

    def numbers(self, part: Part) -> list[str]:
        """The sequence numbers of a part's records, as the function sees them."""
        return [str(record.sequence) for record in self.records[part.start : part.stop]]


class Lane:
    """One line of batches out of a shard."""

    def __init__(self, poller: Poller, number: int) -> None:
        self.number = number
        self.queue: deque[tuple[int, Record]] = deque()
        """Records that are dealt to this lane and in no batch yet, with their positions."""
        self.news: simpy.Event | None = None
        self.hungry_until: int | None = None
        self.ended = self._retired = False
        self.doing: Doing = "waiting"
        self.since = int(poller.env.now)
        self.tries = 0
        """How often in a row what it is at has failed, was throttled, or found no function."""
        self._poller, self._mapping = poller, poller.mapping
        self._mappings, self._physics = poller.mappings, poller.physics
        self._env = poller.env
        self._batch: Batch | None = None
        self._window = poller.window
        self._env.process(self._run())

    # -- told from outside ----------------------------------------------------------------------

    def wake(self) -> None:
        """There may be something new: records, a pause, its end."""
        if self.news is not None and not self.news.triggered:
            self.news.succeed()

    def retire(self) -> None:
        """Hand over nothing more, ever."""
        self._retired = True
        self.wake()

    # -- asked from outside ---------------------------------------------------------------------

    @property
    def oldest(self) -> int | None:
        """The position of the first record that this lane has and is not done with."""
        batch = self._batch
        if batch is not None and batch.done < len(batch.places):
            return batch.places[batch.done]
        return self.queue[0][0] if self.queue else None

    @property
    def busy(self) -> bool:
        """Whether it is at a batch that is not done with."""
        return self._batch is not None

    @property
    def still(self) -> bool:
        """Whether it does nothing, because of a pause or because it is at its end."""
        return self.ended or self.doing == "paused"

    @property
    def holds(self) -> int:
        """How many records it has in its hands or in its queue."""
        batch = self._batch
        return len(self.queue) + (len(batch.places) - batch.done if batch is not None else 0)

    def _do(self, doing: Doing) -> None:
        self.doing, self.since = doing, int(self._env.now)

    # -- a lane's day ---------------------------------------------------------------------------

    def _run(self) -> Steps:
        while not self._retired:
            if self._poller.paused:
                yield from self._rest()
            elif self._window_is_over():
                yield from self._end_window()
            elif self.queue:
                yield from self._next_batch()
            elif self._poller.drained:
                self.ended = True
                self._do("done")
                self._poller.lane_ended()
                return
            else:
                yield from self._wait()

    def _rest(self) -> Steps:
        """Wait for the end of a pause, and of one that follows at that very moment."""
        while self._poller.paused and not self._retired:
            self.news = self._env.event()
            self._do("paused")
            self._poller.lane_rests()
            yield self.news
        self._do("waiting")

    def _wait(self) -> Steps:
        """Wait for records, or for the end of a tumbling window, which is seen at a poll."""
        if self.doing != "waiting":
            self._do("waiting")
        window, now = self._window, int(self._env.now)
        if window is None or window.start is None or now >= window.end:
            yield self._poller.feed(self)
            return
        ends = self._poller.tick_at(window.end)
        yield self._poller.feed(self) | self._env.timeout(ends - now)

    # -- batches --------------------------------------------------------------------------------

    def _next_batch(self) -> Steps:
        """Collect a batch until it is full or its window closes, and see it through.

        The batching window opens with the first record; it ends with a tumbling window at latest.
        """
        settings = self._mapping.active
        self._batch = batch = Batch(self._mappings.next_batch(self._mapping))
        self._do("collecting")
        now = int(self._env.now)
        deadline = now + microseconds(settings.window)
        if self._window is not None:
            self._window.start = self._window.start_of(self.queue[0][1].at)
            deadline = min(deadline, max(now, self._poller.tick_at(self._window.end)))
        frame = FRAME if self._window is None else self._window.event("")
        room = self._physics.payload_bytes - len(frame)
        while True:
            full, room = self._fill(batch, room)
            if full or self._env.now >= deadline or self._poller.paused or self._poller.drained:
                break
            news = self._poller.feed(self, deadline)
            yield news | self._env.timeout(deadline - int(self._env.now))
        yield from self._deliver(batch)
        if not self._retired:
            self._batch = None

    def _fill(self, batch: Batch, room: int) -> tuple[bool, int]:
        """Move records from the queue into a batch; tell whether it is full, by count or bytes."""
        queue, most = self.queue, self._mapping.active.batch_size
        envelope, shard = self._mapping.source.envelope, self._poller.shard
        role = self._mappings.role_of(self._mapping)
        window = self._window
        while queue and len(batch.records) < most:
            place, record = queue[0]
            if window is not None and record.at >= window.end:
                return True, room
            text = _text(envelope(shard, record, role))
            if len(text) + 1 > room and batch.records:
                return True, room
            queue.popleft()
            batch.records.append(record)
            batch.places.append(place)
            batch.texts.append(text)
            room -= len(text) + 1
        return len(batch.records) >= most, room

    def _deliver(self, batch: Batch) -> Steps:
        """A batch part by part, until all of it is delivered, given up, expired or stopped.

        What is left when the mapping is stopped will be read again when polling goes on.
        """
        parts, refusals = [Part(0, len(batch.records))], 0
        while parts:
            if self._poller.paused:
                yield from self._rest()
            if self._retired:
                return
            if self._window is not None and self._window.overflows:
                yield from self._end_window()
                continue
            part = self._let_age(batch, parts.pop(0))
            if part.start > batch.done:
                self._progress(batch, [part, *parts])
            if not part.size:
                continue
            result = yield from self._attempt(batch, part)
            if result is None or result.outcome == "throttled":
                parts.insert(0, part)
                yield self._after_refusal(result, refusals, part.size)
                refusals += 1
                continue
            refusals = 0
            again = self._conclude(batch, part, result)
            parts[:0] = again
            self._progress(batch, parts)
            if again:
                yield self._pause_for("backing off", part.attempt)

    def _conclude(self, batch: Batch, part: Part, result: Result) -> tuple[Part, ...]:
        """What follows a try that came about: the parts of a part that are to be tried again."""
        mapping = self._mapping
        self._poller.request_id = result.request_id
        done = self._done(batch, part, result)
        if done and self._window is not None:
            self._window.take(result.payload)
        decision = failures.decide(part, done, mapping.active.policy)
        if decision.given_up is not None:
            self._give_up(batch, part, "RetryAttemptsExhausted", result)
        mapping.last_result = "OK" if done == part.size else FAILED
        self._mappings.count(mapping, "InvokedEventCount", part.size)
        self._mappings.count(mapping, "FailedInvokeEventCount", part.size - done)
        return decision.again

    def _progress(self, batch: Batch, rest: list[Part]) -> None:
        """Move on to the first record of a batch that is not done with, or behind the batch."""
        batch.done = rest[0].start if rest else len(batch.records)
        self._poller.checkpoint()

    def _attempt(self, batch: Batch, part: Part) -> Attempt:
        """One try of a part of a batch; None if the function is gone."""
        judge = partial(self._judge, numbers=batch.numbers(part)) if self._judges() else None
        trigger = Trigger(
            self._poller.shard.id,
            self.number,
            part.size,
            part.attempt,
            batch.records[part.stop - 1].at,
            judge,
            batch.number,
            part.start,
        )
        records = ",".join(batch.texts[part.start : part.stop])
        window = self._window
        payload = f'{{"Records":[{records}]}}' if window is None else window.event(records)
        return (yield from self._invoke(payload, trigger))

    def _invoke(self, payload: str, trigger: Trigger) -> Attempt:
        functions = self._mappings.functions
        function = functions.find(self._mapping.active.function)
        if function is None:
            return None
        self._do("working")
        result: Result = yield functions.invoke(function, payload, trigger)
        return result

    def _judges(self) -> bool:
        """Whether a function that ended well may have failed all the same, by its answer."""
        return self._mapping.active.policy.reports or self._window is not None

    def _judge(self, answer: str, numbers: list[str]) -> int | None:
        """How many records of a batch succeeded, by a function's answer; None: all of them."""
        if self._window is not None and not has_state(answer):
            return 0
        return failures.reported(answer, numbers) if self._mapping.active.policy.reports else None

    def _done(self, batch: Batch, part: Part, result: Result) -> int:
        """How many records of a part, counted from its beginning, need not be tried again."""
        if result.outcome == "ok":
            return part.size
        if result.outcome == "partial":
            return self._judge(result.payload, batch.numbers(part)) or 0
        return 0

    # -- records that are given up --------------------------------------------------------------

    def _let_age(self, batch: Batch, part: Part) -> Part:
        """A part without what is too old: expired records vanish, those past the limit are told."""
        now, times = int(self._env.now), [record.at for record in batch.records]
        expired, part = failures.cut(part, times, now - self._mapping.source.log.retention)
        self._poller.skipped += expired.size
        if self._mapping.active.policy.record_age != failures.UNLIMITED:
            limit = microseconds(self._mapping.active.policy.record_age)
            aged, part = failures.cut(part, times, now - limit)
            if aged.size:
                self._give_up(batch, aged, "RecordAgeExceeded", None)
        return part

    def _give_up(self, batch: Batch, part: Part, condition: Condition, last: Result | None) -> None:
        """The lane moves on without a part, and its destination is told if there is one."""
        exhausted = condition == "RetryAttemptsExhausted"
        told = self._mappings.tell_destination(
            self._mapping,
            GivenUp(
                condition,
                part.attempt if exhausted else failures.calls_of_aged(part),
                self._poller.request_id,
                last.error if last else None,
                self._mappings.unqualified_arn(self._mapping),
                self._mapping.source.arn,
                self._mapping.uuid,
                self._poller.shard.id,
                batch.records[part.start : part.stop],
                batch.texts[part.start : part.stop],
                last.version if last else LATEST,
            ),
        )
        count = "OnFailureDestinationDeliveredEventCount" if told else "DroppedEventCount"
        self._mappings.count(self._mapping, count, part.size)

    # -- waiting before the next try ------------------------------------------------------------

    def _pause_for(self, doing: Doing, tries: int) -> simpy.Event:
        """Longer from try to try."""
        self._do(doing)
        self.tries = tries
        return self._env.timeout(microseconds(self._physics.backoff(tries)))

    def _after_refusal(self, result: Result | None, before: int, records: int) -> simpy.Event:
        """The wait after a call that did not come about, for want of the function (None) or of
        room for it. Neither costs a try; `before` such calls went before it, in a row."""
        if result is None:
            self._mapping.last_result = FAILED
            self._mappings.count(self._mapping, "FailedInvokeEventCount", records)
            return self._pause_for("missing", before + 1)
        return self._after_throttle(before)

    def _after_throttle(self, throttles: int) -> simpy.Event:
        """Soon at first; one that is throttled again and again asks less and less often."""
        self._do("throttled")
        self.tries = throttles + 1
        soon = between(self._poller.rng, self._physics.throttle_delay)
        patience = max(1.0, throttles / self._physics.throttle_patience)
        longest = microseconds(self._physics.retry_ceiling)
        return self._env.timeout(min(round(soon * patience), longest))

    # -- tumbling windows -----------------------------------------------------------------------

    def _window_is_over(self) -> bool:
        """Whether the window is over, and all of its records are done with.

        It is when its state grew too large, when a record of a later one is next, when the shard
        ends (assumed), or when its time has passed and everything that was written meanwhile is
        read.
        """
        window, poller = self._window, self._poller
        if window is None or window.start is None:
            return False
        if window.overflows:
            return True
        if self.queue:
            return window.is_over(self.queue[0][1].at)
        if poller.drained:
            return True
        return window.is_over(int(self._env.now)) and poller.read_to >= poller.shard.end

    def _end_window(self) -> Steps:
        """Hand over the state for the last time, without records (assumed), until that succeeds.

        Nothing else is handed over meanwhile (Lambda Developer Guide); a limit of retries holds
        here, too (assumed). A mapping that is stopped meanwhile will do it when polling goes on.
        """
        window, mapping, failed, refusals = self._window, self._mapping, 0, 0
        assert window is not None
        while not self._retired:
            trigger = Trigger(self._poller.shard.id, self.number, 0, failed + 1)
            result = yield from self._invoke(window.event("", final=True), trigger)
            if result is None or result.outcome == "throttled":
                yield self._after_refusal(result, refusals, 0)
                refusals += 1
            else:
                refusals, well = 0, result.outcome == "ok"
                failed += not well
                mapping.last_result = "OK" if well else FAILED
                if well or 0 <= mapping.active.policy.retries < failed:
                    window.finish()
                    return
                yield self._pause_for("backing off", failed)
            if self._poller.paused:
                yield from self._rest()
