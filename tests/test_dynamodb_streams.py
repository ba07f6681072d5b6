"""Shards under a table: their lives, their lineage, and the four calls that read them.

"Recorded on AWS, fact N" means: AWS answered so to the requests of a public test suite.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

import lab_utils as lu
from lab_utils import frames
from lab_utils.emulator.dynamodb_streams import ShardIterator
from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.partitions import key_hash
from lab_utils.lab import Lab

Item = dict[str, Any]
EXACTLY_4_HOURS = lu.Physics(rollover=(4 * 3600, 4 * 3600))
HOUR = 3600


def make_table(
    lab: Lab,
    name: str = "Table",
    view: str | None = "NEW_AND_OLD_IMAGES",
    key: str = "id",
    **options: Any,
) -> str:
    """A table with one string key and a stream; the stream's ARN."""
    if "ProvisionedThroughput" not in options:
        options["BillingMode"] = "PAY_PER_REQUEST"
    if view:
        options["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": view}
    made = lab.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
        **options,
    )
    return str(made["TableDescription"].get("LatestStreamArn", ""))


def switch(lab: Lab, on: bool) -> str:
    view = {"StreamViewType": "NEW_IMAGE"} if on else {}
    made = lab.client("dynamodb").update_table(
        TableName="Table", StreamSpecification={"StreamEnabled": on} | view
    )
    return str(made["TableDescription"]["LatestStreamArn"])


def put(lab: Lab, key: str, value: int | str = 0) -> None:
    lab.client("dynamodb").put_item(
        TableName="Table", Item={"id": {"S": key}, "v": {"S": str(value)}}
    )


def describe(lab: Lab, arn: str, **options: Any) -> Item:
    found: Item = lab.client("dynamodbstreams").describe_stream(StreamArn=arn, **options)
    return found["StreamDescription"]  # type: ignore[no-any-return]


def shards(lab: Lab, arn: str) -> list[Item]:
    """All shards of a stream, page by page."""
    found, after = [], {}
    while True:
        page = describe(lab, arn, **after)
        found += page["Shards"]
        if "LastEvaluatedShardId" not in page:
            return found
        after = {"ExclusiveStartShardId": page["LastEvaluatedShardId"]}


def is_open(shard: Item) -> bool:
    return "EndingSequenceNumber" not in shard["SequenceNumberRange"]


def starting(shard: Item) -> str:
    return str(shard["SequenceNumberRange"]["StartingSequenceNumber"])


def iterator(
    lab: Lab, arn: str, shard: Item | str, kind: str = "TRIM_HORIZON", number: str | None = None
) -> str:
    given = {} if number is None else {"SequenceNumber": number}
    found = lab.client("dynamodbstreams").get_shard_iterator(
        StreamArn=arn,
        ShardId=shard if isinstance(shard, str) else shard["ShardId"],
        ShardIteratorType=kind,
        **given,
    )
    assert set(found) == {"ShardIterator", "ResponseMetadata"}, "recorded on AWS, fact 11"
    return str(found["ShardIterator"])


def get(lab: Lab, at: str, **options: Any) -> Item:
    found: Item = lab.client("dynamodbstreams").get_records(ShardIterator=at, **options)
    return found


def read(lab: Lab, arn: str, shard: Item | str) -> list[Item]:
    """A shard from its oldest record to its present end."""
    return list(read_on(lab, iterator(lab, arn, shard)))


def read_on(lab: Lab, at: str | None) -> Iterator[Item]:
    while at:
        page = get(lab, at)
        yield from page["Records"]
        if not page["Records"]:
            return
        at = page.get("NextShardIterator")


def read_all(lab: Lab, arn: str) -> list[Item]:
    records = [each for shard in shards(lab, arn) for each in read(lab, arn, shard)]
    return sorted(records, key=sequence)


def sequence(record: Item) -> int:
    return int(record["dynamodb"]["SequenceNumber"])


def values(records: list[Item]) -> list[str]:
    return [each["dynamodb"]["NewImage"]["v"]["S"] for each in records]


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        call()
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


# -- one record ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "images"),
    [
        ("KEYS_ONLY", []),
        ("NEW_IMAGE", ["NewImage"]),
        ("OLD_IMAGE", ["OldImage"]),
        ("NEW_AND_OLD_IMAGES", ["NewImage", "OldImage"]),
    ],
)
def test_what_each_view_shows(lab: Lab, view: str, images: list[str]) -> None:
    """Recorded on AWS, facts 14 and 15: INSERT has no OldImage, REMOVE no NewImage."""
    arn = make_table(lab, view=view)
    put(lab, "a", 1)
    put(lab, "a", 2)
    lab.client("dynamodb").delete_item(TableName="Table", Key={"id": {"S": "a"}})
    insert, modify, remove = (each["dynamodb"] for each in read_all(lab, arn))
    assert [name for name in ("NewImage", "OldImage") if name in modify] == images
    assert [name for name in ("NewImage", "OldImage") if name in insert] == [
        name for name in images if name == "NewImage"
    ]
    assert [name for name in ("NewImage", "OldImage") if name in remove] == [
        name for name in images if name == "OldImage"
    ]
    assert all(each["Keys"] == {"id": {"S": "a"}} for each in (insert, modify, remove))
    assert all(each["StreamViewType"] == view for each in (insert, modify, remove))


def test_a_record_has_the_members_of_aws(lab: Lab) -> None:
    """Recorded on AWS, facts 14 and 20: no userIdentity, no eventSourceARN, a hex eventID."""
    arn = make_table(lab)
    put(lab, "a")
    (record,) = read_all(lab, arn)
    assert set(record) == {
        "awsRegion",
        "eventID",
        "eventName",
        "eventSource",
        "eventVersion",
        "dynamodb",
    }
    assert (record["awsRegion"], record["eventSource"], record["eventVersion"]) == (
        "us-east-1",
        "aws:dynamodb",
        "1.1",
    )
    assert set(record["dynamodb"]) == {
        "ApproximateCreationDateTime",
        "Keys",
        "NewImage",
        "SequenceNumber",
        "SizeBytes",
        "StreamViewType",
    }
    assert re.fullmatch("[0-9a-f]{32}", record["eventID"])


