"""Questions about readers of a stream: what they miss, repeat, mix up, and may still ask for.

The numbers are drawn so that nothing falls on the very moment at which a rule begins to hold.
"""

from __future__ import annotations

import random
from typing import Any

from botocore.exceptions import ClientError

from lab_utils.emulator.physics import HOUR, Physics
from lab_utils.exercises import Found, Question
from lab_utils.exercises.tables import TABLE, new_table
from lab_utils.lab import Lab, open_lab

FOUR_HOURS = 4 * HOUR
ONE_SHARD = "A table's stream has one open shard at any time. It rolls over after 4 hours exactly."


def ask(rng: random.Random) -> Question:
    """One of five situations, with its numbers drawn."""
    return rng.choice([_silent, _late, _away, _resumed, _child_first])(rng)


def _silent(rng: random.Random) -> Question:
    every = rng.choice([7, 11, 13, 14])
    hours = rng.choice([hours for hours in range(5, 21) if hours * 60 % every])

    def run() -> Found:
        with _Reader() as reader:
            iterator, seen, written = reader.begin(reader.shard()), 0, 0
            while (written + 1) * every <= hours * 60:
                reader.lab.clock.advance(minutes=every)
                reader.write(written)
                written += 1
                if iterator:
                    answer = reader.streams.get_records(ShardIterator=iterator)
                    seen += len(answer["Records"])
                    iterator = answer.get("NextShardIterator")
        return Found(
            written - seen,
            f"{written} were written. The first shard closed after four hours with {seen} of "
            "them, and nobody looked for its child.",
        )

    return Question(
        f"{ONE_SHARD} A change is written every {every} minutes, the first one {every} minutes "
        "after the stream was enabled. A reader lists the shards once, polls after each change, "
        f"and never lists them again. How many changes has it missed after {hours} hours?",
        run,
    )


def _late(rng: random.Random) -> Question:
    held = rng.random() < 0.4
    minutes = rng.randint(6, 14) if rng.random() < 0.3 else rng.randint(16, 59)
    hours = 0 if held else rng.choice([*range(20, 24), *range(25, 32)])

    def run() -> Found:
        with _Reader() as reader:
            shard = reader.shard()
            reader.write(0)
            answer = reader.streams.get_records(ShardIterator=reader.begin(shard))
            number = answer["Records"][-1]["dynamodb"]["SequenceNumber"]
            reader.write(1)
            reader.lab.clock.advance(hours=hours, minutes=minutes)
            try:
                place = answer["NextShardIterator"] if held else reader.after(shard, number)
                reader.streams.get_records(ShardIterator=place)
                outcome = "the record"
            except ClientError as refusal:
                outcome = str(refusal.response["Error"]["Code"])
        return Found(outcome, _LATE[outcome])

    waited = f"{minutes} minutes" if held else f"{hours} hours and {minutes} minutes"
    way = (
        "with the iterator that it holds"
        if held
        else "with a new iterator, AFTER_SEQUENCE_NUMBER of the last record that it read"
    )
    return Question(
        f"{ONE_SHARD} Right after the stream was enabled, a reader reads the first record, and a "
        f"second one is written at once. Then the reader pauses. {waited.capitalize()} later it "
        f"asks for the second record {way}. What does it get: the record, "
        "ExpiredIteratorException, TrimmedDataAccessException or ResourceNotFoundException? (In "
        "this lab, where records go after 24 hours sharp.)",
        run,
    )


_LATE = {
    "the record": "An iterator lives for 15 minutes, a record for 24 hours, and a sequence number "
    "is good for as long as the record after it.",
    "ExpiredIteratorException": "An iterator lives for 15 minutes. The record is still there: a "
    "new iterator AFTER_SEQUENCE_NUMBER would bring it.",
    "TrimmedDataAccessException": "The record is older than 24 hours, and gone. Its shard is "
    "still listed, until 24 hours after it closed.",
    "ResourceNotFoundException": "The shard closed after four hours, and that is more than 24 "
    "hours ago. It is gone, and the record with it.",
}


def _away(rng: random.Random) -> Question:
    every = rng.choice([25, 35, 50, 70])
    hours = rng.choice([hours for hours in range(25, 45) if (hours - 24) * 60 % every])

    def run() -> Found:
        with _Reader() as reader:
            written = hours * 60 // every
            for n in range(written):
                reader.lab.clock.advance(minutes=every)
                reader.write(n)
            reader.lab.clock.advance(minutes=hours * 60 - written * every)
            left = sum(len(reader.drain(shard)) for shard in reader.shards())
        return Found(
            written - left,
            f"{written} were written in the pause, and the last 24 hours hold {left} of them. "
            "The others can't be had back, whatever the reader asks for.",
        )

    return Question(
        f"{ONE_SHARD} A reader has read all there is, and goes away for {hours} hours. A change is "
        f"written every {every} minutes, the first one {every} minutes after it left. How many "
        "of them are lost to it for good? (In this lab, where records go after 24 hours sharp.)",
        run,
    )


