"""What the benchmarks share: a process for each measurement, labs to measure in, and a watch."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def in_own_process(script: str, measurement: str) -> dict[str, Any]:
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, script, "--measure", measurement],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LAB_PROGRESS": "0", "PYTHONPATH": path},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def median(values: list[float]) -> float:
    return statistics.median(values)


def table(partitions: int, **physics: Any) -> tuple[Any, str]:
    """A lab with a table of so many partitions, and the ARN of its stream."""
    import lab_utils as lu

    chosen = lu.Physics(on_demand_partitions=partitions, **physics)
    lab = lu.open_lab("embedded", physics=chosen)
    made = lab.client("dynamodb").create_table(
        TableName="Table",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )
    return lab, str(made["TableDescription"]["LatestStreamArn"])


def timed(act: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, megabytes that the process grew by at its peak, and what was returned."""
    before = peak()
    began = time.perf_counter()
    answer = act()
    return time.perf_counter() - began, peak() - before, answer


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fill(lab: Any, arn: str, records: int, items: int = 8) -> None:
    """Small records of so many items in every open shard, put in at the log."""
    from lab_utils.emulator.shards import Record

    world = lab._target.world
    stream = world.region(lab.region).streams.find(arn)
    now = world.scheduler.now
    for shard in stream.log.open_shards():
        for number in range(records):
            sequence = stream._next_sequence()
            keys = {"id": {"S": f"key {number % items}"}}
            body = {
                "eventID": f"{sequence:032x}",
                "eventName": "INSERT",
                "eventVersion": "1.1",
                "eventSource": "aws:dynamodb",
                "awsRegion": "us-east-1",
                "dynamodb": {
                    "ApproximateCreationDateTime": float(now // 10**6),
                    "Keys": keys,
                    "SequenceNumber": str(sequence),
                    "SizeBytes": 7,
                    "StreamViewType": "KEYS_ONLY",
                },
            }
            shard.append(Record(sequence, now, 7, str(keys), body))
