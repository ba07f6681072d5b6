"""The second target: the same lab on a server that speaks like LocalStack."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from running import EVERYTHING, code_of

import lab_utils as lu
from lab_utils import sweep
from lab_utils.__main__ import main
from lab_utils.errors import LabClosed, LabError, NotOnThisTarget
from lab_utils.targets import FEATURES, SERVICES

pytestmark = pytest.mark.slow

HELLO = "def handler(event, context):\n    return {'hello': event}\n"


@pytest.fixture
def there(elsewhere, monkeypatch):
    """The environment of a reader who chose LocalStack."""
    monkeypatch.setenv("LAB_TARGET", "localstack")
    monkeypatch.setenv("AWS_ENDPOINT_URL", elsewhere)
    monkeypatch.setenv("LAB_PROGRESS", "0")
    return elsewhere


@pytest.fixture
def lab(there):
    with lu.open_lab() as opened:
        yield opened


def names(lab):
    """Everything of the lab's kinds that is there, whoever made it."""
    return {
        "tables": lab.client("dynamodb").list_tables()["TableNames"],
        "streams": lab.client("kinesis").list_streams()["StreamNames"],
        "functions": [
            each["FunctionName"] for each in lab.client("lambda").list_functions()["Functions"]
        ],
        "mappings": [
            each["UUID"]
            for each in lab.client("lambda").list_event_source_mappings()["EventSourceMappings"]
        ],
        "roles": [each["RoleName"] for each in lab.client("iam").list_roles()["Roles"]],
        "policies": [
            each["PolicyName"]
            for each in lab.client("iam").list_policies(Scope="Local")["Policies"]
        ],
        "queues": lab.client("sqs").list_queues().get("QueueUrls", []),
        "topics": [each["TopicArn"] for each in lab.client("sns").list_topics()["Topics"]],
        "buckets": [each["Name"] for each in lab.client("s3").list_buckets()["Buckets"]],
        "log groups": [
            each["logGroupName"] for each in lab.client("logs").describe_log_groups()["logGroups"]
        ],
    }


def table(lab, name):
    lab.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )


def test_it_says_what_it_is_and_what_it_can_not(lab):
    assert lab.target == "localstack"
    assert repr(lab) == "<lab on localstack, us-east-1, <wall clock>>"
    for feature in ("time_travel", "partitions", "pollers", "role_check"):
        assert not lab.can(feature)
    for act in (
        lambda: lab.clock.advance(hours=1),
        lambda: lab.partitions("T"),
        lambda: lab.split_partition("T", 1),
        lab.tries,
        lab.backlog,
    ):
        with pytest.raises(NotOnThisTarget, match="LAB_TARGET=embedded"):
            act()


def test_the_doctor_says_that_it_is_ready_and_what_it_lacks(lab):
    before = names(lab)
    found = lab.doctor()
    assert found.ready, found
    whats = ["libraries", "endpoint", "token", *SERVICES, "functions"]
    assert [check.what for check in found.checks] == whats
    assert repr(found).startswith("localstack: ready for class\n")
    assert "kinesis: answers and is available" in repr(found)
    assert repr(found).count("this target cannot") == sum(not lab.can(each) for each in FEATURES)
    assert names(lab) == before, "what it made is gone"


# Service and operation; LocalStack's words (its aws/handlers/service_plugin.py, and pull requests
# 12547 and before); what the remedy says.
REFUSALS = [
    ("kinesis.ListStreams", "Please check your 'SERVICES' configuration variable", "SERVICES, or"),
    ("sqs.ListQueues", "either not included in your current license plan or", "your plan at"),
    ("sns.ListTopics", "not yet implemented or pro feature", "set LOCALSTACK_AUTH_TOKEN"),
    ("iam.ListRoles", "exception while calling", "`docker compose logs localstack` says why"),
]


