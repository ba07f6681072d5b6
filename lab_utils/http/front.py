"""The ASGI application: a request in, the world moved on, an answer out."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.gateway import SERVICES, Request
from lab_utils.emulator.wire import HttpAnswer
from lab_utils.emulator.world import World
from lab_utils.http import cbor
from lab_utils.http.addressed import LARGEST_BODY, Addresses, Incoming, Refusal, too_large
from lab_utils.http.pace import Pace

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HEALTH = "/_localstack/health"
LARGEST_HEAD = 64 * 1024
"""Bytes of a path, its query and the headers."""
BODY_TIMEOUT = 30.0
"""Real seconds within which a body must have come."""
STOPPING = ApiError("ServiceUnavailable", "The lab is being stopped.", 503)
WITHOUT_BODY = frozenset({204, 304})
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


class Front:
    """Answers the requests to one world."""

    def __init__(self, world: World, pace: Pace) -> None:
        self._world, self._gateway, self._pace = world, world.gateway, pace
        self._addresses = Addresses(world.session, world.home)
        self._waiting: set[asyncio.Future[HttpAnswer]] = set()
        self._stopped = False

    def stop(self) -> None:
        """Tell those who wait, and who come from now on, that nothing will come any more."""
        self._stopped = True
        for waiting in self._waiting:
            waiting.cancel()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope, receive)
        start = {
            "type": "http.response.start",
            "status": answer.status,
            "headers": _encoded(answer, scope["method"]),
        }
        await send(start)
        body = b"" if answer.status in WITHOUT_BODY else answer.body
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Message, receive: Receive) -> HttpAnswer:
        if scope["path"] == HEALTH:
            return HEALTHY
        incoming = _incoming(scope)
        try:
            _check_head(scope)
            incoming.body = await _body(incoming.headers, receive)
            request = self._addresses.read(incoming)
            answer = await self._carried_out(request)
        except Refusal as refusal:
            request = refusal.request
            answer = self._gateway.refuse(request, refusal.error)
        except ApiError as error:
            request = self._addresses.bare(incoming)
            answer = self._gateway.refuse(request, error)
        except asyncio.CancelledError:
            request = self._addresses.bare(incoming)
            answer = self._gateway.refuse(request, STOPPING)
        return self._in_cbor(incoming.cbor, request, answer) if incoming.cbor else answer

    async def _carried_out(self, request: Request) -> HttpAnswer:
        """The answer, given at once if the request is none that waits."""
        if self._stopped:
            raise STOPPING
        waiting: asyncio.Future[HttpAnswer] = asyncio.get_running_loop().create_future()

        def resume(answer: HttpAnswer) -> None:
            if not waiting.done():  # whoever asked may be gone
                waiting.set_result(answer)

        self._waiting.add(waiting)
        try:
            self._pace.let_in(lambda delay: self._gateway.arrive(request, resume, delay))
            return await waiting
        finally:
            self._waiting.discard(waiting)

    def _in_cbor(self, content_type: str, request: Request, answer: HttpAnswer) -> HttpAnswer:
        """The answer in the client's own format; CloudWatch's are in it already."""
        if "json" not in answer.headers.get("content-type", ""):
            return answer
        shape = None
        if answer.status == 200:
            model = self._world.session.get_service_model(request.service)
            shape = model.operation_model(request.operation).output_shape
        headers = answer.headers | {"content-type": content_type}
        if content_type == cbor.RPC:
            headers["smithy-protocol"] = "rpc-v2-cbor"
        return HttpAnswer(answer.status, headers, cbor.from_json(answer.body, shape))


def _health() -> HttpAnswer:
    services = {"services": dict.fromkeys(sorted(SERVICES.values()), "running")}
    return HttpAnswer(200, {"content-type": "application/json"}, json.dumps(services).encode())


HEALTHY = _health()


# -- what comes -----------------------------------------------------------------------------------


def _incoming(scope: Message) -> Incoming:
    query = scope["query_string"].decode("latin-1")
    return Incoming(
        scope["method"],
        scope["raw_path"].decode("latin-1"),
        parse_qs(query, keep_blank_values=True) if query else {},
        {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
    )


def _check_head(scope: Message) -> None:
    size = len(scope["raw_path"]) + len(scope["query_string"])
    if size + sum(len(name) + len(value) for name, value in scope["headers"]) > LARGEST_HEAD:
        raise ApiError(
            "RequestHeaderSectionTooLarge",
            f"Your request header and query string exceed {LARGEST_HEAD} bytes.",
        )


async def _body(headers: dict[str, str], receive: Receive) -> bytes:
    """The whole body. One that is too large is read to its end and forgotten: a client that still
    sends does not look for an answer, unless it asked before it began."""
    announced = headers.get("content-length", "")
    if "expect" in headers and announced.isdecimal() and int(announced) > LARGEST_BODY:
        raise too_large()
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            while more:
                message = await receive()
                more = message.get("more_body", False)
                part = message.get("body", b"")
                size += len(part)
                if size > LARGEST_BODY:
                    parts.clear()
                else:
                    parts.append(part)
    except TimeoutError:
        raise ApiError(
            "RequestTimeout", f"The body did not come within {BODY_TIMEOUT:.0f} seconds."
        ) from None
    if size > LARGEST_BODY:
        raise too_large()
    return parts[0] if len(parts) == 1 else b"".join(parts)


# -- what goes ------------------------------------------------------------------------------------


def _encoded(answer: HttpAnswer, method: str) -> list[tuple[bytes, bytes]]:
    headers = dict(answer.headers)
    if answer.status in WITHOUT_BODY:
        headers.pop("content-length", None)
    elif method != "HEAD":
        headers["content-length"] = str(len(answer.body))
    return [
        (name.encode("latin-1"), _UNPRINTABLE.sub(" ", value).encode("latin-1", "replace"))
        for name, value in headers.items()
    ]
