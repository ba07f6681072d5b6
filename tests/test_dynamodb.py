"""Writes of every kind and what each leaves in the stream; conflicts, tokens, refusals.

"Recorded on AWS, fact N" means: AWS answered so to the requests of a public test suite.
"""

from __future__ import annotations

import decimal
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

import lab_utils as lu
from lab_utils.lab import Lab

Item = dict[str, Any]
VIEW = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
ALLOW_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def make_table(
    lab: Lab, name: str = "Table", view: str | None = "NEW_AND_OLD_IMAGES", **options: Any
) -> str:
    """A table with the string key `id` and a stream; the stream's ARN."""
    if "ProvisionedThroughput" not in options:
        options["BillingMode"] = "PAY_PER_REQUEST"
    if view:
        options["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": view}
    made = lab.client("dynamodb").create_table(
        TableName=name,
        **{
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        }
        | options,
    )
    return str(made["TableDescription"].get("LatestStreamArn", ""))


def read_all(lab: Lab, arn: str) -> list[Item]:
    """All records of a stream, by sequence number."""
    streams, records = lab.client("dynamodbstreams"), []
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        records += streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    return sorted(records, key=lambda each: int(each["dynamodb"]["SequenceNumber"]))


def told(records: list[Item]) -> list[tuple[str, Any, Any]]:
    return [
        (each["eventName"], each["dynamodb"].get("OldImage"), each["dynamodb"].get("NewImage"))
        for each in records
    ]


def item(key: str, value: str | None = None) -> Item:
    return {"id": {"S": key}} | ({} if value is None else {"v": {"S": value}})


# -- every kind of write ------------------------------------------------------------------------


def put(lab: Lab, *keys_and_values: str) -> None:
    lab.client("dynamodb").put_item(TableName="Table", Item=item(*keys_and_values))


def sql(statement: str) -> Item:
    return {"Statement": statement}


A, B = item("a", "1"), item("b", "1")
PUT, UPDATE, DELETE = "INSERT", "MODIFY", "REMOVE"


def update(key: str, value: str) -> Item:
    return {
        "TableName": "Table",
        "Key": item(key),
        "UpdateExpression": "SET v = :v",
        "ExpressionAttributeValues": {":v": {"S": value}},
    }


def transact(*actions: Item) -> tuple[str, Item]:
    return "transact_write_items", {"TransactItems": list(actions)}


