"""What AWS was seen to answer about streams and mappings, fact by fact.

A public test suite ran against AWS and kept the answers; the facts that follow from them are
numbered 1 to 79. Each has a test that names it. Most of these stand where the behaviour is tested;
here are the others, and the test that none is missing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lab_utils.lab import Lab

Item = dict[str, Any]
QUOTED = re.compile(r"\bfacts? ([\d, ]+(?:(?:and|to) [\d, ]+)*)", re.IGNORECASE)
"""In a text or, with its underscores read as spaces, in the name of a test."""
STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_each_fact_has_a_test_that_names_it() -> None:
    quoted: set[int] = set()
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for found in QUOTED.findall(words_of(node)):
                for first, last in re.findall(r"(\d+)(?: to (\d+))?", found):
                    quoted |= set(range(int(first), int(last or first) + 1))
    missing = set(range(1, 80)) - quoted
    assert not missing, f"no test names fact {sorted(missing)}"


def words_of(node: ast.AST) -> str:
    if isinstance(node, ast.FunctionDef):
        return node.name.replace("_", " ")
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return " ".join(node.value.split()) if is_text else ""  # type: ignore[attr-defined]


def make_table(client: Any, name: str = "Table", **options: Any) -> Item:
    made: Item = client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        **options,
    )
    return made["TableDescription"]  # type: ignore[no-any-return]


def records(streams: Any, arn: str) -> list[Item]:
    found = []
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        at = streams.get_shard_iterator(
            StreamArn=arn,
            ShardId=shard["ShardId"],
            ShardIteratorType="AT_SEQUENCE_NUMBER",
            SequenceNumber=shard["SequenceNumberRange"]["StartingSequenceNumber"],
        )
        found += streams.get_records(ShardIterator=at["ShardIterator"])["Records"]
    return sorted(found, key=lambda each: int(each["dynamodb"]["SequenceNumber"]))


def not_modelled(call: Callable[..., Any], **params: Any) -> bool:
    with pytest.raises(ClientError) as refused:
        call(**params)
    answer = refused.value.response
    return (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (
        "NotImplemented",
        501,
    )


def test_a_table_says_which_stream_is_its_latest(lab: Lab) -> None:
    """Recorded on AWS, facts 1, 4 and 5: one label, in the table, in the ARN and in the stream."""
    table = make_table(lab.client("dynamodb"), StreamSpecification=STREAM)
    label, arn = table["LatestStreamLabel"], table["LatestStreamArn"]
    assert arn == f"{table['TableArn']}/stream/{label}"
    assert table["StreamSpecification"] == STREAM
    found = lab.client("dynamodbstreams").describe_stream(StreamArn=arn)["StreamDescription"]
    assert found["StreamLabel"] == label
    assert found["CreationRequestDateTime"].isoformat(timespec="milliseconds") == f"{label}+00:00"


def test_a_table_of_another_region_has_a_stream_of_its_own(lab: Lab) -> None:
    """Recorded on AWS, fact 10: its own ARN and label. That a replica has one too is not modelled,
    as replicas are not."""
    session = lab._world("partitions").session
    here, there = lab.client("dynamodb"), session.create_client("dynamodb", region_name="eu-west-1")
    arns = [
        make_table(client, StreamSpecification=STREAM)["LatestStreamArn"]
        for client in (here, there)
    ]
    assert len({arn.split("/stream/")[1] for arn in arns}) == 2
    here.put_item(TableName="Table", Item={"id": {"S": "a"}})
    streams = session.create_client("dynamodbstreams", region_name="eu-west-1")
    assert len(records(lab.client("dynamodbstreams"), arns[0])) == 1
    assert records(streams, arns[1]) == []
    assert [each["StreamArn"] for each in streams.list_streams()["Streams"]] == arns[1:]
    replica = {"Create": {"RegionName": "eu-west-1"}}
    assert not_modelled(here.update_table, TableName="Table", ReplicaUpdates=[replica])


def test_writes_that_leave_nothing_and_writes_that_leave_one_record(lab: Lab) -> None:
    """Recorded on AWS, facts 16, 17 and 18, in one stream: what does not change an item leaves
    nothing, a put over an item is a MODIFY, an update of a missing one an INSERT."""
    client = lab.client("dynamodb")
    arn = make_table(client, StreamSpecification=STREAM)["LatestStreamArn"]
    item = {"id": {"S": "a"}, "v": {"S": "1"}}
    put = {"Put": {"TableName": "Table", "Item": item}}
    for _ in range(2):
        client.put_item(TableName="Table", Item=item)
        client.batch_write_item(RequestItems={"Table": [{"PutRequest": {"Item": item}}]})
        client.transact_write_items(TransactItems=[put])
    client.put_item(TableName="Table", Item={"id": {"S": "a"}})
    client.update_item(TableName="Table", Key={"id": {"S": "b"}})
    client.execute_statement(Statement="DELETE FROM \"Table\" WHERE id='a'")
    found = records(lab.client("dynamodbstreams"), arn)
    assert [each["eventName"] for each in found] == ["INSERT", "MODIFY", "INSERT", "REMOVE"]
    assert len({each["dynamodb"]["SequenceNumber"] for each in found}) == 4


def test_a_batch_that_is_tried_again_is_the_same_batch(lab: Lab) -> None:
    """Recorded on AWS, fact 21: the same event ids and sequence numbers at every try."""
    client = lab.client("dynamodb")
    arn = make_table(client, StreamSpecification=STREAM)["LatestStreamArn"]
    role = lab.role("reader", {"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"})
    lab.deploy_function(
        "stumble",
        "def handler(event, context):\n"
        "    for each in event['Records']:\n"
        "        print('SEEN', each['eventID'], each['dynamodb']['SequenceNumber'])\n"
        "    raise ValueError('never')\n",
        role=role,
    )
    client.put_item(TableName="Table", Item={"id": {"S": "a"}})
    (record,) = records(lab.client("dynamodbstreams"), arn)
    lab.client("lambda").create_event_source_mapping(
        FunctionName="stumble", EventSourceArn=arn, StartingPosition="TRIM_HORIZON"
    )
    lab.clock.advance(minutes=1)
    seen = [
        each["message"].split()[1:]
        for each in lab.client("logs").filter_log_events(logGroupName="/aws/lambda/stumble")[
            "events"
        ]
        if each["message"].startswith("SEEN")
    ]
    assert len(seen) > 3
    assert all(each == [record["eventID"], record["dynamodb"]["SequenceNumber"]] for each in seen)
