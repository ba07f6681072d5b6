"""A proxy in front of `strict_aws` that answers some requests as a troubled AWS would.

`Faults` passes every request on. While it is armed it lets its fault happen to the first request
that `wanted` names; which, is told by its key: `dynamodb CreateTable Orders-lab-…`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LONG = 10.0
"""Seconds after which a request that hangs is given up here, too; no client waits for so long."""
NAMES = ("TableName", "StreamName", "StreamARN", "logGroupName", "resourceArn", "ResourceArn")
_REST = ("lambda", "s3")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Request:
    """What is asked: of which service, which operation, and about what (a name, or nothing)."""

    service: str
    operation: str
    about: str
    protocol: str

    @property
    def kind(self) -> str:
        """The operation, whatever it is about."""
        return f"{self.service} {self.operation}"

    def __str__(self) -> str:
        return f"{self.kind} {self.about}".strip()


@dataclass(frozen=True)
class Fault:
    """A refusal, or no answer: of one request, of those like it, or of all that follow.

    `codes` are those of protocols: json, query, rest-json, rest-xml. Without them the request
    reaches AWS, and its answer gets lost.
    """

    name: str
    status: int = 400
    codes: tuple[str, str, str, str] | None = None
    message: str = ""
    spreads: bool = False

    def body(self, request: Request) -> tuple[dict[str, str], bytes]:
        """Headers and body of the refusal, in the request's protocol."""
        assert self.codes is not None
        code = dict(zip(("json", "query", "rest-json", "rest-xml"), self.codes, strict=True))
        name, message = code[request.protocol], self.message.format(request=request)
        if request.protocol == "json":
            return {}, json.dumps({"__type": name, "message": message}).encode()
        if request.protocol == "rest-json":
            return {"x-amzn-ErrorType": name}, json.dumps({"Message": message}).encode()
        error = f"<Error><Code>{name}</Code><Message>{message}</Message></Error>"
        if request.protocol == "rest-xml":
            return {}, error.encode()
        return {}, f"<ErrorResponse>{error}<RequestId>0</RequestId></ErrorResponse>".encode()


DENIED = Fault(
    "denied",
    403,
    ("AccessDeniedException", "AccessDenied", "AccessDeniedException", "AccessDenied"),
    "User: arn:aws:iam::123456789012:user/anybody is not authorized to perform: "
    "{request.service}:{request.operation}",
)
THROTTLED = Fault(
    "throttled",
    400,
    ("ThrottlingException", "Throttling", "TooManyRequestsException", "SlowDown"),
    "Rate exceeded",
)
EXPIRED = Fault(
    "expired",
    403,
    ("ExpiredTokenException", "ExpiredToken", "ExpiredTokenException", "ExpiredToken"),
    "The security token included in the request is expired",
    spreads=True,
)
HANGING = Fault("hanging")


class Faults:
    """The proxy: its `address`, what passed it (`seen`), and what it did (`struck`)."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.seen: list[Request] = []
        self.struck: Request | None = None
        self._lock, self._over = Lock(), Event()
        self._fault: Fault | None = None
        self._lasts = True
        self._wanted: Callable[[Request], bool] = lambda _: False
        self.address = ""

    @contextmanager
    def armed(
        self, fault: Fault, wanted: Callable[[Request], bool], *, lasts: bool = True
    ) -> Iterator[None]:
        """The fault happens to the first request that is wanted, and to those after it like it.

        A fault that spreads happens to all that follow. One that does not last happens to each
        request that is wanted, and to no other.
        """
        with self._lock:
            self._fault, self._wanted, self._lasts, self.struck = fault, wanted, lasts, None
            self._over = Event()
        try:
            yield
        finally:
            with self._lock:
                self._fault = None
            self._over.set()

    def strikes(self, request: Request) -> Fault | None:
        """The fault that happens to this request, if any."""
        with self._lock:
            self.seen.append(request)
            fault = self._fault
            if fault is None:
                return None
            if (self.struck is None or not self._lasts) and self._wanted(request):
                self.struck = request
                return fault
            same = self.struck is not None and str(request) == str(self.struck)
            return fault if self._lasts and self.struck and (same or fault.spreads) else None

    def hang(self) -> None:
        """Until the fault is over."""
        self._over.wait(LONG)


@contextmanager
def faults(upstream: str) -> Iterator[Faults]:
    """A proxy on a free loopback port."""
    proxy = Faults(upstream)

    class Handler(_Handler):
        faults = proxy

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.address = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    faults: Faults

    def setup(self) -> None:
        super().setup()
        self._upstream = HTTPConnection(self.faults.upstream)

    def finish(self) -> None:
        self._upstream.close()
        super().finish()

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = _read(self.command, self.path, self.headers, body)
        fault = self.faults.strikes(request)
        if fault is None or fault.codes is None:
            self._upstream.request(self.command, self.path, body, dict(self.headers))
            answer = self._upstream.getresponse()
            status, headers, content = answer.status, answer.getheaders(), answer.read()
        else:
            more, content = fault.body(request)
            status, headers = fault.status, list(more.items())
        if fault is not None and fault.codes is None:
            self.faults.hang()
            self.close_connection = True
            return
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = _pass_on  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _read(method: str, path: str, headers: Any, body: bytes) -> Request:
    """Which service a request is for, its scope says; the rest depends on the protocol."""
    service = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", headers.get("Authorization", ""))
    assert service is not None, f"{method} {path} is not signed"
    if target := headers.get("X-Amz-Target"):
        asked = json.loads(body or b"{}")
        about = next((str(asked[name]) for name in NAMES if name in asked), "")
        return Request(service[1], target.split(".")[-1], about, "json")
    if service[1] in _REST:
        place = urlsplit(path)
        words = [word for word in unquote(place.path).split("/") if word]
        operation = f"{method} {_without_names(words)}".strip()
        about = " ".join([*words[2:], *parse_qs(place.query).get("FunctionName", [])])
        protocol = "rest-json" if service[1] == "lambda" else "rest-xml"
        return Request(service[1], operation, about, protocol)
    form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
    about = " ".join(form[name] for name in ("RoleName", "PolicyName") if name in form)
    return Request(service[1], form["Action"], about, "query")


def _without_names(words: list[str]) -> str:
    """Of a path of Lambda's, `functions configuration`: the nouns, without version and names."""
    return " ".join(word for word in words[1:] if "lab-" not in word and not _ID.search(word))
