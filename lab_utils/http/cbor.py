"""CBOR on the wire, JSON inside: what Kinesis' clients for Java speak.

Of the two formats only blobs and timestamps differ: CBOR has bytes where JSON has base64, and
counts milliseconds (tag 1, whole numbers) where JSON counts seconds.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import cbor2
from botocore.model import Shape

from lab_utils.emulator.errors import ApiError

KINESIS = "application/x-amz-cbor-1.1"
RPC = "application/cbor"
"""CloudWatch's, in requests that MiniStack understands as they are."""
CONTENT_TYPES = (KINESIS, RPC)
MOMENT = 1
"""CBOR's tag of a time."""


def to_json(body: bytes) -> bytes:
    """A request's body in JSON."""
    try:
        members = cbor2.loads(body or b"\xa0", semantic_decoders={MOMENT: _seconds})
        return json.dumps(members, default=_base64).encode()
    except (cbor2.CBORError, RecursionError, TypeError, ValueError):
        raise ApiError("SerializationException", "Could not parse request body into cbor") from None


def from_json(body: bytes, shape: Shape | None) -> bytes:
    """An answer's body in CBOR; an error has no shape."""
    members = json.loads(body or b"{}")
    return cbor2.dumps(_natural(shape, members) if shape else members)


def _seconds(milliseconds: Any, _immutable: bool) -> float:
    return float(milliseconds / 1000)


def _base64(value: Any) -> str:
    if not isinstance(value, bytes):
        raise TypeError
    return base64.b64encode(value).decode()


def _natural(shape: Shape, value: Any) -> Any:
    """A value with bytes where JSON has base64 and tagged milliseconds where it has seconds."""
    kind = shape.type_name
    if kind == "blob":
        return base64.b64decode(value)
    if kind == "timestamp":
        return cbor2.CBORTag(MOMENT, round(value * 1000))
    if kind == "structure":
        members = shape.members
        return {
            name: _natural(members[name], each) if name in members else each
            for name, each in value.items()
        }
    if kind == "list":
        return [_natural(shape.member, each) for each in value]
    if kind == "map":
        return {name: _natural(shape.value, each) for name, each in value.items()}
    return value
