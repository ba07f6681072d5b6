"""Where word of what was given up is sent: a queue, a topic, a bucket, or another function.

Of a mapping's records a queue and a topic get only where they are, not the records; they must be
read from the stream again while they are kept there. A bucket gets them, too. Events of
asynchronous invocations (`asynchronous.py`) are sent on in the same way, to functions as well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from lab_utils.emulator.backing import ACCOUNT
from lab_utils.emulator.errors import ApiError, not_modelled
from lab_utils.emulator.failures import Condition
from lab_utils.emulator.physics import MICROSECONDS

if TYPE_CHECKING:
    from lab_utils.emulator.shards import Record
    from lab_utils.emulator.world import World

Params = dict[str, Any]

ACTIONS = {"sqs": "SendMessage", "sns": "Publish", "s3": "PutObject", "lambda": "InvokeFunction"}
"""What a function's role must be allowed to do with a destination of each service."""
FOR_STREAMS = ("sqs", "sns", "s3")
"""The services that a mapping's word can go to."""


@dataclass(frozen=True)
class GivenUp:
    """Records of one shard that a mapping gave up, and why.

    `texts` are the records as the function got them; `error` is what AWS calls the function's
    error, None if its answer reported the failure.
    """

    condition: Condition
    calls: int
    request_id: str
    error: str | None
    function_arn: str
    stream_arn: str
    mapping: str
    shard: str
    records: Sequence[Record]
    texts: Sequence[str]
    version: str = "$LATEST"
    """The version of the function that was executed."""


def destination_of(params: Params) -> str | None:
    """The ARN in a request's DestinationConfig, "" if it takes it away, None if it has none."""
    config = params.get("DestinationConfig")
    if config is None:
        return None
    if "OnSuccess" in config:
        raise _invalid(
            "Unsupported DestinationConfig parameter for given event source mapping type."
        )
    return str((config.get("OnFailure") or {}).get("Destination") or "")


def check(world: World, role: str, arn: str) -> None:
    """Refuse a destination that is none, or that a role may not use.

    The words are reported from the field, not recorded. Whether there is such a queue, topic or
    bucket is not looked at; a message to one that is missing is lost.
    """
    if not arn:
        return
    if arn.startswith("kafka://"):
        raise not_modelled("A Kafka topic as a destination", "Lambda")
    if _service(arn) not in FOR_STREAMS or arn.endswith(".fifo"):
        raise _invalid(f"The destination ARN {arn} is invalid.")
    check_allowed(world, role, arn)


def check_allowed(world: World, role: str, arn: str) -> None:
    service = _service(arn)
    if not allowed(world, role, arn):
        raise _invalid(
            "The provided execution role does not have permissions to call "
            f"{ACTIONS[service]} on {service.upper()}"
        )


def allowed(world: World, role: str, arn: str) -> bool:
    service = _service(arn)
    resource = f"{arn}/aws/lambda/*" if service == "s3" else arn
    return world.permissions.allows(role, f"{service}:{ACTIONS[service]}", resource)


def send(world: World, region: str, role: str, arn: str, given_up: GivenUp, key: str) -> bool:
    """Deliver the news in process, at once. One that the role may not deliver (any more) is lost.

    `key` is the random end of the name of an object in a bucket. Tells whether it arrived.
    """
    now = world.scheduler.now
    text = json.dumps(document(given_up, now), separators=(",", ":"))
    if _service(arn) == "s3":
        text = f'{text[:-1]},"payload":{{"Records":[{",".join(given_up.texts)}]}}}}'
    return deliver(world, region, role, arn, text, object_name(given_up, now, key))


def deliver(world: World, region: str, role: str, arn: str, text: str, name: str) -> bool:
    """Hand a JSON text to a destination (in a bucket by that name); whether it took it."""
    if not allowed(world, role, arn):
        return False
    service, resource, home = _service(arn), arn.rpartition(":")[2], arn.split(":")[3] or region
    if service == "lambda":
        return world.region(home).functions.asynchronous.pass_on(arn, text)
    path, headers, method = "/", {"host": f"{service}.{home}.amazonaws.com"}, "POST"
    if service == "sqs":
        headers |= {
            "x-amz-target": "AmazonSQS.SendMessage",
            "content-type": "application/x-amz-json-1.0",
        }
        url = f"https://sqs.{home}.amazonaws.com/{ACCOUNT}/{resource}"
        data = json.dumps({"QueueUrl": url, "MessageBody": text})
    elif service == "sns":
        headers |= {"content-type": "application/x-www-form-urlencoded"}
        data = urlencode(
            {"Action": "Publish", "Version": "2010-03-31", "TopicArn": arn, "Message": text}
        )
    else:
        headers |= {"content-type": "application/json"}
        path, method, data = f"/{resource}/{name}", "PUT", text
    with world.gateway.turn():
        status, _, _ = world.backing.request(
            service, home, method, path, headers, data.encode(), {}
        )
    return status < HTTPStatus.MULTIPLE_CHOICES


def document(given_up: GivenUp, now: int) -> Params:
    """What a queue or a topic is told, `now` in microseconds; its form is recorded from AWS."""
    body: Params = {
        "requestContext": {
            "requestId": given_up.request_id,
            "functionArn": given_up.function_arn,
            "condition": given_up.condition,
            "approximateInvokeCount": given_up.calls,
        }
    }
    if given_up.condition == "RetryAttemptsExhausted":
        body["responseContext"] = {
            "statusCode": 200,
            "executedVersion": given_up.version,
            "functionError": given_up.error,
        }
    kinesis = given_up.stream_arn.split(":")[2] == "kinesis"
    first, last = given_up.records[0], given_up.records[-1]
    arrival = milliseconds if kinesis else _seconds
    return body | {
        "version": "1.0",
        "timestamp": milliseconds(now),
        "KinesisBatchInfo" if kinesis else "DDBStreamBatchInfo": {
            "shardId": given_up.shard,
            "startSequenceNumber": str(first.sequence),
            "endSequenceNumber": str(last.sequence),
            "approximateArrivalOfFirstRecord": arrival(first.at),
            "approximateArrivalOfLastRecord": arrival(last.at),
            "batchSize": len(given_up.records),
            "streamArn": given_up.stream_arn,
        },
    }


def object_name(given_up: GivenUp, now: int, key: str) -> str:
    return f"aws/lambda/{given_up.mapping}/{given_up.shard}/{dated(now, key)}"


def dated(now: int, key: str) -> str:
    """The end of an object's name."""
    moment = _moment(now)
    return f"{moment:%Y/%m/%d}/{moment:%Y-%m-%dT%H.%M.%S}-{key}"


def _service(arn: str) -> str:
    return arn.split(":")[2] if arn.count(":") > 1 else ""


def _moment(now: int) -> datetime:
    return datetime.fromtimestamp(now / MICROSECONDS, UTC)


def _seconds(now: int) -> str:
    return f"{_moment(now // MICROSECONDS * MICROSECONDS):%Y-%m-%dT%H:%M:%SZ}"


def milliseconds(now: int) -> str:
    return f"{_seconds(now)[:-1]}.{now // 1000 % 1000:03d}Z"


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValueException", message)
