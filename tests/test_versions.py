"""Versions and aliases: what is frozen, what is shared, and what a qualifier means."""

from __future__ import annotations

import base64
import io
import json
import textwrap
import zipfile

import pytest
from botocore.exceptions import ClientError
from running import (
    COLLECTOR,
    EVERYTHING,
    code_of,
    connect,
    function,
    got,
    invoke,
    log_lines,
    send,
    stream,
)

from lab_utils.emulator.versions import parse

ARN = "arn:aws:lambda:us-east-1:123456789012:function:Worker"
WHO = """
    import os

    calls = []

    def handler(event, context):
        calls.append(event)
        return {
            "says": "%s",
            "calls": len(calls),
            "version": context.function_version,
            "environment": os.environ["AWS_LAMBDA_FUNCTION_VERSION"],
            "arn": context.invoked_function_arn,
            "stream": context.log_stream_name,
        }
"""


def publish(lab, **more):
    return lab.client("lambda").publish_version(FunctionName="Worker", **more)


def alias(lab, name="live", version="1", **more):
    return lab.client("lambda").create_alias(
        FunctionName="Worker", Name=name, FunctionVersion=version, **more
    )


def zipped(says):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", textwrap.dedent(WHO % says))
    return buffer.getvalue()


def refusal(lab, call, **request):
    with pytest.raises(ClientError) as caught:
        getattr(lab.client("lambda"), call)(**request)
    return (*code_of(caught), caught.value.response["Error"]["Message"])


@pytest.fixture
def two(lab):
    """Version 1 says "old", $LATEST says "new", and the alias live is version 1."""
    function(lab, WHO % "old")
    publish(lab)
    alias(lab)
    function(lab, WHO % "new")
    return lab


# -- versions -----------------------------------------------------------------------------------


def test_a_version_is_described_with_its_number(lab):
    function(lab, WHO % "old")
    made = publish(lab, Description="the first")
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (made["Version"], made["FunctionArn"]) == ("1", f"{ARN}:1")
    assert made["Description"] == "the first"
    found = lab.client("lambda").get_function(FunctionName="Worker", Qualifier="1")
    assert found["Configuration"]["FunctionArn"] == f"{ARN}:1"
    assert found["Configuration"]["CodeSha256"] == made["CodeSha256"]
    latest = lab.client("lambda").get_function_configuration(FunctionName="Worker")
    assert (latest["Version"], latest["FunctionArn"]) == ("$LATEST", ARN)
    named = lab.client("lambda").get_function_configuration(FunctionName="Worker:$LATEST")
    assert named["FunctionArn"] == f"{ARN}:$LATEST"


def test_without_a_change_there_is_no_new_version(lab):
    function(lab, WHO % "old")
    assert [publish(lab)["Version"], publish(lab)["Version"]] == ["1", "1"]
    function(lab, WHO % "old", timeout=5)
    assert publish(lab)["Version"] == "2"


def test_versions_are_listed_latest_first(two):
    publish(two)
    pages = two.client("lambda").get_paginator("list_versions_by_function")
    found = [
        (each["Version"], each["FunctionArn"])
        for page in pages.paginate(FunctionName="Worker", PaginationConfig={"PageSize": 2})
        for each in page["Versions"]
    ]
    assert found == [(number, f"{ARN}:{number}") for number in ("$LATEST", "1", "2")]
    every = two.client("lambda").list_functions(FunctionVersion="ALL")["Functions"]
    assert [each["Version"] for each in every] == ["$LATEST", "1", "2"]
    assert len(two.client("lambda").list_functions()["Functions"]) == 1


def test_a_version_keeps_code_settings_and_role(lab):
    first = function(lab, WHO % "old", timeout=7, environment={"A": "1"})
    publish(lab)
    other = lab.role("OtherRole", EVERYTHING)
    function(lab, WHO % "new", timeout=9, environment={"A": "2"}, role=other)
    found = lab.client("lambda").get_function_configuration(FunctionName="Worker", Qualifier="1")
    assert (found["Timeout"], found["Environment"]) == (7, {"Variables": {"A": "1"}})
    assert found["Role"].endswith("/EverythingRole")
    assert invoke(lab, Qualifier="1")["answer"]["says"] == "old"
    assert invoke(lab, first)["answer"]["says"] == "new"


