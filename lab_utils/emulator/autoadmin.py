"""Who watches the partitions of a table and splits them.

Autoadmin is the name of that part of DynamoDB's control plane (Elhemali et al., USENIX ATC 2022).
A partition is split when it holds too much, when it is hot for minutes, when the table is to bear
more than ever before, and when the reader asks. It is never merged with another: nothing undoes a
split (AWS Database Blog, Scaling DynamoDB, part 3). How long things take is an assumption.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab_utils.emulator.heat import MINUTE, Demand, Sample, judge, minute_of
from lab_utils.emulator.partitions import (
    MOST_PARTITIONS,
    Partition,
    PartitionMap,
    Position,
    first_partitions,
    warm_partitions,
)
from lab_utils.emulator.physics import Physics, between
from lab_utils.emulator.throughput import READ, UNIT, WRITE, Bucket, Debts, mode_warmth

if TYPE_CHECKING:
    from lab_utils.emulator.scheduler import Scheduler

Parts = tuple[Partition, Partition]
LOOK_AGAIN = 20
"""A partition that is too large and could not be split is looked at again a twentieth later."""


@dataclass(frozen=True)
class Split:
    """One split of a partition, or the refusal of one: then it has no parts and no point.

    `at` and `born` (when the partition came to be) in microseconds. `cause` is size, heat,
    throughput or asked.
    """

    at: int
    partition: Partition
    cause: str
    parts: tuple[int, ...]
    reason: str
    point: Position | None = None


class Meter:
    """What one partition may still take, what is asked of it, and for which keys."""

    __slots__ = ("buckets", "demands", "minute", "sample")

    def __init__(
        self, buckets: tuple[Bucket, Bucket], demands: tuple[Demand, Demand], sample: Sample
    ) -> None:
        self.buckets, self.demands, self.sample = buckets, demands, sample
        self.minute = -2

    def ask(self, kind: int, cost: int, now: int) -> bool:
        """Count a cost; whether this minute just became hot. A cool minute ends the sample."""
        minute = (now - 1) // MINUTE
        if minute != self.minute:
            self.minute = minute
            writes, reads = self.demands
            if writes.hot_minute != minute - 1 and reads.hot_minute != minute - 1:
                self.sample.clear()
        return self.demands[kind].add(cost, now)


class Autoadmin:
    """The throughput and the splits of one table.

    `provisioned` and `warm` are (reads, writes) a second, the first None on demand; `cut` carries a
    split out.
    """

    def __init__(
        self,
        partitions: PartitionMap,
        physics: Physics,
        scheduler: Scheduler,
        rng: random.Random,
        debts: Debts,
        *,
        provisioned: tuple[int, int] | None,
        warm: tuple[int, int],
        sort_key: bool,
        local_index: bool,
        cut: Callable[[Partition, Position], Parts],
    ) -> None:
        self.partitions, self._physics, self._scheduler = partitions, physics, scheduler
        self._rng, self._debts, self._cut = rng, debts, cut
        self._sort_key, self._local_index = sort_key, local_index
        self.splits: list[Split] = []
        """Everything that was split or refused, in order."""
        self.over = False
        """The table is gone."""
        self._at_birth = len(partitions)
        self.ceilings = physics.partition_writes, physics.partition_reads
        """What one partition can take, in units a second: (writes, reads)."""
        self._limits = tuple(round(rate * 60 * UNIT * physics.heat_share) for rate in self.ceilings)
        self._meters: dict[int, Meter] = {}
        self._busy: set[int] = set()
        self._looked: dict[int, int] = {}
        self._refused: set[tuple[int, str, str]] = set()
        self._floor = warm
        self._table: tuple[Bucket, Bucket] | None = None
        self._peaks = Demand(0), Demand(0)
        self._growing = False
        if provisioned is not None:
            self.provision(*provisioned)
        self._watch_peaks()

    # -- what the table may bear ----------------------------------------------------------------

    @property
    def warm(self) -> tuple[int, int]:
        """Warm throughput, (reads, writes) a second: what the table could bear at once. It only
        grows; with more partitions than at first it is at least what these can take."""
        reads, writes = self._floor
        count = len(self.partitions)
        if count > self._at_birth:
            most_writes, most_reads = self.ceilings
            reads, writes = max(reads, count * most_reads), max(writes, count * most_writes)
        return reads, writes

    def raise_warm(self, reads: int, writes: int, reason: str) -> None:
        """Bear at least so much from now on: partitions split until they can."""
        self._floor = max(self._floor[0], reads), max(self._floor[1], writes)
        self._split_to(warm_partitions(self._physics, *self._floor), reason)
        self._watch_peaks()

    def provision(self, reads: int, writes: int) -> None:
        """Bear so much and no more. Partitions split if that is more than ever before; fewer
        than once split they never become."""
        seconds, now = self._physics.burst, self._scheduler.now
        if self._table is None:
            self._table = Bucket(writes, seconds, now), Bucket(reads, seconds, now)
        else:
            writing, reading = self._table
            self._table = (
                writing.at_rate(writes, seconds, now),
                reading.at_rate(reads, seconds, now),
            )
        self._floor = max(self._floor[0], reads), max(self._floor[1], writes)
        count = first_partitions(self._physics, reads, writes)
        self._split_to(count, f"throughput raised to {reads:,} reads and {writes:,} writes")

    def go_on_demand(self) -> None:
        """Bear what partitions can take, and grow with the peaks."""
        self._table = None
        reads, writes = mode_warmth(self._physics)
        self._floor = max(self._floor[0], reads), max(self._floor[1], writes)
        self._split_to(self._physics.on_demand_partitions, "on demand")
        self._watch_peaks()

    def _split_to(self, count: int, reason: str) -> None:
        """Split all partitions in the middle until there are so many."""
        while len(self.partitions) < min(count, MOST_PARTITIONS):
            cuts = [(each, cut) for each in self.partitions if (cut := each.middle())]
            if not cuts:
                return
            for partition, cut in cuts:
                self.split(partition, cut, "throughput", reason)

    # -- one request ----------------------------------------------------------------------------

    def meter(self, partition: Partition) -> Meter:
        """The meter of a partition, from its birth on."""
        found = self._meters.get(partition.id)
        if found is None:
            seconds, writes, reads = self._physics.burst, *self.ceilings
            buckets = (
                Bucket(writes, seconds, partition.born),
                Bucket(reads, seconds, partition.born),
            )
            demands = Demand(self._limits[WRITE]), Demand(self._limits[READ])
            found = Meter(buckets, demands, Sample(self._physics.heat_sample, self._rng))
            self._meters[partition.id] = found
        return found

    def limits(self, kind: int, partition: Partition) -> list[str]:
        """The limits that do not let a request in now: KeyRange, Provisioned, or none."""
        now, reached = self._scheduler.now, []
        if self.meter(partition).buckets[kind].fill(now) <= 0:
            reached.append("KeyRange")
        if self._table is not None and self._table[kind].fill(now) <= 0:
            reached.append("Provisioned")
        return reached

    def charge(self, kind: int, partition: Partition, position: Position, cost: int) -> None:
        """A request was let in, and cost so much."""
        now, meter = self._scheduler.now, self.meter(partition)
        until = meter.buckets[kind].take(cost, now)
        if self._table is not None:
            until = max(until, self._table[kind].take(cost, now))
        elif self._peaks[kind].add(cost, now):
            self._at_minutes_end(lambda minute: self._look_at_peak(kind, minute))
        if until > self._debts.until:
            self._debts.until = until
        if meter.ask(kind, cost, now):
            self._watch(partition, kind)
        meter.sample.add(position, cost)

    def turn_away(self, kind: int, partition: Partition, position: Position, cost: int) -> None:
        """A request was not let in; it makes its partition hot all the same."""
        meter = self.meter(partition)
        if meter.ask(kind, cost, self._scheduler.now):
            self._watch(partition, kind)
        meter.sample.add(position, cost)

    # -- traffic --------------------------------------------------------------------------------

    def offer(self, kind: int, asked: Mapping[Partition, int]) -> dict[Partition, int]:
        """Ask for so much of each partition at once; how much of it is granted."""
        now = self._scheduler.now
        granted = {
            partition: min(cost, max(0, self.meter(partition).buckets[kind].fill(now)))
            for partition, cost in asked.items()
        }
        if self._table is not None:
            wanted, room = sum(granted.values()), max(0, self._table[kind].fill(now))
            if wanted > room:
                granted = {each: cost * room // wanted for each, cost in granted.items()}
        for partition, cost in asked.items():
            meter = self.meter(partition)
            until = meter.buckets[kind].take(granted[partition], now)
            self._debts.until = max(self._debts.until, until)
            if meter.ask(kind, cost, now):
                self._watch(partition, kind)
        total = sum(granted.values())
        if self._table is not None:
            self._debts.until = max(self._debts.until, self._table[kind].take(total, now))
        elif self._peaks[kind].add(total, now):
            self._at_minutes_end(lambda minute: self._look_at_peak(kind, minute))
        return granted

    def observe(self, partition: Partition, position: Position, cost: int) -> None:
        """Note a key that traffic asks for."""
        self.meter(partition).sample.add(position, cost)

    # -- what is noticed ------------------------------------------------------------------------

    def rates(self, partition: Partition) -> tuple[float, float]:
        """Units a second that were asked of it over the last minute: (writes, reads)."""
        found = self._meters.get(partition.id)
        if found is None:
            return 0.0, 0.0
        writes, reads = found.demands
        return writes.rate(self._scheduler.now), reads.rate(self._scheduler.now)

    def _watch(self, partition: Partition, kind: int) -> None:
        self._at_minutes_end(lambda _: self._look_at(partition, kind))

    def _at_minutes_end(self, look: Callable[[int], None]) -> None:
        now = self._scheduler.now
        minute = minute_of(now)
        self._scheduler.after((minute + 1) * MINUTE - now, lambda: look(minute))

    def _look_at(self, partition: Partition, kind: int) -> None:
        """At the end of a hot minute: was it one too many?"""
        if self._busy_with(partition):
            return
        meter = self.meter(partition)
        if meter.demands[kind].streak * 60 < self._physics.heat_time:
            return
        self._decide(partition, "heat", meter.sample.costs, meter.sample)

    def look_at_size(self, partition: Partition) -> None:
        """After it grew: does it hold too much?"""
        size = partition.size
        seen = self._looked.get(partition.id, self._physics.partition_bytes)
        if size <= seen or self._busy_with(partition):
            return
        self._looked[partition.id] = size + size // LOOK_AGAIN
        loads = dict(partition.sizes)
        observed = self.meter(partition).sample.costs
        whole = sum(observed.values())
        for position, cost in observed.items():
            loads[position] = loads.get(position, 0) + partition.phantom * cost // whole
        self._decide(partition, "size", loads, None)

    def _busy_with(self, partition: Partition) -> bool:
        gone = self.partitions.by_id(partition.id) is not partition
        return self.over or gone or partition.id in self._busy

    def _decide(
        self,
        partition: Partition,
        cause: str,
        loads: Mapping[Position, int],
        observed: Sample | None,
    ) -> None:
        verdict = judge(
            partition,
            loads,
            sort_key=self._sort_key,
            local_index=self._local_index,
            observed=observed,
        )
        if verdict.cuts:
            self._plan(partition, verdict.cuts, cause, verdict.reason)
        elif (partition.id, cause, verdict.reason) not in self._refused:
            self._refused.add((partition.id, cause, verdict.reason))
            self._note(partition, cause, (), verdict.reason)

    def _plan(
        self, partition: Partition, cuts: tuple[Position, ...], cause: str, reason: str
    ) -> None:
        """A split takes minutes; the second of two cuts is made after the first."""
        self._busy.add(partition.id)

        def carry_out() -> None:
            self._busy.discard(partition.id)
            if self._busy_with(partition):
                return
            _, right = self.split(partition, cuts[0], cause, reason)
            if len(cuts) > 1:
                self._plan(right, cuts[1:], cause, reason)

        self._scheduler.after(between(self._rng, self._physics.split_time), carry_out)

    def _watch_peaks(self) -> None:
        headroom = self._physics.on_demand_headroom
        reads, writes = self.warm
        for kind, warm in ((WRITE, writes), (READ, reads)):
            self._peaks[kind].limit = math.floor(warm * 60 * UNIT / headroom) + 1

    def _look_at_peak(self, kind: int, minute: int) -> None:
        """On demand, a new peak lets the table grow until it has its headroom again."""
        if self.over or self._growing or self._table is not None:
            return
        peak = self._peaks[kind].in_minute(minute) / UNIT / 60
        wanted = math.ceil(peak * self._physics.on_demand_headroom)
        self._growing = True

        def grow() -> None:
            self._growing = False
            if not self.over and self._table is None:
                reads, writes = (0, wanted) if kind == WRITE else (wanted, 0)
                what = ("writes", "reads")[kind]
                self.raise_warm(reads, writes, f"new peak of {peak:,.0f} {what} a second")

        self._scheduler.after(between(self._rng, self._physics.split_time), grow)

    # -- splits ---------------------------------------------------------------------------------

    def split(self, partition: Partition, cut: Position, cause: str, reason: str) -> Parts:
        """Split a partition at once: its parts begin with a share of what it had."""
        parts = self._cut(partition, cut)
        self._note(partition, cause, tuple(part.id for part in parts), reason, cut)
        parent, now = self.meter(partition), self._scheduler.now
        del self._meters[partition.id]
        samples = [parent.sample.within(part) for part in parts]
        loads = [sum(sample.costs.values()) for sample in samples]
        if not any(loads):
            loads = [1] * len(parts)
        for part, sample, load in zip(parts, samples, loads, strict=True):
            writing, reading = (bucket.share(len(parts), now) for bucket in parent.buckets)
            asked_writes, asked_reads = (each.share(load, sum(loads)) for each in parent.demands)
            meter = Meter((writing, reading), (asked_writes, asked_reads), sample)
            meter.minute = parent.minute
            self._meters[part.id] = meter
            part.phantom = partition.phantom * load // sum(loads)
        parts[0].phantom += partition.phantom - sum(part.phantom for part in parts)
        self._watch_peaks()
        return parts

    def _note(
        self,
        partition: Partition,
        cause: str,
        parts: tuple[int, ...],
        reason: str,
        point: Position | None = None,
    ) -> None:
        now = self._scheduler.now
        self.splits.append(Split(now, partition, cause, parts, reason, point))
