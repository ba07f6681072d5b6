"""AWS's wire protocols, as far as the services modelled here speak them.

JSON bodies (DynamoDB Streams, Kinesis) and REST with JSON (Lambda). What a request may look like
is read from botocore's own service models, so the rules are AWS's and not written a second time.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from botocore.model import OperationModel, Shape

from lab_utils.emulator.errors import ApiError

Params = dict[str, Any]


@dataclass(frozen=True)
class HttpAnswer:
    """An answer on its way to the client."""

    status: int
    headers: dict[str, str]
    body: bytes


# -- requests -----------------------------------------------------------------------------------


def parse_json(body: bytes) -> Params:
    """The members of a JSON request; anything but a JSON object is AWS's SerializationException."""
    try:
        params = json.loads(body or b"{}")
    except (RecursionError, ValueError):
        raise ApiError("SerializationException", "Could not parse request body into json") from None
    if not isinstance(params, dict):
        raise ApiError("SerializationException", "Start of structure or map expected")
    return params


def parse_rest(
    model: OperationModel,
    path: str,
    query: Mapping[str, list[str]],
    headers: Mapping[str, str],
    body: bytes,
) -> Params:
    """The members of a REST request, gathered from its path, query, headers and body."""
    shape = model.input_shape
    if shape is None:
        return {}
    payload = shape.serialization.get("payload")
    params: Params = {payload: body} if payload else parse_json(body)
    match = path_pattern(model.http["requestUri"]).fullmatch(path)
    labels = match.groupdict() if match else {}
    for name, member in shape.members.items():
        where = member.serialization.get("location")
        wire_name = member.serialization.get("name", name)
        if where == "uri":
            params[name] = unquote(labels.get(_identifier(wire_name), ""))
        elif where == "querystring" and wire_name in query:
            params[name] = _from_query(member, query[wire_name])
        elif where == "header" and wire_name.lower() in headers:
            params[name] = _from_text(member, headers[wire_name.lower()])
    return params


@lru_cache(maxsize=512)
def path_pattern(uri: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)(\+?)\}", uri.partition("?")[0].rstrip("/"))
    pattern = ""
    for index in range(0, len(parts), 3):
        pattern += re.escape(parts[index])
        if index + 1 < len(parts):
            label = ".+" if parts[index + 2] else "[^/]+"
            pattern += f"(?P<{_identifier(parts[index + 1])}>{label})"
    return re.compile(pattern + "/?")


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _from_query(shape: Shape, texts: list[str]) -> Any:
    """A list is as many parameters of one name."""
    if shape.type_name == "list":
        return [_from_text(shape.member, text) for text in texts]
    return _from_text(shape, texts[0])


def _from_text(shape: Shape, text: str) -> Any:
    if shape.type_name in ("integer", "long"):
        try:
            return int(text)
        except ValueError:
            raise ApiError("SerializationException", f"{text!r} is not a number") from None
    return text == "true" if shape.type_name == "boolean" else text


def unchunked(headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """A body without the chunks in which S3's clients send it; the trailer becomes headers."""
    stream, parts = io.BytesIO(body), []
    while size := int(stream.readline().partition(b";")[0], 16):
        parts.append(stream.read(size))
        stream.readline()
    trailer = dict(line.decode().strip().split(":", 1) for line in stream if line.strip())
    kept = {
        name: value
        for name, value in headers.items()
        if name not in ("transfer-encoding", "x-amz-trailer", "x-amz-decoded-content-length")
    }
    encodings = [
        each for each in re.split(r",\s*", kept.pop("content-encoding")) if each != "aws-chunked"
    ]
    if encodings:
        kept["content-encoding"] = ", ".join(encodings)
    whole = b"".join(parts)
    return kept | trailer | {"content-length": str(len(whole))}, whole


# -- validation -----------------------------------------------------------------------------------

NEWER_VALUES = {"ShardIteratorType": ("AT_TIMESTAMP",)}
"""What AWS knows and the pinned service models do not yet (AT_TIMESTAMP: since October 2026)."""
RECORDED_ORDERS = {"EventSourcePosition": ["LATEST", "AT_TIMESTAMP", "TRIM_HORIZON"]}
"""The values that AWS was seen to list in another order than its service models do."""

FARTHEST = 2**63 / 1000
"""Seconds from 1970 to where 64 bits of milliseconds end; what is no number is not nearer."""

_FAILED = "failed to satisfy constraint: Member must"

Path = tuple["Path", "str | int"] | None
"""Where a value stands in a request: in what, and by which name or (from 1) number in it."""

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float, str),
    "blob": (str, bytes),
}


def validate(shape: Shape | None, params: Params, code: str = "ValidationException") -> None:
    """Refuse a request that the service's model does not allow, in AWS's words.

    Wrong types are a SerializationException; values out of bounds are `code`. Members that the
    model does not know are dropped in silence, as AWS does.
    """
    if shape is None:
        return
    _check_types(shape, params)
    errors: list[str] = []
    _check_constraints(shape, params, None, errors)
    if errors:
        count = f"{len(errors)} validation error{'s' if len(errors) > 1 else ''} detected: "
        raise ApiError(code, count + "; ".join(errors))


