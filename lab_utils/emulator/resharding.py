"""How many shards a Kinesis stream has: splits, merges, scaling, and the mode of its capacity.

Each answers at once and is carried out some time later; until then the stream is UPDATING, can be
written and read as before, and takes no second one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from lab_utils.emulator.backing import ACCOUNT
from lab_utils.emulator.data_streams import KinesisStream
from lab_utils.emulator.errors import ApiError, refuse
from lab_utils.emulator.kinesis_tokens import Params, invalid
from lab_utils.emulator.partitions import RING
from lab_utils.emulator.physics import HOUR, between, microseconds
from lab_utils.emulator.shards import Shard

if TYPE_CHECKING:
    from lab_utils.emulator.kinesis import Kinesis
    from lab_utils.emulator.world import World

DAY = microseconds(24 * HOUR)
MOST_SHARDS = 10_000
"""More cannot be asked for by UpdateShardCount (API reference)."""
SCALING = "UpdateShardCount cannot scale"

Step = Callable[[], bool]
"""A round of work on a stream; says whether another one has to follow."""


class Resharding:
    """The calls that change a stream's shards."""

    def __init__(self, kinesis: Kinesis, world: World) -> None:
        self._kinesis, self._physics = kinesis, world.physics
        self._scheduler, self._rng = world.scheduler, world.rng("resharding")

    def split_shard(self, params: Params) -> Params:
        stream = self._provisioned(params)
        shard = self._kinesis.shard(stream, params["ShardToSplit"])
        point = int(params["NewStartingHashKey"])
        self._kinesis.check_shard_limit(1)
        if not shard.low + 1 < point < shard.high - 1:
            raise invalid(
                f"NewStartingHashKey {point} used in SplitShard() on shard {shard.id} in {stream} "
                "is not both greater than one plus the shard's StartingHashKey "
                f"{shard.low} and less than the shard's EndingHashKey {shard.high - 1}."
            )
        _refuse_closed(stream, shard)
        _refuse_busy(stream)
        self._begin(stream, partial(_split, stream, shard, point))
        return {}

    def merge_shards(self, params: Params) -> Params:
        stream = self._provisioned(params)
        first = self._kinesis.shard(stream, params["ShardToMerge"])
        second = self._kinesis.shard(stream, params["AdjacentShardToMerge"])
        if first.high != second.low:
            raise invalid(
                f"Shards {first.id} and {second.id} in {stream} are not an adjacent pair of shards "
                "eligible for merging"
            )
        _refuse_closed(stream, first, second)
        _refuse_busy(stream)
        self._begin(stream, partial(_merge, stream, first, second))
        return {}

    def update_shard_count(self, params: Params) -> Params:
        stream, target = self._provisioned(params), params["TargetShardCount"]
        there = len(stream.open_shards())
        self._check_target(there, target)
        self._kinesis.check_shard_limit(max(0, target - there))
        _refuse_busy(stream)
        self._ration("UpdateShardCount", stream, stream.scalings, self._physics.kinesis_scalings)
        self._begin(stream, partial(_towards, stream, target))
        return {
            "StreamName": stream.name,
            "CurrentShardCount": there,
            "TargetShardCount": target,
            "StreamARN": stream.arn,
        }

    def _check_target(self, there: int, target: int) -> None:
        counts = f"Current open shard count: {there} Target shard count: {target}"
        most = "Target shard count or number of open shards cannot be greater than"
        for beyond, words in (
            (target > MOST_SHARDS, f"{most} {MOST_SHARDS}."),
            (target > 2 * there, f"{SCALING} up over double your current open shard count."),
            (2 * target < there, f"{SCALING} down below half your current open shard count."),
        ):
            if beyond:
                raise ApiError("LimitExceededException", f"{words} {counts}")

    def update_mode(self, params: Params) -> Params:
        """Whoever switches keeps the shards (Developer Guide, capacity modes)."""
        refuse(params, "a stream", "WarmThroughputMiBps", service="Kinesis")
        stream, mode = self._kinesis.stream(params), params["StreamModeDetails"]["StreamMode"]
        _refuse_busy(stream)
        most = self._physics.kinesis_mode_switches
        self._ration("UpdateStreamMode", stream, stream.switches, most)
        self._begin(stream, partial(_switch, stream, mode))
        return {}

    # -- carrying out -----------------------------------------------------------------------------

    def _provisioned(self, params: Params) -> KinesisStream:
        """A stream whose shards are its owner's to count; the words of the refusal are ours."""
        stream = self._kinesis.stream(params)
        if stream.mode != "PROVISIONED":
            raise ApiError(
                "ValidationException",
                f"This call is for the capacity mode PROVISIONED, and the {stream} is ON_DEMAND.",
            )
        return stream

    def _ration(self, call: str, stream: KinesisStream, moments: list[int], most: int) -> None:
        """Count a call that is rationed for each day; the words of the refusal are ours."""
        now = self._scheduler.now
        moments[:] = [moment for moment in moments if moment > now - DAY]
        if len(moments) >= most:
            raise ApiError(
                "LimitExceededException",
                f"{call} was called {most} times in 24 hours for {stream}.",
            )
        moments.append(now)

    def _begin(self, stream: KinesisStream, step: Step) -> None:
        stream.status = "UPDATING"
        self._go_on(stream, step)

    def _go_on(self, stream: KinesisStream, step: Step) -> None:
        def carry_out() -> None:
            if stream.deleted:
                return
            if step():
                self._go_on(stream, step)
            else:
                stream.status = "ACTIVE"

        self._scheduler.after(between(self._rng, self._physics.reshard_time), carry_out)


