"""A day of a stream, and what it costs to look at it and to read it.

* a table of 10,000 partitions, taken through 24 hours;
* read_lineage of its 60,000 to 70,000 shards, beside boto3 that only pages through them;
* plot_lineage of 1,000 shards;
* StreamReader over 1,000 shards, beside boto3 that only makes the same calls and parses the
  same answers; and what a record costs with 10 to 10,000 shards;
* a cell that advances a day.

Each measurement has a process of its own. Where two ways are compared their runs alternate, and
the median of the ratios counts.

    python benchmarks/lineage.py [--pairs 3] [--only day,lineage,plot,reader,records,cell]
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable
from typing import Any

from measuring import fill, in_own_process, median, peak, table, timed

PARTITIONS = 10_000
HOURS = 24
SHARDS, RECORDS = 1_000, 300


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--pairs", type=int, default=3)
    arguments.add_argument("--only", default=",".join(QUESTIONS))
    arguments.add_argument("--measure", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.measure:
        name, *numbers = options.measure.split()
        print(json.dumps(MEASUREMENTS[name](*map(int, numbers))))
        return
    for question in options.only.split(","):
        QUESTIONS[question](options.pairs)


# --- the questions -----------------------------------------------------------------------------


def ask_day(pairs: int) -> None:
    found = [in_own_process(__file__, f"day {PARTITIONS}") for _ in range(pairs)]
    print(
        f"day      {PARTITIONS:,} partitions through {HOURS} h: "
        f"{median([each['seconds'] for each in found]):.2f} s, "
        f"{max(each['memory_mb'] for each in found):.0f} MB   (wanted: under 10 s)"
    )


def ask_lineage(pairs: int) -> None:
    found = [
        (
            in_own_process(__file__, f"lineage {PARTITIONS}"),
            in_own_process(__file__, f"listing {PARTITIONS}"),
        )
        for _ in range(pairs)
    ]
    ours, plain = found[0]
    print(
        f"lineage  {ours['shards']:,} shards: {median([o['seconds'] for o, _ in found]):.2f} s, "
        f"{max(o['memory_mb'] for o, _ in found):.0f} MB more   (wanted: under 3 s, 300 MB)\n"
        f"         boto3 alone, {plain['pages']} pages: "
        f"{median([p['seconds'] for _, p in found]):.2f} s, "
        f"{max(p['memory_mb'] for _, p in found):.0f} MB more"
    )


def ask_plot(pairs: int) -> None:
    found = [in_own_process(__file__, f"plot {SHARDS}") for _ in range(pairs)]
    print(
        f"plot     {found[0]['shards']:,} shards: "
        f"{median([each['seconds'] for each in found]):.2f} s   (wanted: under 3 s)"
    )


def ask_reader(pairs: int) -> None:
    found = [in_own_process(__file__, f"reader {SHARDS} {RECORDS}") for _ in range(pairs)]
    speed = median([each["records"] / each["seconds"] for each in found])
    ratio = median([each["seconds"] / each["plain"] for each in found])
    print(
        f"reader   {SHARDS:,} shards, {found[0]['records']:,} records: {speed:,.0f} records/s; "
        f"{ratio:.2f} times boto3 alone   (wanted: 1.3)"
    )


def ask_records(_: int) -> None:
    for shards in (10, 100, 1_000, 10_000):
        each = in_own_process(__file__, f"reader {shards} 100")
        print(
            f"records  {shards:6,} shards, {each['records']:,} records: "
            f"{each['seconds'] / each['records'] * 1e6:.0f} us a record, "
            f"{each['plain'] / each['records'] * 1e6:.0f} us for boto3 alone"
        )


def ask_cell(pairs: int) -> None:
    found = [in_own_process(__file__, "cell") for _ in range(pairs)]
    seconds = median([each["seconds"] for each in found])
    print(f"cell     that advances a day: {seconds:.2f} s   (wanted: under 2 s)")


# --- the measurements ----------------------------------------------------------------------------


def day(partitions: int) -> dict[str, Any]:
    def live() -> None:
        table(partitions)[0].clock.advance(hours=HOURS)

    seconds, _, _ = timed(live)
    return {"seconds": seconds, "memory_mb": peak()}


def lineage(partitions: int) -> dict[str, Any]:
    import lab_utils as lu

    lab, arn = table(partitions)
    lab.clock.advance(hours=HOURS)
    lu.read_lineage(*a_small_one(lab))  # load what is loaded once
    seconds, memory, found = timed(lambda: lu.read_lineage(lab.client("dynamodbstreams"), arn))
    return {"seconds": seconds, "memory_mb": memory, "shards": len(found.graph)}


def a_small_one(lab: Any) -> tuple[Any, str]:
    kinesis = lab.client("kinesis")
    kinesis.create_stream(StreamName="small", ShardCount=1)
    return kinesis, "small"


def listing(partitions: int) -> dict[str, Any]:
    lab, arn = table(partitions)
    lab.clock.advance(hours=HOURS)
    client = lab.client("dynamodbstreams")

    def read_pages() -> list[Any]:
        found, page = [], {}
        while True:
            answer = client.describe_stream(StreamArn=arn, **page)["StreamDescription"]
            found.append(answer["Shards"])
            if "LastEvaluatedShardId" not in answer:
                return found
            page = {"ExclusiveStartShardId": answer["LastEvaluatedShardId"]}

    seconds, memory, found = timed(read_pages)
    return {"seconds": seconds, "memory_mb": memory, "pages": len(found)}


def plot(shards: int) -> dict[str, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    import lab_utils as lu

    lab, arn = table(shards // 7)
    lab.clock.advance(hours=27)
    found = lu.read_lineage(lab.client("dynamodbstreams"), arn)

    def draw() -> None:
        lu.plot_lineage(found).figure.canvas.draw()

    seconds, _, _ = timed(draw)
    return {"seconds": seconds, "shards": len(found.graph)}


def reader(shards: int, records: int) -> dict[str, Any]:
    """StreamReader over shards with so many records each, and the same calls by boto3 alone."""
    import lab_utils as lu

    lab, arn = table(-(-shards // 2), stream_iterator_life=1e6)
    fill(lab, arn, records)
    lab.clock.advance(hours=5)
    fill(lab, arn, records)
    client = lab.client("dynamodbstreams")
    calls: list[tuple[str, dict[str, Any]]] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        calls.append((model.name, dict(params)))

    client.meta.events.register("before-parameter-build", note)
    gc.collect()
    seconds, _, count = timed(lambda: sum(1 for _ in lu.StreamReader(client, arn)))
    client.meta.events.unregister("before-parameter-build", note)
    methods = {
        "DescribeStream": client.describe_stream,
        "GetShardIterator": client.get_shard_iterator,
        "GetRecords": client.get_records,
    }

    def call_only() -> None:
        for name, params in calls:
            methods[name](**params)

    def read_all() -> int:
        return sum(1 for _ in lu.StreamReader(client, arn))

    ours, plain = [seconds], []
    for _ in range(2):
        lab.clock.advance(minutes=1)  # calls that were used up come back
        gc.collect()
        plain.append(timed(call_only)[0])
        gc.collect()
        ours.append(timed(read_all)[0])
    return {"seconds": min(ours), "plain": min(plain), "records": count}


def cell() -> dict[str, Any]:
    lab, _ = table(4)
    seconds, _, _ = timed(lambda: lab.clock.advance(hours=24))
    return {"seconds": seconds}


QUESTIONS: dict[str, Callable[[int], None]] = {
    "day": ask_day,
    "lineage": ask_lineage,
    "plot": ask_plot,
    "reader": ask_reader,
    "records": ask_records,
    "cell": ask_cell,
}
MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "day": day,
    "lineage": lineage,
    "listing": listing,
    "plot": plot,
    "reader": reader,
    "cell": cell,
}

if __name__ == "__main__":
    main()
