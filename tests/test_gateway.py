"""The lab's door: queues that let wait, bodies left out, threads that call by themselves."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from running import function, invoke, table

from lab_utils.lab import Lab

# -- what goes to MiniStack ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "waited"), [({}, 5), ({"WaitTimeSeconds": 0}, 0), ({"WaitTimeSeconds": 2}, 2)]
)
def test_an_empty_queue_lets_wait_as_long_as_asked_or_as_it_usually_does(
    lab: Lab, asked: dict[str, int], waited: int
) -> None:
    sqs = lab.client("sqs")
    url = sqs.create_queue(QueueName="queue", Attributes={"ReceiveMessageWaitTimeSeconds": "5"})[
        "QueueUrl"
    ]
    before = lab.clock.now()
    assert "Messages" not in sqs.receive_message(QueueUrl=url, **asked)
    assert (lab.clock.now() - before) // timedelta(seconds=1) == waited


def test_nobody_waits_longer_at_a_queue_than_aws_lets(lab: Lab) -> None:
    url = lab.client("sqs").create_queue(QueueName="queue")["QueueUrl"]
    with pytest.raises(ClientError, match="Value 21 for parameter WaitTimeSeconds is invalid"):
        lab.client("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=21)


def test_the_head_of_an_object_tells_its_length(lab: Lab) -> None:
    s3 = lab.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="key", Body=b"hello")
    assert s3.head_object(Bucket="bucket", Key="key")["ContentLength"] == 5


def test_a_topic_delivers_to_queues_and_to_nobody_else(lab: Lab) -> None:
    topic = lab.client("sns").create_topic(Name="topic")["TopicArn"]
    arn = function(lab, "def handler(event, context):\n    return 1\n")
    with pytest.raises(ClientError, match="The lab does not deliver to lambda"):
        lab.client("sns").subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)


# -- threads ------------------------------------------------------------------------------------


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_writes_of_many_threads_all_reach_the_stream(lab: Lab, restless: None) -> None:
    arn, dynamodb = table(lab), lab.client("dynamodb")
    failures: list[BaseException] = []

    def write(name: int) -> None:
        try:
            for number in range(30):
                dynamodb.put_item(TableName="Source", Item={"id": {"S": f"{name}-{number}"}})
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert dynamodb.scan(TableName="Source", Select="COUNT")["Count"] == 180
    assert len(records(lab, arn)) == 180


def records(lab: Lab, arn: str) -> list[Any]:
    streams, found = lab.client("dynamodbstreams"), []
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        found += streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    return found


def test_a_functions_threads_have_its_role(lab: Lab) -> None:
    table(lab)
    source = """
        import boto3
        from concurrent.futures import ThreadPoolExecutor

        def look(action):
            try:
                getattr(boto3.client("dynamodb"), action)(TableName="Source")
            except Exception as refused:
                return refused.response["Error"]["Code"]

        def handler(event, context):
            with ThreadPoolExecutor(2) as pool:
                return list(pool.map(look, ["scan", "describe_table"]))
    """
    role = lab.role("May", {"Effect": "Allow", "Action": "dynamodb:Scan", "Resource": "*"})
    function(lab, source, role=role)
    assert invoke(lab)["answer"] == [None, "AccessDeniedException"]


def test_a_thread_that_outlives_its_handler_is_nobody(lab: Lab) -> None:
    table(lab)
    source = """
        import boto3, threading

        told, go = [], threading.Event()

        def look():
            go.wait(10)
            try:
                told.append(boto3.client("dynamodb").scan(TableName="Source")["Count"])
            except BaseException as refused:
                told.append(f"{type(refused).__name__}: {refused}")

        def handler(event, context):
            if event == "begin":
                boto3.client("dynamodb")
                threading.Thread(target=look).start()
            return told
    """
    function(lab, source)
    invoke(lab, event="begin")
    (instance,) = lab._world("invocations").region("us-east-1").functions.find("Worker").idle
    module = instance.modules._modules["app"]
    module.go.set()
    for thread in threading.enumerate():
        if getattr(thread, "_target", None) is module.look:
            thread.join()
    (answer,) = invoke(lab)["answer"]
    assert answer == (
        "LabError: A thread of a function called AWS while its handler did not run: "
        "let the handler wait for its threads."
    )
