"""Where the load of a partition lies, and whether a split would spread it.

A hot partition is split where the observed keys suggest it, not in the middle of its range: half of
the load is to lie on either side. What one key alone asks for cannot be spread, and what arrives in
the order of its keys would only be hot in the next part. (AWS Database Blog, Scaling DynamoDB,
part 3; Elhemali et al., USENIX ATC 2022, "split for consumption"; Developer Guide, best practices
for partition keys.) How keys are sampled, and the bounds below, are assumptions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from lab_utils.emulator.partitions import Partition, Position
from lab_utils.emulator.physics import MICROSECONDS
from lab_utils.emulator.throughput import UNIT

MINUTE = 60 * MICROSECONDS
MOSTLY_GROWS = 0.95
"""From this part of a collection's load at its newest sort key on, the key counts as growing."""
ARRIVED_LATE = (0.25, 0.9)
"""A key that came when this part of the load had been asked for, and has most of the load since, is
one of those that walk."""

ISOLATED_KEY = "one key: isolated"
ISOLATED_ITEM = "one item: isolated"
ONE_KEY = "one key: isolated already, and split no further"
ONE_ITEM = "one item: isolated already, and split no further"
GROWS = "sort key only grows: a split would not help"
WALKS = "the load walks from key to key: a split would not help"
LOCAL_INDEX = "local index: a collection is never split"
HALVES = "half of the load on either side"
BY_SORT_KEY = "hot collection: split by sort key"
MIDDLE = "nothing known of its keys: split in the middle"
TOO_NARROW = "its range has no middle"


def minute_of(now: int) -> int:
    """The running minute; a moment on the full minute still belongs to the one that ends."""
    return (now - 1) // MINUTE


class Demand:
    """What is asked for, minute by minute. From `limit` (millionths of a unit) on in one minute,
    that minute is hot; `streak` counts hot minutes without a cool one between them."""

    __slots__ = ("asked", "before", "hot_minute", "limit", "minute", "streak")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.minute = self.hot_minute = -2
        self.asked = self.before = self.streak = 0

    def add(self, cost: int, now: int) -> bool:
        """Count a cost; whether just now this minute became a hot one."""
        minute = (now - 1) // MINUTE
        if minute != self.minute:
            self.before = self.asked if minute == self.minute + 1 else 0
            self.minute, self.asked = minute, 0
        self.asked += cost
        if self.asked < self.limit or self.hot_minute == minute:
            return False
        self.streak = self.streak + 1 if self.hot_minute == minute - 1 else 1
        self.hot_minute = minute
        return True

    def in_minute(self, minute: int) -> int:
        """What was asked for in the running minute or the one before it."""
        if minute == self.minute:
            return self.asked
        return self.before if minute == self.minute - 1 else 0

    def rate(self, now: int) -> float:
        """Units a second over the last minute, the minute before weighing less as this one runs."""
        minute = minute_of(now)
        earlier = self.asked if minute == self.minute + 1 else self.before
        if abs(minute - self.minute) > 1:
            earlier = 0
        left = (minute + 1) * MINUTE - now
        return (self.in_minute(minute) + earlier * left / MINUTE) / UNIT / 60

    def share(self, part: int, whole: int) -> Demand:
        """The demand of a part that was asked for so much of the whole."""
        shared = Demand(self.limit)
        shared.minute = self.minute
        shared.asked, shared.before = self.asked * part // whole, self.before * part // whole
        return shared