KINDS: dict[str, tuple[tuple[str, Item], list[tuple[str, Any, Any]]]] = {
    "put": (("put_item", {"TableName": "Table", "Item": B}), [(PUT, None, B)]),
    "put over the same": (("put_item", {"TableName": "Table", "Item": A}), []),
    "put over another": (
        ("put_item", {"TableName": "Table", "Item": item("a")}),
        [(UPDATE, A, item("a"))],
    ),
    "update": (("update_item", update("a", "2")), [(UPDATE, A, item("a", "2"))]),
    "update to the same": (("update_item", update("a", "1")), []),
    "update of an absent item": (("update_item", update("b", "1")), [(PUT, None, B)]),
    "update without expression": (
        ("update_item", {"TableName": "Table", "Key": item("b")}),
        [(PUT, None, item("b"))],
    ),
    "update that only takes away, of an absent item": (
        (
            "update_item",
            {
                "TableName": "Table",
                "Key": item("b"),
                "UpdateExpression": "remove v",
                "ConditionExpression": "attribute_not_exists(v)",
                "ReturnValues": "ALL_NEW",
            },
        ),
        [],
    ),
    "update that takes away and gives, of an absent item": (
        ("update_item", update("b", "1") | {"UpdateExpression": "REMOVE w SET v = :v"}),
        [(PUT, None, B)],
    ),
    "update that takes away the last attribute": (
        ("update_item", {"TableName": "Table", "Key": item("a"), "UpdateExpression": "REMOVE v"}),
        [(UPDATE, A, item("a"))],
    ),
    "older kind of update that only takes away, of an absent item": (
        (
            "update_item",
            {
                "TableName": "Table",
                "Key": item("b"),
                "AttributeUpdates": {"v": {"Action": "DELETE"}},
            },
        ),
        [],
    ),
    "delete": (("delete_item", {"TableName": "Table", "Key": item("a")}), [(DELETE, A, None)]),
    "delete of an absent item": (("delete_item", {"TableName": "Table", "Key": item("b")}), []),
    "batch": (
        (
            "batch_write_item",
            {
                "RequestItems": {
                    "Table": [
                        {"PutRequest": {"Item": B}},
                        {"DeleteRequest": {"Key": item("a")}},
                        {"DeleteRequest": {"Key": item("c")}},
                    ]
                }
            },
        ),
        [(PUT, None, B), (DELETE, A, None)],
    ),
    "batch put over the same": (
        ("batch_write_item", {"RequestItems": {"Table": [{"PutRequest": {"Item": A}}]}}),
        [],
    ),
    "transact put": (transact({"Put": {"TableName": "Table", "Item": B}}), [(PUT, None, B)]),
    "transact put over the same": (transact({"Put": {"TableName": "Table", "Item": A}}), []),
    "transact update": (transact({"Update": update("a", "2")}), [(UPDATE, A, item("a", "2"))]),
    "transact update to the same": (transact({"Update": update("a", "1")}), []),
    "transact delete": (
        transact({"Delete": {"TableName": "Table", "Key": item("a")}}),
        [(DELETE, A, None)],
    ),
    "transact delete of an absent item": (
        transact({"Delete": {"TableName": "Table", "Key": item("b")}}),
        [],
    ),
    "transact check": (
        transact(
            {
                "ConditionCheck": {
                    "TableName": "Table",
                    "Key": item("a"),
                    "ConditionExpression": "attribute_exists(id)",
                }
            }
        ),
        [],
    ),
    "transact of several": (
        transact(
            {"Put": {"TableName": "Table", "Item": B}},
            {"Update": update("c", "9")},
            {"Delete": {"TableName": "Table", "Key": item("a")}},
        ),
        [(PUT, None, B), (PUT, None, item("c", "9")), (DELETE, A, None)],
    ),
    "PartiQL insert": (
        ("execute_statement", sql("INSERT INTO \"Table\" VALUE {'id':'b','v':'1'}")),
        [(PUT, None, B)],
    ),
    "PartiQL update": (
        ("execute_statement", sql("UPDATE \"Table\" SET v='2' WHERE id='a'")),
        [(UPDATE, A, item("a", "2"))],
    ),
    "PartiQL update to the same": (
        ("execute_statement", sql("UPDATE \"Table\" SET v='1' WHERE id='a'")),
        [],
    ),
    "PartiQL delete": (
        ("execute_statement", sql("DELETE FROM \"Table\" WHERE id='a'")),
        [(DELETE, A, None)],
    ),
    "PartiQL delete of an absent item": (
        ("execute_statement", sql("DELETE FROM \"Table\" WHERE id='b'")),
        [],
    ),
    "PartiQL select": (("execute_statement", sql("SELECT * FROM \"Table\" WHERE id='a'")), []),
    "ExecuteTransaction": (
        (
            "execute_transaction",
            {
                "TransactStatements": [
                    sql("INSERT INTO \"Table\" VALUE {'id':'b','v':'1'}"),
                    sql("UPDATE \"Table\" SET v='2' WHERE id='a'"),
                ]
            },
        ),
        [(PUT, None, B), (UPDATE, A, item("a", "2"))],
    ),
    "BatchExecuteStatement, one of three fails": (
        (
            "batch_execute_statement",
            {
                "Statements": [
                    sql("INSERT INTO \"Table\" VALUE {'id':'a','v':'7'}"),
                    sql("INSERT INTO \"Table\" VALUE {'id':'b','v':'1'}"),
                    sql("DELETE FROM \"Table\" WHERE id='a'"),
                ]
            },
        ),
        [(PUT, None, B), (DELETE, A, None)],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_each_kind_of_write_leaves_in_the_stream(lab: Lab, kind: str) -> None:
    """Recorded on AWS, facts 15 to 18: nothing for a write that changes nothing, a MODIFY for a put
    over another item, an INSERT for an update of an absent one, one record for each item."""
    arn = make_table(lab)
    lab.client("dynamodb").put_item(TableName="Table", Item=A)
    (operation, params), expected = KINDS[kind]
    getattr(lab.client("dynamodb"), operation)(**params)
    assert told(read_all(lab, arn)) == [(PUT, None, A), *expected]


REFUSED: dict[str, tuple[str, Item]] = {
    "a failed condition": (
        "put_item",
        {
            "TableName": "Table",
            "Item": item("a", "2"),
            "ConditionExpression": "attribute_not_exists(id)",
        },
    ),
    "a cancelled transaction": transact(
        {"Put": {"TableName": "Table", "Item": B}},
        {
            "Put": {
                "TableName": "Table",
                "Item": item("a"),
                "ConditionExpression": "attribute_not_exists(id)",
            }
        },
    ),
    "a rolled back ExecuteTransaction": (
        "execute_transaction",
        {
            "TransactStatements": [
                sql("INSERT INTO \"Table\" VALUE {'id':'b','v':'1'}"),
                sql("UPDATE \"Table\" SET v='2' WHERE id='a'"),
                sql("UPDATE \"Table\" SET v='2' WHERE id='nobody'"),
            ]
        },
    ),
    "a batch with a bad member": (
        "batch_write_item",
        {
            "RequestItems": {
                "Table": [
                    {"PutRequest": {"Item": B}},
                    {"PutRequest": {"Item": {"wrong": {"S": "a"}}}},
                ]
            }
        },
    ),
    "an insert of what is there": (
        "execute_statement",
        sql("INSERT INTO \"Table\" VALUE {'id':'a','v':'9'}"),
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_write_changes_nothing(lab: Lab, kind: str) -> None:
    arn = make_table(lab)
    dynamodb = lab.client("dynamodb")
    dynamodb.put_item(TableName="Table", Item=A)
    operation, params = REFUSED[kind]
    with pytest.raises(ClientError):
        getattr(dynamodb, operation)(**params)
    assert dynamodb.scan(TableName="Table")["Items"] == [A]
    assert told(read_all(lab, arn)) == [(PUT, None, A)]
    frame = lab.partitions("Table")
    assert frame["items"].sum() == 1
    assert frame["bytes"].sum() == len("id" + "a" + "v" + "1")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"SS": ["x", "y"]}, {"SS": ["y", "x"]}),
        ({"NS": ["1", "2"]}, {"NS": ["2", "1.0"]}),
        ({"N": "1"}, {"N": "1.00"}),
        ({"N": "100"}, {"N": "1e2"}),
        ({"L": [{"M": {"s": {"BS": [b"p", b"q"]}}}]}, {"L": [{"M": {"s": {"BS": [b"q", b"p"]}}}]}),
    ],
)
def test_equal_values_in_another_form_change_nothing(lab: Lab, before: Item, after: Item) -> None:
    arn = make_table(lab)
    for value in (before, after):
        lab.client("dynamodb").put_item(TableName="Table", Item=item("a") | {"v": value})
    assert [each["eventName"] for each in read_all(lab, arn)] == ["INSERT"]


