"""Whom a request over HTTP is meant for: its service, its operation and its Region.

AWS has an address for each service; here one port is all of them. JSON requests name their
operation in `x-amz-target`, CloudWatch's in their path, forms in `Action`, and REST requests are
told by method and path, as botocore's models have them. The signature's scope says the rest. The
signature itself is not verified: the lab has no secrets.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, unquote

from lab_utils.emulator import wire
from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.gateway import BACKED, FORM, MODELLED, SERVICES, Request
from lab_utils.http import cbor

TARGETS = {
    "DynamoDB_20120810": "dynamodb",
    "DynamoDBStreams_20120810": "dynamodbstreams",
    "Kinesis_20131202": "kinesis",
    "AmazonSQS": "sqs",
    "GraniteServiceVersion20100801": "cloudwatch",
    "Logs_20140328": "logs",
}
"""The first half of `x-amz-target`. The models say the same; reading all of them takes long."""
VERSIONS = {
    "2010-05-08": "iam",
    "2011-06-15": "sts",
    "2010-03-31": "sns",
    "2012-11-05": "sqs",
    "2010-08-01": "cloudwatch",
}
"""The `Version` of a form."""
SIGNED_AS = {"monitoring": "cloudwatch"}
"""Where a signature's scope has another name for a service."""
WITHOUT_REGION = frozenset({"iam"})
LENIENT = frozenset({"sqs", "cloudwatch", "logs"})
"""Services of MiniStack's that take what they cannot read for an empty request."""
LARGEST_BODY = 70_167_211
"""Bytes: what Lambda takes as CreateFunction's, the largest request of all the services here."""

_RPC = re.compile(r"/service/(\w+)/operation/(\w+)")
_LAMBDA = re.compile(r"/20\d\d-\d\d-\d\d/")
_SIGNATURE = re.compile(
    r"x-amz-(algorithm|credential|date|expires|signedheaders|signature|security-token)$"
)
_OF_THE_SIGNATURE = ("authorization", "x-amz-date", "x-amz-security-token")
_ASKS_WHO = "sts"
"""The service that answers by who signed: the user of an access key, or else the account itself."""


