"""Mappings on the embedded target: their API, their states, and what reaches the function."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pandas as pd
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import (
    COLLECTOR,
    code_of,
    connect,
    function,
    got,
    log_lines,
    put,
    send,
    state,
    stream,
    table,
    wait_for_state,
)

import lab_utils as lu

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
QUICK = {"mapping_creation": (1.0, 1.0), "mapping_update": (1.0, 1.0)}

FLAKY = """
    import time

    calls = 0

    def handler(event, context):
        global calls
        calls += 1
        print("BATCH", calls, [record["eventID"] for record in event["Records"]])
        if calls <= FAILURES:
            raise ValueError("not yet")
"""


def batches(lab, name="Worker"):
    """The eventIDs of each batch, as `FLAKY` logged them."""
    return [line.split(" ", 2)[2] for line in log_lines(lab, name) if line.startswith("BATCH")]


def refusal(lab, call="create_event_source_mapping", **request):
    with pytest.raises(ClientError) as caught:
        getattr(lab.client("lambda"), call)(**request)
    return (*code_of(caught), caught.value.response["Error"]["Message"])


def one_in_flight(seen):
    """No two invocations for one shard of one function overlap."""
    ran = seen[(seen["outcome"] != "throttled") & seen["shard"].notna()]
    for _, rows in ran.groupby(["function", "shard"]):
        rows = rows.sort_values("started")
        assert (rows["ended"].shift() <= rows["started"])[1:].all(), rows
    return True


# -- the API ------------------------------------------------------------------------------------


@pytest.fixture(params=["dynamodb", "kinesis"])
def source(request, lab):
    return table(lab) if request.param == "dynamodb" else stream(lab)


def test_a_new_mapping_is_described_as_aws_does(lab, source):
    """Facts 43, 44 and 46: the status, every member, the defaults, the ARN."""
    arn = function(lab, COLLECTOR)
    made = lab.client("lambda").create_event_source_mapping(
        EventSourceArn=source, FunctionName="Worker", StartingPosition="LATEST"
    )
    assert made.pop("ResponseMetadata")["HTTPStatusCode"] == 202
    uuid = made.pop("UUID")
    assert re.fullmatch(UUID, uuid)
    assert abs(made.pop("LastModified") - lab.clock.now()) < timedelta(seconds=1)
    assert made == {
        "EventSourceMappingArn": "arn:aws:lambda:us-east-1:123456789012:event-source-mapping:"
        + uuid,
        "EventSourceArn": source,
        "FunctionArn": arn,
        "StartingPosition": "LATEST",
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "MaximumRetryAttempts": -1,
        "TumblingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
        "DestinationConfig": {"OnFailure": {}},
        "State": "Creating",
        "StateTransitionReason": "User action",
        "LastProcessingResult": "No records processed",
    }


def test_the_states_of_a_life(lab, source):
    """Facts 49, 50 and 51: Enabled after Creating, Disabling, Deleting."""
    function(lab, COLLECTOR)
    functions = lab.client("lambda")
    uuid = connect(lab, source, wait=False)
    began = lab.clock.now()
    assert state(lab, uuid) == "Creating"
    wait_for_state(lab, uuid, "Enabled")
    assert 2.5 <= (lab.clock.now() - began).total_seconds() <= 9
    settled = functions.get_event_source_mapping(UUID=uuid)
    assert settled["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert settled["StateTransitionReason"] == "User action"
    assert settled["LastProcessingResult"] == "No records processed"
    answer = functions.update_event_source_mapping(UUID=uuid, Enabled=False)
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["State"]) == (202, "Disabling")
    assert state(lab, uuid) == "Disabling"
    wait_for_state(lab, uuid, "Disabled")
    assert functions.update_event_source_mapping(UUID=uuid, Enabled=True)["State"] == "Enabling"
    wait_for_state(lab, uuid, "Enabled")
    answer = functions.update_event_source_mapping(UUID=uuid, BatchSize=7)
    assert (answer["State"], answer["BatchSize"]) == ("Updating", 7)
    wait_for_state(lab, uuid, "Enabled")
    answer = functions.delete_event_source_mapping(UUID=uuid)
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["State"]) == (202, "Deleting")
    assert answer["UUID"] == uuid
    assert state(lab, uuid) == "Deleting"
    lab.clock.advance(seconds=10)
    assert refusal(lab, "get_event_source_mapping", UUID=uuid)[0] == 404


def test_a_mapping_is_modified_when_its_state_changes(lab, source):
    function(lab, COLLECTOR)
    functions = lab.client("lambda")

    def modified(uuid):
        return functions.get_event_source_mapping(UUID=uuid)["LastModified"]

    uuid = connect(lab, source, wait=False)
    created = modified(uuid)
    lab.clock.advance(minutes=1)
    enabled = modified(uuid)
    assert timedelta(seconds=2.5) < enabled - created < timedelta(seconds=9)
    functions.update_event_source_mapping(UUID=uuid, BatchSize=7)
    assert lab.clock.now() - modified(uuid) < timedelta(seconds=1)
    lab.clock.advance(minutes=1)
    functions.delete_event_source_mapping(UUID=uuid)
    assert lab.clock.now() - modified(uuid) < timedelta(seconds=1)


def test_a_mapping_can_be_created_disabled(lab, source):
    function(lab, COLLECTOR)
    uuid = connect(lab, source, wait=False, Enabled=False)
    assert state(lab, uuid) == "Creating"
    wait_for_state(lab, uuid, "Disabled")


def refuses_changes(lab, uuid):
    for call, more in (
        ("update_event_source_mapping", {"BatchSize": 5}),
        ("delete_event_source_mapping", {}),
    ):
        assert refusal(lab, call, UUID=uuid, **more) == (
            400,
            "ResourceInUseException",
            f"Cannot {call[:6]} the event source mapping because it is in use.",
        )
    return True


def test_on_its_way_from_state_to_state_a_mapping_can_not_be_changed(lab, source):
    function(lab, COLLECTOR)
    uuid = connect(lab, source, wait=False)
    assert refuses_changes(lab, uuid)
    for change in ({"Enabled": False}, {"Enabled": True}, {"BatchSize": 9}):
        wait_for_state(lab, uuid, "Disabled" if change == {"Enabled": True} else "Enabled")
        lab.client("lambda").update_event_source_mapping(UUID=uuid, **change)
        assert refuses_changes(lab, uuid)


def test_while_it_is_deleted_a_mapping_can_not_be_made_again(lab, source):
    function(lab, COLLECTOR)
    uuid = connect(lab, source)
    lab.client("lambda").delete_event_source_mapping(UUID=uuid)
    assert refuses_changes(lab, uuid)
    assert refusal(lab, EventSourceArn=source, FunctionName="Worker", StartingPosition="LATEST")[
        :2
    ] == (409, "ResourceConflictException")
    lab.clock.advance(seconds=10)
    connect(lab, source)


def test_an_unknown_mapping_is_not_found(lab):
    uuid = "5c0ffee0-0000-4000-8000-000000000000"
    for call in ("get", "update", "delete"):
        assert refusal(lab, f"{call}_event_source_mapping", UUID=uuid) == (
            404,
            "ResourceNotFoundException",
            "The resource you requested does not exist.",
        )


def test_a_marker_that_nobody_handed_out(lab):
    assert refusal(lab, "list_event_source_mappings", Marker="abc")[:2] == (
        400,
        "InvalidParameterValueException",
    )


def test_lists_by_function_and_by_source(lab):
    """Fact 54: what is asked for need not exist."""
    sources = [stream(lab, name) for name in ("A", "B", "C")]
    for name in ("One", "Two"):
        function(lab, COLLECTOR, name)
        for source in sources:
            connect(lab, source, name, wait=False)
    functions = lab.client("lambda")

    def listed(**only):
        found = functions.list_event_source_mappings(**only)["EventSourceMappings"]
        return [
            (each["FunctionArn"].rpartition(":")[2], each["EventSourceArn"][-1]) for each in found
        ]

    assert listed() == [(f, s) for f in ("One", "Two") for s in "ABC"]
    assert listed(FunctionName="Two") == [("Two", s) for s in "ABC"]
    assert listed(EventSourceArn=sources[1]) == [("One", "B"), ("Two", "B")]
    assert listed(EventSourceArn=sources[1], FunctionName="Two") == [("Two", "B")]
    assert listed(FunctionName="nobody") == []
    assert listed(EventSourceArn="arn:aws:kinesis:us-east-1:123456789012:stream/X") == []
    assert "NextMarker" not in functions.list_event_source_mappings()
    pages = functions.get_paginator("list_event_source_mappings").paginate(
        PaginationConfig={"PageSize": 4}
    )
    assert [len(page["EventSourceMappings"]) for page in pages] == [4, 2]
    functions.delete_function(FunctionName="Two")
    assert listed(FunctionName="Two") == [("Two", s) for s in "ABC"], "they outlive it (fact 52)"


def test_lists_by_alias(lab):
    function(lab, COLLECTOR, "One")
    function(lab, COLLECTOR, "OneMore")
    functions = lab.client("lambda")
    functions.publish_version(FunctionName="One")
    functions.create_alias(FunctionName="One", Name="live", FunctionVersion="1")
    source = stream(lab)
    made = {name: connect(lab, source, name, wait=False) for name in ("One", "One:live", "OneMore")}

    def listed(name):
        found = functions.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
        return [each["UUID"] for each in found]

    assert listed("One:live") == [made["One:live"]]
    assert listed("One") == [made["One"], made["One:live"]]
    assert listed("One:1") == []


def test_a_hundred_mappings_are_listed_at_a_time(lab):
    function(lab, COLLECTOR)
    functions, source = lab.client("lambda"), stream(lab)
    functions.publish_version(FunctionName="Worker")
    for number in range(101):
        name = f"alias{number}"
        functions.create_alias(FunctionName="Worker", Name=name, FunctionVersion="1")
        connect(lab, source, f"Worker:{name}", wait=False)
    first = functions.list_event_source_mappings(MaxItems=10_000)
    assert len(first["EventSourceMappings"]) == 100
    rest = functions.list_event_source_mappings(Marker=first["NextMarker"])
    assert (len(rest["EventSourceMappings"]), "NextMarker" in rest) == (1, False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"EventSourceArn": None},
            (400, "InvalidParameterValueException", "Unrecognized event source."),
        ),
        ({"EventSourceArn": "nonsense:x"}, (400, None, None)),
        (
            {"FunctionName": "nobody"},
            (400, "InvalidParameterValueException", "Function does not exist"),
        ),
        (
            {
                "FunctionName": "nobody",
                "DestinationConfig": {
                    "OnSuccess": {"Destination": "arn:aws:sqs:us-east-1:123456789012:q"}
                },
            },
            (
                400,
                "InvalidParameterValueException",
                ("Unsupported DestinationConfig parameter for given event source mapping type."),
            ),
        ),
        (
            {"StartingPosition": None},
            (
                400,
                "InvalidParameterValueException",
                (
                    "1 validation error detected: Value null at 'startingPosition' failed to "
                    "satisfy constraint: "
                    "Member must not be null."
                ),
            ),
        ),
        ({"StartingPosition": "invalid"}, (400, "ValidationException", None)),
        ({"BatchSize": 10_001}, (400, "ValidationException", None)),
        ({"MaximumBatchingWindowInSeconds": 301}, (400, "ValidationException", None)),
    ],
)
def test_a_wrong_mapping_is_refused(lab, source, changes, expected):
    function(lab, COLLECTOR)
    request = {
        "EventSourceArn": source,
        "FunctionName": "Worker",
        "StartingPosition": "LATEST",
        **changes,
    }
    status, code, message = refusal(
        lab, **{key: value for key, value in request.items() if value is not None}
    )
    assert status == expected[0]
    assert expected[1] in (None, code)
    assert expected[2] in (None, message)
    assert lab.client("lambda").list_event_source_mappings()["EventSourceMappings"] == []


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("BatchSize", 0, "greater than or equal to 1"),
        ("BatchSize", 10_001, "less than or equal to 10000"),
        ("MaximumBatchingWindowInSeconds", -1, "greater than or equal to 0"),
        ("MaximumBatchingWindowInSeconds", 301, "less than or equal to 300"),
        ("ParallelizationFactor", 0, "greater than or equal to 1"),
        ("ParallelizationFactor", 11, "less than or equal to 10"),
        ("TumblingWindowInSeconds", -1, "greater than or equal to 0"),
        ("TumblingWindowInSeconds", 901, "less than or equal to 900"),
        ("MaximumRecordAgeInSeconds", -2, "greater than or equal to -1"),
    ],
)
def test_numbers_have_their_ranges(lab, source, name, value, must):
    function(lab, COLLECTOR)
    unchecked = Config(parameter_validation=False)
    functions = lab.client("lambda", unchecked)
    uuid = connect(lab, source)
    before = functions.get_event_source_mapping(UUID=uuid)[name]
    function(lab, COLLECTOR, "Other")
    request = {"EventSourceArn": source, "FunctionName": "Other", "StartingPosition": "LATEST"}
    parameter = name[0].lower() + name[1:]
    for call, asked in (
        (functions.create_event_source_mapping, request),
        (functions.update_event_source_mapping, {"UUID": uuid}),
    ):
        with pytest.raises(ClientError) as caught:
            call(**asked, **{name: value})
        assert code_of(caught) == (400, "ValidationException")
        assert caught.value.response["Error"]["Message"] == (
            f"1 validation error detected: Value '{value}' at '{parameter}' failed to satisfy "
            f"constraint: Member must have value {must}"
        )
    (listed,) = functions.list_event_source_mappings()["EventSourceMappings"]
    assert (listed["State"], listed[name]) == ("Enabled", before)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("BatchSize", 1, 10_000),
        ("MaximumBatchingWindowInSeconds", 0, 300),
        ("ParallelizationFactor", 1, 10),
        ("TumblingWindowInSeconds", 0, 900),
        ("MaximumRetryAttempts", -1, 10_000),
        ("MaximumRecordAgeInSeconds", 60, 604_800),
    ],
)
def test_the_ends_of_the_ranges_are_taken(lab, source, name, least, most):
    function(lab, COLLECTOR)
    uuid = connect(lab, source, **{name: least})
    functions = lab.client("lambda")
    assert functions.get_event_source_mapping(UUID=uuid)[name] == least
    assert functions.update_event_source_mapping(UUID=uuid, **{name: most})[name] == most
    wait_for_state(lab, uuid, "Enabled")
    assert functions.get_event_source_mapping(UUID=uuid)[name] == most


def test_an_unknown_metric_is_refused(lab, source):
    function(lab, COLLECTOR)
    request = {"EventSourceArn": source, "FunctionName": "Worker", "StartingPosition": "LATEST"}
    status, code, message = refusal(lab, **request, MetricsConfig={"Metrics": ["Nonsense"]})
    assert (status, code) == (400, "ValidationException")
    assert message.startswith(
        "1 validation error detected: Value 'Nonsense' at 'metricsConfig.metrics.1.member' "
        "failed to satisfy constraint: Member must satisfy enum value set: [EventCount"
    )
    status, code, message = refusal(lab, **request, MetricsConfig={"Metrics": ["ErrorCount"]})
    assert (status, code) == (501, "NotImplemented")
    assert message.startswith("ErrorCount of a mapping")


def test_an_unknown_starting_position_names_those_there_are(lab, source):
    """To the letter of `invalid_starting_position`, in the order that was recorded."""
    function(lab, COLLECTOR)
    refused = refusal(lab, EventSourceArn=source, FunctionName="Worker", StartingPosition="invalid")
    assert refused == (
        400,
        "ValidationException",
        (
            "1 validation error detected: Value 'invalid' at 'startingPosition' failed to satisfy "
            "constraint: Member must satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]"
        ),
    )


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:kinesis:us-east-1:123456789012:stream/nowhere",
        "arn:aws:dynamodb:us-east-1:123456789012:table/T/stream/2026-01-01T00:00:00.000",
    ],
)
def test_a_stream_that_is_not_there(lab, arn):
    function(lab, COLLECTOR)
    assert refusal(lab, EventSourceArn=arn, FunctionName="Worker", StartingPosition="LATEST") == (
        400,
        "InvalidParameterValueException",
        f"Stream not found: {arn}",
    )


def test_a_table_stream_has_no_timestamps_to_start_at(lab):
    arn = table(lab)
    function(lab, COLLECTOR)
    assert refusal(
        lab,
        EventSourceArn=arn,
        FunctionName="Worker",
        StartingPosition="AT_TIMESTAMP",
        StartingPositionTimestamp=0,
    ) == (
        400,
        "InvalidParameterValueException",
        f"Unsupported starting position for arn type: {arn}",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"KMSKeyArn": "arn:aws:kms:us-east-1:123456789012:key/1"},
        {"ScalingConfig": {"MaximumConcurrency": 5}},
    ],
)
def test_what_is_not_modelled_is_refused_and_says_so(lab, source, change):
    function(lab, COLLECTOR)
    (name,) = change
    status, code, message = refusal(
        lab, EventSourceArn=source, FunctionName="Worker", StartingPosition="LATEST", **change
    )
    assert (status, code) == (501, "NotImplemented")
    assert message.startswith(name)
    assert "not modelled" in message
    uuid = connect(lab, source)
    assert refusal(lab, "update_event_source_mapping", UUID=uuid, **change)[:2] == (
        501,
        "NotImplemented",
    )
    assert state(lab, uuid) == "Enabled"


@pytest.mark.parametrize(
    ("resource", "named"),
    [("sqs:{}:q", "sqs"), ("kinesis:{}:stream/Stream/consumer/C:1", "fan-out")],
)
def test_a_mapping_from_a_queue_or_a_consumer_is_not_modelled(lab, resource, named):
    """Fact 45 tells how a mapping from a queue looks; here it is refused."""
    function(lab, COLLECTOR)
    stream(lab)
    arn = "arn:aws:" + resource.format("us-east-1:123456789012")
    status, _, message = refusal(lab, EventSourceArn=arn, FunctionName="Worker")
    assert status == 501
    assert named in message


def test_defaults_may_be_spelled_out(lab, source):
    function(lab, COLLECTOR)
    connect(
        lab,
        source,
        ParallelizationFactor=1,
        BisectBatchOnFunctionError=False,
        MaximumRecordAgeInSeconds=-1,
        MaximumRetryAttempts=-1,
        TumblingWindowInSeconds=0,
        FunctionResponseTypes=[],
        FilterCriteria={"Filters": []},
        DestinationConfig={"OnFailure": {}},
    )


def test_a_second_mapping_of_the_same_two_is_refused(lab, source):
    function(lab, COLLECTOR)
    uuid = connect(lab, source)
    expected = (
        409,
        "ResourceConflictException",
        (
            f'The event source arn (" {source} ") and function (" Worker ") provided mapping '
            f"already exists. Please update or delete the existing mapping with UUID {uuid}"
        ),
    )
    assert (
        refusal(lab, EventSourceArn=source, FunctionName="Worker", StartingPosition="TRIM_HORIZON")
        == expected
    )
    function(lab, COLLECTOR, "Other")
    other = connect(lab, source, "Other")
    assert (
        refusal(lab, "update_event_source_mapping", UUID=other, FunctionName="Worker") == expected
    )


def test_a_role_that_may_not_read_the_stream_is_refused(lab, source):
    service = source.split(":")[2]
    function(lab, COLLECTOR, role=lab.role("NarrowRole"))
    status, code, message = refusal(
        lab, EventSourceArn=source, FunctionName="Worker", StartingPosition="LATEST"
    )
    assert (status, code) == (400, "InvalidParameterValueException")
    assert message.startswith(
        f"Cannot access stream {source}. Please ensure the role can perform "
        "the GetRecords, GetShardIterator, DescribeStream, "
    )
    assert message.endswith("ListStreams Actions on your stream in IAM.")
    actions = ["GetRecords", "GetShardIterator", "DescribeStream", "ListStreams", "ListShards"]
    allow = {
        "Effect": "Allow",
        "Action": [f"{service}:{each}" for each in actions],
        "Resource": source,
    }
    lab.role("NarrowRole", allow | {"Action": allow["Action"][1:]})
    assert (
        refusal(lab, EventSourceArn=source, FunctionName="Worker", StartingPosition="LATEST")[2]
        == message
    )
    lab.role("NarrowRole", allow)
    connect(lab, source)


# -- what arrives -------------------------------------------------------------------------------

DUMP = """
    import json

    def handler(event, context):
        print("EVENT", json.dumps(event))