def test_a_record_is_dated_by_the_clock_in_whole_seconds(lab: Lab) -> None:
    arn = make_table(lab)
    lab.clock.advance(hours=3, seconds=0.7)
    put(lab, "a")
    (record,) = read_all(lab, arn)
    assert record["dynamodb"]["ApproximateCreationDateTime"] == datetime(
        2026, 1, 5, 12, 0, 0, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("view", "key", "images", "sizes"),
    [
        ("NEW_AND_OLD_IMAGES", "id", [{"id": "Fred"}], [12]),
        ("NEW_AND_OLD_IMAGES", "id", [{"id": "NewKey"}, None], [16, 16]),
        ("NEW_AND_OLD_IMAGES", "id", [{"id": "Fred"}, {"id": "Fred", "name": "Fred"}], [12, 26]),
        ("KEYS_ONLY", "Username", [{"Username": "Fred"}, {"Username": "Fred", "a": "b"}], [12, 12]),
        ("KEYS_ONLY", "Username", [{"Username": "Alice"}], [13]),
    ],
)
def test_sizes_recorded_on_aws(
    lab: Lab, view: str, key: str, images: list[Any], sizes: list[int]
) -> None:
    """Fact 19: SizeBytes = Keys + NewImage + OldImage; the key counts in each of them."""
    arn = make_table(lab, view=view, key=key)
    for before, image in zip([None, *images], images, strict=False):
        if image is None:
            lab.client("dynamodb").delete_item(TableName="Table", Key={key: {"S": before[key]}})
        else:
            lab.client("dynamodb").put_item(
                TableName="Table", Item={name: {"S": text} for name, text in image.items()}
            )
    assert [each["dynamodb"]["SizeBytes"] for each in read_all(lab, arn)] == sizes


def test_ids_and_numbers_have_the_shape_of_aws(lab: Lab) -> None:
    """shardId-<20 digits of epoch milliseconds>-<8 hex>; numbers of 21 to 40 digits."""
    arn = make_table(lab)
    created = describe(lab, arn)["CreationRequestDateTime"]
    put(lab, "a")
    for shard in shards(lab, arn):
        found = re.fullmatch(r"shardId-(\d{20})-[0-9a-f]{8}", shard["ShardId"])
        assert found
        assert int(found.group(1)) == round(created.timestamp() * 1000)
        assert re.fullmatch(r"\d{21,40}", starting(shard))
    (record,) = read_all(lab, arn)
    assert re.fullmatch(r"\d{21,40}", record["dynamodb"]["SequenceNumber"])


def test_event_ids_and_numbers_are_never_used_twice(lab: Lab) -> None:
    arn = make_table(lab)
    for number in range(200):
        put(lab, f"key-{number % 9}", number)
    records = read_all(lab, arn)
    assert len({each["eventID"] for each in records}) == 200
    assert len({sequence(each) for each in records}) == 200
    assert values(records) == [str(number) for number in range(200)], "in the order of the writes"


# -- describing ---------------------------------------------------------------------------------


def test_a_stream_describes_itself_as_on_aws(lab: Lab) -> None:
    """Recorded on AWS, facts 4 and 5."""
    arn = make_table(lab)
    found = describe(lab, arn)
    assert set(found) == {
        "StreamArn",
        "StreamLabel",
        "StreamStatus",
        "StreamViewType",
        "CreationRequestDateTime",
        "TableName",
        "KeySchema",
        "Shards",
    }
    assert found["StreamStatus"] == "ENABLED"
    assert found["TableName"] == "Table"
    assert found["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", found["StreamLabel"])
    assert arn.endswith(f":table/Table/stream/{found['StreamLabel']}")
    for shard in found["Shards"]:
        assert set(shard) == {"ShardId", "SequenceNumberRange"}, "no parent"
        assert set(shard["SequenceNumberRange"]) == {"StartingSequenceNumber"}, "no end"


def test_four_shards_on_demand_and_one_for_5_5(lab: Lab) -> None:
    """One shard recorded on AWS for 5/5, fact 6; four follow from a table's warm throughput."""
    assert len(shards(lab, make_table(lab))) == 4
    small = make_table(
        lab, "Small", ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
    )
    assert len(shards(lab, small)) == 1
    assert lab.partitions("Table")["open_shard"].nunique() == 4


def test_pages_of_a_hundred_shards(lab: Lab) -> None:
    arn = make_table(lab)
    for number in range(60):
        lab.split_partition("Table", lab.partitions("Table").index[number % 3])
    pages, after = [], {}
    while True:
        page = describe(lab, arn, **after)
        pages.append(page["Shards"])
        if "LastEvaluatedShardId" not in page:
            break
        assert page["LastEvaluatedShardId"] == page["Shards"][-1]["ShardId"]
        after = {"ExclusiveStartShardId": page["LastEvaluatedShardId"]}
    assert [len(page) for page in pages] == [100, 24], "4 + 60 splits with two children each"
    ids = [shard["ShardId"] for page in pages for shard in page]
    assert ids == sorted(set(ids))
    assert [each["ShardId"] for each in describe(lab, arn, Limit=7)["Shards"]] == ids[:7]


def test_an_exclusive_start_is_not_in_the_answer(lab: Lab) -> None:
    """Recorded on AWS, fact 7; such a shard need not exist."""
    arn = make_table(lab)
    ids = [each["ShardId"] for each in shards(lab, arn)]
    after = describe(lab, arn, ExclusiveStartShardId=ids[1])["Shards"]
    assert [each["ShardId"] for each in after] == ids[2:]
    never = "shardId-00000000000000000001-00000000"
    assert len(describe(lab, arn, ExclusiveStartShardId=never)["Shards"]) == 4
    assert describe(lab, arn, ExclusiveStartShardId=ids[-1])["Shards"] == []


def test_child_shards_are_the_children_of_one_shard(lab: Lab) -> None:
    arn = make_table(lab)
    target = lab.partitions("Table").loc[1, "open_shard"]
    lab.split_partition("Table", 1)
    only = {"Type": "CHILD_SHARDS", "ShardId": target}
    children = describe(lab, arn, ShardFilter=only)["Shards"]
    assert [each["ParentShardId"] for each in children] == [target, target]
    assert {each["ShardId"] for each in children} == set(lab.partitions("Table")["open_shard"]) - {
        each["ShardId"] for each in shards(lab, arn) if "ParentShardId" not in each
    }
    leaf = {"Type": "CHILD_SHARDS", "ShardId": children[0]["ShardId"]}
    assert describe(lab, arn, ShardFilter=leaf)["Shards"] == []


def test_list_streams(lab: Lab) -> None:
    """Recorded on AWS, fact 9: three members each, no LastEvaluatedStreamArn on the last page."""
    arns = [make_table(lab, name) for name in ("Alpha", "Beta", "Gamma")]
    make_table(lab, "Silent", view=None)
    client = lab.client("dynamodbstreams")
    everything = client.list_streams()
    assert [each["StreamArn"] for each in everything["Streams"]] == arns
    assert set(everything) == {"Streams", "ResponseMetadata"}
    assert set(everything["Streams"][0]) == {"StreamArn", "StreamLabel", "TableName"}
    assert [each["StreamArn"] for each in client.list_streams(TableName="Beta")["Streams"]] == [
        arns[1]
    ]
    first = client.list_streams(Limit=2)
    assert first["LastEvaluatedStreamArn"] == arns[1]
    rest = client.list_streams(Limit=2, ExclusiveStartStreamArn=arns[1])
    assert [each["StreamArn"] for each in rest["Streams"]] == [arns[2]]
    assert "LastEvaluatedStreamArn" not in rest


