"""Whatever is sent to the lab over HTTP, it answers, it is never at a loss, and it goes on."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import Served, make_table, serving, sign

from lab_utils.emulator.gateway import BACKED, MODELLED
from lab_utils.http.addressed import TARGETS, VERSIONS

NOT_OFFERED = 501
"""What the lab does not model it refuses with this status, and says so."""

NAMES = ["Table", "Stream", "bucket", "Worker", "arn:aws:kinesis:us-east-1:123456789012:stream/S"]
SERVICES = sorted({*BACKED, *MODELLED})
OPERATIONS = sorted({name for names in (*BACKED.values(), *MODELLED.values()) for name in names})
MEMBERS = [
    "TableName",
    "StreamName",
    "StreamARN",
    "Key",
    "Item",
    "Records",
    "ShardIterator",
    "ShardIteratorType",
    "ShardId",
    "QueueUrl",
    "MessageBody",
    "WaitTimeSeconds",
    "FunctionName",
    "EventSourceArn",
    "StartingPosition",
    "BatchSize",
    "Limit",
    "UpdateExpression",
    "ExpressionAttributeValues",
    "TransactItems",
    "RequestItems",
    "Statement",
    "logGroupName",
    "Namespace",
    "MetricData",
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(NAMES)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*MEMBERS, "S", "N", "id"]), inner, max_size=4)
    ),
    max_leaves=8,
)
members = st.dictionaries(st.sampled_from(MEMBERS), values, max_size=5)

REAL: list[tuple[str, bytes]] = [
    (
        "DynamoDB_20120810.UpdateItem",
        b'{"TableName": "Table", "Key": {"id": {"S": "k"}}, "UpdateExpression": "REMOVE v"}',
    ),
    (
        "DynamoDB_20120810.TransactWriteItems",
        b'{"TransactItems": [{"Put": {"TableName": "Table", "Item": {"id": {"S": "k"}}}}]}',
    ),
    ("DynamoDB_20120810.Scan", b'{"TableName": "Table", "Limit": 1, "Segment": 0}'),
    (
        "DynamoDBStreams_20120810.DescribeStream",
        b'{"StreamArn": "arn:aws:dynamodb:us-east-1:123456789012:table/Table/stream/2026"}',
    ),
    (
        "Kinesis_20131202.PutRecords",
        b'{"StreamName": "Stream", "Records": [{"Data": "aGk=", "PartitionKey": "k"}]}',
    ),
    (
        "Kinesis_20131202.GetShardIterator",
        b'{"StreamName": "Stream", "ShardId": "shardId-0", "ShardIteratorType": "LATEST"}',
    ),
    ("AmazonSQS.SendMessage", b'{"QueueUrl": "http://here/123456789012/q", "MessageBody": "m"}'),
    ("AmazonSQS.ReceiveMessage", b'{"QueueUrl": "http://here/123456789012/q"}'),
    (
        "Logs_20140328.PutLogEvents",
        b'{"logGroupName": "g", "logStreamName": "s", "logEvents": [{"timestamp": 1}]}',
    ),
    (
        "GraniteServiceVersion20100801.PutMetricData",
        b'{"Namespace": "N", "MetricData": [{"MetricName": "m", "Value": 1}]}',
    ),
]


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A request of a real client's, cut off somewhere or with some bytes changed."""
    operation, body = draw(st.sampled_from(REAL))
    if draw(st.booleans()):
        return operation, body[: draw(st.integers(0, len(body)))]
    changed = bytearray(body)
    for _ in range(draw(st.integers(0, 3))):
        changed[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return operation, bytes(changed)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--speed", "60") as server:
        make_table(
            server.client("dynamodb"),
            "Table",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
        )
        server.client("kinesis").create_stream(StreamName="Stream", ShardCount=1)
        server.client("sqs").create_queue(QueueName="q")
        server.client("s3").create_bucket(Bucket="bucket")
        yield server


def ask(
    served: Served, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def check(served: Served, status: int, body: bytes) -> None:
    refused = status == NOT_OFFERED and (not body or b"NotImplemented" in body)  # HEAD has no body
    assert status < 500 or refused, (status, body)
    assert served.process.poll() is None


def in_json(served: Served, operation: str, body: bytes) -> None:
    headers = {
        "authorization": sign("dynamodb"),
        "x-amz-target": operation,
        "content-type": "application/x-amz-json-1.0",
    }
    check(served, *ask(served, "POST", "/", headers, body))


@settings(max_examples=150)
@given(request=mutated())
def test_real_requests_that_were_damaged(served: Served, request: tuple[str, bytes]) -> None:
    in_json(served, *request)


@settings(max_examples=150)
@given(
    prefix=st.sampled_from(sorted(TARGETS)),
    operation=st.sampled_from(OPERATIONS),
    said=members,
)
def test_operations_with_members_of_any_kind(
    served: Served, prefix: str, operation: str, said: dict[str, Any]
) -> None:
    in_json(served, f"{prefix}.{operation}", json.dumps(said).encode())


@settings(max_examples=100)
@given(
    prefix=st.sampled_from(sorted(TARGETS)),
    operation=st.sampled_from(sorted(MODELLED["kinesis"])),
    body=st.binary(max_size=50) | members.map(cbor2.dumps),
)
def test_cbor_of_any_kind(served: Served, prefix: str, operation: str, body: bytes) -> None:
    headers = {
        "authorization": sign("kinesis"),
        "x-amz-target": f"{prefix}.{operation}",
        "content-type": "application/x-amz-cbor-1.1",
    }
    check(served, *ask(served, "POST", "/", headers, body))


@settings(max_examples=100)
@given(
    version=st.sampled_from(sorted(VERSIONS)) | st.just(""),
    fields=st.dictionaries(
        st.sampled_from(["RoleName", "TopicArn", "QueueUrl", "Message", "Name", "WaitTimeSeconds"]),
        st.text(max_size=20) | st.sampled_from(NAMES),
    ),
    operation=st.sampled_from(OPERATIONS),
    service=st.sampled_from(SERVICES),
)
def test_forms_of_any_kind(
    served: Served, version: str, fields: dict[str, str], operation: str, service: str
) -> None:
    form = {**fields, "Action": operation, "Version": version}
    headers = {
        "authorization": sign(service),
        "content-type": "application/x-www-form-urlencoded",
    }
    body = urllib.parse.urlencode(form, errors="replace").encode()
    check(served, *ask(served, "POST", "/", headers, body))


segments = (
    st.sampled_from(
        [
            "2015-03-31",
            "2017-10-31",
            "functions",
            "event-source-mappings",
            "Worker",
            "bucket",
            "key",
        ]
    )
    | st.sampled_from(
        ["invocations", "versions", "aliases", "concurrency", "configuration", "..", ""]
    )
    | st.text("abc%/?=&.:", max_size=6)
)


@settings(max_examples=200)
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "OPTIONS", "PURGE"]),
    path=st.lists(segments, max_size=5),
    query=st.text("abcdelt-yp=2&%;", max_size=12),
    body=st.binary(max_size=60) | members.map(lambda said: json.dumps(said).encode()),
    service=st.sampled_from([*SERVICES, "monitoring", "ec2", ""]),
    extra=st.dictionaries(
        st.sampled_from(
            ["x-amz-target", "content-type", "content-encoding", "x-amz-copy-source", "expect"]
        ),
        st.text("abc/.-_%=;", max_size=20)
        | st.sampled_from(["aws-chunked", "gzip", "multipart/x"]),
    ),
)
def test_requests_of_any_kind(
    served: Served,
    method: str,
    path: list[str],
    query: str,
    body: bytes,
    service: str,
    extra: dict[str, str],
) -> None:
    headers = extra | ({"authorization": sign(service)} if service else {})
    check(served, *ask(served, method, "/" + "/".join(path) + "?" + query, headers, body))


@settings(max_examples=100)
@given(signature=st.text("AWS4-HMAC/ Credential=,usat1235_", max_size=60))
def test_signatures_of_any_kind(served: Served, signature: str) -> None:
    headers = {"authorization": signature, "x-amz-target": "Kinesis_20131202.ListStreams"}
    check(served, *ask(served, "POST", "/", headers, b"{}"))


@settings(max_examples=60)
@given(
    noise=st.binary(max_size=80)
    | st.text("GETPOST /HTP1.\r\n:abc-lengthcontent0", max_size=80).map(str.encode)
)
def test_bytes_of_any_kind(served: Served, noise: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(noise + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answered = b""
        while more := connection.recv(65536):
            answered += more
    assert not answered.startswith(b"HTTP/1.1 5")
    check(served, *ask(served, "GET", "/_localstack/health", {}, b""))


def test_after_all_that_a_good_request_is_answered(served: Served) -> None:
    dynamodb = served.client("dynamodb")
    dynamodb.put_item(TableName="Table", Item={"id": {"S": "last"}})
    assert dynamodb.get_item(TableName="Table", Key={"id": {"S": "last"}})["Item"]
