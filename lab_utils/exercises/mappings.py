"""Questions about event source mappings: what a function gets, in which batches, what it misses.

The numbers are drawn so that nothing falls on the very moment at which a rule begins to hold.
"""

from __future__ import annotations

import json
import math
import random
from typing import Any

from lab_utils.emulator.physics import HOUR, Physics
from lab_utils.exercises import Found, Question
from lab_utils.exercises.tables import TABLE, new_table
from lab_utils.lab import Lab, open_lab

FUNCTION = "Exercise"
FOUR_HOURS = 4 * HOUR
READ = 1000
"""What one read of a stream brings at most, in records."""


def ask(rng: random.Random) -> Question:
    """One of five situations, with its numbers drawn."""
    return rng.choice([_begun, _batched, _filtered, _paused, _busy])(rng)


def _begun(rng: random.Random) -> Question:
    start = rng.choice(["LATEST", "LATEST", "TRIM_HORIZON"])
    every = rng.choice([7, 11, 13])
    creation = rng.choice([s for s in range(20, 170) if 2 < s % every < every - 2])
    before, during = rng.randint(5, 40), rng.randint(190, 280) // every

    def run() -> Found:
        with _Mapped(mapping_creation=(creation, creation)) as mapped:
            for n in range(before):
                mapped.write(n)
            mapped.connect(StartingPosition=start)
            for n in range(before, before + during):
                mapped.lab.clock.advance(seconds=every)
                mapped.write(n)
            mapped.lab.clock.advance(minutes=1)
            given = mapped.given()
        missed = before + during - given
        return Found(
            given,
            f"Of {before + during}, {missed} are missed: those before the call, and those that "
            "came while the mapping was being created."
            if missed
            else "TRIM_HORIZON begins with the oldest record that is kept, so with the first.",
        )

    return Question(
        f"{before} changes are written. Then a mapping is created, with StartingPosition {start}; "
        f"it takes {creation} seconds until it is Enabled and polls. From the call on, a change is "
        f"written every {every} seconds, the first one {every} seconds after the call, {during} in "
        "all. How many changes does the function get?",
        run,
    )


def _batched(rng: random.Random) -> Question:
    backlog = rng.randint(1100, 2900)
    size = rng.choice([100, 250, 500, 1000, 10_000])
    window = rng.choice([0, 0, 20])

    def run() -> Found:
        with _Mapped() as mapped:
            for n in range(backlog):
                mapped.write(n)
            mapped.connect(BatchSize=size, MaximumBatchingWindowInSeconds=window)
            mapped.lab.clock.advance(minutes=2)
            batches = len(mapped.invocations())
        limit = "BatchSize cuts what was read."
        if size > READ:
            limit = (
                "The window puts several reads together."
                if window
                else f"Without a window a batch is what one read brings, at most {READ:,}."
            )
        return Found(batches, f"{limit} {backlog:,} records in {batches} batches.")

    return Question(
        f"{backlog:,} small records wait in a single shard. A mapping is created, with "
        f"TRIM_HORIZON, a BatchSize of {size:,} and a batching window of {window} seconds. The "
        "function returns at once. How many times is it invoked?",
        run,
    )


def _filtered(rng: random.Random) -> Question:
    orders = rng.randint(20, 60)
    every = rng.randint(3, 7)
    total = rng.randint(5, orders - 5)
    image, why = rng.choice(
        [
            ({"status": {"S": ["paid"]}}, "The pattern has the type, as the image does."),
            ({"status": ["paid"]}, "The pattern lacks the type, the S above the value."),
            (
                {"total": {"N": [{"numeric": [">", total]}]}},
                "The image has numbers as text, and a numeric comparison matches no text.",
            ),
            ({"total": {"N": [str(total)]}}, "A number is text here, and equal to one text only."),
            ({"status": {"S": [{"anything-but": "paid"}]}}, "All that have another status."),
        ]
    )
    pattern = json.dumps({"dynamodb": {"NewImage": image}})

    def run() -> Found:
        with _Mapped() as mapped:
            for n in range(orders):
                status = "new" if n % every == 0 else "paid"
                mapped.write(n, status={"S": status}, total={"N": str(n)})
            mapped.connect(FilterCriteria={"Filters": [{"Pattern": pattern}]})
            mapped.lab.clock.advance(minutes=1)
            return Found(mapped.given(), why)

    return Question(
        f"{orders} orders are inserted, with totals (N) of 0, 1, 2 and so on. The status (S) of "
        f"every order whose total is a multiple of {every} (0 is one) is new; all others are paid. "
        f"A mapping from TRIM_HORIZON has this filter:\n{pattern}\nHow many orders does the "
        "function get?",
        run,
    )