@pytest.mark.parametrize("same", [{"N": "1.000"}, {"N": "1e0"}])
def test_a_statement_with_the_same_number_changes_nothing(lab: Lab, same: Item) -> None:
    arn = make_table(lab)
    dynamodb = lab.client("dynamodb")
    dynamodb.put_item(
        TableName="Table", Item=item("a") | {"n": {"N": "1"}, "s": {"NS": ["1", "2"]}}
    )
    statement = "UPDATE \"Table\" SET n=? SET s=? WHERE id='a'"
    numbers = {"NS": ["2.0", same["N"]]}
    dynamodb.execute_statement(Statement=statement, Parameters=[same, numbers])
    assert [each["eventName"] for each in read_all(lab, arn)] == ["INSERT"]
    dynamodb.execute_statement(Statement=statement, Parameters=[{"N": "1.1"}, numbers])
    assert [each["eventName"] for each in read_all(lab, arn)] == ["INSERT", "MODIFY"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"L": [{"S": "x"}, {"S": "y"}]}, {"L": [{"S": "y"}, {"S": "x"}]}),
        ({"S": "1"}, {"N": "1"}),
        ({"SS": ["x"]}, {"SS": ["x", "y"]}),
        ({"M": {}}, {"L": []}),
    ],
)
def test_different_values_are_told_apart(lab: Lab, before: Item, after: Item) -> None:
    arn = make_table(lab)
    for value in (before, after):
        lab.client("dynamodb").put_item(TableName="Table", Item=item("a") | {"v": value})
    assert [each["eventName"] for each in read_all(lab, arn)] == ["INSERT", "MODIFY"]


def test_images_are_not_changed_by_later_writes(lab: Lab) -> None:
    arn = make_table(lab)
    dynamodb = lab.client("dynamodb")
    dynamodb.put_item(
        TableName="Table",
        Item=item("a")
        | {"l": {"L": [{"N": "0"}]}, "m": {"M": {"n": {"N": "0"}}}, "s": {"NS": ["0"]}},
    )
    first = json.dumps(told(read_all(lab, arn)), sort_keys=True)
    for number in range(1, 4):
        dynamodb.update_item(
            TableName="Table",
            Key=item("a"),
            UpdateExpression="SET l[0] = :n, m.n = :n, l[1] = :n ADD s :s",
            ExpressionAttributeValues={":n": {"N": str(number)}, ":s": {"NS": [str(number)]}},
        )
        dynamodb.execute_statement(
            Statement=f"UPDATE \"Table\" SET m.p = {number} SET l[0] = 77 WHERE id = 'a'"
        )
    records = read_all(lab, arn)
    assert json.dumps(told(records[:1]), sort_keys=True) == first
    for earlier, later in pairwise(records):
        assert later["dynamodb"]["OldImage"] == earlier["dynamodb"]["NewImage"]
    assert len(records) == 7


