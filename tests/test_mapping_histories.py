"""Any history of a mapping, against an oracle that works on what is seen from outside.

Which records a function got, when and how it ended is in its log; which batch that was is in
`lab.tries()`. From the first try of a batch on, the oracle works out anew what must follow it under
the settings of that moment, and compares: with the next tries, and with what the destination got.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from running import connect, function, log_lines, put, state, table

import lab_utils as lu
from lab_utils.emulator.shards import Record, Shard
from lab_utils.lab import Lab

SECOND, MILLISECOND = 1_000_000, 1_000
SETTLING = 1.0
"""Seconds until a mapping heeds an update, in these tests."""
KEYS = 6

HANDLER = """
    # revision 0
    import json, os, random, time

    def handler(event, context):
        names = [record["dynamodb"]["NewImage"] for record in event["Records"]]
        names = [[image["id"]["S"], int(image["value"]["N"])] for image in names]
        numbers = [record["dynamodb"]["SequenceNumber"] for record in event["Records"]]
        time.sleep(random.random() * 3)
        mood, _, keys = os.environ["MOOD"].partition(" ")
        bad = [place for place, (key, _) in enumerate(names) if key in keys.split()]
        if mood == "moody" and int(time.time()) // 7 % 2:
            mood = "error"
            bad = [0]
        done = bad[0] if bad and mood == "report" else 0
        print("END", json.dumps([round(time.time() * 1e6), names, numbers, done]))
        if bad and mood == "report":
            return {"batchItemFailures": [{"itemIdentifier": numbers[place]} for place in bad]}
        if bad and mood == "error":
            raise ValueError("a bad mood")
