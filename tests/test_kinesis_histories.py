"""Any history of a data stream, against the plainest reader there can be.

Records are put, shards split, merged and scaled, and three read meanwhile: a reader that lists
every shard and reads each anew from its oldest record; a StreamReader with pauses, which goes on
from its checkpoints; and a function with a mapping that is switched off and on. Only the public API
is asked.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import COLLECTOR, connect, function, state, stream

import lab_utils as lu
from lab_utils.lab import Lab

RING = 2**128
Item = dict[str, Any]
Sent = tuple[str, int]
"""A key, and which record it was, counted over all keys."""

KEYS = 6
SHORT = st.sampled_from([1, 15, 45, 600, 1800])
CHANGES = st.sampled_from(["split", "merge", "scale"])
LONG_WAIT = st.tuples(st.just("wait"), st.sampled_from([9 * 3600, 26 * 3600]), st.just(0))
STEP = st.one_of(
    st.tuples(st.just("put"), st.integers(0, KEYS - 1), st.integers(1, 4)),
    st.tuples(st.just("put"), st.integers(0, KEYS - 1), st.integers(1, 4)),
    st.tuples(st.just("put_many"), st.just(0), st.integers(1, 12)),
    st.tuples(CHANGES, st.integers(0, 20), st.integers(0, 20)),
    st.tuples(st.just("wait"), SHORT, st.just(0)),
    st.tuples(st.just("read"), st.sampled_from([1, 3, 100]), st.just(0)),
    st.tuples(st.just("resume"), st.just(0), st.just(0)),
    st.tuples(st.just("switch"), st.just(0), st.just(0)),
)


class History:
    """A data stream, what was put into it, and what was seen of it."""

    def __init__(self, lab: Lab, shards: int) -> None:
        self.lab, self.kinesis = lab, lab.client("kinesis")
        self.arn = stream(lab, shards=shards)
        self.count = 0
        self.sent: dict[Sent, tuple[str, int]] = {}
        """Where each record was put: shard and sequence number."""
        self.shards: dict[str, Item] = {}
        """Every shard that was ever listed, as it was listed last."""
        self.read_of: dict[str, dict[int, Sent]] = defaultdict(dict)
        """What the plainest reader saw of each shard, by sequence numbers."""
        self.children: dict[str, set[str]] = {}
        """What the end of a closed shard named as its children."""
        self.moments: list[tuple[datetime, list[str]]] = []
        """Which shards were open when."""
        self.reader = self.new_reader()
        self.handed_out: list[Sent] = []

    def new_reader(self, checkpoint: str | None = None) -> Any:
        return lu.StreamReader(self.kinesis, "Stream", checkpoint=checkpoint, limit=5)

    # -- what may happen ------------------------------------------------------------------------

    def do(self, kind: str, what: int, more: int) -> None:
        getattr(self, kind)(what, more)

    def put(self, which: int, times: int) -> None:
        for _ in range(times):
            record = self.next_record(which)
            answer = self.kinesis.put_record(StreamName="Stream", **record)
            self.note(record, answer)

    def put_many(self, _: int, times: int) -> None:
        records = [self.next_record(number % KEYS) for number in range(times)]
        answer = self.kinesis.put_records(StreamName="Stream", Records=records)
        assert answer["FailedRecordCount"] == 0
        for record, result in zip(records, answer["Records"], strict=True):
            self.note(record, result)

    def next_record(self, which: int) -> Item:
        self.count += 1
        return {"PartitionKey": f"k{which}", "Data": f"k{which}.{self.count}".encode()}

    def note(self, record: Item, answer: Item) -> None:
        self.sent[named(record)] = answer["ShardId"], int(answer["SequenceNumber"])

    def split(self, which: int, where: int) -> None:
        if self.is_active():
            shard = self.open_shards()[which % len(self.open_shards())]
            low, high = span(shard)
            point = low + (high - low) * (1 + where % 21) // 22
            self.kinesis.split_shard(
                StreamName="Stream", ShardToSplit=shard["ShardId"], NewStartingHashKey=str(point)
            )

    def merge(self, which: int, _: int) -> None:
        shards = self.open_shards()
        if self.is_active() and len(shards) > 1:
            first = which % (len(shards) - 1)
            self.kinesis.merge_shards(
                StreamName="Stream",
                ShardToMerge=shards[first]["ShardId"],
                AdjacentShardToMerge=shards[first + 1]["ShardId"],
            )

    def scale(self, which: int, _: int) -> None:
        there = len(self.open_shards())
        if self.is_active():
            least = (there + 1) // 2
            self.kinesis.update_shard_count(
                StreamName="Stream",
                TargetShardCount=least + which % (2 * there - least + 1),
                ScalingType="UNIFORM_SCALING",
            )

    def wait(self, seconds: int, _: int) -> None:
        self.lab.clock.advance(seconds=seconds)

    def read(self, most: int, _: int) -> None:
        self.handed_out += [named(record) for record in islice(self.reader, most)]

    def drain(self) -> None:
        """Read to the end; an iteration that was broken off ends with what was there before."""
        for _ in range(2):
            self.read(10**6, 0)

    def resume(self, _: int, __: int) -> None:
        """Throw the reader away and go on with a new one."""
        self.reader = self.new_reader(self.reader.checkpoint())

    def switch(self, _: int, __: int) -> None:
        """Nothing, where there is no mapping."""

    # -- what is seen ---------------------------------------------------------------------------

    def is_active(self) -> bool:
        summary = self.kinesis.describe_stream_summary(StreamName="Stream")
        return bool(summary["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE")

    def listed(self, **filtered: Any) -> list[Item]:
        found, page = [], {"StreamName": "Stream", **filtered}
        while page:
            answer = self.kinesis.list_shards(**page, MaxResults=3)
            found += answer["Shards"]
            page = {"NextToken": answer["NextToken"]} if "NextToken" in answer else {}
        return found

    def open_shards(self) -> list[Item]:
        return sorted(filter(is_open, self.listed()), key=span)

    def look(self) -> None:
        """What the plainest reader does, at any moment."""
        self.moments.append((self.lab.clock.now(), sorted(map(id_of, self.open_shards()))))
        for shard in self.listed():
            self.shards[shard["ShardId"]] = shard
            self.read_anew(shard["ShardId"])

    def read_anew(self, shard: str) -> None:
        at = self.kinesis.get_shard_iterator(
            StreamName="Stream", ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while at:
            page = self.kinesis.get_records(ShardIterator=at)
            for record in page["Records"]:
                number = int(record["SequenceNumber"])
                assert self.read_of[shard].setdefault(number, named(record)) == named(record)
            at = page.get("NextShardIterator")
            assert (at is None) == ("ChildShards" in page)
            if at is None:
                self.children[shard] = {each["ShardId"] for each in page["ChildShards"]}
            if not page["Records"] and page["MillisBehindLatest"] == 0:
                return

    # -- what must hold -------------------------------------------------------------------------

    def check(self) -> None:
        self.check_shards()
        self.check_places()
        self.check_moments()
        self.check_order(self.handed_out)
        assert set(self.handed_out) <= set(self.sent)

    def graph(self) -> nx.DiGraph:
        graph = nx.DiGraph()
        graph.add_nodes_from(self.shards)
        graph.add_edges_from(
            (parent, name) for name, shard in self.shards.items() for parent in parents(shard)
        )
        return graph

    def check_shards(self) -> None:
        """Open shards tile the ring; what a shard's children hold is what it held."""
        assert tiles([span(shard) for shard in self.open_shards()])
        graph = self.graph()
        assert nx.is_directed_acyclic_graph(graph)
        for name, shard in self.shards.items():
            children = [self.shards[child] for child in graph.succ[name]]
            assert is_open(shard) == (not children)
            if name in self.children:
                assert self.children[name] == set(graph.succ[name])
            if len(children) == 2:
                low, high = sorted(map(span, children))
                assert (low[0], high[1]) == span(shard)
                assert low[1] == high[0]
            elif children:
                mates = sorted(span(self.shards[each]) for each in parents(children[0]))
                assert span(children[0]) == (mates[0][0], mates[-1][1])
                assert len(mates) == 2
                assert mates[0][1] == mates[1][0]
            for child in children:
                assert number(shard, "Ending") < number(child, "Starting")

    def check_places(self) -> None:
        """Each record once: in the shard that its put told, in its range, between its numbers."""
        seen = {
            record: (name, sequence)
            for name, records in self.read_of.items()
            for sequence, record in records.items()
        }
        assert seen == self.sent
        assert sum(map(len, self.read_of.values())) == len(self.sent)
        for (key, _), (name, sequence) in self.sent.items():
            shard = self.shards[name]
            low, high = span(shard)
            assert low <= hash_of(key) < high
            assert number(shard, "Starting") < sequence
            assert is_open(shard) or sequence < number(shard, "Ending")
        self.check_order(self.plainly_ordered())

    def plainly_ordered(self) -> list[Sent]:
        """All records, each shard after its parents."""
        order = nx.lexicographical_topological_sort(self.graph())
        return [self.read_of[name][n] for name in order for n in sorted(self.read_of[name])]

    def check_order(self, records: list[Sent]) -> None:
        """Nothing twice, and what has one key in the order in which it was put."""
        assert [each for each, times in Counter(records).items() if times > 1] == []
        newest: dict[str, int] = {}
        for key, count in records:
            assert newest.get(key, 0) < count
            newest[key] = count

    def check_moments(self) -> None:
        """A listing of a moment shows what was open then; boto3 tells moments to the second."""
        for before, moment, after in zip(
            self.moments, self.moments[1:], self.moments[2:], strict=False
        ):
            if before[1] == moment[1] == after[1]:
                second = moment[0].replace(microsecond=0)
                if second > before[0]:
                    at = {"Type": "AT_TIMESTAMP", "Timestamp": second}
                    assert sorted(map(id_of, self.listed(ShardFilter=at))) == moment[1]
        latest = self.listed(ShardFilter={"Type": "AT_LATEST"})
        assert sorted(map(id_of, latest)) == sorted(map(id_of, self.open_shards()))


