"""The lab over HTTP: the same world, for whatever speaks AWS."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import cbor2
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from running import EVERYTHING, code_of
from serving import Served, environment, make_table, serving, sign, start

import lab_utils as lu
from lab_utils.emulator.gateway import SERVICES
from lab_utils.emulator.world import World
from lab_utils.http.addressed import LARGEST_BODY, TARGETS, VERSIONS
from lab_utils.http.cbor import MOMENT
from lab_utils.http.front import Front
from lab_utils.http.pace import Pace

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--speed", "60") as server:
        yield server


def raw(
    served: Served,
    method: str = "POST",
    path: str = "/",
    body: bytes = b"",
    service: str | None = None,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    """One request as it is; `service` signs it. Underscores in header names stand for hyphens."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if service is not None:
        given["authorization"] = sign(service)
    request = urllib.request.Request(
        served.address + path, body or None, given, method=method, unverifiable=True
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, dict(refusal.headers), refusal.read()


def target(operation: str) -> dict[str, str]:
    return {"x_amz_target": operation, "content_type": "application/x-amz-json-1.0"}


# -- the server -----------------------------------------------------------------------------------


def test_the_health_page_names_the_services(served: Served) -> None:
    status, _, body = raw(served, "GET", "/_localstack/health")
    assert status == 200
    assert json.loads(body)["services"] == dict.fromkeys(SERVICES.values(), "running")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_while_a_client_still_waits(number: signal.Signals) -> None:
    with serving() as served, ThreadPoolExecutor() as others:
        sqs = served.client("sqs")
        url = sqs.create_queue(QueueName="queue")["QueueUrl"]
        polling = others.submit(sqs.receive_message, QueueUrl=url, WaitTimeSeconds=20)
        while not polling.running() or not sqs.list_queues()["QueueUrls"]:
            pass
        served.process.send_signal(number)
        assert served.process.wait(timeout=2) == 0
        with pytest.raises((ClientError, BotoCoreError)):
            polling.result()


@pytest.mark.parametrize("meanwhile", [False, True])
def test_who_comes_while_it_is_stopped_does_not_wait(meanwhile: bool) -> None:
    """After it was told to stop, or while this very request is let into the world."""
    world = World(start=datetime.now(UTC))
    front = Front(world, Pace(world.scheduler, 1.0, interrupted=lambda: None))
    statuses: list[int] = []

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    async def ask(operation: str, **members: Any) -> None:
        body = json.dumps(members).encode()
        headers = {
            "authorization": sign("sqs"),
            "x-amz-target": f"AmazonSQS.{operation}",
            "content-type": "application/x-amz-json-1.0",
        }
        scope = {
            "method": "POST",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }

        async def receive() -> Any:
            return {"body": body}

        asked = asyncio.create_task(front(scope, receive, send))
        for _ in range(20):  # turns of the loop, of which an answer takes a few
            await asyncio.sleep(0)
        assert asked.done()

    async def meet() -> None:
        await ask("CreateQueue", QueueName="queue")
        world.scheduler.after(0, front.stop)
        if not meanwhile:
            world.scheduler.run(world.scheduler.now)
        url = "http://sqs.us-east-1.amazonaws.com/123456789012/queue"
        await ask("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=20)

    asyncio.run(meet())
    world.close()
    assert [status for status in statuses if status] == [200, 503]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_while_a_function_computes_for_ever(number: signal.Signals) -> None:
    with serving() as served:
        deploy(served, "Busy", BUSY)
        served.client("lambda").invoke(FunctionName="Busy", InvocationType="Event")
        while _answers(served):
            pass
        served.process.send_signal(number)
        assert served.process.wait(timeout=3) == 0


BUSY = """
def handler(event, context):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
"""


def _answers(served: Served) -> bool:
    try:
        urllib.request.urlopen(f"{served.address}/_localstack/health", timeout=1).close()
    except TimeoutError:
        return False
    return True


def test_a_port_in_use_is_told_in_one_sentence(served: Served) -> None:
    process = start("--port", str(served.port))
    said, complaint = process.communicate(timeout=20)
    assert (process.returncode, said) == (2, "")
    assert complaint == (
        f"Port {served.port} of 127.0.0.1 cannot be had (Address already in use): choose another "
        "with --port, or stop what uses it.\n"
    )


@pytest.mark.parametrize(
    "options", [("--port", "70000"), ("--speed", "0"), ("--speed", "nan"), ("--port", "http")]
)
def test_options_that_can_not_be(options: tuple[str, str]) -> None:
    process = start(*options)
    _, complaint = process.communicate(timeout=20)
    assert process.returncode == 2
    assert f"argument {options[0]}: " in complaint


def test_it_warns_before_it_listens_for_others() -> None:
    process = start("--port", "0", "--host", "0.0.0.0")
    assert process.stdout is not None
    ready = process.stdout.readline()
    process.terminate()
    _, warning = process.communicate(timeout=10)
    assert ready.startswith("Ready on http://0.0.0.0:")
    assert warning.startswith("Warning: whoever reaches 0.0.0.0 can run code on this machine")


def test_serving_loads_neither_frames_nor_figures() -> None:
    asked = "import sys, lab_utils.http.serve; print({'pandas', 'matplotlib'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", asked], check=True, capture_output=True, text=True, env=environment()
    )
    assert done.stdout == "set()\n"


