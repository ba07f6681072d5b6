"""What the tests of functions and mappings share: to put up a small pipeline in a few words."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}
ROOT = Path(__file__).resolve().parent.parent


def function(lab: Any, source: str, name: str = "Worker", **settings: Any) -> str:
    """Deploy a function whose role may do everything; its ARN."""
    settings.setdefault("role", lab.role("EverythingRole", EVERYTHING))
    return str(lab.deploy_function(name, textwrap.dedent(source), **settings))


def invoke(lab: Any, name: str = "Worker", event: Any = None, **options: Any) -> dict[str, Any]:
    """Invoke a function; what boto3 says, with its Payload read as JSON in `answer`."""
    answer = lab.client("lambda").invoke(
        FunctionName=name, Payload=json.dumps(event).encode(), **options
    )
    text = answer["Payload"].read()
    answer["answer"] = json.loads(text) if text else None
    return dict(answer)


def log_lines(lab: Any, name: str = "Worker") -> list[str]:
    """All lines a function logged, stream by stream."""
    logs, group = lab.client("logs"), f"/aws/lambda/{name}"
    pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=group)
    streams = [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
    lines: list[str] = []
    for stream in streams:
        got = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)
        lines += [event["message"] for event in got["events"]]
    return lines


def table(lab: Any, name: str = "Source") -> str:
    """An on-demand table with a stream of both images; the stream's ARN."""
    described = lab.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    return str(described["TableDescription"]["LatestStreamArn"])


def put(lab: Any, key: str, value: int = 0, name: str = "Source") -> None:
    lab.client("dynamodb").put_item(
        TableName=name, Item={"id": {"S": key}, "value": {"N": str(value)}}
    )


def stream(lab: Any, name: str = "Stream", shards: int = 1) -> str:
    """A Kinesis stream; its ARN."""
    kinesis = lab.client("kinesis")
    kinesis.create_stream(StreamName=name, ShardCount=shards)
    return str(
        kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    )


def send(lab: Any, *datas: str, key: str | None = None, name: str = "Stream") -> None:
    """Put records into a Kinesis stream, up to 500 in a call; what a shard refuses goes again."""
    records = [{"Data": data.encode(), "PartitionKey": key or data} for data in datas]
    for start in range(0, len(records), 500):
        batch = records[start : start + 500]
        while batch := refused(lab, name, batch):
            lab.clock.advance(seconds=1)


def refused(lab: Any, name: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put records in one call; those that were too much for their shard."""
    answer = lab.client("kinesis").put_records(StreamName=name, Records=records)
    results = zip(records, answer["Records"], strict=True)
    return [record for record, result in results if "ErrorCode" in result]


def connect(
    lab: Any,
    source: str,
    name: str = "Worker",
    wait: bool = True,
    start: str = "TRIM_HORIZON",
    **settings: Any,
) -> str:
    """Map a stream to a function and wait until the mapping is enabled; its UUID."""
    made = lab.client("lambda").create_event_source_mapping(
        EventSourceArn=source, FunctionName=name, StartingPosition=start, **settings
    )
    if wait:
        wait_for_state(lab, made["UUID"], "Enabled")
    return str(made["UUID"])


def state(lab: Any, uuid: str) -> str:
    return str(lab.client("lambda").get_event_source_mapping(UUID=uuid)["State"])


def wait_for_state(lab: Any, uuid: str, wanted: str) -> None:
    lab.wait_until(lambda: state(lab, uuid) == wanted, timeout=60)


def code_of(refusal: Any) -> tuple[int, str]:
    """The HTTP status and the code of a ClientError that pytest caught."""
    response = refusal.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


COLLECTOR = """
    import json

    def handler(event, context):
        for record in event["Records"]:
            if "kinesis" in record:
                import base64
                what = base64.b64decode(record["kinesis"]["data"]).decode()
            else:
                image = record["dynamodb"].get("NewImage") or record["dynamodb"]["OldImage"]
                what = image["id"]["S"] + "=" + image["value"]["N"]
            print("GOT", what, record["eventID"])
"""
"""A handler that logs `GOT what eventID` for each record."""


def got(lab: Any, name: str = "Worker") -> list[str]:
    """What `COLLECTOR` received, in the order of its log streams."""
    return [line.split()[1] for line in log_lines(lab, name) if line.startswith("GOT ")]