# -- the lives of shards ------------------------------------------------------------------------


def gaps(lab: Lab, arn: str) -> list[float]:
    """Hours from the birth of each shard to that of its child, by the time in their ids."""
    found = shards(lab, arn)
    born = {each["ShardId"]: int(each["ShardId"].split("-")[1]) for each in found}
    return [
        (born[each["ShardId"]] - born[each["ParentShardId"]]) / 3.6e6
        for each in found
        if each.get("ParentShardId") in born
    ]


def test_shards_roll_over_between_4_and_4_and_a_half_hours(lab: Lab) -> None:
    arn = make_table(lab)
    lab.clock.advance(hours=23)
    hours = gaps(lab, arn)
    assert len(hours) == 20
    assert all(4.0 <= each <= 4.5 for each in hours)
    assert max(hours) - min(hours) > 0.2, "not all at once"


def test_exactly_four_hours_by_physics() -> None:
    with lu.open_lab("embedded", physics=EXACTLY_4_HOURS) as lab:
        arn = make_table(lab)
        lab.clock.advance(seconds=4 * HOUR - 1)
        assert len(shards(lab, arn)) == 4
        lab.clock.advance(seconds=2)
        assert len(shards(lab, arn)) == 8
        lab.clock.advance(hours=12)
        assert set(gaps(lab, arn)) == {4.0}


@pytest.mark.parametrize(
    ("hours", "closed"), [(1, 0), (5, 4), (23, 20), (27, 24), (48, 24), (72, 24)]
)
def test_24_closed_and_4_open_shards_are_listed_after_a_day(hours: int, closed: int) -> None:
    """4 partitions x 24 h / 4 h = 24 closed ones, besides the 4 that are open: 28 in all."""
    with lu.open_lab("embedded", physics=EXACTLY_4_HOURS) as lab:
        arn = make_table(lab)
        lab.clock.advance(hours=hours)
        found = shards(lab, arn)
        assert [is_open(each) for each in found].count(False) == closed
        assert [is_open(each) for each in found].count(True) == 4


def test_idle_shards_roll_over_and_end_where_they_start(lab: Lab) -> None:
    arn = make_table(lab)
    lab.clock.advance(hours=10)
    closed = [each["SequenceNumberRange"] for each in shards(lab, arn) if not is_open(each)]
    assert closed
    assert all(each["EndingSequenceNumber"] == each["StartingSequenceNumber"] for each in closed)


def test_a_closed_shard_ends_with_its_last_record(lab: Lab) -> None:
    arn = make_table(lab)
    for number in range(20):
        put(lab, f"key-{number}")
    lab.clock.advance(hours=5)
    for shard in shards(lab, arn):
        numbers = [sequence(each) for each in read(lab, arn, shard)]
        if numbers:
            assert int(shard["SequenceNumberRange"]["EndingSequenceNumber"]) == numbers[-1]
            assert int(starting(shard)) < numbers[0]


def test_numbers_rise_along_the_lineage(lab: Lab) -> None:
    arn = make_table(lab)
    for hour in range(20):
        put(lab, f"key-{hour % 3}", hour)
        if hour % 6 == 5:
            lab.split_partition("Table", lab.partitions("Table").index[hour % 4])
        lab.clock.advance(hours=1)
    found = {each["ShardId"]: each["SequenceNumberRange"] for each in shards(lab, arn)}
    parents = [
        (each["ParentShardId"], each["ShardId"])
        for each in shards(lab, arn)
        if each.get("ParentShardId") in found
    ]
    assert len(parents) > 12
    for parent, child in parents:
        assert (
            int(found[parent]["StartingSequenceNumber"])
            <= int(found[parent]["EndingSequenceNumber"])
            < int(found[child]["StartingSequenceNumber"])
        )


def test_a_split_closes_one_shard_and_begins_two(lab: Lab) -> None:
    arn = make_table(lab)
    before = lab.partitions("Table")
    lab.split_partition("Table", 2)
    found, after = shards(lab, arn), lab.partitions("Table")
    assert [each["ShardId"] for each in found if not is_open(each)] == [before.loc[2, "open_shard"]]
    assert len(after) == 5
    assert 2 not in after.index
    children = [each for each in found if "ParentShardId" in each]
    assert {each["ShardId"] for each in children} == set(after["open_shard"]) - set(
        before["open_shard"]
    )
    assert [each["ParentShardId"] for each in children] == [before.loc[2, "open_shard"]] * 2


def test_items_find_their_part_after_a_split(lab: Lab) -> None:
    make_table(lab)
    for number in range(40):
        put(lab, f"key-{number}")
    before = lab.partitions("Table")
    for number in range(6):
        lab.split_partition("Table", lab.partitions("Table").index[number])
    after = lab.partitions("Table")
    for _, row in before.iterrows():
        parts = after[(after["low"] >= row["low"]) & (after["high"] <= row["high"])]
        assert (parts["items"].sum(), parts["bytes"].sum()) == (row["items"], row["bytes"])


def test_a_split_that_cannot_be_is_one_sentence(lab: Lab) -> None:
    make_table(lab)
    with pytest.raises(lu.LabError, match=r"Table has no partition 9: it has 0, 1, 2, 3\.$"):
        lab.split_partition("Table", 9)
    with pytest.raises(lu.LabError, match=r"There is no table 'Tabel' .* \(there is: Table\)"):
        lab.split_partition("Tabel", 0)


def test_records_go_after_24_hours_and_their_shard_24_hours_after_it_closed() -> None:
    with lu.open_lab("embedded", physics=EXACTLY_4_HOURS) as lab:
        arn = make_table(lab)
        put(lab, "a", 1)
        lab.clock.advance(hours=2)
        put(lab, "a", 2)
        home = next(each["ShardId"] for each in shards(lab, arn) if read(lab, arn, each))
        lab.clock.advance(hours=22, seconds=-1)
        assert values(read(lab, arn, home)) == ["1", "2"]
        lab.clock.advance(seconds=2)
        assert values(read(lab, arn, home)) == ["2"]
        lab.clock.advance(hours=2)
        assert values(read(lab, arn, home)) == []
        assert home in [each["ShardId"] for each in shards(lab, arn)], "empty, but still listed"
        lab.clock.advance(hours=2)
        assert home not in [each["ShardId"] for each in shards(lab, arn)]
        orphans = [each for each in shards(lab, arn) if each.get("ParentShardId") == home]
        assert len(orphans) == 1, "its child keeps naming it"