def _resumed(rng: random.Random) -> Question:
    before, during = rng.randint(5, 40), rng.randint(3, 30)
    way = rng.choice(["LATEST", "TRIM_HORIZON", "AFTER_SEQUENCE_NUMBER"])

    def run() -> Found:
        with _Reader() as reader:
            shard = reader.shard()
            for n in range(before):
                reader.write(n)
            seen = reader.numbers(shard)
            for n in range(before, before + during):
                reader.write(n)
            reader.lab.clock.advance(minutes=30)
            if way == "AFTER_SEQUENCE_NUMBER":
                last = reader.drain(shard)[before - 1]["dynamodb"]["SequenceNumber"]
                resumed = reader.numbers(shard, way, SequenceNumber=last)
            else:
                resumed = reader.numbers(shard, way)
        lost = before + during - len({*seen, *resumed})
        repeated = len(seen) + len(resumed) - len({*seen, *resumed})
        return Found((lost, repeated), _RESUMED[way])

    return Question(
        f"{ONE_SHARD} A reader has read {before} changes. While it pauses for half an hour, "
        f"{during} more are written. It goes on with a new iterator: {way}"
        + (" of the last record that it read" if way == "AFTER_SEQUENCE_NUMBER" else "")
        + ". How many changes has it lost, and how many does it see twice? (A pair.)",
        run,
    )


_RESUMED = {
    "LATEST": "LATEST begins after the newest record, and so behind the whole pause.",
    "TRIM_HORIZON": "TRIM_HORIZON begins with the oldest record that is kept: all of it again.",
    "AFTER_SEQUENCE_NUMBER": "The number of the last record read is an exact bookmark.",
}


def _child_first(rng: random.Random) -> Question:
    before, after = rng.randint(2, 30), rng.randint(2, 30)

    def run() -> Found:
        with _Reader() as reader:
            for n in range(before):
                reader.write(0, version=n)
            reader.lab.clock.advance(hours=5)
            for n in range(before, before + after):
                reader.write(0, version=n)
            parent, child = reader.shards()
            seen = [*reader.numbers(child), *reader.numbers(parent)]
        late = sum(n < max(seen[: place + 1]) for place, n in enumerate(seen))
        return Found(
            late,
            f"The child holds the last {after}, the parent the first {before}. All of the "
            "parent's are older than what has been seen by then; the child's own are in order.",
        )

    return Question(
        f"{ONE_SHARD} One item is changed {before} times, then the shard rolls over, and the item "
        f"is changed {after} times more. A reader reads the child to its end first, and then the "
        "parent. How many changes come after a later change of the item?",
        run,
    )


class _Reader:
    """A small lab with one table, whose stream has one open shard, and calls to read it."""

    def __init__(self) -> None:
        physics = Physics(on_demand_partitions=1, rollover=(FOUR_HOURS, FOUR_HOURS))
        self.lab: Lab = open_lab("embedded", physics=physics)
        self._dynamodb, self.streams = self.lab.clients("dynamodb", "dynamodbstreams")
        self._arn = new_table(self.lab, "NEW_IMAGE")

    def write(self, n: int, version: int | None = None) -> None:
        """Change item `n`; each item is new unless a version is given."""
        number = str(n if version is None else version)
        self._dynamodb.put_item(TableName=TABLE, Item={"id": {"S": str(n)}, "n": {"N": number}})

    def shards(self) -> list[str]:
        """The shards that are listed, oldest first."""
        found = self.streams.describe_stream(StreamArn=self._arn)["StreamDescription"]["Shards"]
        return [shard["ShardId"] for shard in found]

    def shard(self) -> str:
        return self.shards()[0]

    def begin(self, shard: str, kind: str = "TRIM_HORIZON", **where: str) -> str:
        answer = self.streams.get_shard_iterator(
            StreamArn=self._arn, ShardId=shard, ShardIteratorType=kind, **where
        )
        return str(answer["ShardIterator"])

    def after(self, shard: str, number: str) -> str:
        return self.begin(shard, "AFTER_SEQUENCE_NUMBER", SequenceNumber=number)

    def drain(self, shard: str, kind: str = "TRIM_HORIZON", **where: str) -> list[dict[str, Any]]:
        """The records of a shard up to now; a page of it is enough for what is asked here."""
        answer = self.streams.get_records(ShardIterator=self.begin(shard, kind, **where))
        records: list[dict[str, Any]] = answer["Records"]
        return records

    def numbers(self, shard: str, kind: str = "TRIM_HORIZON", **where: str) -> list[int]:
        """What the records' items are numbered with."""
        found = self.drain(shard, kind, **where)
        return [int(record["dynamodb"]["NewImage"]["n"]["N"]) for record in found]

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.lab.close()
