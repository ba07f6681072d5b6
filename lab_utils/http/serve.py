"""The server: one port, one thread, until somebody stops it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import uvicorn

from lab_utils.emulator.scheduler import GARBAGE_EVERY
from lab_utils.emulator.world import World
from lab_utils.errors import LabError
from lab_utils.http.front import Front
from lab_utils.http.pace import Pace
from lab_utils.http.protocol import Protocol

KEEP_ALIVE = 75
"""Seconds for which an idle connection stays open: longer than clients keep theirs."""
LAST_WORDS = 1
"""Seconds that requests still under way are given when the server stops."""
STOPPED_AFTER = 1.8
"""Seconds after which a server that was told to stop is ended, whatever a function does."""
TO_STOP = frozenset({signal.SIGINT, signal.SIGTERM})

BACKLOG = 1024
"""Connections that may wait to be accepted."""


class Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready and leaves the signals to us."""

    def __init__(self, config: uvicorn.Config, front: Front, address: str) -> None:
        super().__init__(config)
        self._front, self._address = front, address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"Ready on {self._address}", flush=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True
        self._front.stop()


def serve(host: str, port: int, speed: float) -> None:
    """Offer a new world at an address until SIGINT or SIGTERM; its clock begins with the wall's.

    `speed`: seconds of the world for each that really passes. Raises LabError if the address can't
    be had.
    """
    listening = _listen(host, port)
    if not _is_loopback(host):
        print(
            f"Warning: whoever reaches {host} can run code on this machine, as functions run "
            "unconfined and signatures are not verified: leave --host out unless you trust "
            "your network.",
            file=sys.stderr,
            flush=True,
        )
    asyncio.run(_serve(listening, speed))


async def _serve(listening: socket.socket, speed: float) -> None:
    world = World(start=datetime.now(UTC))
    server: Server
    pace = Pace(world.scheduler, speed, interrupted=lambda: server.stop())
    front = Front(world, pace)
    server = Server(
        uvicorn.Config(
            front,
            http=Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            access_log=False,
            log_config=None,
            log_level="error",
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=LAST_WORDS,
        ),
        front,
        _address(listening),
    )
    _stop_on_signals(server)
    gc.freeze()  # what is there now stays
    gc.set_threshold(GARBAGE_EVERY, *gc.get_threshold()[1:])
    moving = asyncio.create_task(pace.keep())
    await server.serve([listening])
    moving.cancel()
    world.close()


def _stop_on_signals(server: Server) -> None:
    """Both signals stop the server in the same way: SIGTERM is turned into SIGINT, which the world
    has a handler of its own for while a function's code runs."""

    def interrupt(*_: object) -> None:
        server.stop()

    def terminate(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, terminate)
    told, telling = socket.socketpair()
    telling.setblocking(False)
    signal.set_wakeup_fd(telling.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(told,), daemon=True).start()


def _end_in_time(told: socket.socket) -> None:
    """End the process some time after a signal to stop, whoever's handler is called for it."""
    while TO_STOP.isdisjoint(told.recv(1)):
        pass
    time.sleep(STOPPED_AFTER)
    os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        *kind, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # The protocol by its number: asyncio does not let small packets wait where it is given.
        listening = socket.socket(*kind)
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        return listening
    except OSError as problem:
        raise LabError(
            f"Port {port} of {host} cannot be had ({problem.strerror}): choose another "
            "with --port, or stop what uses it."
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
