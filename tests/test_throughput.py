"""Capacity units, buckets, throttling in AWS's words, and what a table is provisioned for."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

import lab_utils as lu
from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.throughput import (
    ON_DEMAND_EXCEEDED,
    PROVISIONED_EXCEEDED,
    READ,
    UNIT,
    WRITE,
    Bucket,
    read_cost,
    write_cost,
)
from lab_utils.lab import Lab

Item = dict[str, Any]
ONCE = Config(retries={"total_max_attempts": 1})
SCALED = lu.Physics.scaled(100)


def make_table(lab: Lab, name: str = "Table", *, sort_key: bool = False, **options: Any) -> Item:
    """A table with the string key `id`, and the number `at` if it has a sort key."""
    if "ProvisionedThroughput" not in options:
        options.setdefault("BillingMode", "PAY_PER_REQUEST")
    keys = [("id", "HASH", "S"), ("at", "RANGE", "N")][: 1 + sort_key]
    return dict(
        lab.client("dynamodb").create_table(
            TableName=name,
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind, _ in keys],
            AttributeDefinitions=[
                {"AttributeName": key, "AttributeType": kind} for key, _, kind in keys
            ],
            **options,
        )["TableDescription"]
    )


def provisioned(reads: int, writes: int) -> Item:
    return {"ProvisionedThroughput": {"ReadCapacityUnits": reads, "WriteCapacityUnits": writes}}


def admin(lab: Lab, name: str = "Table") -> Any:
    return lab._target.world.region(lab.region).dynamodb.tables[name].admin  # type: ignore[attr-defined]


def warm(lab: Lab, name: str = "Table") -> tuple[int, int]:
    found = lab.client("dynamodb").describe_table(TableName=name)["Table"]["WarmThroughput"]
    assert found["Status"] == "ACTIVE"
    return found["ReadUnitsPerSecond"], found["WriteUnitsPerSecond"]


def refused(act: Any) -> Item:
    with pytest.raises(ClientError) as problem:
        act()
    return dict(problem.value.response)


def exhaust(lab: Lab, key: str = "hot", size: int = 30_000) -> None:
    """Put the partition of a key into debt: one item costs more than a scaled second holds."""
    lab.client("dynamodb").put_item(
        TableName="Table", Item={"id": {"S": key}, "v": {"S": "x" * size}}
    )


# -- units --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "units"), [(0, 1), (1, 1), (1024, 1), (1025, 2), (400 * 1024, 400)]
)
def test_a_write_costs_a_unit_for_each_kilobyte(size: int, units: int) -> None:
    assert write_cost(size) == units * UNIT


@pytest.mark.parametrize(("size", "units"), [(0, 1), (4096, 1), (4097, 2), (20 * 1024, 5)])
def test_a_read_costs_a_unit_for_each_four_kilobytes(size: int, units: int) -> None:
    """A3: an item of 20 KB costs 5; half of that if the read is eventually consistent."""
    assert read_cost(size, consistent=True) == units * UNIT
    assert read_cost(size, consistent=False) == units * UNIT // 2


def spent(lab: Lab, kind: int) -> float:
    """Units that the table was asked for in this minute."""
    demand = admin(lab)._peaks[kind]
    return float((demand.asked + demand.before) / UNIT)


KB3 = {"v": {"S": "x" * 2500}}
COSTS: dict[str, tuple[int, str, Item, float]] = {
    "put": (WRITE, "put_item", {"Item": {"id": {"S": "new"}} | KB3}, 3),
    "put of less over more": (WRITE, "put_item", {"Item": {"id": {"S": "a"}}}, 3),
    "delete": (WRITE, "delete_item", {"Key": {"id": {"S": "a"}}}, 3),
    "delete of an absent item": (WRITE, "delete_item", {"Key": {"id": {"S": "b"}}}, 1),
    "failed condition": (
        WRITE,
        "put_item",
        {"Item": {"id": {"S": "a"}}, "ConditionExpression": "attribute_not_exists(id)"},
        1,
    ),
    "transaction": (
        WRITE,
        "transact_write_items",
        {"TransactItems": [{"Put": {"TableName": "Table", "Item": {"id": {"S": "n"}} | KB3}}]},
        6,
    ),
    "get": (READ, "get_item", {"Key": {"id": {"S": "a"}}}, 0.5),
    "consistent get": (READ, "get_item", {"Key": {"id": {"S": "a"}}, "ConsistentRead": True}, 1),
    "get of an absent item": (READ, "get_item", {"Key": {"id": {"S": "b"}}}, 0.5),
    "batch get": (
        READ,
        "batch_get_item",
        {"RequestItems": {"Table": {"Keys": [{"id": {"S": "a"}}, {"id": {"S": "b"}}]}}},
        1,
    ),
    "transaction of reads": (
        READ,
        "transact_get_items",
        {"TransactItems": [{"Get": {"TableName": "Table", "Key": {"id": {"S": "a"}}}}]},
        2,
    ),
    "query": (
        READ,
        "query",
        {
            "KeyConditionExpression": "#k = :k",
            "ExpressionAttributeNames": {"#k": "id"},
            "ExpressionAttributeValues": {":k": {"S": "a"}},
            "ConsistentRead": True,
        },
        1,
    ),
    "scan": (READ, "scan", {"ConsistentRead": True}, 1),
    "scan whose filter lets nothing through": (
        READ,
        "scan",
        {
            "ConsistentRead": True,
            "FilterExpression": "id = :k",
            "ExpressionAttributeValues": {":k": {"S": "nobody"}},
        },
        1,
    ),
}


@pytest.mark.parametrize("name", COSTS)
def test_what_a_request_costs(lab: Lab, name: str) -> None:
    """Larger of before and after for writes; doubled in transactions."""
    make_table(lab)
    lab.client("dynamodb").put_item(TableName="Table", Item={"id": {"S": "a"}} | KB3)
    kind, operation, params, units = COSTS[name]
    if not {"RequestItems", "TransactItems"} & set(params):
        params = {"TableName": "Table"} | params
    before = spent(lab, kind)
    expected = pytest.raises(ClientError) if name == "failed condition" else nullcontext()
    with expected:
        getattr(lab.client("dynamodb"), operation)(**params)
    assert spent(lab, kind) - before == units


# -- buckets ------------------------------------------------------------------------------------


def test_a_new_bucket_holds_one_second_and_fills_to_five_minutes() -> None:
    """A8: 150 units a second, idle for five minutes, leave 45,000."""
    bucket = Bucket(150, 300, now=0)
    assert bucket.fill(0) == 150 * UNIT
    assert bucket.fill(299 * UNIT) == 45_000 * UNIT
    assert bucket.fill(9_999 * UNIT) == 45_000 * UNIT


def test_a_bucket_in_debt_says_when_it_lets_in_again() -> None:
    bucket = Bucket(10, 300, now=0)
    moment = bucket.take(400 * UNIT, 0)
    assert bucket.fill(moment - 2) <= 0 < bucket.fill(moment)
    assert moment // UNIT == 39


Requests = st.lists(
    st.tuples(st.integers(0, 3_000_000), st.integers(1, 400)), min_size=1, max_size=60
)


@given(st.integers(1, 1000), st.integers(1, 300), Requests)
def test_no_bucket_admits_more_than_it_earned(
    rate: int, seconds: int, requests: list[tuple[int, int]]
) -> None:
    """A8: never more than rate x time, what was saved, and the debt of one request."""
    bucket, now, admitted = Bucket(rate, seconds, 0), 0, 0
    for pause, units in requests:
        now += pause
        if bucket.fill(now) > 0:
            until = bucket.take(units * UNIT, now)
            admitted += units * UNIT
            assert admitted <= rate * now + rate * seconds * UNIT + units * UNIT
            assert (until > now) == (bucket.fill(now) <= 0)
    parts = [bucket.share(2, now) for _ in range(2)]
    assert sum(part.fill(now) for part in parts) <= bucket.fill(now)


# -- throttling ---------------------------------------------------------------------------------


def test_a_partitions_ceiling_on_demand() -> None:
    """A3, A17: ThrottlingException, and the reason names the key range and the table."""
    with lu.open_lab("embedded", physics=SCALED) as lab:
        arn = make_table(lab)["TableArn"]
        exhaust(lab)
        answer = refused(
            lambda: lab.client("dynamodb", ONCE).put_item(
                TableName="Table", Item={"id": {"S": "hot"}}
            )
        )
        assert answer["Error"]["Code"] == "ThrottlingException"
        assert answer["Error"]["Message"] == ON_DEMAND_EXCEEDED
        assert answer["throttlingReasons"] == [
            {"reason": "TableWriteKeyRangeThroughputExceeded", "resource": arn}
        ]
        lab.client("dynamodb", ONCE).get_item(TableName="Table", Key={"id": {"S": "hot"}})


def test_a_tables_provisioned_throughput() -> None:
    """A3, A17: the table's own bucket, writes and reads each."""
    with lu.open_lab("embedded") as lab:
        arn = make_table(lab, **provisioned(2, 5))["TableArn"]
        exhaust(lab, size=9_000)
        dynamodb = lab.client("dynamodb", ONCE)
        answer = refused(lambda: dynamodb.put_item(TableName="Table", Item={"id": {"S": "b"}}))
        assert answer["Error"]["Code"] == "ProvisionedThroughputExceededException"
        assert answer["Error"]["Message"] == PROVISIONED_EXCEEDED
        assert answer["ThrottlingReasons"] == [
            {"reason": "TableWriteProvisionedThroughputExceeded", "resource": arn}
        ]
        read = {"TableName": "Table", "ConsistentRead": True}
        dynamodb.scan(**read)
        for again in (
            lambda: dynamodb.scan(**read),
            lambda: dynamodb.get_item(Key={"id": {"S": "hot"}}, **read),
        ):
            answer = refused(again)
            assert answer["ThrottlingReasons"] == [
                {"reason": "TableReadProvisionedThroughputExceeded", "resource": arn}
            ]
        lab.clock.advance(seconds=3)
        dynamodb.get_item(Key={"id": {"S": "hot"}}, **read)


