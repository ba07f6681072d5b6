"""The lab's contract: what open_lab hands out, and what its methods promise."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import boto3
import pandas as pd
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from running import COLLECTOR, ROOT, connect, function, got, invoke, put, send, stream, table

import lab_utils as lu
from lab_utils.errors import LabClosed, LabError
from lab_utils.targets import SERVICES

# -- opening, closing, beginning again ----------------------------------------------------------


def test_the_embedded_target_is_the_default(monkeypatch):
    monkeypatch.delenv("LAB_TARGET", raising=False)
    with lu.open_lab() as lab:
        assert lab.target == "embedded"
        assert repr(lab) == (
            "<lab on embedded, us-east-1, <virtual clock at 2026-01-05 09:00:00.000000 UTC>>"
        )
    monkeypatch.setenv("LAB_TARGET", "embedded")
    with lu.open_lab() as lab:
        assert lab.target == "embedded"
    monkeypatch.setenv("LAB_TARGET", "mars")
    with lu.open_lab("embedded") as lab:
        assert lab.target == "embedded"


def test_every_service_has_a_client_that_is_made_once(lab):
    for name in SERVICES:
        assert lab.client(name) is lab.client(name)
        assert lab.client(name).meta.region_name in ("us-east-1", "aws-global")
    assert lab.region == "us-east-1"
    dynamodb, streams = lab.clients("dynamodb", "dynamodbstreams")
    assert dynamodb is lab.client("dynamodb")
    assert streams is lab.client("dynamodbstreams")
    assert lab.client("sts").get_caller_identity()["Account"] == "123456789012"


def test_two_labs_do_not_see_each_other(lab):
    with lu.open_lab("embedded") as other:
        for each in (lab, other):
            table(each)
            function(each, COLLECTOR)
        put(lab, "a")
        assert other.client("dynamodb").scan(TableName="Source")["Items"] == []
        other.clock.advance(hours=5)
        assert lab.clock.now() < other.clock.now() - timedelta(hours=4)
        other.client("lambda").delete_function(FunctionName="Worker")
        assert len(lab.client("lambda").list_functions()["Functions"]) == 1
    put(lab, "b")
    assert len(lab.client("dynamodb").scan(TableName="Source")["Items"]) == 2


def test_a_closed_lab_answers_no_more():
    lab = lu.open_lab("embedded")
    dynamodb = lab.client("dynamodb")
    connect(lab, stream(lab), function(lab, COLLECTOR) and "Worker")
    send(lab, "a")
    lab.close()
    lab.close()
    for act in (
        dynamodb.list_tables,
        lambda: lab.client("dynamodb"),
        lambda: lab.client("kinesis"),
        lambda: lab.clock.advance(seconds=1),
        lambda: lab.wait_until(lambda: False),
        lambda: lab.role("R"),
        lambda: function(lab, COLLECTOR),
    ):
        with pytest.raises(LabClosed, match=r"open another with open_lab\(\)"):
            act()


def test_closing_ends_handlers_that_still_run():
    lab = lu.open_lab("embedded")
    function(
        lab,
        """
        import time

        def handler(event, context):
            while True:
                try:
                    time.sleep(10)
                except BaseException:
                    pass
    """,
        timeout=900,
    )
    invoke(lab, InvocationType="Event")
    lab.clock.advance(seconds=30)
    lab.close()


def test_a_lab_is_closed_when_its_block_ends_badly():
    with pytest.raises(ZeroDivisionError), lu.open_lab("embedded") as lab:
        1 / 0  # noqa: B018
    with pytest.raises(LabClosed):
        lab.clock.advance(seconds=1)


def test_reset_begins_again(lab):
    old = lab.client("dynamodb")
    table(lab)
    function(lab, COLLECTOR)
    lab.clock.advance(hours=3)
    lab.reset()
    assert lab.clock.now() == datetime(2026, 1, 5, 9, tzinfo=UTC)
    assert lab.client("dynamodb").list_tables()["TableNames"] == []
    assert lab.client("lambda").list_functions()["Functions"] == []
    assert lab.client("iam").list_roles()["Roles"] == []
    assert lab.invocations().empty
    with pytest.raises(LabClosed):
        old.list_tables()
    table(lab)


def test_the_same_after_reset_as_in_a_new_lab(lab):
    first = story(lab)
    lab.reset()
    assert story(lab) == first
    with lu.open_lab("embedded") as other:
        assert story(other) == first
    with lu.open_lab("embedded", seed=1) as other:
        assert story(other) != first


def story(lab):
    """Ids, times and everything else that a short run shows."""
    arn = table(lab)
    role = lab.role("Role", {"Effect": "Allow", "Action": "*", "Resource": "*"})
    function(
        lab,
        COLLECTOR.replace("print(", "import uuid, random; print(uuid.uuid4(), random.random(), "),
        role=role,
    )
    uuid = connect(lab, arn)
    for number in range(30):
        put(lab, f"k{number % 7}", number)
    lab.clock.advance(seconds=20)
    role_id = lab.client("iam").get_role(RoleName="Role")["Role"]["RoleId"]
    logs = lab.client("logs").filter_log_events(logGroupName="/aws/lambda/Worker")["events"]
    return json.dumps(
        [
            arn,
            uuid,
            role_id,
            logs,
            lab.invocations().to_dict("records"),
            lab.client("sts").get_caller_identity(),
        ],
        default=str,
        sort_keys=True,
    )


DETERMINISM = """
import sys
import lab_utils as lu

