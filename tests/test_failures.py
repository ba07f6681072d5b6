"""What happens when a batch fails: the decisions, AWS's recorded answers, and any mixture."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import (
    EVERYTHING,
    code_of,
    connect,
    function,
    log_lines,
    put,
    send,
    stream,
    table,
    wait_for_state,
)

import lab_utils as lu
from lab_utils.emulator.failures import (
    Decision,
    Part,
    Policy,
    calls_of_aged,
    cut,
    decide,
    reported,
)

REPORTS = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
QUICK = {"mapping_creation": (1.0, 1.0), "mapping_update": (1.0, 1.0)}

HANDLER = """
    import base64, json, os

    MODE = os.environ["MODE"]

    def handler(event, context):
        records = []
        for record in event["Records"]:
            if "kinesis" in record:
                name = base64.b64decode(record["kinesis"]["data"]).decode()
                number = record["kinesis"]["sequenceNumber"]
            else:
                name = record["dynamodb"]["NewImage"]["value"]["N"]
                number = record["dynamodb"]["SequenceNumber"]
            records.append((name, number))
        print("BATCH", json.dumps(records))
        if MODE.startswith("answer "):
            return json.loads(MODE[7:])
        bad = [number for name, number in records if name in MODE.split()]
        if bad and MODE.startswith("report"):
            return {"batchItemFailures": [{"itemIdentifier": each} for each in bad]}
        if bad or MODE == "all":
            raise ValueError("poison")