@dataclass(slots=True)
class Incoming:
    """A request as it came; `path` is not yet unquoted, header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    @property
    def names_target(self) -> bool:
        """Whether it says itself which operation it is for, as JSON and CBOR requests do."""
        return "x-amz-target" in self.headers or "smithy-protocol" in self.headers

    @property
    def cbor(self) -> str | None:
        """The kind of CBOR that it speaks; an object in a bucket may be CBOR and says nothing."""
        kind = self.content_type
        return kind if kind in cbor.CONTENT_TYPES and self.names_target else None


@dataclass(eq=False)
class Refusal(Exception):
    """A request that reaches no operation: to whom it seems to be, and why not."""

    request: Request
    error: ApiError


@dataclass(frozen=True)
class Route:
    """One way to an operation of a REST service: by path, and by what must be there besides."""

    operation: str
    path: re.Pattern[str]
    flags: tuple[tuple[str, str], ...]
    headers: tuple[str, ...]

    def leads(self, incoming: Incoming) -> bool:
        return (
            all(
                name in incoming.query and value in ("", incoming.query[name][0])
                for name, value in self.flags
            )
            and all(name in incoming.headers for name in self.headers)
            and self.path.fullmatch(incoming.path) is not None
        )


@dataclass
class Addresses:
    """Reads addresses, with the models of a botocore session."""

    session: Any
    home: str
    """The Region of requests whose signature names none."""
    _routes: dict[str, dict[str, list[Route]]] = field(default_factory=dict)

    def read(self, incoming: Incoming) -> Request:
        """The request, ready for the gateway; raises `Refusal`."""
        scope = _scope(incoming)
        try:
            service = self._service(incoming, scope)
            operation = self._operation(service, incoming)
            return self._request(incoming, service, operation, self._region(service, scope))
        except ApiError as error:
            raise Refusal(self.bare(incoming), error) from None

    def bare(self, incoming: Incoming) -> Request:
        """What an answer needs to know of a request that is refused: to whom it seems to be."""
        scope = _scope(incoming)
        try:
            service = self._service(incoming, scope)
        except ApiError:
            signed = _signed(scope)
            known = signed if signed in SERVICES.values() else ""
            service = known if signed or incoming.names_target else "s3"
        return Request(
            service, "", self.home, incoming.method, incoming.path, {}, incoming.headers, b""
        )

    # -- to which service -----------------------------------------------------------------------

    def _service(self, incoming: Incoming, scope: list[str] | None) -> str:
        """The service, as the request itself names it, or else its signature."""
        signed = _signed(scope)
        if incoming.names_target:
            prefix = _target(incoming)[0]
            if prefix not in TARGETS:
                raise _unknown_operation()
            return TARGETS[prefix]
        if _LAMBDA.match(incoming.path) and signed in ("", "lambda"):
            return "lambda"
        if signed in ("lambda", "s3"):
            return signed
        asked_by_form = VERSIONS.get(_form(incoming).get("Version", ""), signed)
        if asked_by_form in VERSIONS.values():
            return asked_by_form
        if signed in SERVICES.values():
            raise _unknown_operation()
        if signed:
            raise ApiError("NotImplemented", f"The lab has no service {signed}.", 501)
        return "s3"

    def _operation(self, service: str, incoming: Incoming) -> str:
        if service in ("lambda", "s3"):
            return self._by_path(service, incoming)
        if incoming.names_target:
            operation = _target(incoming)[1]
            if incoming.method != "POST" or not self._exists(service, operation):
                raise _unknown_operation()
            return operation
        operation = _form(incoming).get("Action", "")
        if not operation:
            raise ApiError("MissingAction", "The request must contain the parameter Action.")
        if not self._exists(service, operation):
            raise ApiError("InvalidAction", f"Could not find operation {operation}.")
        return operation

    def _exists(self, service: str, operation: str) -> bool:
        return (
            operation in MODELLED.get(service, ())
            or operation in BACKED.get(service, ())
            or operation in self.session.get_service_model(service).operation_names
        )

    def _by_path(self, service: str, incoming: Incoming) -> str:
        if service not in self._routes:
            self._routes[service] = self._read_routes(service)
        for route in self._routes[service].get(incoming.method, ()):
            if route.leads(incoming):
                return route.operation
        if service == "lambda":
            raise _unknown_operation(404)
        raise ApiError(
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
            405,
        )

    def _read_routes(self, service: str) -> dict[str, list[Route]]:
        """The routes of each method, those that ask for most first; of equals, what we offer."""
        model = self.session.get_service_model(service)
        offered = MODELLED.get(service, {}).keys() | BACKED.get(service, frozenset())
        routes: dict[str, list[Route]] = {}
        for name in model.operation_names:
            operation = model.operation_model(name)
            routes.setdefault(operation.http["method"], []).append(_route(operation))
        for each in routes.values():
            each.sort(
                key=lambda route: (
                    -len(route.flags) - len(route.headers),
                    route.operation not in offered,
                )
            )
        return routes

    # -- from where -----------------------------------------------------------------------------

    def _region(self, service: str, scope: list[str] | None) -> str:
        if scope is None:
            raise _unsigned(service)
        region = scope[-3] if len(scope) > 4 else ""
        if not region or service in WITHOUT_REGION:
            return self.home
        if region not in _regions(self.session):
            raise ApiError(
                "InvalidSignatureException",
                f"Credential should be scoped to a valid region, not '{region}'.",
                403,
            )
        return region

    # -- what it says ---------------------------------------------------------------------------

    def _request(self, incoming: Incoming, service: str, operation: str, region: str) -> Request:
        headers, body = dict(incoming.headers), incoming.body
        if service != _ASKS_WHO:
            for name in _OF_THE_SIGNATURE:
                headers.pop(name, None)
        if "content-encoding" in headers:
            headers, body = _decoded(service, headers, body)
        if incoming.cbor == cbor.KINESIS:
            body = cbor.to_json(body)
            headers["content-type"] = "application/x-amz-json-1.1"
        if service in LENIENT and incoming.names_target:
            wire.parse_json(body if "x-amz-target" in headers else cbor.to_json(body))
        query = incoming.query
        if query:
            query = {
                name: values for name, values in query.items() if not _SIGNATURE.match(name.lower())
            }
        return Request(
            service,
            operation,
            region,
            incoming.method,
            unquote(incoming.path),
            query,
            headers,
            body,
        )


def _scope(incoming: Incoming) -> list[str] | None:
    """The credential's scope in a signature: key, date, Region, service, end; None if unsigned."""
    given = incoming.headers.get("authorization", "")
    if given.startswith("AWS4-"):
        scope = given.partition("Credential=")[2].partition(",")[0].split("/")
    elif "X-Amz-Credential" in incoming.query:
        scope = incoming.query["X-Amz-Credential"][0].split("/")
    elif given.startswith("AWS ") or "AWSAccessKeyId" in incoming.query:
        return ["", "s3", ""]
    else:
        return None
    return scope if len(scope) >= 4 else None


