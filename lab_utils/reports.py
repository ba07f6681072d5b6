"""Invocations as functions' logs tell of them, where nobody can look behind the scenes.

Lambda frames what a function prints by START, END and REPORT lines, in a log stream of its own for
each instance (Developer Guide, "Viewing CloudWatch logs for Lambda functions"); with JSON as its
log format, by platform.start and platform.report. What stands between is the function's: an error
that its code raised, and the line by which it says which batch it was given. The pipeline's
functions print that line; any other function can, at the beginning of its handler:

    records = event["Records"]
    print(json.dumps({"batch": {
        "size": len(records),
        "stream": records[0]["eventSourceARN"],
        "first": records[0]["dynamodb"]["SequenceNumber"],
        "age": time.time() - records[-1]["dynamodb"]["ApproximateCreationDateTime"],
    }}))

and for a batch of Kinesis, whose records know their shard, instead of the stream

        "shard": records[0]["eventID"].split(":")[0],
        "first": records[0]["kinesis"]["sequenceNumber"],
        "age": time.time() - records[-1]["kinesis"]["approximateArrivalTimestamp"],

Each member can be left out, and what it would have told stays empty.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from lab_utils.frames import invocation_frame
from lab_utils.kinds import KINDS
from lab_utils.labels import Label
from lab_utils.refusals import error_code
from lab_utils.roles import log_group
from lab_utils.sources import StreamGone, TableSource
from lab_utils.sweep import find
from lab_utils.whereabouts import shards_of

if TYPE_CHECKING:
    import pandas as pd

    from lab_utils.lab import Lab

_START = re.compile(r"START RequestId: ")
_REPORT = re.compile(r"REPORT RequestId: (?P<request>\S+)\s+Duration: (?P<duration>\d+\.?\d*) ms")
_INIT = re.compile(r"\tInit Duration: (\d+\.?\d*) ms")
_STATUS = re.compile(r"\tStatus: (\w+)")
_TIMED_OUT = re.compile(r"(\S+ \S+ )?Task timed out after ")
_FAILED = re.compile(r"\[ERROR\](?!\t)|RequestId: \S+ (Error: |Process exited )")
"""An exception as Lambda's Python runtime writes it (a logger's own line has a tab there), or a
process that ended."""


class Event(NamedTuple):
    """A line of a log: when (milliseconds since 1970), in which log stream, and its text."""

    at: int
    stream: str
    text: str


@dataclass(frozen=True)
class Batch:
    """What a function said about its batch; a `stream` is named where no shard is known."""

    shard: str | None = None
    stream: str | None = None
    first: str | None = None
    size: int | None = None
    age: float | None = None

    @classmethod
    def told(cls, members: Mapping[str, Any]) -> Batch:
        """From the line of a function: what is there, if it is what it should be."""
        texts = {
            name: str(members[name])
            for name in ("shard", "stream", "first")
            if isinstance(members.get(name), str)
        }
        size, age = members.get("size"), members.get("age")
        return cls(
            **texts,
            size=size if isinstance(size, int) else None,
            age=float(age) if isinstance(age, int | float) else None,
        )


@dataclass(frozen=True)
class Run:
    """One invocation that is over; moments and spans are milliseconds."""

    stream: str
    request: str
    ended: int
    duration: float
    init: float
    outcome: str
    batch: Batch

    @property
    def started(self) -> float:
        """A cold start is part of it, as it is where the lab can look behind the scenes."""
        return self.ended - self.duration - self.init

    @property
    def same(self) -> tuple[object, ...]:
        """What invocations that were given the same batch, or the same event, have in common."""
        batch = self.batch
        if batch.first is None:
            return (self.request,)
        return (batch.shard or batch.stream, batch.first, batch.size)


def invocations(
    lab: Lab, function: str | None, owner: Label | None, since: datetime | None
) -> pd.DataFrame:
    """What a function's log tells since a moment, or ever; see `Lab.invocations`.

    If no function is named: those that bear the tags of their `owner`.
    """
    logs, streams = lab.clients("logs", "dynamodbstreams")
    names = _owned(lab, owner) if function is None else [lab.name(function)]
    events = lab.together(*(partial(read_events, logs, name, since) for name in names))
    found = [
        row for name, mine in zip(names, events, strict=True) for row in rows(streams, name, mine)
    ]
    return invocation_frame(sorted(found, key=itemgetter("started")))


def _owned(lab: Lab, owner: Label | None) -> list[str]:
    kinds = [kind for kind in KINDS if kind.name == "function"]
    found = find(lab.client, label=owner, in_names=lab.label is not None, kinds=kinds)
    return sorted(each.name for each in found.leftovers if each.tagged)


# -- from a log group to rows -----------------------------------------------------------------


def read_events(logs: Any, function: str, since: datetime | None) -> list[Event]:
    """All that a function logged since a moment, or ever; nothing if it has no log group."""
    asked: dict[str, Any] = {"logGroupName": log_group(function)}
    if since is not None:
        asked["startTime"] = int(since.timestamp() * 1000)
    try:
        return [
            Event(each["timestamp"], each["logStreamName"], each["message"])
            for page in logs.get_paginator("filter_log_events").paginate(**asked)
            for each in page["events"]
        ]
    except ClientError as problem:
        if error_code(problem) != "ResourceNotFoundException":
            raise
        return []


def rows(streams: Any, function: str, events: Iterable[Event]) -> list[dict[str, Any]]:
    """A row for each invocation that is over, in the order in which they began.

    `streams` is a dynamodbstreams client, to ask in which shards batches lie. Moments are
    microseconds since 1970.
    """
    runs = sorted(runs_in(events), key=lambda run: (run.started, run.stream, run.request))
    instances = {stream: n for n, stream in enumerate(dict.fromkeys(r.stream for r in runs), 1)}
    shards = _shards(streams, [run.batch for run in runs])
    tries: Counter[tuple[object, ...]] = Counter()
    found = []
    for run in runs:
        tries[run.same] += 1
        batch = run.batch
        found.append(
            {
                "function": function,
                "instance": f"{function}/{instances[run.stream]}",
                "shard": batch.shard or shards.get((batch.stream, batch.first)),
                "lane": None,
                "batch_size": batch.size,
                "started": round(run.started * 1000),
                "ended": run.ended * 1000,
                "outcome": run.outcome,
                "attempt": tries[run.same],
                "iterator_age": None if batch.age is None else batch.age - run.init / 1000,
            }
        )
    return found


def runs_in(events: Iterable[Event]) -> Iterator[Run]:
    """The invocations that a log tells of, if each log stream's events are in order."""
    logged: dict[str, list[list[dict[str, Any]]]] = {}
    for event in events:
        told = _told(event.text)
        parts = logged.setdefault(event.stream, [])
        if "start" in told or not parts:
            parts.append([])
        parts[-1].append(told | {"at": event.at})
    for stream, parts in logged.items():
        for part in parts:
            run = _run(stream, part)
            if run is not None:
                yield run