# -- off, on again, gone ------------------------------------------------------------------------


def test_a_stream_switched_off_and_on_is_another_stream(lab: Lab) -> None:
    old = make_table(lab)
    put(lab, "a", 1)
    assert switch(lab, on=False) == old
    put(lab, "a", 2)
    new = switch(lab, on=True)
    put(lab, "a", 3)
    assert new != old
    assert (describe(lab, old)["StreamStatus"], describe(lab, new)["StreamStatus"]) == (
        "DISABLED",
        "ENABLED",
    )
    assert not any(is_open(each) for each in shards(lab, old))
    assert [is_open(each) for each in shards(lab, new)] == [True] * 4
    assert not any("ParentShardId" in each for each in shards(lab, new)), "a new beginning"
    assert [values(read_all(lab, arn)) for arn in (old, new)] == [["1"], ["3"]]
    assert describe(lab, new)["StreamViewType"] == "NEW_IMAGE"
    listed = lab.client("dynamodbstreams").list_streams(TableName="Table")["Streams"]
    assert [each["StreamArn"] for each in listed] == [old, new]


def test_a_switched_off_stream_is_readable_for_24_hours(lab: Lab) -> None:
    arn = make_table(lab)
    lab.clock.advance(hours=1)
    put(lab, "a", 1)
    switch(lab, on=False)
    off = lab.clock.now()
    lab.clock.advance(hours=23, minutes=59)
    assert values(read_all(lab, arn)) == ["1"]
    assert len(shards(lab, arn)) == 4, "no shard rolls over any more"
    lab.clock.advance(minutes=1)
    assert (lab.clock.now() - off).total_seconds() >= 24 * HOUR
    code, words = refusal(lambda: describe(lab, arn))
    assert (code, words) == (
        "ResourceNotFoundException",
        f"Requested resource not found: Stream: {arn} not found",
    )
    assert lab.client("dynamodbstreams").list_streams()["Streams"] == []


def test_a_deleted_tables_stream_stays_readable(lab: Lab) -> None:
    arn = make_table(lab)
    put(lab, "a", 1)
    lab.client("dynamodb").delete_table(TableName="Table")
    again = make_table(lab)
    put(lab, "a", 2)
    assert again != arn
    assert values(read_all(lab, arn)) == ["1"]
    assert [each["eventName"] for each in read_all(lab, again)] == ["INSERT"]
    assert describe(lab, arn)["StreamStatus"] == "DISABLED"
    assert not any(is_open(each) for each in shards(lab, arn))


def test_a_table_without_a_stream_writes_no_records(lab: Lab) -> None:
    make_table(lab, view=None)
    put(lab, "a", 1)
    arn = switch(lab, on=True)
    assert read_all(lab, arn) == []
    put(lab, "a", 2)
    assert [each["eventName"] for each in read_all(lab, arn)] == ["MODIFY"]


# -- iterators ----------------------------------------------------------------------------------


@pytest.fixture
def filled(lab: Lab) -> tuple[Lab, str, Item]:
    """A lab, a stream with one shard, and that shard with five records."""
    arn = make_table(lab, ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5})
    for number in range(5):
        put(lab, f"key-{number}", number)
    return lab, arn, shards(lab, arn)[0]


@pytest.mark.parametrize(
    ("kind", "of", "expected"),
    [
        ("TRIM_HORIZON", None, "01234"),
        ("LATEST", None, ""),
        ("AT_SEQUENCE_NUMBER", 2, "234"),
        ("AFTER_SEQUENCE_NUMBER", 2, "34"),
        ("AT_SEQUENCE_NUMBER", 0, "01234"),
        ("AFTER_SEQUENCE_NUMBER", 4, ""),
    ],
)
def test_where_each_iterator_begins(
    filled: tuple[Lab, str, Item], kind: str, of: int | None, expected: str
) -> None:
    lab, arn, shard = filled
    numbers = [each["dynamodb"]["SequenceNumber"] for each in read(lab, arn, shard)]
    at = iterator(lab, arn, shard, kind, None if of is None else numbers[of])
    assert "".join(values(get(lab, at)["Records"])) == expected
    put(lab, "later", "x")
    assert "".join(values(get(lab, at)["Records"])) == expected + "x"


def test_an_iterator_at_the_start_of_a_shard_reads_its_first_record(
    filled: tuple[Lab, str, Item],
) -> None:
    """Recorded on AWS, fact 12."""
    lab, arn, shard = filled
    at = iterator(lab, arn, shard, "AT_SEQUENCE_NUMBER", starting(shard))
    assert values(get(lab, at)["Records"]) == list("01234")


def test_iterators_look_as_on_aws_and_go_on(filled: tuple[Lab, str, Item]) -> None:
    """Recorded on AWS, facts 11 and 13: the ARN, one digit, and something."""
    lab, arn, shard = filled
    at, seen = iterator(lab, arn, shard), []
    for _ in range(4):
        assert re.fullmatch(rf"{re.escape(arn)}\|\d\|.+", at)
        page = get(lab, at, Limit=2)
        seen.append("".join(values(page["Records"])))
        at = page["NextShardIterator"]
    assert seen == ["01", "23", "4", ""]


def test_a_closed_shard_has_an_end(filled: tuple[Lab, str, Item]) -> None:
    lab, arn, shard = filled
    at = iterator(lab, arn, shard)
    lab.clock.advance(minutes=14)
    assert "NextShardIterator" in get(lab, at)
    lab.clock.advance(hours=5)
    page = get(lab, iterator(lab, arn, shard), Limit=3)
    assert values(page["Records"]) == list("012")
    last = get(lab, page["NextShardIterator"])
    assert values(last["Records"]) == list("34")
    assert "NextShardIterator" not in last
    assert "NextShardIterator" not in get(lab, iterator(lab, arn, shard, "LATEST"))


def test_an_iterator_lives_15_minutes(filled: tuple[Lab, str, Item]) -> None:
    lab, arn, shard = filled
    at = iterator(lab, arn, shard)
    lab.clock.advance(minutes=14, seconds=59)
    renewed = get(lab, at)["NextShardIterator"]
    lab.clock.advance(seconds=2)
    assert refusal(lambda: get(lab, at)) == (
        "ExpiredIteratorException",
        "The provided iterator exceeds the maximum age allowed.",
    )
    assert get(lab, renewed)["Records"] == [], "each answer renews"