# -- steps --------------------------------------------------------------------------------------


def _split(stream: KinesisStream, shard: Shard, point: int) -> bool:
    stream.split(shard, point)
    return False


def _merge(stream: KinesisStream, first: Shard, second: Shard) -> bool:
    stream.merge(first, second)
    return False


def _switch(stream: KinesisStream, mode: str) -> bool:
    stream.mode = mode
    return False


def _towards(stream: KinesisStream, count: int) -> bool:
    """One round on the way to so many equal shards: splits, then merges.

    That AWS splits and merges, and that shards live for a short time meanwhile, is documented; in
    which order, and which shards, is assumed.
    """
    wanted = {RING * number // count for number in range(count)}
    there = {shard.low for shard in stream.open_shards()}
    if wanted - there:
        _split_at(stream, sorted(wanted - there))
    else:
        _merge_across(stream, there - wanted)
    return {shard.low for shard in stream.open_shards()} != wanted


def _split_at(stream: KinesisStream, points: list[int]) -> None:
    """Split every shard that holds points, at the one in the middle of them."""
    for shard in stream.open_shards():
        inside = points[bisect_right(points, shard.low) : bisect_left(points, shard.high)]
        if inside:
            stream.split(shard, inside[len(inside) // 2])


def _merge_across(stream: KinesisStream, bounds: set[int]) -> None:
    """Merge neighbours that one of these bounds divides, each shard with one other at most."""
    shards = deque(stream.open_shards())
    while len(shards) > 1:
        first = shards.popleft()
        if shards[0].low in bounds:
            stream.merge(first, shards.popleft())


# -- refusals -----------------------------------------------------------------------------------


def _refuse_busy(stream: KinesisStream) -> None:
    if stream.status != "ACTIVE":
        raise ApiError(
            "ResourceInUseException",
            f"Stream {stream.name} under account {ACCOUNT} not ACTIVE, "
            f"instead in state {stream.status}",
        )


def _refuse_closed(stream: KinesisStream, *shards: Shard) -> None:
    for shard in shards:
        if not shard.open:
            raise invalid(
                f"Shard {shard.id} in {stream} has already been merged or split, "
                "and thus is not eligible for merging or splitting."
            )