"""


def events(lab):
    return [
        json.loads(line.partition(" ")[2]) for line in log_lines(lab) if line.startswith("EVENT")
    ]


def test_a_record_of_a_table_as_the_function_gets_it(lab):
    """Facts 56 and 57."""
    arn = table(lab)
    function(lab, DUMP)
    connect(lab, arn)
    put(lab, "a", 1)
    lab.clock.advance(seconds=3)
    (event,) = events(lab)
    assert list(event) == ["Records"]
    (record,) = event["Records"]
    change = record.pop("dynamodb")
    assert re.fullmatch("[0-9a-f]{32}", record.pop("eventID"))
    assert record == {
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "eventSourceARN": arn,
    }
    assert isinstance(change["ApproximateCreationDateTime"], float)
    assert change["Keys"] == {"id": {"S": "a"}}
    assert change["NewImage"] == {"id": {"S": "a"}, "value": {"N": "1"}}
    assert "OldImage" not in change
    assert change["StreamViewType"] == "NEW_AND_OLD_IMAGES"


def test_a_record_of_a_stream_as_the_function_gets_it(lab):
    arn = stream(lab)
    function(lab, DUMP)
    connect(lab, arn)
    send(lab, "häl\x00lo", key="k")
    lab.clock.advance(seconds=3)
    (record,) = events(lab)[0]["Records"]
    data = record.pop("kinesis")
    sequence = data.pop("sequenceNumber")
    arrived = data.pop("approximateArrivalTimestamp")
    assert isinstance(arrived, float)
    assert abs(arrived - lab.clock.now().timestamp()) < 10
    assert data == {"kinesisSchemaVersion": "1.0", "partitionKey": "k", "data": "aMOkbABsbw=="}
    assert record == {
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/EverythingRole",
        "awsRegion": "us-east-1",
        "eventSourceARN": arn,
    }


def test_a_handler_can_not_spoil_the_stream(lab):
    arn = table(lab)
    function(
        lab,
        """
        def handler(event, context):
            event["Records"][0]["dynamodb"]["NewImage"].clear()
            raise ValueError
    """,
    )
    connect(lab, arn)
    put(lab, "a", 1)
    lab.clock.advance(seconds=5)
    assert len(lab.invocations()) > 1
    function(lab, COLLECTOR)
    lab.clock.advance(seconds=30)
    assert got(lab) == ["a=1"]


@pytest.mark.parametrize(
    ("start", "expected"), [("TRIM_HORIZON", ["before", "during", "after"]), ("LATEST", ["after"])]
)
def test_where_a_mapping_starts(lab, start, expected):
    arn = stream(lab)
    function(lab, COLLECTOR)
    send(lab, "before")
    uuid = connect(lab, arn, start=start, wait=False)
    lab.clock.advance(seconds=1)
    send(lab, "during")
    assert state(lab, uuid) == "Creating"
    wait_for_state(lab, uuid, "Enabled")
    send(lab, "after")
    lab.clock.advance(seconds=5)
    assert got(lab) == expected


def arrivals(lab, name="Stream"):
    """When the records of a stream with one shard arrived (seconds since 1970), as it tells."""
    kinesis = lab.client("kinesis")
    iterator = kinesis.get_shard_iterator(
        StreamName=name, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = kinesis.get_records(ShardIterator=iterator)["Records"]
    return [each["ApproximateArrivalTimestamp"].timestamp() for each in records]


@pytest.mark.parametrize(
    ("place", "shift", "expected"),
    [
        (0, -3600, "0123"),
        (0, 0, "0123"),
        (1, -0.001, "123"),
        (1, 0, "123"),
        (1, 5, "23"),
        (3, 0, "3"),
        (3, 1, ""),
    ],
)
def test_a_mapping_starts_at_a_timestamp(lab, place, shift, expected):
    """From the first record on that is not older (API reference): at it, before it, between two."""
    arn = stream(lab)
    function(lab, COLLECTOR)
    for number in range(4):
        send(lab, str(number), key="k")
        lab.clock.advance(seconds=10)
    moment = arrivals(lab)[place] + shift
    uuid = connect(lab, arn, start="AT_TIMESTAMP", StartingPositionTimestamp=moment)
    lab.clock.advance(seconds=5)
    send(lab, "later", key="k")
    lab.clock.advance(seconds=5)
    assert got(lab) == [*expected, "later"]
    described = lab.client("lambda").get_event_source_mapping(UUID=uuid)
    assert described["StartingPosition"] == "AT_TIMESTAMP"
    assert described["StartingPositionTimestamp"].timestamp() == pytest.approx(moment, abs=1e-3)


def test_a_timestamp_goes_with_at_timestamp_and_lies_in_the_past(lab):
    arn = stream(lab)
    function(lab, COLLECTOR)
    request = {"EventSourceArn": arn, "FunctionName": "Worker"}
    now = lab.clock.now()
    for wrong in (
        {"StartingPosition": "AT_TIMESTAMP"},
        {
            "StartingPosition": "AT_TIMESTAMP",
            "StartingPositionTimestamp": now + timedelta(seconds=60),
        },
        {"StartingPosition": "LATEST", "StartingPositionTimestamp": now},
        {"StartingPosition": "TRIM_HORIZON", "StartingPositionTimestamp": now},
    ):
        status, code, message = refusal(lab, **request, **wrong)
        assert (status, code) == (400, "InvalidParameterValueException")
        assert "StartingPositionTimestamp" in message
    assert lab.client("lambda").list_event_source_mappings()["EventSourceMappings"] == []


def test_trim_horizon_of_a_table_reads_closed_shards_first():
    physics = lu.Physics(rollover=(60, 60), **QUICK)
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = table(lab)
        for number in range(5):
            put(lab, "a", number)
            lab.clock.advance(seconds=70)
        function(lab, COLLECTOR)
        connect(lab, arn)
        lab.clock.advance(minutes=1)
        assert got(lab) == [f"a={number}" for number in range(5)]
        assert one_in_flight(lab.invocations())


def test_latest_reads_children_from_their_start():
    physics = lu.Physics(rollover=(60, 60), **QUICK)
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = table(lab)
        function(lab, COLLECTOR)
        put(lab, "a", 0)
        connect(lab, arn, start="LATEST")
        for number in range(1, 60):
            put(lab, "a", number)
            lab.clock.advance(seconds=5)
        lab.clock.advance(minutes=1)
        assert got(lab) == [f"a={number}" for number in range(1, 60)]
        assert len(lab.invocations()["shard"].unique()) >= 4


def test_records_written_at_night_wait_for_nobody(lab):
    """An idle day costs nothing, and a record after it is fetched as fast as any other."""
    arn = table(lab)
    function(lab, COLLECTOR)
    connect(lab, arn, start="LATEST")
    lab.clock.advance(hours=30)
    put(lab, "a", 1)
    lab.clock.advance(seconds=1)
    assert got(lab) == ["a=1"]
    assert lab.invocations()["iterator_age"].max() <= 0.26


def test_every_mapping_of_a_stream_gets_every_record(lab, source):
    """Fact 55."""
    for name in ("One", "Two"):
        function(lab, COLLECTOR, name)
        connect(lab, source, name)
    for number in range(5):
        if source.split(":")[2] == "kinesis":
            send(lab, f"k{number}=0")
        else:
            put(lab, f"k{number}")
    lab.clock.advance(seconds=5)
    assert sorted(got(lab, "One")) == sorted(got(lab, "Two")) == [f"k{n}=0" for n in range(5)]


# -- batches ------------------------------------------------------------------------------------


def sizes(lab):
    return [int(size) for size in lab.invocations()["batch_size"]]


def test_a_batch_holds_no_more_than_its_size(lab):
    """Fact 60: what came before the mapping, in order, in batches of its size."""
    arn = stream(lab)
    function(lab, COLLECTOR)
    send(lab, *[f"r{number:03d}" for number in range(25)], key="k")
    connect(lab, arn, BatchSize=10)
    lab.clock.advance(seconds=5)
    assert sizes(lab) == [10, 10, 5]
    assert got(lab) == [f"r{number:03d}" for number in range(25)]


def test_without_a_window_a_batch_is_what_one_read_gave(lab):
    arn = table(lab)
    function(lab, COLLECTOR)
    connect(lab, arn, BatchSize=10_000)
    for _ in range(1500):
        put(lab, "same", _)
    lab.clock.advance(seconds=5)
    assert max(sizes(lab)) <= 1000
    assert sum(sizes(lab)) == 1500


def test_a_window_collects_records(lab):
    arn = stream(lab)
    function(lab, COLLECTOR)
    connect(lab, arn, MaximumBatchingWindowInSeconds=10)
    first = lab.clock.now()
    for number in range(30):
        send(lab, f"r{number}", key="k")
        lab.clock.advance(seconds=1)
    lab.clock.advance(seconds=20)
    seen = lab.invocations()
    assert 3 <= len(seen) <= 4
    assert sum(sizes(lab)) == 30
    assert seen["started"].iloc[0] - pd.Timestamp(first) <= pd.Timedelta(seconds=11.5)
    assert got(lab) == [f"r{number}" for number in range(30)]


def test_a_full_batch_does_not_wait_for_its_window(lab):
    arn = stream(lab)
    function(lab, COLLECTOR)
    connect(lab, arn, BatchSize=5, MaximumBatchingWindowInSeconds=60)
    send(lab, *"abcde", key="k")
    lab.clock.advance(seconds=3)
    assert sizes(lab) == [5]
    send(lab, "f", key="k")
    lab.clock.advance(seconds=30)
    assert sizes(lab) == [5]
    lab.clock.advance(seconds=40)
    assert sizes(lab) == [5, 1]


def test_a_shard_that_closes_ends_the_window():
    with lu.open_lab("embedded", physics=lu.Physics(rollover=(60, 60), **QUICK)) as lab:
        arn = table(lab)
        function(lab, COLLECTOR)
        connect(lab, arn, MaximumBatchingWindowInSeconds=300)
        put(lab, "a", 1)
        lab.clock.advance(seconds=70)
        assert got(lab) == ["a=1"]


def test_a_batch_ends_at_six_megabytes(lab):
    arn = stream(lab)
    function(
        lab,
        """
        import json

        def handler(event, context):
            print("SIZE", len(json.dumps(event, separators=(",", ":"))), len(event["Records"]))
    """,
    )
    for _ in range(9):
        send(lab, "x" * 1_000_000, key="k")
    connect(lab, arn)
    lab.clock.advance(seconds=10)
    logged = [line.split() for line in log_lines(lab) if line.startswith("SIZE")]
    assert [int(count) for _, _, count in logged] == [4, 4, 1]
    assert all(5_000_000 < int(size) <= 6 * 1024 * 1024 for _, size, _ in logged[:2])


def test_a_new_batch_size_counts_from_the_next_batch_on(lab):
    arn = stream(lab)
    function(lab, COLLECTOR)
    uuid = connect(lab, arn, BatchSize=2)
    send(lab, *"abcd", key="k")
    lab.clock.advance(seconds=5)
    lab.client("lambda").update_event_source_mapping(UUID=uuid, BatchSize=4)
    wait_for_state(lab, uuid, "Enabled")
    send(lab, *"efgh", key="k")
    lab.clock.advance(seconds=5)
    assert sizes(lab) == [2, 2, 4]


# -- many shards, one batch each ----------------------------------------------------------------


def test_shards_run_side_by_side_and_each_one_batch_at_a_time(lab):
    """Fact 59: a shard's next batch comes when the last one is done with."""
    arn = stream(lab, shards=8)
    function(
        lab,
        """
        import time

        def handler(event, context):
            time.sleep(2)
    """,
        timeout=10,
    )
    connect(lab, arn, BatchSize=1)
    send(lab, *[f"key {number}" for number in range(64)])
    lab.clock.advance(minutes=2)
    seen = lab.invocations()
    assert len(seen) == 64
    assert seen["shard"].nunique() == 8
    assert one_in_flight(seen)
    middle = seen["started"].min() + pd.Timedelta(seconds=5)
    assert ((seen["started"] <= middle) & (seen["ended"] > middle)).sum() == 8
    assert seen["instance"].nunique() == 8


