"""Any history of a table and its streams, against the plainest reader there can be.

The reader lists every stream and every shard and reads each shard anew from its oldest record; what
it saw is kept, since records are trimmed. Only the public API is asked, by boto3; the ranges of the
shards, which no API tells, are looked up inside.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import lab_utils as lu
from lab_utils import frames
from lab_utils.emulator.partitions import RING
from lab_utils.emulator.shards import Shard
from lab_utils.lab import Lab

Item = dict[str, Any]
STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}

KEY = st.integers(0, 6)
STEP = st.one_of(
    st.tuples(st.just("put"), KEY, st.integers(0, 3)),
    st.tuples(st.just("put"), KEY, st.integers(0, 3)),
    st.tuples(st.just("delete"), KEY, st.just(0)),
    st.tuples(st.just("split"), st.integers(0, 50), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([1, 60, 270, 600]), st.just(0)),
    st.tuples(st.just("switch"), st.just(0), st.just(0)),
)


class History:
    """A table, what was written to it while each of its streams was on, and what was read."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.dynamodb, self.streams = lab, *lab.clients("dynamodb", "dynamodbstreams")
        made = self.dynamodb.create_table(
            TableName="Table",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            StreamSpecification=STREAM,
        )
        self.on: str | None = made["TableDescription"]["LatestStreamArn"]
        self.items: dict[str, str] = {}
        self.written: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
        """Per stream and key, in order: (event name, value before, value after)."""
        self.read: dict[str, dict[str, dict[int, Item]]] = defaultdict(lambda: defaultdict(dict))
        """Per stream and shard: the records by their sequence numbers."""
        self.shards: dict[str, dict[str, Item]] = defaultdict(dict)
        """Per stream: every shard that was ever listed, as it was listed last."""

    # -- what may happen ------------------------------------------------------------------------

    def do(self, kind: str, what: int, value: int) -> None:
        if kind in ("put", "delete"):
            self.write(f"key-{what}", str(value) if kind == "put" else None)
        elif kind == "split":
            ids = self.lab.partitions("Table").index
            self.lab.split_partition("Table", ids[what % len(ids)])
        elif kind == "wait":
            self.lab.clock.advance(minutes=what)
        else:
            self.switch()

    def write(self, key: str, after: str | None) -> None:
        before = self.items.get(key)
        if after is None:
            self.dynamodb.delete_item(TableName="Table", Key={"id": {"S": key}})
            self.items.pop(key, None)
        else:
            self.dynamodb.put_item(TableName="Table", Item={"id": {"S": key}, "v": {"S": after}})
            self.items[key] = after
        if self.on and before != after:
            name = "INSERT" if before is None else "REMOVE" if after is None else "MODIFY"
            self.written[self.on][key].append((name, before, after))

    def switch(self) -> None:
        wanted: Item = {"StreamEnabled": False} if self.on else STREAM
        made = self.dynamodb.update_table(TableName="Table", StreamSpecification=wanted)
        self.on = None if self.on else made["TableDescription"]["LatestStreamArn"]

    # -- the plainest reader ----------------------------------------------------------------------

    def look(self) -> None:
        for stream in self.streams.list_streams(TableName="Table")["Streams"]:
            arn = stream["StreamArn"]
            for shard in self.listed(arn, 100):
                self.shards[arn][shard["ShardId"]] = shard
                for record in self.records(arn, shard["ShardId"]):
                    number = int(record["dynamodb"]["SequenceNumber"])
                    known = self.read[arn][shard["ShardId"]].setdefault(number, record)
                    assert known == record, "a record never changes"

    def listed(self, arn: str, limit: int) -> list[Item]:
        found, after = [], {}
        while True:
            page = self.streams.describe_stream(StreamArn=arn, Limit=limit, **after)
            found += page["StreamDescription"]["Shards"]
            last = page["StreamDescription"].get("LastEvaluatedShardId")
            if not last:
                return found
            after = {"ExclusiveStartShardId": last}

    def records(self, arn: str, shard: str) -> list[Item]:
        found, at = (
            [],
            self.streams.get_shard_iterator(
                StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"],
        )
        while at:
            page = self.streams.get_records(ShardIterator=at)
            found += page["Records"]
            at = page.get("NextShardIterator") if page["Records"] else None
        return found

    # -- what must hold -----------------------------------------------------------------------

    def check(self) -> None:
        assert set(self.read) <= set(self.shards)
        for arn, shards in self.shards.items():
            self.check_lineage(shards)
            self.check_numbers(arn, shards)
            self.check_records(arn, shards)
        enabled = [
            arn
            for arn in self.shards
            if any("EndingSequenceNumber" not in each["SequenceNumberRange"]
                   for each in self.shards[arn].values())
        ]  # fmt: skip
        assert enabled == ([self.on] if self.on else []), "one stream at most has open shards"
        self.check_ranges()

    def check_lineage(self, shards: dict[str, Item]) -> None:
        """A forest: one parent at most, and it was there before; two children at most."""
        children = defaultdict(list)
        for name, shard in shards.items():
            parent = shard.get("ParentShardId")
            if parent is not None:
                assert parent in shards, "whoever looks often enough saw every parent"
                assert "EndingSequenceNumber" in shards[parent]["SequenceNumberRange"]
                assert parent.split("-")[1] <= name.split("-")[1], "born no earlier than it"
                children[parent].append(name)
            assert len(self.line(shards, name)) <= len(shards), "no circle"
        assert all(len(each) <= 2 for each in children.values())

    def line(self, shards: dict[str, Item], name: str) -> list[str]:
        """A shard and its ancestors, the oldest first."""
        line = [name]
        while len(line) <= len(shards) and (parent := shards[line[0]].get("ParentShardId")):
            line.insert(0, parent)
        return line

    def check_numbers(self, arn: str, shards: dict[str, Item]) -> None:
        """They rise: inside a shard, and from each shard's end to its children's start."""
        for name, shard in shards.items():
            span = shard["SequenceNumberRange"]
            first = int(span["StartingSequenceNumber"])
            last = int(span.get("EndingSequenceNumber", 10**40))
            assert first <= last
            assert all(first <= number <= last for number in self.read[arn][name])
            if "ParentShardId" in shard:
                parent = shards[shard["ParentShardId"]]["SequenceNumberRange"]
                assert int(parent["EndingSequenceNumber"]) < first

    def check_records(self, arn: str, shards: dict[str, Item]) -> None:
        """Every change once, in one shard; those of a key in order, along one line of shards."""
        ids = [each["eventID"] for name in shards for each in self.read[arn][name].values()]
        assert len(ids) == len(set(ids)) == sum(map(len, self.written[arn].values()))
        for key, expected in self.written[arn].items():
            homes = [
                name
                for name in sorted(shards, key=lambda each: len(self.line(shards, each)))
                if any(keyed(record, key) for record in self.read[arn][name].values())
            ]
            assert all(name in self.line(shards, homes[-1]) for name in homes)
            found = [
                change(self.read[arn][name][number])
                for name in homes
                for number in sorted(self.read[arn][name])
                if keyed(self.read[arn][name][number], key)
            ]
            assert found == expected

    def check_ranges(self) -> None:
        """Open shards tile the ring of hashes; the children of a shard tile its range."""
        table = frames.table_of(self.lab._world("partitions"), self.lab.region, "Table")
        if table.stream is None:
            return
        log = table.stream.log
        assert tiles(log.open_shards(), 0, RING)
        for shard in log:
            if not shard.open:
                assert tiles(log.children(shard.id), shard.low, shard.high)

    def check_pages(self) -> None:
        for stream in self.streams.list_streams(TableName="Table")["Streams"]:
            arn = stream["StreamArn"]
            whole = self.listed(arn, 100)
            assert self.listed(arn, 3) == whole
            names = [each["ShardId"] for each in whole]
            assert names == sorted(set(names))
        one = [
            each["StreamArn"] for each in self.streams.list_streams(TableName="Table")["Streams"]
        ]
        paged, after = [], {}
        while True:
            page = self.streams.list_streams(TableName="Table", Limit=1, **after)
            paged += [each["StreamArn"] for each in page["Streams"]]
            if "LastEvaluatedStreamArn" not in page:
                break
            after = {"ExclusiveStartStreamArn": page["LastEvaluatedStreamArn"]}
        assert paged == one


def keyed(record: Item, key: str) -> bool:
    return bool(record["dynamodb"]["Keys"]["id"]["S"] == key)


def change(record: Item) -> tuple[str, Any, Any]:
    before, after = (record["dynamodb"].get(name) for name in ("OldImage", "NewImage"))
    return (
        record["eventName"],
        before and before["v"]["S"],
        after and after["v"]["S"],
    )


def tiles(shards: list[Shard], low: int, high: int) -> bool:
    """Whether ranges lie side by side and fill a range."""
    spans = sorted((each.low, each.high) for each in shards)
    return (
        bool(spans)
        and (spans[0][0], spans[-1][1]) == (low, high)
        and all(before[1] == after[0] for before, after in pairwise(spans))
    )


@settings(max_examples=25)
@given(
    st.lists(STEP, max_size=30),
    st.integers(0, 3),
    st.sampled_from([{}, {"shard_bytes": 60}, {"trim_lag": 3600}]),
)
def test_any_history_is_told_completely_and_in_order(
    steps: list[tuple[str, int, int]], seed: int, physics: Item
) -> None:
    """Writes, splits, roll-overs by age and by size, streams switched off and on, trims."""
    with lu.open_lab("embedded", seed=seed, physics=lu.Physics(**physics)) as lab:
        history = History(lab)
        history.look()
        for step in steps:
            history.do(*step)
            history.look()
        history.check()
        history.check_pages()
        lab.clock.advance(hours=12)
        history.look()
        lab.clock.advance(hours=11)
        history.look()
        history.check()


def test_two_days_of_one_history() -> None:
    """Long enough for shards to be forgotten, and for a stream to be gone."""
    with lu.open_lab("embedded", seed=1) as lab:
        history = History(lab)
        for hour in range(48):
            history.write(f"key-{hour % 7}", str(hour))
            if hour % 11 == 10:
                history.do("split", hour, 0)
            if hour in (16, 17):
                history.switch()
            history.do("wait", 60, 0)
            history.look()
        history.check()
        history.check_pages()
        streams = lab.client("dynamodbstreams").list_streams()["Streams"]
        assert [each["StreamArn"] for each in streams] == [history.on]
        assert len(history.shards) == 2
        listed = history.listed(str(history.on), 100)
        assert len(listed) < len(history.shards[str(history.on)])
        names = {each["ShardId"] for each in listed}
        assert any(each.get("ParentShardId", "") not in names for each in listed)