def test_the_doctor_names_what_does_not_answer(lab):
    for call, message, _ in REFUSALS:
        service, operation = call.split(".")

        def fail(message=message, operation=operation, **_):
            error = {"Error": {"Code": "InternalFailure", "Message": message}}
            raise ClientError(error, operation)

        client = lab.client(service, Config())  # it has events of its own
        client.meta.events.register(f"before-call.{call}", fail)
        lab._clients[service] = client
    found = lab.doctor()
    lab._clients.clear()
    assert not found.ready
    ill = {check.what: check for check in found.checks if not check.well}
    for call, message, remedy in REFUSALS:
        check = ill.pop(call.split(".")[0])
        assert message in check.found
        assert remedy in check.remedy
        assert f"NO  {check.what}: {check.found} -> {check.remedy}" in repr(found)
    assert not ill


def test_the_doctor_sees_that_functions_can_not_run_for_want_of_docker(lab):
    # LocalStack's services/lambda_/invocation/version_manager.py says so in the function's state.
    before = names(lab)

    def fail(parsed, **_):
        reason = "Error while creating lambda: Docker not available"
        parsed.update(State="Failed", StateReasonCode="InternalError", StateReason=reason)

    functions = lab.client("lambda")
    functions.meta.events.register("after-call.lambda.GetFunctionConfiguration", fail)
    check = lab.doctor().checks[-1]
    functions.meta.events.unregister("after-call.lambda.GetFunctionConfiguration", fail)
    assert (check.what, check.well) == ("functions", False)
    assert re.fullmatch(
        r"Function doctor-lab-\S+ failed \(Error while creating lambda: Docker not available\): "
        r"mount Docker's socket into LocalStack's container, as compose.yaml does, and start it "
        r"again\.",
        check.found,
    )
    assert not check.remedy
    assert names(lab) == before, "what it made is gone all the same"


def test_the_doctor_sees_that_a_function_answers_wrongly(lab, monkeypatch):
    monkeypatch.setattr("lab_utils.doctor.HELLO", "def handler(event, context):\n    1 / 0\n")
    check = lab.doctor().checks[-1]
    assert not check.well
    assert "division by zero" in check.found


@pytest.mark.parametrize("target", ["localstack", "embedded"])
def test_the_doctor_can_be_asked_without_a_notebook(there, capsys, target):
    assert main(["doctor", "--target", target]) == 0
    assert f"{target}: ready for class\n" in capsys.readouterr().out


def test_the_doctor_without_a_notebook_says_what_is_not_well(there, monkeypatch):
    monkeypatch.setattr("lab_utils.doctor.HELLO", "def handler(event, context):\n    1 / 0\n")
    assert main(["doctor"]) == 1


def test_the_doctor_says_what_stands_in_the_way_of_a_lab(there, capsys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{there}/else")
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("LocalStack answers at the root of an address")
    assert not captured.out


def test_two_hundred_messages_are_a_hundred_points_and_leave_nothing(there):
    with lu.open_lab() as lab:
        before = names(lab)
        pipeline = lu.pipeline.deploy(lab)
        assert lu.pipeline.deploy(lab) == pipeline, "deploying twice changes nothing"
        pipeline.connect(lab)
        played = lu.pipeline.play_round(lab, pipeline, seed=1, n=200)
        assert played.points == 100, played.report()
        assert played.message_count == 200
        during = names(lab)
        assert len(during["tables"]) == len(before["tables"]) + 4
        assert len(during["mappings"]) == len(before["mappings"]) + 3
    with lu.open_lab() as lab:
        assert names(lab) == before


def test_a_function_is_deployed_changed_and_deployed_again(lab):
    role = lab.role("FRole")
    for answer in ("one", "two"):
        source = f"def handler(event, context):\n    return '{answer}'\n"
        arn = lab.deploy_function("F", source, role=role)
        assert arn.endswith(":function:F")
        got = lab.client("lambda").invoke(FunctionName="F")
        assert json.loads(got["Payload"].read()) == answer


def test_closing_removes_what_the_lab_made_and_nothing_else(there):
    with lu.open_lab() as owner:
        table(owner, "Orders")
        owner.client("kinesis").create_stream(StreamName="Orders", ShardCount=1)
        role = owner.role("OrdersRole")
        owner.deploy_function("Orders", HELLO, role=role)
        owner.client("lambda").invoke(FunctionName="Orders")
        owner.client("logs").create_log_group(logGroupName="/aws/lambda/Older")
        foreign = names(owner)

        with lu.open_lab() as lab:
            for name in ("Orders2", "MyOrders"):
                table(lab, name)
                lab.client("kinesis").create_stream(StreamName=name, ShardCount=1)
                lab.deploy_function(name, HELLO, role=lab.role(f"{name}Role"))
                lab.client("lambda").invoke(FunctionName=name)
            queue = lab.client("sqs").create_queue(QueueName="Orders2")["QueueUrl"]
            lab.client("sqs").send_message(QueueUrl=queue, MessageBody="x")
            lab.client("sns").create_topic(Name="Orders2")
            lab.client("s3").create_bucket(Bucket="orders2")
            lab.client("s3").put_object(Bucket="orders2", Key="a/b", Body=b"x")
            iam = lab.client("iam")
            policy = iam.create_policy(
                PolicyName="Orders2",
                PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [EVERYTHING]}),
            )["Policy"]["Arn"]
            iam.attach_role_policy(RoleName="Orders2Role", PolicyArn=policy)
            iam.attach_role_policy(RoleName="OrdersRole", PolicyArn=policy)
            iam.detach_role_policy(RoleName="OrdersRole", PolicyArn=policy)
            with pytest.raises(ClientError):
                table(lab, "Orders")
            assert names(lab) != foreign
        assert names(owner) == foreign


