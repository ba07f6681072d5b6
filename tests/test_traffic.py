"""Load as a rate, and what it does to a table: what splits, what helps, and what never will."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lab_utils as lu
from lab_utils.emulator import heat
from lab_utils.emulator.partitions import RING, key_hash
from lab_utils.lab import Lab

Item = dict[str, Any]
KEYS = [f"key-{number}" for number in range(1000)]
GB = 1024**3


def make_table(lab: Lab, *, sort_type: str = "", local_index: bool = False, **options: Any) -> str:
    """A table with the string key `id`, and a sort key `at` of a type if one is given."""
    if "ProvisionedThroughput" not in options:
        options["BillingMode"] = "PAY_PER_REQUEST"
    keys = [("id", "HASH", "S"), ("at", "RANGE", sort_type)][: 1 + bool(sort_type)]
    types = {name: kind for name, _, kind in keys}
    if local_index:
        types["other"] = "S"
        options["LocalSecondaryIndexes"] = [
            {
                "IndexName": "by-other",
                "KeySchema": [
                    {"AttributeName": "id", "KeyType": "HASH"},
                    {"AttributeName": "other", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ]
    made = lab.client("dynamodb").create_table(
        TableName="Table",
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind, _ in keys],
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": kind} for name, kind in types.items()
        ],
        **options,
    )
    return str(made["TableDescription"].get("LatestStreamArn", ""))


def hot_key(share: float) -> dict[Any, float]:
    return {"hot": share} | {key: (1 - share) / len(KEYS) for key in KEYS}


def hot_collection(count: int, share: float = 0.8) -> dict[Any, float]:
    """A collection of so many sort keys, in no order, with a share of the load."""
    numbers = sorted(range(count), key=lambda number: key_hash(str(number)))
    others = {(key, 0): (1 - share) / len(KEYS) for key in KEYS}
    return {("hot", number): share / count for number in numbers} | others


def reasons(lab: Lab) -> list[tuple[str, str, int]]:
    """Cause, reason and number of parts of every note."""
    return [
        (str(each.cause), str(each.reason), len(each.parts))
        for each in lab.splits("Table").itertuples()
    ]


def assert_tiles(frame: pd.DataFrame) -> None:
    assert frame["low"].iloc[0] == 0
    assert frame["high"].iloc[-1] == RING
    lows, highs = list(frame["low"])[1:], list(frame["high"])[:-1]
    overlaps = [high - low for low, high in zip(lows, highs, strict=True)]
    assert set(overlaps) <= {0, 1}, "a collection that is cut lies in two"


# -- scenarios ----------------------------------------------------------------------------------


def test_even_keys_split_for_throughput_and_all_get_through(lab: Lab) -> None:
    """A10, A7: 3,600 writes a second over many keys are a new peak: four partitions become eight,
    all in the middle, within minutes; nothing is throttled and nothing gets hot after that."""
    make_table(lab)
    frame = lab.traffic("Table", KEYS, rate=3600, minutes=30)
    assert frame["throttled"].sum() == 0
    assert set(frame["partitions"]) == {4, 8}
    splits = lab.splits("Table")
    assert list(splits["cause"]) == ["throughput"] * 4
    assert splits["reason"].str.startswith("new peak of 3,").all()
    assert (lab.partitions("Table")["write_rate"] < 1000).all()
    assert frame["hottest"].iloc[0] > 0.9
    assert frame["hottest"].iloc[-1] < 0.7


def test_a_table_on_demand_doubles_its_peak_again_and_again(lab: Lab) -> None:
    """A7: 20,000 a second are throttled at first; each peak makes room for twice as much."""
    make_table(lab)
    frame = lab.traffic("Table", KEYS, rate=20_000, minutes=30)
    minutes_at = frame.groupby("partitions").size()
    assert list(minutes_at.index) == [4, 8, 16, 32, 64][: len(minutes_at)]
    assert frame["throttled"].iloc[0] > 0
    assert frame["throttled"].iloc[-5:].sum() == 0
    warm = lab.client("dynamodb").describe_table(TableName="Table")["Table"]["WarmThroughput"]
    assert warm["WriteUnitsPerSecond"] >= 40_000


def test_one_hot_key_is_isolated_and_throttled_all_the_same(lab: Lab) -> None:
    """A11, G25: its partition ends with that key alone; 1,000 writes a second remain the ceiling.
    What shared its partition gets through from then on."""
    make_table(lab)
    frame = lab.traffic("Table", hot_key(0.8), rate=2000, minutes=60)
    assert reasons(lab) == [
        ("heat", heat.ISOLATED_KEY, 2),
        ("heat", heat.ISOLATED_KEY, 2),
        ("heat", heat.ONE_KEY, 0),
    ]
    assert frame["partitions"].iloc[-1] == 6
    assert frame["accepted"].iloc[-1] == pytest.approx(60 * (1000 + 400), rel=0.01)
    assert frame["accepted"].iloc[2] < 60 * (1000 + 320)
    narrow = lab.partitions("Table").query("high - low == 1")
    assert narrow["low"].tolist() == [key_hash("S:hot")]
    assert narrow["write_rate"].tolist() == pytest.approx([1600], rel=0.01)


def test_a_hot_collection_is_split_by_its_sort_key_until_it_is_not_hot(lab: Lab) -> None:
    """A12, G25: first the collection is isolated, then cut between its sort keys; the throttling
    ends."""
    make_table(lab, sort_type="N")
    frame = lab.traffic("Table", hot_collection(200, share=0.7), rate=2000, minutes=60)
    assert reasons(lab)[:3] == [
        ("heat", heat.ISOLATED_KEY, 2),
        ("heat", heat.ISOLATED_KEY, 2),
        ("heat", heat.BY_SORT_KEY, 2),
    ]
    assert frame["throttled"].iloc[0] > 0
    assert frame["throttled"].iloc[-20:].sum() == 0
    seen = lab.partitions("Table")
    assert_tiles(seen)
    inside = seen[seen["sort_from"].notna() | seen["sort_to"].notna()]
    assert [int(each) for each in inside["sort_from"].dropna()] == [100]
    assert inside["low"].nunique() == 1
    cut = lab.splits("Table").iloc[2]
    assert (cut["point"], cut["sort_point"]) == (key_hash("S:hot"), 100)


def test_a_sort_key_that_only_grows_does_not_split_its_collection(lab: Lab) -> None:
    """A10, A12, G25: the newest item is always in the last part."""
    make_table(lab, sort_type="S")
    frame = lab.traffic(
        "Table",
        lambda minute: [("log", f"{minute:04d}-{number:03d}") for number in range(50)],
        rate=1600,
        minutes=40,
    )
    assert reasons(lab) == [
        ("heat", heat.ISOLATED_KEY, 2),
        ("heat", heat.ISOLATED_KEY, 2),
        ("heat", heat.GROWS, 0),
    ]
    assert frame["throttled"].iloc[-1] == pytest.approx(60 * 600, rel=0.02)


def test_a_local_index_keeps_a_hot_collection_in_one_partition(lab: Lab) -> None:
    """A12, G25."""
    make_table(lab, sort_type="N", local_index=True)
    frame = lab.traffic("Table", hot_collection(200), rate=2000, minutes=40)
    assert reasons(lab)[-1] == ("heat", heat.LOCAL_INDEX, 0)
    assert frame["throttled"].iloc[-1] > 0
    assert "sort_from" not in lab.partitions("Table")


def test_a_walking_key_finds_no_partition_hot_for_long(lab: Lab) -> None:
    """A10, G25: a new key value every two minutes; each is too hot, and nothing splits. Where three
    in a row fall into one partition by chance, that is told."""
    make_table(lab)
    frame = lab.traffic("Table", lambda minute: [f"day-{minute // 2}"], rate=1500, minutes=60)
    assert set(reasons(lab)) == {("heat", heat.WALKS, 0)}
    assert len(reasons(lab)) < 4
    assert (frame["hottest"] == 1.5).all()
    assert (frame["partitions"] == 4).all()


def test_reads_have_a_ceiling_of_their_own(lab: Lab) -> None:
    """A3: 3,000 a second and partition; a read of 20 KB costs five units, so 600 of them."""
    make_table(lab)
    frame = lab.traffic("Table", ["hot"], rate=900, minutes=10, size=20_000, operation="read")
    assert frame["hottest"].iloc[0] == 1.5
    assert frame["accepted"].iloc[-1] == pytest.approx(60 * 600, rel=0.001)
    seen = lab.partitions("Table")
    assert seen["read_rate"].max() == pytest.approx(4500, rel=0.01)
    assert seen["write_rate"].max() == 0
    assert lab.splits("Table")["cause"].eq("heat").all()


@pytest.mark.parametrize("size", [300_000, 300_230], ids=["within a minute", "as one begins"])
def test_a_full_partition_splits_where_half_of_its_bytes_lie(lab: Lab, size: int) -> None:
    """A10, A3: about 10 GB. All keys lie in one partition's lower half."""
    make_table(lab)
    low = [key for key in KEYS if key_hash(f"S:{key}") < RING // 8]
    lab.traffic("Table", low, rate=2, minutes=310, size=size, growing=True)
    splits = lab.splits("Table")
    assert list(splits["cause"]) == ["size"]
    assert splits.loc[0, "reason"] == heat.HALVES
    point = splits.loc[0, "point"]
    below = sum(key_hash(f"S:{key}") < point for key in low)
    assert abs(2 * below - len(low)) <= 1
    seen = lab.partitions("Table")
    parts = seen.loc[list(splits.loc[0, "parts"])]
    assert parts["bytes"].min() > 0.4 * seen["bytes"].sum()
    assert seen["bytes"].sum() == 2 * 60 * 310 * size
    assert seen["items"].sum() == 0
    described = lab.client("dynamodb").describe_table(TableName="Table")["Table"]
    assert described["TableSizeBytes"] == seen["bytes"].sum()


def test_stored_items_fill_a_partition_of_a_scale_model() -> None:
    """A10: the items that are there when it gets too full tell the point."""
    with lu.open_lab("embedded", physics=lu.Physics(partition_bytes=20_000)) as lab:
        make_table(lab)
        for key in KEYS[:100]:
            lab.client("dynamodb").put_item(
                TableName="Table", Item={"id": {"S": key}, "v": {"S": "x" * 1000}}
            )
        assert lab.splits("Table").empty
        lab.clock.advance(minutes=4)
        splits, seen = lab.splits("Table"), lab.partitions("Table")
        assert set(splits["cause"]) == {"size"}
        assert len(splits) == 4
        for parts in splits["parts"]:
            left, right = seen.loc[list(parts), "items"]
            assert min(left, right) > 0.4 * (left + right)
        assert seen["items"].sum() == 100
        assert_tiles(seen)


def test_a_full_collection_with_a_local_index_is_not_split() -> None:
    """A12: it stays whole, and that is told once."""
    with lu.open_lab("embedded", physics=lu.Physics(partition_bytes=20_000)) as lab:
        make_table(lab, sort_type="N", local_index=True)
        for number in range(30):
            lab.client("dynamodb").put_item(
                TableName="Table",
                Item={"id": {"S": "a"}, "at": {"N": str(number)}, "v": {"S": "x" * 1000}},
            )
            lab.clock.advance(minutes=3)
        assert reasons(lab) == [
            ("size", heat.ISOLATED_KEY, 2),
            ("size", heat.ISOLATED_KEY, 2),
            ("size", heat.LOCAL_INDEX, 0),
        ]


def test_a_table_is_bound_by_what_it_is_provisioned_for(lab: Lab) -> None:
    """A8, A9: 100 writes a second for keys of four partitions, after five idle minutes."""
    make_table(lab, ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 100})
    lab.clock.advance(minutes=10)
    frame = lab.traffic("Table", KEYS, rate=400, minutes=10)
    assert frame["throttled"].iloc[0] == 0
    assert frame["accepted"].sum() == pytest.approx(100 * (300 + 600), rel=0.01)
    assert frame["accepted"].iloc[-1] == 6000
    lab.client("dynamodb").update_table(
        TableName="Table",
        ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 6000},
    )
    assert len(lab.partitions("Table")) == 8
    assert lab.traffic("Table", KEYS, rate=400, minutes=2)["throttled"].sum() == 0