def test_create_and_update_may_publish_at_once(lab):
    role = lab.role("EverythingRole", EVERYTHING)
    functions = lab.client("lambda")
    made = functions.create_function(
        FunctionName="Worker",
        Role=role,
        Runtime="python3.12",
        Handler="app.handler",
        Code={"ZipFile": zipped("old")},
        Publish=True,
    )
    assert (made["Version"], made["FunctionArn"]) == ("1", f"{ARN}:1")
    changed = functions.update_function_code(
        FunctionName="Worker", ZipFile=zipped("new"), Publish=True
    )
    assert (changed["Version"], changed["FunctionArn"]) == ("2", f"{ARN}:2")
    says = [invoke(lab, Qualifier=number)["answer"]["says"] for number in ("1", "2")]
    assert says == ["old", "new"]


def test_a_version_is_published_of_what_the_caller_has_seen(lab):
    function(lab, WHO % "old")
    assert refusal(lab, "publish_version", FunctionName="Worker", CodeSha256="x" * 44)[:2] == (
        400,
        "InvalidParameterValueException",
    )
    assert refusal(lab, "publish_version", FunctionName="Worker", RevisionId="old")[:2] == (
        412,
        "PreconditionFailedException",
    )
    latest = lab.client("lambda").get_function_configuration(FunctionName="Worker")
    made = publish(lab, CodeSha256=latest["CodeSha256"], RevisionId=latest["RevisionId"])
    assert made["Version"] == "1"


@pytest.mark.parametrize(
    ("call", "more"),
    [
        ("update_function_configuration", {"Timeout": 5}),
        ("update_function_code", {"ZipFile": zipped("newer")}),
    ],
)
def test_a_published_version_cannot_be_changed(two, call, more):
    assert refusal(two, call, FunctionName="Worker:1", **more)[:2] == (501, "NotImplemented")
    assert invoke(two)["answer"]["says"] == "new"


def test_a_version_that_an_alias_points_to_cannot_be_deleted(two):
    functions = two.client("lambda")
    assert refusal(two, "delete_function", FunctionName="Worker", Qualifier="1") == (
        409,
        "ResourceConflictException",
        "Unable to delete version because the following aliases reference it: [live]",
    )
    assert refusal(two, "delete_function", FunctionName="Worker", Qualifier="live")[1] == (
        "InvalidParameterValueException"
    )
    functions.delete_alias(FunctionName="Worker", Name="live")
    functions.delete_function(FunctionName="Worker:1")
    assert refusal(two, "invoke", FunctionName="Worker", Qualifier="1")[:2] == (
        404,
        "ResourceNotFoundException",
    )
    assert publish(two)["Version"] == "2", "numbers are not used again"
    assert invoke(two)["answer"]["says"] == "new"


def test_a_deleted_function_takes_its_versions_and_aliases_along(two):
    two.client("lambda").delete_function(FunctionName="Worker")
    for qualifier in ("1", "live"):
        assert refusal(two, "invoke", FunctionName="Worker", Qualifier=qualifier)[0] == 404


# -- aliases ------------------------------------------------------------------------------------


def test_an_alias_is_described_moved_and_deleted(two):
    functions = two.client("lambda")
    found = functions.get_alias(FunctionName="Worker", Name="live")
    assert {key: found[key] for key in ("AliasArn", "Name", "FunctionVersion", "Description")} == {
        "AliasArn": f"{ARN}:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "",
    }
    publish(two)
    moved = functions.update_alias(
        FunctionName="Worker", Name="live", FunctionVersion="2", Description="moved"
    )
    assert (moved["FunctionVersion"], moved["Description"]) == ("2", "moved")
    assert moved["RevisionId"] != found["RevisionId"]
    assert invoke(two, Qualifier="live")["answer"]["says"] == "new"
    functions.delete_alias(FunctionName="Worker", Name="live")
    assert refusal(two, "get_alias", FunctionName="Worker", Name="live") == (
        404,
        "ResourceNotFoundException",
        f"Cannot find alias arn: {ARN}:live",
    )


def test_aliases_are_listed_by_version(two):
    publish(two)
    alias(two, "next", "2")
    alias(two, "edge", "$LATEST")
    functions = two.client("lambda")

    def names(**only):
        found = functions.list_aliases(FunctionName="Worker", **only)["Aliases"]
        return [each["Name"] for each in found]

    assert names() == ["edge", "live", "next"]
    assert names(FunctionVersion="2") == ["next"]
    assert invoke(two, Qualifier="edge")["answer"]["says"] == "new"


