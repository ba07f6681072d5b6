"""What a mapping reads: a stream, the limits of one read, and the shape of its records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab_utils.emulator.shards import Record, Shard, ShardLog

Params = dict[str, Any]
Envelope = Callable[[Shard, Record, str], Params]
"""A record as the function gets it, from its shard, the record and the function's role."""


@dataclass(frozen=True)
class Source:
    """A stream as a mapping reads it: its shards, and the limits of one read."""

    arn: str
    log: ShardLog
    period: int
    """Microseconds between two polls of a shard."""
    read_records: int
    read_bytes: int
    read_rate: float
    """Reads a second that a shard allows to all of its readers together."""
    envelope: Envelope

    @property
    def service(self) -> str:
        """`dynamodb` or `kinesis`."""
        return self.arn.split(":")[2]

    @property
    def region(self) -> str:
        return self.arn.split(":")[3]


def dynamodb_envelope(arn: str) -> Envelope:
    def envelope(_shard: Shard, record: Record, _role: str) -> Params:
        event = {**record.body, "eventSourceARN": arn}
        if "userIdentity" in event:  # Lambda spells its members in lower case (Developer Guide)
            who = event["userIdentity"]
            event["userIdentity"] = {"type": who["Type"], "principalId": who["PrincipalId"]}
        return event

    return envelope


def kinesis_envelope(arn: str, region: str) -> Envelope:
    def envelope(shard: Shard, record: Record, role: str) -> Params:
        return {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": record.key,
                "sequenceNumber": record.body["SequenceNumber"],
                "data": record.body["Data"],
                "approximateArrivalTimestamp": record.at // 1000 / 1000,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard.id}:{record.sequence}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": role,
            "awsRegion": region,
            "eventSourceARN": arn,
        }

    return envelope