def test_its_clock_begins_with_the_walls_and_goes_at_its_speed() -> None:
    with serving("--speed", "600") as served:
        began, first = time.monotonic(), date(served)
        assert abs(first - datetime.now(UTC)) < timedelta(minutes=30)
        time.sleep(0.5)
        last = date(served)
        passed = time.monotonic() - began
        assert timedelta(seconds=300 - 2) < last - first < timedelta(seconds=600 * passed + 2)


def date(served: Served) -> datetime:
    answer = served.client("sts").get_caller_identity()
    told = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
    return datetime.strptime(told, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)


# -- who is asked for what ------------------------------------------------------------------------


def test_the_models_say_the_same_of_targets_and_versions(lab: Any) -> None:
    models = {name: lab._target.world.session.get_service_model(name) for name in SERVICES.values()}
    by_target = {
        model.metadata["targetPrefix"]: name
        for name, model in models.items()
        if "targetPrefix" in model.metadata
    }
    assert by_target == TARGETS
    by_version = {
        model.api_version: name
        for name, model in models.items()
        if "query" in model.metadata["protocols"] or name == "sqs"
    }
    assert by_version == VERSIONS


def test_every_service_answers_boto3(served: Served) -> None:
    for service, call in {
        "dynamodb": "list_tables",
        "dynamodbstreams": "list_streams",
        "kinesis": "list_streams",
        "lambda": "list_functions",
        "iam": "list_roles",
        "sts": "get_caller_identity",
        "sqs": "list_queues",
        "sns": "list_topics",
        "s3": "list_buckets",
        "cloudwatch": "list_metrics",
        "logs": "describe_log_groups",
    }.items():
        answer = getattr(served.client(service), call)()
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200, service
        assert answer["ResponseMetadata"]["RequestId"], service


def test_objects_and_buckets_by_their_path(served: Served) -> None:
    s3 = served.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="a folder/ü+%", Body=io.BytesIO(b"x" * 300_000))
    s3.copy_object(
        Bucket="bucket", Key="copy", CopySource={"Bucket": "bucket", "Key": "a folder/ü+%"}
    )
    assert s3.head_object(Bucket="bucket", Key="copy")["ContentLength"] == 300_000
    assert s3.get_object(Bucket="bucket", Key="a folder/ü+%")["Body"].read() == b"x" * 300_000
    listed = s3.list_objects_v2(Bucket="bucket")["Contents"]
    assert [each["Key"] for each in listed] == ["a folder/ü+%", "copy"]
    s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "copy"}]})
    s3.delete_object(Bucket="bucket", Key="a folder/ü+%")
    assert "Contents" not in s3.list_objects(Bucket="bucket")
    s3.delete_bucket(Bucket="bucket")
    with pytest.raises(ClientError) as caught:
        s3.head_bucket(Bucket="bucket")
    assert code_of(caught)[0] == 404
    with pytest.raises(ClientError) as caught:
        s3.get_bucket_acl(Bucket="bucket")
    assert code_of(caught) == (501, "NotImplemented")


