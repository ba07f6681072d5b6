"""Two labs share nothing, a closed one leaves nothing, none reaches outside; a seed is a world."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import greenlet
import pytest
from botocore import handlers
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from ministack.core import responses

import lab_utils as lu
from lab_utils.emulator import backing, sessions
from lab_utils.emulator.backing import Backing
from lab_utils.emulator.scheduler import GuestGreenlet
from lab_utils.emulator.world import World
from lab_utils.lab import Lab

ALLOW_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
KEY = {
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}
VIEW = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
COUNTER = textwrap.dedent("""
    import random, time, uuid, boto3
    table = boto3.resource("dynamodb").Table("Sums")

    def handler(event, context):
        print("got", len(event["Records"]), uuid.uuid4(), random.random())
        time.sleep(random.random())
        table.update_item(Key={"id": "n"}, UpdateExpression="ADD n :n",
                          ExpressionAttributeValues={":n": len(event["Records"])})
    """)


def build(lab: Lab) -> dict[str, Any]:
    """One of everything, and a little traffic; everything that was answered and came of it."""
    seen: dict[str, Any] = {}
    dynamodb, sqs, s3 = lab.clients("dynamodb", "sqs", "s3")
    dynamodb.create_table(TableName="Sums", **KEY)
    made = dynamodb.create_table(TableName="Source", StreamSpecification=VIEW, **KEY)
    seen["table"] = made["TableDescription"]
    stream = seen["table"]["LatestStreamArn"]
    role = lab.role("Counter", ALLOW_ALL)
    seen["role"] = lab.client("iam").get_role(RoleName="Counter")["Role"]["RoleId"]
    lab.deploy_function("Counter", COUNTER, role=role, timeout=10)
    seen["mapping"] = lab.client("lambda").create_event_source_mapping(
        FunctionName="Counter", EventSourceArn=stream, StartingPosition="TRIM_HORIZON"
    )["UUID"]
    for number in range(12):
        dynamodb.put_item(TableName="Source", Item={"id": {"S": f"key-{number}"}})
    lab.clock.advance(minutes=1)
    seen["token"] = dynamodb.transact_write_items(
        ClientRequestToken="token",
        TransactItems=[
            {
                "Update": {
                    "TableName": "Sums",
                    "Key": {"id": {"S": "t"}},
                    "UpdateExpression": "ADD n :n",
                    "ExpressionAttributeValues": {":n": {"N": "1"}},
                }
            }
        ],
    )
    url = sqs.create_queue(QueueName="queue")["QueueUrl"]
    seen["sent"] = sqs.send_message(QueueUrl=url, MessageBody="hello")
    seen["received"] = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)["Messages"]
    topic = lab.client("sns").create_topic(Name="topic")["TopicArn"]
    seen["published"] = lab.client("sns").publish(TopicArn=topic, Message="hello")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="key", Body=b"bytes \x00\xff")
    found = s3.get_object(Bucket="bucket", Key="key")
    assert found.pop("Body").read() == b"bytes \x00\xff"
    seen["object"] = found
    with pytest.raises(ClientError) as absent:
        s3.get_object(Bucket="bucket", Key="absent")
    seen["absent"] = absent.value.response
    with pytest.raises(ClientError) as refused:
        lab.client("iam").get_role(RoleName="absent")
    seen["refused"] = refused.value.response
    lab.client("kinesis").create_stream(StreamName="stream", ShardCount=2)
    lab.clock.advance(minutes=1)
    seen["record"] = lab.client("kinesis").put_record(
        StreamName="stream", Data=b"data", PartitionKey="key"
    )
    lab.client("cloudwatch").put_metric_data(
        Namespace="Lab", MetricData=[{"MetricName": "count", "Value": 1}]
    )
    logs = lab.client("logs")
    streams = logs.describe_log_streams(logGroupName="/aws/lambda/Counter")["logStreams"]
    seen["logs"] = [
        logs.get_log_events(
            logGroupName="/aws/lambda/Counter", logStreamName=each["logStreamName"]
        )["events"]
        for each in streams
    ]
    seen["caller"] = lab.client("sts").get_caller_identity()["Account"]
    seen["sums"] = sorted(dynamodb.scan(TableName="Sums")["Items"], key=str)
    seen["records"] = read_stream(lab, stream)
    seen["invocations"] = lab.invocations().to_dict("records")
    seen["partitions"] = lab.partitions("Source").to_dict("records")
    seen["now"] = lab.clock.now()
    return seen


def read_stream(lab: Lab, arn: str) -> list[Any]:
    streams, records = lab.client("dynamodbstreams"), []
    described = streams.describe_stream(StreamArn=arn)["StreamDescription"]
    for shard in described["Shards"]:
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        page = streams.get_records(ShardIterator=iterator["ShardIterator"])
        records.append([shard, page["Records"], page["NextShardIterator"]])
    return records


def text(seen: Any) -> str:
    return json.dumps(seen, default=str, sort_keys=True)


# -- two labs -----------------------------------------------------------------------------------


def test_the_small_world_works(lab: Lab) -> None:
    seen = build(lab)
    assert seen["sums"] == [
        {"id": {"S": "n"}, "n": {"N": "12"}},
        {"id": {"S": "t"}, "n": {"N": "1"}},
    ]
    assert seen["received"][0]["Body"] == "hello"
    assert seen["caller"] == "123456789012"
    assert any("got" in event["message"] for each in seen["logs"] for event in each)


def inventory(lab: Lab) -> dict[str, int]:
    return {
        "tables": len(lab.client("dynamodb").list_tables()["TableNames"]),
        "streams": len(lab.client("dynamodbstreams").list_streams()["Streams"]),
        "kinesis": len(lab.client("kinesis").list_streams()["StreamNames"]),
        "functions": len(lab.client("lambda").list_functions()["Functions"]),
        "mappings": len(lab.client("lambda").list_event_source_mappings()["EventSourceMappings"]),
        "roles": len(lab.client("iam").list_roles()["Roles"]),
        "queues": len(lab.client("sqs").list_queues().get("QueueUrls", [])),
        "topics": len(lab.client("sns").list_topics()["Topics"]),
        "buckets": len(lab.client("s3").list_buckets()["Buckets"]),
        "log groups": len(lab.client("logs").describe_log_groups()["logGroups"]),
        "metrics": len(lab.client("cloudwatch").list_metrics()["Metrics"]),
        "invocations": len(lab.invocations()),
    }


EMPTY = dict.fromkeys(
    (
        "tables",
        "streams",
        "kinesis",
        "functions",
        "mappings",
        "roles",
        "queues",
        "topics",
        "buckets",
        "log groups",
        "metrics",
        "invocations",
    ),
    0,
)


def test_two_labs_do_not_see_each_other() -> None:
    with lu.open_lab("embedded") as one, lu.open_lab("embedded") as two:
        first = build(one)
        full = inventory(one)
        assert all(count > 0 for count in full.values())
        assert inventory(two) == EMPTY
        assert two.clock.now() < one.clock.now()
        second = build(two)
        assert text(second["records"]) != "[]"
        assert second["sums"] == first["sums"], "the same names and the same token, done again"
        assert inventory(one) == full
        two.client("dynamodb").delete_table(TableName="Source")
        two.client("s3").delete_object(Bucket="bucket", Key="key")
        two.client("iam").delete_role_policy(RoleName="Counter", PolicyName="lab")
        assert one.client("s3").get_object(Bucket="bucket", Key="key")["ContentLength"] == 8
        assert one.client("iam").get_role_policy(RoleName="Counter", PolicyName="lab")
        one.client("dynamodb").put_item(TableName="Source", Item={"id": {"S": "again"}})
        one.clock.advance(seconds=5)
        assert {"id": {"S": "n"}, "n": {"N": "13"}} in one.client("dynamodb").scan(
            TableName="Sums"
        )["Items"], "its functions still have their role"


def test_labs_take_turns_call_by_call() -> None:
    with lu.open_lab("embedded") as one, lu.open_lab("embedded") as two:
        for lab in (one, two):
            lab.client("dynamodb").create_table(TableName="Table", **KEY)
        for number in range(10):
            for lab, name in ((one, "one"), (two, "two")):
                lab.client("dynamodb").put_item(
                    TableName="Table", Item={"id": {"S": f"{name}-{number}"}}
                )
        for lab, name in ((one, "one"), (two, "two")):
            items = lab.client("dynamodb").scan(TableName="Table")["Items"]
            assert {each["id"]["S"] for each in items} == {f"{name}-{n}" for n in range(10)}


def test_a_token_of_one_lab_is_not_swept_by_another() -> None:
    transaction = {
        "ClientRequestToken": "token",
        "TransactStatements": [{"Statement": "INSERT INTO \"Table\" VALUE {'id': 'a'}"}],
    }
    with lu.open_lab("embedded") as one, lu.open_lab("embedded") as two:
        for lab in (one, two):
            lab.client("dynamodb").create_table(TableName="Table", **KEY)
        one.client("dynamodb").execute_transaction(**transaction)
        two.clock.advance(hours=24)
        two.client("dynamodb").execute_transaction(**transaction)
        one.client("dynamodb").execute_transaction(**transaction)
        assert one.client("dynamodb").scan(TableName="Table")["Count"] == 1


def test_closing_one_lab_leaves_the_other_running() -> None:
    one, two = lu.open_lab("embedded"), lu.open_lab("embedded")
    build(one)
    build(two)
    before = inventory(two)
    one.close()
    assert inventory(two) == before
    two.client("dynamodb").put_item(TableName="Source", Item={"id": {"S": "again"}})
    two.clock.advance(seconds=5)
    assert {"id": {"S": "n"}, "n": {"N": "13"}} in two.client("dynamodb").scan(TableName="Sums")[
        "Items"
    ]
    two.close()


# -- nothing is left ----------------------------------------------------------------------------


def every_store() -> dict[tuple[str, str], Any]:
    return {
        (name, attribute): value._data
        for name, module in Backing._loaded.items()
        for attribute, value in vars(module).items()
        if isinstance(value, (responses.AccountScopedDict, responses.AccountRegionScopedDict))
    }


def waiting_guests() -> list[Any]:
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, GuestGreenlet) and each]


def test_close_leaves_nothing() -> None:
    lu.open_lab("embedded").close()
    before = {
        "threads": threading.active_count(),
        "signals": [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGALRM)],
        "handlers": list(logging.getLogger().handlers),
        "level": logging.getLogger().level,
        "stdout": (sys.stdout, sys.stderr),
        "environment": dict(os.environ),
        "botocore": list(handlers.BUILTIN_HANDLERS),
        "guests": len(waiting_guests()),
    }
    lab = lu.open_lab("embedded")
    build(lab)
    sleeper = "import time\ndef handler(event, context):\n    time.sleep(800)\n"
    lab.deploy_function("Sleeper", sleeper, role=lab.role("Counter", ALLOW_ALL), timeout=900)
    lab.client("lambda").invoke(FunctionName="Sleeper", InvocationType="Event", Payload="{}")
    lab.clock.advance(seconds=10)
    assert len(waiting_guests()) == before["guests"] + 1
    threads = threading.active_count()
    lab.close()
    assert every_store() == backing._PRISTINE
    assert Backing._present is None
    assert {
        "threads": before["threads"],
        "signals": [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGALRM)],
        "handlers": list(logging.getLogger().handlers),
        "level": logging.getLogger().level,
        "stdout": (sys.stdout, sys.stderr),
        "environment": dict(os.environ),
        "botocore": list(handlers.BUILTIN_HANDLERS),
        "guests": len(waiting_guests()),
    } == before
    assert threads - before["threads"] <= 1, "MiniStack's own, which sleeps and finds nothing"
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert not isinstance(greenlet.getcurrent(), GuestGreenlet)


def test_the_net_in_botocore_goes_with_the_last_lab() -> None:
    outside = World._open
    one, two = lu.open_lab("embedded"), lu.open_lab("embedded")
    assert sessions._NET in handlers.BUILTIN_HANDLERS
    one.close()
    one.close()
    assert sessions._NET in handlers.BUILTIN_HANDLERS
    two.close()
    assert World._open == outside
    if not outside:
        assert sessions._NET not in handlers.BUILTIN_HANDLERS


def test_a_lab_begins_again_after_reset(lab: Lab) -> None:
    first = text(build(lab))
    lab.reset()
    assert inventory(lab) == EMPTY
    lab.reset()
    assert text(build(lab)) == first


def test_a_context_closes_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), lu.open_lab("embedded") as lab:
        _ = 1 / 0
    with pytest.raises(lu.LabError, match="This lab is closed"):
        lab.client("sts")


# -- nothing outside is reached -----------------------------------------------------------------

NONSENSE = {
    "AWS_PROFILE": "nobody",
    "AWS_REGION": "mars-north-1",
    "AWS_DEFAULT_REGION": "mars-north-1",
    "AWS_ACCESS_KEY_ID": "nonsense",
    "AWS_SECRET_ACCESS_KEY": "nonsense",
    "AWS_SESSION_TOKEN": "nonsense",
    "AWS_ENDPOINT_URL": "http://192.0.2.1:1",
    "AWS_ENDPOINT_URL_DYNAMODB": "http://192.0.2.1:2",
    "AWS_RETRY_MODE": "adaptive",
    "AWS_MAX_ATTEMPTS": "1",
    "AWS_DEFAULTS_MODE": "auto",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_CA_BUNDLE": "absent.pem",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "absent",
    "AWS_ROLE_ARN": "arn:aws:iam::1:role/absent",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/",
    "HTTPS_PROXY": "http://192.0.2.1:3",
    "HTTP_PROXY": "http://192.0.2.1:3",
    "AWS_STS_REGIONAL_ENDPOINTS": "nonsense",
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "legacy",
}


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("a socket was used")


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which every setting of AWS is a trap, and every socket one too."""
    for name, value in NONSENSE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / ".aws" / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / ".aws" / "credentials"))
    for owner, name in (
        (socket.socket, "connect"),
        (socket.socket, "connect_ex"),
        (socket, "create_connection"),
        (socket, "getaddrinfo"),
        (socket, "gethostbyname"),
    ):
        monkeypatch.setattr(owner, name, refuse)
    return tmp_path