def _check_types(shape: Shape, value: Any) -> None:
    kind = shape.type_name
    if type(value) not in _JSON_TYPES.get(kind, (type(value),)):
        raise ApiError(
            "SerializationException", f"{type(value).__name__} cannot be converted to {shape.name}"
        )
    if kind == "timestamp" and not isinstance(value, str) and not abs(value) < FARTHEST:
        raise ApiError("SerializationException", f"{value} cannot be converted to {shape.name}")
    if kind == "structure":
        members = shape.members
        for name, given in value.items():
            if given is not None and name in members:
                _check_types(members[name], given)
    elif kind == "list":
        for each in value:
            if each is not None:
                _check_types(shape.member, each)
    elif kind == "map":
        for each in value.values():
            if each is not None:
                _check_types(shape.value, each)


def _check_constraints(shape: Shape, value: Any, path: Path, errors: list[str]) -> None:
    if value is None:
        return
    kind = shape.type_name
    if kind == "structure":
        _check_members(shape, value, path, errors)
        return
    for requirement in _unmet(kind, shape, value):
        errors.append(f"Value '{_shown(value)}' at '{_spelled(path)}' {_FAILED} {requirement}")
    if kind == "list":
        for number, each in enumerate(value, start=1):
            _check_constraints(shape.member, each, (path, number), errors)


def _check_members(shape: Shape, value: Params, path: Path, errors: list[str]) -> None:
    required = getattr(shape, "required_members", ())
    for name, member in shape.members.items():
        given = value.get(name)
        if given is not None:
            _check_constraints(member, given, (path, name), errors)
        elif name in required:
            place = _spelled((path, name))
            errors.append(f"Value null at '{place}' {_FAILED} not be null")


def _unmet(kind: str, shape: Shape, value: Any) -> Iterable[str]:
    """What a model asks of a value and does not find."""
    limits = shape.metadata
    if not limits:
        return ()
    if kind in ("integer", "long"):
        return _out_of_bounds("value", value, limits)
    if kind == "list":
        return _out_of_bounds("length", len(value), limits)
    return _unmet_by_text(shape, value) if kind == "string" else ()


def _unmet_by_text(shape: Shape, value: str) -> Iterable[str]:
    limits = shape.metadata
    if "enum" in limits:
        if value not in limits["enum"] and value not in NEWER_VALUES.get(shape.name, ()):
            listed = RECORDED_ORDERS.get(shape.name, limits["enum"])
            yield f"satisfy enum value set: [{', '.join(listed)}]"
        return
    yield from _out_of_bounds("length", len(value), limits)
    pattern = _pattern(limits["pattern"]) if "pattern" in limits else None
    if pattern and not pattern.fullmatch(value):
        yield f"satisfy regular expression pattern: {limits['pattern']}"


def _out_of_bounds(what: str, size: int, limits: Mapping[str, Any]) -> Iterable[str]:
    if "min" in limits and size < limits["min"]:
        yield f"have {what} greater than or equal to {limits['min']}"
    if "max" in limits and size > limits["max"]:
        yield f"have {what} less than or equal to {limits['max']}"


def _spelled(path: Path) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(f"{step}.member" if isinstance(step, int) else _camel(step))
    return ".".join(reversed(steps))


@lru_cache(maxsize=512)
def _pattern(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text)
    except re.error:  # a few patterns of the models are Java's and not Python's
        return None


def _camel(name: str) -> str:
    return name[0].lower() + name[1:]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) < 200 else text[:200] + "..."


def decode_blob(text: str | bytes) -> bytes:
    """The bytes of a blob, which JSON carries in base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError("SerializationException", "Invalid base64 in a binary member") from None


def timestamp(value: Any) -> float:
    """Seconds since 1970, which is how a JSON request tells a time."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ApiError(
            "SerializationException", f"{type(value).__name__} cannot be converted to Timestamp"
        )
    return float(value)


# -- answers --------------------------------------------------------------------------------------


def json_answer(result: Params, version: str = "1.0") -> HttpAnswer:
    return HttpAnswer(
        200,
        {"content-type": f"application/x-amz-json-{version}"},
        json.dumps(result, separators=(",", ":")).encode(),
    )


def rest_answer(model: OperationModel, result: Params) -> HttpAnswer:
    """A REST answer: members go to the status line, the headers or the body, as the model says."""
    status = model.http.get("responseCode", 200)
    headers = {"content-type": "application/json"}
    body: Any = {}
    shape = model.output_shape
    payload = shape.serialization.get("payload") if shape else None
    for name, value in result.items():
        member = shape.members[name] if shape else None
        where = member.serialization.get("location") if member else None
        if where == "statusCode":
            status = value
        elif where == "header" and member is not None:
            headers[member.serialization["name"].lower()] = value
        elif name == payload:
            body = value
        else:
            body[name] = value
    return HttpAnswer(
        status,
        headers,
        body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode(),
    )


def error_answer(protocol: str, error: ApiError) -> HttpAnswer:
    """An error in the shape of a protocol: "json", "rest-json", "query" or "rest-xml"."""
    headers = {"x-amzn-errortype": error.code, "content-type": "application/x-amz-json-1.0"}
    if protocol == "json":
        body = {"__type": error.code, "message": error.message, **error.extra}
    elif protocol == "rest-json":
        text = "Message" if error.status == 404 else "message"
        body = {text: error.message, **error.extra}
        if error.code != "ValidationException":
            body["Type"] = "User"
    else:
        return _xml_error(protocol, error)
    return HttpAnswer(error.status, headers, json.dumps(body, separators=(",", ":")).encode())


def _xml_error(protocol: str, error: ApiError) -> HttpAnswer:
    from xml.sax.saxutils import escape

    inner = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    text = (
        f"<Error>{inner}</Error>"
        if protocol == "rest-xml"
        else f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error></ErrorResponse>"
    )
    return HttpAnswer(error.status, {"content-type": "text/xml"}, text.encode())