def test_a_transaction_over_two_tables(lab: Lab) -> None:
    """Recorded on AWS, fact 18: a record for each item, none for the table without a stream."""
    arn = make_table(lab)
    make_table(lab, "Silent", view=None)
    lab.client("dynamodb").transact_write_items(
        TransactItems=[
            {"Put": {"TableName": "Silent", "Item": A}},
            {"Put": {"TableName": "Table", "Item": A}},
            {"Put": {"TableName": "Table", "Item": B}},
        ]
    )
    records = read_all(lab, arn)
    assert told(records) == [(PUT, None, A), (PUT, None, B)]
    assert len({each["dynamodb"]["SequenceNumber"] for each in records}) == 2
    assert lab.client("dynamodb").scan(TableName="Silent")["Items"] == [A]


def test_the_name_of_a_table_may_be_its_arn(lab: Lab) -> None:
    """Recorded on AWS, fact 23."""
    arn = make_table(lab)
    dynamodb = lab.client("dynamodb")
    table_arn = dynamodb.describe_table(TableName="Table")["Table"]["TableArn"]
    dynamodb.transact_write_items(TransactItems=[{"Put": {"TableName": table_arn, "Item": A}}])
    dynamodb.put_item(TableName=table_arn, Item=B)
    assert dynamodb.describe_table(TableName=table_arn)["Table"]["TableName"] == "Table"
    assert told(read_all(lab, arn)) == [(PUT, None, A), (PUT, None, B)]


WRITES = st.tuples(
    st.sampled_from(["put", "update", "delete", "batch", "transact", "sql"]),
    st.sampled_from("abc"),
    st.sampled_from("123"),
)


@settings(max_examples=12)
@given(st.lists(WRITES, max_size=15))
def test_the_stream_replayed_gives_the_table(writes: list[tuple[str, str, str]]) -> None:
    """Applied in order, the records of any history give exactly what the table holds."""
    with lu.open_lab("embedded") as lab:
        arn, dynamodb = make_table(lab), lab.client("dynamodb")
        for kind, key, value in writes:
            carry_out(dynamodb, kind, key, value)
        replayed: dict[str, Item] = {}
        for record in read_all(lab, arn):
            change, key = record["dynamodb"], record["dynamodb"]["Keys"]["id"]["S"]
            assert replayed.get(key) == change.get("OldImage")
            replayed[key] = change.get("NewImage")
        stored = {each["id"]["S"]: each for each in dynamodb.scan(TableName="Table")["Items"]}
        assert {key: image for key, image in replayed.items() if image is not None} == stored
        assert lab.partitions("Table")["items"].sum() == len(stored)


def carry_out(dynamodb: Any, kind: str, key: str, value: str) -> None:
    actions: dict[str, Callable[[], Any]] = {
        "put": lambda: dynamodb.put_item(TableName="Table", Item=item(key, value)),
        "update": lambda: dynamodb.update_item(**update(key, value)),
        "delete": lambda: dynamodb.delete_item(TableName="Table", Key=item(key)),
        "batch": lambda: dynamodb.batch_write_item(
            RequestItems={"Table": [{"PutRequest": {"Item": item(key, value)}}]}
        ),
        "transact": lambda: dynamodb.transact_write_items(
            TransactItems=[
                {"Update": update(key, value)},
                {"Delete": {"TableName": "Table", "Key": item(value)}},
            ]
        ),
        "sql": lambda: dynamodb.batch_execute_statement(
            Statements=[
                sql(f"INSERT INTO \"Table\" VALUE {{'id':'{key}','v':'{value}'}}"),
                sql(f"DELETE FROM \"Table\" WHERE id = '{value}'"),
            ]
        ),
    }
    actions[kind]()


# -- tables -------------------------------------------------------------------------------------


def test_a_new_table_describes_itself_as_on_aws(lab: Lab) -> None:
    """Recorded on AWS, facts 1, 2, 3 and 30."""
    dynamodb = lab.client("dynamodb")
    made = dynamodb.create_table(
        TableName="Table",
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification=VIEW,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )["TableDescription"]
    assert made["TableStatus"] == "CREATING"
    assert made["StreamSpecification"] == VIEW
    assert made["LatestStreamArn"] == f"{made['TableArn']}/stream/{made['LatestStreamLabel']}"
    assert made["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert made["ProvisionedThroughput"] == {
        "NumberOfDecreasesToday": 0,
        "ReadCapacityUnits": 0,
        "WriteCapacityUnits": 0,
    }
    assert "WarmThroughput" not in made
    found = dynamodb.describe_table(TableName="Table")["Table"]
    assert found["WarmThroughput"] == {
        "ReadUnitsPerSecond": 12000,
        "WriteUnitsPerSecond": 4000,
        "Status": "ACTIVE",
    }
    assert found["TableStatus"] == "ACTIVE"

    make_table(
        lab,
        "Plain",
        view=None,
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
    )
    plain = dynamodb.describe_table(TableName="Plain")["Table"]
    assert not {
        "StreamSpecification",
        "LatestStreamArn",
        "LatestStreamLabel",
        "BillingModeSummary",
    } & set(plain)
    switched = dynamodb.update_table(TableName="Plain", StreamSpecification=VIEW)
    assert switched["TableDescription"]["TableStatus"] == "UPDATING"
    assert switched["TableDescription"]["LatestStreamArn"].startswith(plain["TableArn"])