@pytest.mark.usefixtures("sealed")
def test_nothing_is_opened_and_no_credential_read(hostile: Path) -> None:
    assert not (hostile / ".aws").exists()
    with lu.open_lab("embedded") as lab:
        assert build(lab)["sums"][0]["n"] == {"N": "12"}
        assert all(inventory(lab).values())
    assert list(hostile.iterdir()) == []


@pytest.fixture
def trapped(hostile: Path) -> None:
    """Such a machine, with files that say nonsense and cannot even be parsed."""
    (hostile / ".aws").mkdir()
    (hostile / ".aws" / "config").write_text("[default]\nregion = mars-north-1\n[broken\n")
    (hostile / ".aws" / "credentials").write_text("[default]\ncredential_process = false\n")


def test_a_profile_with_traps_is_not_opened(trapped: None, sealed: Any) -> None:
    with lu.open_lab("embedded") as lab:
        lab.client("dynamodb").create_table(TableName="Table", **KEY)
        assert lab.client("dynamodb").meta.region_name == "us-east-1"


@pytest.mark.usefixtures("hostile")
def test_the_environment_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with lu.open_lab("embedded") as lab:
        under_hostility = text(build(lab))
    monkeypatch.undo()
    with lu.open_lab("embedded") as lab:
        assert text(build(lab)) == under_hostility