def id_of(shard: Item) -> str:
    return str(shard["ShardId"])


def is_open(shard: Item) -> bool:
    return "EndingSequenceNumber" not in shard["SequenceNumberRange"]


def number(shard: Item, which: str) -> int:
    return int(shard["SequenceNumberRange"][f"{which}SequenceNumber"])


def parents(shard: Item) -> list[str]:
    names = ("ParentShardId", "AdjacentParentShardId")
    return [shard[name] for name in names if name in shard]


def span(shard: Item) -> tuple[int, int]:
    hashes = shard["HashKeyRange"]
    return int(hashes["StartingHashKey"]), int(hashes["EndingHashKey"]) + 1


def tiles(spans: list[tuple[int, int]]) -> bool:
    return (spans[0][0], spans[-1][1]) == (0, RING) and all(
        before[1] == after[0] for before, after in pairwise(spans)
    )


def hash_of(key: str) -> int:
    return int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")


def named(record: Item) -> Sent:
    key, _, count = record["Data"].decode().partition(".")
    assert key == record["PartitionKey"]
    return key, int(count)


@settings(max_examples=40)
@given(st.integers(1, 4), st.lists(STEP, max_size=30), st.integers(0, 3))
def test_any_history_is_told_completely_and_in_order(
    shards: int, steps: list[tuple[str, int, int]], seed: int
) -> None:
    with lu.open_lab("embedded", seed=seed) as lab:
        history = History(lab, shards)
        for step in steps:
            history.do(*step)
            history.look()
        history.lab.clock.advance(minutes=5)
        history.look()
        history.drain()
        history.look()
        history.check()
        assert set(history.handed_out) == set(history.sent)
        assert history.reader.gaps == []


