"""Functions on the embedded target: their API, their instances, their errors and their logs."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from datetime import timedelta

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from running import EVERYTHING, code_of, function, invoke, log_lines

import lab_utils as lu
from lab_utils.emulator.lambda_functions import Trigger
from lab_utils.emulator.sessions import make_client

ECHO = """
    def handler(event, context):
        return {"event": event, "name": context.function_name}
"""
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def zipped(source="def handler(event, context):\n    return 1\n", file="app.py"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(file, source)
    return buffer.getvalue()


def create(lab, name="Worker", **changes):
    settings = {
        "FunctionName": name,
        "Runtime": "python3.12",
        "Handler": "app.handler",
        "Role": lab.role("EverythingRole", EVERYTHING),
        "Code": {"ZipFile": zipped()},
        **changes,
    }
    return lab.client("lambda").create_function(
        **{key: value for key, value in settings.items() if value is not None}
    )


def refusal(lab, call, **request):
    with pytest.raises(ClientError) as caught:
        getattr(lab.client("lambda"), call)(**request)
    return (*code_of(caught), caught.value.response["Error"]["Message"])


# -- the API ------------------------------------------------------------------------------------


def test_a_new_function_is_described_as_aws_does(lab):
    made = create(
        lab, Timeout=7, MemorySize=256, Description="counts", Environment={"Variables": {"A": "1"}}
    )
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (made["State"], made["StateReasonCode"]) == ("Pending", "Creating")
    found = lab.client("lambda").get_function(FunctionName="Worker")["Configuration"]
    assert found["FunctionArn"] == "arn:aws:lambda:us-east-1:123456789012:function:Worker"
    assert (found["State"], found["LastUpdateStatus"]) == ("Active", "Successful")
    assert (found["Timeout"], found["MemorySize"], found["Description"]) == (7, 256, "counts")
    assert found["Environment"] == {"Variables": {"A": "1"}}
    assert found["Version"] == "$LATEST"
    assert found["CodeSize"] == len(zipped())
    assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", found["CodeSha256"])
    assert found["LastModified"].startswith("2026-01-05T09:00:00")
    short = lab.client("lambda").get_function_configuration(FunctionName=found["FunctionArn"])
    assert {**short, "ResponseMetadata": 0} == {**found, "ResponseMetadata": 0}


def test_defaults(lab):
    made = create(lab)
    assert (made["Timeout"], made["MemorySize"], made["Description"]) == (3, 128, "")
    assert "Environment" not in made


def test_list_pages_through_all_functions(lab):
    for number in range(5):
        create(lab, f"F{number}")
    pages = (
        lab.client("lambda")
        .get_paginator("list_functions")
        .paginate(PaginationConfig={"PageSize": 2})
    )
    names = [[each["FunctionName"] for each in page["Functions"]] for page in pages]
    assert names == [["F0", "F1"], ["F2", "F3"], ["F4"]]


@pytest.mark.parametrize(
    "name",
    [
        "Worker",
        "Worker:$LATEST",
        "123456789012:function:Worker",
        "123456789012:Worker",
        "arn:aws:lambda:us-east-1:123456789012:function:Worker",
        "arn:aws:lambda:us-east-1:123456789012:function:Worker:$LATEST",
    ],
)
def test_every_spelling_of_a_name_finds_the_function(lab, name):
    create(lab)
    assert invoke(lab, name)["answer"] == 1


@pytest.mark.parametrize(
    "name",
    [
        "worker",
        "Worker:1",
        "arn:aws:lambda:eu-west-1:123456789012:function:Worker",
        "arn:aws:lambda:us-east-1:999999999999:function:Worker",
    ],
)
def test_other_names_do_not(lab, name):
    create(lab)
    status, code, message = refusal(lab, "invoke", FunctionName=name)
    assert (status, code) == (404, "ResourceNotFoundException")
    assert message.startswith("Function not found: arn:aws:lambda:")


@pytest.mark.parametrize(
    ("call", "more"),
    [
        ("get_function", {}),
        ("get_function_configuration", {}),
        ("delete_function", {}),
        ("update_function_code", {"ZipFile": zipped()}),
        ("update_function_configuration", {"Timeout": 5}),
        ("invoke", {}),
        ("put_function_concurrency", {"ReservedConcurrentExecutions": 1}),
        ("get_function_concurrency", {}),
        ("delete_function_concurrency", {}),
    ],
)
def test_an_unknown_function_is_not_found(lab, call, more):
    assert refusal(lab, call, FunctionName="nobody", **more) == (
        404,
        "ResourceNotFoundException",
        "Function not found: arn:aws:lambda:us-east-1:123456789012:function:nobody",
    )


def test_a_second_function_of_a_name_is_refused(lab):
    create(lab)
    with pytest.raises(ClientError) as caught:
        create(lab)
    assert code_of(caught) == (409, "ResourceConflictException")
    assert caught.value.response["Error"]["Message"] == "Function already exist: Worker"
    assert caught.value.response["Type"] == "User"


def test_a_deleted_function_is_gone_and_its_name_is_free(lab):
    create(lab)
    assert (
        lab.client("lambda").delete_function(FunctionName="Worker")["ResponseMetadata"][
            "HTTPStatusCode"
        ]
        == 204
    )
    assert refusal(lab, "get_function", FunctionName="Worker")[0] == 404
    assert lab.client("lambda").list_functions()["Functions"] == []
    create(lab)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"Handler": None}, "InvalidParameterValueException", "Runtime and Handler are mandatory"),
        ({"Runtime": None}, "InvalidParameterValueException", "Runtime and Handler are mandatory"),
        ({"Code": {"ZipFile": b"no zip"}}, "InvalidParameterValueException", "Could not unzip"),
        (
            {"Role": "arn:aws:iam::123456789012:role/nobody"},
            "InvalidParameterValueException",
            "The role defined for the function cannot be assumed by Lambda.",
        ),
        ({"Timeout": 901}, "ValidationException", "less than or equal to 900"),
        ({"MemorySize": 200_000}, "ValidationException", "Value '200000' at 'memorySize' failed"),
    ],
)
def test_a_wrong_function_is_refused(lab, changes, code, words):
    with pytest.raises(ClientError) as caught:
        create(lab, **changes)
    assert code_of(caught) == (400, code)
    assert words in caught.value.response["Error"]["Message"]
    assert lab.client("lambda").list_functions()["Functions"] == []


def test_a_role_that_does_not_trust_lambda_is_refused(lab):
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "ec2.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    role = lab.client("iam").create_role(
        RoleName="ForServers", AssumeRolePolicyDocument=json.dumps(trust)
    )["Role"]["Arn"]
    with pytest.raises(ClientError, match="cannot be assumed by Lambda"):
        create(lab, Role=role)
    create(lab)
    assert refusal(lab, "update_function_configuration", FunctionName="Worker", Role=role)[1] == (
        "InvalidParameterValueException"
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"Layers": ["arn:aws:lambda:us-east-1:123456789012:layer:x:1"]}, "Layers"),
        ({"VpcConfig": {"SubnetIds": ["subnet-1"]}}, "VpcConfig"),
        ({"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:123456789012:q"}}, "DeadLetter"),
        ({"PublishTo": "LATEST_PUBLISHED"}, "PublishTo"),
        ({"Architectures": ["arm64"]}, "arm64"),
        ({"EphemeralStorage": {"Size": 1024}}, "Ephemeral"),
        ({"TracingConfig": {"Mode": "Active"}}, "Tracing"),
        ({"Runtime": "nodejs22.x"}, "nodejs22.x"),
        ({"Code": {"S3Bucket": "bucket", "S3Key": "k"}}, "ZipFile"),
        (
            {
                "Code": {
                    "ZipFile": zipped(),
                    "SourceKMSKeyArn": "arn:aws:kms:us-east-1:123456789012:key/k",
                }
            },
            "SourceKMSKeyArn",
        ),
        (
            {"PackageType": "Image", "Code": {"ImageUri": "i"}, "Runtime": None, "Handler": None},
            "container image",
        ),
    ],
)
def test_what_is_not_modelled_is_refused_and_says_so(lab, changes, named):
    with pytest.raises(ClientError) as caught:
        create(lab, **changes)
    assert code_of(caught) == (501, "NotImplemented")
    assert named in str(caught.value)
    assert "not modelled" in str(caught.value)
    assert lab.client("lambda").list_functions()["Functions"] == []


@pytest.mark.parametrize(
    ("call", "request_"),
    [
        ("invoke", {"TenantId": "tenant"}),
        ("invoke", {"DurableExecutionName": "name"}),
        ("update_function_configuration", {"Runtime": "nodejs22.x"}),
        ("list_functions", {"MasterRegion": "eu-west-1"}),
    ],
)
def test_what_would_be_ignored_is_refused(lab, call, request_):
    create(lab)
    name = {} if call == "list_functions" else {"FunctionName": "Worker"}
    status, code, message = refusal(lab, call, **name, **request_)
    assert (status, code) == (501, "NotImplemented")
    assert min(request_.values()) in message or min(request_) in message


@pytest.mark.parametrize(
    "call", ["invoke", "get_function", "get_function_configuration", "delete_function"]
)
def test_an_unknown_version_is_not_found(lab, call):
    create(lab)
    assert refusal(lab, call, FunctionName="Worker", Qualifier="1") == (
        404,
        "ResourceNotFoundException",
        "Function not found: arn:aws:lambda:us-east-1:123456789012:function:Worker:1",
    )
    assert invoke(lab)["answer"] == 1


def test_only_all_of_a_function_can_be_deleted(lab):
    create(lab)
    assert refusal(lab, "delete_function", FunctionName="Worker", Qualifier="$LATEST")[:2] == (
        400,
        "InvalidParameterValueException",
    )
    assert invoke(lab)["answer"] == 1


def test_an_operation_that_is_not_offered_says_so(lab):
    create(lab)
    assert refusal(lab, "list_function_url_configs", FunctionName="Worker") == (
        501,
        "NotImplemented",
        "The lab does not offer ListFunctionUrlConfigs of lambda.",
    )


def test_an_update_of_an_older_revision_is_refused(lab):
    old = create(lab)["RevisionId"]
    new = lab.client("lambda").update_function_configuration(
        FunctionName="Worker", Timeout=9, RevisionId=old
    )["RevisionId"]
    assert new != old
    for call, more in (
        ("update_function_configuration", {"Timeout": 1}),
        ("update_function_code", {"ZipFile": zipped()}),
    ):
        assert refusal(lab, call, FunctionName="Worker", RevisionId=old, **more)[:2] == (
            412,
            "PreconditionFailedException",
        )
    assert lab.client("lambda").get_function_configuration(FunctionName="Worker")["Timeout"] == 9


# -- invoking -----------------------------------------------------------------------------------


def test_an_invocation_answers_what_the_handler_returns(lab):
    function(lab, ECHO)
    answer = invoke(lab, event={"a": [1, None, "ü"]})
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert answer["answer"] == {"event": {"a": [1, None, "ü"]}, "name": "Worker"}
    assert "FunctionError" not in answer
    assert "LogResult" not in answer


def test_without_a_payload_the_event_is_empty(lab):
    function(lab, ECHO)
    answer = lab.client("lambda").invoke(FunctionName="Worker")
    assert json.loads(answer["Payload"].read())["event"] == {}


def test_a_payload_that_is_no_json_is_refused(lab):
    function(lab, ECHO)
    for payload in (b"{", b"\xff\xfe", b"{'a': 1}"):
        status, code, message = refusal(lab, "invoke", FunctionName="Worker", Payload=payload)
        assert (status, code) == (400, "InvalidRequestContentException")
        assert message.startswith("Could not parse request body into json")
    assert lab.invocations().empty


def test_a_payload_beyond_the_limit_is_refused(lab):
    function(lab, ECHO)
    payload = json.dumps("x" * 2 * 1024 * 1024).encode()
    assert refusal(lab, "invoke", FunctionName="Worker", Payload=payload, InvocationType="Event")[
        :2
    ] == (413, "RequestTooLargeException")
    assert len(invoke(lab, event="x" * 2 * 1024 * 1024)["answer"]["event"]) == 2 * 1024 * 1024
    payload = json.dumps("x" * 6 * 1024 * 1024).encode()
    assert refusal(lab, "invoke", FunctionName="Worker", Payload=payload)[:2] == (
        413,
        "RequestTooLargeException",
    )


def test_a_dry_run_runs_nothing(lab):
    function(lab, "def handler(event, context):\n    raise ValueError\n")
    answer = lab.client("lambda").invoke(FunctionName="Worker", InvocationType="DryRun")
    assert answer["StatusCode"] == 204
    assert lab.invocations().empty


def test_the_tail_of_the_log_comes_with_the_answer(lab):
    function(
        lab,
        """
        def handler(event, context):
            print("first")
            for number in range(2000):
                print("line", number)
            print("ü last")
    """,
    )
    text = base64.b64decode(invoke(lab, LogType="Tail")["LogResult"])
    assert len(text) == 4096
    lines = text.decode(errors="replace").splitlines()
    assert lines[-3] == "ü last"
    assert lines[-2].startswith("END RequestId")
    assert lines[-1].startswith("REPORT RequestId")
    assert "first" not in lines
    again = base64.b64decode(invoke(lab, LogType="Tail")["LogResult"]).decode(errors="replace")
    assert again != text.decode(errors="replace"), "each invocation has its own tail"


# -- concurrency --------------------------------------------------------------------------------

SLOW = """
    import time

    def handler(event, context):
        time.sleep(2)
        return "done"