def test_the_guard_would_notice(sealed: Any) -> None:
    with pytest.raises(AssertionError, match="reached outside"):
        socket.getaddrinfo("localhost", 80)
    with pytest.raises(AssertionError, match="reached outside"), socket.socket() as plug:
        plug.connect(("127.0.0.1", 9))
    assert len(sealed.seen) == 2
    sealed.seen.clear()


@pytest.mark.usefixtures("sealed")
def test_a_handler_reaches_nothing_else_however_it_makes_its_client(lab: Lab) -> None:
    source = textwrap.dedent("""
        import boto3, boto3.session, botocore.session
        from botocore.config import Config

        MAKERS = [
            lambda: boto3.client("dynamodb"),
            lambda: boto3.resource("dynamodb").meta.client,
            lambda: boto3.Session().client("dynamodb"),
            lambda: boto3.session.Session(region_name="us-east-1").client("dynamodb"),
            lambda: botocore.session.get_session().create_client("dynamodb"),
            lambda: boto3.client("dynamodb", endpoint_url="http://192.0.2.1:1"),
            lambda: boto3.client("dynamodb", config=Config(
                retries={"mode": "standard"}, proxies={"https": "http://192.0.2.1:1"})),
            lambda: boto3.client("dynamodb", aws_access_key_id="a", aws_secret_access_key="b"),
        ]

        def handler(event, context):
            return [make().list_tables()["TableNames"] for make in MAKERS]
        """)
    lab.client("dynamodb").create_table(TableName="Table", **KEY)
    lab.deploy_function("Maker", source, role=lab.role("Maker", ALLOW_ALL))
    answer = lab.client("lambda").invoke(FunctionName="Maker")
    assert json.loads(answer["Payload"].read()) == [["Table"]] * 8


