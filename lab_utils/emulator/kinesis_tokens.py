"""What Kinesis hands out as text that nobody can read: shard iterators, and tokens for pages."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import astuple, dataclass, fields
from typing import Any, Self

from lab_utils.emulator.errors import ApiError

Params = dict[str, Any]


def invalid(message: str) -> ApiError:
    return ApiError("InvalidArgumentException", message)


@dataclass(frozen=True)
class Token:
    """A text that says all that its members say; `refusal` is told of a text that is none."""

    refusal = "NextToken is invalid."

    def encode(self) -> str:
        return base64.b64encode(json.dumps(astuple(self), separators=(",", ":")).encode()).decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        kinds = {"str": str, "int": int}
        try:
            members = json.loads(base64.b64decode(text.strip('"'), validate=True))
            expected = [kinds[str(each.type)] for each in fields(cls)]
            if not isinstance(members, list) or [type(each) for each in members] != expected:
                raise ValueError
            return cls(*members)
        except (ValueError, RecursionError, binascii.Error):
            raise invalid(cls.refusal) from None


@dataclass(frozen=True)
class KinesisIterator(Token):
    """Where in which shard reading goes on.

    `created` tells a stream from a later one of its name, whose iterator this is not.
    """

    refusal = "Invalid ShardIterator."

    arn: str
    created: int
    shard: str
    position: int
    issued: int


@dataclass(frozen=True)
class StreamsPage(Token):
    """Where ListStreams goes on."""

    after: str


@dataclass(frozen=True)
class ShardsPage(Token):
    """Where ListShards goes on. `kind` and `moment` (microseconds) are those of its ShardFilter."""

    stream: str
    created: int
    after: str
    kind: str
    moment: int
    issued: int


def stream_name(params: Params) -> str:
    """Which stream a request is about: by its name, its ARN, or what an answer handed out."""
    if "StreamName" in params:
        return str(params["StreamName"])
    if "ShardIterator" in params:
        return KinesisIterator.decode(params["ShardIterator"]).arn.rpartition("/")[2]
    if "StreamARN" not in params and "NextToken" in params:
        return _stream_of_page(params["NextToken"])
    return str(params.get("StreamARN", "")).rpartition("/")[2]


def _stream_of_page(token: str) -> str:
    """ListStreams is about no stream, ListShards about one."""
    try:
        return ShardsPage.decode(token).stream
    except ApiError:
        return ""