def test_a_link_that_carries_its_signature(served: Served) -> None:
    s3 = served.client("s3")
    s3.create_bucket(Bucket="links")
    s3.put_object(Bucket="links", Key="key", Body=b"hello")
    link = s3.generate_presigned_url("get_object", Params={"Bucket": "links", "Key": "key"})
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == b"hello"


def test_regions_do_not_see_each_others_tables(served: Served) -> None:
    there = served.client("dynamodb", region="eu-central-1")
    arn = make_table(there, "Regional")["TableArn"]
    assert arn == "arn:aws:dynamodb:eu-central-1:123456789012:table/Regional"
    with pytest.raises(ClientError):
        served.client("dynamodb").describe_table(TableName="Regional")


def test_a_region_that_is_none(served: Served) -> None:
    with pytest.raises(ClientError, match="valid region, not 'mars-north-1'") as caught:
        served.client("kinesis", region="mars-north-1").list_streams()
    assert code_of(caught) == (403, "InvalidSignatureException")


def test_queues_by_form_as_older_clients_ask(served: Served) -> None:
    url = served.client("sqs").create_queue(QueueName="by-form")["QueueUrl"]

    def ask(**members: str) -> tuple[int, bytes]:
        form = urllib.parse.urlencode({"Version": "2012-11-05", "QueueUrl": url, **members})
        kind = {"content_type": "application/x-www-form-urlencoded"}
        status, _, body = raw(served, body=form.encode(), service="sqs", **kind)
        return status, body

    assert b"<Message>" not in ask(Action="ReceiveMessage", WaitTimeSeconds="1")[1]
    assert ask(Action="SendMessage", MessageBody="hello")[0] == 200
    assert b"<Body>hello</Body>" in ask(Action="ReceiveMessage")[1]
    status, body = ask(Action="ReceiveMessage", WaitTimeSeconds="21")
    assert status == 400
    assert b"<Code>InvalidParameterValue</Code>" in body
    status, body = ask(Action="Nonsense")
    assert (status, b"<Code>InvalidAction</Code>" in body) == (400, True)


def test_requests_that_wait_do_not_hold_up_others(served: Served) -> None:
    sqs = served.client("sqs")
    url = sqs.create_queue(QueueName="waiting")["QueueUrl"]
    with ThreadPoolExecutor() as others:
        polling = others.submit(
            served.client("sqs").receive_message, QueueUrl=url, WaitTimeSeconds=20
        )
        while not polling.running():
            pass
        sqs.send_message(QueueUrl=url, MessageBody="hello")
        assert [each["Body"] for each in polling.result(20)["Messages"]] == ["hello"]


def test_many_clients_at_once_lose_nothing(served: Served) -> None:
    make_table(served.client("dynamodb"), "Counters")

    def count(_: int) -> None:
        dynamodb = served.client("dynamodb")
        for _ in range(20):
            dynamodb.update_item(
                TableName="Counters",
                Key={"id": {"S": "all"}},
                UpdateExpression="ADD n :one",
                ExpressionAttributeValues={":one": {"N": "1"}},
            )

    with ThreadPoolExecutor(16) as others:
        list(others.map(count, range(16)))
    item = served.client("dynamodb").get_item(TableName="Counters", Key={"id": {"S": "all"}})
    assert item["Item"]["n"] == {"N": "320"}