@pytest.mark.parametrize(
    ("call", "more", "expected"),
    [
        (
            "create_alias",
            {"Name": "live", "FunctionVersion": "1"},
            (409, "ResourceConflictException", f"Alias already exists: {ARN}:live"),
        ),
        (
            "create_alias",
            {"Name": "next", "FunctionVersion": "7"},
            (404, "ResourceNotFoundException", f"Function not found: {ARN}:7"),
        ),
        (
            "update_alias",
            {"Name": "next", "FunctionVersion": "1"},
            (404, "ResourceNotFoundException", f"Alias not found: {ARN}:next"),
        ),
        (
            "invoke",
            {"Qualifier": "next"},
            (404, "ResourceNotFoundException", f"Function not found: {ARN}:next"),
        ),
    ],
)
def test_what_aws_refuses(two, call, more, expected):
    assert refusal(two, call, FunctionName="Worker", **more) == expected


def test_an_alias_needs_a_name_that_is_no_number(two):
    status, code, message = refusal(
        two, "create_alias", FunctionName="Worker", Name="12", FunctionVersion="1"
    )
    assert (status, code) == (400, "ValidationException")
    assert "Value '12' at 'name' failed to satisfy constraint" in message


def test_a_stale_alias_is_not_updated(two):
    assert refusal(two, "update_alias", FunctionName="Worker", Name="live", RevisionId="x")[1] == (
        "PreconditionFailedException"
    )


@pytest.mark.parametrize("call", ["create_alias", "update_alias"])
def test_weights_are_not_modelled(two, call):
    status, code, message = refusal(
        two,
        call,
        FunctionName="Worker",
        Name="live",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}},
    )
    assert (status, code) == (501, "NotImplemented")
    assert "AdditionalVersionWeights" in message


# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Worker:live",
        "function:Worker:live",
        "123456789012:Worker:live",
        "123456789012:function:Worker:live",
        f"{ARN}:live",
    ],
)
def test_a_qualifier_may_stand_in_any_spelling_of_a_name(two, name):
    assert invoke(two, name)["answer"]["says"] == "old"
    assert invoke(two, name, Qualifier="live")["answer"]["says"] == "old"
    functions = two._world("it").region("us-east-1").functions
    assert functions.arn_as_given(name) == f"{ARN}:live"
    assert refusal(two, "invoke", FunctionName=name, Qualifier="1") == (
        400,
        "InvalidParameterValueException",
        "The derived qualifier from the function name does not match the specified qualifier.",
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Worker", ARN),
        ("Worker:$LATEST", f"{ARN}:$LATEST"),
        ("123456789012:function:Worker:1", f"{ARN}:1"),
        (ARN, ARN),
    ],
)
def test_an_arn_keeps_the_qualifier_as_it_was_given(lab, given, expected):
    """Fact 48."""
    assert lab._world("it").region("us-east-1").functions.arn_as_given(given) == expected


def test_what_is_no_name_is_none():
    assert parse("two words") is None
    assert parse("arn:aws:sqs:us-east-1:123456789012:queue") is None


# -- invoking -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("qualifier", "version", "arn"),
    [
        (None, "$LATEST", ARN),
        ("$LATEST", "$LATEST", f"{ARN}:$LATEST"),
        ("1", "1", f"{ARN}:1"),
        ("live", "1", f"{ARN}:live"),
    ],
)
def test_a_function_knows_its_version_and_how_it_was_called(two, qualifier, version, arn):
    answer = invoke(two, **({"Qualifier": qualifier} if qualifier else {}))
    assert answer["ExecutedVersion"] == version
    context = answer["answer"]
    assert (context["version"], context["environment"], context["arn"]) == (version, version, arn)
    assert f"/[{version}]" in context["stream"]
    assert any(line.endswith(f"Version: {version}") for line in log_lines(two))


def test_versions_share_no_instance_and_an_alias_no_more_than_its_version(two):
    calls = [
        invoke(two, **more)["answer"]["calls"]
        for more in ({}, {"Qualifier": "1"}, {"Qualifier": "live"}, {"Qualifier": "$LATEST"})
    ]
    assert calls == [1, 1, 2, 2]
    assert set(two.invocations()["instance"]) == {"Worker/1", "Worker/2"}


