"""Kinesis as a destination of a table's changes: what leaves DynamoDB beside its own stream.

It promises less than a table's stream: a change may come out of order, and more than once
(Developer Guide). How often, and how late a change comes, is assumed: `Physics.destination_...`. A
change that a shard has no room for is tried again; one that is larger than the data stream's
records may be is lost.

The shape of a record was recorded on AWS and published with samples; states, how long they last and
the words of refusals were observed on AWS by ack-api-quirks in 2026. That all changes of an item
have one partition key, and which, is assumed: it is known to have 32 hexadecimal digits.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any

from lab_utils.emulator.backing import Change
from lab_utils.emulator.dynamodb_streams import event_name, same_item
from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.partitions import key_hash, key_text
from lab_utils.emulator.physics import Range, between
from lab_utils.emulator.sizes import item_size

if TYPE_CHECKING:
    from lab_utils.emulator.dynamodb import Table
    from lab_utils.emulator.world import Region

Params = dict[str, Any]

OVER = ("DISABLED", "ENABLE_FAILED")
SENDING = ("ACTIVE", "UPDATING")
PRECISION = "ApproximateCreationDateTimePrecision"
MILLISECOND = "MILLISECOND"
DIVISORS = {MILLISECOND: 1000, "MICROSECOND": 1}
"""How times are told, and so many microseconds are one."""

NOT_NOW = "Table is not in a valid state to enable Kinesis Streaming Destination: "
NO_STREAM = "User does not have a permission to use kinesis stream"
ELSEWHERE = (
    "The kinesis Arn used to enable kinesis replication belongs to a stream which is not in the "
    "current region"
)


class StreamingDestinations:
    """The four calls that concern them. A table has one at most that is not over."""

    def __init__(self, region: Region) -> None:
        self._region = region

    def enable(self, params: Params) -> Params:
        """Whether there is such a data stream shows later, in the destination's status."""
        table, arn = self._region.dynamodb.table(params["TableName"]), params["StreamArn"]
        asked = params.get("EnableKinesisStreamingConfiguration", {})
        if any(each.status not in OVER for each in table.destinations):
            raise _not_now(
                "EnableKinesisStreamingDestination must be DISABLED or ENABLE_FAILED to perform "
                "ENABLE operation."
            )
        found = _find(table, arn)
        if found is None:
            found = StreamingDestination(self._region, table, arn)
            table.destinations.insert(0, found)
        found.enable(asked.get(PRECISION))
        return _answer(table, found, EnableKinesisStreamingConfiguration=asked)

    def disable(self, params: Params) -> Params:
        table = self._region.dynamodb.table(params["TableName"])
        found = _find(table, params["StreamArn"])
        if found is None or found.status not in ("ACTIVE", "DISABLING"):
            raise _not_now(
                "KinesisStreamingDestination must be ACTIVE to perform DISABLE operation."
            )
        if found.status == "ACTIVE":
            found.disable()
        return _answer(table, found)

    def update(self, params: Params) -> Params:
        table, arn = self._region.dynamodb.table(params["TableName"]), params["StreamArn"]
        asked = params.get("UpdateKinesisStreamingConfiguration", {})
        wanted = asked.get(PRECISION)
        if wanted is None:
            raise _invalid(
                "Streaming destination cannot be updated with given parameters: "
                "UpdateKinesisStreamingConfiguration cannot be null or contain only null values"
            )
        found = _find(table, arn)
        if found is None:
            raise _not_now(
                f"No streaming destination with streamArn: {arn} found for table with tableName: "
                f"{table.name}"
            )
        if found.status != "ACTIVE":
            raise _not_now(
                "Kinesis streaming is not in ACTIVE state. Updates are only allowed in ACTIVE "
                "state."
            )
        if wanted == (found.precision or MILLISECOND):
            raise _invalid(
                f"Invalid Request: Precision is already set to the desired value of {wanted}"
            )
        found.update(wanted)
        return _answer(table, found, UpdateKinesisStreamingConfiguration=asked)

    def describe(self, params: Params) -> Params:
        table = self._region.dynamodb.table(params["TableName"])
        return {
            "TableName": table.name,
            "KinesisDataStreamDestinations": [each.described() for each in table.destinations],
        }