def test_reading_what_is_trimmed(filled: tuple[Lab, str, Item]) -> None:
    lab, arn, shard = filled
    records = read(lab, arn, shard)
    lab.clock.advance(hours=23, minutes=55)
    at = iterator(lab, arn, shard)
    lab.clock.advance(minutes=6)
    trimmed = (
        "TrimmedDataAccessException",
        "The operation attempted to read past the oldest stream record in a shard.",
    )
    assert refusal(lambda: get(lab, at)) == trimmed, "trimmed between getting and using it"
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        number = records[2]["dynamodb"]["SequenceNumber"]
        assert refusal(lambda k=kind, n=number: iterator(lab, arn, shard, k, n)) == trimmed
    newest = records[4]["dynamodb"]["SequenceNumber"]
    assert refusal(lambda: iterator(lab, arn, shard, "AT_SEQUENCE_NUMBER", newest)) == trimmed
    after_all = iterator(lab, arn, shard, "AFTER_SEQUENCE_NUMBER", newest)
    assert get(lab, after_all)["Records"] == [], "nothing is missed after the last record"
    assert get(lab, iterator(lab, arn, shard))["Records"] == [], "the horizon has moved"


def test_at_most_a_thousand_records_or_a_megabyte(lab: Lab) -> None:
    physics = lu.Physics(stream_read_records=3, stream_read_bytes=200)
    with lu.open_lab("embedded", physics=physics) as small:
        arn = make_table(
            small, ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
        )
        for number, size in enumerate([10, 10, 10, 10, 150, 500]):
            put(small, str(number), "x" * size)
        at, counts = iterator(small, arn, shards(small, arn)[0]), []
        for _ in range(4):
            page = get(small, at)
            counts.append(len(page["Records"]))
            at = page["NextShardIterator"]
        assert counts == [3, 2, 1, 0]
    assert (lu.Physics().stream_read_records, lu.Physics().stream_read_bytes) == (1000, 1 << 20)


ITERATOR = "arn:aws:dynamodb:us-east-1:123456789012:table/Table/stream/2026-01-05T09:00:00.000"


def test_requests_that_make_no_sense(filled: tuple[Lab, str, Item]) -> None:
    """Recorded on AWS, fact 8, for the unknown stream."""
    lab, arn, shard = filled
    wrong = "ValidationException"
    absent = arn[:-1] + "z"
    assert refusal(lambda: describe(lab, absent)) == (
        "ResourceNotFoundException",
        f"Requested resource not found: Stream: {absent} not found",
    )
    assert refusal(lambda: describe(lab, "a" * 40)) == (wrong, "Invalid StreamArn")
    for ordinary in ("TRIM_HORIZON", "LATEST"):
        assert refusal(lambda k=ordinary: iterator(lab, arn, shard, k, starting(shard)))[0] == wrong
    for numbered in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        for number in (None, "1" * 21, "9" * 5 + "x" * 20):
            code, _ = refusal(lambda k=numbered, n=number: iterator(lab, arn, shard, k, n))
            if number != "1" * 21:
                assert code == wrong
    code, words = refusal(
        lambda: iterator(lab, arn, "shardId-00000000000000000001-00000000", "LATEST")
    )
    assert code == "ResourceNotFoundException"
    assert "shardId-00000000000000000001-00000000" in words
    assert refusal(lambda: iterator(lab, arn, shard, "SOMEWHERE"))[0] == wrong
    assert refusal(lambda: describe(lab, arn, ShardFilter={"Type": "CHILD_SHARDS"}))[0] == wrong


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "a|b",
        f"{ITERATOR}|1|%%%",
        f"{ITERATOR}|1|",
        f"{ITERATOR}|1|bm9uc2Vuc2U=",
        f"{ITERATOR}|1|/////w==",
        f"{ITERATOR}|1|YXxifGM=",
    ],
)
def test_malformed_iterators_are_refused(lab: Lab, text: str) -> None:
    assert refusal(lambda: get(lab, text)) == ("ValidationException", "Invalid ShardIterator")


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_no_text_breaks_the_reading_of_iterators(text: str) -> None:
    try:
        found = ShardIterator.decode(text)
    except ApiError as refused:
        found, code = None, refused.code
    assert found or code == "ValidationException"


def test_forged_positions_read_nothing_that_is_not_there(filled: tuple[Lab, str, Item]) -> None:
    lab, arn, shard = filled
    now = round(lab.clock.now().timestamp() * 1e6)
    beyond = ShardIterator(arn, shard["ShardId"], 10**9, now).encode()
    assert get(lab, beyond)["Records"] == []
    before = ShardIterator(arn, shard["ShardId"], -3, now).encode()
    assert refusal(lambda: get(lab, before))[0] == "TrimmedDataAccessException"


def test_limits_are_refused_and_not_cut(filled: tuple[Lab, str, Item]) -> None:
    lab, arn, shard = filled
    at, client = iterator(lab, arn, shard), lab.client("dynamodbstreams")
    assert len(get(lab, at, Limit=1000)["Records"]) == 5
    for call in (
        lambda: get(lab, at, Limit=1001),
        lambda: describe(lab, arn, Limit=101),
        lambda: client.list_streams(Limit=101),
    ):
        code, words = refusal(call)
        assert code == "ValidationException"
        assert "failed to satisfy constraint: Member must have value less than" in words
    with pytest.raises(ParamValidationError):
        get(lab, at, Limit=0)


def asked_raw(lab: Lab, arn: str, shard: Item, **members: Any) -> str:
    """GetShardIterator with members that an older boto3 does not know."""
    client, event = lab.client("dynamodbstreams"), "before-call.dynamodb-streams.GetShardIterator"

    def add(params: Item, **_: Any) -> None:
        given = {name: each for name, each in members.items() if each is not None}
        params["body"] = json.dumps(json.loads(params["body"]) | given)

    client.meta.events.register(event, add)
    try:
        return iterator(lab, arn, shard, members["ShardIteratorType"])
    finally:
        client.meta.events.unregister(event, add)


def at_timestamp(lab: Lab, arn: str, shard: Item, seconds: Any) -> str:
    return asked_raw(lab, arn, shard, ShardIteratorType="AT_TIMESTAMP", Timestamp=seconds)


def test_an_iterator_at_a_timestamp(lab: Lab) -> None:
    """API reference, since October 2026: the first record that is not older; past the horizon it
    is TRIM_HORIZON, and a moment to come is refused."""
    arn = make_table(lab, ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5})
    shard, moments = shards(lab, arn)[0], []
    for number in range(4):
        put(lab, "key", number)
        moments.append(lab.clock.now().timestamp())
        lab.clock.advance(minutes=1)

    def found(seconds: float) -> str:
        return "".join(values(get(lab, at_timestamp(lab, arn, shard, seconds))["Records"]))

    assert found(moments[0] - 3600) == found(0) == "0123"
    assert found(moments[1] + 0.001) == "23"
    assert found(moments[1] - 0.5) == "123"
    assert found(round(moments[2] - 30)) == "23"
    assert found(moments[3] + 1) == "", "between the newest record and the present"
    late = at_timestamp(lab, arn, shard, moments[3] + 1)
    put(lab, "key", "later")
    assert values(get(lab, late)["Records"]) == ["later"]
    lab.clock.advance(hours=23, minutes=57, seconds=30)
    assert found(0) == found(moments[0]) == "23later", "the first two are trimmed"