def test_reserved_concurrency_of_one_throttles_and_loses_nothing(lab):
    arn = table(lab)
    function(
        lab,
        COLLECTOR.replace("for record", "import time; time.sleep(1)\n        for record"),
        timeout=10,
    )
    lab.client("lambda").put_function_concurrency(
        FunctionName="Worker", ReservedConcurrentExecutions=1
    )
    connect(lab, arn, BatchSize=5)
    for number in range(40):
        put(lab, f"k{number:02d}")
    lab.clock.advance(minutes=2)
    seen = lab.invocations()
    assert (seen["outcome"] == "throttled").any()
    ran = seen[seen["outcome"] == "ok"].sort_values("started")
    assert set(seen["outcome"]) == {"ok", "throttled"}
    assert (ran["ended"].shift() <= ran["started"])[1:].all(), "one at a time, over all shards"
    assert set(seen["attempt"]) == {1}, "a throttled poll is no attempt"
    assert sorted(got(lab)) == [f"k{number:02d}=0" for number in range(40)]
    throttled = seen[seen["outcome"] == "throttled"]
    assert (throttled["started"] == throttled["ended"]).all()
    assert throttled["instance"].isna().all()


def test_no_concurrency_stops_a_mapping_until_it_is_given_back(lab):
    arn = table(lab)
    function(lab, COLLECTOR)
    functions = lab.client("lambda")
    functions.put_function_concurrency(FunctionName="Worker", ReservedConcurrentExecutions=0)
    connect(lab, arn)
    put(lab, "a", 1)
    lab.clock.advance(minutes=10)
    assert set(lab.invocations()["outcome"]) == {"throttled"}
    functions.delete_function_concurrency(FunctionName="Worker")
    lab.clock.advance(minutes=1)
    assert got(lab) == ["a=1"]