def test_a_tables_shards_split_with_its_partitions(lab: Lab) -> None:
    """A13: every split closes one shard and begins two; each partition has one open shard."""
    arn = make_table(
        lab, StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    )
    lab.traffic("Table", hot_key(0.8), rate=2000, minutes=10)
    found = lab.client("dynamodbstreams").describe_stream(StreamArn=arn)["StreamDescription"]
    opened = {
        each["ShardId"]
        for each in found["Shards"]
        if "EndingSequenceNumber" not in each["SequenceNumberRange"]
    }
    assert opened == set(lab.partitions("Table")["open_shard"])
    assert len(opened) == 6
    assert len(found["Shards"]) == 4 + 2 * 2


def test_accepted_bytes_fill_the_open_shard(lab: Lab) -> None:
    arn = make_table(
        lab, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    )
    frame = lab.traffic("Table", ["hot"], rate=500, minutes=3, size=1000)
    world = lab._target.world  # type: ignore[attr-defined]
    log = world.region(lab.region).streams.find(arn).log
    assert sum(shard.bytes for shard in log) == frame["accepted"].sum() * 1000
    assert not any(shard.records for shard in log)


# -- the frames ---------------------------------------------------------------------------------


def test_a_row_for_each_minute(lab: Lab) -> None:
    make_table(lab)
    before = lab.clock.now()
    frame = lab.traffic("Table", KEYS[:10], rate=10, minutes=2.5)
    assert frame.index.name == "minute"
    assert list(frame.index) == [0, 1, 2]
    assert list(frame.columns) == ["offered", "accepted", "throttled", "partitions", "hottest"]
    assert list(frame["offered"]) == [600, 600, 300]
    assert (lab.clock.now() - before).total_seconds() == 150
    assert lab.client("dynamodb").scan(TableName="Table")["Count"] == 0