def _run(stream: str, lines: list[dict[str, Any]]) -> Run | None:
    """What the lines from one START to the next say; None if their invocation is not over."""
    report = next((line for line in lines if "request" in line), None)
    if report is None:
        return None
    outcomes = [line["outcome"] for line in lines if "outcome" in line]
    batches = [line["batch"] for line in lines if "batch" in line]
    return Run(
        stream,
        report["request"],
        report["at"],
        report["duration"],
        report["init"],
        "timeout" if "timeout" in outcomes else "error" if outcomes else "ok",
        Batch.told(batches[0]) if batches else Batch(),
    )


def _shards(streams: Any, batches: list[Batch]) -> dict[tuple[str | None, str | None], str]:
    """The shards of those batches that name but a table's stream, by it and their first number."""
    found: dict[tuple[str | None, str | None], str] = {}
    for stream in sorted({b.stream for b in batches if b.stream and ":dynamodb:" in b.stream}):
        firsts = {
            b.first for b in batches if b.stream == stream and b.first and b.first.isdecimal()
        }
        try:
            shards = shards_of(TableSource(streams, stream), map(int, firsts))
        except StreamGone:
            continue
        found |= {(stream, each): shards[int(each)] for each in firsts if int(each) in shards}
    return found


# -- from a line to what it tells -------------------------------------------------------------


def _told(text: str) -> dict[str, Any]:
    """What a line tells of its invocation, in either of the two log formats."""
    if text.startswith("{"):
        return _told_in_json(text)
    if _START.match(text):
        return {"start": True}
    if head := _REPORT.match(text):
        return _report(text, head)
    if _TIMED_OUT.match(text):
        return {"outcome": "timeout"}
    return {"outcome": "error"} if _FAILED.match(text) else {}


def _report(text: str, head: re.Match[str]) -> dict[str, Any]:
    """A REPORT line. Its fields are separated by tabs; only some have an init or a status."""
    init, status = _INIT.search(text), _STATUS.search(text)
    told = {
        "request": head["request"],
        "duration": float(head["duration"]),
        "init": float(init[1]) if init else 0.0,
    }
    return told | _outcome(status[1] if status else "")


def _told_in_json(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        return {}
    record = line.get("record")
    if line.get("type") == "platform.start":
        return {"start": True}
    if line.get("type") == "platform.report" and isinstance(record, dict) and "metrics" in record:
        metrics = record["metrics"]
        told = {
            "request": record["requestId"],
            "duration": float(metrics["durationMs"]),
            "init": float(metrics.get("initDurationMs", 0)),
        }
        return told | _outcome(record.get("status", ""))
    if "errorMessage" in line and "stackTrace" in line:
        return {"outcome": "error"}
    return {"batch": line["batch"]} if isinstance(line.get("batch"), dict) else {}


def _outcome(status: str) -> dict[str, str]:
    """What a report says besides numbers: nothing, or success, if all went well."""
    if status in ("", "success"):
        return {}
    return {"outcome": "timeout" if status == "timeout" else "error"}
