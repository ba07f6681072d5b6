"""Questions about a Kinesis stream: where a record goes, what is refused, who follows whom.

Where time matters, calls take none, so that what is counted is a matter of limits and of nothing
else.
"""

from __future__ import annotations

import json
import random
from itertools import islice
from typing import Any

from lab_utils.emulator.partitions import RING
from lab_utils.emulator.physics import Physics
from lab_utils.exercises import Found, Question
from lab_utils.lab import Lab, open_lab
from lab_utils.lineage import read_lineage
from lab_utils.reader import StreamReader

STREAM = "Exercise"
DAY = 24
CALL = 500
"""The most records in one PutRecords."""
LIMIT = 1000
"""Records that a shard takes in a second."""


def ask(rng: random.Random) -> Question:
    """One of five situations, with its numbers drawn."""
    return rng.choice([_where, _resharded, _refused, _kept, _too_early])(rng)


def _where(rng: random.Random) -> Question:
    shards, key = rng.randint(2, 16), f"order-{rng.randint(1, 9999)}"

    def run() -> Found:
        with open_lab("embedded") as lab:
            _new_stream(lab, shards)
            answer = lab.client("kinesis").put_record(
                StreamName=STREAM, PartitionKey=key, Data=b"x"
            )
        number = int(answer["ShardId"][-12:])
        return Found(
            number,
            "The MD5 of the key is a number below 2**128, and the shards of a new stream divide "
            f"these numbers evenly: the hash times {shards}, divided by 2**128 and rounded down.",
        )

    return Question(
        f"A new Kinesis stream has {shards} shards, numbered from 0 in the order of their "
        f"ranges.\nWhich of them gets the record with the partition key {key!r}?",
        run,
    )


def _resharded(rng: random.Random) -> Question:
    shards, splits = rng.randint(2, 8), rng.randint(1, 5)
    merges = rng.randint(1, shards + splits - 1)

    def run() -> Found:
        with open_lab("embedded") as lab:
            _new_stream(lab, shards)
            for _ in range(splits):
                _split_first(lab)
            for _ in range(merges):
                _merge_first(lab)
            lineage = read_lineage(lab.client("kinesis"), STREAM)
        still_open = len(lineage.open_shards)
        return Found(
            (still_open, still_open + len(lineage.closed_shards)),
            f"A split closes one shard and opens two, a merge closes two and opens one: {shards} "
            f"+ {splits} - {merges} are open. Listed is every shard there ever was, until its "
            f"records are gone: {shards} + 2 * {splits} + {merges}.",
        )

    return Question(
        f"Within an hour, the owner of a new Kinesis stream of {shards} shards splits a shard "
        f"{_times(splits)}, and then merges two neighbours {_times(merges)}. How many shards are "
        "open then, and how many are listed? (A pair.)",
        run,
    )