def test_the_readers_own_boto3_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    default = boto3.DEFAULT_SESSION
    with lu.open_lab("embedded") as lab:
        build(lab)
        mine = botocore.session.get_session().create_client(
            "dynamodb",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            endpoint_url="http://127.0.0.1:9",
            config=Config(connect_timeout=0.2, retries={"total_max_attempts": 1}),
        )
        assert mine.meta.region_name == "eu-west-1"
        with pytest.raises(EndpointConnectionError):
            mine.list_tables()
    assert boto3.DEFAULT_SESSION is default


# -- Regions ------------------------------------------------------------------------------------


def test_a_client_of_another_region_finds_nothing(lab: Lab) -> None:
    source = textwrap.dedent("""
        import boto3, botocore.exceptions

        def handler(event, context):
            client = boto3.client("dynamodb", region_name=event)
            try:
                return client.describe_table(TableName="Table")["Table"]["TableArn"]
            except botocore.exceptions.ClientError as refused:
                return refused.response["Error"]["Code"]
            except botocore.exceptions.EndpointConnectionError as refused:
                return str(refused)
        """)
    lab.client("dynamodb").create_table(TableName="Table", **KEY)
    lab.deploy_function("Wrong", source, role=lab.role("Wrong", ALLOW_ALL), timeout=30)

    def ask(region: str) -> Any:
        answer = lab.client("lambda").invoke(FunctionName="Wrong", Payload=json.dumps(region))
        return json.loads(answer["Payload"].read())

    assert ask("eu-west-1") == "ResourceNotFoundException"
    assert ask("us-east-1") == "arn:aws:dynamodb:us-east-1:123456789012:table/Table"
    assert (
        ask("mars")
        == 'Could not connect to the endpoint URL: "https://dynamodb.mars.amazonaws.com/"'
    )


