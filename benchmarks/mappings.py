"""What the engine under event source mappings costs.

* a million records that wait in 1,000 shards, through a function that counts them, 10 lanes each;
* what an invocation and what a record costs, with 10 to 1,000 shards: two runs that differ in the
  size of their batches, and the line through them;
* a day of an idle mapping over 100 shards.

A payload is written as JSON for every invocation and read by the function, as in a chapter. Each
measurement has a process of its own, and filling the shards is not counted.

    python benchmarks/mappings.py [--only million,costs,idle]
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable
from typing import Any

from measuring import fill, in_own_process, peak, table, timed

SHARDS, LANES, RECORDS = 1_000, 10, 1_000
SMALL, LARGE = 5, 100
"""Two sizes of batches; between them lies what a record costs, and what an invocation."""

COUNTER = """
seen = 0

def handler(event, context):
    global seen
    seen += len(event["Records"])
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", default=",".join(QUESTIONS))
    arguments.add_argument("--measure", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.measure:
        name, *numbers = options.measure.split()
        print(json.dumps(MEASUREMENTS[name](*map(int, numbers))))
        return
    for question in options.only.split(","):
        QUESTIONS[question]()


# --- the questions -----------------------------------------------------------------------------


def ask_million() -> None:
    found = in_own_process(__file__, f"through {SHARDS} {LANES} {RECORDS} {LARGE}")
    print(
        f"million  {found['records']:,} records, {SHARDS:,} shards, {LANES} lanes each: "
        f"{found['seconds']:.1f} s, {found['invocations']:,} invocations, "
        f"{found['memory_mb']:,.0f} MB   (wanted: under 40 s)"
    )


def ask_costs() -> None:
    for shards in (10, 100, 1_000):
        records = 100_000 // shards
        small = in_own_process(__file__, f"through {shards} 1 {records} {SMALL}")
        large = in_own_process(__file__, f"through {shards} 1 {records} {LARGE}")
        invocation, record = line(small, large)
        print(
            f"costs    {shards:5,} shards: {invocation * 1e3:.3f} ms an invocation, "
            f"{record * 1e6:.1f} us a record   (wanted: under 0.3 ms, 20 us, flat)"
        )


def line(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """Seconds an invocation and seconds a record, from two runs over the same records."""
    spread = one["invocations"] - other["invocations"]
    invocation = (one["seconds"] - other["seconds"]) / spread
    return invocation, (other["seconds"] - invocation * other["invocations"]) / other["records"]


def ask_idle() -> None:
    found = in_own_process(__file__, "idle 100")
    print(f"idle     a day of a mapping over 100 shards: {found['seconds']:.3f} s   (wanted: 1 s)")


# --- the measurements --------------------------------------------------------------------------


def through(shards: int, lanes: int, records: int, batch: int) -> dict[str, Any]:
    """All that waits in so many shards through a counting function."""
    lab, arn = table(shards, account_concurrency=2 * shards * lanes + 100)
    fill(lab, arn, records, items=100)
    connect(lab, arn, ParallelizationFactor=lanes, BatchSize=batch, StartingPosition="TRIM_HORIZON")
    gc.collect()
    gc.freeze()
    rows = lab._target.world.region(lab.region).functions.rows

    def run() -> int:
        done = 0
        while done < shards * records:
            lab.clock.advance(seconds=5)
            done = sum(row["batch_size"] for row in rows if row["outcome"] == "ok")
        return done

    seconds, _, done = timed(run)
    assert done == shards * records
    return {
        "seconds": seconds,
        "records": done,
        "invocations": len(rows),
        "memory_mb": peak(),
    }


def idle(shards: int) -> dict[str, Any]:
    lab, arn = table(shards)
    connect(lab, arn, StartingPosition="LATEST")
    lab.clock.advance(minutes=1)
    seconds, _, _ = timed(lambda: lab.clock.advance(hours=24))
    return {"seconds": seconds}


def connect(lab: Any, arn: str, **settings: Any) -> None:
    role = lab.role("Reader", {"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"})
    lab.deploy_function("Counter", COUNTER, role=role)
    functions = lab.client("lambda")
    functions.create_event_source_mapping(FunctionName="Counter", EventSourceArn=arn, **settings)


QUESTIONS: dict[str, Callable[[], None]] = {
    "million": ask_million,
    "costs": ask_costs,
    "idle": ask_idle,
}
MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {"through": through, "idle": idle}

if __name__ == "__main__":
    main()