def test_what_somebody_made_anew_is_not_removed(there):
    with lu.open_lab() as owner:
        with lu.open_lab() as lab:
            table(lab, "Shared")
            lab.deploy_function("Shared", HELLO, role=lab.role("SharedRole"))
            arn = owner.client("lambda").get_function(FunctionName="Shared")["Configuration"][
                "FunctionArn"
            ]
            lab.client("dynamodb").delete_table(TableName="Shared")
            lab.client("lambda").delete_function(FunctionName=arn)
            table(owner, "Shared")
            owner.deploy_function("Shared", HELLO, role=owner.role("OwnersRole"))
        assert "Shared" in names(owner)["tables"]
        assert "Shared" in names(owner)["functions"]
        assert "SharedRole" not in names(owner)["roles"]
    with lu.open_lab() as other:
        assert "Shared" not in names(other)["tables"] + names(other)["functions"]


def test_what_is_gone_already_does_no_harm(there):
    with lu.open_lab() as owner, lu.open_lab() as lab:
        table(lab, "Fleeting")
        lab.role("FleetingRole")
        owner.client("dynamodb").delete_table(TableName="Fleeting")


def test_what_can_not_be_removed_is_named_and_tried_again(there, monkeypatch):
    monkeypatch.setattr(sweep, "WAITS", (0.0,))
    lab = lu.open_lab()
    table(lab, "Stuck")
    lab.role("LooseRole")
    refusing = True

    def refuse(**_):
        if refusing:
            raise ClientError(
                {"Error": {"Code": "ResourceInUseException", "Message": "busy"}}, "DeleteTable"
            )

    lab.client("dynamodb").meta.events.register("before-call.dynamodb.DeleteTable", refuse)
    with pytest.raises(LabError, match="remove by hand what is left: table Stuck: "):
        lab.close()
    with lu.open_lab() as other:
        assert "Stuck" in names(other)["tables"]
        assert "LooseRole" not in names(other)["roles"], "the rest is removed all the same"
        refusing = False
        lab.close()
        assert "Stuck" not in names(other)["tables"]


def test_reset_removes_what_was_made_and_the_lab_goes_on(lab):
    table(lab, "Brief")
    lab.reset()
    assert "Brief" not in lab.client("dynamodb").list_tables()["TableNames"]
    table(lab, "Brief")


def test_a_closed_lab_answers_no_more(there):
    lab = lu.open_lab()
    lab.client("dynamodb")
    lab.close()
    lab.close()
    with pytest.raises(LabClosed):
        lab.client("dynamodb")
    with pytest.raises(LabClosed):
        lab.role("Late")


def test_a_wait_is_in_seconds_of_the_wall(lab):
    with pytest.raises(TimeoutError, match=r"0\.2 seconds went by without: Godot comes"):
        lab.wait_until(_godot, timeout=0.2)
    assert lab.wait_until(lambda: 5) == 5


