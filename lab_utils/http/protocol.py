"""HTTP by uvicorn, in fewer and larger packets, and HTTP/2 for those who begin with it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HTTP2 = b"PRI * HTTP/2.0\r\n"
"""The beginning of a connection in HTTP/2, which no request in HTTP/1 has."""


class Corked:
    """A transport that sends what is written in one go in one packet: head and body of an answer
    come apart from uvicorn, and would wake the client twice."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._waiting:
            self._transport.write(b"".join(self._waiting))
            self._waiting.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """One connection. Kinesis' clients for JavaScript speak HTTP/2, without asking before."""

    _begins = True
    """Whether nothing has come yet: later the same words may stand in a body."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(cast("asyncio.Transport", Corked(transport, self.loop)))

    def data_received(self, data: bytes) -> None:
        begins, self._begins = self._begins, False
        if begins and data.startswith(HTTP2):
            self._hand_over(data)
        else:
            super().data_received(data)

    def _hand_over(self, data: bytes) -> None:
        from uvicorn.protocols.http.zttp_h2_impl import ZttpH2Protocol

        self.connections.discard(self)
        successor = ZttpH2Protocol(self.config, self.server_state, self.app_state, self.loop)
        self.transport.set_protocol(successor)
        successor.connection_made(self.transport)
        successor.data_received(data)