def test_what_frames_tell_a_plot(lab: Lab) -> None:
    make_table(lab)
    lab.clock.advance(minutes=5)
    lab.split_partition("Table", 1)
    lab.split_partition("Table", 2, at=RING // 2 + 5)
    seen, splits = lab.partitions("Table"), lab.splits("Table")
    for frame in (seen, splits):
        assert frame.attrs["scale"] == 1
        assert (frame.attrs["write_ceiling"], frame.attrs["read_ceiling"]) == (1000, 3000)
        assert frame.attrs["created"] < frame.attrs["now"] == lab.clock.now()
    assert list(splits.columns) == [
        "at", "partition", "cause", "parts", "reason",
        "low", "high", "point", "sort_point", "born",
    ]  # fmt: skip
    assert list(splits["cause"]) == ["asked", "asked"]
    assert list(splits["point"]) == [3 * RING // 8, RING // 2 + 5]
    assert splits["parts"].tolist() == [(4, 5), (6, 7)]
    assert (splits["born"] < splits["at"]).all()
    assert str(splits["at"].dt.tz) == "UTC"
    assert seen.loc[6, ["low", "high"]].tolist() == [RING // 2, RING // 2 + 5]
    assert list(seen.columns) == [
        "low", "high", "items", "bytes", "write_rate", "read_rate", "open_shard"
    ]  # fmt: skip


def test_a_table_that_never_split_has_an_empty_frame(lab: Lab) -> None:
    make_table(lab)
    splits = lab.splits("Table")
    assert splits.empty
    assert list(splits.columns)[:5] == ["at", "partition", "cause", "parts", "reason"]


def test_a_deleted_tables_plans_are_forgotten(lab: Lab) -> None:
    make_table(lab)
    lab.traffic("Table", KEYS, rate=3600, minutes=2)
    lab.client("dynamodb").delete_table(TableName="Table")
    make_table(lab)
    lab.clock.advance(hours=1)
    assert lab.splits("Table").empty
    assert len(lab.partitions("Table")) == 4


# -- properties ---------------------------------------------------------------------------------

Steps = st.lists(
    st.tuples(
        st.sampled_from(["even", "hot", "collection", "write", "split", "read"]),
        st.integers(0, 30),
    ),
    max_size=12,
)


@settings(max_examples=15)
@given(Steps, st.integers(0, 3))
def test_after_any_history_the_ranges_tile_and_counts_add_up(
    steps: list[tuple[str, int]], seed: int
) -> None:
    """Ranges tile, each item is in one partition, bytes add up, partitions only become more, and
    what was accepted never exceeds what the partitions could give."""
    with lu.open_lab("embedded", seed=seed, physics=lu.Physics.scaled(100)) as lab:
        make_table(lab, sort_type="N")
        written, grown = {}, 0
        for kind, what in steps:
            before = len(lab.partitions("Table"))
            if kind == "write":
                item = {"id": {"S": f"k{what % 3}"}, "at": {"N": str(what)}}
                lab.client("dynamodb").put_item(TableName="Table", Item=item)
                written[what % 3, what] = 2 + 2 + 2 + 2
            elif kind == "split":
                ids = lab.partitions("Table").query("high - low > 1").index
                lab.split_partition("Table", int(ids[what % len(ids)]))
            else:
                keys: Any = {
                    "even": [(key, 0) for key in KEYS[:50]],
                    "hot": {("k1", 3): 0.9, ("x", 1): 0.1},
                    "collection": hot_collection(20),
                    "read": [("k1", number) for number in range(20)],
                }[kind]
                frame = lab.traffic(
                    "Table",
                    keys,
                    rate=what,
                    minutes=7,
                    operation="read" if kind == "read" else "write",
                    growing=kind == "even",
                )
                grown += (kind == "even") * frame["accepted"].sum() * 1000
                assert (frame["accepted"] + frame["throttled"] == frame["offered"]).all()
                assert (frame[["accepted", "throttled"]] >= 0).all(axis=None)
            assert len(lab.partitions("Table")) >= before
        seen = lab.partitions("Table")
        assert_tiles(seen)
        assert seen["items"].sum() == len(written)
        stored = lab.client("dynamodb").scan(TableName="Table")["Items"]
        assert len(stored) == len(written)
        bytes_stored = seen["bytes"].sum() - sum(
            len("id") + 2 + len("at") + len(item["at"]["N"].rstrip("0")) // 2 + 1
            + len(item["at"]["N"].rstrip("0")) % 2
            for item in stored
        )  # fmt: skip
        assert math.isclose(bytes_stored, grown, abs_tol=5000)


# -- bad input ----------------------------------------------------------------------------------

BAD: dict[str, tuple[Callable[[Lab], Any], str]] = {
    "unknown table": (lambda lab: lab.traffic("Tabel", KEYS, 1, 1), "There is no table 'Tabel'"),
    "no keys": (lambda lab: lab.traffic("Table", [], 1, 1), "There are no keys"),
    "no share": (lambda lab: lab.traffic("Table", {("a", 1): 0}, 1, 1), "There are no keys"),
    "a text": (lambda lab: lab.traffic("Table", "abc", 1, 1), "'abc' is no list of keys"),
    "nothing": (lambda lab: lab.traffic("Table", None, 1, 1), "None is no list of keys"),
    "no sort key": (
        lambda lab: lab.traffic("Table", ["a"], 1, 1),
        r"'a' is no key of Table: give a pair \(id as a str, at as an int, float or Decimal\)\.",
    ),
    "a sort key of another type": (
        lambda lab: lab.traffic("Table", [("a", "b")], 1, 1),
        r"\('a', 'b'\) is no key of Table",
    ),
    "a list as a key": (lambda lab: lab.traffic("Table", [["a", 1]], 1, 1), "is no key of Table"),
    "a share of another type": (
        lambda lab: lab.traffic("Table", {("a", 1): "much"}, 1, 1),
        r"The share 'much' of the key \('a', 1\) must be zero or more",
    ),
    "a negative share": (
        lambda lab: lab.traffic("Table", {("a", 1): -1}, 1, 1),
        "The share -1 of the key",
    ),
    "keys that get bad later": (
        lambda lab: lab.traffic("Table", lambda minute: [("a", 1)] if minute < 3 else [], 1, 9),
        "There are no keys",
    ),
    "a negative rate": (lambda lab: lab.traffic("Table", [("a", 1)], -1, 1), "rate=-1 must be"),
    "a rate that is none": (
        lambda lab: lab.traffic("Table", [("a", 1)], float("nan"), 1),
        "rate=nan must be zero or more",
    ),
    "no minutes": (lambda lab: lab.traffic("Table", [("a", 1)], 1, 0), "minutes=0 must be more"),
    "minutes in words": (
        lambda lab: lab.traffic("Table", [("a", 1)], 1, "ten"),  # type: ignore[arg-type]
        "minutes='ten' must be more than zero",
    ),
    "another operation": (
        lambda lab: lab.traffic("Table", [("a", 1)], 1, 1, operation="scan"),
        "operation='scan' is neither 'write' nor 'read'",
    ),
    "too large an item": (
        lambda lab: lab.traffic("Table", [("a", 1)], 1, 1, size=500_000),
        "size=500000 must be the bytes of an item, from 1 to 409,600",
    ),
    "reads that grow": (
        lambda lab: lab.traffic("Table", [("a", 1)], 1, 1, operation="read", growing=True),
        "Reads store nothing",
    ),
    "an unknown partition": (
        lambda lab: lab.split_partition("Table", 9),
        r"Table has no partition 9: it has 0, 1, 2, 3\.",
    ),
    "a cut outside": (
        lambda lab: lab.split_partition("Table", 0, at=RING // 2),
        "Partition 0 of Table cannot be split at",
    ),
    "a cut that is none": (
        lambda lab: lab.split_partition("Table", 0, at="middle"),
        "Partition 0 of Table cannot be split at 'middle': give at= a hash between its low and",
    ),
    "a sort key of another type in a cut": (
        lambda lab: lab.split_partition("Table", 0, at=(5, "a")),
        r"cannot be split at \(5, 'a'\)",
    ),
    "splits of no table": (lambda lab: lab.splits("Tabel"), "There is no table 'Tabel'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_leaves_the_lab_as_it_was(lab: Lab, name: str) -> None:
    act, words = BAD[name]
    make_table(lab, sort_type="N")
    before = lab.clock.now(), lab.partitions("Table").to_dict()
    with pytest.raises(lu.LabError, match=words) as problem:
        act(lab)
    assert str(problem.value).count(". ") == 0
    assert (lab.clock.now(), lab.partitions("Table").to_dict()) == before
    assert lab.splits("Table").empty


def test_a_partition_of_one_hash_has_no_middle(lab: Lab) -> None:
    make_table(lab, sort_type="N")
    lab.split_partition("Table", 0, at=5)
    lab.split_partition("Table", 5, at=6)
    with pytest.raises(lu.LabError, match="Partition 6 of Table cannot be split in the middle"):
        lab.split_partition("Table", 6)
    lab.split_partition("Table", 6, at=(5, 2.5))
    assert [str(each) for each in lab.partitions("Table")["sort_from"].dropna()] == ["2.5"]


def test_many_partitions_are_not_all_named(lab: Lab) -> None:
    make_table(lab, WarmThroughput={"WriteUnitsPerSecond": 100_000})
    with pytest.raises(lu.LabError, match=r"it has 0, 1, .*, 19 and 80 more\.$"):
        lab.split_partition("Table", 100)