def _refused(rng: random.Random) -> Question:
    shards, calls = rng.randint(2, 4), rng.randint(3, 6)
    shares = [rng.randint(30, 80)]
    shares += [100 - shares[0]] + [0] * (shards - 2)
    counts = [share * CALL // 100 for share in shares]

    def run() -> Found:
        with open_lab("embedded", physics=Physics(stream_latency=(0.0, 0.0))) as lab:
            _new_stream(lab, shards)
            records = [
                {"Data": b"x", "PartitionKey": "k", "ExplicitHashKey": str(RING * n // shards)}
                for n, count in enumerate(counts)
                for _ in range(count)
            ]
            answers = [
                lab.client("kinesis").put_records(StreamName=STREAM, Records=records)
                for _ in range(calls)
            ]
        failed = sum(answer["FailedRecordCount"] for answer in answers)
        return Found(
            failed,
            f"The first shard is sent {calls * counts[0]:,} records and the second "
            f"{calls * counts[1]:,}. Each takes {LIMIT:,} in a second and refuses the others, "
            "whatever its neighbours have left; every call is answered with 200 all the same.",
        )

    return Question(
        f"A Kinesis stream of {shards} shards has been idle. Then {calls} calls of PutRecords "
        f"follow each other in no time, each with {CALL} records of a few bytes: {counts[0]} for "
        f"the first shard and {counts[1]} for the second. Nobody sends anything again.\nHow many "
        "records are not stored?",
        run,
    )


def _kept(rng: random.Random) -> Question:
    raised, days = rng.randint(10, 60), rng.randint(2, 7)
    looked = raised + rng.randint(10, 200)

    def run() -> Found:
        with open_lab("embedded") as lab:
            _new_stream(lab, 1)
            _hourly(lab, raised)
            lab.client("kinesis").increase_stream_retention_period(
                StreamName=STREAM, RetentionPeriodHours=days * DAY
            )
            _hourly(lab, looked - raised)
            found = sum(1 for _ in StreamReader(lab.client("kinesis"), STREAM))
        return Found(
            found,
            f"Records older than {DAY} hours were gone at hour {raised}, and do not come back. Of "
            f"those that were left and those that followed, the ones of the last {days * DAY} "
            "hours are there.",
        )

    return Question(
        "A record is put into a new Kinesis stream every hour, at half past, from hour 0 on. At "
        f"hour {raised} exactly its retention is raised from {DAY} hours to {days} days.\nHow "
        f"many records can be read at hour {looked}?",
        run,
    )


def _too_early(rng: random.Random) -> Question:
    before = [rng.randint(2, 20), rng.randint(2, 20)]
    after = [rng.randint(1, 20), rng.randint(1, 20)]

    def run() -> Found:
        with open_lab("embedded") as lab:
            _new_stream(lab, 2)
            _change(lab, *before)
            _merge_first(lab)
            _change(lab, *after)
            first, second, child = (_read(lab, number) for number in range(3))
        late = _overtaken(first + child + second)
        return Found(
            late,
            f"The child holds changes of both items. When it has been read, the {before[1]} "
            "changes in the second parent are all older than what has been seen of their item; "
            "the first parent was read in time.",
        )

    return Question(
        "A Kinesis stream has two shards. One item's changes go to the first, "
        f"{before[0]} of them, another item's to the second, {before[1]} of them. The shards are "
        f"merged, and {after[0]} and {after[1]} further changes of the two items follow. A reader "
        "looks at ParentShardId and at nothing else: it reads the first shard, then the child, "
        "then the second shard.\nHow many changes does it see after a later change of the same "
        "item?",
        run,
    )


# -- what they share -----------------------------------------------------------------------------


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _new_stream(lab: Lab, shards: int) -> None:
    lab.client("kinesis").create_stream(StreamName=STREAM, ShardCount=shards)


def _open_shards(lab: Lab) -> list[dict[str, Any]]:
    """The open shards in the order of their ranges."""
    listed = lab.client("kinesis").list_shards(
        StreamName=STREAM, ShardFilter={"Type": "AT_LATEST"}
    )["Shards"]
    return sorted(listed, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))


def _split_first(lab: Lab) -> None:
    """Split the first open shard in the middle, and wait until that is done."""
    shard = _open_shards(lab)[0]
    low, high = (int(shard["HashKeyRange"][f"{end}HashKey"]) for end in ("Starting", "Ending"))
    lab.client("kinesis").split_shard(
        StreamName=STREAM,
        ShardToSplit=shard["ShardId"],
        NewStartingHashKey=str((low + high + 1) // 2),
    )
    lab.clock.advance(minutes=1)


def _merge_first(lab: Lab) -> None:
    """Merge the first two open shards, and wait until that is done."""
    first, second = islice(_open_shards(lab), 2)
    lab.client("kinesis").merge_shards(
        StreamName=STREAM,
        ShardToMerge=first["ShardId"],
        AdjacentShardToMerge=second["ShardId"],
    )
    lab.clock.advance(minutes=1)


def _hourly(lab: Lab, hours: int) -> None:
    """Let hours pass, with a record in the middle of each."""
    for _ in range(hours):
        lab.clock.advance(minutes=30)
        lab.client("kinesis").put_record(StreamName=STREAM, PartitionKey="k", Data=b"x")
        lab.clock.advance(minutes=30)


def _change(lab: Lab, *times: int) -> None:
    """Change the item of each half of the ring so many times; changes are numbered by the time."""
    for number, count in enumerate(times):
        for _ in range(count):
            lab.client("kinesis").put_record(
                StreamName=STREAM,
                PartitionKey=str(number),
                ExplicitHashKey=str(RING // 2 * number),
                Data=json.dumps([number, lab.clock.now().timestamp()]),
            )


def _read(lab: Lab, number: int) -> list[tuple[int, float]]:
    """The changes in one shard: item and time."""
    kinesis = lab.client("kinesis")
    iterator = kinesis.get_shard_iterator(
        StreamName=STREAM,
        ShardId=f"shardId-{number:012d}",
        ShardIteratorType="TRIM_HORIZON",
    )["ShardIterator"]
    records = kinesis.get_records(ShardIterator=iterator)["Records"]
    return [tuple(json.loads(record["Data"])) for record in records]


def _overtaken(seen: list[tuple[int, float]]) -> int:
    newest: dict[int, float] = {}
    late = 0
    for item, at in seen:
        late += at < newest.get(item, 0.0)
        newest[item] = max(at, newest.get(item, 0.0))
    return late
