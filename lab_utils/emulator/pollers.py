"""A poller reads one shard for one mapping and deals what it reads out to its lanes.

There are as many lanes as the mapping's ParallelizationFactor says. A key is always in one lane,
so the changes of one item stay in their order, while the lanes run beside each other. What is done
with is known for the whole shard by one position, the checkpoint, which the slowest lane holds.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING
from zlib import crc32

import simpy

from lab_utils.emulator.lanes import Lane
from lab_utils.emulator.physics import MICROSECONDS, Physics, microseconds
from lab_utils.emulator.shards import Record, Shard
from lab_utils.emulator.windows import TumblingWindow

if TYPE_CHECKING:
    from lab_utils.emulator.event_source_mappings import EventSourceMappings, Mapping


class Poller:
    """Reads one shard for one mapping. Its position is that of the first record not yet done.

    It polls on a grid of its own, and only while a lane is hungry: an idle one costs nothing, and
    yet a record waits for the poll that it would have waited for.
    """

    def __init__(
        self,
        mappings: EventSourceMappings,
        mapping: Mapping,
        shard: Shard,
        position: int,
        phase: int,
        delay: int,
    ) -> None:
        self.mappings, self.mapping, self.shard = mappings, mapping, shard
        self.physics: Physics = mappings.physics
        self.rng: Random = mappings.rng
        self.env: simpy.Environment = mappings.scheduler.env
        self._phase = phase
        self.first = self.position = position
        self.progress: list[tuple[int, int]] = []
        """Each moment at which batches were done with, and the position from then on."""
        self.read_to = position
        self._read_at = -1
        self.paused = False
        self.over = False
        self.refused = False
        """Whether the function's role was not allowed to read, when it last was to."""
        self.polled = self.filtered = self.throttled = self.skipped = 0
        """Records read, and kept out by filters, each counted once; polls refused, as the shard had
        too many readers; records that were gone before they could be read."""
        self._furthest = position
        """Up to where the shard was ever read."""
        self.lanes: list[Lane] = []
        self.window: TumblingWindow | None = None
        self._hungry: list[Lane] = []
        self._arranged = False
        self._arrangement = 0
        """Which arrangement holds: what is left of an older one is ignored."""
        self._renewing = False
        self.request_id = mappings.new_request_id()
        """That of the last invocation; word of records that were never sent has one, too."""
        self.began = False
        mappings.scheduler.after(delay, self._begin)

    def _begin(self) -> None:
        self.began = True
        self.shard.pollers += not self.paused
        self._start_lanes()

    def _start_lanes(self) -> None:
        """New lanes, which begin at the position; those there were hand over nothing more."""
        for lane in self.lanes:
            lane.retire()
        self._hungry.clear()
        self._arranged, self._arrangement = False, self._arrangement + 1
        self.read_to = self.position
        active = self.mapping.active
        length = microseconds(active.tumbling)
        if length != (self.window.length if self.window else 0):
            arn = self.mapping.source.arn
            self.window = TumblingWindow(length, self.shard.id, arn) if length else None
        self.lanes = [Lane(self, number) for number in range(active.factor)]

    # -- told from outside ----------------------------------------------------------------------

    def pause(self) -> None:
        """Hand over no further batch; one that is with the function is let finish."""
        self._renewing = False
        self._halt()

    def _halt(self) -> None:
        if not self.paused:
            self.paused = True
            self.shard.pollers -= self.began and not self.over
        hungry, self._hungry = self._hungry, []
        for lane in hungry:
            lane.wake()

    def resume(self) -> None:
        """Go on. If nothing is with the function any more, all that is not done is read again."""
        if not self.paused:
            return
        self.paused = self._renewing = False
        if not self.began or self.over:
            return
        self.shard.pollers += 1
        if all(lane.still for lane in self.lanes):
            self._start_lanes()
        else:
            for lane in self.lanes:
                lane.wake()

    def renew(self) -> None:
        """Heed new settings: lanes that are many or few begin anew once all are at rest."""
        if self.paused or self.over or not self.began or not self.lanes:
            return
        active, window = self.mapping.active, self.window
        length = window.length if window is not None else 0
        if (len(self.lanes), length) != (active.factor, microseconds(active.tumbling)):
            self._halt()
            self._renewing = True
            self.lane_rests()

    def lane_rests(self) -> None:
        """Told by a lane that has stopped for a pause."""
        if self._renewing and all(lane.still for lane in self.lanes):
            self.resume()

    def end(self) -> None:
        """The mapping is deleted."""
        self.pause()
        self.over = True
        for lane in self.lanes:
            lane.retire()

    # -- reading --------------------------------------------------------------------------------

    @property
    def drained(self) -> bool:
        """Whether there is nothing in the shard that was not dealt out, nor ever will be."""
        return not self.shard.open and self.read_to >= self.shard.end

    def feed(self, lane: Lane, until: int | None = None) -> simpy.Event:
        """Have a lane woken when there is something for it; up to a moment, if one is given."""
        lane.news, lane.hungry_until = self.env.event(), until
        if lane not in self._hungry:
            self._hungry.append(lane)
        self.arrange()
        return lane.news

    def arrange(self) -> None:
        """See to it that the shard is read when somebody is hungry and there is something."""
        if self._arranged or self.paused or self.over or not self._hungry:
            return
        if self.read_to < self.shard.end:
            if self._far_ahead():
                return  # the checkpoint, when it moves, comes here again
            self._poll_after(self._next_tick() - int(self.env.now))
        elif self.shard.open:
            self._arrange()
            self.shard.watch(partial(self._grown, self._arrangement))
        else:
            hungry, self._hungry = self._hungry, []
            for lane in hungry:
                lane.wake()

    def _far_ahead(self) -> bool:
        return (
            len(self.lanes) > 1
            and self.read_to - self.position >= self.physics.lane_read_ahead
            and any(lane.busy for lane in self.lanes)
        )

    def _arrange(self) -> None:
        self._arranged, self._arrangement = True, self._arrangement + 1

    def _poll_after(self, delay: int) -> None:
        self._arrange()
        self.mappings.scheduler.after(delay, partial(self._poll, self._arrangement))

    def _grown(self, arrangement: int) -> None:
        if arrangement == self._arrangement:
            self._arranged = False
            self.arrange()

    def _next_tick(self) -> int:
        """The next moment of the poller's own grid: a record waits as long as it would have.

        One that has read at this very moment (and filtered it all out) waits for the moment after.
        """
        tick = self.tick_at(int(self.env.now))
        return tick + self.mapping.source.period * (self._read_at == self.env.now)

    def tick_at(self, moment: int) -> int:
        """The first moment of the grid that is not before another one."""
        period = self.mapping.source.period
        return self._phase - (self._phase - moment) // period * period

    def _poll(self, arrangement: int) -> None:
        if arrangement != self._arrangement:
            return
        self._arranged = False
        now = int(self.env.now)
        still_hungry = [
            lane for lane in self._hungry if lane.hungry_until is None or lane.hungry_until > now
        ]
        if not still_hungry or self.paused or self.over:
            return
        self._hungry = still_hungry
        self._read_at = now
        self.refused = not self.mappings.may_read(self.mapping)
        if self.refused:
            self._poll_after(microseconds(self.physics.retry_ceiling))
            return
        if self._admitted(now):
            self._read(now)
        else:
            self.throttled += 1
        self.arrange()

    def _admitted(self, now: int) -> bool:
        """Whether a shard that has too many readers for its limit answers this poll.

        All poll at one pace, so each gets its share: of a poller's polls some are refused, evenly.
        """
        source = self.mapping.source
        wanted = self.shard.pollers * MICROSECONDS
        allowed = round(source.read_rate * source.period)
        if wanted <= allowed:
            return True
        tick = now // source.period
        return (tick + 1) * allowed // wanted > tick * allowed // wanted

    def _read(self, now: int) -> None:
        source = self.mapping.source
        self.shard.trim(now - source.log.retention)
        start = max(self.read_to, self.shard.trimmed)
        self.skipped += start - self.read_to
        records = self.shard.read(start, source.read_records, source.read_bytes)
        self.read_to = start + len(records)
        kept = self._kept(start, records)
        self._count(start, len(records), kept)
        self._deal(kept)
        hungry, self._hungry = self._hungry, []
        for lane in hungry:
            if lane.queue or self.drained:
                lane.wake()
            else:
                self._hungry.append(lane)
        self.checkpoint()

    def _kept(self, start: int, records: list[Record]) -> list[tuple[int, Record]]:
        """The records that the filters let pass, with their positions.

        What the filters keep out is gone without a trace, and is behind the poller like what the
        function was given.
        """
        wanted = enumerate(records, start)
        if not self.mapping.active.filters:
            return list(wanted)
        passes, envelope = self.mapping.active.filters.match, self.mapping.source.envelope
        role = self.mappings.role_of(self.mapping)
        return [each for each in wanted if passes(envelope(self.shard, each[1], role))]

    def _count(self, start: int, read: int, kept: list[tuple[int, Record]]) -> None:
        """Count what was read; for CloudWatch, once more if it is read again (assumed)."""
        self.mappings.count(self.mapping, "PolledEventCount", read)
        self.mappings.count(self.mapping, "FilteredOutEventCount", read - len(kept))
        fresh = max(start, self._furthest)
        self._furthest = max(self._furthest, self.read_to)
        new = self._furthest - fresh
        self.polled += new
        self.filtered += new - sum(place >= fresh for place, _ in kept)

    def _deal(self, kept: list[tuple[int, Record]]) -> None:
        """Put each record into the lane of its key."""
        if len(self.lanes) == 1:
            self.lanes[0].queue.extend(kept)
            return
        lanes = self.lanes
        for each in kept:
            lanes[lane_of(each[1].key, len(lanes))].queue.append(each)

    # -- told by lanes --------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Move on to the first record that some lane is not done with."""
        held = [lane.oldest for lane in self.lanes if lane.oldest is not None]
        position = min(held, default=self.read_to)
        if position != self.position:
            self.position = position
            self.progress.append((int(self.env.now), position))
            self.arrange()

    def lane_ended(self) -> None:
        """A lane is done with all that it will ever get: when the last one is, the shard is."""
        if all(lane.ended for lane in self.lanes):
            self.over = True
            self.shard.pollers -= 1
            self.mappings.finished(self.mapping, self.shard)


def lane_of(key: str, lanes: int) -> int:
    """The lane of a key. AWS says only that a key has one; which, is assumed."""
    return crc32(key.encode()) % lanes
