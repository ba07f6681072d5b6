"""Mappings with filters: what boto3 sees of them, and what reaches the function."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError
from running import (
    COLLECTOR,
    code_of,
    connect,
    function,
    got,
    put,
    send,
    stream,
    table,
    wait_for_state,
)

import lab_utils as lu

PATTERN = json.dumps({"dynamodb": {"NewImage": {"id": {"S": [{"prefix": "yes"}]}}}})
JSON_PATTERN = json.dumps({"data": {"want": [True]}})
FAILING = (
    COLLECTOR.replace("for record", 'print("TRY")\n        for record', 1) + "            1/0\n"
)


def criteria(*patterns):
    return {
        "Filters": [
            {"Pattern": each if isinstance(each, str) else json.dumps(each)} for each in patterns
        ]
    }


def arrived(lab):
    return got(lab) if len(lab.invocations()) else []


def sizes(lab):
    """The batch size of every invocation, in the order in which they began."""
    return list(lab.invocations()["batch_size"])


def pollers(lab, uuid):
    region = lab._world("invocations").region("us-east-1")
    return region.mappings._mappings[uuid].pollers.values()


@pytest.fixture(params=["dynamodb", "kinesis"])
def source(request, lab):
    function(lab, COLLECTOR)
    return table(lab) if request.param == "dynamodb" else stream(lab)


def pattern_for(arn):
    return PATTERN if ":dynamodb:" in arn else JSON_PATTERN


def write(lab, arn, wanted, number=0):
    """A record that the pattern wants, or one that it does not."""
    if ":dynamodb:" in arn:
        put(lab, f"{'yes' if wanted else 'no'}{number}", number)
    else:
        send(lab, f'{{"want":{json.dumps(wanted)},"n":{number}}}', key="k")


# -- the API ------------------------------------------------------------------------------------


def test_filters_are_told_only_if_there_are_any(lab, source):
    """Fact 47: FilterCriteria is echoed only when it has filters."""
    functions = lab.client("lambda")
    wanted = criteria(pattern_for(source))
    uuid = connect(lab, source, FilterCriteria={"Filters": []})
    get = functions.get_event_source_mapping
    assert "FilterCriteria" not in get(UUID=uuid)
    answer = functions.update_event_source_mapping(UUID=uuid, FilterCriteria=wanted)
    assert (answer["State"], answer["FilterCriteria"]) == ("Updating", wanted)
    wait_for_state(lab, uuid, "Enabled")
    answer = functions.update_event_source_mapping(UUID=uuid, BatchSize=7)
    assert answer["FilterCriteria"] == wanted, "an update of something else leaves them"
    wait_for_state(lab, uuid, "Enabled")
    (listed,) = functions.list_event_source_mappings()["EventSourceMappings"]
    assert listed["FilterCriteria"] == wanted
    answer = functions.update_event_source_mapping(UUID=uuid, FilterCriteria={"Filters": []})
    assert "FilterCriteria" not in answer
    assert "FilterCriteria" not in get(UUID=uuid)
    wait_for_state(lab, uuid, "Enabled")
    functions.update_event_source_mapping(UUID=uuid, FilterCriteria=wanted)
    wait_for_state(lab, uuid, "Enabled")
    assert "FilterCriteria" not in functions.update_event_source_mapping(
        UUID=uuid, FilterCriteria={}
    )


def test_a_new_mapping_tells_its_filters(lab, source):
    made = lab.client("lambda").create_event_source_mapping(
        EventSourceArn=source,
        FunctionName="Worker",
        StartingPosition="LATEST",
        FilterCriteria=criteria(pattern_for(source)),
    )
    assert made["FilterCriteria"] == criteria(pattern_for(source))


@pytest.mark.parametrize("pattern", ["single-string", '[{"eventName": ["INSERT"=123}]', "{}"])
def test_a_bad_pattern_makes_and_changes_nothing(lab, source, pattern):
    """E26 and the recorded words for a filter pattern that is not JSON or malformed."""
    functions = lab.client("lambda")
    with pytest.raises(ClientError) as created:
        connect(lab, source, FilterCriteria=criteria(pattern))
    assert functions.list_event_source_mappings()["EventSourceMappings"] == []
    uuid = connect(lab, source, FilterCriteria=criteria(pattern_for(source)))
    with pytest.raises(ClientError) as updated:
        functions.update_event_source_mapping(
            UUID=uuid, BatchSize=3, FilterCriteria=criteria(pattern)
        )
    for caught in (created, updated):
        assert code_of(caught) == (400, "InvalidParameterValueException")
        message = caught.value.response["Error"]["Message"]
        assert message == "Invalid filter pattern definition."
    kept = functions.get_event_source_mapping(UUID=uuid)
    assert (kept["State"], kept["BatchSize"]) == ("Enabled", 100)
    assert kept["FilterCriteria"] == criteria(pattern_for(source))


def test_more_than_five_filters_are_refused(lab, source):
    """E26: up to 5 patterns; the words are not known."""
    six = criteria(*[{"eventName": [str(number)]} for number in range(6)])
    with pytest.raises(ClientError) as caught:
        connect(lab, source, FilterCriteria=six)
    assert code_of(caught) == (400, "InvalidParameterValueException")
    connect(lab, source, FilterCriteria={"Filters": six["Filters"][:5]})


# -- what arrives -------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [0, 5])
def test_what_does_not_match_is_passed_over_in_silence(lab, source, window):
    """Fact 62: dropped silently and counted as processed; no invocation for an empty batch."""
    uuid = connect(
        lab,
        source,
        FilterCriteria=criteria(pattern_for(source)),
        MaximumBatchingWindowInSeconds=window,
    )
    for number in range(5):
        write(lab, source, wanted=False, number=number)
    lab.clock.advance(seconds=30)
    assert len(lab.invocations()) == 0
    described = lab.client("lambda").get_event_source_mapping(UUID=uuid)
    assert described["LastProcessingResult"] == "No records processed"
    assert sum(each.position for each in pollers(lab, uuid)) == 5, "the checkpoint moved"
    write(lab, source, wanted=True, number=9)
    lab.clock.advance(seconds=30)
    assert sizes(lab) == [1]
    assert len(arrived(lab)) == 1
    assert sum(each.position for each in pollers(lab, uuid)) == 6


def test_what_does_not_match_takes_no_room_in_a_batch(lab):
    function(lab, COLLECTOR)
    arn = stream(lab)
    for number in range(30):
        write(lab, arn, wanted=number % 3 == 0, number=number)
    connect(lab, arn, FilterCriteria=criteria(JSON_PATTERN), BatchSize=4)
    lab.clock.advance(seconds=30)
    assert sizes(lab) == [4, 4, 2]
    assert [json.loads(text)["n"] for text in arrived(lab)] == list(range(0, 30, 3))


def test_the_window_opens_with_a_record_that_matches():
    """Assumed: what the filters keep out opens no window, and does not lengthen one either."""
    with lu.open_lab("embedded") as lab:
        function(lab, COLLECTOR)
        arn = stream(lab)
        connect(lab, arn, FilterCriteria=criteria(JSON_PATTERN), MaximumBatchingWindowInSeconds=20)
        write(lab, arn, wanted=False)
        lab.clock.advance(seconds=15)
        write(lab, arn, wanted=True, number=1)
        lab.clock.advance(seconds=10)
        write(lab, arn, wanted=True, number=2)
        write(lab, arn, wanted=False)
        assert len(lab.invocations()) == 0
        lab.clock.advance(seconds=13)
        assert sizes(lab) == [2]


def test_a_filtered_backlog_is_read_poll_by_poll(lab):
    """What is passed over takes no invocation, but still has to be read, once a second."""
    arn = stream(lab)
    function(lab, COLLECTOR)
    read = lab._world("invocations").region("us-east-1").source(arn).read_records
    for number in range(2 * read // 500):
        send(lab, *["no json"] * 500, key=str(number))
    uuid = connect(lab, arn, wait=False, FilterCriteria=criteria(JSON_PATTERN))
    lab.wait_until(lambda: list(pollers(lab, uuid)), timeout=60)
    write(lab, arn, wanted=True)
    (only,) = pollers(lab, uuid)
    lab.clock.advance(seconds=30)
    moments = [moment for moment, _ in only.progress]
    assert len(moments) >= 3
    assert moments[1] - moments[0] == 1_000_000
    assert len(arrived(lab)) == 1


def test_a_failing_batch_keeps_its_filters_out(lab):
    """Fact 62: what was filtered out is not tried again either."""
    arn = stream(lab)
    function(lab, FAILING)
    connect(lab, arn, FilterCriteria=criteria(JSON_PATTERN))
    for wanted in (False, True, False, True):
        write(lab, arn, wanted)
    lab.clock.advance(seconds=30)
    assert len(sizes(lab)) > 2
    assert sizes(lab)[-1] == 2


def test_a_destination_is_told_nothing_of_what_was_filtered_out(lab):
    """Fact 62: not sent to OnFailure."""
    sqs = lab.client("sqs")
    queue = sqs.create_queue(QueueName="lost")["QueueUrl"]
    asked = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    arn = stream(lab)
    function(lab, FAILING)
    connect(
        lab,
        arn,
        FilterCriteria=criteria(JSON_PATTERN),
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": asked["Attributes"]["QueueArn"]}},
    )
    for wanted in (False, True, False):
        write(lab, arn, wanted)
    lab.clock.advance(seconds=30)
    (message,) = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    told = json.loads(message["Body"])["KinesisBatchInfo"]
    assert told["batchSize"] == 1
    assert told["startSequenceNumber"] == told["endSequenceNumber"]


def test_filters_can_be_changed_and_cleared(lab, source):
    functions = lab.client("lambda")
    uuid = connect(lab, source, FilterCriteria=criteria(pattern_for(source)))
    write(lab, source, wanted=False, number=1)
    lab.clock.advance(seconds=10)
    functions.update_event_source_mapping(UUID=uuid, FilterCriteria={})
    wait_for_state(lab, uuid, "Enabled")
    lab.clock.advance(seconds=10)
    assert arrived(lab) == [], "what was passed over does not come back"
    write(lab, source, wanted=False, number=2)
    lab.clock.advance(seconds=10)
    assert len(arrived(lab)) == 1
    functions.update_event_source_mapping(
        UUID=uuid, FilterCriteria=criteria({"eventName": ["nothing"]})
    )
    wait_for_state(lab, uuid, "Enabled")
    write(lab, source, wanted=True, number=3)
    lab.clock.advance(seconds=10)
    assert len(arrived(lab)) == 1


def test_one_of_two_mappings_has_filters(lab, source):
    function(lab, COLLECTOR, "Other")
    connect(lab, source, FilterCriteria=criteria(pattern_for(source)))
    connect(lab, source, "Other")
    for number, wanted in enumerate((True, False, True)):
        write(lab, source, wanted, number)
    lab.clock.advance(seconds=10)
    assert (len(got(lab)), len(got(lab, "Other"))) == (2, 3)


# -- tables -------------------------------------------------------------------------------------


def image(**fields):
    return {"dynamodb": {"NewImage": fields}}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (image(id={"S": ["a"]}), ["a=42"]),  # Fact 63: the typed image
        (image(id=["a"]), []),  # Fact 63: without its type
        (image(value={"N": [{"numeric": [">", 0]}]}), []),  # Fact 64: a number is a string
        (
            image(value={"N": [{"numeric": [">", 100]}, {"anything-but": "101"}]}),
            ["a=42"],
        ),  # Fact 64: anything-but lets it pass
        (image(nothing=[{"exists": False}]), ["a=42", "b=101"]),  # Fact 65: it is not there
        (image(value=[{"exists": False}]), ["a=42", "b=101"]),  # Fact 65: it is no leaf
        (
            {"dynamodb": {"ApproximateCreationDateTime": [{"numeric": [">", 0]}]}},
            ["a=42", "b=101"],
        ),  # Fact 66: the time is a number
        ({"eventName": ["MODIFY"]}, []),
    ],
)
def test_patterns_on_the_images_of_a_table(lab, pattern, expected):
    """Facts 63, 64, 65 and 66."""
    function(lab, COLLECTOR)
    connect(lab, table(lab), FilterCriteria=criteria(pattern))
    put(lab, "a", 42)
    put(lab, "b", 101)
    lab.clock.advance(seconds=10)
    assert sorted(arrived(lab)) == expected


def test_a_filter_on_what_happened_to_an_item(lab):
    function(lab, COLLECTOR)
    connect(lab, table(lab), FilterCriteria=criteria({"eventName": ["MODIFY", "REMOVE"]}))
    put(lab, "a", 1)
    put(lab, "a", 2)
    lab.client("dynamodb").delete_item(TableName="Source", Key={"id": {"S": "a"}})
    lab.clock.advance(seconds=10)
    assert arrived(lab) == ["a=2", "a=2"]


# -- Kinesis ------------------------------------------------------------------------------------


def test_kinesis_filters_look_at_the_json_in_the_data(lab):
    """Fact 67: the decoded JSON under `data`; what is no JSON does not match."""
    function(lab, COLLECTOR)
    connect(
        lab,
        stream(lab),
        FilterCriteria=criteria({"data": {"n": [{"numeric": [">", 2]}]}}, {"partitionKey": ["p"]}),
    )
    texts = ['{"n":1}', '{"n":3}', "plain", '{"n":"3"}']
    send(lab, *texts, key="k")
    send(lab, "plain", key="p")
    lab.clock.advance(seconds=10)
    assert arrived(lab) == ['{"n":3}', "plain"]