# -- failures -----------------------------------------------------------------------------------


def test_a_failed_batch_comes_again_as_the_very_same_batch(lab, source):
    function(lab, FLAKY.replace("FAILURES", "3"))
    connect(lab, source, BatchSize=3)
    for number in range(3):
        if source.split(":")[2] == "kinesis":
            send(lab, f"r{number}", key="k")
        else:
            put(lab, "a", number)
    lab.clock.advance(seconds=1.2)
    for number in range(5):
        if source.split(":")[2] == "kinesis":
            send(lab, "late", key="k")
        else:
            put(lab, "a", 9 + number)
    lab.clock.advance(minutes=1)
    seen = batches(lab)
    assert seen[0] == seen[1] == seen[2] == seen[3]
    rows = lab.invocations()
    assert list(rows["outcome"][:4]) == ["error"] * 3 + ["ok"]
    assert list(rows["attempt"][:5]) == [1, 2, 3, 4, 1]
    assert rows.loc[rows["outcome"] == "ok", "batch_size"].sum() == 8
    (mapping,) = lab.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    assert mapping["LastProcessingResult"] == "OK"


def test_a_failing_batch_is_called_eight_times_in_sixty_seconds(lab):
    arn = stream(lab)
    function(lab, FLAKY.replace("FAILURES", "10**9"))
    uuid = connect(lab, arn)
    send(lab, "poison")
    lab.wait_until(lambda: len(lab.invocations()))
    first = lab.invocations()["started"].iloc[0]
    lab.clock.advance(seconds=60)
    seen = lab.invocations()
    assert (seen["started"] <= first + pd.Timedelta(seconds=60)).sum() == 8
    assert (
        lab.client("lambda").get_event_source_mapping(UUID=uuid)["LastProcessingResult"]
        == "PROBLEM: Function call failed"
    )