@pytest.mark.parametrize("seconds", [None, float("nan"), float("inf"), 1e300, 4e9])
def test_timestamps_that_are_none(filled: tuple[Lab, str, Item], seconds: Any) -> None:
    lab, arn, shard = filled
    code, words = refusal(lambda: at_timestamp(lab, arn, shard, seconds))
    assert (code, words) == ("ValidationException", "Invalid Timestamp")


@pytest.mark.parametrize("seconds", ["soon", True, [1], {"S": "1"}])
def test_timestamps_of_another_type(filled: tuple[Lab, str, Item], seconds: Any) -> None:
    lab, arn, shard = filled
    code, _ = refusal(lambda: at_timestamp(lab, arn, shard, seconds))
    assert code == "SerializationException"


def test_each_type_of_iterator_takes_its_own_member_only(filled: tuple[Lab, str, Item]) -> None:
    lab, arn, shard = filled
    now, first = lab.clock.now().timestamp(), starting(shard)
    for kind, number in (
        ("TRIM_HORIZON", None),
        ("LATEST", None),
        ("AT_SEQUENCE_NUMBER", first),
        ("AFTER_SEQUENCE_NUMBER", first),
        ("AT_TIMESTAMP", first),
    ):
        code, words = refusal(
            lambda k=kind, n=number: asked_raw(
                lab, arn, shard, ShardIteratorType=k, SequenceNumber=n, Timestamp=now
            )
        )
        assert code == "ValidationException"
        assert words.endswith(f"must not be given with {kind}")


def test_boto3_refuses_a_timestamp_itself_or_sends_it(filled: tuple[Lab, str, Item]) -> None:
    """Its model has the member from October 2026 on."""
    lab, arn, shard = filled
    client = lab.client("dynamodbstreams")
    known = client.meta.service_model.operation_model("GetShardIterator").input_shape.members
    ask = {
        "StreamArn": arn,
        "ShardId": shard["ShardId"],
        "ShardIteratorType": "AT_TIMESTAMP",
        "Timestamp": datetime(2026, 1, 5, tzinfo=UTC),
    }
    if "Timestamp" in known:
        found = client.get_shard_iterator(**ask)
        assert values(get(lab, found["ShardIterator"])["Records"]) == list("01234")
    else:
        with pytest.raises(ParamValidationError, match="Timestamp"):
            client.get_shard_iterator(**ask)


def test_after_the_last_number_of_a_closed_shard_is_its_end(filled: tuple[Lab, str, Item]) -> None:
    lab, arn, shard = filled
    lab.clock.advance(hours=5)
    shard = next(each for each in shards(lab, arn) if each["ShardId"] == shard["ShardId"])
    last = shard["SequenceNumberRange"]["EndingSequenceNumber"]
    page = get(lab, iterator(lab, arn, shard, "AFTER_SEQUENCE_NUMBER", last))
    assert page["Records"] == []
    assert "NextShardIterator" not in page
    at_last = get(lab, iterator(lab, arn, shard, "AT_SEQUENCE_NUMBER", last))
    assert values(at_last["Records"]) == ["4"]
    beyond = str(int(last) + 1)
    assert refusal(lambda: iterator(lab, arn, shard, "AFTER_SEQUENCE_NUMBER", beyond)) == (
        "ValidationException",
        "Invalid SequenceNumber",
    )


@pytest.mark.parametrize(
    "arn",
    [
        "a" * 40,
        "arn:aws:dynamodb:us-east-1:123456789012:table/Table",
        "arn:aws:dynamodb:us-east-1:123456789012:table/Table/stream/",
        "arn:aws:dynamodb:us-east-1:12345:table/Table/stream/2026-01-05T09:00:00.000",
        "arn:aws:kinesis:us-east-1:123456789012:stream/Table/stream/2026",
        "x" + "arn:aws:dynamodb:us-east-1:123456789012:table/Table/stream/2026-01-05T09:00:00.000",
    ],
)
def test_malformed_arns_are_refused(filled: tuple[Lab, str, Item], arn: str) -> None:
    lab, _, shard = filled
    invalid = ("ValidationException", "Invalid StreamArn")
    assert refusal(lambda: describe(lab, arn)) == invalid
    assert refusal(lambda: iterator(lab, arn, shard)) == invalid
    client = lab.client("dynamodbstreams")
    assert refusal(lambda: client.list_streams(ExclusiveStartStreamArn=arn)) == (
        "ValidationException",
        "Invalid ExclusiveStartStreamArn",
    )


def test_pieces_of_two_iterators_make_none(filled: tuple[Lab, str, Item]) -> None:
    """An iterator never opens another stream, and Kinesis' are none here."""
    lab, arn, shard = filled
    other = make_table(lab, "Other")
    mine, theirs = iterator(lab, arn, shard), iterator(lab, other, shards(lab, other)[0])
    _, digit, inside = mine.split("|")
    _, _, other_inside = theirs.split("|")
    invalid = ("ValidationException", "Invalid ShardIterator")
    for forged in (f"{other}|{digit}|{inside}", f"{arn}|{digit}|{other_inside}", mine[:-4]):
        assert refusal(lambda at=forged: get(lab, at)) == invalid
    lab.client("kinesis").create_stream(StreamName="ticks", ShardCount=1)
    foreign = lab.client("kinesis").get_shard_iterator(
        StreamName="ticks", ShardId="shardId-000000000000", ShardIteratorType="LATEST"
    )["ShardIterator"]
    assert refusal(lambda: get(lab, foreign)) == invalid
    assert len(get(lab, mine)["Records"]) == 5


# -- how often one may ask ----------------------------------------------------------------------


def test_a_third_reader_of_a_shard_is_refused() -> None:
    """AWS lets two processes read a shard; here it is so many calls a second, by `Physics`."""
    physics = lu.Physics(shard_read_rate=2, shard_read_burst=5, stream_latency=(0, 0))
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = make_table(lab)
        first, second, *_ = shards(lab, arn)
        at, other = iterator(lab, arn, first), iterator(lab, arn, second)
        for _ in range(10):
            get(lab, at)
        limit = "LimitExceededException", "Too many operations for a given subscriber."
        assert refusal(lambda: get(lab, at)) == limit
        assert get(lab, other)["Records"] == [], "each shard has a limit of its own"
        lab.clock.advance(seconds=1)
        for _ in range(2):
            get(lab, at)
        assert refusal(lambda: get(lab, at)) == limit
        lab.clock.advance(seconds=60)
        for _ in range(10):
            get(lab, at)
        assert refusal(lambda: get(lab, at)) == limit, "only so much is kept"