def _signed(scope: list[str] | None) -> str:
    """The service that a signature is for."""
    return SIGNED_AS.get(scope[-2], scope[-2]) if scope else ""


def _target(incoming: Incoming) -> tuple[str, str]:
    """The service's own name and the operation's, of a request that names them."""
    if "x-amz-target" in incoming.headers:
        prefix, _, operation = incoming.headers["x-amz-target"].rpartition(".")
        return prefix, operation
    found = _RPC.fullmatch(incoming.path)
    return (found[1], found[2]) if found else ("", "")


def _form(incoming: Incoming) -> dict[str, str]:
    """The fields of a form, wherever they stand."""
    fields = dict(incoming.query)
    if incoming.content_type.startswith(FORM):
        fields |= parse_qs(incoming.body.decode(errors="replace"))
    return {name: values[0] for name, values in fields.items()}


def _route(operation: Any) -> Route:
    path, _, flags = operation.http["requestUri"].partition("?")
    wanted = [(name, values[0]) for name, values in parse_qs(flags, keep_blank_values=True).items()]
    headers = []
    shape = operation.input_shape
    for name in shape.required_members if shape else ():
        place = shape.members[name].serialization
        if place.get("location") == "querystring":
            wanted.append((place["name"], ""))
        elif place.get("location") == "header":
            headers.append(place["name"].lower())
    return Route(operation.name, wire.path_pattern(path), tuple(wanted), tuple(headers))


@lru_cache(maxsize=1)
def _regions(session: Any) -> frozenset[str]:
    return frozenset(session.get_available_regions("dynamodb"))


def _decoded(service: str, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """A body as it was before it was cut into chunks or compressed for the way."""
    encoding = headers["content-encoding"].lower()
    unreadable = ApiError("SerializationException", f"The body is not in {encoding}.")
    try:
        if "aws-chunked" in encoding:
            return wire.unchunked(headers, body)
        if encoding != "gzip" or service == "s3":
            return headers, body
        unpacking = zlib.decompressobj(wbits=31)
        plain = unpacking.decompress(body, LARGEST_BODY)
    except (ValueError, zlib.error):
        raise unreadable from None
    if unpacking.unconsumed_tail:
        raise too_large()
    if not unpacking.eof:
        raise unreadable
    return {name: value for name, value in headers.items() if name != "content-encoding"}, plain


# -- refusals -------------------------------------------------------------------------------------


def too_large() -> ApiError:
    return ApiError(
        "RequestEntityTooLargeException",
        f"Request must be smaller than {LARGEST_BODY} bytes.",
        413,
    )


def _unknown_operation(status: int = 400) -> ApiError:
    return ApiError("UnknownOperationException", "There is no such operation.", status)


def _unsigned(service: str) -> ApiError:
    if service == "s3":
        return ApiError("AccessDenied", "Access Denied", 403)
    by_form = service in VERSIONS.values() and service not in TARGETS.values()
    return ApiError(
        "MissingAuthenticationToken" if by_form else "MissingAuthenticationTokenException",
        "Request is missing Authentication Token",
        400 if service.startswith("dynamodb") else 403,
    )
