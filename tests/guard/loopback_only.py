"""Nothing outside of this machine is reached: a guard around a process, by Python's audit events.

Every connection, datagram and look-up of a name that would go farther than the loopback device is
refused before anything is sent, and noted in the file that the environment variable LOOPBACK_ONLY
may name, so that code that swallows the refusal is found out, too. With this folder on PYTHONPATH
every Python that is started is guarded by itself: see `sitecustomize`.

What is not seen: other programs than Python, and the look-up of a name that is given to a socket's
own `connect`, which Python does before it tells; the connection itself is refused then, too.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

NOTES = "LOOPBACK_ONLY"
FOLDER = str(Path(__file__).resolve().parent)
HERE = (None, "", b"", "localhost", b"localhost")

_TO_ADDRESS = ("socket.connect", "socket.sendto", "socket.sendmsg")
_OF_NAME = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


class ReachedOut(AssertionError):
    """Something wanted to leave this machine."""


def environment(notes: Path, path: str) -> dict[str, str]:
    """What guards child processes: `notes` is the file of refusals, `path` their PYTHONPATH."""
    return {NOTES: str(notes), "PYTHONPATH": os.pathsep.join(filter(None, (FOLDER, path)))}


@cache
def install() -> None:
    """Guard this process until it ends; once is enough."""
    sys.addaudithook(_refuse_what_leaves)


def _refuse_what_leaves(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _TO_ADDRESS:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # else a path, or connected
    elif event in _OF_NAME:
        host = arguments[0]
    elif event == "socket.getnameinfo":
        host = arguments[0][0]
    else:
        return
    if not _is_here(host):
        refusal = f"{event} {host!r}"
        if NOTES in os.environ:
            with Path(os.environ[NOTES]).open("a") as notes:
                notes.write(f"{refusal}\n")
        raise ReachedOut(f"only this machine may be reached from a test: {refusal}")


def _is_here(host: Any) -> bool:
    """Loopback, or no address at all; netlink's numbers stay here as well."""
    if host in HERE or isinstance(host, int):
        return True
    import ipaddress

    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
