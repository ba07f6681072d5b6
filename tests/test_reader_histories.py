"""Random histories of a stream, read with pauses, against an oracle that shares no code with it."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lab_utils as lu
from lab_utils.sources import StreamGone

DAY = timedelta(hours=24)
Written = tuple[str, int]


@dataclass
class Reading:
    """A stream, what was written to it and when, and what a reader handed out of it."""

    arn: str
    reader: Any = None
    written: dict[Written, datetime] = field(default_factory=dict)
    owed_from: datetime | None = None
    got: list[Written] = field(default_factory=list)
    gaps: list[Any] = field(default_factory=list)


class History:
    """A table whose stream grows, rolls over, splits, is trimmed or disabled, and read at times."""

    def __init__(self, physics: lu.Physics, start: str) -> None:
        self.lab = lu.open_lab("embedded", physics=physics)
        self.dynamodb, self.streams = self.lab.clients("dynamodb", "dynamodbstreams")
        self.gone = self.streams.exceptions.ResourceNotFoundException
        self.start, self.count = start, 0
        self.readings: list[Reading] = []
        description = self.dynamodb.create_table(
            TableName="Changes",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        assert description
        self.enabled = False
        self.enable()

    # -- what happens to the stream

    def enable(self) -> None:
        if self.enabled:
            return
        self.lab.clock.advance(seconds=1)
        changed = self.dynamodb.update_table(
            TableName="Changes",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )
        self.enabled = True
        self.readings.append(Reading(changed["TableDescription"]["LatestStreamArn"]))

    def disable(self) -> None:
        if self.enabled:
            self.dynamodb.update_table(
                TableName="Changes", StreamSpecification={"StreamEnabled": False}
            )
            self.enabled = False

    def write(self, key: int, times: int) -> None:
        for _ in range(times):
            self.count += 1
            item = {"id": {"S": f"key {key}"}, "n": {"N": str(self.count)}}
            before = self.lab.clock.now()
            self.dynamodb.put_item(TableName="Changes", Item=item)
            if self.enabled:
                self.readings[-1].written[f"key {key}", self.count] = before

    def split(self, which: int) -> None:
        ids = list(self.lab.partitions("Changes").index)
        if len(ids) < 12:
            self.lab.split_partition("Changes", int(ids[which % len(ids)]))

    def pass_time(self, hours: float) -> None:
        self.lab.clock.advance(hours=hours)

    def stay_away(self) -> None:
        """A reader comes so late that a part of a shard is trimmed, and the shard still listed."""
        self.write(0, 3)
        self.read(2)
        self.write(1, 2)
        self.pass_time(2)
        self.write(0, 2)
        self.write(2, 2)
        self.pass_time(23.5)

    # -- what is read

    def read(self, most: int | None) -> None:
        """Take `most` records of each stream, then break; None: all that there are."""
        for reading in self.readings:
            seen = self.readable(reading.arn)
            if reading.reader is None and not self.begin(reading):
                continue
            had = set(reading.got)
            for record in islice(reading.reader, most):
                reading.got.append(written_in(record))
            reading.gaps = reading.gaps + reading.reader.gaps[len(reading.gaps) :]
            if most is None:
                self.check_drained(reading, seen, had)

    def begin(self, reading: Reading) -> bool:
        self.lab.clock.advance(seconds=1)
        try:
            reading.reader = lu.StreamReader(self.streams, reading.arn, self.start, limit=7)
        except StreamGone:
            assert not self.readable(reading.arn)
            return False
        reading.owed_from = self.lab.clock.now() - (
            DAY if self.start == "TRIM_HORIZON" else timedelta(0)
        )
        return True

    def resume(self) -> None:
        """Throw the readers away and go on with new ones, from their checkpoints."""
        for reading in self.readings:
            if reading.reader is not None:
                checkpoint = reading.reader.checkpoint()
                try:
                    fresh = lu.StreamReader(
                        self.streams, reading.arn, checkpoint=checkpoint, limit=7
                    )
                except StreamGone:
                    continue
                fresh.gaps[:0] = reading.gaps
                fresh._told += len(reading.gaps)
                reading.reader = fresh

    def check_drained(self, reading: Reading, seen: set[Written], had: set[Written]) -> None:
        """Whatever could be read before, and was owed, has been handed out now."""
        horizon = self.lab.clock.now() - DAY
        left = {
            each
            for each in seen - set(reading.got)
            if reading.written[each] > horizon and self.is_owed(reading, each)
        }
        assert not left
        assert set(reading.got) >= had

    def is_owed(self, reading: Reading, written: Written) -> bool:
        return reading.owed_from is not None and reading.written[written] >= reading.owed_from

    def check(self) -> None:
        """Once each, each key in order, and nothing missing that is not said to be."""
        for reading in self.readings:
            if reading.reader is None:
                continue
            assert [each for each, times in Counter(reading.got).items() if times > 1] == []
            assert set(reading.got) <= set(reading.written)
            latest: dict[str, int] = {}
            for key, number in reading.got:
                assert latest.get(key, 0) < number
                latest[key] = number
            if self.start == "LATEST":
                assert all(self.is_owed(reading, each) for each in reading.got)
            missing = {
                each for each in set(reading.written) - set(reading.got)
                if self.is_owed(reading, each)
            }  # fmt: skip
            horizon = self.lab.clock.now() - DAY
            assert all(reading.written[each] <= horizon for each in missing)
            assert reading.gaps or not missing

    # -- the oracle

    def readable(self, arn: str) -> set[Written]:
        """Brute force: every record of every listed shard, without any order."""
        found: set[Written] = set()
        shards: list[str] = []
        page: dict[str, Any] = {}
        try:
            while True:
                answer = self.streams.describe_stream(StreamArn=arn, **page)["StreamDescription"]
                shards += [each["ShardId"] for each in answer["Shards"]]
                if not answer.get("LastEvaluatedShardId"):
                    break
                page = {"ExclusiveStartShardId": answer["LastEvaluatedShardId"]}
            for shard in shards:
                found |= self.readable_of(arn, shard)
        except self.gone:
            pass
        return found

    def readable_of(self, arn: str, shard: str) -> set[Written]:
        found: set[Written] = set()
        try:
            iterator = self.streams.get_shard_iterator(
                StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
        except self.gone:
            return found  # listed, and not to be read yet
        while iterator:
            answer = self.streams.get_records(ShardIterator=iterator)
            if not answer["Records"]:
                break
            found |= {written_in(each) for each in answer["Records"]}
            iterator = answer.get("NextShardIterator")
        return found


def written_in(record: dict[str, Any]) -> Written:
    image = record["dynamodb"]["NewImage"]
    return image["id"]["S"], int(image["n"]["N"])


writes = st.tuples(st.just("write"), st.integers(0, 5), st.integers(1, 9))
splits = st.tuples(st.just("split"), st.integers(0, 11))
reads = st.tuples(st.just("read"), st.sampled_from([1, 3, 10, None]))
switches = st.sampled_from([("disable",), ("enable",)])
resumes = st.just(("resume",))
stays = st.just(("stay_away",))


def hours(*choices: float) -> st.SearchStrategy[Any]:
    return st.tuples(st.just("pass_time"), st.sampled_from(choices))


@pytest.fixture(autouse=True)
def quiet_gaps() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lu.TrimmedRecordsWarning)
        yield


def play(history: History, steps: list[tuple[Any, ...]]) -> None:
    with history.lab:
        for name, *arguments in steps:
            getattr(history, name)(*arguments)
        history.read(None)
        history.check()


@settings(max_examples=60)
@given(
    st.sampled_from(["TRIM_HORIZON", "TRIM_HORIZON", "LATEST"]),
    st.lists(
        st.one_of(writes, splits, reads, switches, resumes, stays, hours(1, 5, 9, 25, 27)),
        min_size=6,
        max_size=16,
    ),
)
def test_every_record_once_in_order_and_gaps_are_said(
    start: str, steps: list[tuple[Any, ...]]
) -> None:
    play(History(lu.Physics(), start), steps)


@settings(max_examples=30)
@given(
    st.lists(
        st.one_of(writes, writes, splits, reads, switches, resumes, hours(0.01, 1, 5)),
        min_size=4,
        max_size=20,
    ),
)
def test_a_listing_that_lags_hides_nothing_from_a_reader_in_time(
    steps: list[tuple[Any, ...]],
) -> None:
    history = History(lu.Physics(listing_lag=(0.0, 60.0)), "TRIM_HORIZON")
    in_time: list[tuple[Any, ...]] = [("read", None)]
    for step in steps:
        in_time += [step, ("read", None)] if step[0] == "pass_time" else [step]
    in_time += [("pass_time", 0.1)]
    play(history, in_time)
    for reading in history.readings:
        assert reading.gaps == []
        assert set(reading.got) == set(reading.written)
