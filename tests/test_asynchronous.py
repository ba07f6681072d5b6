"""Asynchronous invocations: retries, patience with throttles, and where word of events goes."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError
from running import code_of, function, invoke, log_lines

import lab_utils as lu

ARN = "arn:aws:lambda:us-east-1:123456789012:function:Worker"
ECHO = """
    def handler(event, context):
        print("TOLD", __import__("json").dumps(event))
        return {"event": event, "id": context.aws_request_id}
"""
BROKEN = """
    def handler(event, context):
        raise ValueError(context.aws_request_id)
"""
SLOW = """
    import time

    def handler(event, context):
        time.sleep(2)
"""
ALWAYS = {"Effect": "Allow", "Action": ["logs:*"], "Resource": "*"}


def send(lab, event=None, **options):
    invoke(lab, event=event, InvocationType="Event", **options)


def configure(lab, **settings):
    return lab.client("lambda").put_function_event_invoke_config(FunctionName="Worker", **settings)


def queue(lab, name="Results"):
    lab.client("sqs").create_queue(QueueName=name)
    return f"arn:aws:sqs:us-east-1:123456789012:{name}"


def told(lab, name="Results"):
    """The messages in a queue, as JSON."""
    sqs = lab.client("sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0)
    return [json.loads(each["Body"]) for each in got.get("Messages", [])]


def to(**sides):
    return {"DestinationConfig": {side: {"Destination": arn} for side, arn in sides.items()}}


def refusal(lab, call, **request):
    with pytest.raises(ClientError) as caught:
        getattr(lab.client("lambda"), call)(**request)
    return (*code_of(caught), caught.value.response["Error"]["Message"])


# -- the queue ----------------------------------------------------------------------------------


def test_an_asynchronous_invocation_is_accepted_at_once_and_retried_twice(lab):
    function(lab, "def handler(event, context):\n    raise ValueError(event)\n")
    answer = invoke(lab, event="x", InvocationType="Event")
    assert answer["StatusCode"] == 202
    assert answer["answer"] is None
    assert "FunctionError" not in answer
    lab.clock.advance(hours=1)
    seen = lab.invocations()
    assert list(seen["attempt"]) == [1, 2, 3]
    assert list(seen["outcome"]) == ["error"] * 3
    gaps = [
        later - earlier for earlier, later in zip(seen["ended"], seen["started"][1:], strict=False)
    ]
    assert [round(gap.total_seconds()) for gap in gaps] == [60, 120]


def test_an_asynchronous_invocation_that_works_runs_once(lab):
    function(lab, ECHO)
    invoke(lab, InvocationType="Event")
    assert lab.invocations().empty, "it has not run when the call returns"
    lab.clock.advance(hours=1)
    assert list(lab.invocations()["outcome"]) == ["ok"]


def test_an_event_for_a_function_that_was_deleted_is_lost(lab):
    function(lab, "def handler(event, context):\n    raise ValueError\n")
    invoke(lab, InvocationType="Event")
    lab.clock.advance(seconds=10)
    lab.client("lambda").delete_function(FunctionName="Worker")
    lab.clock.advance(hours=1)
    assert len(lab.invocations()) == 1


def test_a_throttled_asynchronous_invocation_waits_its_turn(lab):
    function(lab, SLOW, timeout=10)
    lab.client("lambda").put_function_concurrency(
        FunctionName="Worker", ReservedConcurrentExecutions=1
    )
    for _ in range(3):
        invoke(lab, InvocationType="Event")
    lab.clock.advance(minutes=1)
    ok = lab.invocations().query("outcome == 'ok'").sort_values("started")
    assert len(ok) == 3
    assert (ok["ended"].shift() <= ok["started"])[1:].all()
    assert set(ok["attempt"]) == {1}, "a throttle costs no attempt"


def test_all_tries_of_an_event_have_one_request_id(lab):
    function(lab, BROKEN)
    send(lab)
    lab.clock.advance(hours=1)
    ids = {line.split()[2] for line in log_lines(lab) if line.startswith("START")}
    assert (len(lab.invocations()), len(ids)) == (3, 1)


def test_retries_can_be_fewer(lab):
    function(lab, BROKEN)
    for retries in (0, 1):
        configure(lab, MaximumRetryAttempts=retries)
        send(lab)
        lab.clock.advance(hours=1)
    assert list(lab.invocations()["attempt"]) == [1, 1, 2]


def test_an_event_that_is_throttled_for_six_hours_is_dropped():
    physics = lu.Physics(account_concurrency=0, unreserved_concurrency=0)
    with lu.open_lab("embedded", physics=physics) as lab:
        function(lab, ECHO)
        configure(lab, **to(OnFailure=queue(lab)))
        send(lab, "late")
        lab.clock.advance(hours=7)
        seen = lab.invocations()
        assert set(seen["outcome"]) == {"throttled"}
        gaps = seen["started"].diff().dt.total_seconds().round()
        assert list(gaps[1:10]) == [1, 2, 4, 8, 16, 32, 64, 128, 256]
        assert set(gaps[10:-1]) == {300}
        (record,) = told(lab)
    assert record["requestContext"]["condition"] == "EventAgeExceeded"
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert record["timestamp"][:16] == "2026-01-05T15:00", "six hours after it came"
    assert "responseContext" not in record


def test_a_function_without_concurrency_gets_no_events_later_either(lab):
    """The Developer Guide: events go to the destination on failure, without any retries."""
    function(lab, ECHO)
    functions = lab.client("lambda")
    functions.put_function_concurrency(FunctionName="Worker", ReservedConcurrentExecutions=0)
    configure(lab, **to(OnFailure=queue(lab)))
    send(lab, "lost")
    lab.clock.advance(seconds=1)
    functions.delete_function_concurrency(FunctionName="Worker")
    lab.clock.advance(hours=7)
    assert lab.invocations().empty
    (record,) = told(lab)
    assert record["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert record["requestPayload"] == "lost"


def test_an_event_for_an_alias_follows_it(lab):
    function(lab, BROKEN)
    functions = lab.client("lambda")
    functions.publish_version(FunctionName="Worker")
    functions.create_alias(FunctionName="Worker", Name="live", FunctionVersion="1")
    function(lab, ECHO)
    functions.publish_version(FunctionName="Worker")
    send(lab, Qualifier="live")
    lab.clock.advance(seconds=30)
    functions.update_alias(FunctionName="Worker", Name="live", FunctionVersion="2")
    lab.clock.advance(hours=1)
    assert list(lab.invocations()["outcome"]) == ["error", "ok"]


# -- settings -----------------------------------------------------------------------------------


def test_settings_are_described_as_aws_does(lab):
    function(lab, ECHO)
    arn = queue(lab)
    made = configure(lab, MaximumRetryAttempts=0, **to(OnSuccess=arn, OnFailure=arn))
    assert made["FunctionArn"] == f"{ARN}:$LATEST"
    assert made["DestinationConfig"] == {
        "OnSuccess": {"Destination": arn},
        "OnFailure": {"Destination": arn},
    }
    assert made["MaximumRetryAttempts"] == 0
    assert "MaximumEventAgeInSeconds" not in made
    assert made["LastModified"] == lab.clock.now().replace(
        microsecond=made["LastModified"].microsecond
    )


def test_put_replaces_and_update_adds(lab):
    function(lab, ECHO)
    functions = lab.client("lambda")
    configure(lab, MaximumRetryAttempts=1)
    changed = functions.update_function_event_invoke_config(
        FunctionName="Worker", MaximumEventAgeInSeconds=60
    )
    assert (changed["MaximumRetryAttempts"], changed["MaximumEventAgeInSeconds"]) == (1, 60)
    configure(lab, MaximumEventAgeInSeconds=90)
    found = functions.get_function_event_invoke_config(FunctionName="Worker")
    assert found["MaximumEventAgeInSeconds"] == 90
    assert "MaximumRetryAttempts" not in found
    assert found["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    functions.delete_function_event_invoke_config(FunctionName="Worker")
    expected = (
        404,
        "ResourceNotFoundException",
        f"The function {ARN}:$LATEST doesn't have an EventInvokeConfig",
    )
    for call, more in (
        ("get_function_event_invoke_config", {}),
        ("delete_function_event_invoke_config", {}),
        ("update_function_event_invoke_config", {"MaximumRetryAttempts": 1}),
    ):
        assert refusal(lab, call, FunctionName="Worker", **more) == expected


def test_a_version_and_an_alias_have_settings_of_their_own(lab):
    function(lab, BROKEN)
    functions = lab.client("lambda")
    functions.publish_version(FunctionName="Worker")
    functions.create_alias(FunctionName="Worker", Name="live", FunctionVersion="1")
    configure(lab, MaximumRetryAttempts=0, Qualifier="live")
    configure(lab, MaximumRetryAttempts=1, Qualifier="1")
    listed = functions.list_function_event_invoke_configs(FunctionName="Worker")
    assert [
        (each["FunctionArn"].rpartition(":")[2], each["MaximumRetryAttempts"])
        for each in listed["FunctionEventInvokeConfigs"]
    ] == [("1", 1), ("live", 0)]
    for qualifier, tries in (("live", 1), ("1", 2), ("$LATEST", 3)):
        before = len(lab.invocations())
        send(lab, Qualifier=qualifier)
        lab.clock.advance(hours=1)
        assert len(lab.invocations()) - before == tries


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({}, "InvalidParameterValueException", "at least one of error handling or destination"),
        ({"MaximumRetryAttempts": 3}, "ValidationException", "less than or equal to 2"),
        ({"MaximumEventAgeInSeconds": 21601}, "ValidationException", "or equal to 21600"),
        (
            to(OnSuccess="arn:aws:s3:::bucket"),
            "InvalidParameterValueException",
            "(onSuccess=OnSuccess(destination=arn:aws:s3:::bucket), onFailure=null) is invalid.",
        ),
        (
            to(OnFailure="arn:aws:sqs:us-east-1:123456789012:Results.fifo"),
            "InvalidParameterValueException",
            "is invalid",
        ),
        (to(OnFailure=ARN), "InvalidParameterValueException", "destination for itself"),
        (to(OnFailure=f"{ARN}s"), "InvalidParameterValueException", "The destination ARN"),
        ({"Qualifier": "7", "MaximumRetryAttempts": 1}, "ResourceNotFoundException", "exist"),
    ],
)
def test_wrong_settings_are_refused(lab, settings, code, words):
    function(lab, ECHO)
    refused = refusal(lab, "put_function_event_invoke_config", FunctionName="Worker", **settings)
    assert refused[1] == code
    assert words in refused[2]


def test_an_event_bus_is_not_modelled(lab):
    function(lab, ECHO)
    bus = "arn:aws:events:us-east-1:123456789012:event-bus/default"
    status, code, message = refusal(
        lab, "put_function_event_invoke_config", FunctionName="Worker", **to(OnFailure=bus)
    )
    assert (status, code) == (501, "NotImplemented")
    assert "event bus" in message


def test_a_bucket_needs_two_permissions(lab):
    """The Developer Guide's table of destinations."""
    half = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"}
    function(lab, ECHO, role=lab.role("HalfRole", half))
    config = {"FunctionName": "Worker", **to(OnFailure="arn:aws:s3:::results")}
    assert "ListBucket" in refusal(lab, "put_function_event_invoke_config", **config)[2]