# -- what Kinesis' clients for Java speak -------------------------------------------------------


def in_cbor(served: Served, operation: str, members: dict[str, Any]) -> tuple[int, Any]:
    status, headers, body = raw(
        served,
        body=cbor2.dumps(members),
        service="kinesis",
        x_amz_target=f"Kinesis_20131202.{operation}",
        content_type="application/x-amz-cbor-1.1",
    )
    assert headers["content-type"] == "application/x-amz-cbor-1.1"
    undated = {MOMENT: lambda value, _: ("moment", value)}
    return status, cbor2.loads(body, semantic_decoders=undated)


def test_records_in_cbor_are_bytes_and_times_are_milliseconds(served: Served) -> None:
    """Fact 42."""
    served.client("kinesis").create_stream(StreamName="Binary", ShardCount=1)
    status, put = in_cbor(
        served,
        "PutRecords",
        {"StreamName": "Binary", "Records": [{"Data": b"\xff\x00", "PartitionKey": "k"}]},
    )
    assert (status, put["FailedRecordCount"]) == (200, 0)
    shard = {"ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"}
    _, got = in_cbor(served, "GetShardIterator", {"StreamName": "Binary", **shard})
    _, got = in_cbor(served, "GetRecords", got)
    record = got["Records"][0]
    assert record["Data"] == b"\xff\x00"
    kind, at = record["ApproximateArrivalTimestamp"]
    assert kind == "moment"
    assert isinstance(at, int)
    assert abs(datetime.fromtimestamp(at / 1000, UTC) - date(served)) < timedelta(hours=2)
    listed = served.client("kinesis").describe_stream(StreamName="Binary")
    _, described = in_cbor(served, "DescribeStream", {"StreamName": "Binary"})
    _, created = described["StreamDescription"]["StreamCreationTimestamp"]
    assert listed["StreamDescription"]["StreamCreationTimestamp"].timestamp() * 1000 == created


@pytest.mark.parametrize("kind", ["application/x-amz-cbor-1.1", "application/cbor"])
def test_an_object_that_is_cbor_is_left_as_it_is(served: Served, kind: str) -> None:
    s3 = served.client("s3")
    s3.create_bucket(Bucket="binaries")
    s3.put_object(Bucket="binaries", Key="key", Body=b"\xa1\x01\x02", ContentType=kind)
    got = s3.get_object(Bucket="binaries", Key="key")
    assert (got["Body"].read(), got["ContentType"]) == (b"\xa1\x01\x02", kind)
    functions = raw(served, "GET", "/2015-03-31/functions", service="lambda", content_type=kind)
    assert "Functions" in json.loads(functions[2])


def test_an_error_in_cbor(served: Served) -> None:
    """Facts 41 and 42."""
    assert in_cbor(served, "DescribeStream", {"StreamName": "wrong-stream-name"}) == (
        400,
        {
            "__type": "ResourceNotFoundException",
            "message": "Stream wrong-stream-name under account 123456789012 not found.",
        },
    )


def test_cloudwatch_in_each_of_its_protocols(served: Served) -> None:
    told = {"Namespace": "Lab", "MetricData": [{"MetricName": "m", "Value": 1.0}]}

    def rpc(operation: str, members: Any) -> tuple[int, Any]:
        status, headers, body = raw(
            served,
            path=f"/service/GraniteServiceVersion20100801/operation/{operation}",
            body=gzip.compress(cbor2.dumps(members)),
            service="monitoring",
            smithy_protocol="rpc-v2-cbor",
            content_type="application/cbor",
            content_encoding="gzip",
        )
        assert headers["smithy-protocol"] == "rpc-v2-cbor"
        return status, cbor2.loads(body)

    assert rpc("PutMetricData", told) == (200, {})
    status, found = rpc("ListMetrics", {"Namespace": "Lab"})
    assert [each["MetricName"] for each in found["Metrics"]] == ["m"]
    status, refusal = rpc("PutDashboard", {})
    assert (status, refusal["__type"]) == (501, "NotImplemented")
    _, _, body = raw(
        served,
        body=b"Action=ListMetrics&Version=2010-08-01&Namespace=Lab",
        service="monitoring",
        content_type="application/x-www-form-urlencoded",
    )
    assert b"<MetricName>m</MetricName>" in body
    assert served.client("cloudwatch").list_metrics(Namespace="Lab")["Metrics"]


