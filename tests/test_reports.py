"""Invocations as logs tell of them, and measures as CloudWatch keeps them.

The lines are of the forms that AWS documents: those of the text format in the Developer Guide of
Lambda ("Working with Lambda function logs", "Viewing CloudWatch logs for Lambda functions"), those
of the JSON format there and in the event schema of the Telemetry API.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st
from running import EVERYTHING, connect, function, invoke, put, table
from strict_aws import credentials, strict_aws

import lab_utils as lu
from lab_utils import plots
from lab_utils.errors import LabClosed, LabError
from lab_utils.frames import INVOCATION_COLUMNS, invocation_frame
from lab_utils.reports import Event, read_events, rows
from lab_utils.sources import TableSource
from lab_utils.whereabouts import shards_of

BEGAN = 1_795_000_000_000
"""Milliseconds since 1970."""
MEMORY = "Memory Size: 128 MB\tMax Memory Used: 38 MB"
TRACED = "XRAY TraceId: 1-61c86fa4-59b3c6d959653c527fd10966\tSegmentId: 107ea78a\tSampled: true"
REQUEST = "8fc6f963-411b-58b5-8483-a32130c0f45d"


def begin(request: str = REQUEST) -> str:
    return f"START RequestId: {request} Version: $LATEST\n"


def report(
    request: str = REQUEST, duration: float = 201.67, *more: str, init: float | None = None
) -> str:
    cold = () if init is None else (f"Init Duration: {init} ms",)
    billed = f"Duration: {duration} ms\tBilled Duration: {int(duration) + 1} ms"
    return "\t".join((f"REPORT RequestId: {request}", billed, MEMORY, *cold, *more)) + "\t\n"


def own_line(**members: Any) -> str:
    return json.dumps({"batch": members}) + "\n"


def log(*texts: str, stream: str = "2026/11/18/[$LATEST]aa", at: int = BEGAN) -> list[Event]:
    """Lines of one stream, a tenth of a second apart."""
    return [Event(at + 100 * number, stream, text) for number, text in enumerate(texts)]


def told(*texts: str) -> list[dict[str, Any]]:
    """Rows of a function that called itself Worker; no stream is asked for shards."""
    return rows(None, "Worker", log(*texts))


# -- one invocation -------------------------------------------------------------------------------


def test_a_report_tells_when_it_was_and_that_it_went_well():
    (row,) = told(begin(), "hello\n", f"END RequestId: {REQUEST}\n", report(init=480.25))
    assert row == {
        "function": "Worker",
        "instance": "Worker/1",
        "shard": None,
        "lane": None,
        "batch_size": None,
        "started": (BEGAN + 300) * 1000 - 201_670 - 480_250,
        "ended": (BEGAN + 300) * 1000,
        "outcome": "ok",
        "attempt": 1,
        "iterator_age": None,
    }


def test_the_line_of_a_function_tells_of_its_batch():
    line = own_line(shard="shardId-000000000003", first="495", size=20, age=1.5)
    (row,) = told(begin(), line, report(init=500.0))
    assert (row["shard"], row["batch_size"]) == ("shardId-000000000003", 20)
    assert row["iterator_age"] == 1.0, "at the beginning, before the cold start"


RAISED = "[ERROR] ValueError: no\rTraceback (most recent call last):\r\u00a0\u00a0File ...\n"
LOGGED = f"[ERROR]\t2026-11-18T11:06:40.123Z\t{REQUEST}\tthe reader's own words\n"
LATE = f"2026-11-18T11:06:43.012Z {REQUEST} Task timed out after 3.00 seconds\n\n"
LEFT = f"RequestId: {REQUEST} Error: Runtime exited with error: exit status 1\nRuntime.ExitError\n"


@pytest.mark.parametrize(
    ("outcome", "lines"),
    [
        ("ok", [begin(), report()]),
        ("ok", [begin(), report(REQUEST, 3.1, TRACED)]),
        ("ok", [begin(), report(REQUEST, 3.1, f"\nX{TRACED}")]),
        ("ok", [begin(), LOGGED, report()]),
        ("ok", ["INIT_START Runtime Version: python:3.13.v31\n", begin(), report()]),
        ("error", [begin(), RAISED, report()]),
        ("error", [begin(), "[ERROR] ValueError\n", report()]),
        (
            "error",
            [begin(), report(REQUEST, 9.0, "Status: error", "Error Type: Runtime.ExitError")],
        ),
        ("error", [begin(), LEFT, report()]),
        ("error", [begin(), report(), f"RequestId: {REQUEST} Process exited before completing\n"]),
        ("timeout", [begin(), report(REQUEST, 3000.0, "Status: timeout")]),
        ("timeout", [begin(), LATE, report(REQUEST, 3000.0)]),
        ("timeout", [begin(), report(REQUEST, 3000.0), LATE]),
        ("timeout", [begin(), LATE, report(), LEFT]),
    ],
)
def test_how_it_went(outcome, lines):
    (row,) = told(*lines)
    assert row["outcome"] == outcome


def in_json(kind: str, **record: Any) -> str:
    return json.dumps({"time": "2026-11-18T11:06:40.123Z", "type": kind, "record": record})


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("success", "ok"), ("timeout", "timeout"), ("error", "error"), ("failure", "error")],
)
def test_the_same_in_the_json_format(status, outcome):
    metrics = {"durationMs": 201.67, "billedDurationMs": 202, "initDurationMs": 480.25}
    (row,) = told(
        in_json("platform.initStart", phase="init"),
        in_json("platform.start", requestId=REQUEST, version="$LATEST"),
        own_line(shard="shardId-000000000003", first="495", size=20, age=1.5),
        in_json("platform.report", requestId=REQUEST, metrics=metrics, status=status),
    )
    assert row["outcome"] == outcome
    assert row["ended"] - row["started"] == 681_920
    assert (row["shard"], row["batch_size"]) == ("shardId-000000000003", 20)


def test_an_exception_in_the_json_format():
    raised = {"level": "ERROR", "errorMessage": "no", "errorType": "E", "stackTrace": []}
    (row,) = told(
        in_json("platform.start", requestId=REQUEST),
        json.dumps(raised),
        in_json("platform.report", requestId=REQUEST, metrics={"durationMs": 3}),
    )
    assert row["outcome"] == "error"


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "{}",
        '{"batch": 5}',
        '{"batch": {}}',
        '{"batch": {"shard": 1, "first": [], "size": "many", "age": null}}',
        '{"type": "platform.report"}',
        '{"record": 7, "type": "platform.report"}',
        '{"record": {}, "type": "platform.report"}',
        '{"batch": {"stream": "of words", "first": "1"}}',
        "REPORT RequestId: none\tDuration: long",
        "START",
        "",
    ],
)
def test_what_a_function_prints_besides_does_no_harm(line):
    (row,) = told(begin(), line, report())
    assert (row["outcome"], row["batch_size"], row["shard"]) == ("ok", None, None)


# -- several of them ------------------------------------------------------------------------------


def test_an_instance_is_a_log_stream_numbered_by_first_use():
    later, sooner = "2026/11/18/[$LATEST]aa", "2026/11/18/[$LATEST]bb"
    events = [
        *log(begin("a"), report("a"), begin("b"), report("b"), stream=later, at=BEGAN + 1000),
        *log(begin("c"), report("c"), stream=sooner),
    ]
    assert [row["instance"] for row in rows(None, "Worker", events)] == [
        "Worker/1", "Worker/2", "Worker/2",
    ]  # fmt: skip


def test_what_is_not_over_is_left_out_and_lends_its_line_to_nobody():
    lines = [begin("a"), own_line(size=7), begin("b"), report("b"), begin("c"), own_line(size=9)]
    (row,) = told(*lines)
    assert row["batch_size"] is None


def test_a_report_whose_beginning_is_too_long_ago_counts():
    (row,) = told(own_line(size=7), report())
    assert row["batch_size"] == 7


def test_attempts_are_counted_by_batch():
    line = own_line(shard="shardId-000000000000", first="1", size=4)
    half = own_line(shard="shardId-000000000000", first="1", size=2)
    other = own_line(shard="shardId-000000000001", first="1", size=4)
    lines = []
    for number, each in enumerate((line, other, line, half, line)):
        lines += [begin(str(number)), each, report(str(number), 1.0)]
    assert [row["attempt"] for row in told(*lines)] == [1, 1, 2, 1, 3]


def test_attempts_without_a_batch_are_counted_by_request():
    """An event that is tried again keeps its request's id (Operator Guide, log structure)."""
    lines = [
        begin("a"),
        report("a", 1.0),
        begin("b"),
        report("b", 1.0),
        begin("a"),
        report("a", 1.0),
    ]
    assert [row["attempt"] for row in told(*lines)] == [1, 1, 2]