@pytest.mark.parametrize(
    ("arn", "words"),
    [
        ("arn:aws:sqs:us-east-1:123456789012:Results", "call SendMessage on SQS"),
        ("arn:aws:sns:us-east-1:123456789012:Results", "call Publish on SNS"),
        ("arn:aws:s3:::results", "call PutObject on S3"),
    ],
)
def test_the_role_must_be_allowed_to_tell_the_destination(lab, arn, words):
    function(lab, ECHO, role=lab.role("LogsOnlyRole", ALWAYS))
    refused = refusal(
        lab, "put_function_event_invoke_config", FunctionName="Worker", **to(OnFailure=arn)
    )
    assert refused[:2] == (400, "InvalidParameterValueException")
    assert words in refused[2]


# -- destinations -------------------------------------------------------------------------------


def test_the_record_of_a_success(lab):
    """Its form is that of the Developer Guide's example."""
    function(lab, ECHO)
    configure(lab, **to(OnSuccess=queue(lab), OnFailure=queue(lab, "Failures")))
    send(lab, {"order": 1})
    lab.clock.advance(seconds=5)
    (record,) = told(lab)
    request_id = record["requestContext"]["requestId"]
    assert record == {
        "version": "1.0",
        "timestamp": record["timestamp"],
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{ARN}:$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 1,
        },
        "requestPayload": {"order": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"event": {"order": 1}, "id": request_id},
    }
    assert list(record) == ["version", "timestamp", "requestContext", "requestPayload",
                            "responseContext", "responsePayload"]  # fmt: skip
    assert record["timestamp"].startswith("2026-01-05T09:00:0")
    assert record["timestamp"].endswith("Z")
    assert told(lab, "Failures") == []


