"""What a role allows is enforced on what a function's code calls, and on nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

import lab_utils as lu
from lab_utils.emulator import permissions
from lab_utils.lab import Lab

CALLER = """
import boto3, botocore.exceptions

def handler(event, context):
    service, operation, params = event
    try:
        getattr(boto3.client(service), operation)(**params)
    except botocore.exceptions.ClientError as refused:
        return [refused.response["Error"]["Code"], refused.response["Error"]["Message"],
                refused.response["ResponseMetadata"]["HTTPStatusCode"]]
    return ["done", "", 200]
"""
ARN = "arn:aws:{}:us-east-1:123456789012:{}"
TABLE = ARN.format("dynamodb", "table/Table")
KEY = {"id": {"S": "a"}}
QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/queue"
TOPIC = ARN.format("sns", "topic")


@pytest.fixture
def open_world(lab: Lab) -> Lab:
    """A lab with one of everything that a function may be refused."""
    stream = make_table(lab, "Table")
    make_table(lab, "Other")
    lab.client("dynamodb").put_item(TableName="Table", Item=KEY)
    lab.client("kinesis").create_stream(StreamName="stream", ShardCount=2)
    lab.client("sqs").create_queue(QueueName="queue")
    lab.client("sns").create_topic(Name="topic")
    lab.client("s3").create_bucket(Bucket="bucket")
    lab.clock.advance(minutes=1)
    assert stream.endswith("/stream/2026-01-05T09:00:00.045"), "STREAM below is this one"
    lab.deploy_function("Caller", CALLER, role=lab.role("Caller"))
    return lab


STREAM = f"{TABLE}/stream/2026-01-05T09:00:00.045"


def make_table(lab: Lab, name: str) -> str:
    made = lab.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    return str(made["TableDescription"]["LatestStreamArn"])


def allow(action: str | list[str], resource: str | list[str], **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource} | more


def call(lab: Lab, service: str, operation: str, params: dict[str, Any]) -> list[Any]:
    answer = lab.client("lambda").invoke(
        FunctionName="Caller", Payload=json.dumps([service, operation, params])
    )
    found: list[Any] = json.loads(answer["Payload"].read())
    return found


Case = tuple[str, str, dict[str, Any], str, str, str]
CASES: dict[str, Case] = {
    "put": (
        "dynamodb",
        "put_item",
        {"TableName": "Table", "Item": KEY},
        "dynamodb:PutItem",
        TABLE,
        "AccessDeniedException",
    ),
    "put by ARN": (
        "dynamodb",
        "put_item",
        {"TableName": TABLE, "Item": KEY},
        "dynamodb:PutItem",
        TABLE,
        "AccessDeniedException",
    ),
    "batch": (
        "dynamodb",
        "batch_write_item",
        {"RequestItems": {"Table": [{"PutRequest": {"Item": KEY}}]}},
        "dynamodb:BatchWriteItem",
        TABLE,
        "AccessDeniedException",
    ),
    "transact put": (
        "dynamodb",
        "transact_write_items",
        {"TransactItems": [{"Put": {"TableName": "Table", "Item": KEY}}]},
        "dynamodb:PutItem",
        TABLE,
        "AccessDeniedException",
    ),
    "transact check": (
        "dynamodb",
        "transact_write_items",
        {
            "TransactItems": [
                {
                    "ConditionCheck": {
                        "TableName": "Table",
                        "Key": KEY,
                        "ConditionExpression": "attribute_exists(id)",
                    }
                }
            ]
        },
        "dynamodb:ConditionCheckItem",
        TABLE,
        "AccessDeniedException",
    ),
    "transact get": (
        "dynamodb",
        "transact_get_items",
        {"TransactItems": [{"Get": {"TableName": "Table", "Key": KEY}}]},
        "dynamodb:GetItem",
        TABLE,
        "AccessDeniedException",
    ),
    "PartiQL insert": (
        "dynamodb",
        "execute_statement",
        {"Statement": "INSERT INTO \"Table\" VALUE {'id': 'new'}"},
        "dynamodb:PartiQLInsert",
        TABLE,
        "AccessDeniedException",
    ),
    "PartiQL update": (
        "dynamodb",
        "execute_statement",
        {"Statement": "update Table set v = 1 where id = 'a'"},
        "dynamodb:PartiQLUpdate",
        TABLE,
        "AccessDeniedException",
    ),
    "PartiQL batch": (
        "dynamodb",
        "batch_execute_statement",
        {"Statements": [{"Statement": "SELECT * FROM \"Table\" WHERE id = 'a'"}]},
        "dynamodb:PartiQLSelect",
        TABLE,
        "AccessDeniedException",
    ),
    "PartiQL transaction": (
        "dynamodb",
        "execute_transaction",
        {"TransactStatements": [{"Statement": "DELETE FROM \"Table\" WHERE id = 'a'"}]},
        "dynamodb:PartiQLDelete",
        TABLE,
        "AccessDeniedException",
    ),
    "stream": (
        "dynamodbstreams",
        "describe_stream",
        {"StreamArn": STREAM},
        "dynamodb:DescribeStream",
        STREAM,
        "AccessDeniedException",
    ),
    "kinesis": (
        "kinesis",
        "describe_stream",
        {"StreamName": "stream"},
        "kinesis:DescribeStream",
        ARN.format("kinesis", "stream/stream"),
        "AccessDeniedException",
    ),
    "sqs": (
        "sqs",
        "send_message",
        {"QueueUrl": QUEUE, "MessageBody": "text"},
        "sqs:SendMessage",
        ARN.format("sqs", "queue"),
        "AccessDenied",
    ),
    "sns": (
        "sns",
        "publish",
        {"TopicArn": TOPIC, "Message": "text"},
        "sns:Publish",
        TOPIC,
        "AuthorizationError",
    ),
    "s3": (
        "s3",
        "put_object",
        {"Bucket": "bucket", "Key": "key", "Body": "text"},
        "s3:PutObject",
        "arn:aws:s3:::bucket/key",
        "AccessDenied",
    ),
    "lambda": (
        "lambda",
        "invoke",
        {"FunctionName": "Caller", "InvocationType": "DryRun", "Payload": "{}"},
        "lambda:InvokeFunction",
        ARN.format("lambda", "function:Caller"),
        "AccessDeniedException",
    ),
    "iam": (
        "iam",
        "get_role",
        {"RoleName": "Caller"},
        "iam:GetRole",
        "arn:aws:iam::123456789012:role/Caller",
        "AccessDenied",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_function_may_do_what_its_role_allows_and_no_more(open_world: Lab, name: str) -> None:
    service, operation, params, action, resource, code = CASES[name]
    refused = call(open_world, service, operation, params)
    assert refused[0] == code
    assert refused[1] == (
        "User: arn:aws:sts::123456789012:assumed-role/Caller/Caller is not authorized to perform: "
        f"{action} on resource: {resource} because no identity-based policy allows the {action} "
        "action"
    )
    assert refused[2] == (400 if service in ("dynamodb", "dynamodbstreams", "kinesis") else 403)
    open_world.role("Caller", allow(action, f"{resource}-other"), allow("other:Thing", resource))
    assert call(open_world, service, operation, params)[0] == code
    open_world.role("Caller", allow(action, resource))
    assert call(open_world, service, operation, params) == ["done", "", 200]


def test_a_refused_write_writes_nothing(open_world: Lab) -> None:
    call(open_world, "dynamodb", "put_item", {"TableName": "Table", "Item": {"id": {"S": "b"}}})
    assert open_world.client("dynamodb").scan(TableName="Table")["Items"] == [KEY]


def test_every_table_of_a_transaction_is_asked_for(open_world: Lab) -> None:
    params = {
        "TransactItems": [{"Put": {"TableName": name, "Item": KEY}} for name in ("Table", "Other")]
    }
    open_world.role("Caller", allow("dynamodb:*", TABLE))
    code, words, _ = call(open_world, "dynamodb", "transact_write_items", params)
    assert code == "AccessDeniedException"
    assert "table/Other because" in words
    open_world.role("Caller", allow("dynamodb:PutItem", [TABLE, TABLE.replace("Table", "Other")]))
    assert call(open_world, "dynamodb", "transact_write_items", params)[0] == "done"


def test_records_need_permission_on_the_iterators_stream(open_world: Lab) -> None:
    open_world.role(
        "Caller", allow(["dynamodb:GetShardIterator", "dynamodb:DescribeStream"], STREAM)
    )
    streams = open_world.client("dynamodbstreams")
    shard = streams.describe_stream(StreamArn=STREAM)["StreamDescription"]["Shards"][0]["ShardId"]
    iterator = streams.get_shard_iterator(
        StreamArn=STREAM, ShardId=shard, ShardIteratorType="LATEST"
    )["ShardIterator"]
    code, words, _ = call(open_world, "dynamodbstreams", "get_records", {"ShardIterator": iterator})
    assert code == "AccessDeniedException"
    assert f"dynamodb:GetRecords on resource: {STREAM}" in words


def test_what_kinesis_handed_out_needs_permission_on_its_stream(open_world: Lab) -> None:
    kinesis, arn = open_world.client("kinesis"), ARN.format("kinesis", "stream/stream")
    iterator = kinesis.get_shard_iterator(
        StreamName="stream", ShardId="shardId-000000000000", ShardIteratorType="LATEST"
    )
    token = kinesis.list_shards(StreamName="stream", MaxResults=1)["NextToken"]
    for operation, params in (
        ("GetRecords", {"ShardIterator": iterator["ShardIterator"]}),
        ("ListShards", {"NextToken": token}),
    ):
        call_name = xform_name(operation)
        open_world.role("Caller", allow(f"kinesis:{operation}", f"{arn}-other"))
        code, words, _ = call(open_world, "kinesis", call_name, params)
        assert code == "AccessDeniedException"
        assert f"kinesis:{operation} on resource: {arn} because" in words
        open_world.role("Caller", allow(f"kinesis:{operation}", arn))
        assert call(open_world, "kinesis", call_name, params)[0] == "done"


@pytest.mark.parametrize(
    "member",
    [
        {},
        {
            "Put": {"TableName": "Table", "Item": {"id": {"S": "b"}}},
            "Delete": {"TableName": "Table", "Key": KEY},
        },
    ],
)
def test_a_member_of_a_transaction_that_is_no_single_write(
    open_world: Lab, member: dict[str, Any]
) -> None:
    open_world.role("Caller", allow("dynamodb:*", "*"))
    refused = call(open_world, "dynamodb", "transact_write_items", {"TransactItems": [member]})
    assert refused[0] == "ValidationException"
    assert open_world.client("dynamodb").scan(TableName="Table")["Items"] == [KEY]


def test_an_index_is_a_resource_of_its_own(open_world: Lab) -> None:
    query = {
        "TableName": "Table",
        "IndexName": "by-v",
        "KeyConditionExpression": "v = :v",
        "ExpressionAttributeValues": {":v": {"S": "1"}},
    }
    open_world.role("Caller", allow("dynamodb:Query", TABLE))
    code, words, _ = call(open_world, "dynamodb", "query", query)
    assert code == "AccessDeniedException"
    assert f"{TABLE}/index/by-v" in words


def test_an_explicit_deny_wins_and_is_named(open_world: Lab) -> None:
    open_world.role("Caller", allow("*", "*"), allow("dynamodb:Delete*", "*", Effect="Deny"))
    put = ("dynamodb", "put_item", {"TableName": "Table", "Item": KEY})
    delete = ("dynamodb", "delete_item", {"TableName": "Table", "Key": KEY})
    assert call(open_world, *put)[0] == "done"
    code, words, _ = call(open_world, *delete)
    assert code == "AccessDeniedException"
    assert words.endswith(f"{TABLE} with an explicit deny in an identity-based policy")


def test_a_change_of_policy_takes_effect_at_once(open_world: Lab) -> None:
    put = ("dynamodb", "put_item", {"TableName": "Table", "Item": KEY})
    iam, policy = (
        open_world.client("iam"),
        json.dumps({"Version": "2012-10-17", "Statement": [allow("dynamodb:PutItem", TABLE)]}),
    )
    seen = [call(open_world, *put)[0]]
    iam.put_role_policy(RoleName="Caller", PolicyName="more", PolicyDocument=policy)
    seen.append(call(open_world, *put)[0])
    iam.delete_role_policy(RoleName="Caller", PolicyName="more")
    seen.append(call(open_world, *put)[0])
    arn = iam.create_policy(PolicyName="managed", PolicyDocument=policy)["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="Caller", PolicyArn=arn)
    seen.append(call(open_world, *put)[0])
    iam.detach_role_policy(RoleName="Caller", PolicyArn=arn)
    seen.append(call(open_world, *put)[0])
    no = "AccessDeniedException"
    assert seen == [no, "done", no, "done", no]


def test_the_readers_own_clients_are_never_denied(open_world: Lab) -> None:
    """Nor is a handler that is called in the cell: it runs as the reader."""
    open_world.role("Caller", allow("*", "*", Effect="Deny"))
    for service, operation, params, *_ in CASES.values():
        getattr(open_world.client(service), operation)(**params)


@pytest.mark.parametrize(
    ("statement", "verb", "table", "index"),
    [
        ("SELECT * FROM Table", "SELECT", "Table", None),
        ('  select a, "from" from "My-Table"."by-v" where x = 1', "select", '"My-Table"', '"by-v"'),
        ("EXISTS( SELECT * FROM \"T\" WHERE id = '1')", "SELECT", '"T"', None),
        ("INSERT INTO \"T\" VALUE {'id': 'FROM U'}", "INSERT", '"T"', None),
        ("UPDATE T SET v = 'FROM U' WHERE id = '1'", "UPDATE", "T", None),
        ('UPDATE "T"\nSET v = 1', "UPDATE", '"T"', None),
        ("DELETE FROM T WHERE id = '1'", "DELETE", "T", None),
    ],
)
def test_how_a_statement_is_read(statement: str, verb: str, table: str, index: str | None) -> None:
    found = permissions._STATEMENT.match(statement)
    assert found
    assert (found["verb"], found["table"], found["index"]) == (verb, table, index)


def test_a_role_that_lambda_may_not_assume(lab: Lab) -> None:
    words = "The role defined for the function cannot be assumed by Lambda."
    with pytest.raises(ClientError, match=words):
        lab.deploy_function("Caller", CALLER, role="arn:aws:iam::123456789012:role/absent")


def test_statements_are_checked_when_a_role_is_made(lab: Lab) -> None:
    with pytest.raises(lu.LabError, match="is no IAM statement: give dicts with Effect"):
        lab.role("Caller", {"Action": "*"})