# -- with a mapping -------------------------------------------------------------------------------


class MappedHistory(History):
    """The same, with a function that reads as well."""

    def __init__(self, lab: Lab, shards: int, factor: int) -> None:
        super().__init__(lab, shards)
        function(lab, COLLECTOR)
        self.mapping = connect(lab, self.arn, BatchSize=3, ParallelizationFactor=factor)
        self.wanted = True

    def switch(self, _: int, __: int) -> None:
        if state(self.lab, self.mapping) in ("Enabled", "Disabled"):
            self.wanted = not self.wanted
            self.lab.client("lambda").update_event_source_mapping(
                UUID=self.mapping, Enabled=self.wanted
            )

    def given_to_function(self) -> list[Sent]:
        """In the order of time; each invocation's lines bear its own moments."""
        if not self.sent:
            return []
        logs, group = self.lab.client("logs"), "/aws/lambda/Worker"
        pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=group)
        lines: list[tuple[int, str]] = []
        for name in [each["logStreamName"] for page in pages for each in page["logStreams"]]:
            events = logs.get_log_events(
                logGroupName=group, logStreamName=name, startFromHead=True
            )["events"]
            lines += [(each["timestamp"], each["message"]) for each in events]
        lines.sort(key=lambda line: line[0])
        texts = [text.split()[1] for _, text in lines if text.startswith("GOT ")]
        return [(text.partition(".")[0], int(text.partition(".")[2])) for text in texts]