def test_a_throttled_write_changes_nothing_and_leaves_no_record() -> None:
    with lu.open_lab("embedded", physics=SCALED) as lab:
        stream = {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
        arn = make_table(lab, StreamSpecification=stream)["LatestStreamArn"]
        exhaust(lab)
        for _ in range(3):
            refused(
                lambda: lab.client("dynamodb", ONCE).update_item(
                    TableName="Table", Key={"id": {"S": "hot"}}
                )
            )
        streams = lab.client("dynamodbstreams")
        records = []
        for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
            iterator = streams.get_shard_iterator(
                StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            records += streams.get_records(ShardIterator=iterator)["Records"]
        assert len(records) == 1
        assert lab.partitions("Table")["items"].sum() == 1


def test_the_sdk_waits_in_virtual_time_until_it_is_let_in() -> None:
    with lu.open_lab("embedded", physics=SCALED) as lab:
        make_table(lab)
        exhaust(lab)  # 30 units; 10 a second, and 10 at first
        before = lab.clock.now()
        lab.client("dynamodb").put_item(TableName="Table", Item={"id": {"S": "hot"}})
        assert (lab.clock.now() - before).total_seconds() >= 2


def test_unused_capacity_is_kept_for_five_minutes() -> None:
    """A8: after ten idle minutes a partition of 10 a second takes 3,000 at once."""
    with lu.open_lab("embedded", physics=SCALED) as lab:
        make_table(lab)
        lab.clock.advance(minutes=10)
        for _ in range(9):
            exhaust(lab, size=380_000)  # 372 units each: eight leave something, nine do not
        answer = refused(
            lambda: lab.client("dynamodb", ONCE).delete_item(
                TableName="Table", Key={"id": {"S": "hot"}}
            )
        )
        assert answer["Error"]["Code"] == "ThrottlingException"


def split_keys(lab: Lab) -> tuple[str, str]:
    """Two keys of different partitions; the first one's is in debt."""
    exhaust(lab)
    full = admin(lab)
    dynamodb = lab._target.world.region(lab.region).dynamodb  # type: ignore[attr-defined]
    table = dynamodb.tables["Table"]

    def home(key: str) -> Any:
        return full.partitions.at(table.position_of({"id": {"S": key}}))

    return "hot", next(key for key in "abcdefgh" if home(key) is not home("hot"))


def test_a_batch_comes_back_in_part() -> None:
    """The parts that a partition did not let in are unprocessed; if it is all, it is an error."""
    with lu.open_lab("embedded", physics=SCALED) as lab:
        make_table(lab)
        hot, cool = split_keys(lab)
        dynamodb = lab.client("dynamodb", ONCE)
        requests = [{"PutRequest": {"Item": {"id": {"S": key}}}} for key in (hot, cool)]
        answer = dynamodb.batch_write_item(RequestItems={"Table": requests})
        assert answer["UnprocessedItems"] == {"Table": requests[:1]}
        assert "Item" in dynamodb.get_item(TableName="Table", Key={"id": {"S": cool}})
        answer = refused(lambda: dynamodb.batch_write_item(RequestItems={"Table": requests[:1]}))
        assert answer["Error"]["Code"] == "ThrottlingException"


def test_a_batch_of_reads_comes_back_in_part() -> None:
    with lu.open_lab("embedded", physics=lu.Physics.scaled(1000)) as lab:
        make_table(lab)
        hot, cool = split_keys(lab)
        dynamodb = lab.client("dynamodb", ONCE)
        keys = [{"id": {"S": key}} for key in (hot, cool)]
        dynamodb.get_item(TableName="Table", Key=keys[0], ConsistentRead=True)
        asked = {"Table": {"Keys": keys, "ConsistentRead": True}}
        answer = dynamodb.batch_get_item(RequestItems=asked)
        assert answer["UnprocessedKeys"] == {"Table": {"Keys": keys[:1], "ConsistentRead": True}}
        asked["Table"]["Keys"] = keys[:1]
        answer = refused(lambda: dynamodb.batch_get_item(RequestItems=asked))
        assert answer["throttlingReasons"][0]["reason"] == "TableReadKeyRangeThroughputExceeded"


@pytest.mark.parametrize(
    ("options", "code"),
    [({}, "ThrottlingError"), (provisioned(5, 5), "ProvisionedThroughputExceeded")],
)
def test_a_throttled_transaction_is_cancelled(options: Item, code: str) -> None:
    """API reference, TransactionCanceledException: one reason for each member, in order."""
    with lu.open_lab("embedded", physics=SCALED) as lab:
        make_table(lab, "Other")
        make_table(lab, **options)
        exhaust(lab)
        answer = refused(
            lambda: lab.client("dynamodb").transact_write_items(
                TransactItems=[
                    {"Put": {"TableName": "Other", "Item": {"id": {"S": "x"}}}},
                    {"Put": {"TableName": "Table", "Item": {"id": {"S": "hot"}}}},
                ]
            )
        )
        assert answer["Error"]["Code"] == "TransactionCanceledException"
        assert answer["Error"]["Message"].endswith(f"[None, {code}]")
        assert [each["Code"] for each in answer["CancellationReasons"]] == ["None", code]
        assert "Message" not in answer["CancellationReasons"][0]
        assert lab.partitions("Other")["items"].sum() == 0


def test_what_cannot_be_understood_is_refused_for_that_and_not_throttled() -> None:
    with lu.open_lab("embedded", physics=SCALED) as lab:
        make_table(lab)
        exhaust(lab)
        dynamodb = lab.client("dynamodb", ONCE)
        answer = refused(lambda: dynamodb.put_item(TableName="Table", Item={"x": {"S": "hot"}}))
        assert answer["Error"]["Code"] == "ValidationException"
        answer = refused(lambda: dynamodb.get_item(TableName="None", Key={"id": {"S": "hot"}}))
        assert answer["Error"]["Code"] == "ResourceNotFoundException"


# -- provisioned and warm throughput ------------------------------------------------------------


def test_raising_splits_all_partitions_and_lowering_none() -> None:
    """A9: 3,200 and 3,600 make four partitions, 6,000 eight of 750; 5,000 leaves eight. A10, A13:
    only a new height splits, and nothing is merged."""
    with lu.open_lab("embedded") as lab:
        make_table(lab, **provisioned(300, 3200))
        counts = []
        for writes in (3600, 6000, 5000, 6000):
            lab.client("dynamodb").update_table(TableName="Table", **provisioned(300, writes))
            counts.append(len(lab.partitions("Table")))
        assert counts == [4, 8, 8, 8]
        splits = lab.splits("Table")
        assert list(splits["cause"]) == ["throughput"] * 4
        assert list(splits["partition"]) == [0, 1, 2, 3]
        assert set(splits["reason"]) == {"throughput raised to 300 reads and 6,000 writes"}
        frame = lab.partitions("Table")
        assert (frame["high"] - frame["low"]).nunique() == 1


def test_provisioned_throughput_is_in_force_at_once() -> None:
    with lu.open_lab("embedded") as lab:
        make_table(lab, **provisioned(5, 5))
        exhaust(lab, size=9_000)
        dynamodb = lab.client("dynamodb", ONCE)
        put = {"TableName": "Table", "Item": {"id": {"S": "x"}}}
        refused(lambda: dynamodb.put_item(**put))
        dynamodb.update_table(TableName="Table", **provisioned(5, 1000))
        dynamodb.put_item(**put)
        found = dynamodb.describe_table(TableName="Table")["Table"]
        assert found["ProvisionedThroughput"]["WriteCapacityUnits"] == 1000


def test_warm_throughput_tracks_the_highest_ever_provisioned() -> None:
    """A6: it never goes down; observed: 12,000/4,000 after a switch to on demand, and back."""
    with lu.open_lab("embedded") as lab:
        make_table(lab, **provisioned(1, 1))
        seen = [warm(lab)]
        for units in (3, 2):
            lab.client("dynamodb").update_table(TableName="Table", **provisioned(units, units))
            seen.append(warm(lab))
        lab.client("dynamodb").update_table(TableName="Table", BillingMode="PAY_PER_REQUEST")
        seen.append(warm(lab))
        assert len(lab.partitions("Table")) == 4
        lab.client("dynamodb").update_table(
            TableName="Table", BillingMode="PROVISIONED", **provisioned(1, 1)
        )
        seen.append(warm(lab))
        assert seen == [(1, 1), (3, 3), (3, 3), (12000, 4000), (12000, 4000)]


def test_a_table_that_is_warmed_has_its_partitions_at_once(lab: Lab) -> None:
    """A6; fact 30 recorded on AWS: CreateTable of an on-demand table does not tell it."""
    made = make_table(lab, WarmThroughput={"WriteUnitsPerSecond": 50_000})
    assert "WarmThroughput" not in made
    assert len(lab.partitions("Table")) == 50
    assert warm(lab) == (12000, 50_000)
    assert lab.splits("Table").empty
    answer = lab.client("dynamodb").update_table(
        TableName="Table", WarmThroughput={"ReadUnitsPerSecond": 200_000}
    )["TableDescription"]
    assert answer["TableStatus"] == "ACTIVE"
    assert answer["WarmThroughput"]["Status"] == "UPDATING"
    assert len(lab.partitions("Table")) == 100
    assert warm(lab) == (300_000, 100_000)


def test_a_scale_model_has_scaled_warmth() -> None:
    with lu.open_lab("embedded", physics=SCALED) as lab:
        make_table(lab)
        assert warm(lab) == (120, 40)
        assert len(lab.partitions("Table")) == 4
        lab.split_partition("Table", 0)
        assert warm(lab) == (150, 50)


LOWER = "is lower than current WarmThroughput, decreasing WarmThroughput is not supported"
BAD_UPDATES: dict[str, tuple[Item, Item, str]] = {
    "warmth lowered": (
        {},
        {"WarmThroughput": {"ReadUnitsPerSecond": 6000}},
        f"Requested ReadUnitsPerSecond for WarmThroughput for table {LOWER}",
    ),
    "warmth lowered of writes": (
        provisioned(10, 10),
        {"WarmThroughput": {"ReadUnitsPerSecond": 20, "WriteUnitsPerSecond": 9}},
        f"Requested WriteUnitsPerSecond for WarmThroughput for table {LOWER}",
    ),
    "no throughput for the mode": (
        {},
        {"BillingMode": "PROVISIONED"},
        "ProvisionedThroughput must be specified when BillingMode is PROVISIONED",
    ),
    "throughput on demand": (
        {},
        provisioned(5, 5),
        "ProvisionedThroughput cannot be specified when BillingMode is PAY_PER_REQUEST",
    ),
    "throughput and on demand": (
        provisioned(5, 5),
        {"BillingMode": "PAY_PER_REQUEST"} | provisioned(6, 6),
        (
            "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when "
            "BillingMode is PAY_PER_REQUEST"
        ),
    ),
    "no change": (
        provisioned(5, 7),
        provisioned(5, 7),
        (
            "The provisioned throughput for the table will not change. The requested value equals "
            "the current value. Current ReadCapacityUnits provisioned for the table: 5. Requested "
            "ReadCapacityUnits: 5. Current WriteCapacityUnits provisioned for the table: 7. "
            "Requested WriteCapacityUnits: 7."
        ),
    ),
    "a mode of no kind": (
        {},
        {"BillingMode": "FREE"},
        "Member must satisfy enum value set: [PROVISIONED, PAY_PER_REQUEST]",
    ),
}


@pytest.mark.parametrize("name", BAD_UPDATES)
def test_throughput_that_cannot_be_is_refused(lab: Lab, name: str) -> None:
    """In the words that AWS was seen to use; the table stays as it was."""
    options, update, words = BAD_UPDATES[name]
    make_table(lab, **options)
    before = lab.client("dynamodb").describe_table(TableName="Table")["Table"]
    answer = refused(lambda: lab.client("dynamodb").update_table(TableName="Table", **update))
    assert answer["Error"]["Code"] == "ValidationException"
    assert words in answer["Error"]["Message"]
    assert lab.client("dynamodb").describe_table(TableName="Table")["Table"] == before


BAD_TABLES: dict[str, tuple[Item, str]] = {
    "warmth below the mode's": (
        {"BillingMode": "PAY_PER_REQUEST", "WarmThroughput": {"ReadUnitsPerSecond": 1}},
        (
            "Requested ReadUnitsPerSecond for WarmThroughput for table is lower than initial "
            "throughput for OnDemand."
        ),
    ),
    "warmth below the throughput": (
        provisioned(10, 10) | {"WarmThroughput": {"WriteUnitsPerSecond": 5}},
        (
            "Requested WriteUnitsPerSecond for WarmThroughput for table is lower than "
            "WriteCapacityUnits of ProvisionedThroughput"
        ),
    ),
    "no throughput": (
        {"BillingMode": "PROVISIONED"},
        (
            "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is "
            "PROVISIONED"
        ),
    ),
    "throughput on demand": (
        {"BillingMode": "PAY_PER_REQUEST"} | provisioned(5, 5),
        (
            "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is "
            "PAY_PER_REQUEST"
        ),
    ),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_that_cannot_be_is_refused(lab: Lab, name: str) -> None:
    options, words = BAD_TABLES[name]
    answer = refused(lambda: make_table(lab, **options))
    assert answer["Error"]["Code"] == "ValidationException"
    assert words in answer["Error"]["Message"]
    assert lab.client("dynamodb").list_tables()["TableNames"] == []


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (
            {"ReadCapacityUnits": 0, "WriteCapacityUnits": -1},
            "ValidationException",
            (
                "2 validation errors detected: "
                "Value '-1' at 'provisionedThroughput.writeCapacityUnits' failed to satisfy "
                "constraint: Member must have value greater than or equal to 1; "
                "Value '0' at 'provisionedThroughput.readCapacityUnits' failed to satisfy "
                "constraint: Member must have value greater than or equal to 1"
            ),
        ),
        (
            {"ReadCapacityUnits": 5},
            "ValidationException",
            (
                "1 validation error detected: Value null at "
                "'provisionedThroughput.writeCapacityUnits' failed to satisfy constraint: "
                "Member must not be null"
            ),
        ),
        (
            {"ReadCapacityUnits": "5", "WriteCapacityUnits": 5},
            "SerializationException",
            "str cannot be converted to a number",
        ),
    ],
)
def test_units_on_the_wire(lab: Lab, given: Item, code: str, words: str) -> None:
    """boto3 stops these itself, so they are sent as another SDK might; words as observed on AWS."""
    make_table(lab, **provisioned(5, 5))
    dynamodb = lab._target.world.region(lab.region).dynamodb  # type: ignore[attr-defined]
    body = {"TableName": "Table", "ProvisionedThroughput": given}
    with pytest.raises(ApiError) as problem:
        dynamodb.handle(
            "UpdateTable",
            {"x-amz-target": "DynamoDB_20120810.UpdateTable"},
            json.dumps(body).encode(),
            None,
        )
    assert (problem.value.code, problem.value.message) == (code, words)


# -- clients ------------------------------------------------------------------------------------


def test_a_client_with_a_config_is_another(lab: Lab) -> None:
    first = lab.client("dynamodb")
    assert lab.client("dynamodb", ONCE) is not first
    assert lab.client("dynamodb") is first
    assert lab.client("dynamodb", ONCE).meta.config.retries["total_max_attempts"] == 1
    with pytest.raises(lu.LabError, match=r"is no Config: give botocore\.config\.Config"):
        lab.client("dynamodb", {"retries": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"BillingMode": "PROVISIONED", **provisioned(1, 10**10)},
        {"WarmThroughput": {"ReadUnitsPerSecond": 10**12}},
    ],
)
def test_a_slip_of_some_zeros_does_not_fill_the_memory(lab: Lab, options: Item) -> None:
    client = lab.client("dynamodb")
    with pytest.raises(ClientError, match="more than 100,000 partitions is not modelled"):
        make_table(lab, **options)
    assert client.list_tables()["TableNames"] == []
    make_table(lab)
    before = client.describe_table(TableName="Table")
    with pytest.raises(ClientError, match="more than 100,000 partitions is not modelled"):
        client.update_table(TableName="Table", **options)
    assert client.describe_table(TableName="Table")["Table"] == before["Table"]
    assert len(lab.partitions("Table")) == 4