def test_listing_too_often_is_throttled_and_retried_by_boto3() -> None:
    """Documented: ten DescribeStream and five ListStreams a second; boto3 waits by itself."""
    physics = lu.Physics(describe_rate=0.1, list_rate=0.2, call_burst=10, control_latency=(0, 0))
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = make_table(lab)
        client, codes = lab.client("dynamodbstreams"), []
        client.meta.events.register(
            "response-received.dynamodb-streams",
            lambda parsed_response, **_: codes.append(
                parsed_response.get("Error", {}).get("Message", "")
            ),
        )
        describe(lab, arn)
        assert codes == [""]
        began = lab.clock.now()
        with contextlib.suppress(ClientError):
            describe(lab, arn)
        assert codes[1] == "Rate exceeded"
        assert lab.clock.now() > began, "the wait is virtual"
        lab.clock.advance(minutes=1)
        codes.clear()
        for _ in range(2):
            client.list_streams()
        assert codes == ["", ""]
        with contextlib.suppress(ClientError):
            client.list_streams()
        assert codes[2] == "Rate exceeded"


def test_a_refused_request_uses_up_nothing() -> None:
    physics = lu.Physics(shard_read_rate=1, shard_read_burst=1, stream_latency=(0, 0))
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = make_table(lab)
        at = iterator(lab, arn, shards(lab, arn)[0])
        for _ in range(5):
            assert refusal(lambda: get(lab, "nonsense"))[0] == "ValidationException"
            assert refusal(lambda: get(lab, at, Limit=1001))[0] == "ValidationException"
        assert get(lab, at)["Records"] == []


# -- what AWS does not promise, as switches of Physics --------------------------------------------


def test_a_full_shard_rolls_over() -> None:
    """No figure is published; `Physics.shard_bytes` is one shard's share of a stream."""
    with lu.open_lab("embedded", physics=lu.Physics(shard_bytes=1000)) as lab:
        arn = make_table(
            lab, ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
        )
        for number in range(10):
            put(lab, f"key-{number}", "x" * 300)
        found = shards(lab, arn)
        counts = [len(read(lab, arn, each)) for each in found]
        assert counts == [4, 4, 2], "310 bytes and a little more each"
        assert [is_open(each) for each in found] == [False, False, True]
        assert [each.get("ParentShardId") for each in found] == [
            None,
            found[0]["ShardId"],
            found[1]["ShardId"],
        ]
        check_shards(lab, arn)


def test_weight_without_records_fills_a_shard(lab: Lab) -> None:
    arn = make_table(lab)
    table = frames.table_of(lab._world("partitions"), lab.region, "Table")
    assert table.stream is not None
    partition = next(iter(table.partitions))
    first = table.stream.shard_of(partition)
    table.stream.weigh(partition, lu.Physics().shard_bytes - 1)
    assert first.open
    put(lab, "a")
    table.stream.weigh(partition, 1)
    assert not first.open
    child = table.stream.shard_of(partition)
    assert (child.parents, child.bytes) == ((first.id,), 0)
    assert len(read_all(lab, arn)) == 1, "weight is no record"
    check_shards(lab, arn)


def test_late_trimming() -> None:
    with lu.open_lab("embedded", physics=lu.Physics(trim_lag=2 * HOUR)) as lab:
        arn = make_table(lab)
        put(lab, "a", 1)
        (home,) = (each for each in shards(lab, arn) if read(lab, arn, each))
        lab.clock.advance(hours=25, minutes=59)
        assert values(read(lab, arn, home)) == ["1"], "AWS promises only that none goes earlier"
        lab.clock.advance(minutes=2)
        assert read(lab, arn, home) == []


def test_a_listing_that_lags_is_no_snapshot() -> None:
    """Seen on AWS: children whose parent looks open, closed shards without children, and shards
    that are listed and not found. After the lag everything is told as it is."""
    physics = lu.Physics(listing_lag=(0, 60), rollover=(HOUR, HOUR), on_demand_partitions=20)
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = make_table(lab)
        assert len(shards(lab, arn)) < 20, "a young stream shows few"
        lab.clock.advance(hours=1, seconds=-1)
        orphans = childless = unfound = 0
        for _ in range(60):
            lab.clock.advance(seconds=1)
            found = {each["ShardId"]: each for each in shards(lab, arn)}
            parents = {each.get("ParentShardId") for each in found.values()}
            orphans += sum(
                is_open(found[each["ParentShardId"]])
                for each in found.values()
                if "ParentShardId" in each
            )
            childless += sum(
                not is_open(each) and each["ShardId"] not in parents for each in found.values()
            )
            unfound += sum(not found_by_iterator(lab, arn, shard) for shard in found)
        assert min(orphans, childless, unfound) > 0
        lab.clock.advance(seconds=60)
        check_shards(lab, arn)
        assert len(shards(lab, arn)) == 40
        assert all(found_by_iterator(lab, arn, each["ShardId"]) for each in shards(lab, arn))


def found_by_iterator(lab: Lab, arn: str, shard: str) -> bool:
    try:
        return bool(iterator(lab, arn, shard))
    except lab.client("dynamodbstreams").exceptions.ResourceNotFoundException:
        return False


def test_children_of_a_shard_lag_as_well() -> None:
    physics = lu.Physics(listing_lag=(30, 30), rollover=(HOUR, HOUR))
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = make_table(lab)
        lab.clock.advance(hours=1, seconds=10)
        parent = shards(lab, arn)[0]["ShardId"]
        only = {"Type": "CHILD_SHARDS", "ShardId": parent}
        assert describe(lab, arn, ShardFilter=only)["Shards"] == []
        lab.clock.advance(seconds=30)
        (child,) = describe(lab, arn, ShardFilter=only)["Shards"]
        assert child["ParentShardId"] == parent


def test_latest_may_miss_what_follows_at_once() -> None:
    """Seen on AWS; here only if asked for, and what came before is never handed out."""
    with lu.open_lab("embedded", physics=lu.Physics(latest_lag=2)) as lab:
        arn = make_table(
            lab, ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
        )
        put(lab, "key", "before")
        at: str | None = iterator(lab, arn, shards(lab, arn)[0], "LATEST")
        seen = []
        for number in range(6):
            put(lab, "key", number)
            assert at
            page = get(lab, at)
            seen += values(page["Records"])
            at = page["NextShardIterator"]
            lab.clock.advance(seconds=0.5)
        assert seen == ["4", "5"]