def test_a_poison_pill_blocks_its_shard_alone_and_until_it_expires():
    with lu.open_lab("embedded", physics=lu.Physics(kinesis_retention=3600, **QUICK)) as lab:
        arn = stream(lab, shards=2)
        function(
            lab,
            """
            import base64

            def handler(event, context):
                for record in event["Records"]:
                    text = base64.b64decode(record["kinesis"]["data"]).decode()
                    if text == "poison":
                        raise ValueError(text)
                    print("GOT", text)
        """,
        )
        connect(lab, arn, BatchSize=1)
        kinesis = lab.client("kinesis")

        def put_into(shard, text):
            kinesis.put_record(
                StreamName="Stream",
                Data=text.encode(),
                PartitionKey="k",
                ExplicitHashKey=str(shard * 2**127),
            )

        put_into(0, "poison")
        put_into(0, "behind")
        put_into(1, "elsewhere")
        lab.clock.advance(minutes=30)
        assert got(lab) == ["elsewhere"]
        put_into(0, "later")
        lab.clock.advance(minutes=32)
        assert got(lab) == ["elsewhere", "later"], "what waited behind expired as well"


def test_a_function_that_times_out_gets_its_batch_again(lab):
    arn = stream(lab)
    function(
        lab,
        """
        import os, time

        def handler(event, context):
            print("BATCH 0", [record["eventID"] for record in event["Records"]])
            if "SLOW" in os.environ:
                time.sleep(100)
    """,
        timeout=5,
        environment={"SLOW": "1"},
    )
    connect(lab, arn)
    send(lab, "a", "b", key="k")
    lab.clock.advance(seconds=20)
    lab.client("lambda").update_function_configuration(
        FunctionName="Worker", Environment={"Variables": {}}
    )
    lab.clock.advance(minutes=1)
    outcomes = list(lab.invocations()["outcome"])
    assert outcomes[-1] == "ok"
    assert set(outcomes[:-1]) == {"timeout"}
    assert len(outcomes) > 2
    assert len(set(batches(lab))) == 1
    assert lab.invocations()["instance"].nunique() == len(outcomes)