with lu.open_lab("embedded", seed=int(sys.argv[1])) as lab:
    pipeline = lu.pipeline.deploy(lab, shards=6)
    pipeline.connect(lab)
    lu.pipeline.set_failures(lab, state=10, map=10, reduce=10)
    lu.pipeline.play_round(lab, pipeline, seed=3, n=400, special=True)
    frame = lab.invocations()
    print(len(frame), frame.to_json(date_unit="us"))
"""


def test_invocations_are_the_same_in_every_process():
    def run(hash_seed, seed="5"):
        done = subprocess.run(
            [sys.executable, "-c", DETERMINISM, seed],
            cwd=ROOT,
            text=True,
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        return done.stdout

    one = run("1")
    assert int(one.split()[0]) > 10
    assert one == run("4242")
    assert one != run("1", seed="6")


def test_an_embedded_lab_opens_no_socket_and_reads_no_credential(monkeypatch, tmp_path):
    monkeypatch.setattr(socket, "socket", _no_socket)
    monkeypatch.setattr(socket, "create_connection", _no_socket)
    monkeypatch.setattr(socket, "getaddrinfo", _no_socket)
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id=x\n[broken")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://192.0.2.1:1")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with lu.open_lab("embedded") as lab:
        assert lab.doctor().ready
        function(
            lab,
            COLLECTOR.replace(
                "import json", "import boto3\n    boto3.client('dynamodb').list_tables()"
            ),
        )
        connect(lab, table(lab))
        put(lab, "a", 1)
        lab.clock.advance(seconds=5)
        assert got(lab) == ["a=1"]


def _no_socket(*_, **__):
    raise AssertionError("the lab opened a socket")


def test_the_readers_own_boto3_is_left_alone(lab):
    before = boto3.client(
        "dynamodb",
        region_name="eu-west-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
        endpoint_url="http://127.0.0.1:9",
        config=Config(retries={"max_attempts": 0}),
    )
    with pytest.raises(Exception, match="Could not connect"):
        before.list_tables()


# -- time ---------------------------------------------------------------------------------------


def test_the_clock_stands_still_until_it_is_moved(lab):
    assert lab.clock.now() == lab.clock.now() == datetime(2026, 1, 5, 9, tzinfo=UTC)
    assert lab.clock.advance(hours=1, minutes=2, seconds=3.5) == lab.clock.now()
    assert lab.clock.now() == datetime(2026, 1, 5, 10, 2, 3, 500_000, tzinfo=UTC)
    lab.client("dynamodb").list_tables()
    assert (
        timedelta(0)
        < lab.clock.now() - datetime(2026, 1, 5, 10, 2, 3, 500_000, tzinfo=UTC)
        < timedelta(seconds=0.1)
    )


def test_time_does_not_go_back(lab):
    with pytest.raises(LabError, match="Time cannot go back by 1:00:00"):
        lab.clock.advance(hours=-1)
    assert lab.clock.now() == datetime(2026, 1, 5, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "span",
    [
        {"hours": float("nan")},
        {"hours": float("inf")},
        {"seconds": "5"},
        {"minutes": None},
        {"hours": 1e30},
        {"hours": 8100 * 365 * 24},
    ],
)
def test_time_does_not_move_by_what_is_no_time(lab, span):
    with pytest.raises(LabError, match="Time cannot move by"):
        lab.clock.advance(**span)
    assert lab.clock.now() == datetime(2026, 1, 5, 9, tzinfo=UTC)
    lab.client("dynamodb").list_tables()


def test_wait_until_returns_what_the_predicate_said(lab):
    began = lab.clock.now()
    assert lab.wait_until(lambda: "at once") == "at once"
    assert lab.clock.now() == began
    assert lab.wait_until(lambda: (lab.clock.now() - began).total_seconds() > 10 and 7) == 7
    assert (lab.clock.now() - began).total_seconds() < 11


def test_wait_until_lets_the_world_run(lab):
    function(lab, "import time\ndef handler(event, context):\n    time.sleep(2)\n")
    invoke(lab, InvocationType="Event")
    lab.wait_until(lambda: len(lab.invocations()) == 1)


def test_a_wait_that_is_too_long_names_what_was_waited_for(lab):
    def the_cows_come_home():
        return False

    def described():
        """The tide turns.

        Which it does not."""

    began = lab.clock.now()
    for predicate, words in (
        (the_cows_come_home, "the cows come home"),
        (described, "The tide turns."),
        (lambda: None, "lambda: None"),
    ):
        with pytest.raises(TimeoutError) as caught:
            lab.wait_until(predicate, timeout=20)
        assert str(caught.value).startswith("20 seconds went by without: ")
        assert words in str(caught.value)
    assert lab.clock.now() - began == timedelta(seconds=60)


def test_a_predicate_that_raises_is_heard(lab):
    with pytest.raises(KeyError):
        lab.wait_until(lambda: {}["x"])
    lab.clock.advance(seconds=1)


# -- functions and roles ------------------------------------------------------------------------


def test_a_role_may_write_logs_and_what_it_is_given(lab):
    arn = lab.role("Role", {"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"})
    assert arn == "arn:aws:iam::123456789012:role/Role"
    policy = lab.client("iam").get_role_policy(RoleName="Role", PolicyName="lab")["PolicyDocument"][
        "Statement"
    ]
    assert [each["Action"] for each in policy][1:] == ["dynamodb:*"]
    assert "logs:PutLogEvents" in policy[0]["Action"]
    assert lab.role("Role") == arn
    policy = lab.client("iam").get_role_policy(RoleName="Role", PolicyName="lab")["PolicyDocument"][
        "Statement"
    ]
    assert len(policy) == 1, "asked again, a role's statements are replaced"
    for wrong in ("dynamodb:*", {"Action": "*"}):
        with pytest.raises(LabError, match="is no IAM statement"):
            lab.role("Role", wrong)


def test_a_function_is_deployed_from_a_path_a_text_and_a_function(lab, tmp_path):
    role = lab.role("Role")
    file = tmp_path / "answers.py"
    file.write_text("def lambda_handler(event, context):\n    return 'a file'\n")
    arn = "arn:aws:lambda:us-east-1:123456789012:function:F"
    for handler, expected in (
        (file, "a file"),
        (str(file), "a file"),
        ("def handler(event, context):\n    return 'a text'\n", "a text"),
        (a_function, "a function"),
    ):
        assert lab.deploy_function("F", handler, role=role) == arn
        assert invoke(lab, "F")["answer"] == expected
    assert len(lab.client("lambda").list_functions()["Functions"]) == 1


def a_function(event, context):
    return "a function"


def test_deploying_again_sets_everything_anew(lab):
    role = lab.role("Role")
    source = "import os\ndef handler(event, context):\n    return os.environ.get('A')\n"
    lab.deploy_function("F", source, role=role, timeout=9, memory=512, environment={"A": "1"})
    assert invoke(lab, "F")["answer"] == "1"
    lab.deploy_function("F", source, role=role)
    assert invoke(lab, "F")["answer"] is None
    found = lab.client("lambda").get_function_configuration(FunctionName="F")
    assert (found["Timeout"], found["MemorySize"], found["State"]) == (3, 128, "Active")


def test_deploying_with_a_role_that_is_not_there(lab):
    with pytest.raises(ClientError, match="cannot be assumed by Lambda"):
        lab.deploy_function("F", a_function, role="arn:aws:iam::123456789012:role/nobody")


# -- behind the scenes --------------------------------------------------------------------------


def test_the_embedded_target_can_everything(lab):
    assert all(
        lab.can(feature)
        for feature in ("time_travel", "partitions", "invocations", "pollers", "role_check")
    )
    with pytest.raises(LabError, match="Nobody knows the feature 'fly'"):
        lab.can("fly")


def test_the_doctor_finds_the_embedded_target_well(lab):
    found = lab.doctor()
    assert found.ready
    assert [check.what for check in found.checks] == ["libraries", *SERVICES]
    text = repr(found)
    assert text.startswith("embedded: ready for class\n")
    assert "NO" not in text
    assert found.cannot == ()
    lab._target.world.close()
    ill = lab.doctor()
    assert not ill.ready
    assert "NOT ready" in repr(ill)
    assert "-> " in repr(ill)


def test_a_closed_lab_shows_nothing_any_more(lab):
    lab.close()
    for look in (lab.doctor, lab.invocations, lab.backlog, lab.reset):
        with pytest.raises(LabError, match="This lab is closed"):
            look()


def test_a_backlog_in_which_nothing_waits(lab):
    pipeline = lu.pipeline.deploy(lab, shards=2)
    assert pipeline.mapping("MapLambda")
    assert lab.backlog().empty


COLUMNS = [
    "function",
    "instance",
    "shard",
    "lane",
    "batch_size",
    "started",
    "ended",
    "outcome",
    "attempt",
    "iterator_age",
]


def test_invocations_as_a_frame(lab):
    empty = lab.invocations()
    assert list(empty.columns) == COLUMNS
    function(lab, COLLECTOR)
    function(lab, "def handler(event, context):\n    raise ValueError\n", "Other")
    connect(lab, table(lab))
    put(lab, "a", 1)
    lab.clock.advance(seconds=2)
    invoke(lab, "Other")
    seen = lab.invocations()
    assert list(seen.columns) == COLUMNS
    assert seen.dtypes.astype(str).to_dict() == empty.dtypes.astype(str).to_dict() | {
        name: str(seen.dtypes[name]) for name in ("function", "instance", "shard", "outcome")
    }
    for column in ("started", "ended"):
        assert str(seen[column].dt.tz) == "UTC"
    mapped, direct = seen.iloc[0], seen.iloc[1]
    assert (
        mapped["function"],
        mapped["instance"],
        mapped["lane"],
        mapped["batch_size"],
        mapped["outcome"],
        mapped["attempt"],
    ) == ("Worker", "Worker/1", 0, 1, "ok", 1)
    assert mapped["shard"].startswith("shardId-")
    assert 0 < mapped["iterator_age"] <= 0.26
    assert (direct["function"], direct["outcome"]) == ("Other", "error")
    assert direct[["shard", "lane", "batch_size", "iterator_age"]].isna().all()
    assert list(lab.invocations("Other")["function"]) == ["Other"]
    assert list(lab.invocations("nobody").columns) == COLUMNS
    assert (seen["ended"] > seen["started"]).all()
    assert seen["started"].is_monotonic_increasing


def test_an_invocation_under_way_is_not_in_the_frame_yet(lab):
    function(lab, "import time\ndef handler(event, context):\n    time.sleep(2)\n")
    invoke(lab, InvocationType="Event")
    lab.clock.advance(seconds=1)
    assert lab.invocations().empty
    lab.clock.advance(seconds=2)
    assert len(lab.invocations()) == 1


def test_the_backlog_as_a_frame(lab):
    assert lab.backlog().empty
    function(lab, COLLECTOR)
    lab.client("lambda").put_function_concurrency(
        FunctionName="Worker", ReservedConcurrentExecutions=0
    )
    connect(lab, stream(lab))
    send(lab, *"abcde", key="k")
    lab.clock.advance(seconds=20)
    lab.client("lambda").delete_function_concurrency(FunctionName="Worker")
    lab.clock.advance(seconds=20)
    seen = lab.backlog(every=1)
    assert list(seen.columns) == ["at", "function", "waiting", "age"]
    assert seen["waiting"].max() == 5
    assert seen["waiting"].iloc[0] == seen["waiting"].iloc[-1] == 0
    assert 20 <= seen["age"].max() < 26
    assert seen["age"].isna().equals(seen["waiting"] == 0)
    rising = seen.loc[seen["waiting"] == 5, "age"].diff().dropna()
    assert ((rising - 1).abs() < 0.01).all()
    assert lab.backlog("nobody").empty
    with pytest.raises(LabError, match="too short a step"):
        lab.backlog(every=0)


def test_the_backlog_keeps_streams_apart_whose_shards_share_names(lab):
    function(lab, COLLECTOR)
    for name, count in (("One", 3), ("Two", 5)):
        connect(lab, stream(lab, name))
        send(lab, *[str(number) for number in range(count)], key="k", name=name)
    lab.clock.advance(seconds=20)
    assert set(lab.backlog(every=0.01)["waiting"]) == {0, 3, 5}


def test_partitions_as_a_frame(lab):
    table(lab)
    for number in range(50):
        put(lab, f"k{number}")
    seen = lab.partitions("Source")
    assert list(seen.index.names) == ["partition"]
    assert len(seen) == 4
    assert seen["items"].sum() == 50
    assert seen["low"].iloc[0] == 0
    assert seen["high"].iloc[-1] in (2**128, 2**128 - 1)
    assert seen["open_shard"].nunique() == 4
    lab.split_partition("Source", seen.index[1])
    after = lab.partitions("Source")
    assert len(after) == 5
    assert after["items"].sum() == 50
    assert seen.index[1] not in after.index
    with pytest.raises(LabError, match="Source has no partition 99: it has "):
        lab.split_partition("Source", 99)
    with pytest.raises(LabError, match=r"There is no table 'Nobody' in this lab \(there is: Sou"):
        lab.partitions("Nobody")


def test_partitions_of_a_table_without_a_stream(lab):
    lab.client("dynamodb").create_table(
        TableName="Plain",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    assert pd.isna(lab.partitions("Plain")["open_shard"]).all()