@pytest.mark.parametrize("body", [b"\xff", b"\x81", b"\xc1\x61x", b"{}", b"\xa1\x41k\x01"])
def test_what_is_no_cbor(served: Served, body: bytes) -> None:
    status, _, answer = raw(
        served,
        body=body,
        service="kinesis",
        x_amz_target="Kinesis_20131202.ListStreams",
        content_type="application/x-amz-cbor-1.1",
    )
    assert (status, cbor2.loads(answer)["__type"]) == (400, "SerializationException")


# -- requests that are none -----------------------------------------------------------------------


def ask(operation: str = "", service: str | None = "dynamodb", **more: Any) -> dict[str, Any]:
    """What to ask: a JSON operation, or a `path`."""
    prefix = {"dynamodb": "DynamoDB_20120810.", "kinesis": "Kinesis_20131202."}
    named = target(prefix.get(service or "", "") + operation) if operation else {}
    return {"service": service, **named, **more}


def get(path: str, service: str | None = None, **more: Any) -> dict[str, Any]:
    return {"path": path, "service": service, "method": "GET", **more}


DEEP = b"[" * 100_000
HALF = b'{"StreamName": "s", "Data": "", "PartitionKey": "\\ud800"}'
UNSIGNED = "MissingAuthenticationTokenException"
UNKNOWN = "UnknownOperationException"
UNREADABLE = "SerializationException"


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        (ask("DynamoDB_20120810.ListTables", None), 400, UNSIGNED),
        (ask("Kinesis_20131202.ListStreams", None), 403, UNSIGNED),
        (get("/2015-03-31/functions"), 403, UNSIGNED),
        (get("/bucket"), 403, "AccessDenied"),
        (get("/?Action=ListRoles&Version=2010-05-08"), 403, "MissingAuthenticationToken"),
        (ask(), 400, UNKNOWN),
        (ask("Drop"), 400, UNKNOWN),
        (ask("Nobody_20120810.ListTables", "sqs"), 400, UNKNOWN),
        (ask(x_amz_target=""), 400, UNKNOWN),
        (ask("ListTables", method="PUT"), 400, UNKNOWN),
        (get("/2015-03-31/dysfunctions", "lambda"), 404, UNKNOWN),
        (ask(service="s3", path="/bucket", method="PATCH"), 405, "MethodNotAllowed"),
        (ask(service="iam"), 400, "MissingAction"),
        (get("/?Action=Nonsense", "iam"), 400, "InvalidAction"),
        (get("/?Action=DescribeInstances", "ec2"), 501, "NotImplemented"),
        (ask("CreateBackup"), 501, "NotImplemented"),
        (ask("PutItem", body=b"{"), 400, UNREADABLE),
        (ask("AmazonSQS.ListQueues", "sqs", body=b"{"), 400, UNREADABLE),
        (ask("PutItem", body=DEEP), 400, UNREADABLE),
        (ask("PutRecord", "kinesis", body=DEEP), 400, UNREADABLE),
        (ask("PutRecord", "kinesis", body=HALF), 400, "ResourceNotFoundException"),
        (ask("ListStreams", "kinesis", content_encoding="gzip", body=b"x"), 400, UNREADABLE),
        (
            ask(service="s3", path="/b/key", method="PUT", content_encoding="aws-chunked"),
            400,
            UNREADABLE,
        ),
        (ask(x_padding="x" * 70_000), 400, "RequestHeaderSectionTooLarge"),
    ],
)
def test_a_malformed_request_gets_awss_own_error(
    served: Served, asked: dict[str, Any], status: int, code: str
) -> None:
    got, headers, body = raw(served, **asked)
    told = headers.get("x-amzn-errortype", "")
    if not told:
        told = body.decode().partition("<Code>")[2].partition("</Code>")[0]
    assert (got, told) == (status, code)
    assert headers.get("x-amzn-requestid") or headers.get("x-amz-request-id")