def test_an_update_leaves_instances_of_published_versions_alive(two):
    assert invoke(two, Qualifier="1")["answer"]["calls"] == 1
    function(two, WHO % "newest")
    assert invoke(two, Qualifier="1")["answer"]["calls"] == 2


def test_reserved_concurrency_is_that_of_all_versions_together(two):
    """The Developer Guide: reserved concurrency applies to the function as a whole."""
    functions = two.client("lambda")
    functions.put_function_concurrency(FunctionName="Worker", ReservedConcurrentExecutions=0)
    for qualifier in ("$LATEST", "1", "live"):
        with pytest.raises(ClientError, match="Rate Exceeded"):
            invoke(two, Qualifier=qualifier)


def test_versions_wait_for_each_other_where_concurrency_is_reserved(lab):
    slow = "import time\ndef handler(event, context):\n    time.sleep(%d)\n"
    function(lab, slow % 2, timeout=10)
    publish(lab)
    function(lab, slow % 3, timeout=10)
    lab.client("lambda").put_function_concurrency(
        FunctionName="Worker", ReservedConcurrentExecutions=1
    )
    for qualifier in ("$LATEST", "1", "$LATEST", "1"):
        invoke(lab, Qualifier=qualifier, InvocationType="Event")
    lab.clock.advance(minutes=2)
    done = lab.invocations().query("outcome == 'ok'").sort_values("started")
    assert len(done) == 4
    assert (done["ended"].shift() <= done["started"])[1:].all()


def test_an_alias_is_a_resource_of_its_own_in_a_policy(two):
    caller = two.role(
        "CallerRole", {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": ARN}
    )
    source = """
        import boto3

        def handler(event, context):
            try:
                boto3.client("lambda").invoke(FunctionName="Worker", **event)
                return "allowed"
            except Exception as refused:
                return str(refused)
    """
    two.deploy_function("Caller", textwrap.dedent(source), role=caller)
    assert invoke(two, "Caller", {})["answer"] == "allowed"
    refused = invoke(two, "Caller", {"Qualifier": "live"})["answer"]
    assert f"lambda:InvokeFunction on resource: {ARN}:live" in refused


def test_a_mapping_to_an_alias_follows_it(lab):
    arn = stream(lab)
    function(lab, COLLECTOR)
    publish(lab)
    alias(lab)
    function(lab, "def handler(event, context):\n    raise ValueError('the new code is broken')\n")
    uuid = connect(lab, arn, "Worker:live")
    found = lab.client("lambda").get_event_source_mapping(UUID=uuid)
    assert found["FunctionArn"] == f"{ARN}:live"
    send(lab, "a")
    lab.clock.advance(seconds=10)
    assert got(lab) == ["a"]
    publish(lab)
    lab.client("lambda").update_alias(FunctionName="Worker", Name="live", FunctionVersion="2")
    send(lab, "b")
    lab.clock.advance(seconds=10)
    assert got(lab) == ["a"]
    assert list(lab.invocations()["outcome"])[:2] == ["ok", "error"]


def test_the_callers_context_reaches_the_function(lab):
    source = """
        def handler(event, context):
            given = context.client_context
            return given and [given.custom, given.env, given.client.app_title]
    """
    function(lab, source)
    context = {"custom": {"a": "1"}, "env": {"b": "2"}, "client": {"app_title": "App"}}
    encoded = base64.b64encode(json.dumps(context).encode()).decode()
    assert invoke(lab, ClientContext=encoded)["answer"] == [{"a": "1"}, {"b": "2"}, "App"]
    assert invoke(lab)["answer"] is None
    assert refusal(lab, "invoke", FunctionName="Worker", ClientContext="e3s=")[1] == (
        "InvalidRequestContentException"
    )


def test_what_a_mapping_gave_up_names_the_version_behind_its_alias(lab):
    function(lab, "def handler(event, context): raise ValueError")
    functions, sqs = lab.clients("lambda", "sqs")
    functions.publish_version(FunctionName="Worker")
    functions.create_alias(FunctionName="Worker", Name="live", FunctionVersion="1")
    url = sqs.create_queue(QueueName="lost")["QueueUrl"]
    made = connect(
        lab,
        stream(lab),
        "Worker:live",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:lost"}},
    )
    assert functions.get_event_source_mapping(UUID=made)["FunctionArn"].endswith(":Worker:live")
    send(lab, "a")
    lab.clock.advance(seconds=10)
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(message["Body"])["responseContext"]["executedVersion"] == "1"
