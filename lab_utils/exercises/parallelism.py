"""Questions about functions behind a stream: how many run at once, how often, what stands still.

A function that works takes a minute, whatever it is given, so that all that may run together
does run together.
"""

from __future__ import annotations

import random
from typing import Any

from lab_utils.emulator.physics import Physics
from lab_utils.exercises import Found, Question
from lab_utils.exercises.tables import TABLE, new_table
from lab_utils.lab import Lab, open_lab

WORK = "import time\n\ndef handler(event, context):\n    time.sleep(60)\n"
FAIL = (
    "def handler(event, context):\n"
    "    keys = [each['dynamodb']['Keys']['id']['S'] for each in event['Records']]\n"
    "    assert 'poison' not in keys, 'no'\n"
)
KEYS_PER_LANE = 25
"""Different keys written for every lane: with so many, no lane of a question stays without one."""
ONE_SHARD: dict[str, Any] = {
    "ProvisionedThroughput": {"ReadCapacityUnits": 100, "WriteCapacityUnits": 900}
}


def ask(rng: random.Random) -> Question:
    """One of five situations, with its numbers drawn."""
    return rng.choice([_lanes, _hot_key, _ceiling, _account, _checkpoint])(rng)


def _lanes(rng: random.Random) -> Question:
    splits, factor = rng.randint(1, 3), rng.randint(1, 4)

    def run() -> Found:
        with open_lab("embedded") as lab:
            arn = new_table(lab)
            for _ in range(splits):
                lab.split_partition(TABLE, int(lab.partitions(TABLE).index[-1]))
            _write(lab, _many((4 + splits) * factor))
            _connect(lab, "work", arn, ParallelizationFactor=factor)
            lab.clock.advance(minutes=5)
            most = _most_at_once(lab)
        return Found(
            most,
            f"4 + {splits} shards are being read, as a split puts two in the place of one, and "
            f"each has up to {factor} in flight: {4 + splits} * {factor}.",
        )

    return Question(
        f"In a new on-demand table {splits} split{'s take' if splits > 1 else ' takes'} place, "
        "each of a single partition. Then many different items are written. A function takes a "
        f"minute for a batch; its mapping has a ParallelizationFactor of {factor}.\n"
        "How many of its invocations run at once, at most?",
        run,
    )


def _hot_key(rng: random.Random) -> Question:
    changes, batch = rng.randint(41, 300), rng.choice([10, 20, 25, 40])
    factor = rng.randint(2, 10)

    def run() -> Found:
        with open_lab("embedded") as lab:
            arn = new_table(lab, "NEW_IMAGE", **ONE_SHARD)
            _write(lab, ["hot"] * changes)
            _connect(lab, "work", arn, ParallelizationFactor=factor, BatchSize=batch)
            lab.clock.advance(hours=1)
            runs, most = len(lab.invocations("work")), _most_at_once(lab)
        return Found(
            (runs, most),
            f"All changes of one item go one way, so there are batches of {batch} one behind the "
            f"other: {changes} / {batch}, rounded up. However many ways out of the shard there "
            "are, one has all the work.",
        )

    return Question(
        f"{changes} changes of one and the same item wait in a stream of one shard. A mapping "
        f"begins to read them, with a BatchSize of {batch} and a ParallelizationFactor of "
        f"{factor}.\nHow many invocations will there be, and how many of them run at once, at "
        "most? (A pair.)",
        run,
    )


def _ceiling(rng: random.Random) -> Question:
    partitions, factor = rng.randint(2, 5), rng.randint(1, 3)
    reserved, retries = rng.randint(1, 12), rng.choice([0, 1, 2])

    def run() -> Found:
        with open_lab("embedded", physics=Physics(on_demand_partitions=partitions)) as lab:
            arn, keys = new_table(lab), _many(partitions * factor)
            _write(lab, keys)
            _deploy(lab, "work")
            lab.client("lambda").put_function_concurrency(
                FunctionName="work", ReservedConcurrentExecutions=reserved
            )
            _map(lab, "work", arn, ParallelizationFactor=factor, MaximumRetryAttempts=retries)
            lab.clock.advance(hours=1)
            runs = lab.invocations("work")
            lost = len(keys) - int(runs[runs.outcome == "ok"].batch_size.sum())
            most = _most_at_once(lab)
        return Found(
            (most, lost),
            f"Without the reservation it would be {partitions} * {factor}; with it no more than "
            f"{reserved}. What is throttled waits and is sent again, and that counts as no "
            "attempt, so nothing is lost.",
        )

    return Question(
        f"A stream has {partitions} shards, with records of many items waiting in each. A function "
        f"takes a minute for a batch. It has a reserved concurrency of {reserved}; its mapping "
        f"has a ParallelizationFactor of {factor} and a MaximumRetryAttempts of {retries}.\nHow "
        "many invocations run at once, at most, and how many records are lost? (A pair.)",
        run,
    )