class StreamingDestination:
    """One data stream that a table's changes are, were or should have been put into."""

    def __init__(self, region: Region, table: Table, arn: str) -> None:
        self._region, self._table, self.arn = region, table, arn
        self._scheduler, self._physics = region.world.scheduler, region.world.physics
        self._rng = region.world.rng(f"destination {table.arn} {table.created} {arn}")
        self.status, self.description = "DISABLED", ""
        self.precision: str | None = None
        """What was asked for; without it times are told in milliseconds."""
        self._sent = 0
        self._latest = 0
        """When the last change is put that keeps its place."""

    # -- states -------------------------------------------------------------------------------

    def enable(self, precision: str | None) -> None:
        self.precision, self.description = precision, ""
        self._become("ENABLING", self._physics.destination_enabling, "ACTIVE")

    def disable(self) -> None:
        self.precision = None
        self._become("DISABLING", self._physics.destination_disabling, "DISABLED")

    def update(self, precision: str) -> None:
        self._become("UPDATING", self._physics.destination_updating, "ACTIVE", precision)

    def _become(self, now: str, bounds: Range, then: str, precision: str | None = None) -> None:
        def settle() -> None:
            self.status, self.precision = then, precision or self.precision
            if now == "ENABLING" and self._region.kinesis.find(self.arn) is None:
                here = self.arn.split(":")[3:4] == [self._region.name]
                self.status, self.description = "ENABLE_FAILED", NO_STREAM if here else ELSEWHERE

        self.status = now
        self._scheduler.after(between(self._rng, bounds), settle)

    def described(self) -> Params:
        described = {"StreamArn": self.arn, "DestinationStatus": self.status}
        if self.description:
            described["DestinationStatusDescription"] = self.description
        if self.precision is not None and self.status not in OVER:
            described[PRECISION] = self.precision
        return described

    # -- changes ------------------------------------------------------------------------------

    def note(self, change: Change, old_size: int, new_size: int, by: Params | None) -> None:
        """An item changed: send word of it, in most cases in its place and once."""
        if self.status not in SENDING or same_item(change.old, change.new):
            return
        keys = self._table.keys_of(change)
        record = self._record(change, keys, item_size(keys) + old_size + new_size, by)
        data = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
        key = f"{key_hash('|'.join(map(key_text, keys.values()))):032X}"
        physics, now = self._physics, self._scheduler.now
        due = self._latest = max(self._latest, now + between(self._rng, physics.destination_lag))
        if self._rng.random() < physics.destination_strays:
            due += between(self._rng, physics.destination_stray_lag)
        self._scheduler.after(due - now, lambda: self._put(data, key))
        if self._rng.random() < physics.destination_repeats:
            again = due + between(self._rng, physics.destination_lag)
            self._scheduler.after(again - now, lambda: self._put(data, key))

    def _record(self, change: Change, keys: Params, size: int, by: Params | None) -> Params:
        self._sent += 1
        number = hashlib.md5(f"{self._table.arn}{self._scheduler.now}{self._sent}".encode(),
                             usedforsecurity=False)  # fmt: skip
        told = {
            "ApproximateCreationDateTime": self._scheduler.now
            // DIVISORS[self.precision or MILLISECOND],
            "Keys": keys,
            "NewImage": change.new,
            "OldImage": change.old,
            "SizeBytes": size,
            PRECISION: self.precision,
        }
        return {
            "awsRegion": self._region.name,
            "eventID": str(uuid.UUID(number.hexdigest(), version=4)),
            "eventName": event_name(change.old, change.new),
            "userIdentity": by and {"type": by["Type"], "principalId": by["PrincipalId"]},
            "recordFormat": "application/json",
            "tableName": self._table.name,
            "dynamodb": {name: value for name, value in told.items() if value is not None},
            "eventSource": "aws:dynamodb",
        }

    def _put(self, data: bytes, key: str) -> None:
        """Put a record, or try again later if its shard has no room."""
        stream, size = self._region.kinesis.find(self.arn), len(data) + len(key)
        if stream is None or size > stream.record_bytes:
            return
        try:
            stream.put(base64.b64encode(data).decode(), size, key, key_hash(key))
        except ApiError:
            later = between(self._rng, self._physics.destination_lag)
            self._scheduler.after(later, lambda: self._put(data, key))


def _find(table: Table, arn: str) -> StreamingDestination | None:
    return next((each for each in table.destinations if each.arn == arn), None)


def _answer(table: Table, destination: StreamingDestination, **more: Params) -> Params:
    return {
        "TableName": table.name,
        "StreamArn": destination.arn,
        "DestinationStatus": destination.status,
        **more,
    }


def _invalid(message: str) -> ApiError:
    return ApiError("ValidationException", message)


def _not_now(message: str) -> ApiError:
    return _invalid(NOT_NOW + message)