def _godot():
    """Godot comes."""


def test_what_is_not_there_is_told_by_the_target_itself(lab):
    with pytest.raises(ClientError) as caught:
        lab.client("dynamodb").describe_table(TableName="nowhere")
    assert code_of(caught)[1] == "ResourceNotFoundException"


# -- what a kernel that was killed leaves ---------------------------------------------------------

# MiniStack leaves out the tags of CreateStream and CreateBucket, so the lab's clients add them by a
# second call; what is killed between the two leaves a stream or a bucket that nobody can tell.
KILLED = """
import os, signal, sys
import lab_utils as lu

lab, steps = lu.open_lab(), int(sys.argv[1])
queues, topics, buckets = lab.clients("sqs", "sns", "s3")

def pipeline():
    made = lu.pipeline.deploy(lab)
    made.connect(lab)
    lab.client("lambda").invoke(FunctionName=made.names.map_function, Payload=b'{"Records": []}')

for step in (
    lambda: lab.role("StateLambdaRole"),
    lambda: lab.client("kinesis").create_stream(StreamName="IncomingDataStream", ShardCount=20),
    pipeline,
    lambda: queues.create_queue(QueueName="Orders2"),
    lambda: topics.create_topic(Name="Orders2"),
    lambda: buckets.create_bucket(Bucket="orders2"),
    lambda: buckets.put_object(Bucket="orders2", Key="a", Body=b"x"),
)[:steps]:
    step()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def visitor(there):
    """A lab that makes nothing, and only looks."""
    with lu.open_lab() as opened:
        yield opened


@pytest.fixture
def theirs(visitor, there):
    """Things of somebody else, with similar names and tags, until the test is over."""
    session = boto3.Session("anybody", "anything", region_name="us-east-1")
    streams, queues, topics, roles, logs, buckets = (
        session.client(name, endpoint_url=there)
        for name in ("kinesis", "sqs", "sns", "iam", "logs", "s3")
    )
    streams.create_stream(StreamName="IncomingDataStream2", ShardCount=1)
    queue = queues.create_queue(QueueName="Orders", tags={"lab-id": "mine"})["QueueUrl"]
    topic = topics.create_topic(Name="lab-7f3a9c-2611260314")["TopicArn"]
    roles.create_role(RoleName="StateLambdaRole2", AssumeRolePolicyDocument="{}")
    logs.create_log_group(logGroupName="/aws/lambda/StateLambda2")
    buckets.create_bucket(Bucket="orders")
    yield names(visitor)
    streams.delete_stream(StreamName="IncomingDataStream2")
    queues.delete_queue(QueueUrl=queue)
    topics.delete_topic(TopicArn=topic)
    roles.delete_role(RoleName="StateLambdaRole2")
    logs.delete_log_group(logGroupName="/aws/lambda/StateLambda2")
    buckets.delete_bucket(Bucket="orders")


def swept(capsys, *arguments):
    """What the command says; nobody is there to be asked."""
    with pytest.MonkeyPatch.context() as nobody:
        nobody.setattr("sys.stdin", io.StringIO())
        assert main(["sweep", "--target", "localstack", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("steps", [2, 7])
def test_what_a_killed_kernel_left_is_swept_and_nothing_else(visitor, theirs, capsys, steps):
    ended = subprocess.run([sys.executable, "-c", KILLED, str(steps)], check=False)
    assert ended.returncode == -signal.SIGKILL
    left = names(visitor)
    assert left != theirs
    assert steps < 7 or {kind for kind in left if left[kind] == theirs[kind]} == {"policies"}

    shown = swept(capsys)
    assert "StateLambdaRole" in shown
    assert "Nothing is removed, as there is nobody to ask: say --yes." in shown
    assert "Removed" not in swept(capsys, "--expired", "--yes")
    assert names(visitor) == left, "a lab that has not expired may be in use"

    assert "Removed " in swept(capsys, "--yes")
    assert names(visitor) == theirs
    assert "Nothing of any lab is there." in swept(capsys, "--yes")