"""


def impatient(lab):
    """A client that does not retry."""
    return make_client(
        lab._target.world.session, "lambda", config=Config(retries={"max_attempts": 0})
    )


def test_reserved_concurrency_is_kept_and_taken_away(lab):
    create(lab)
    functions = lab.client("lambda")
    assert "Concurrency" not in functions.get_function(FunctionName="Worker")
    assert "ReservedConcurrentExecutions" not in functions.get_function_concurrency(
        FunctionName="Worker"
    )
    functions.put_function_concurrency(FunctionName="Worker", ReservedConcurrentExecutions=5)
    assert functions.get_function(FunctionName="Worker")["Concurrency"] == {
        "ReservedConcurrentExecutions": 5
    }
    assert (
        functions.get_function_concurrency(FunctionName="Worker")["ReservedConcurrentExecutions"]
        == 5
    )
    functions.delete_function_concurrency(FunctionName="Worker")
    assert "Concurrency" not in functions.get_function(FunctionName="Worker")


def test_a_hundred_executions_stay_unreserved(lab):
    create(lab)
    create(lab, "Other")
    functions = lab.client("lambda")
    functions.put_function_concurrency(FunctionName="Worker", ReservedConcurrentExecutions=900)
    functions.put_function_concurrency(FunctionName="Worker", ReservedConcurrentExecutions=899)
    functions.put_function_concurrency(FunctionName="Other", ReservedConcurrentExecutions=1)
    status, code, message = refusal(
        lab, "put_function_concurrency", FunctionName="Other", ReservedConcurrentExecutions=2
    )
    assert (status, code) == (400, "InvalidParameterValueException")
    assert message.endswith("below its minimum value of [100].")
    assert (
        functions.get_function_concurrency(FunctionName="Other")["ReservedConcurrentExecutions"]
        == 1
    )


def test_concurrency_is_reserved_for_a_function_only(lab):
    create(lab)
    lab.client("lambda").publish_version(FunctionName="Worker")
    status, code, message = refusal(
        lab, "put_function_concurrency", FunctionName="Worker:1", ReservedConcurrentExecutions=1
    )
    assert (status, code) == (400, "InvalidParameterValueException")
    assert "Aliases and versions do not support this operation" in message


def test_no_concurrency_stops_a_function(lab):
    function(lab, ECHO)
    lab.client("lambda").put_function_concurrency(
        FunctionName="Worker", ReservedConcurrentExecutions=0
    )
    with pytest.raises(ClientError) as caught:
        impatient(lab).invoke(FunctionName="Worker")
    assert code_of(caught) == (429, "TooManyRequestsException")
    assert caught.value.response["Error"]["Message"] == "Rate Exceeded."
    assert caught.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert caught.value.response["Type"] == "User"
    assert list(lab.invocations()["outcome"]) == ["throttled"]


def test_a_throttled_call_is_retried_by_the_sdk_in_virtual_time(lab):
    function(lab, SLOW, timeout=10)
    lab.client("lambda").put_function_concurrency(
        FunctionName="Worker", ReservedConcurrentExecutions=1
    )
    invoke(lab, InvocationType="Event")
    lab.clock.advance(seconds=0.4)
    before = lab.clock.now()
    assert invoke(lab)["answer"] == "done"
    outcomes = list(lab.invocations()["outcome"])
    assert outcomes.count("ok") == 2
    assert outcomes.count("throttled") >= 1
    assert lab.clock.now() - before > timedelta(seconds=2)
    ok = lab.invocations().query("outcome == 'ok'").sort_values("started")
    assert ok["ended"].iloc[0] <= ok["started"].iloc[1], "one at a time"


def test_the_account_has_a_limit_too():
    physics = lu.Physics(account_concurrency=3, unreserved_concurrency=1)
    with lu.open_lab("embedded", physics=physics) as lab:
        function(lab, SLOW, timeout=10)
        for _ in range(3):
            invoke(lab, InvocationType="Event")
        lab.clock.advance(seconds=1)
        with pytest.raises(ClientError) as caught:
            impatient(lab).invoke(FunctionName="Worker")
        assert caught.value.response["Reason"] == "ConcurrentInvocationLimitExceeded"


def test_invocations_overlap_on_instances_of_their_own(lab):
    function(lab, SLOW, timeout=10)
    for _ in range(3):
        invoke(lab, InvocationType="Event")
    lab.clock.advance(seconds=10)
    seen = lab.invocations()
    assert sorted(seen["instance"]) == ["Worker/1", "Worker/2", "Worker/3"]
    assert max(seen["started"]) < min(seen["ended"])


# -- instances ----------------------------------------------------------------------------------

COUNTER = """
    import os
    count = 0

    def handler(event, context):
        global count
        count += 1
        return [count, os.environ.get("MODE"), context.log_stream_name]
