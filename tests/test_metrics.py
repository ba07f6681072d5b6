"""What Lambda counts, as CloudWatch hands it out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from running import COLLECTOR, connect, function, invoke, send, stream, wait_for_state

from lab_utils.emulator.physics import MICROSECONDS
from lab_utils.emulator.sessions import make_client

WORKER = {"FunctionName": "Worker"}
FICKLE = """
    import time

    def handler(event, context):
        time.sleep(event["sleep"])
        if event.get("fail"):
            raise ValueError
"""


def read(lab, name, statistic="Sum", period=60, **dimensions):
    """The statistic of each period, in order; only those of the last day."""
    now = lab.clock.now()
    points = lab.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in (dimensions or WORKER).items()],
        StartTime=now - timedelta(days=1),
        EndTime=now + timedelta(minutes=1),
        Period=period,
        Statistics=[statistic],
    )["Datapoints"]
    return [each[statistic] for each in sorted(points, key=lambda each: each["Timestamp"])]


def test_invocations_errors_and_durations_are_counted(lab):
    function(lab, FICKLE, timeout=10)
    for event in ({"sleep": 1}, {"sleep": 2, "fail": True}, {"sleep": 20}):
        invoke(lab, event=event)
    assert read(lab, "Invocations") == [3]
    assert read(lab, "Errors") == [2], "an exception and a timeout"
    assert read(lab, "Throttles") == [0]
    assert [round(each) for each in read(lab, "Duration", "Maximum")] == [10_000]
    assert [round(each) for each in read(lab, "Duration", "Minimum")] == [1_000]
    assert read(lab, "Duration", "SampleCount") == [3]


def test_word_of_a_mapping_that_did_not_arrive_is_counted(lab):
    """The Developer Guide: for streams, too; for want of permission or of the destination."""
    function(lab, "def handler(event, context): raise ValueError")
    lab.client("sqs").create_queue(QueueName="there")
    uuid = connect(lab, stream(lab), MaximumRetryAttempts=0)
    for name in ("there", "nowhere"):
        arn = f"arn:aws:sqs:us-east-1:123456789012:{name}"
        lab.client("lambda").update_event_source_mapping(
            UUID=uuid, DestinationConfig={"OnFailure": {"Destination": arn}}
        )
        wait_for_state(lab, uuid, "Enabled")
        send(lab, "a")
        lab.clock.advance(minutes=1)
        assert sum(read(lab, "DestinationDeliveryFailures")) == (name == "nowhere")


def test_reading_changes_nothing_and_counting_goes_on(lab):
    function(lab, FICKLE)
    for number in (1, 2, 3):
        invoke(lab, event={"sleep": 0})
        assert read(lab, "Invocations") == read(lab, "Invocations") == [number]


def test_a_metric_bears_the_time_at_which_the_function_was_invoked(lab):
    """The Developer Guide: not that at which the error happened."""
    function(lab, FICKLE, timeout=900)
    invoke(lab, event={"sleep": 300, "fail": True})
    now = lab.clock.now()
    (point,) = lab.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName="Errors",
        Dimensions=[{"Name": "FunctionName", "Value": "Worker"}],
        StartTime=now - timedelta(hours=1),
        EndTime=now,
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    assert now - point["Timestamp"] >= timedelta(seconds=300)
    assert point["Unit"] == "Count"


def test_throttles_are_no_invocations(lab):
    function(lab, FICKLE)
    lab.client("lambda").put_function_concurrency(
        FunctionName="Worker", ReservedConcurrentExecutions=0
    )
    client = make_client(
        lab._world("metrics").session, "lambda", config=Config(retries={"max_attempts": 0})
    )
    for _ in range(4):
        with pytest.raises(ClientError):
            client.invoke(FunctionName="Worker")
    assert read(lab, "Throttles") == [4]
    assert read(lab, "Invocations") == read(lab, "Errors") == []


def test_concurrency_is_the_most_that_ran_in_a_minute(lab):
    function(lab, FICKLE, timeout=900)
    for sleep in (200, 90, 10):
        invoke(lab, event={"sleep": sleep}, InvocationType="Event")
    lab.clock.advance(minutes=3)
    most = read(lab, "ConcurrentExecutions", "Maximum")
    assert most == [3, 2, 1, 1], "also in minutes in which nothing began"
    lab.clock.advance(minutes=5)
    assert read(lab, "ConcurrentExecutions", "Maximum") == most, "an idle function has no points"


def test_a_version_and_an_alias_are_counted_apart_and_with_the_function(lab):
    function(lab, FICKLE)
    functions = lab.client("lambda")
    functions.publish_version(FunctionName="Worker")
    functions.create_alias(FunctionName="Worker", Name="live", FunctionVersion="1")
    for qualifier in (None, "1", "live", "live"):
        invoke(lab, event={"sleep": 0}, **({"Qualifier": qualifier} if qualifier else {}))
    assert read(lab, "Invocations") == [4]
    assert read(lab, "Invocations", **WORKER, Resource="Worker:1") == [1]
    assert read(lab, "Invocations", **WORKER, Resource="Worker:live") == [2]
    both = {"Resource": "Worker:live", "ExecutedVersion": "1"}
    assert read(lab, "Invocations", **WORKER, **both) == [2]


def test_the_iterator_age_is_that_of_the_last_record_when_it_is_sent(lab):
    function(lab, COLLECTOR)
    arn = stream(lab)
    send(lab, "a", "b")
    connect(lab, arn)
    lab.clock.advance(seconds=10)
    (row,) = lab.invocations().to_dict("records")
    assert read(lab, "IteratorAge", "Maximum") == [pytest.approx(1000 * row["iterator_age"])]


def test_an_asynchronous_event_is_counted_at_its_queue(lab):
    function(lab, FICKLE)
    lab.client("lambda").put_function_event_invoke_config(
        FunctionName="Worker", MaximumRetryAttempts=1
    )
    invoke(lab, event={"sleep": 0, "fail": True}, InvocationType="Event")
    lab.clock.advance(minutes=5)
    assert read(lab, "AsyncEventsReceived") == [1]
    assert read(lab, "AsyncEventsDropped") == [1]
    assert [round(each / 1000) for each in read(lab, "AsyncEventAge", "Maximum")] == [0, 60]


@pytest.mark.parametrize(
    ("arn", "size"),
    [
        ("arn:aws:sqs:us-east-1:123456789012:nowhere", 1),
        ("arn:aws:sns:us-east-1:123456789012:nowhere", 1),
        ("arn:aws:sns:us-east-1:123456789012:Results", 256 * 1024),
    ],
)
def test_what_a_destination_does_not_take_is_counted(lab, arn, size):
    """A topic takes 256 KB, and a record holds the whole event."""
    lab.client("sns").create_topic(Name="Results")
    function(lab, "def handler(event, context):\n    return None\n")
    config = {"OnSuccess": {"Destination": arn}}
    lab.client("lambda").put_function_event_invoke_config(
        FunctionName="Worker", DestinationConfig=config
    )
    invoke(lab, event="x" * size, InvocationType="Event")
    lab.clock.advance(seconds=5)
    assert read(lab, "DestinationDeliveryFailures") == [1]
    assert read(lab, "AsyncEventsDropped") == []


def test_metric_data_and_the_list_of_metrics_know_them_too(lab):
    function(lab, FICKLE)
    invoke(lab, event={"sleep": 0})
    cloudwatch, now = lab.client("cloudwatch"), lab.clock.now()
    metric = {
        "Namespace": "AWS/Lambda",
        "MetricName": "Invocations",
        "Dimensions": [{"Name": "FunctionName", "Value": "Worker"}],
    }
    assert metric in cloudwatch.list_metrics(Namespace="AWS/Lambda")["Metrics"]
    (found,) = cloudwatch.get_metric_data(
        MetricDataQueries=[
            {"Id": "sum", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}}
        ],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=1),
    )["MetricDataResults"]
    assert found["Values"] == [1]


def test_regions_count_apart(lab):
    function(lab, FICKLE)
    invoke(lab, event={"sleep": 0})
    assert lab._world("metrics").region("eu-west-1").functions.rows == []
    elsewhere = make_client(lab._world("metrics").session, "cloudwatch", region_name="eu-west-1")
    assert elsewhere.list_metrics(Namespace="AWS/Lambda")["Metrics"] == []


def test_a_million_equal_values_are_one_entry(lab):
    metrics = lab._world("metrics").metrics
    for _ in range(1000):
        metrics.add("us-east-1", "Invocations", 1, "Count", WORKER, count=1000)
    (counts,) = metrics._pending.values()
    assert list(counts.values()) == [1_000_000]
    assert read(lab, "Invocations") == [1_000_000]


def test_a_value_may_bear_another_time(lab):
    world = lab._world("metrics")
    earlier = world.scheduler.now - 3600 * MICROSECONDS
    world.metrics.add("us-east-1", "Invocations", 1, "Count", WORKER, at=earlier)
    world.metrics.add("us-east-1", "Invocations", 1, "Count", WORKER)
    assert read(lab, "Invocations") == [1, 1]
    assert read(lab, "Invocations", period=86400) == [2]