"""
"""Logs when it ended, what it got, and how many records it reports to have succeeded."""


@dataclass(frozen=True)
class Policy:
    """The settings that decide what follows a failure."""

    retries: int
    bisect: bool


@dataclass
class Try:
    """A part of a batch with the function."""

    batch: int
    first: int
    size: int
    attempt: int
    outcome: str
    started: int
    ended: int
    shard: str
    lane: int
    names: list[tuple[str, int]]
    numbers: list[str]
    done: int
    """How many of its records succeeded."""


class History:
    """A table, a mapping, what was done to them and when."""

    def __init__(self, lab: Lab, asked: dict[str, Any]) -> None:
        self.lab, self.functions = lab, lab.client("lambda")
        self.mood, self.revision, self.written = "fine", 0, 0
        self.arn = table(lab)
        self.deploy()
        lab.client("sqs").create_queue(QueueName="Failures")
        queue = "arn:aws:sqs:us-east-1:123456789012:Failures"
        self.asked = dict(asked)
        self.age = asked["MaximumRecordAgeInSeconds"]
        self.policies = [(0, 0, self.policy())]
        """From when on (at the earliest, at the latest) which policy holds."""
        self.stops: list[tuple[int, int]] = []
        """When the mapping stopped (at the earliest, at the latest), or its lanes became others."""
        self.factors = {asked["ParallelizationFactor"]}
        self.uuid = connect(
            lab, self.arn, **asked, DestinationConfig={"OnFailure": {"Destination": queue}}
        )

    def policy(self) -> Policy:
        return Policy(self.asked["MaximumRetryAttempts"], self.asked["BisectBatchOnFunctionError"])

    # -- what may happen ------------------------------------------------------------------------

    def do(self, kind: str, what: Any) -> None:
        if kind == "write":
            for key in what:
                put(self.lab, f"k{key}", self.written)
                self.written += 1
        elif kind == "wait":
            self.lab.clock.advance(seconds=what)
        elif kind == "mood":
            self.mood = what
            self.functions.update_function_configuration(
                FunctionName="Worker", Environment={"Variables": {"MOOD": what}}
            )
        elif kind == "redeploy":
            self.deploy()
        elif kind == "reserve":
            self.functions.put_function_concurrency(
                FunctionName="Worker", ReservedConcurrentExecutions=what
            )
        elif kind == "split":
            ids = list(self.lab.partitions("Source").index)
            self.lab.split_partition("Source", int(ids[what % len(ids)]))
        else:
            self.update(what)

    def deploy(self) -> None:
        self.revision += 1
        function(
            self.lab,
            HANDLER.replace("revision 0", f"revision {self.revision}"),
            timeout=60,
            environment={"MOOD": self.mood},
        )

    def update(self, changes: dict[str, Any]) -> None:
        self.settle()
        answer = self.functions.update_event_source_mapping(UUID=self.uuid, **changes)
        asked = round(answer["LastModified"].timestamp() * SECOND)
        earliest = asked + round(SETTLING * SECOND)
        latest = earliest + MILLISECOND
        self.asked |= changes
        self.policies.append((earliest, latest, self.policy()))
        self.factors.add(self.asked["ParallelizationFactor"])
        if changes.keys() & {"Enabled", "ParallelizationFactor"}:
            self.stops.append((earliest, latest))

    def settle(self) -> None:
        settled = ("Enabled", "Disabled")
        self.lab.wait_until(lambda: state(self.lab, self.uuid) in settled, timeout=60)

    def heal(self) -> None:
        self.do("mood", "fine")
        self.functions.delete_function_concurrency(FunctionName="Worker")
        self.update({"Enabled": True})
        self.lab.clock.advance(minutes=6)

    # -- what was seen --------------------------------------------------------------------------

    def look(self) -> None:
        rows, tries = self.lab.invocations(), self.lab.tries()
        assert len(rows) == len(tries), "nobody but the mapping invoked the function"
        logged = {}
        for line in log_lines(self.lab) if (rows["outcome"] != "throttled").any() else ():
            if line.startswith("END ["):
                ended, names, numbers, done = json.loads(line[4:])
                logged[ended, len(names)] = [(key, number) for key, number in names], numbers, done
        micro = {
            name: rows[name].dt.as_unit("us").astype("int64").tolist()
            for name in ("started", "ended")
        }
        self.tries = []
        for place, row in enumerate(tries.itertuples()):
            ended = micro["ended"][place]
            names, numbers, done = logged.get((ended, row.size), ([], [], 0))
            assert names or row.outcome == "throttled"
            shard, lane = rows["shard"].iloc[place], int(rows["lane"].iloc[place])
            assert (shard, lane) == (row.shard, row.lane)
            self.tries.append(
                Try(
                    row.batch, row.first, row.size, row.attempt, row.outcome,
                    micro["started"][place], ended, shard, lane, names, numbers,
                    row.size if row.outcome == "ok" else done if row.outcome == "partial" else 0,
                )
            )  # fmt: skip
        self.ran = [each for each in self.tries if each.outcome != "throttled"]
        assert len(logged) == len(self.ran), "each is told from the others"
        self.told = self.messages()

    def messages(self) -> list[dict[str, Any]]:
        sqs, found = self.lab.client("sqs"), []
        url = sqs.get_queue_url(QueueName="Failures")["QueueUrl"]
        while got := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for each in got:
                found.append(json.loads(each["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
        return found

    # -- what must hold -------------------------------------------------------------------------

    def check(self) -> None:
        self.look()
        self.check_flights()
        self.check_batches()
        self.check_losses()
        self.check_order()
        self.check_end()

    def check_flights(self) -> None:
        """One batch of a lane at a time, and a key never with two invocations at once."""
        lanes, keys = defaultdict(list), defaultdict(list)
        for each in self.ran:
            lanes[each.shard, each.lane].append(each)
            for key in {key for key, _ in each.names}:
                keys[key].append(each)
        for flights in [*lanes.values(), *keys.values()]:
            for before, after in pairwise(flights):
                assert before.ended <= after.started, (before, after)

    def check_batches(self) -> None:
        """Batch by batch, what is tried and what is given up follows from what failed before."""
        batches: dict[int, list[Try]] = defaultdict(list)
        for each in self.tries:
            batches[each.batch].append(each)
        expected = [each for tries in batches.values() for each in self.work_off(tries)]
        told = [
            (info["startSequenceNumber"], info["endSequenceNumber"], info["batchSize"],
             body["requestContext"]["approximateInvokeCount"])
            for body in self.told
            for info in [body["DDBStreamBatchInfo"]]
            if body["requestContext"]["condition"] == "RetryAttemptsExhausted"
        ]  # fmt: skip
        assert Counter(told) == Counter(expected)

    def work_off(self, tries: list[Try]) -> list[tuple[str, str, int, int]]:
        """Follow a batch from its first try; what must have been given up of it."""
        given_up = []
        left = [(0, tries[0].first + tries[0].size, 1)]
        for each in tries:
            assert left, ("done with, and tried again", tries)
            start, stop, attempt = left.pop(0)
            while self.age != -1 and stop <= each.first:  # a whole part grew too old
                start, stop, attempt = left.pop(0)
            assert each.first == start or (self.age != -1 and each.first > start), tries
            assert (each.first + each.size, each.attempt) == (stop, attempt), tries
            start = each.first
            if each.outcome == "throttled":
                left.insert(0, (start, stop, attempt))
            elif 0 < each.done < each.size:
                left.insert(0, (start + each.done, stop, 1))
            elif not each.done:
                left[:0], lost = self.after_failure(each, start, stop, attempt)
                if lost:
                    given_up.append((each.numbers[0], each.numbers[-1], each.size, attempt))
        stopped = any(latest >= tries[-1].started for _, latest in self.stops)
        assert not left or stopped or self.age != -1, tries
        return given_up

    def after_failure(
        self, each: Try, start: int, stop: int, attempt: int
    ) -> tuple[list[tuple[int, int, int]], bool]:
        """The parts to try again; whether the part is given up instead."""
        answers = []
        for policy in self.policies_at(each.ended):
            if policy.bisect and each.size > 1:
                middle = start + each.size // 2
                answers.append(([(start, middle, attempt), (middle, stop, attempt)], False))
            elif policy.retries == -1 or attempt <= policy.retries:
                answers.append(([(start, stop, attempt + 1)], False))
            else:
                answers.append(([], True))
        assume(len({str(answer) for answer in answers}) == 1)  # no update in this millisecond
        return answers[0]

    def policies_at(self, moment: int) -> list[Policy]:
        """That which held, or two if it changed about then."""
        certain = [policy for _, latest, policy in self.policies if latest <= moment]
        perhaps = [policy for first, latest, policy in self.policies if first <= moment < latest]
        return [certain[-1], *perhaps]

    def check_losses(self) -> None:
        """Each record succeeded or was given up, and what was done with comes again only if the
        mapping stopped meanwhile; never, if there was always one lane a shard."""
        done: dict[int, list[Try]] = defaultdict(list)
        for each in self.ran:
            for _, number in each.names[: each.done]:
                done[number].append(each)
        lost = Counter(number for body in self.told for number in self.range_of(body))
        assert set(range(self.written)) <= done.keys() | lost.keys()
        if self.factors == {1}:
            assert Counter(
                {number: len(tries) for number, tries in done.items()}
            ) + lost == Counter(range(self.written))
        for tries in done.values():
            for before, after in pairwise(tries):
                assert any(
                    before.started < latest and earliest <= after.started
                    for earliest, latest in self.stops
                )

    def range_of(self, body: dict[str, Any]) -> list[int]:
        """The records from the first to the last that a message tells of.

        With several lanes there may be others between them.
        """
        info = body["DDBStreamBatchInfo"]
        start, end = int(info["startSequenceNumber"]), int(info["endSequenceNumber"])
        found = [each for each in self.records[info["shardId"]] if start <= each.sequence <= end]
        assert len(found) >= info["batchSize"]
        assert len(found) == info["batchSize"] or self.factors != {1}
        if body["requestContext"]["condition"] == "RecordAgeExceeded":
            told = microseconds_of(body["timestamp"])
            assert self.age != -1
            assert all(told - each.at >= self.age * SECOND - MILLISECOND for each in found)
        return [value_of(each) for each in found]

    def check_order(self) -> None:
        """A record is handed over when those of its key before it are done with or given up."""
        told = {number for body in self.told for number in self.range_of(body)}
        keys: dict[str, list[int]] = defaultdict(list)
        at = {}
        for each in sorted(itertools.chain(*self.records.values()), key=value_of):
            keys[each.key].append(value_of(each))
            at[value_of(each)] = each.at
        done: set[int] = set()
        for each in self.ran:
            names = [number for _, number in each.names]
            assert names == sorted(names)
            for shard_key, numbers in keys.items():
                mine = [number for number in names if number in numbers]
                before = numbers[: numbers.index(mine[0])] if mine else []
                assert set(before) <= done | told, (shard_key, before, mine)
            done.update(names[: each.done])
            if self.age != -1:
                assert all(each.started - at[number] <= self.age * SECOND for number in names)

    def check_end(self) -> None:
        """Nothing is left over, and nobody polls a shard that is read to its end."""
        assert self.lab.backlog()["waiting"].iloc[-1:].sum() == 0
        assert all(shard.pollers <= shard.open for shard in self.shards)

    @property
    def shards(self) -> list[Shard]:
        """From behind the scenes: no API tells the records of all of them at once."""
        source = self.lab._world("partitions").region("us-east-1").source(self.arn)
        return list(source.log)

    @property
    def records(self) -> dict[str, list[Record]]:
        return {shard.id: shard.records for shard in self.shards}


def value_of(record: Record) -> int:
    return int(record.body["dynamodb"]["NewImage"]["value"]["N"])


def microseconds_of(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * SECOND)


ALL = " ".join(f"k{key}" for key in range(KEYS))
MOODS = ["fine", f"error {ALL}", "error k1", "report k2", "report k0 k3", f"report {ALL}", "moody"]
MOOD = st.tuples(st.just("mood"), st.sampled_from(MOODS))
WRITE = st.tuples(st.just("write"), st.lists(st.integers(0, KEYS - 1), min_size=1, max_size=10))
CHANGES = st.one_of(
    st.fixed_dictionaries({"BatchSize": st.integers(1, 8)}),
    st.fixed_dictionaries({"ParallelizationFactor": st.integers(1, 3)}),
    st.fixed_dictionaries({"MaximumRetryAttempts": st.sampled_from([-1, 0, 1, 2])}),
    st.fixed_dictionaries({"BisectBatchOnFunctionError": st.booleans()}),
    st.fixed_dictionaries({"Enabled": st.booleans()}),
)
INCIDENT = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 10)),
    st.tuples(st.just("split"), st.integers(0, 20)),
    st.tuples(st.just("update"), CHANGES),
    st.tuples(st.just("reserve"), st.sampled_from([0, 1])),
    st.tuples(st.just("redeploy"), st.none()),
)
ROUND = st.tuples(
    MOOD,
    WRITE,
    st.tuples(st.just("wait"), st.integers(1, 3)),
    INCIDENT,
    WRITE,
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.just("reserve"), st.just(900)),
)
ASKED = st.fixed_dictionaries(
    {
        "BatchSize": st.integers(1, 8),
        "ParallelizationFactor": st.integers(1, 3),
        "MaximumRetryAttempts": st.sampled_from([-1, 0, 2]),
        "BisectBatchOnFunctionError": st.booleans(),
        "MaximumRecordAgeInSeconds": st.sampled_from([-1, -1, 60]),
        "MaximumBatchingWindowInSeconds": st.sampled_from([0, 3]),
        "FunctionResponseTypes": st.sampled_from([[], ["ReportBatchItemFailures"]]),
    }
)


@settings(
    max_examples=30,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(asked=ASKED, rounds=st.lists(ROUND, min_size=2, max_size=6), seed=st.integers(0, 3))
def test_any_history_of_a_mapping(asked, rounds, seed):
    physics = lu.Physics(
        on_demand_partitions=2,
        rollover=(30, 60),
        retry_ceiling=10,
        mapping_creation=(SETTLING, SETTLING),
        mapping_update=(SETTLING, SETTLING),
    )
    with lu.open_lab("embedded", seed=seed, physics=physics) as lab:
        history = History(lab, asked)
        for kind, what in itertools.chain(*rounds):
            history.do(kind, what)
        history.heal()
        history.check()