def test_a_statuscode_of_500_is_a_success(lab):
    arn = stream(lab)
    function(lab, "def handler(event, context):\n    return {'statusCode': 500}\n")
    connect(lab, arn)
    send(lab, "a")
    lab.clock.advance(seconds=30)
    assert list(lab.invocations()["outcome"]) == ["ok"]


# -- switching off and on -----------------------------------------------------------------------


def test_a_mapping_goes_on_where_it_was_stopped(lab, source):
    """Fact 61: nothing is handed over while it is disabled."""
    function(lab, COLLECTOR)
    functions = lab.client("lambda")
    uuid = connect(lab, source, start="LATEST")

    def write(text):
        if source.split(":")[2] == "kinesis":
            send(lab, text, key="k")
        else:
            put(lab, *text.split("="))

    write("a=1")
    lab.clock.advance(seconds=5)
    functions.update_event_source_mapping(UUID=uuid, Enabled=False)
    wait_for_state(lab, uuid, "Disabled")
    write("a=2")
    lab.clock.advance(minutes=10)
    assert got(lab) == ["a=1"]
    write("a=3")
    functions.update_event_source_mapping(UUID=uuid, Enabled=True)
    wait_for_state(lab, uuid, "Enabled")
    lab.clock.advance(seconds=5)
    assert got(lab) == ["a=1", "a=2", "a=3"]


def test_a_batch_that_fails_while_its_mapping_stops_is_not_lost(lab):
    arn = stream(lab)
    function(lab, FLAKY.replace("FAILURES", "1"))
    functions = lab.client("lambda")
    uuid = connect(lab, arn)
    send(lab, "a", "b", key="k")
    lab.wait_until(lambda: len(lab.invocations()))
    functions.update_event_source_mapping(UUID=uuid, Enabled=False)
    lab.clock.advance(minutes=10)
    before = len(lab.invocations())
    functions.update_event_source_mapping(UUID=uuid, Enabled=True)
    lab.clock.advance(minutes=1)
    seen = lab.invocations()
    assert before <= 2
    assert list(seen["outcome"]) == ["error", "ok"]
    assert len(set(batches(lab))) == 1


def test_changing_a_disabled_mapping_does_not_start_it():
    with lu.open_lab(
        "embedded",
        physics=lu.Physics(rollover=(20, 20), mapping_creation=(1, 1), mapping_update=(60, 60)),
    ) as lab:
        arn = table(lab)
        function(lab, COLLECTOR)
        functions = lab.client("lambda")
        uuid = connect(lab, arn)
        functions.update_event_source_mapping(UUID=uuid, Enabled=False)
        lab.clock.advance(seconds=70)
        assert state(lab, uuid) == "Disabled"
        functions.update_event_source_mapping(UUID=uuid, BatchSize=3)
        lab.clock.advance(seconds=30)
        put(lab, "a", 1)
        lab.clock.advance(seconds=25)
        assert state(lab, uuid) == "Updating"
        assert got_or_none(lab) == []
        lab.clock.advance(seconds=30)
        assert state(lab, uuid) == "Disabled"
        functions.update_event_source_mapping(UUID=uuid, Enabled=True)
        lab.clock.advance(seconds=30)
        assert state(lab, uuid) == "Enabling"
        put(lab, "a", 2)
        lab.clock.advance(seconds=10)
        assert got_or_none(lab) == []
        lab.clock.advance(seconds=60)
        assert got(lab) == ["a=1", "a=2"]


def got_or_none(lab):
    """What arrived; a function that was never invoked has no log."""
    return got(lab) if len(lab.invocations()) else []


def test_a_deleted_mapping_stops(lab, source):
    function(lab, COLLECTOR)
    uuid = connect(lab, source)
    lab.client("lambda").delete_event_source_mapping(UUID=uuid)
    if source.split(":")[2] == "kinesis":
        send(lab, "a")
    else:
        put(lab, "a")
    lab.clock.advance(hours=9)
    assert lab.invocations().empty
    assert lab.client("lambda").list_event_source_mappings()["EventSourceMappings"] == []
    read = lab._world("invocations").region("us-east-1").source(source)
    assert read.log._birth_watchers == {}, "nothing keeps it"


def test_a_mapping_outlives_its_function(lab):
    arn = table(lab)
    function(lab, COLLECTOR)
    uuid = connect(lab, arn)
    lab.client("lambda").delete_function(FunctionName="Worker")
    put(lab, "a", 1)
    lab.clock.advance(minutes=5)
    assert state(lab, uuid) == "Enabled"
    function(lab, COLLECTOR)
    lab.clock.advance(minutes=2)
    assert got(lab) == ["a=1"]


@pytest.mark.parametrize("obstacle", ["no function", "no concurrency", "a poison pill"])
def test_waiting_for_half_a_day_is_cheap(lab, obstacle):
    arn = table(lab)
    function(lab, FLAKY.replace("FAILURES", "10**9"))
    functions = lab.client("lambda")
    connect(lab, arn)
    if obstacle == "no function":
        functions.delete_function(FunctionName="Worker")
    elif obstacle == "no concurrency":
        functions.put_function_concurrency(FunctionName="Worker", ReservedConcurrentExecutions=0)
    for number in range(20):
        put(lab, f"k{number}")
    counted = _count_events(lab._target.world.scheduler.env, lambda: lab.clock.advance(hours=12))
    assert counted < 60_000


def _count_events(env, act):
    """How many events simpy carried out meanwhile."""
    step, count = env.step, 0

    def counting():
        nonlocal count
        count += 1
        step()

    env.step = counting
    try:
        act()
    finally:
        del env.step
    return count


def test_a_mapping_outlives_its_table(lab):
    """Fact 53."""
    arn = table(lab)
    function(lab, COLLECTOR)
    uuid = connect(lab, arn)
    put(lab, "a", 1)
    lab.client("dynamodb").delete_table(TableName="Source")
    lab.clock.advance(hours=1)
    (listed,) = lab.client("lambda").list_event_source_mappings(EventSourceArn=arn)[
        "EventSourceMappings"
    ]
    assert (listed["UUID"], listed["State"]) == (uuid, "Enabled")
    assert got(lab) == ["a=1"], "a deleted table's stream is readable for a day"


def test_a_mapping_outlives_its_stream(lab):
    arn = stream(lab)
    function(lab, COLLECTOR)
    uuid = connect(lab, arn)
    lab.client("kinesis").delete_stream(StreamName="Stream")
    lab.clock.advance(hours=1)
    assert state(lab, uuid) == "Enabled"
    lab.client("lambda").delete_event_source_mapping(UUID=uuid)


# -- late updates -------------------------------------------------------------------------------


def test_an_update_is_heeded_only_when_the_mapping_is_enabled_again():
    physics = lu.Physics(mapping_creation=(1, 1), mapping_update=(60, 60))
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = stream(lab)
        function(lab, COLLECTOR)
        uuid = connect(lab, arn, BatchSize=4)
        functions = lab.client("lambda")
        answer = functions.update_event_source_mapping(
            UUID=uuid, BatchSize=1, ParallelizationFactor=2
        )
        assert (answer["State"], answer["BatchSize"]) == ("Updating", 1)
        send(lab, *"abcd", key="k")
        lab.clock.advance(seconds=50)
        assert sizes(lab) == [4]
        assert state(lab, uuid) == "Updating"
        lab.clock.advance(seconds=15)
        assert state(lab, uuid) == "Enabled"
        send(lab, *"efgh", key="k")
        lab.clock.advance(seconds=5)
        assert sizes(lab) == [4, 1, 1, 1, 1]