def test_a_request_that_is_too_large(served: Served) -> None:
    body = b" " * (LARGEST_BODY + 1)
    asked = target("DynamoDB_20120810.ListTables")
    status, headers, _ = raw(served, body=body, service="dynamodb", **asked)
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")


def exchange(served: Served, *sent: bytes, answers: int = 1) -> bytes:
    """What comes back over one connection, until so many answers are there or it is closed."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        got = b""
        for each in sent:
            connection.sendall(each)
        while got.count(b"HTTP/1.1 ") < answers or b"\r\n\r\n" not in got:
            more = connection.recv(100_000)
            if not more:
                break
            got += more
        return got


def test_a_client_may_ask_before_it_sends_too_much(served: Served) -> None:
    head = (
        "POST / HTTP/1.1\r\nhost: here\r\nexpect: 100-continue\r\n"
        f"x-amz-target: DynamoDB_20120810.ListTables\r\ncontent-length: {LARGEST_BODY + 1}\r\n\r\n"
    )
    assert exchange(served, head.encode()).startswith(b"HTTP/1.1 413 ")


GOOD = b"GET /_localstack/health HTTP/1.1\r\nhost: here\r\n\r\n"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http(served: Served, nonsense: bytes) -> None:
    assert exchange(served, nonsense).startswith(b"HTTP/1.1 4")


def test_who_begins_with_http_2_is_answered_in_it(served: Served) -> None:
    settings = b"\0\0\0\x04\0\0\0\0\0"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        assert connection.recv(100)[3] == settings[3]


def test_a_body_may_begin_as_http_2_does(served: Served) -> None:
    body = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    head = f"PUT /nowhere/key HTTP/1.1\r\nhost: here\r\nauthorization: {sign('s3')}\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        asks = f"{head}expect: 100-continue\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(asks.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # the body comes by itself
        connection.sendall(body)
        assert connection.recv(100).startswith(b"HTTP/1.1 404 ")


def test_one_connection_for_many_requests_and_for_pipelined_ones(served: Served) -> None:
    assert exchange(served, GOOD, GOOD, GOOD, answers=3).count(b"HTTP/1.1 200 OK") == 3


def test_an_upgrade_that_is_not_offered_is_no_obstacle(served: Served) -> None:
    """Java's own HTTP client offers HTTP/2 with its first request."""
    body = b"{}"
    head = (
        "POST / HTTP/1.1\r\nhost: here\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
        f"http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
        f"authorization: {sign('dynamodb')}\r\nx-amz-target: DynamoDB_20120810.ListTables\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    assert exchange(served, head.encode(), body).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("moment", ["NaN", "-Infinity", "1e400", "-1e308"])
@pytest.mark.parametrize(
    "members", ['"StreamCreationTimestamp":', '"ShardFilter":{"Type":"AT_TIMESTAMP","Timestamp":']
)
def test_a_moment_that_no_clock_shows(served: Served, members: str, moment: str) -> None:
    end = "}}" if "{" in members else "}"
    body = f'{{"StreamName":"nowhere",{members}{moment}{end}'.encode()
    asked = target("Kinesis_20131202.ListShards")
    status, _, answer = raw(served, "POST", "/", body, "kinesis", **asked)
    assert (status, json.loads(answer)["__type"]) == (400, "SerializationException")


# -- the same world -------------------------------------------------------------------------------


def deploy(served: Served, name: str, source: str) -> None:
    iam, role = served.client("iam"), f"{name}Role"
    made = iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))
    document = {"Version": "2012-10-17", "Statement": [EVERYTHING]}
    iam.put_role_policy(RoleName=role, PolicyName="all", PolicyDocument=json.dumps(document))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("code.py", source)
    served.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="code.handler",
        Role=made["Role"]["Arn"],
        Code={"ZipFile": packed.getvalue()},
    )