def test_the_size_of_a_table_is_that_of_its_items(lab: Lab) -> None:
    make_table(lab)
    put(lab, "a", "12345")
    put(lab, "b")
    found = lab.client("dynamodb").describe_table(TableName="Table")["Table"]
    assert (found["ItemCount"], found["TableSizeBytes"]) == (2, 3 + 6 + 3)


ABSENT = {"TableName": "absent-table"}
CANCELLED = "Transaction cancelled, please refer cancellation reasons for specific reasons"
ERRORS: dict[str, tuple[str, Item, str, str]] = {
    "fact 29, delete": (
        "delete_table",
        ABSENT,
        "ResourceNotFoundException",
        "Requested resource not found: Table: absent-table not found",
    ),
    "fact 29, describe": (
        "describe_table",
        ABSENT,
        "ResourceNotFoundException",
        "Requested resource not found: Table: absent-table not found",
    ),
    "fact 29, update": (
        "update_table",
        ABSENT | {"StreamSpecification": VIEW},
        "ResourceNotFoundException",
        "Requested resource not found: Table: absent-table not found",
    ),
    "fact 29, duplicate": (
        "create_table",
        {
            "TableName": "Table",
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        },
        "ResourceInUseException",
        "Table already exists: Table",
    ),
    "fact 26": (
        "transact_write_items",
        {"TransactItems": [{"Put": ABSENT | {"Item": A}}]},
        "ResourceNotFoundException",
        "Requested resource not found",
    ),
    "fact 25": (
        *REFUSED["a cancelled transaction"],
        "TransactionCanceledException",
        f"{CANCELLED} [None, ConditionalCheckFailed]",
    ),
    "fact 27": (
        *REFUSED["a failed condition"],
        "ConditionalCheckFailedException",
        "The conditional request failed",
    ),
    "fact 28": (
        "batch_write_item",
        {"RequestItems": {"Table": [{"PutRequest": {"Item": {"wrong": {"S": "a"}}}}]}},
        "ValidationException",
        "The provided key element does not match the schema",
    ),
    "stream switched on twice": (
        "update_table",
        {"TableName": "Table", "StreamSpecification": VIEW},
        "ValidationException",
        "Table already has an enabled stream: TableName: Table",
    ),
    "nothing to switch off": (
        "update_table",
        {"TableName": "Silent", "StreamSpecification": {"StreamEnabled": False}},
        "ValidationException",
        "Table has no stream to disable: TableName: Silent",
    ),
    "nothing to update": (
        "update_table",
        {"TableName": "Table"},
        "ValidationException",
        "At least one of ProvisionedThroughput, BillingMode",
    ),
    "a view of no kind": (
        "update_table",
        {
            "TableName": "Silent",
            "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "EVERYTHING"},
        },
        "ValidationException",
        "failed to satisfy constraint: Member must satisfy enum value set",
    ),
    "no view": (
        "update_table",
        {"TableName": "Silent", "StreamSpecification": {"StreamEnabled": True}},
        "ValidationException",
        "StreamViewType must be specified",
    ),
    "not modelled": (
        "update_table",
        {"TableName": "Table", "OnDemandThroughput": {"MaxReadRequestUnits": 1}},
        "NotImplemented",
        "is not modelled in the lab's DynamoDB",
    ),
    "two writes in one member": (
        "transact_write_items",
        {
            "TransactItems": [
                {
                    "Put": {"TableName": "Table", "Item": A},
                    "Delete": {"TableName": "Table", "Key": item("b")},
                }
            ]
        },
        "ValidationException",
        "TransactItems can only contain one of Check, Put, Update",
    ),
    "not offered": (
        "describe_continuous_backups",
        {"TableName": "Table"},
        "NotImplemented",
        "The lab does not offer DescribeContinuousBackups of dynamodb.",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_refusals_in_the_words_of_aws(lab: Lab, name: str) -> None:
    """Those named after a fact were recorded on AWS."""
    make_table(lab)
    make_table(lab, "Silent", view=None)
    put(lab, "a", "1")
    operation, params, code, words = ERRORS[name]
    with pytest.raises(ClientError) as refused:
        getattr(lab.client("dynamodb"), operation)(**params)
    error = refused.value.response["Error"]
    assert error["Code"] == code
    assert error["Message"] == words if "fact" in name else words in error["Message"]
    assert refused.value.response["ResponseMetadata"]["RequestId"]


def test_the_old_item_comes_with_a_failed_condition(lab: Lab) -> None:
    """Recorded on AWS, fact 27: in the top-level `Item`."""
    make_table(lab)
    put(lab, "a", "1")
    with pytest.raises(ClientError) as refused:
        lab.client("dynamodb").put_item(
            TableName="Table",
            Item=item("a"),
            ConditionExpression="attribute_not_exists(id)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert refused.value.response["Item"] == A


@pytest.mark.parametrize(
    "member",
    [
        {"OnDemandThroughput": {"MaxWriteRequestUnits": 1}},
        {"ResourcePolicy": "{}"},
        {"GlobalTableSettingsReplicationMode": "ENABLED"},
    ],
)
def test_what_would_be_ignored_of_a_table_is_refused(lab: Lab, member: Item) -> None:
    with pytest.raises(ClientError, match=f"CreateTable with {min(member)} is not modelled"):
        make_table(lab, **member)
    if "ResourcePolicy" not in member:  # UpdateTable has none
        make_table(lab)
        with pytest.raises(ClientError, match=f"UpdateTable with {min(member)} is not modelled"):
            lab.client("dynamodb").update_table(TableName="Table", **member)


def test_a_refused_switch_of_the_stream_changes_nothing_else(lab: Lab) -> None:
    make_table(lab)
    index = {
        "IndexName": "by-v",
        "KeySchema": [{"AttributeName": "v", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"},
    }
    with pytest.raises(ClientError, match="already has an enabled stream"):
        lab.client("dynamodb").update_table(
            TableName="Table",
            StreamSpecification=VIEW,
            AttributeDefinitions=[{"AttributeName": "v", "AttributeType": "S"}],
            GlobalSecondaryIndexUpdates=[{"Create": index}],
        )
    found = lab.client("dynamodb").describe_table(TableName="Table")["Table"]
    assert "GlobalSecondaryIndexes" not in found


def test_an_answer_has_no_stale_checksum_and_an_id_of_its_own(lab: Lab) -> None:
    make_table(lab)
    answers = [lab.client("dynamodb").describe_table(TableName="Table") for _ in range(2)]
    ids = {each["ResponseMetadata"]["RequestId"] for each in answers}
    assert len(ids) == 2
    assert "x-amz-crc32" not in answers[0]["ResponseMetadata"]["HTTPHeaders"]


# -- transactions -------------------------------------------------------------------------------

RACER = """
import json, boto3, botocore.exceptions

client = boto3.client("dynamodb")

def handler(event, context):
    out = []
    for operation, params in event:
        try:
            getattr(client, operation)(**params)
            out.append("done")
        except botocore.exceptions.ClientError as refused:
            out.append(refused.response["Error"]["Message"] if "Cancel" in
                       refused.response["Error"]["Code"] else refused.response["Error"]["Code"])
    return out
"""


def race(lab: Lab, *scripts: list[tuple[str, Item]]) -> list[list[str]]:
    """Run one guest for each script, all begun at the same instant; what each was answered."""
    name = f"Racer{lab.clock.now():%H%M%S%f}"
    role = lab.role(name, ALLOW_ALL)
    lab.deploy_function(name, RACER, role=role, timeout=60)
    world = lab._target.world  # type: ignore[attr-defined]
    functions = world.region("us-east-1").functions
    from lab_utils.emulator.lambda_functions import Trigger

    events = [
        functions.invoke(functions.find(name), json.dumps(script), Trigger()) for script in scripts
    ]
    lab.wait_until(lambda: all(each.processed for each in events), timeout=60)
    return [json.loads(each.value.payload) for each in events]


def instant_start(**given: Any) -> lu.Physics:
    """Functions that begin without delay, so that calls overlap as the test says."""
    return lu.Physics(
        **{
            "cold_start": (0, 0),
            "invoke_overhead": (0, 0),
            "transaction_latency": (0.02, 0.02),
            "write_latency": (0.004, 0.004),
            "read_latency": (0.003, 0.003),
        }
        | given
    )


def write_a(value: str, *more: Item, token: str | None = None) -> tuple[str, Item]:
    operation, params = transact({"Update": update("a", value)}, *more)
    return operation, params | ({"ClientRequestToken": token} if token else {})


CONFLICT = f"{CANCELLED} [TransactionConflict]"


def test_overlapping_transactions_conflict() -> None:
    with lu.open_lab("embedded", physics=instant_start()) as lab:
        arn = make_table(lab)
        (first,), (second,) = race(lab, [write_a("1")], [write_a("2")])
        assert {first, second} == {"done", CONFLICT}
        assert len(read_all(lab, arn)) == 1


def test_the_reason_names_the_member_that_conflicts() -> None:
    with lu.open_lab("embedded", physics=instant_start()) as lab:
        make_table(lab)
        other = transact({"Update": update("b", "2")}, {"Update": update("a", "2")})
        (first,), (second,) = race(lab, [write_a("1")], [other])
        assert first == "done"
        assert second.endswith("[None, TransactionConflict]")
        stored = lab.client("dynamodb").scan(TableName="Table")["Items"]
        assert stored == [item("a", "1")], "a cancelled transaction writes nothing at all"


def test_transactions_of_other_items_do_not_conflict() -> None:
    with lu.open_lab("embedded", physics=instant_start()) as lab:
        make_table(lab)
        make_table(lab, "Other")
        elsewhere = update("a", "1") | {"TableName": "Other"}
        assert (
            race(
                lab,
                [write_a("1")],
                [transact({"Update": update("b", "1")})],
                [transact({"Update": elsewhere})],
            )
            == [["done"]] * 3
        )


def test_transactions_one_after_the_other_do_not_conflict() -> None:
    with lu.open_lab("embedded", physics=instant_start()) as lab:
        make_table(lab)
        assert race(lab, [write_a(str(number)) for number in range(5)]) == [["done"] * 5]


@pytest.mark.parametrize(
    "single",
    [
        ("put_item", {"TableName": "Table", "Item": item("a")}),
        ("update_item", update("a", "9")),
        ("delete_item", {"TableName": "Table", "Key": item("a")}),
    ],
    ids=lambda each: each[0],
)
def test_a_write_during_a_transaction_is_refused(single: tuple[str, Item]) -> None:
    with lu.open_lab("embedded", physics=instant_start()) as lab:
        make_table(lab)
        assert race(lab, [write_a("1")], [single]) == [["done"], ["TransactionConflictException"]]
        assert lab.client("dynamodb").scan(TableName="Table")["Items"] == [item("a", "1")]


def test_a_write_of_another_item_during_a_transaction_is_fine() -> None:
    with lu.open_lab("embedded", physics=instant_start()) as lab:
        make_table(lab)
        assert race(lab, [write_a("1")], [("update_item", update("b", "9"))]) == [["done"]] * 2


def test_a_transaction_of_reads_conflicts_with_one_of_writes() -> None:
    with lu.open_lab("embedded", physics=instant_start()) as lab:
        make_table(lab)
        read = (
            "transact_get_items",
            {"TransactItems": [{"Get": {"TableName": "Table", "Key": item(key)}} for key in "ba"]},
        )
        (first,), (second,) = race(lab, [write_a("1")], [read])
        assert first == "done"
        assert second.endswith("[None, TransactionConflict]")
        assert race(lab, [read]) == [["done"]]


def test_a_condition_check_holds_its_item_too() -> None:
    with lu.open_lab("embedded", physics=instant_start()) as lab:
        make_table(lab)
        put(lab, "a")
        check = transact(
            {
                "ConditionCheck": {
                    "TableName": "Table",
                    "Key": item("a"),
                    "ConditionExpression": "attribute_exists(id)",
                }
            },
            {"Update": update("b", "1")},
        )
        assert race(lab, [check], [("update_item", update("a", "9"))]) == [
            ["done"],
            ["TransactionConflictException"],
        ]


def test_numbers_of_equal_value_are_one_item_to_a_conflict() -> None:
    with lu.open_lab("embedded", physics=instant_start()) as lab:
        make_table(lab, AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}])

        def number(text: str) -> Item:
            return {"TableName": "Table", "Item": {"id": {"N": text}}}

        assert race(lab, [transact({"Put": number("1")})], [("put_item", number("1.0"))]) == [
            ["done"],
            ["TransactionConflictException"],
        ]


def test_nothing_stays_held_after_a_refused_transaction(lab: Lab) -> None:
    make_table(lab)
    put(lab, "a", "1")
    for _ in range(2):
        with pytest.raises(ClientError, match="None, ConditionalCheckFailed"):
            lab.client("dynamodb").transact_write_items(**REFUSED["a cancelled transaction"][1])
    put(lab, "a", "2")
    put(lab, "b", "2")


def test_a_successful_transaction_answers_nothing(lab: Lab) -> None:
    """Recorded on AWS, fact 22."""
    make_table(lab)
    answer = lab.client("dynamodb").transact_write_items(
        TransactItems=[{"Put": {"TableName": "Table", "Item": A}}]
    )
    assert set(answer) == {"ResponseMetadata"}


def add_one(token: str) -> Item:
    return {
        "ClientRequestToken": token,
        "TransactItems": [
            {
                "Update": {
                    "TableName": "Table",
                    "Key": item("a"),
                    "UpdateExpression": "ADD n :one",
                    "ExpressionAttributeValues": {":one": {"N": "1"}},
                }
            }
        ],
    }


def count(lab: Lab) -> int:
    found = lab.client("dynamodb").get_item(TableName="Table", Key=item("a"))
    return int(found["Item"]["n"]["N"])


@pytest.mark.parametrize(("age", "total"), [(0, 1), (599, 1), (601, 2)])
def test_a_token_lives_ten_minutes(lab: Lab, age: int, total: int) -> None:
    """The same answer and no second write for 600 seconds from the completion of the first."""
    arn = make_table(lab)
    answers = []
    for wait in (0, age):
        lab.clock.advance(seconds=wait)
        answers.append(
            lab.client("dynamodb").transact_write_items(
                **add_one("token"), ReturnConsumedCapacity="NONE"
            )
        )
    assert count(lab) == total
    assert len(read_all(lab, arn)) == total
    assert [set(each) for each in answers] == [{"ResponseMetadata"}] * 2


def test_a_token_that_expired_begins_a_new_life(lab: Lab) -> None:
    make_table(lab)
    for wait in (0, 601, 599):
        lab.clock.advance(seconds=wait)
        lab.client("dynamodb").transact_write_items(**add_one("token"))
    assert count(lab) == 2


def test_a_token_means_one_content_in_any_order(lab: Lab) -> None:
    """Recorded on AWS, fact 24: the order of attributes is ignored."""
    make_table(lab)

    def write(**item: Item) -> None:
        lab.client("dynamodb").transact_write_items(
            ClientRequestToken="token",
            TransactItems=[{"Put": {"TableName": "Table", "Item": item}}],
        )

    write(id={"S": "a"}, v={"S": "1"}, w={"M": {"x": {"S": "1"}, "y": {"S": "2"}}})
    write(w={"M": {"y": {"S": "2"}, "x": {"S": "1"}}}, v={"S": "1"}, id={"S": "a"})
    with pytest.raises(ClientError) as refused:
        write(id={"S": "a"}, v={"S": "2"})
    assert refused.value.response["Error"]["Code"] == "IdempotentParameterMismatchException"


def test_a_token_of_a_failed_transaction_may_be_used_again(lab: Lab) -> None:
    make_table(lab)
    put(lab, "a", "1")
    params = REFUSED["a cancelled transaction"][1] | {"ClientRequestToken": "token"}
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        lab.client("dynamodb").transact_write_items(**params)
    lab.client("dynamodb").delete_item(TableName="Table", Key=item("a"))
    lab.client("dynamodb").transact_write_items(**params)
    assert lab.partitions("Table")["items"].sum() == 2


def test_tokens_are_not_kept_for_ever(lab: Lab) -> None:
    make_table(lab)
    for number in range(5):
        lab.client("dynamodb").transact_write_items(**add_one(f"token-{number}"))
        lab.clock.advance(minutes=4)
    tables = lab._target.world.region("us-east-1").dynamodb  # type: ignore[attr-defined]
    assert len(tables._tokens) == 3


def test_a_transaction_of_statements_has_a_token_too(lab: Lab) -> None:
    arn = make_table(lab)
    insert = {
        "ClientRequestToken": "token",
        "TransactStatements": [sql("INSERT INTO \"Table\" VALUE {'id':'a','v':'1'}")],
    }
    for wait in (0, 599):
        lab.clock.advance(seconds=wait)
        lab.client("dynamodb").execute_transaction(**insert)
    assert told(read_all(lab, arn)) == [(PUT, None, A)]
    lab.clock.advance(seconds=2)
    with pytest.raises(ClientError, match="DuplicateItem"):
        lab.client("dynamodb").execute_transaction(**insert)


def test_a_key_that_is_no_number_is_refused_in_a_transaction(lab: Lab) -> None:
    make_table(lab)
    wrong = {"Put": {"TableName": "Table", "Item": {"id": {"N": "abc"}}}}
    with pytest.raises(ClientError) as refusal:
        lab.client("dynamodb").transact_write_items(TransactItems=[wrong])
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert lab.client("dynamodb").scan(TableName="Table")["Count"] == 0


@pytest.mark.parametrize("precision", [3, 28])
def test_numbers_are_keys_to_their_last_digit(lab: Lab, precision: int) -> None:
    """38 digits count (Developer Guide), whatever precision the reader's own sums have."""
    number = [{"AttributeName": "id", "AttributeType": "N"}]
    make_table(lab, AttributeDefinitions=number)
    with decimal.localcontext() as context:
        context.prec = precision
        for digit in "123":
            for form in ("{}", "{}.0", "{}e0"):
                key = form.format("1" * 35 + digit)
                lab.client("dynamodb").put_item(TableName="Table", Item={"id": {"N": key}})
    assert lab.client("dynamodb").scan(TableName="Table")["Count"] == 3
    assert lab.partitions("Table")["items"].sum() == 3