def _paused(rng: random.Random) -> Question:
    every = rng.choice([25, 35, 50, 70])
    hours = rng.choice([h for h in range(3, 60) if h < 24 or 5 < (h - 24) * 60 % every < every - 5])

    def run() -> Found:
        with _Mapped(mapping_update=(1.0, 1.0)) as mapped:
            mapped.connect()
            mapped.switch(on=False)
            written = hours * 60 // every
            for n in range(written):
                mapped.lab.clock.advance(minutes=every)
                mapped.write(n)
            mapped.lab.clock.advance(minutes=hours * 60 - written * every)
            mapped.switch(on=True)
            mapped.lab.clock.advance(minutes=1)
            lost = written - mapped.given()
        return Found(
            lost,
            f"{written} were written in the pause. "
            + (
                f"{lost} of them were more than 24 hours old when polling went on, and gone."
                if lost
                else "None was 24 hours old when polling went on, and it went on where it was."
            ),
        )

    return Question(
        f"A mapping is disabled for {hours} hours. A change is written every {every} minutes, the "
        f"first one {every} minutes after it was disabled. Then it is enabled again. How many of "
        "these changes does the function never get? (In this lab, where records go after 24 hours "
        "sharp.)",
        run,
    )


def _busy(rng: random.Random) -> Question:
    seconds, size = rng.choice([3, 4, 7, 8, 9]), rng.choice([10, 20, 25, 50])
    until = rng.choice([s for s in range(20, 60) if s % seconds >= 2])
    begun = math.ceil(until / seconds)
    backlog = size * (begun + rng.randint(2, 5))

    def run() -> Found:
        with _Mapped(seconds=seconds) as mapped:
            for n in range(backlog):
                mapped.write(n)
            mapped.connect(BatchSize=size)
            mapped.lab.clock.advance(minutes=5)
            started = mapped.invocations()["started"]
            passed = (started - started.iloc[0]).dt.total_seconds()
            handed_over = int((passed < until).sum()) * size
        return Found(
            handed_over,
            f"One batch is in flight, and the next one is handed over when it returns: "
            f"{handed_over // size} batches of {size}.",
        )

    return Question(
        f"{backlog} records wait in a single shard. The function takes {seconds} seconds for a "
        f"batch, and the BatchSize is {size}. How many records have been handed over to it within "
        f"{until} seconds from its first invocation on?",
        run,
    )


class _Mapped:
    """A small lab with one table, whose stream has one open shard, and a function to connect."""

    def __init__(self, seconds: float = 0, **constants: Any) -> None:
        physics = Physics(
            **{
                "on_demand_partitions": 1,
                "rollover": (FOUR_HOURS, FOUR_HOURS),
                "cold_start": (0.0, 0.0),
                **constants,
            }
        )
        self.lab: Lab = open_lab("embedded", physics=physics)
        self._dynamodb, self._lambda = self.lab.clients("dynamodb", "lambda")
        self._arn = new_table(self.lab, "NEW_IMAGE")
        role = self.lab.role(
            FUNCTION, {"Effect": "Allow", "Action": "dynamodb:*", "Resource": self._arn}
        )
        code = f"import time\n\ndef handler(event, context):\n    time.sleep({seconds})\n"
        self.lab.deploy_function(FUNCTION, code, role=role, timeout=30)
        self._uuid = ""

    def write(self, n: int, **values: Any) -> None:
        """Insert item `n`."""
        self._dynamodb.put_item(TableName=TABLE, Item={"id": {"S": str(n)}, **values})

    def connect(self, **settings: Any) -> None:
        """Create the mapping; it begins with the oldest record if `settings` says nothing else."""
        made = self._lambda.create_event_source_mapping(
            **{"StartingPosition": "TRIM_HORIZON", **settings},
            FunctionName=FUNCTION,
            EventSourceArn=self._arn,
        )
        self._uuid = made["UUID"]

    def switch(self, on: bool) -> None:
        """Enable or disable the mapping, once it is settled, and wait until it is."""
        self._settle()
        self._lambda.update_event_source_mapping(UUID=self._uuid, Enabled=on)
        self._settle()

    def _settle(self) -> None:
        def is_settled() -> bool:
            """the mapping is settled"""
            found = self._lambda.get_event_source_mapping(UUID=self._uuid)
            return found["State"] in ("Enabled", "Disabled")

        self.lab.wait_until(is_settled)

    def invocations(self) -> Any:
        return self.lab.invocations(FUNCTION)

    def given(self) -> int:
        """How many records the function was given."""
        return int(self.invocations()["batch_size"].sum())

    def __enter__(self) -> _Mapped:
        return self

    def __exit__(self, *error: object) -> None:
        self.lab.close()