"""
"""Fails with the records named in MODE, by a report or an error, or answers what it says."""


def deploy(lab, mode, **settings):
    return function(lab, HANDLER, environment={"MODE": mode}, **settings)


def write(lab, arn, *names):
    for name in names:
        if ":kinesis:" in arn:
            send(lab, str(name), key="k")
        else:
            put(lab, "k", name)


def batches(lab):
    """The names of the records of each invocation, in the order of time."""
    logs, group = lab.client("logs"), "/aws/lambda/Worker"
    events = []
    for page in logs.get_paginator("describe_log_streams").paginate(logGroupName=group):
        for each in page["logStreams"]:
            events += logs.get_log_events(
                logGroupName=group, logStreamName=each["logStreamName"], startFromHead=True
            )["events"]
    events.sort(key=lambda event: event["timestamp"])
    return [
        [name for name, _ in json.loads(event["message"][6:])]
        for event in events
        if event["message"].startswith("BATCH")
    ]


def numbers(lab):
    """The sequence number of each record by its name, as the function got it."""
    return {
        name: number
        for line in log_lines(lab)
        if line.startswith("BATCH")
        for name, number in json.loads(line[6:])
    }


def queue(lab, name="Failures"):
    """A queue; its ARN."""
    lab.client("sqs").create_queue(QueueName=name)
    return f"arn:aws:sqs:us-east-1:123456789012:{name}"


def to(arn):
    return {"DestinationConfig": {"OnFailure": {"Destination": arn}}}


def messages(lab, name="Failures"):
    """The bodies of all messages in a queue, which is empty afterwards."""
    sqs, bodies = lab.client("sqs"), []
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for each in found:
            bodies.append(json.loads(each["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
    return bodies


def info(body):
    return body.get("DDBStreamBatchInfo") or body["KinesisBatchInfo"]


def refusal(lab, call="create_event_source_mapping", **request):
    """The answer to a request that boto3 is not to check itself."""
    with pytest.raises(ClientError) as caught:
        getattr(lab.client("lambda", Config(parameter_validation=False)), call)(**request)
    return (*code_of(caught), caught.value.response["Error"]["Message"])


@pytest.fixture(params=["dynamodb", "kinesis"])
def source(request, lab):
    return table(lab) if request.param == "dynamodb" else stream(lab)


# -- decisions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "done", "policy", "expected"),
    [
        (Part(0, 4), 4, Policy(retries=0), Decision()),
        (Part(0, 4, 9), 0, Policy(), Decision((Part(0, 4, 10),))),
        (Part(0, 4), 0, Policy(retries=0), Decision(given_up=Part(0, 4))),
        (Part(0, 4, 3), 0, Policy(retries=3), Decision((Part(0, 4, 4),))),
        (Part(0, 4, 4), 0, Policy(retries=3), Decision(given_up=Part(0, 4, 4))),
        (Part(2, 7, 4), 3, Policy(retries=3), Decision((Part(5, 7, 1),))),
        (Part(2, 7), 0, Policy(retries=0, bisect=True), Decision((Part(2, 4), Part(4, 7)))),
        (Part(2, 7), 3, Policy(retries=0, bisect=True), Decision((Part(5, 7),))),
        (Part(2, 3), 0, Policy(retries=0, bisect=True), Decision(given_up=Part(2, 3))),
    ],
)
def test_what_follows_an_outcome(part, done, policy, expected):
    assert decide(part, done, policy) == expected


def test_only_what_is_too_old_is_cut_out():
    assert cut(Part(1, 4, 3), [1, 2, 3, 4, 5], 3) == (Part(1, 2, 3), Part(2, 4, 3))
    assert cut(Part(1, 4), [1, 2, 3, 4, 5], 1) == (Part(1, 1), Part(1, 4))
    assert [calls_of_aged(Part(0, 1, attempt)) for attempt in (1, 2, 9)] == [1, 1, 8]


SUCCESSES = ['""', "[]", "null", "{}", '{"batchItemFailures":[]}', '{"batchItemFailures":null}']
FAILURES = [
    '{"batchItemFailures":[{"itemIdentifier":123}]}',
    '{"batchItemFailures":[{"itemIdentifier":""}]}',
    '{"batchItemFailures":[{"itemIdentifier":null}]}',
    '{"batchItemFailures":[{"foo":123}]}',
    '{"batchItemFailures":[{"foo":null}]}',
]
"""The answers of facts 78 and 76."""


@pytest.mark.parametrize("answer", [*SUCCESSES, '{"statusCode":500}'])
def test_answers_that_are_a_success(answer):
    assert reported(answer, ["1", "2", "3"]) is None


@pytest.mark.parametrize(
    ("answer", "done"),
    [
        *[(answer, 0) for answer in FAILURES],
        ('{"batchItemFailures":[{"itemIdentifier":"3"},{"itemIdentifier":"2"}]}', 1),
        ('{"batchItemFailures":[{"itemIdentifier":"3"},{"itemIdentifier":"9"}]}', 0),
        ('{"batchItemFailures":["2"]}', 0),
        ('{"batchItemFailures":"2"}', 0),
        ('"sorry"', 0),
    ],
)
def test_answers_that_report_failures(answer, done):
    assert reported(answer, ["1", "2", "3"]) == done


# -- what is recorded ---------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 1, 2, 3])
def test_fact_68_and_77_and_79_one_try_more_than_retries_and_the_shard_moves_on(
    lab, source, retries
):
    deploy(lab, "error 1")
    connect(lab, source, MaximumRetryAttempts=retries, BatchSize=1, **to(queue(lab)))
    write(lab, source, 1, 2)
    lab.clock.advance(minutes=1)
    assert batches(lab) == [["1"]] * (retries + 1) + [["2"]]
    assert list(lab.invocations()["attempt"]) == [*range(1, retries + 2), 1]
    (body,) = messages(lab)
    assert body["requestContext"]["approximateInvokeCount"] == retries + 1
    assert body["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert body["responseContext"]["functionError"] == "Unhandled"


def test_facts_69_and_70_what_a_queue_is_told(lab, source):
    arn = deploy(lab, "all")
    connect(lab, source, MaximumRetryAttempts=1, MaximumBatchingWindowInSeconds=2, **to(queue(lab)))
    write(lab, source, 1, 2)
    lab.clock.advance(minutes=1)
    (body,) = messages(lab)
    details = info(body)
    when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
    exact = when + r"\.\d{3}Z"
    kinesis = ":kinesis:" in source
    assert re.fullmatch(exact, body.pop("timestamp"))
    for name in ("approximateArrivalOfFirstRecord", "approximateArrivalOfLastRecord"):
        assert re.fullmatch(exact if kinesis else when + "Z", details.pop(name))
    assert details.pop("shardId") == lab.invocations()["shard"].iloc[0]
    starts = [line.split()[2] for line in log_lines(lab) if line.startswith("START")]
    assert body["requestContext"].pop("requestId") == starts[-1]
    assert body == {
        "requestContext": {
            "functionArn": arn,
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 2,
        },
        "responseContext": {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": "Unhandled",
        },
        "version": "1.0",
        "KinesisBatchInfo" if kinesis else "DDBStreamBatchInfo": {
            "startSequenceNumber": numbers(lab)["1"],
            "endSequenceNumber": numbers(lab)["2"],
            "batchSize": 2,
            "streamArn": source,
        },
    }


def test_fact_71_a_topic_gets_the_same_as_its_message(lab, source):
    deploy(lab, "all")
    topic = lab.client("sns").create_topic(Name="Failures")["TopicArn"]
    lab.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue(lab))
    connect(lab, source, MaximumRetryAttempts=1, **to(topic))
    write(lab, source, 1)
    lab.clock.advance(minutes=1)
    (notification,) = messages(lab)
    body = json.loads(notification["Message"])
    assert notification["TopicArn"] == topic
    assert body["requestContext"]["approximateInvokeCount"] == 2
    assert info(body)["startSequenceNumber"] == numbers(lab)["1"]
    assert "payload" not in body


def test_fact_72_a_bucket_gets_the_records_as_well(lab, source):
    deploy(lab, "all")
    s3 = lab.client("s3")
    s3.create_bucket(Bucket="failures")
    uuid = connect(lab, source, MaximumRetryAttempts=0, **to("arn:aws:s3:::failures"))
    write(lab, source, 1)
    lab.clock.advance(minutes=1)
    (entry,) = s3.list_objects_v2(Bucket="failures")["Contents"]
    body = json.loads(s3.get_object(Bucket="failures", Key=entry["Key"])["Body"].read())
    assert re.fullmatch(
        rf"aws/lambda/{uuid}/{info(body)['shardId']}/2026/01/05/"
        r"2026-01-05T\d\d\.\d\d\.\d\d-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        entry["Key"],
    )
    (record,) = body["payload"]["Records"]
    assert record["eventSourceARN"] == source
    assert info(body)["batchSize"] == 1


def test_fact_73_too_old_while_it_was_tried_again(lab):
    source = stream(lab)
    deploy(lab, "all")
    connect(lab, source, MaximumRecordAgeInSeconds=60, **to(queue(lab)))
    write(lab, source, 1)
    lab.clock.advance(minutes=3)
    (body,) = messages(lab)
    assert body["requestContext"]["condition"] == "RecordAgeExceeded"
    assert body["requestContext"]["approximateInvokeCount"] == 8
    assert len(batches(lab)) == 8
    assert "responseContext" not in body


def test_fact_73_too_old_before_the_first_call(lab, source):
    deploy(lab, "none")
    write(lab, source, 1)
    lab.clock.advance(minutes=2)
    connect(lab, source, MaximumRecordAgeInSeconds=60, **to(queue(lab)))
    lab.clock.advance(minutes=1)
    (body,) = messages(lab)
    assert body["requestContext"]["condition"] == "RecordAgeExceeded"
    assert body["requestContext"]["approximateInvokeCount"] == 1
    assert body["requestContext"]["requestId"]
    assert lab.invocations().empty


def test_fact_74_only_the_aged_record_is_cut_out(lab, source):
    deploy(lab, "none")
    write(lab, source, 1)
    lab.clock.advance(minutes=2)
    write(lab, source, 2, 3, 4, 5, 6)
    connect(lab, source, MaximumRecordAgeInSeconds=60, **to(queue(lab)))
    lab.clock.advance(minutes=1)
    assert batches(lab) == [["2", "3", "4", "5", "6"]]
    (body,) = messages(lab)
    assert info(body)["batchSize"] == 1


def test_what_was_too_old_is_told_once_although_the_rest_of_its_batch_is_stopped(lab, source):
    deploy(lab, "none")
    functions = lab.client("lambda")
    functions.put_function_concurrency(FunctionName="Worker", ReservedConcurrentExecutions=0)
    write(lab, source, 1)
    lab.clock.advance(seconds=40)
    write(lab, source, 2)
    uuid = connect(lab, source, MaximumRecordAgeInSeconds=60, **to(queue(lab)))
    lab.clock.advance(seconds=25)
    for enabled in (False, True):
        functions.update_event_source_mapping(UUID=uuid, Enabled=enabled)
        lab.clock.advance(seconds=10)
    functions.delete_function_concurrency(FunctionName="Worker")
    lab.clock.advance(seconds=10)
    assert [info(body)["batchSize"] for body in messages(lab)] == [1]
    assert batches(lab) == [["2"]]


def test_fact_75_progress_resets_the_count(lab, source):
    deploy(lab, "report 6")
    write(lab, source, 1, 2, 3, 4, 5, 6)
    connect(lab, source, BatchSize=3, MaximumRetryAttempts=3, **REPORTS, **to(queue(lab)))
    lab.clock.advance(minutes=1)
    assert batches(lab) == [["1", "2", "3"], ["4", "5", "6"], *[["6"]] * 4]
    counted = Counter(name for batch in batches(lab) for name in batch)
    assert counted == {"1": 1, "2": 1, "3": 1, "4": 1, "5": 1, "6": 5}
    rows = lab.invocations()
    assert list(rows["outcome"]) == ["ok", *["partial"] * 5]
    assert list(rows["attempt"]) == [1, 1, 1, 2, 3, 4]
    (body,) = messages(lab)
    assert body["requestContext"]["approximateInvokeCount"] == 4
    assert body["responseContext"]["functionError"] is None
    details = info(body)
    assert details["batchSize"] == 1
    assert details["startSequenceNumber"] == details["endSequenceNumber"] == numbers(lab)["6"]


@pytest.mark.parametrize("answer", FAILURES)
def test_fact_76_an_answer_that_fails_the_whole_batch(lab, source, answer):
    deploy(lab, f"answer {answer}")
    write(lab, source, 1, 2)
    connect(lab, source, MaximumRetryAttempts=2, **REPORTS, **to(queue(lab)))
    lab.clock.advance(minutes=1)
    assert batches(lab) == [["1", "2"]] * 3
    (body,) = messages(lab)
    assert body["requestContext"]["approximateInvokeCount"] == 3
    assert body["responseContext"]["functionError"] is None
    assert info(body)["batchSize"] == 2


def test_fact_77_an_exception_is_unhandled_although_reports_are_asked_for(lab, source):
    deploy(lab, "all")
    write(lab, source, 1, 2)
    connect(lab, source, MaximumRetryAttempts=2, **REPORTS, **to(queue(lab)))
    lab.clock.advance(minutes=1)
    assert batches(lab) == [["1", "2"]] * 3
    assert messages(lab)[0]["responseContext"]["functionError"] == "Unhandled"


@pytest.mark.parametrize("answer", SUCCESSES)
def test_fact_78_an_answer_that_is_a_success(lab, source, answer):
    deploy(lab, f"answer {answer}")
    write(lab, source, 1, 2)
    connect(lab, source, MaximumRetryAttempts=2, **REPORTS, **to(queue(lab)))
    lab.clock.advance(minutes=1)
    assert list(lab.invocations()["outcome"]) == ["ok"]
    assert messages(lab) == []


# -- what is documented -------------------------------------------------------------------------


def test_a_bisected_batch_loses_the_bad_record_only(lab, source):
    deploy(lab, "error 3")
    write(lab, source, *range(8))
    connect(
        lab,
        source,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=1,
        **to(queue(lab)),
    )
    lab.clock.advance(minutes=1)
    expected = ["01234567", "0123", "01", "23", "2", "3", "3", "4567"]
    assert ["".join(batch) for batch in batches(lab)] == expected
    assert list(lab.invocations()["attempt"]) == [1, 1, 1, 1, 1, 1, 2, 1], "a cut costs no try"
    (body,) = messages(lab)
    assert info(body)["startSequenceNumber"] == info(body)["endSequenceNumber"]
    assert info(body)["startSequenceNumber"] == numbers(lab)["3"]


def test_with_reports_a_batch_is_cut_at_the_number(lab, source):
    deploy(lab, "report 5 6")
    write(lab, source, *range(8))
    connect(
        lab,
        source,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=0,
        **REPORTS,
        **to(queue(lab)),
    )
    lab.clock.advance(minutes=1)
    assert ["".join(batch) for batch in batches(lab)] == ["01234567", "567", "5", "67", "6", "7"]
    assert [info(body)["startSequenceNumber"] for body in messages(lab)] == [
        numbers(lab)["5"],
        numbers(lab)["6"],
    ]


def test_throttles_cost_no_attempt(lab, source):
    deploy(lab, "error 1")
    lab.client("lambda").put_function_concurrency(
        FunctionName="Worker", ReservedConcurrentExecutions=0
    )
    connect(lab, source, MaximumRetryAttempts=1, **to(queue(lab)))
    write(lab, source, 1)
    lab.clock.advance(minutes=5)
    assert set(lab.invocations()["outcome"]) == {"throttled"}
    lab.client("lambda").delete_function_concurrency(FunctionName="Worker")
    lab.clock.advance(minutes=5)
    rows = lab.invocations()
    assert list(rows[rows["outcome"] == "error"]["attempt"]) == [1, 2]
    assert messages(lab)[0]["requestContext"]["approximateInvokeCount"] == 2


def test_patience_with_throttles_begins_anew_after_a_call(lab, source):
    deploy(lab, "all")
    functions = lab.client("lambda")

    def throttled(seconds):
        """How often it is throttled in a time without concurrency."""
        before = (lab.invocations()["outcome"] == "throttled").sum()
        functions.put_function_concurrency(FunctionName="Worker", ReservedConcurrentExecutions=0)
        lab.clock.advance(seconds=seconds)
        functions.delete_function_concurrency(FunctionName="Worker")
        return (lab.invocations()["outcome"] == "throttled").sum() - before

    connect(lab, source)
    write(lab, source, 1)
    lab.clock.advance(seconds=10)
    assert throttled(60 * 60) < 1000, "less and less often"
    lab.wait_until(lambda: lab.invocations()["outcome"].iloc[-1] == "error", timeout=120)
    lab.clock.advance(seconds=5)
    assert throttled(120) > 40, "soon again"


def test_a_missing_function_costs_no_attempt(lab, source):
    deploy(lab, "none")
    connect(lab, source, MaximumRetryAttempts=0, **to(queue(lab)))
    lab.client("lambda").delete_function(FunctionName="Worker")
    write(lab, source, 1)
    lab.clock.advance(minutes=5)
    deploy(lab, "none")
    lab.clock.advance(minutes=5)
    assert batches(lab) == [["1"]]
    assert messages(lab) == []


def test_what_a_checkpoint_has_passed_does_not_come_again(lab, source):
    deploy(lab, "report 2")
    uuid = connect(lab, source, MaximumBatchingWindowInSeconds=2, **REPORTS)
    write(lab, source, 0, 1, 2, 3)
    lab.clock.advance(seconds=20)
    functions = lab.client("lambda")
    functions.update_event_source_mapping(UUID=uuid, Enabled=False)
    wait_for_state(lab, uuid, "Disabled")
    lab.clock.advance(minutes=5)
    before = len(batches(lab))
    functions.update_event_source_mapping(UUID=uuid, Enabled=True)
    lab.clock.advance(minutes=1)
    assert batches(lab)[0] == ["0", "1", "2", "3"]
    assert len(batches(lab)) > before
    assert {tuple(batch) for batch in batches(lab)[1:]} == {("2", "3")}


def test_until_it_is_heeded_a_new_function_is_not_named():
    slow = lu.Physics(**QUICK | {"mapping_update": (60.0, 60.0)})
    with lu.open_lab("embedded", physics=slow) as lab:
        deploy(lab, "all")
        deploy(lab, "all", name="Other")
        arn = table(lab)
        uuid = connect(lab, arn, MaximumRetryAttempts=1, **to(queue(lab)))
        lab.client("lambda").update_event_source_mapping(UUID=uuid, FunctionName="Other")
        write(lab, arn, 1)
        lab.clock.advance(seconds=30)
        assert lab.why(uuid).startswith("Worker reads")
        wait_for_state(lab, uuid, "Enabled")
        write(lab, arn, 2)
        lab.clock.advance(seconds=30)
        assert lab.why(uuid).startswith("Other reads")
        told = [body["requestContext"]["functionArn"] for body in messages(lab)]
        assert [arn.rpartition(":")[2] for arn in told] == ["Worker", "Other"]
        assert list(lab.tries()["function"]) == ["Worker"] * 2 + ["Other"] * 2


# -- the API ------------------------------------------------------------------------------------


def test_every_setting_is_described_and_can_be_changed(lab, source):
    deploy(lab, "none")
    settings = {
        "MaximumRetryAttempts": 10_000,
        "MaximumRecordAgeInSeconds": 604_800,
        "BisectBatchOnFunctionError": True,
        **REPORTS,
        **to(queue(lab)),
    }
    uuid = connect(lab, source, **settings)
    functions = lab.client("lambda")
    described = functions.get_event_source_mapping(UUID=uuid)
    assert {name: described[name] for name in settings} == settings
    defaults = {
        "MaximumRetryAttempts": -1,
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "FunctionResponseTypes": [],
        "DestinationConfig": {"OnFailure": {}},
    }
    for name, value in defaults.items():
        settings[name] = value
        answer = functions.update_event_source_mapping(UUID=uuid, **{name: value})
        assert {name: answer[name] for name in settings} == settings
        wait_for_state(lab, uuid, "Enabled")


def test_a_limit_set_later_ends_the_tries(lab, source):
    deploy(lab, "all")
    uuid = connect(lab, source)
    write(lab, source, 1)
    lab.clock.advance(minutes=10)
    before = len(batches(lab))
    lab.client("lambda").update_event_source_mapping(
        UUID=uuid, MaximumRetryAttempts=0, **to(queue(lab))
    )
    lab.clock.advance(minutes=10)
    assert len(batches(lab)) == before + 1
    assert messages(lab)[0]["requestContext"]["approximateInvokeCount"] == before + 1


TOO_SHORT = (
    "MaximumRecordAgeInSeconds must be either -1 (forever) or between 60 and 604800 (inclusive)"
)
CONSTRAINT = (
    "1 validation error detected: Value '{}' at '{}' failed to satisfy constraint: Member must "
)


@pytest.mark.parametrize(
    ("name", "value", "code", "message"),
    [
        (
            "MaximumRetryAttempts",
            -2,
            "ValidationException",
            CONSTRAINT.format(-2, "maximumRetryAttempts")
            + "have value greater than or equal to -1",
        ),
        (
            "MaximumRetryAttempts",
            10_001,
            "ValidationException",
            CONSTRAINT.format(10_001, "maximumRetryAttempts")
            + "have value less than or equal to 10000",
        ),
        (
            "MaximumRecordAgeInSeconds",
            604_801,
            "ValidationException",
            CONSTRAINT.format(604_801, "maximumRecordAgeInSeconds")
            + "have value less than or equal to 604800",
        ),
        (
            "MaximumRecordAgeInSeconds",
            59,
            "InvalidParameterValueException",
            TOO_SHORT,
        ),
        (
            "FunctionResponseTypes",
            ["Nonsense"],
            "ValidationException",
            CONSTRAINT.format("Nonsense", "functionResponseTypes.1.member")
            + "satisfy enum value set: [ReportBatchItemFailures]",
        ),
        (
            "DestinationConfig",
            {"OnSuccess": {"Destination": "arn:aws:sqs:us-east-1:123456789012:q"}},
            "InvalidParameterValueException",
            "Unsupported DestinationConfig parameter for given event source mapping type.",
        ),
        (
            "DestinationConfig",
            {"OnFailure": {"Destination": "arn:aws:lambda:us-east-1:123456789012:function:f"}},
            "InvalidParameterValueException",
            "The destination ARN arn:aws:lambda:us-east-1:123456789012:function:f is invalid.",
        ),
    ],
)
def test_wrong_settings_are_refused(lab, source, name, value, code, message):
    deploy(lab, "none")
    request = {"EventSourceArn": source, "FunctionName": "Worker", "StartingPosition": "LATEST"}
    assert refusal(lab, **request, **{name: value}) == (400, code, message)
    uuid = connect(lab, source)
    again = refusal(lab, "update_event_source_mapping", UUID=uuid, **{name: value})
    assert again == (400, code, message)


def test_a_destination_in_kafka_is_not_modelled(lab, source):
    deploy(lab, "none")
    request = {"EventSourceArn": source, "FunctionName": "Worker", "StartingPosition": "LATEST"}
    assert refusal(lab, **request, **to("kafka://topic"))[:2] == (501, "NotImplemented")


def test_a_role_must_be_allowed_to_send(lab, source):
    read = {"Effect": "Allow", "Action": ["dynamodb:*", "kinesis:*", "logs:*"], "Resource": "*"}
    deploy(lab, "all", role=lab.role("Reader", read))
    request = {"EventSourceArn": source, "FunctionName": "Worker", "StartingPosition": "LATEST"}
    for arn, call in (
        (queue(lab), "SendMessage on SQS"),
        ("arn:aws:sns:us-east-1:123456789012:t", "Publish on SNS"),
        ("arn:aws:s3:::b", "PutObject on S3"),
    ):
        assert refusal(lab, **request, **to(arn)) == (
            400,
            "InvalidParameterValueException",
            f"The provided execution role does not have permissions to call {call}",
        )


def test_a_permission_that_is_taken_away_loses_the_message_only(lab, source):
    deploy(lab, "error 1", role=lab.role("Sender", EVERYTHING))
    connect(lab, source, BatchSize=1, MaximumRetryAttempts=0, **to(queue(lab)))
    read = {"Effect": "Allow", "Action": ["dynamodb:*", "kinesis:*", "logs:*"], "Resource": "*"}
    lab.role("Sender", read)
    write(lab, source, 1, 2)
    lab.clock.advance(minutes=1)
    assert batches(lab) == [["1"], ["2"]]
    assert messages(lab) == []


def test_a_destination_that_is_not_there_loses_the_message_only(lab, source):
    deploy(lab, "error 1")
    connect(
        lab,
        source,
        BatchSize=1,
        MaximumRetryAttempts=0,
        **to("arn:aws:sqs:us-east-1:123456789012:nowhere"),
    )
    write(lab, source, 1, 2)
    lab.clock.advance(minutes=1)
    assert batches(lab) == [["1"], ["2"]]


# -- whatever happens ---------------------------------------------------------------------------

ORACLE = """
    import base64, json, os

    tries = {}

    def handler(event, context):
        names, numbers = [], {}
        for record in event["Records"]:
            data = base64.b64decode(record["kinesis"]["data"]).decode()
            names.append(int(data))
            numbers[int(data)] = record["kinesis"]["sequenceNumber"]
        print("BATCH", json.dumps([[name, numbers[name]] for name in names]))
        ailments = json.loads(os.environ["AILMENTS"])
        failed = []
        for name in names:
            tries[name] = tries.get(name, 0) + 1
            if tries[name] <= ailments.get(str(name), 0):
                failed.append(name)
        if failed and os.environ["REPORTS"]:
            return {"batchItemFailures": [{"itemIdentifier": numbers[name]} for name in failed]}
        if failed:
            raise ValueError(failed)