def _account(rng: random.Random) -> Question:
    factors, limit = (rng.randint(1, 3), rng.randint(1, 3)), rng.randint(4, 26)

    def run() -> Found:
        physics = Physics(account_concurrency=limit)
        with open_lab("embedded", physics=physics) as lab:
            arn = new_table(lab)
            _write(lab, _many(4 * max(factors)))
            for name, factor in zip(("first", "second"), factors, strict=True):
                _connect(lab, name, arn, ParallelizationFactor=factor)
            lab.clock.advance(hours=1)
            most = _most_at_once(lab)
        wanted = 4 * sum(factors)
        return Found(
            most,
            f"Two mappings on one stream are independent: they would run {wanted} at once. "
            + (
                f"The account has room for {limit}, and the rest is throttled and waits."
                if limit < wanted
                else f"The account has room for {limit}."
            ),
        )

    return Question(
        "Records of many items wait in the four shards of a stream. Two functions that take a "
        "minute for a batch are connected to it, one after the other, with "
        f"ParallelizationFactors of {factors[0]} and {factors[1]}. Nothing is reserved, and the "
        f"account may run {limit} invocations at once.\nHow many does it run at once, at most, of "
        "both functions together?",
        run,
    )


def _checkpoint(rng: random.Random) -> Question:
    records, factor = rng.randint(30, 120), rng.randint(2, 6)
    place = rng.randint(10, records - 10)

    def run() -> Found:
        keys = [f"item-{n}" for n in range(1, records + 1)]
        keys[place - 1] = "poison"
        with open_lab("embedded") as lab:
            arn = new_table(lab, **ONE_SHARD)
            _write(lab, keys)
            settings = {"ParallelizationFactor": factor, "BatchSize": 1}
            _connect(lab, "work", arn, FAIL, **settings)
            lab.clock.advance(minutes=5)
            waiting = int(lab.backlog("work").waiting.iloc[-1])
        return Found(
            waiting,
            f"Of {records} records those before number {place} are done with. A shard has one "
            "position for all the ways out of it, and it stops at the oldest record that is not "
            "done with, whatever is done behind it.",
        )

    return Question(
        f"{records} records, each of another item, wait in a stream of one shard. A mapping reads "
        f"them with a BatchSize of 1 and a ParallelizationFactor of {factor}. Record number "
        f"{place} fails for ever; the others take no time.\nFive minutes later, how many records "
        "count as waiting, by the position of the shard (`lab.backlog`)?",
        run,
    )


# -- what they share -----------------------------------------------------------------------------


def _many(lanes: int) -> list[str]:
    return [f"item-{n}" for n in range(lanes * KEYS_PER_LANE)]


def _write(lab: Lab, keys: list[str]) -> None:
    """One change for each key, all of them different."""
    for number, key in enumerate(keys):
        item = {"id": {"S": key}, "n": {"N": str(number)}}
        lab.client("dynamodb").put_item(TableName=TABLE, Item=item)


def _connect(lab: Lab, name: str, arn: str, code: str = WORK, **settings: Any) -> None:
    """Deploy a function and have it read a stream from its beginning."""
    _deploy(lab, name, code)
    _map(lab, name, arn, **settings)


def _deploy(lab: Lab, name: str, code: str = WORK) -> None:
    role = lab.role("work", {"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"})
    lab.deploy_function(name, code, role=role, timeout=300)


def _map(lab: Lab, name: str, arn: str, **settings: Any) -> None:
    lab.client("lambda").create_event_source_mapping(
        FunctionName=name, EventSourceArn=arn, StartingPosition="TRIM_HORIZON", **settings
    )


def _most_at_once(lab: Lab) -> int:
    """How many invocations ran together, at the moment with the most."""
    runs = lab.invocations()
    ran = runs[runs.outcome != "throttled"]
    return max(
        int(((ran.started <= moment) & (ran.ended > moment)).sum()) for moment in ran.started
    )
