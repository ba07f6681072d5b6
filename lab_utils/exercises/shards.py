"""Questions about the shards of an idle stream: listed, open, gone, on which page."""

from __future__ import annotations

import random
from collections.abc import Callable

from lab_utils.emulator.physics import HOUR, Physics
from lab_utils.exercises import Found, Question
from lab_utils.exercises.tables import TABLE, new_table
from lab_utils.lab import Lab, open_lab
from lab_utils.lineage import ShardLineage, read_lineage

ROLLOVERS = (3, 4, 6)
"""Hours; 4 is AWS's, nearly."""
HALF, QUARTER = 0.5, 0.25
"""What happens, happens at half past and is seen at a quarter past: never on a roll-over."""


def ask(rng: random.Random) -> Question:
    """One of five situations, with its numbers drawn."""
    return rng.choice([_listed, _after_splits, _switched_off, _first_page, _orphans])(rng)


def _listed(rng: random.Random) -> Question:
    partitions, rollover = rng.randint(2, 12), rng.choice(ROLLOVERS)
    hour = rng.randint(5, 60) + HALF

    def run() -> Found:
        with _lab(partitions, rollover) as lab:
            lineage = _lineage(lab, _after(lab, new_table(lab), hour))
        closed, still_open = len(lineage.closed_shards), len(lineage.open_shards)
        return Found(
            closed + still_open,
            f"Each partition has an open shard and lists those of its shards that closed in the "
            f"last 24 hours, which makes {closed // partitions} here: "
            f"{still_open} open and {closed} closed.",
        )

    return _question(partitions, rollover, f"It is hour {hour}. "
                     "How many shards does the stream list?", run)  # fmt: skip


def _after_splits(rng: random.Random) -> Question:
    partitions, rollover = rng.randint(3, 10), rng.choice(ROLLOVERS)
    early, late, hour = sorted(rng.sample(range(1, 16), 3))
    first, second, at = early + HALF, late + HALF, hour + QUARTER

    def run() -> Found:
        with _lab(partitions, rollover) as lab:
            arn = _after(lab, new_table(lab), first)
            lab.split_partition(TABLE, 0)
            lab.clock.advance(hours=second - first)
            lab.split_partition(TABLE, 1)
            lab.clock.advance(hours=at - second)
            lineage = _lineage(lab, arn)
        still_open = len(lineage.open_shards)
        listed = still_open + len(lineage.closed_shards)
        return Found(
            (still_open, listed),
            f"Each split closes one shard and opens two, so {partitions} + 2 are open. Nothing "
            "has gone yet, and a child rolls over when it is old enough itself, not when the "
            f"others do: {listed} were begun.",
        )

    return _question(
        partitions, rollover,
        f"At hour {first} one partition splits, at hour {second} another of "
        f"the first {partitions}. It is hour {at}. How many shards are open, and how "
        "many are listed? (A pair.)", run)  # fmt: skip


def _switched_off(rng: random.Random) -> Question:
    partitions, rollover = rng.randint(2, 10), rng.choice(ROLLOVERS)
    hour, later = rng.randint(2, 40) + HALF, rng.randint(1, 23)

    def run() -> Found:
        with _lab(partitions, rollover) as lab:
            arn = _after(lab, new_table(lab), hour)
            lab.client("dynamodb").update_table(
                TableName=TABLE, StreamSpecification={"StreamEnabled": False}
            )
            lab.clock.advance(hours=later)
            listed = len(_lineage(lab, arn).closed_shards)
        return Found(
            listed,
            "Disabling closes every open shard, and none follows. A shard is listed until 24 "
            f"hours after it closed: for each partition that leaves {listed // partitions}, "
            "the last of them closed by the switch.",
        )

    return _question(
        partitions, rollover,
        f"At hour {hour} the stream is disabled. How many shards does it list "
        f"{later} hours later?", run)  # fmt: skip


def _first_page(rng: random.Random) -> Question:
    partitions, rollover, hour = rng.randint(26, 60), 4, rng.randint(9, 22) + HALF

    def run() -> Found:
        with _lab(partitions, rollover) as lab:
            arn = _after(lab, new_table(lab), hour)
            page = lab.client("dynamodbstreams").describe_stream(StreamArn=arn)
            seen = {shard["ShardId"] for shard in page["StreamDescription"]["Shards"]}
            lineage = _lineage(lab, arn)
        missed = len(set(lineage.open_shards) - seen)
        return Found(
            missed,
            f"{len(lineage.closed_shards) + len(lineage.open_shards)} shards are listed and a "
            "page has 100, the oldest first. The open ones are the youngest: of "
            f"{len(lineage.open_shards)}, {missed} are not on the first page.",
        )

    return _question(
        partitions, rollover,
        f"It is hour {hour}, and a reader calls DescribeStream once, without asking "
        "for further pages. How many of the open shards does it miss?", run)  # fmt: skip


def _orphans(rng: random.Random) -> Question:
    partitions, rollover = rng.randint(2, 10), rng.choice(ROLLOVERS)
    split, hour = rng.randint(1, 20) + HALF, rng.randint(21, 60) + QUARTER

    def run() -> Found:
        with _lab(partitions, rollover) as lab:
            arn = _after(lab, new_table(lab), split)
            lab.split_partition(TABLE, 0)
            lab.clock.advance(hours=hour - split)
            orphans = len(_lineage(lab, arn).gaps)
        return Found(
            orphans,
            "A parent goes 24 hours after it closed; its children still name it. "
            + (
                "The first shards are all still listed."
                if not orphans
                else "So it is the oldest listed shard of each line: one for each partition "
                "that there was, and two where the parent that has gone is the one that split."
            ),
        )

    return _question(
        partitions, rollover,
        f"At hour {split} one partition splits. It is hour {hour}. How many "
        "of the listed shards name a parent that is not listed any more?", run)  # fmt: skip


# -- what they share -----------------------------------------------------------------------------


def _question(partitions: int, rollover: int, rest: str, run: Callable[[], Found]) -> Question:
    return Question(
        f"A table has {partitions} partitions and an idle stream. Suppose that shards roll over "
        f"after {rollover} hours exactly. Hours count from when the stream was enabled.\n{rest}",
        run,
    )


def _lab(partitions: int, rollover: int) -> Lab:
    exactly = (rollover * HOUR, rollover * HOUR)
    physics = Physics(on_demand_partitions=partitions, rollover=exactly)
    return open_lab("embedded", physics=physics)


def _after(lab: Lab, arn: str, hour: float) -> str:
    """Let it become that hour of the stream's life."""
    lab.clock.advance(hours=hour)
    return arn


def _lineage(lab: Lab, arn: str) -> ShardLineage:
    return read_lineage(lab.client("dynamodbstreams"), arn)