def test_until_it_is_disabled_a_mapping_goes_on():
    physics = lu.Physics(mapping_creation=(1, 1), mapping_update=(60, 60))
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = stream(lab)
        function(lab, COLLECTOR)
        uuid = connect(lab, arn)
        lab.client("lambda").update_event_source_mapping(UUID=uuid, Enabled=False)
        send(lab, "a", key="k")
        lab.clock.advance(seconds=50)
        assert (state(lab, uuid), got(lab)) == ("Disabling", ["a"])
        lab.clock.advance(seconds=15)
        send(lab, "b", key="k")
        lab.clock.advance(minutes=5)
        assert (state(lab, uuid), got(lab)) == ("Disabled", ["a"])


# -- a role that loses its permission -------------------------------------------------------------


def test_a_role_that_loses_its_permission_stops_the_reading_alone(lab, source):
    service = source.split(":")[2]
    may_read = {"Effect": "Allow", "Action": f"{service}:*", "Resource": source}
    may_log = {"Effect": "Allow", "Action": "logs:*", "Resource": "*"}
    function(lab, COLLECTOR, role=lab.role("Reader", may_read, may_log))
    uuid = connect(lab, source)
    functions = lab.client("lambda")

    def result():
        return functions.get_event_source_mapping(UUID=uuid)["LastProcessingResult"]

    def write(number):
        if service == "kinesis":
            send(lab, f"k={number}", key="k")
        else:
            put(lab, "k", number)

    write(1)
    lab.clock.advance(seconds=5)
    assert (got(lab), result()) == (["k=1"], "OK")
    lab.role("Reader", may_log)
    write(2)
    lab.clock.advance(minutes=5)
    write(3)
    lab.clock.advance(minutes=5)
    assert got(lab) == ["k=1"]
    assert result().startswith(f"PROBLEM: Cannot access stream {source}.")
    assert state(lab, uuid) == "Enabled"
    lab.role("Reader", may_read, may_log)
    lab.clock.advance(minutes=2)
    assert (got(lab), result()) == (["k=1", "k=2", "k=3"], "OK")


# -- several readers of a shard -------------------------------------------------------------------


def polls_of_a_busy_minute(readers):
    """How often each of several mappings of one shard got a batch while records kept coming."""
    physics = lu.Physics(on_demand_partitions=1, cold_start=(0, 0), stream_read_records=1, **QUICK)
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = table(lab)
        for number in range(600):
            put(lab, "k", number)
        names = [f"Reader{number}" for number in range(readers)]
        for name in names:
            function(lab, "def handler(event, context):\n    pass\n", name)
        for name in names:
            connect(lab, arn, name, wait=False)
        lab.clock.advance(seconds=70)
        rows = lab.invocations()
        began = rows["started"].max() - pd.Timedelta(seconds=60)
        rows = rows[rows["started"] > began]
        return [int((rows["function"] == name).sum()) for name in names]


def test_a_third_mapping_takes_from_the_polls_of_all():
    assert polls_of_a_busy_minute(1) == [240]
    assert polls_of_a_busy_minute(2) == [240, 240]
    polls = polls_of_a_busy_minute(3)
    assert all(195 <= each <= 205 for each in polls), polls
    assert sum(polls) == pytest.approx(600, abs=3), "ten reads a second, as Physics says"


def read_by_hand_for_a_minute(lab, arn):
    """Read the beginning of a stream's first shard, at a mapping's pace."""
    streams = lab.client("dynamodbstreams", Config(retries={"total_max_attempts": 1}))
    shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]
    iterator = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    for _ in range(240):
        streams.get_records(ShardIterator=iterator)
        lab.clock.advance(seconds=0.24)


@pytest.fixture
def two_readers():
    """A lab, a stream of one shard, and two mappings that read it."""
    physics = lu.Physics(on_demand_partitions=1, shard_read_burst=1, **QUICK)
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = table(lab)
        for name in ("Reader1", "Reader2"):
            function(lab, COLLECTOR, name)
        yield lab, arn, [connect(lab, arn, name) for name in ("Reader1", "Reader2")]


def test_a_hand_reader_has_no_room_beside_two_mappings(two_readers):
    lab, arn, _ = two_readers
    with pytest.raises(ClientError) as caught:
        read_by_hand_for_a_minute(lab, arn)
    assert code_of(caught) == (400, "LimitExceededException")


@pytest.mark.parametrize("how", ["disabled", "deleted", "at the shard's end"])
def test_a_mapping_that_reads_a_shard_no_more_leaves_its_room(two_readers, how):
    lab, arn, (first, _) = two_readers
    functions = lab.client("lambda")
    if how == "disabled":
        functions.update_event_source_mapping(UUID=first, Enabled=False)
    elif how == "deleted":
        functions.delete_event_source_mapping(UUID=first)
    else:
        lab.split_partition("Source", int(lab.partitions("Source").index[0]))
    lab.clock.advance(seconds=10)
    read_by_hand_for_a_minute(lab, arn)


# -- counted for CloudWatch -----------------------------------------------------------------------

COUNTED = [
    "PolledEventCount",
    "FilteredOutEventCount",
    "InvokedEventCount",
    "FailedInvokeEventCount",
    "DroppedEventCount",
    "OnFailureDestinationDeliveredEventCount",
]


def counted(lab, uuid):
    """The sums of the EventCount metrics; those that were never counted are missing."""
    cloudwatch = lab.client("cloudwatch")
    sums = {}
    for name in COUNTED:
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=name,
            Dimensions=[{"Name": "EventSourceMappingUUID", "Value": uuid}],
            StartTime=lab.clock.now() - timedelta(days=1),
            EndTime=lab.clock.now() + timedelta(days=1),
            Period=60,
            Statistics=["Sum"],
        )["Datapoints"]
        if points:
            sums[name] = sum(point["Sum"] for point in points)
    return sums


PICKY = """
    import base64

    def handler(event, context):
        for record in event["Records"]:
            if b"bad" in base64.b64decode(record["kinesis"]["data"]):
                raise ValueError("bad")
"""
COUNTING = {"MetricsConfig": {"Metrics": ["EventCount"]}}


def test_nothing_is_counted_unless_it_is_asked_for(lab, source):
    function(lab, COLLECTOR)
    uuid = connect(lab, source)
    send(lab, "a") if ":kinesis:" in source else put(lab, "a")
    lab.clock.advance(minutes=1)
    assert counted(lab, uuid) == {}
    functions = lab.client("lambda")
    assert "MetricsConfig" not in functions.get_event_source_mapping(UUID=uuid)
    answer = functions.update_event_source_mapping(UUID=uuid, **COUNTING)
    assert answer["MetricsConfig"] == COUNTING["MetricsConfig"]
    wait_for_state(lab, uuid, "Enabled")
    send(lab, "b", "c") if ":kinesis:" in source else [put(lab, key) for key in "bc"]
    lab.clock.advance(minutes=1)
    assert counted(lab, uuid) == {"PolledEventCount": 2, "InvokedEventCount": 2}