"""


def test_globals_live_as_long_as_their_instance(lab):
    function(lab, COUNTER)
    first, second = invoke(lab)["answer"], invoke(lab)["answer"]
    assert (first[0], second[0]) == (1, 2)
    assert first[2] == second[2]
    lab.clock.advance(hours=1)
    third = invoke(lab)["answer"]
    assert third[0] == 1, "an idle instance does not live for ever"
    assert third[2] != first[2]


def test_the_life_of_an_idle_instance_is_a_constant():
    with lu.open_lab("embedded", physics=lu.Physics(idle_instance_life=60)) as lab:
        function(lab, COUNTER)
        for seconds, count in ((0, 1), (59, 2), (59, 3), (61, 1)):
            lab.clock.advance(seconds=seconds)
            assert invoke(lab)["answer"][0] == count


def test_the_instance_that_was_used_last_is_used_again(lab):
    function(lab, SLOW, timeout=10)
    for _ in range(3):
        invoke(lab, InvocationType="Event")
    lab.clock.advance(seconds=10)
    last = lab.invocations().sort_values("ended")["instance"].iloc[-1]
    for _ in range(2):
        invoke(lab)
        assert lab.invocations()["instance"].iloc[-1] == last


def test_a_function_sees_all_of_its_context(lab):
    source = """
        NAMES = ["function_name", "function_version", "invoked_function_arn", "memory_limit_in_mb",
                 "aws_request_id", "log_group_name", "log_stream_name", "client_context"]

        def handler(event, context):
            who = context.identity
            return [getattr(context, name) for name in NAMES] + [
                who.cognito_identity_id, who.cognito_identity_pool_id,
                context.get_remaining_time_in_millis()]
    """
    arn = function(lab, source, timeout=7, memory=256)
    answer = invoke(lab)
    seen = answer["answer"]
    assert seen[:4] == ["Worker", "$LATEST", arn, "256"]
    assert re.fullmatch(UUID, seen[4])
    assert seen[5] == "/aws/lambda/Worker"
    assert re.fullmatch(r"2026/01/05/\[\$LATEST\][0-9a-f]{32}", seen[6])
    assert seen[7:] == [None, None, None, 7000]


def test_ten_thousand_short_invocations_leave_no_timers_behind(lab):
    function(lab, "def handler(event, context):\n    return event\n", timeout=900)
    scheduler = lab._world("timers").scheduler
    functions = lab._world("timers").region("us-east-1").functions
    before = len(scheduler.env._queue)
    for _ in range(10_000):
        scheduler.run(functions.invoke(functions.find("Worker"), "{}", Trigger()))
    assert len(scheduler.env._queue) - before < 5


def test_new_settings_and_new_code_need_new_instances(lab):
    function(lab, COUNTER)
    assert [invoke(lab)["answer"][0] for _ in range(2)] == [1, 2]
    lab.client("lambda").update_function_configuration(
        FunctionName="Worker", Environment={"Variables": {"MODE": "fast"}}
    )
    assert invoke(lab)["answer"][:2] == [1, "fast"]
    function(lab, COUNTER.replace("+= 1", "+= 10"))
    assert invoke(lab)["answer"][:2] == [10, None], "deploying again sets the environment too"


def test_a_dry_run_of_new_code_changes_nothing(lab):
    function(lab, COUNTER)
    invoke(lab)
    lab.client("lambda").update_function_code(FunctionName="Worker", ZipFile=zipped(), DryRun=True)
    assert invoke(lab)["answer"][0] == 2


def test_an_invocation_under_way_ends_with_the_code_it_began_with(lab):
    function(lab, SLOW, timeout=10)
    invoke(lab, InvocationType="Event")
    lab.clock.advance(seconds=1)
    function(lab, "def handler(event, context):\n    return 'new'\n")
    assert invoke(lab)["answer"] == "new"
    lab.clock.advance(seconds=10)
    assert list(lab.invocations()["outcome"]) == ["ok", "ok"]
    assert len(set(lab.invocations()["instance"])) == 2
    assert invoke(lab)["answer"] == "new", "the old instance is not used again"


def test_an_invocation_under_way_keeps_the_settings_it_began_with(lab):
    function(lab, "import time\ndef handler(event, context):\n    time.sleep(5)\n", timeout=1)
    function(
        lab,
        """
        import boto3

        def handler(event, context):
            boto3.client("lambda").update_function_configuration(
                FunctionName="Worker", Handler="app.another", Timeout=4, MemorySize=512)
    """,
        "Changer",
    )
    invoke(lab, "Changer", InvocationType="Event")  # done while the first one starts
    answer = invoke(lab, LogType="Tail")
    assert answer["answer"]["errorMessage"].endswith("Task timed out after 1.00 seconds")
    log = base64.b64decode(answer["LogResult"]).decode()
    assert "Memory Size: 128 MB" in log
    assert log.endswith(" ms\tStatus: timeout"), "behind the duration of the cold start"
    assert invoke(lab)["answer"]["errorType"] == "Runtime.HandlerNotFound", "settings are new now"


def test_the_environment_tells_where_it_runs(lab):
    function(
        lab,
        """
        import os

        def handler(event, context):
            return dict(os.environ)
    """,
        environment={"MODE": "test"},
        memory=256,
    )
    seen = invoke(lab)["answer"]
    assert seen["MODE"] == "test"
    assert seen["AWS_REGION"] == "us-east-1"
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "Worker"
    assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert "PATH" not in seen
    assert not any("/work" in value or "/home" in value for value in seen.values())


def test_a_handler_may_do_what_its_role_allows_and_no_more(lab):
    source = """
        import boto3

        def handler(event, context):
            return boto3.client("dynamodb").list_tables()["TableNames"]
    """
    function(lab, source, role=lab.role("NarrowRole"))
    answer = invoke(lab)
    assert answer["FunctionError"] == "Unhandled"
    assert answer["answer"]["errorType"] in ("ClientError", "AccessDeniedException")
    assert (
        "User: arn:aws:sts::123456789012:assumed-role/NarrowRole/Worker is not authorized to "
        "perform: dynamodb:ListTables"
    ) in answer["answer"]["errorMessage"]
    lab.role("NarrowRole", {"Effect": "Allow", "Action": "dynamodb:ListTables", "Resource": "*"})
    assert invoke(lab)["answer"] == []


def test_a_handler_can_invoke_another_function(lab):
    function(lab, ECHO, "Inner")
    function(
        lab,
        """
        import boto3, json

        def handler(event, context):
            answer = boto3.client("lambda").invoke(FunctionName="Inner", Payload=b'"hello"')
            return json.loads(answer["Payload"].read())["event"]
    """,
        "Outer",
        timeout=10,
    )
    assert invoke(lab, "Outer")["answer"] == "hello"
    assert sorted(lab.invocations()["function"]) == ["Inner", "Outer"]


# -- errors -------------------------------------------------------------------------------------


def failed(lab, source, **settings):
    function(lab, source, **settings)
    answer = invoke(lab)
    assert answer["StatusCode"] == 200
    assert answer["FunctionError"] == "Unhandled"
    return answer["answer"]


def test_an_exception_is_told_as_lambda_tells_it(lab):
    error = failed(
        lab,
        """
        def helper():
            raise KeyError("missing")

        def handler(event, context):
            return helper()
    """,
    )
    assert (error["errorType"], error["errorMessage"]) == ("KeyError", "'missing'")
    assert re.fullmatch(UUID, error["requestId"])
    assert error["stackTrace"] == [
        '  File "/var/task/app.py", line 6, in handler\n    return helper()\n',
        '  File "/var/task/app.py", line 3, in helper\n    raise KeyError("missing")\n',
    ]
    assert list(lab.invocations()["outcome"]) == ["error"]
    assert any("[ERROR] KeyError: 'missing'" in line for line in log_lines(lab))


def test_an_instance_survives_an_exception(lab):
    function(lab, COUNTER.replace("return [", "1 / (count - 1)\n        return ["))
    assert invoke(lab)["answer"]["errorType"] == "ZeroDivisionError"
    assert invoke(lab)["answer"][0] == 2


def test_a_timeout_ends_the_instance_and_runs_no_finally(lab):
    source = """
        import time
        count = 0

        def handler(event, context):
            global count
            count += 1
            if event == "fast":
                return count
            try:
                time.sleep(60)
            finally:
                print("FINALLY")
    """
    function(lab, source, timeout=5)
    assert invoke(lab, event="fast")["answer"] == 1
    before = lab.clock.now()
    answer = invoke(lab)
    assert 5 <= (lab.clock.now() - before).total_seconds() < 5.2
    assert answer["FunctionError"] == "Unhandled"
    assert answer["answer"]["errorType"] == "Sandbox.Timedout"
    assert re.fullmatch(
        f"RequestId: {UUID} Error: Task timed out after 5.00 seconds",
        answer["answer"]["errorMessage"],
    )
    assert invoke(lab, event="fast")["answer"] == 1, "a new instance"
    lab.clock.advance(hours=1)
    lines = log_lines(lab)
    assert "FINALLY" not in lines
    assert sum("Task timed out after 5.00 seconds" in line for line in lines) == 1
    assert list(lab.invocations()["outcome"]) == ["ok", "timeout", "ok"]


def test_a_handler_that_catches_everything_times_out_all_the_same(lab):
    function(
        lab,
        """
        import time

        def handler(event, context):
            while True:
                try:
                    time.sleep(1)
                except BaseException:
                    print("CAUGHT")
    """,
    )
    assert invoke(lab)["answer"]["errorType"] == "Sandbox.Timedout"
    lab.clock.advance(minutes=1)
    assert "CAUGHT" not in log_lines(lab)


def test_a_client_error_of_a_handler_is_an_error_like_any_other(lab):
    error = failed(
        lab,
        """
        import boto3

        def handler(event, context):
            boto3.client("dynamodb").get_item(TableName="nobody", Key={"id": {"S": "1"}})
    """,
    )
    assert error["errorType"] == "ResourceNotFoundException"
    assert "GetItem operation" in error["errorMessage"]


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        (
            "import nowhere\ndef handler(event, context):\n    pass\n",
            "Runtime.ImportModuleError",
            "Unable to import module 'app': No module named 'nowhere'",
        ),
        (
            "def other(event, context):\n    pass\n",
            "Runtime.HandlerNotFound",
            "Handler 'handler' missing on module 'app'",
        ),
        (
            "def handler(event, context)\n    pass\n",
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'app'",
        ),
        (
            "1 / 0\ndef handler(event, context):\n    pass\n",
            "ZeroDivisionError",
            "division by zero",
        ),
    ],
)
def test_code_that_cannot_be_loaded(lab, source, kind, words):
    create(lab, Code={"ZipFile": zipped(source)})
    for _ in range(2):
        answer = invoke(lab)
        assert answer["FunctionError"] == "Unhandled"
        assert answer["answer"]["errorType"] == kind
        assert words in answer["answer"]["errorMessage"]
    assert len(set(lab.invocations()["instance"])) == 2, "each try needs a new instance"


@pytest.mark.parametrize(
    ("handler", "kind"),
    [("app", "Runtime.MalformedHandlerName"), ("other.handler", "Runtime.ImportModuleError")],
)
def test_a_handler_that_is_not_there(lab, handler, kind):
    create(lab, Handler=handler)
    assert invoke(lab)["answer"]["errorType"] == kind


@pytest.mark.parametrize("value", ["{1, 2}", "object()", "{(1, 2): 3}", "b'bytes'"])
def test_an_answer_that_is_no_json(lab, value):
    error = failed(lab, f"def handler(event, context):\n    return {value}\n")
    assert error["errorType"] == "Runtime.MarshalError"
    assert error["errorMessage"].startswith("Unable to marshal response: ")
    assert "0x" not in error["errorMessage"].replace("0x...", "")


def test_decimals_are_numbers_in_an_answer(lab):
    function(
        lab,
        """
        from decimal import Decimal

        def handler(event, context):
            return [Decimal("3"), Decimal("0.25")]
    """,
    )
    assert invoke(lab)["answer"] == [3, 0.25]


def test_an_answer_that_is_too_long(lab):
    error = failed(lab, "def handler(event, context):\n    return 'x' * 7_000_000\n")
    assert error["errorType"] == "Function.ResponseSizeTooLarge"


@pytest.mark.parametrize(
    ("leave", "words"),
    [
        ("sys.exit(3)", "with error: exit status 3"),
        ("sys.exit()", "without providing a reason"),
        ("sys.exit('over')", "with error: exit status 1"),
        ("os._exit(2)", "with error: exit status 2"),
    ],
)
def test_leaving_the_process_ends_the_instance(lab, leave, words):
    source = f"""
        import os, sys
        count = 0

        def handler(event, context):
            global count
            count += 1
            if event == "stay":
                return count
            {leave}
    """
    function(lab, source)
    assert invoke(lab, event="stay")["answer"] == 1
    answer = invoke(lab)
    assert answer["FunctionError"] == "Unhandled"
    assert answer["answer"]["errorType"] == "Runtime.ExitError"
    assert answer["answer"]["errorMessage"].endswith(f"Error: Runtime exited {words}")
    assert invoke(lab, event="stay")["answer"] == 1, "a new instance"


# -- logs ---------------------------------------------------------------------------------------


def test_prints_go_to_the_log_and_not_into_the_notebook(lab, capsys):
    function(
        lab,
        """
        import logging, sys
        logging.getLogger().setLevel("INFO")

        def handler(event, context):
            print("printed", end="")
            print(" and", "joined")
            sys.stderr.write("to stderr\\n")
            logging.info("logged")
            print()
            print("open end", end="")
    """,
    )
    invoke(lab)
    lines = log_lines(lab)
    request = lines[0].split()[2]
    assert lines[0] == f"START RequestId: {request} Version: $LATEST"
    assert lines[1:3] == ["printed and joined", "to stderr"]
    assert re.fullmatch(rf"\[INFO\]\t2026-01-05T09:00:0\d\.\d{{3}}Z\t{request}\tlogged", lines[3])
    assert lines[5:7] == ["open end", f"END RequestId: {request}"]
    assert re.fullmatch(
        rf"REPORT RequestId: {request}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\t"
        r"Memory Size: 128 MB\tMax Memory Used: \d+ MB\tInit Duration: \d+\.\d\d ms",
        lines[7],
    )
    assert len(lines) == 8
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_log_events_carry_rising_virtual_times(lab):
    function(
        lab,
        """
        import time

        def handler(event, context):
            for number in range(3):
                print("at", number)
                time.sleep(0.5)
    """,
    )
    invoke(lab)
    logs = lab.client("logs")
    name = logs.describe_log_streams(logGroupName="/aws/lambda/Worker")["logStreams"][0]
    assert re.fullmatch(r"2026/01/05/\[\$LATEST\][0-9a-f]{32}", name["logStreamName"])
    events = logs.get_log_events(
        logGroupName="/aws/lambda/Worker", startFromHead=True, logStreamName=name["logStreamName"]
    )["events"]
    times = [event["timestamp"] for event in events]
    assert times == sorted(times)
    assert [later - times[1] for later in times[1:4]] == [0, 500, 1000]
    assert abs(times[-1] - lab.clock.now().timestamp() * 1000) < 1000


def test_a_second_invocation_of_an_instance_has_no_init_duration(lab):
    function(lab, ECHO)
    invoke(lab)
    invoke(lab)
    reports = [line for line in log_lines(lab) if line.startswith("REPORT")]
    assert ["Init Duration" in line for line in reports] == [True, False]


def test_megabytes_become_many_log_events(lab, capsys):
    function(
        lab,
        """
        def handler(event, context):
            print("a" * 3_000_000)
            print("ü" * 500_000)
            return "fine"
    """,
    )
    assert invoke(lab)["answer"] == "fine"
    lines = log_lines(lab)
    assert max(len(line.encode()) for line in lines) <= 1024 * 1024
    assert sum(line.count("a") for line in lines if set(line) == {"a"}) == 3_000_000
    assert sum(line.count("ü") for line in lines) == 500_000
    assert capsys.readouterr().out == ""


def test_text_that_no_encoding_takes_does_no_harm(lab):
    function(lab, "def handler(event, context):\n    print('half: \\ud83d')\n    return 1\n")
    assert invoke(lab, LogType="Tail")["answer"] == 1
    assert len(log_lines(lab)) >= 4


def test_a_log_group_or_stream_that_was_deleted_begins_again(lab):
    function(lab, ECHO)
    logs = lab.client("logs")
    for delete_group in (True, False):
        invoke(lab)
        stream = logs.describe_log_streams(logGroupName="/aws/lambda/Worker")["logStreams"][0][
            "logStreamName"
        ]
        if delete_group:
            logs.delete_log_group(logGroupName="/aws/lambda/Worker")
        else:
            logs.delete_log_stream(logGroupName="/aws/lambda/Worker", logStreamName=stream)
        invoke(lab)
        assert sum(line.startswith("START") for line in log_lines(lab)) == 1


def test_an_account_tells_what_it_may_run_at_once(lab):
    functions = lab.client("lambda")
    limit = functions.get_account_settings()["AccountLimit"]
    assert limit["ConcurrentExecutions"] == limit["UnreservedConcurrentExecutions"] == 1000
    lab.deploy_function("F", "def handler(event, context):\n    pass\n", role=lab.role("R"))
    functions.put_function_concurrency(FunctionName="F", ReservedConcurrentExecutions=5)
    settings = functions.get_account_settings()
    assert settings["AccountLimit"]["UnreservedConcurrentExecutions"] == 995
    assert settings["AccountUsage"]["FunctionCount"] == 1
    assert settings["AccountUsage"]["TotalCodeSize"] > 0