def test_streams_switched_on_at_one_moment_differ() -> None:
    """A label tells milliseconds only; two streams of a table never share an ARN."""
    with lu.open_lab("embedded", physics=lu.Physics(control_latency=(0, 0))) as lab:
        arns = [make_table(lab)]
        for _ in range(3):
            switch(lab, on=False)
            arns.append(switch(lab, on=True))
        assert len(set(arns)) == 4
        assert len({describe(lab, arn)["StreamLabel"] for arn in arns}) == 4
        statuses = [describe(lab, arn)["StreamStatus"] for arn in arns]
        assert statuses == ["DISABLED"] * 3 + ["ENABLED"]


# -- all of it together -------------------------------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 7)),
    st.tuples(st.just("write"), st.integers(0, 7)),
    st.tuples(st.just("split"), st.integers(0, 50)),
    st.tuples(st.just("pause"), st.sampled_from([0.1, 1, 4.2])),
    st.tuples(st.just("read"), st.just(0)),
)


class LineageReader:
    """Reads parents to their end before children; remembers where it is in each shard."""

    def __init__(self, lab: Lab, arn: str) -> None:
        self.lab, self.arn = lab, arn
        self.last: dict[str, str] = {}
        self.finished: set[str] = set()
        self.records: list[Item] = []

    def read(self) -> None:
        """Go on until nothing new is found."""
        listed = shards(self.lab, self.arn)
        known = {each["ShardId"] for each in listed}
        waiting = [each for each in listed if each["ShardId"] not in self.finished]
        while waiting:
            ready = [
                each
                for each in waiting
                if each.get("ParentShardId") not in known or each["ParentShardId"] in self.finished
            ]
            if not ready:
                return
            for shard in ready:
                self.read_shard(shard["ShardId"])
            waiting = [each for each in waiting if each not in ready]

    def read_shard(self, shard: str) -> None:
        last = self.last.get(shard)
        at: str | None = (
            iterator(self.lab, self.arn, shard, "AFTER_SEQUENCE_NUMBER", last)
            if last
            else iterator(self.lab, self.arn, shard)
        )
        while at:
            page = get(self.lab, at, Limit=2)
            self.records += page["Records"]
            if page["Records"]:
                self.last[shard] = page["Records"][-1]["dynamodb"]["SequenceNumber"]
            at = page.get("NextShardIterator")
            if at and not page["Records"]:
                return
        self.finished.add(shard)


@settings(max_examples=30)
@given(st.lists(STEP, max_size=30), st.integers(0, 3))
def test_a_lineage_reader_gets_every_record_once_and_in_order(
    steps: list[tuple[str, Any]], seed: int
) -> None:
    """Any history of writes, splits, roll-overs and pauses, read at any moments within 24 hours."""
    with lu.open_lab("embedded", seed=seed) as lab:
        arn = make_table(lab)
        reader, written, hours = LineageReader(lab, arn), defaultdict(list), 0.0
        for number, (kind, what) in enumerate(steps):
            if kind == "write":
                put(lab, f"key-{what}", number)
                written[f"key-{what}"].append(str(number))
            elif kind == "split":
                ids = lab.partitions("Table").index
                lab.split_partition("Table", ids[what % len(ids)])
            elif kind == "pause" and hours + what < 23:
                hours += what
                lab.clock.advance(hours=what)
            else:
                reader.read()
            check_shards(lab, arn)
        reader.read()
        got = defaultdict(list)
        for record in reader.records:
            got[record["dynamodb"]["Keys"]["id"]["S"]] += values([record])
        assert got == written


def check_shards(lab: Lab, arn: str) -> None:
    """One open shard for each partition, and no other; a parent is closed before its child."""
    listed = shards(lab, arn)
    opened = [each["ShardId"] for each in listed if is_open(each)]
    assert sorted(opened) == sorted(lab.partitions("Table")["open_shard"])
    by_id = {each["ShardId"]: each for each in listed}
    assert not any(
        is_open(by_id[each["ParentShardId"]])
        for each in listed
        if each.get("ParentShardId") in by_id
    )


def test_each_item_writes_to_the_open_shard_of_its_partition(lab: Lab) -> None:
    arn = make_table(lab)
    for number in range(40):
        put(lab, f"key-{number % 10}", number)
        if number % 8 == 7:
            lab.split_partition("Table", lab.partitions("Table").index[number % 5])
    frame = lab.partitions("Table")
    before = {each["ShardId"]: len(read(lab, arn, each)) for each in shards(lab, arn)}
    for number in range(10):
        key = f"key-{number}"
        place = key_hash(f"S:{key}")
        put(lab, key, "last")
        home = frame[(frame["low"] <= place) & (place < frame["high"])]
        shard = home["open_shard"].item()
        assert values(read(lab, arn, shard))[-1] == "last"
        before[shard] += 1
    assert {each["ShardId"]: len(read(lab, arn, each)) for each in shards(lab, arn)} == before


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("ListStreams", {"TableName": None, "Limit": None, "ExclusiveStartStreamArn": None}),
        ("DescribeStream", {"Limit": None, "ExclusiveStartShardId": None, "ShardFilter": None}),
        ("GetShardIterator", {"SequenceNumber": None, "Timestamp": None}),
        ("GetRecords", {"Limit": None}),
    ],
)
def test_a_null_on_the_wire_is_as_if_nothing_were_said(
    lab: Lab, operation: str, body: Item
) -> None:
    """boto3 never sends one; other SDKs do."""
    client, arn = lab.client("dynamodbstreams"), make_table(lab)
    shard = client.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
    place = {"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
    iterator = client.get_shard_iterator(**place)["ShardIterator"]
    required: dict[str, Item] = {
        "ListStreams": {},
        "DescribeStream": {"StreamArn": arn},
        "GetShardIterator": place,
        "GetRecords": {"ShardIterator": iterator},
    }
    given = required[operation]

    def say_null(params: Item, **_: Any) -> None:
        params["body"] = json.dumps(given | body).encode()

    method = {
        "ListStreams": client.list_streams,
        "DescribeStream": client.describe_stream,
        "GetShardIterator": client.get_shard_iterator,
        "GetRecords": client.get_records,
    }[operation]
    plain = method(**given)
    event = f"before-call.dynamodb-streams.{operation}"
    client.meta.events.register(event, say_null)
    said = method(**given)
    assert said.keys() == plain.keys()
    assert said.get("Streams") == plain.get("Streams")
    assert said.get("StreamDescription") == plain.get("StreamDescription")