@pytest.mark.parametrize("told", [True, False])
def test_events_are_counted_as_they_are_read_tried_and_given_up(lab, told):
    """10 records: 2 filtered out; of 8, the batch of 4 with the bad one is tried three times."""
    arn = stream(lab)
    function(lab, PICKY)
    lab.client("sqs").create_queue(QueueName="Failures")
    where = {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:Failures"}}
    names = ["a", "b", "c", "d", "e", "bad", "f", "g"]
    send(lab, *[json.dumps({"want": name}) for name in names], "skip", "skip", key="k")
    pattern = json.dumps({"data": {"want": [{"exists": True}]}})
    uuid = connect(
        lab,
        arn,
        BatchSize=4,
        MaximumRetryAttempts=2,
        FilterCriteria={"Filters": [{"Pattern": pattern}]},
        DestinationConfig=where if told else {"OnFailure": {}},
        **COUNTING,
    )
    lab.clock.advance(minutes=1)
    last = "OnFailureDestinationDeliveredEventCount" if told else "DroppedEventCount"
    assert counted(lab, uuid) == {
        "PolledEventCount": 10,
        "FilteredOutEventCount": 2,
        "InvokedEventCount": 16,
        "FailedInvokeEventCount": 12,
        last: 4,
    }


def test_what_no_destination_takes_is_counted_as_dropped(lab):
    arn = stream(lab)
    function(lab, PICKY)
    where = {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:nowhere"}}
    uuid = connect(lab, arn, MaximumRetryAttempts=0, DestinationConfig=where, **COUNTING)
    send(lab, "bad", key="k")
    lab.clock.advance(minutes=1)
    assert counted(lab, uuid) == {
        "PolledEventCount": 1,
        "InvokedEventCount": 1,
        "FailedInvokeEventCount": 1,
        "DroppedEventCount": 1,
    }


def test_what_expires_in_its_stream_is_not_counted_as_dropped():
    with lu.open_lab("embedded", physics=lu.Physics(kinesis_retention=600, **QUICK)) as lab:
        arn = stream(lab)
        function(lab, PICKY)
        uuid = connect(lab, arn, **COUNTING)
        send(lab, "bad", key="k")
        lab.clock.advance(hours=1)
        sums = counted(lab, uuid)
        assert sums.keys() == {"PolledEventCount", "InvokedEventCount", "FailedInvokeEventCount"}
        assert sums["InvokedEventCount"] == len(lab.invocations())


# -- parents before children --------------------------------------------------------------------


def test_parents_come_before_children_through_roll_over_and_splits():
    physics = lu.Physics(rollover=(60, 60), child_discovery=(0, 0), **QUICK)
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = table(lab)
        function(
            lab, COLLECTOR.replace("print(", "import time; time.sleep(0.2); print("), timeout=60
        )
        keys = [f"k{number}" for number in range(12)]
        value = 0

        def write(rounds):
            nonlocal value
            for _ in range(rounds):
                value += 1
                for key in keys:
                    put(lab, key, value)
                lab.clock.advance(seconds=5)

        write(5)
        lab.split_partition("Source", int(lab.partitions("Source").index[0]))
        write(5)
        connect(lab, arn, BatchSize=7)
        write(15)
        lab.split_partition("Source", int(lab.partitions("Source").index[-1]))
        write(15)
        lab.clock.advance(minutes=10)
        arrived = got(lab)
        for key in keys:
            own = [text for text in arrived if text.startswith(f"{key}=")]
            assert sorted(own) == sorted(f"{key}={n}" for n in range(1, value + 1))
        assert in_order(lab, keys)
        assert one_in_flight(lab.invocations())


def in_order(lab, keys):
    """First deliveries of each key rise; told by the times in the log, as instances differ."""
    logs, group = lab.client("logs"), "/aws/lambda/Worker"
    seen = []
    for page in logs.get_paginator("describe_log_streams").paginate(logGroupName=group):
        for each in page["logStreams"]:
            found = logs.get_log_events(
                logGroupName=group, startFromHead=True, logStreamName=each["logStreamName"]
            )["events"]
            seen += [
                (event["timestamp"], event["message"].split()[1])
                for event in found
                if event["message"].startswith("GOT")
            ]
    seen.sort(key=lambda entry: entry[0])
    for key in keys:
        first = list(dict.fromkeys(text for _, text in seen if text.startswith(f"{key}=")))
        numbers = [int(text.partition("=")[2]) for text in first]
        assert numbers == sorted(numbers), (key, numbers)
    return True


def test_a_mapping_that_slept_for_days_goes_on_with_what_is_left():
    """Its shards have left the stream's listing meanwhile, but not the line of descent."""
    with lu.open_lab("embedded") as lab:
        arn = table(lab)
        function(lab, COLLECTOR)
        functions = lab.client("lambda")
        uuid = connect(lab, arn)
        put(lab, "a", 1)
        lab.clock.advance(minutes=1)
        functions.update_event_source_mapping(UUID=uuid, Enabled=False)
        lab.clock.advance(hours=1)
        put(lab, "a", 2)
        lab.clock.advance(hours=50)
        put(lab, "a", 3)
        functions.update_event_source_mapping(UUID=uuid, Enabled=True)
        lab.clock.advance(minutes=5)
        assert got(lab) == ["a=1", "a=3"]
        put(lab, "a", 4)
        lab.clock.advance(minutes=1)
        assert got(lab) == ["a=1", "a=3", "a=4"]


# -- whatever happens ---------------------------------------------------------------------------

MOODY = """
    import random

    def handler(event, context):
        import os, time
        time.sleep(random.random() * 3)
        for record in event["Records"]:
            image = record["dynamodb"]["NewImage"]
            print("GOT", image["id"]["S"] + "=" + image["value"]["N"])
        if random.random() < float(os.environ["FAIL"]):
            raise ValueError("a bad mood")
"""

STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.just("fail"), st.sampled_from(["0", "0.5", "1"])),
    st.tuples(st.just("reserve"), st.sampled_from([0, 1, 2])),
    st.tuples(st.just("enable"), st.booleans()),
    st.tuples(st.just("split"), st.integers(0, 20)),
    st.tuples(st.just("batch"), st.integers(1, 6)),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=5, max_size=30), st.integers(0, 3), st.sampled_from([0, 4]))
def test_nothing_is_lost_whatever_happens(steps, seed, window):
    physics = lu.Physics(rollover=(30, 60), **QUICK)
    with lu.open_lab("embedded", seed=seed, physics=physics) as lab:
        functions = lab.client("lambda")
        arn = table(lab)
        function(lab, MOODY, timeout=60, environment={"FAIL": "0"})
        uuid = connect(lab, arn, BatchSize=3, MaximumBatchingWindowInSeconds=window)
        written = []

        def do(kind, value):
            if kind == "write":
                for number in range(4):
                    key = f"k{(value + number) % 6}"
                    written.append(f"{key}={len(written)}")
                    put(lab, key, len(written) - 1)
            elif kind == "wait":
                lab.clock.advance(seconds=value)
            elif kind == "fail":
                functions.update_function_configuration(
                    FunctionName="Worker", Environment={"Variables": {"FAIL": value}}
                )
            elif kind == "reserve":
                functions.put_function_concurrency(
                    FunctionName="Worker", ReservedConcurrentExecutions=value
                )
            elif kind == "split":
                ids = list(lab.partitions("Source").index)
                lab.split_partition("Source", int(ids[value % len(ids)]))
            else:
                change = {"Enabled": value} if kind == "enable" else {"BatchSize": value}
                wait_for_settled(lab, uuid)
                functions.update_event_source_mapping(UUID=uuid, **change)

        for kind, value in steps:
            do(kind, value)
        do("fail", "0")
        functions.delete_function_concurrency(FunctionName="Worker")
        do("enable", True)
        lab.clock.advance(minutes=30)
        arrived = set(got(lab)) if written else set()
        assert arrived == set(written)
        assert in_order(lab, [f"k{n}" for n in range(6)]) if written else True
        assert one_in_flight(lab.invocations())
        assert not lab.invocations().eval("outcome == 'timeout'").any()


def wait_for_settled(lab, uuid):
    lab.wait_until(lambda: state(lab, uuid) in ("Enabled", "Disabled"), timeout=60)