@settings(max_examples=25)
@given(
    st.integers(1, 3), st.sampled_from([1, 1, 3]), st.lists(STEP, max_size=25), st.integers(0, 3)
)
def test_any_history_reaches_a_function_once_and_in_order(
    shards: int, factor: int, steps: list[tuple[str, int, int]], seed: int
) -> None:
    with lu.open_lab("embedded", seed=seed) as lab:
        history = MappedHistory(lab, shards, factor)
        for step in steps:
            history.do(*step)
        lab.clock.advance(minutes=1)
        if not history.wanted:
            history.switch(0, 0)
        lab.clock.advance(minutes=5)
        found = history.given_to_function()
        history.check_order(found)
        assert set(found) == set(history.sent)


# -- with records that go -------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    st.lists(
        st.one_of(STEP, LONG_WAIT),
        max_size=25,
    )
)
def test_what_can_still_be_read_is_read_in_order(steps: list[tuple[str, int, int]]) -> None:
    """After pauses of more than a day: nothing twice, nothing out of order, and nothing left."""
    with lu.open_lab("embedded") as lab, warnings.catch_warnings():
        warnings.simplefilter("ignore", lu.TrimmedRecordsWarning)
        history = History(lab, 2)
        sent_at: dict[Sent, datetime] = {}
        for step in steps:
            before = set(history.sent)
            history.do(*step)
            sent_at |= dict.fromkeys(set(history.sent) - before, lab.clock.now())
        history.drain()
        history.check_order(history.handed_out)
        missing = set(history.sent) - set(history.handed_out)
        horizon = lab.clock.now() - timedelta(hours=24)
        assert all(sent_at[each] <= horizon for each in missing)


def test_two_days_of_one_history() -> None:
    """Long enough for shards to expire; children still name them, and the ring stays whole."""
    with lu.open_lab("embedded", seed=1) as lab:
        history = History(lab, 2)
        for hour in range(48):
            history.put(hour % KEYS, 2)
            history.do(("split", "merge", "scale")[hour % 3], hour, hour)
            history.wait(3600, 0)
            history.look()
            history.drain()
            assert tiles([span(shard) for shard in history.open_shards()])
        history.check_order(history.handed_out)
        assert set(history.handed_out) == set(history.sent)
        listed = {id_of(shard) for shard in history.listed()}
        assert len(listed) < len(history.shards)
        orphans = [each for each in history.listed() if not set(parents(each)) <= listed]
        assert orphans, "some name parents that are no more"
        lineage = lu.read_lineage(history.kinesis, "Stream")
        assert set(lineage.trimmed) == {
            parent for each in history.listed() for parent in parents(each) if parent not in listed
        }


@pytest.mark.parametrize("seed", [0, 1])
def test_a_history_is_the_same_at_every_run(seed: int) -> None:
    def run() -> list[Any]:
        with lu.open_lab("embedded", seed=seed) as lab:
            history = History(lab, 2)
            for step in range(12):
                history.put(step % KEYS, 2)
                history.do(("split", "wait", "merge", "wait")[step % 4], 45, step)
                history.look()
            return [history.sent, history.shards, history.moments]

    assert run() == run()