def test_the_record_of_a_failure(lab):
    function(lab, BROKEN)
    configure(lab, **to(OnSuccess=queue(lab, "Successes"), OnFailure=queue(lab)))
    send(lab, [1, 2])
    lab.clock.advance(hours=1)
    (record,) = told(lab)
    context = record["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("RetriesExhausted", 3)
    assert record["requestPayload"] == [1, 2]
    assert record["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    assert record["responsePayload"]["errorType"] == "ValueError"
    assert record["responsePayload"]["errorMessage"] == context["requestId"]
    assert told(lab, "Successes") == []


def test_an_event_that_becomes_too_old_between_two_tries(lab):
    function(lab, BROKEN)
    configure(lab, MaximumEventAgeInSeconds=60, **to(OnFailure=queue(lab)))
    send(lab)
    lab.clock.advance(hours=1)
    (record,) = told(lab)
    context = record["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("EventAgeExceeded", 1)
    assert record["responsePayload"]["errorType"] == "ValueError"


def test_the_record_names_the_version_and_how_it_was_called(lab):
    function(lab, ECHO)
    functions = lab.client("lambda")
    functions.publish_version(FunctionName="Worker")
    functions.create_alias(FunctionName="Worker", Name="live", FunctionVersion="1")
    configure(lab, Qualifier="live", **to(OnSuccess=queue(lab)))
    send(lab, Qualifier="live")
    lab.clock.advance(seconds=5)
    (record,) = told(lab)
    assert record["requestContext"]["functionArn"] == f"{ARN}:live"
    assert record["responseContext"]["executedVersion"] == "1"


def test_a_topic_a_bucket_and_a_function_are_told_too(lab):
    function(lab, BROKEN)
    sns, s3 = lab.client("sns"), lab.client("s3")
    topic = sns.create_topic(Name="Results")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue(lab))
    s3.create_bucket(Bucket="results")
    other = function(lab, ECHO, "Other")
    for destination in (topic, "arn:aws:s3:::results", other):
        configure(lab, MaximumRetryAttempts=0, **to(OnFailure=destination))
        send(lab, destination)
        lab.clock.advance(minutes=1)
    (note,) = told(lab)
    assert json.loads(note["Message"])["requestPayload"] == topic
    (found,) = s3.list_objects_v2(Bucket="results")["Contents"]
    assert found["Key"].startswith("aws/lambda/async/Worker/2026/01/05/2026-01-05T09.0")
    body = json.loads(s3.get_object(Bucket="results", Key=found["Key"])["Body"].read())
    assert body["requestPayload"] == "arn:aws:s3:::results"
    (line,) = [line for line in log_lines(lab, "Other") if line.startswith("TOLD")]
    assert json.loads(line[5:])["requestPayload"] == other


def test_a_role_that_lost_its_permission_tells_nobody(lab):
    allowed = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}
    function(lab, ECHO, role=lab.role("SenderRole", allowed))
    configure(lab, **to(OnSuccess=queue(lab)))
    lab.role("SenderRole", ALWAYS)
    send(lab)
    lab.clock.advance(seconds=5)
    assert list(lab.invocations()["outcome"]) == ["ok"]
    assert told(lab) == []
