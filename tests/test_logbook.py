"""What functions print, as CloudWatch Logs hands it out."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from running import EVERYTHING, function, invoke, log_lines

CHATTY = """
    def handler(event, context):
        for number in range(event or 1):
            print("line", number)
"""


def test_a_function_that_never_ran_has_no_log_group(lab):
    function(lab, CHATTY)
    assert lab.client("logs").describe_log_groups()["logGroups"] == []
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        log_lines(lab)


def test_looking_does_not_change_what_is_there(lab):
    function(lab, CHATTY)
    invoke(lab)
    first = log_lines(lab)
    assert log_lines(lab) == first
    invoke(lab)
    assert log_lines(lab)[: len(first)] == first
    assert len(log_lines(lab)) == 2 * len(first)


def test_thousands_of_lines_keep_their_order(lab):
    function(lab, CHATTY)
    invoke(lab, event=3500)
    logs = lab.client("logs")
    stream = logs.describe_log_streams(logGroupName="/aws/lambda/Worker")["logStreams"][0]
    lines, token = [], None
    while True:
        page = logs.get_log_events(
            logGroupName="/aws/lambda/Worker",
            logStreamName=stream["logStreamName"],
            startFromHead=True,
            **({"nextToken": token} if token else {}),
        )
        if token == page["nextForwardToken"]:
            break
        token = page["nextForwardToken"]
        lines += [each["message"] for each in page["events"]]
    assert [line for line in lines if line.startswith("line")] == [
        f"line {number}" for number in range(3500)
    ]


def test_each_instance_has_a_stream_and_each_function_a_group(lab):
    function(lab, "import time\ndef handler(event, context):\n    time.sleep(1)\n")
    function(lab, CHATTY, "Other")
    for name in ("Worker", "Worker", "Other"):
        invoke(lab, name, InvocationType="Event")
    lab.clock.advance(seconds=5)
    logs = lab.client("logs")
    groups = [each["logGroupName"] for each in logs.describe_log_groups()["logGroups"]]
    assert groups == ["/aws/lambda/Other", "/aws/lambda/Worker"]
    counts = {
        group: len(logs.describe_log_streams(logGroupName=group)["logStreams"]) for group in groups
    }
    assert counts == {"/aws/lambda/Other": 1, "/aws/lambda/Worker": 2}


def test_logs_can_be_filtered(lab):
    function(lab, CHATTY)
    invoke(lab, event=5)
    found = lab.client("logs").filter_log_events(
        logGroupName="/aws/lambda/Worker", filterPattern="line"
    )["events"]
    assert [each["message"] for each in found] == [f"line {number}" for number in range(5)]


def test_a_group_that_the_reader_made_is_used(lab):
    logs = lab.client("logs")
    logs.create_log_group(logGroupName="/aws/lambda/Worker")
    function(lab, CHATTY)
    invoke(lab)
    assert "line 0" in log_lines(lab)


def test_a_handler_reads_the_lines_of_others(lab):
    function(lab, CHATTY, "Other")
    function(
        lab,
        """
        import boto3

        def handler(event, context):
            found = boto3.client("logs").filter_log_events(logGroupName="/aws/lambda/Other")
            return [each["message"] for each in found["events"]]
    """,
        role=lab.role("Reader", EVERYTHING),
    )
    invoke(lab, "Other")
    assert "line 0" in invoke(lab)["answer"]