class Sample:
    """Some of the positions that were asked for, and how much each was; in order of arrival.

    When it is full, a newcomer takes the place of another by chance, the less probably the more
    came before it: what is asked for often stays, or comes back.
    """

    __slots__ = ("_arrived", "_asked", "_fronts", "_keys", "_missed", "_most", "_rng", "costs")

    def __init__(self, most: int, rng: random.Random) -> None:
        self._most, self._rng = most, rng
        self.costs: dict[Position, int] = {}
        self._keys: list[Position] = []
        self._arrived: dict[Position, int] = {}
        self._asked = self._missed = 0
        self._fronts: dict[int, tuple[Position, int, int]] = {}

    def add(self, position: Position, cost: int) -> None:
        costs = self.costs
        if position in costs:
            costs[position] += cost
        elif len(costs) < self._most:
            costs[position] = cost
            self._keys.append(position)
            self._arrived[position] = self._asked
        else:
            self._take_a_place(position, cost)
        self._asked += cost
        if len(position) > 1:
            self._watch_front(position, cost)

    def _take_a_place(self, position: Position, cost: int) -> None:
        self._missed += 1
        place = self._rng.randrange(self._most + self._missed)
        if place < self._most:
            del self.costs[self._keys[place]], self._arrived[self._keys[place]]
            self.costs[position], self._arrived[position] = cost, self._asked
            self._keys[place] = position

    def _watch_front(self, position: Position, cost: int) -> None:
        """How much of a collection's load is for its newest sort key: the largest one so far."""
        collection = position[0]
        if collection not in self._fronts and len(self._fronts) >= self._most:
            return
        newest, at_front, total = self._fronts.get(collection, (position, 0, 0))
        if position >= newest:
            newest, at_front = position, at_front + cost
        self._fronts[collection] = newest, at_front, total + cost

    def grows(self, collection: int) -> bool:
        """Whether nearly all that a collection was asked for was at its newest sort key."""
        _, at_front, total = self._fronts.get(collection, ((), 0, 0))
        return total > 0 and at_front >= MOSTLY_GROWS * total

    def walks(self) -> bool:
        """Whether the load went from one key to another: a late one has most of it since it came.

        Not so for many new keys at once: none of them has much.
        """
        costs: dict[int, int] = {}
        came: dict[int, int] = {}
        for position, cost in self.costs.items():
            costs[position[0]] = costs.get(position[0], 0) + cost
            came[position[0]] = min(came.get(position[0], self._asked), self._arrived[position])
        early, late = (part * self._asked for part in ARRIVED_LATE)
        return any(
            early <= came[place] <= late and 2 * cost > self._asked - came[place]
            for place, cost in costs.items()
        )

    def clear(self) -> None:
        if self.costs:
            self.costs.clear()
            self._keys.clear()
            self._arrived.clear()
            self._fronts.clear()
            self._asked = self._missed = 0

    def within(self, partition: Partition) -> Sample:
        """What of it lies in a part."""
        part = Sample(self._most, self._rng)
        part.costs = {
            position: cost
            for position, cost in self.costs.items()
            if partition.start <= position < partition.end
        }
        part._keys = list(part.costs)
        part._arrived = dict.fromkeys(part.costs, 0)
        part._asked = sum(part.costs.values())
        return part


@dataclass(frozen=True)
class Verdict:
    """Where to cut a partition, and why; no cuts, and why not."""

    cuts: tuple[Position, ...]
    reason: str


def judge(
    partition: Partition,
    loads: Mapping[Position, int],
    *,
    sort_key: bool,
    local_index: bool,
    observed: Sample | None = None,
) -> Verdict:
    """Where a partition with these loads (of heat, or of bytes) should be cut.

    `observed`: what tells whether the load walks from key to key, and whether a sort key only
    grows; None where that does not matter.
    """
    if not any(loads.values()):
        cut = partition.middle()
        return Verdict((cut,), MIDDLE) if cut else Verdict((), TOO_NARROW)
    if observed is not None and observed.walks():
        return Verdict((), WALKS)
    by_hash: dict[int, int] = {}
    for position, load in loads.items():
        by_hash[position[0]] = by_hash.get(position[0], 0) + load
    heaviest = max(by_hash, key=lambda place: (by_hash[place], -place))
    cut = fairest_cut(partition, {(place,): load for place, load in by_hash.items()})
    if cut and 2 * by_hash[heaviest] <= sum(by_hash.values()):
        return Verdict((cut,), HALVES)
    around = [each for each in ((heaviest,), (heaviest + 1,)) if partition.holds(each)]
    if around:
        return Verdict(tuple(around), ISOLATED_KEY)
    if not sort_key:
        return Verdict((), ONE_KEY)
    if local_index:
        return Verdict((), LOCAL_INDEX)
    return _judge_collection(partition, loads, observed)


def _judge_collection(
    partition: Partition, loads: Mapping[Position, int], observed: Sample | None
) -> Verdict:
    """A collection that is alone in its partition: by its sort keys."""
    if len(loads) > 1 and observed is not None and observed.grows(partition.low):
        return Verdict((), GROWS)
    heaviest = max(loads, key=lambda position: loads[position])
    if 2 * loads[heaviest] > sum(loads.values()):
        after = min((each for each in loads if each > heaviest), default=None)
        around = [each for each in (heaviest, after) if each and partition.holds(each)]
        return Verdict(tuple(around), ISOLATED_ITEM) if around else Verdict((), ONE_ITEM)
    cut = fairest_cut(partition, loads)
    return Verdict((cut,), BY_SORT_KEY) if cut else Verdict((), ONE_ITEM)


def fairest_cut(partition: Partition, loads: Mapping[Position, int]) -> Position | None:
    """The observed position before which most nearly half of the load lies."""
    whole, left = sum(loads.values()), 0
    best: tuple[int, Position] | None = None
    for position in sorted(loads):
        off = abs(whole - 2 * left)
        if partition.holds(position) and (best is None or off < best[0]):
            best = off, position
        left += loads[position]
    return best[1] if best else None
