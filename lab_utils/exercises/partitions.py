"""Questions about partitions: how many a table has, and what a change of throughput does to that.

Shown in the chapter "Partitions".
"""

from __future__ import annotations

import random
from typing import Any

from lab_utils.exercises import Found, Question
from lab_utils.exercises.tables import ON_DEMAND, TABLE, new_table
from lab_utils.lab import Lab, open_lab


def ask(rng: random.Random) -> Question:
    """A question whose answer is a number of partitions, seen as open shards."""
    return rng.choice([_provisioned, _raised, _warmed, _split])(rng)


def _provisioned(rng: random.Random) -> Question:
    reads, writes = rng.randrange(5, 9000, 5), rng.randrange(5, 9000, 5)

    def run() -> Found:
        with open_lab("embedded") as lab:
            count = _new_table(lab, reads, writes)
        return Found(
            count,
            f"{reads:,} / 3,000 + {writes:,} / 1,000, rounded up: the public formula of 2016. "
            "Each partition writes to one open shard.",
        )

    return Question(
        f"A new table is provisioned with {reads:,} read and {writes:,} write units, and has a "
        "stream.\nHow many open shards does the stream list?",
        run,
    )


def _raised(rng: random.Random) -> Question:
    before = rng.randrange(2, 6) * 1000 - 200
    after = before + rng.randrange(1, 5) * 1000
    back = rng.randrange(100, before, 100)

    def run() -> Found:
        with open_lab("embedded") as lab:
            first = _new_table(lab, 5, before)
            for writes in (after, back):
                lab.client("dynamodb").update_table(
                    TableName=TABLE,
                    ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": writes},
                )
            count = _open_shards(lab)
        return Found(
            count,
            f"{first} at first. When throughput is raised above anything before, all of them are "
            "split, again and again until there are enough. Nothing is merged afterwards.",
        )

    return Question(
        f"A table is provisioned with 5 read and {before:,} write units, then raised to {after:,} "
        f"write units, and in the evening lowered to {back:,}.\nHow many open shards does its "
        "stream list at night?",
        run,
    )


def _warmed(rng: random.Random) -> Question:
    writes = rng.randrange(4_000, 40_000, 500)
    reads = rng.randrange(12_000, 120_000, 1_000)

    def run() -> Found:
        with open_lab("embedded") as lab:
            count = _new_table(lab, 0, 0, {"ReadUnitsPerSecond": reads,
                                           "WriteUnitsPerSecond": writes})  # fmt: skip
        return Found(
            count,
            f"Whichever needs more: {writes:,} writes at 1,000 for each partition, or {reads:,} "
            "reads at 3,000.",
        )

    return Question(
        f"A new on-demand table is created with a warm throughput of {writes:,} write and "
        f"{reads:,} read units a second.\nHow many open shards does its stream list?",
        run,
    )


def _split(rng: random.Random) -> Question:
    splits, hours = rng.randrange(1, 6), rng.choice([5, 10])

    def run() -> Found:
        with open_lab("embedded") as lab:
            _new_table(lab, 0, 0)
            for _ in range(splits):
                widest = lab.partitions(TABLE).index[-1]
                lab.split_partition(TABLE, int(widest))
            lab.clock.advance(hours=hours)
            count = _open_shards(lab)
        return Found(
            count,
            "Four, and one more for every split: two children take the place of one parent. "
            "Roll-overs change nothing about that, and nothing is ever merged.",
        )

    return Question(
        f"In a new on-demand table {splits} split{'s' * (splits > 1)} for heat take place, each of "
        f"a single partition. {hours} hours pass.\nHow many open shards does its stream list?",
        run,
    )


def _new_table(lab: Lab, reads: int, writes: int, warm: dict[str, int] | None = None) -> int:
    """Create the table, on demand if both are 0; the number of its open shards."""
    mode: dict[str, Any] = dict(ON_DEMAND)
    if writes:
        units = {"ReadCapacityUnits": reads, "WriteCapacityUnits": writes}
        mode = {"ProvisionedThroughput": units}
    if warm:
        mode["WarmThroughput"] = warm
    new_table(lab, **mode)
    return _open_shards(lab)


def _open_shards(lab: Lab) -> int:
    from lab_utils.lineage import read_lineage

    found = lab.client("dynamodb").describe_table(TableName=TABLE)["Table"]
    return len(read_lineage(lab.client("dynamodbstreams"), found["LatestStreamArn"]).open_shards)