# -- how events come ------------------------------------------------------------------------------

INVOCATION = st.tuples(
    st.integers(0, 40),
    st.sampled_from([None, RAISED, LATE]),
    st.integers(1, 3),
    st.booleans(),
)


def stream_of(name: str, invocations: list[tuple[int, str | None, int, bool]]) -> list[Event]:
    """A log stream of invocations: the pause before each, what went wrong, size, if it is over."""
    events, at = [], BEGAN
    for number, (pause, wrong, size, over) in enumerate(invocations):
        request = f"{name}-{number}"
        at += 5 * pause
        line = own_line(shard=f"shardId-00000000000{size}", first=f"{pause}", size=size)
        last = report(request, 4.25, init=7.5 if number == 0 else None)
        texts = [begin(request), line, *([wrong] if wrong else []), *([last] if over else [])]
        events += [Event(at + step // 2, name, text) for step, text in enumerate(texts)]
        at += 30
    return events


@given(
    st.lists(st.lists(INVOCATION, max_size=4), min_size=1, max_size=3),
    st.data(),
)
def test_interleaved_streams_and_cut_pages_make_no_difference(streams, data):
    whole = [stream_of(f"[$LATEST]{number}", each) for number, each in enumerate(streams)]
    expected = rows(None, "Worker", [event for each in whole for event in each])
    waiting = [list(each) for each in whole if each]
    pages: list[list[Event]] = [[]]
    while waiting:
        chosen = data.draw(st.integers(0, len(waiting) - 1))
        pages[-1].append(waiting[chosen].pop(0))
        waiting = [each for each in waiting if each]
        pages += [[]] * data.draw(st.integers(0, 2)) and [[]]
    client = boto3.client("logs", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stubber:
        for number, page in enumerate(pages):
            answer: dict[str, Any] = {
                "events": [
                    {"timestamp": at, "logStreamName": stream, "message": text}
                    for at, stream, text in page
                ]
            }
            asked: dict[str, Any] = {"logGroupName": "/aws/lambda/Worker", "startTime": BEGAN}
            if number:
                asked["nextToken"] = f"page {number}"
            if number + 1 < len(pages):
                answer["nextToken"] = f"page {number + 1}"
            stubber.add_response("filter_log_events", answer, asked)
        since = datetime.fromtimestamp(BEGAN / 1000, UTC)
        got = rows(None, "Worker", read_events(client, "Worker", since))
        stubber.assert_no_pending_responses()
    assert invocation_frame(got).equals(invocation_frame(expected))
    assert len(got) == sum(over for each in streams for *_, over in each)


# -- the log of the embedded lab tells what it sees behind the scenes ------------------------------

UNRELIABLE = """
import json, random, sys, time

def handler(event, context):
    records = event["Records"]
    print(json.dumps({"batch": {
        "size": len(records),
        "stream": records[0]["eventSourceARN"],
        "first": records[0]["dynamodb"]["SequenceNumber"],
        "age": time.time() - records[-1]["dynamodb"]["ApproximateCreationDateTime"],
    }}))
    fate = random.random()
    if fate < 0.2:
        raise ValueError("no")
    if fate < 0.3:
        sys.exit(1)
    time.sleep(5 if fate < 0.5 else 0.1)
"""


def logged(lab: Any, name: str) -> Any:
    return invocation_frame(
        rows(lab.client("dynamodbstreams"), name, read_events(lab.client("logs"), name, None))
    )


def test_a_log_tells_what_happened(lab):
    function(lab, UNRELIABLE, timeout=1)
    arn = table(lab)
    connect(lab, arn, BatchSize=4)
    for number in range(60):
        put(lab, f"{number}", number)
    lab.clock.advance(minutes=3)
    happened, found = lab.invocations(), logged(lab, "Worker")
    assert list(found.columns) == list(happened.columns) == INVOCATION_COLUMNS
    assert found.dtypes.to_dict() == happened.dtypes.to_dict()
    assert {"ok", "error", "timeout"} == set(found["outcome"])
    assert found["shard"].nunique() == 4
    assert found["attempt"].max() > 2

    def in_order(frame: Any) -> Any:
        return frame.sort_values(["shard", "started"]).reset_index(drop=True)

    happened, found = in_order(happened), in_order(found)
    same = ["function", "shard", "batch_size", "outcome", "attempt"]
    assert found[same].equals(happened[same])
    assert found["instance"].nunique() == happened["instance"].nunique()
    for column in ("started", "ended"):
        assert (found[column] - happened[column]).abs().max() < timedelta(milliseconds=50)
    late = found["iterator_age"] - happened["iterator_age"]
    assert late.between(-0.05, 1.05).all(), "records are stamped in whole seconds"


def test_the_pipelines_functions_say_which_batch_they_were_given(lab):
    pipeline = lu.pipeline.deploy(lab)
    pipeline.connect(lab)
    lab.clock.advance(seconds=30)
    lu.pipeline.play_round(lab, pipeline, seed=1, n=500)
    ran = lab.invocations()
    for name in ("StateLambda", "MapLambda", "ReduceLambda"):
        mine = ran[(ran["function"] == name) & (ran["outcome"] != "throttled")]
        found = logged(lab, name)
        counted = ["shard", "batch_size"]
        assert sorted(found[counted].value_counts().items()) == sorted(
            mine[counted].value_counts().items()
        )
        assert (found["outcome"] == "ok").all()


# -- in which shard a record lies -----------------------------------------------------------------


def shards_by_number(lab: Any, arn: str) -> dict[int, str]:
    """What reading every shard shows."""
    streams, found = lab.client("dynamodbstreams"), {}
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            page = streams.get_records(ShardIterator=iterator)
            found |= {
                int(each["dynamodb"]["SequenceNumber"]): shard["ShardId"]
                for each in page["Records"]
            }
            iterator = page.get("NextShardIterator") if page["Records"] else None
    return found


def test_a_shard_is_found_by_a_number_through_splits_and_long_shards(lab):
    arn = table(lab)
    for number in range(300):
        put(lab, f"{number}", number)
    lab.split_partition("Source", int(lab.partitions("Source").index[0]))
    for number in range(300, 2100):
        put(lab, "busy" if number < 1500 else f"{number}", number)
    true = shards_by_number(lab, arn)
    assert len(true) == 2100
    assert len(set(true.values())) > 4
    assert max(list(true.values()).count(shard) for shard in set(true.values())) > 1000
    source = TableSource(lab.client("dynamodbstreams"), arn)
    chosen = list(true)[::7]
    assert shards_of(source, chosen) == {number: true[number] for number in chosen}
    between = next(n for n in range(min(true), max(true)) if n not in true)
    assert shards_of(source, [between, max(true) + 1, 0]) == {}
    assert shards_of(source, []) == {}


def test_what_was_trimmed_is_in_no_shard(lab):
    arn = table(lab)
    put(lab, "a", 1)
    ((number, _),) = shards_by_number(lab, arn).items()
    lab.clock.advance(hours=30)
    assert shards_of(TableSource(lab.client("dynamodbstreams"), arn), [number]) == {}


@pytest.mark.parametrize("name", ["gone", "first"])
def test_a_shard_that_cannot_be_found_stays_empty(lab, name):
    arn = table(lab)
    put(lab, "a", 1)
    stream = arn.replace("Source", "Gone") if name == "gone" else arn
    first = "1" if name == "gone" else "no number"
    lines = log(begin(), own_line(stream=stream, first=first, size=1), report())
    (row,) = rows(lab.client("dynamodbstreams"), "Worker", lines)
    assert (row["shard"], row["batch_size"]) == (None, 1)


# -- measures -------------------------------------------------------------------------------------


def test_iterator_age_as_cloudwatch_keeps_it(lab):
    empty = lab.iterator_age("Worker")
    assert empty.empty
    assert list(empty.columns) == ["at", "age"]
    function(lab, "def handler(event, context):\n    pass\n")
    connect(lab, table(lab), BatchSize=1)
    for number in range(8):
        put(lab, "a", number)
        lab.clock.advance(seconds=30)
    found, ran = lab.iterator_age("Worker"), lab.invocations("Worker")
    expected = ran.groupby(ran["started"].dt.floor("min"))["iterator_age"].max()
    assert found["at"].tolist() == expected.index.tolist()
    assert found["age"].tolist() == pytest.approx(expected.tolist(), abs=0.001)
    assert found.dtypes.to_dict() == empty.dtypes.to_dict()
    assert len(lab.iterator_age("Worker", minutes=2)) < len(found)


def test_throttles_as_cloudwatch_keeps_them(lab):
    function(lab, "def handler(event, context):\n    pass\n")
    lab.client("lambda").put_function_concurrency(
        FunctionName="Worker", ReservedConcurrentExecutions=0
    )
    for _ in range(3):
        with pytest.raises(lab.client("lambda").exceptions.TooManyRequestsException):
            invoke(lab)
    throttled = (lab.invocations("Worker")["outcome"] == "throttled").sum()
    assert lab.throttles("Worker")["throttles"].sum() == throttled >= 3


@pytest.mark.parametrize("minutes", [0, -1, 21_601, float("nan"), float("inf")])
def test_minutes_that_nobody_keeps(lab, minutes):
    with pytest.raises(LabError, match="give more than 0 and at most 21,600"):
        lab.iterator_age("Worker", minutes=minutes)


# -- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        plots.plot_batch_sizes,
        plots.plot_concurrency,
        plots.plot_instances,
        plots.plot_invocations,
        plots.plot_iterator_age,
    ],
)
@pytest.mark.parametrize(
    "members", [{}, {"shard": "shardId-000000000003"}, {"size": 3, "age": 2.5}]
)
def test_what_a_log_tells_can_be_drawn(draw, members):
    lines = [begin("a"), own_line(**members), report("a"), begin("b"), RAISED, report("b")]
    ax = draw(invocation_frame(told(*lines)))
    ax.figure.canvas.draw()


def test_a_line_of_ages_without_a_shard_has_its_functions_name():
    line = own_line(size=3, age=2.5)
    ax = plots.plot_iterator_age(invocation_frame(told(begin(), line, report())))
    assert "Worker" in [text.get_text() for text in ax.texts]


def test_the_ages_of_minutes_can_be_drawn_too(lab):
    assert [text.get_text() for text in plots.plot_iterator_age(lab.iterator_age("W")).texts] == [
        "no iterator age yet"
    ]
    function(lab, "def handler(event, context):\n    pass\n")
    connect(lab, table(lab))
    for number in range(3):
        put(lab, "a", number)
        lab.clock.advance(minutes=1)
    ages = lab.iterator_age("Worker")
    ax = plots.plot_iterator_age(ages)
    assert [len(line.get_xdata()) for line in ax.lines].count(len(ages)) == 1
    assert ax.get_xlabel().endswith("since the first minute")
    assert "highest in a minute" in [text.get_text() for text in ax.texts]


# -- on LocalStack --------------------------------------------------------------------------------


@pytest.fixture
def localstack(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TARGET", "localstack")
    monkeypatch.setenv("AWS_ENDPOINT_URL", elsewhere)
    monkeypatch.setenv("LAB_PROGRESS", "0")


@pytest.mark.slow
def test_a_round_on_localstack_is_told_by_the_logs(localstack):
    with lu.open_lab() as other:
        function(other, "def handler(event, context):\n    pass\n", "Foreign")
        invoke(other, "Foreign")
        with lu.open_lab() as lab:
            assert lab.can("invocations")
            pipeline = lu.pipeline.deploy(lab)
            pipeline.connect(lab)
            assert lu.pipeline.play_round(lab, pipeline, seed=1, n=200).points == 100
            ran = lab.invocations()
            assert list(ran.columns) == INVOCATION_COLUMNS
            assert set(ran["function"]) == {"StateLambda", "MapLambda", "ReduceLambda"}
            assert ran["started"].is_monotonic_increasing
            sizes = ran.groupby("function")["batch_size"].sum()
            assert sizes["StateLambda"] == sizes["MapLambda"] == 200
            assert ran["shard"].notna().all()
            assert (ran["outcome"] == "ok").all()
            assert (ran["iterator_age"] > -0.05).all()
            assert lab.invocations("MapLambda").equals(
                ran[ran["function"] == "MapLambda"].reset_index(drop=True)
            )
            assert lab.invocations("nobody").empty
            assert list(lab.iterator_age("MapLambda").columns) == ["at", "age"]
            assert list(lab.throttles("MapLambda").columns) == ["at", "throttles"]
        with pytest.raises(LabClosed):
            lab.invocations()


@pytest.mark.slow
def test_what_ran_before_the_lab_was_opened_is_not_its_own(localstack):
    with lu.open_lab() as owner:
        function(owner, "def handler(event, context):\n    pass\n")
        invoke(owner)
        with lu.open_lab() as lab:
            assert lab.invocations("Worker").empty
            invoke(lab)
            (attempt,) = lab.invocations("Worker")["attempt"]
            assert attempt == 1
        assert len(owner.invocations("Worker")) == 2


# -- on AWS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with strict_aws() as address:
        yield address


@pytest.fixture
def aws(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A lab on AWS's stand-in."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "LAB_"))]:
        monkeypatch.delenv(name)
    for name, value in credentials(server).items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("LAB_PROGRESS", "0")
    monkeypatch.chdir(tmp_path)
    with lu.open_lab("aws", confirm="123456789012") as lab:
        yield lab


def write_log(lab: Any, name: str, *texts: str) -> None:
    logs, group = lab.client("logs"), f"/aws/lambda/{name}"
    if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        logs.create_log_group(logGroupName=group)
    stream = f"2026/11/18/[$LATEST]{len(texts)}"
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    now = int(datetime.now(UTC).timestamp() * 1000)
    logs.put_log_events(
        logGroupName=group,
        logStreamName=stream,
        logEvents=[{"timestamp": now + n, "message": text} for n, text in enumerate(texts)],
    )


def test_a_lab_on_aws_tells_of_its_own_functions_by_their_plain_names(aws):
    role = aws.role("Reader", EVERYTHING)
    for plain in ("Orders", "Bills"):
        aws.deploy_function(plain, "def handler(event, context):\n    pass\n", role=role)
    line = own_line(shard="shardId-000000000003", first="495", size=20, age=1.5)
    write_log(aws, aws.name("Orders"), begin(), line, report())
    write_log(aws, aws.name("Bills"), begin("b"), RAISED, report("b"))
    mine = aws.invocations("Orders")
    assert mine["function"].tolist() == [aws.name("Orders")]
    assert mine["batch_size"].tolist() == [20]
    assert mine.equals(aws.invocations(aws.name("Orders")))
    ran = aws.invocations()
    assert sorted(ran["outcome"]) == ["error", "ok"]
    assert aws.invocations("Nobody").empty


def test_iterator_age_on_aws(aws):
    cloudwatch, now = aws.client("cloudwatch"), datetime.now(UTC)
    for minutes, milliseconds in ((3, 500.0), (3, 1500.0), (1, 250.0)):
        cloudwatch.put_metric_data(
            Namespace="AWS/Lambda",
            MetricData=[
                {
                    "MetricName": "IteratorAge",
                    "Dimensions": [{"Name": "FunctionName", "Value": aws.name("Orders")}],
                    "Timestamp": now - timedelta(minutes=minutes),
                    "Value": milliseconds,
                    "Unit": "Milliseconds",
                }
            ],
        )
    assert aws.iterator_age("Orders")["age"].tolist() == [1.5, 0.25]


def test_only_the_pollers_are_out_of_reach(aws):
    assert aws.can("invocations")
    assert aws.can("role_check")
    assert not aws.can("pollers")
    for look in (aws.tries, aws.backlog, lambda: aws.why("a mapping")):
        with pytest.raises(lu.NotOnThisTarget, match="pollers"):
            look()