def test_regions_keep_their_own_tables_and_streams(lab: Lab) -> None:
    world = lab._target.world  # type: ignore[attr-defined]
    make = world.session.create_client
    arns = {}
    for region in ("us-east-1", "eu-west-1"):
        made = make("dynamodb", region_name=region).create_table(
            TableName="Table", StreamSpecification=VIEW, **KEY
        )["TableDescription"]
        arns[region] = made["LatestStreamArn"]
        assert f":{region}:" in made["TableArn"]
        make("dynamodb", region_name=region).put_item(TableName="Table", Item={"id": {"S": region}})
    for region, arn in arns.items():
        streams = make("dynamodbstreams", region_name=region)
        assert [each["StreamArn"] for each in streams.list_streams()["Streams"]] == [arn]
        other = arns["eu-west-1" if region == "us-east-1" else "us-east-1"]
        with pytest.raises(ClientError, match="not found"):
            streams.describe_stream(StreamArn=other)
        stored = make("dynamodb", region_name=region).scan(TableName="Table")["Items"]
        assert stored == [{"id": {"S": region}}]


# -- the same again -----------------------------------------------------------------------------


def run(seed: int) -> str:
    with lu.open_lab("embedded", seed=seed) as lab:
        return text(build(lab))


def test_the_same_seed_gives_the_same_world_to_the_byte() -> None:
    assert run(7) == run(7)


def test_another_seed_gives_another_world() -> None:
    one, two = json.loads(run(1)), json.loads(run(2))
    for name in (
        "role",
        "mapping",
        "table",
        "received",
        "records",
        "invocations",
        "logs",
        "record",
        "published",
        "object",
    ):
        assert text(one[name]) != text(two[name]), name
    assert one["sums"] == two["sums"], "but the sums come out right in each"


def test_a_lab_does_not_shift_another_ones_luck() -> None:
    alone = run(3)
    with lu.open_lab("embedded", seed=4) as other:
        build(other)
        assert run(3) == alone


def test_the_modules_random_numbers_are_not_touched() -> None:
    import random

    random.seed(5)
    expected = random.Random(5).random()
    run(0)
    assert random.random() == expected


def test_no_two_sessions_of_a_lab_draw_the_same_tokens() -> None:
    """A cell's transaction is never taken for one that a function made, nor the other way round."""
    world = World()
    sessions = [world.session, world.guest_session("us-east-1"), world.guest_session("eu-west-1")]
    drawn = [each.lab_options()["rng"].getrandbits(128) for each in sessions]
    world.close()
    assert len(set(drawn)) == 3