def test_an_invocation_is_answered_when_it_ends(served: Served) -> None:
    deploy(
        served,
        "Sleeper",
        "import time\n\n"
        "def handler(event, context):\n    time.sleep(2)\n    return {'got': event}\n",
    )
    invoked = served.client("lambda").invoke(FunctionName="Sleeper", Payload=b'{"a": 1}')
    assert json.loads(invoked["Payload"].read()) == {"got": {"a": 1}}
    with pytest.raises(ClientError) as caught:
        served.client("lambda").invoke(FunctionName="Sleeper", Payload=b"{")
    assert code_of(caught) == (400, "InvalidRequestContentException")


@pytest.mark.slow
def test_the_books_pipeline_from_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab's other target, on the lab's own server: localstack-client finds the way.

    At speed 1, as StateLambda drops messages whose sender's clock is a minute behind its own.
    """
    monkeypatch.setenv("LAB_PROGRESS", "0")
    with serving() as served:
        monkeypatch.setenv("AWS_ENDPOINT_URL", served.address)
        with lu.open_lab("localstack") as lab:
            assert lab.doctor().ready
            pipeline = lu.pipeline.deploy(lab)
            pipeline.connect(lab)
            played = lu.pipeline.play_round(lab, pipeline, seed=1, n=1000, settle=False)
            assert played.points == 100, played.report()
            assert played.message_count == 1000
        assert served.client("dynamodb").list_tables()["TableNames"] == []


def test_a_function_that_calls_the_lab_while_requests_come(served: Served) -> None:
    dynamodb = served.client("dynamodb")
    arn = make_table(
        dynamodb,
        "Source",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )["LatestStreamArn"]
    make_table(dynamodb, "Copy")
    deploy(
        served,
        "Copier",
        "import boto3\n\ndef handler(event, context):\n"
        "    table = boto3.resource('dynamodb').Table('Copy')\n"
        "    for record in event['Records']:\n"
        "        table.put_item(Item={'id': record['dynamodb']['Keys']['id']['S']})\n",
    )
    served.client("lambda").create_event_source_mapping(
        EventSourceArn=arn, FunctionName="Copier", StartingPosition="TRIM_HORIZON"
    )
    names = [f"item {number}" for number in range(50)]
    for name in names:
        dynamodb.put_item(TableName="Source", Item={"id": {"S": name}})
    deadline = time.monotonic() + 20
    copied: list[str] = []
    while sorted(copied) != sorted(names) and time.monotonic() < deadline:
        items = dynamodb.scan(TableName="Copy")["Items"]
        copied = [item["id"]["S"] for item in items]
    assert sorted(copied) == sorted(names)


def test_a_client_that_goes_away_harms_nobody(served: Served) -> None:
    half = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 100\r\n\r\nhalf"
    for sent in (b"", half[:20], half, GOOD):
        with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
            connection.sendall(sent)
    assert raw(served, "GET", "/_localstack/health")[0] == 200


def test_who_asks_is_who_owns_the_key() -> None:
    with serving() as served:
        iam, sts = served.client("iam"), served.client("sts")
        assert sts.get_caller_identity()["Arn"] == "arn:aws:iam::123456789012:root"
        iam.create_user(UserName="reader")
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        reader = boto3.client(
            "sts",
            endpoint_url=served.address,
            region_name="us-east-1",
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
        )
        assert reader.get_caller_identity()["Arn"] == "arn:aws:iam::123456789012:user/reader"