"""
"""Each record fails as many times as AILMENTS says."""

FOR_EVER = 10**6


def expected_history(count, size, ailments, retries, bisect, reports):
    """What must be tried, in order, and what given up after how many calls; written anew.

    A recursion over plain lists, where the emulator has a worklist of parts.
    """
    left = dict(ailments)
    tried, given_up = [], []

    def work(names, attempt):
        if not names:
            return
        tried.append((tuple(names), attempt))
        bad = [name for name in names if left.get(name, 0) > 0]
        for name in bad:
            left[name] -= 1
        if not bad:
            return
        place = names.index(bad[0]) if reports else 0
        if place:
            work(names[place:], 1)
        elif bisect and len(names) > 1:
            work(names[: len(names) // 2], attempt)
            work(names[len(names) // 2 :], attempt)
        elif attempt > retries:
            given_up.append((tuple(names), attempt))
        else:
            work(names, attempt + 1)

    for start in range(0, count, size):
        work(list(range(start, min(start + size, count))), 1)
    return tried, given_up


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    count=st.integers(1, 14),
    size=st.integers(1, 14),
    ailments=st.dictionaries(st.integers(0, 13), st.sampled_from([1, 2, 3, FOR_EVER]), max_size=5),
    retries=st.integers(0, 4),
    bisect=st.booleans(),
    reports=st.booleans(),
)
def test_failures_in_any_mixture(count, size, ailments, retries, bisect, reports):
    with lu.open_lab("embedded", physics=lu.Physics(**QUICK)) as lab:
        arn = stream(lab)
        environment = {
            "AILMENTS": json.dumps(ailments),
            "REPORTS": "yes" if reports else "",
        }
        function(lab, ORACLE, environment=environment)
        send(lab, *(str(number) for number in range(count)), key="k")
        connect(
            lab,
            arn,
            BatchSize=size,
            MaximumRetryAttempts=retries,
            BisectBatchOnFunctionError=bisect,
            **(REPORTS if reports else {}),
            **to(queue(lab)),
        )
        lab.clock.advance(minutes=30)
        tried, given_up = expected_history(count, size, ailments, retries, bisect, reports)
        seen = [tuple(batch) for batch in batches(lab)]
        assert seen == [names for names, _ in tried]
        assert list(lab.invocations()["attempt"]) == [attempt for _, attempt in tried]
        first = list(dict.fromkeys(name for batch in seen for name in batch))
        assert first == list(range(count)), "each record came, in order"
        where = numbers(lab)
        told = [
            (
                info(body)["startSequenceNumber"],
                info(body)["endSequenceNumber"],
                info(body)["batchSize"],
                body["requestContext"]["approximateInvokeCount"],
            )
            for body in messages(lab)
        ]
        assert told == [
            (where[names[0]], where[names[-1]], len(names), calls) for names, calls in given_up
        ]


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(
    gaps=st.lists(st.integers(0, 50), min_size=1, max_size=10),
    ailments=st.dictionaries(st.integers(0, 9), st.sampled_from([1, 3, FOR_EVER]), max_size=4),
    size=st.integers(1, 4),
    retries=st.sampled_from([-1, 0, 2]),
    age=st.sampled_from([60, 90]),
    bisect=st.booleans(),
    reports=st.booleans(),
)
def test_every_record_succeeds_or_is_given_up_once(
    gaps, ailments, size, retries, age, bisect, reports
):
    with lu.open_lab("embedded", physics=lu.Physics(**QUICK)) as lab:
        arn = stream(lab)
        environment = {"AILMENTS": json.dumps(ailments), "REPORTS": "yes" if reports else ""}
        function(lab, ORACLE, environment=environment)
        connect(
            lab,
            arn,
            BatchSize=size,
            MaximumRetryAttempts=retries,
            MaximumRecordAgeInSeconds=age,
            BisectBatchOnFunctionError=bisect,
            **(REPORTS if reports else {}),
            **to(queue(lab)),
        )
        order = []
        for number, gap in enumerate(gaps):
            answer = lab.client("kinesis").put_record(
                StreamName="Stream", Data=str(number).encode(), PartitionKey="k"
            )
            order.append(answer["SequenceNumber"])
            lab.clock.advance(seconds=gap)
        lab.clock.advance(minutes=10)
        seen = batches(lab) if len(lab.invocations()) else []
        left, succeeded = dict(ailments), Counter()
        for batch in seen:
            bad = [name for name in batch if left.get(name, 0) > 0]
            for name in bad:
                left[name] -= 1
            if not bad:
                succeeded.update(batch)
            elif reports:
                succeeded.update(batch[: batch.index(bad[0])])
        lost = Counter()
        for body in messages(lab):
            start = order.index(info(body)["startSequenceNumber"])
            stop = order.index(info(body)["endSequenceNumber"]) + 1
            assert info(body)["batchSize"] == stop - start
            lost.update(range(start, stop))
        assert succeeded + lost == Counter(range(len(gaps)))
        first = list(dict.fromkeys(name for batch in seen for name in batch))
        assert first == sorted(first)
