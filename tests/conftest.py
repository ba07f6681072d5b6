"""What the tests share: a lab that is closed afterwards, and guards around all processes."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elsewhere import ministack
from hypothesis import HealthCheck, settings

import lab_utils as lu
from lab_utils.lab import Lab

sys.path.insert(0, str(Path(__file__).parent / "guard"))
import loopback_only

# The same examples at every run: a failure is the code's doing, never the dice's.
settings.register_profile(
    "book",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("book")

# No test reaches out of this machine, and no Python that a test starts: it inherits the guard.
_NOTES = tempfile.TemporaryDirectory(prefix="loopback-only-")
_REFUSALS = Path(_NOTES.name) / "refusals"
_REFUSALS.touch()
os.environ |= loopback_only.environment(_REFUSALS, os.environ.get("PYTHONPATH", ""))
loopback_only.install()

_NETWORK = (
    "socket.connect",
    "socket.bind",
    "socket.sendto",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.gethostbyaddr",
    "urllib.Request",
    "http.client.connect",
)
_SECRETS = (".aws", ".boto", "boto.cfg", ".netrc")


class ProcessGuard:
    """Sees, through Python's own audit events, every connection and every file that is opened."""

    def __init__(self) -> None:
        self.watching = False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching:
            return
        if event in _NETWORK:
            self.refuse(f"{event} {arguments[1:] or arguments}")
        if (
            event == "open"
            and isinstance(arguments[0], str)
            and any(part in _SECRETS for part in Path(arguments[0]).parts)
        ):
            self.refuse(f"open {arguments[0]}")

    def refuse(self, what: str) -> None:
        self.seen.append(what)
        raise AssertionError(f"the lab reached outside of itself: {what}")


_GUARD = ProcessGuard()
sys.addaudithook(_GUARD)


@pytest.fixture
def sealed() -> Iterator[ProcessGuard]:
    """No socket is opened and no credential read while a test with this fixture runs."""
    _GUARD.seen.clear()
    _GUARD.watching = True
    yield _GUARD
    _GUARD.watching = False
    assert _GUARD.seen == []


@pytest.fixture(autouse=True)
def refusals() -> Iterator[Path]:
    """The file of what wanted to leave this machine; a test that leaves it filled has failed."""
    yield _REFUSALS
    refused = _REFUSALS.read_text()
    _REFUSALS.write_text("")
    assert not refused, f"only this machine may be reached from a test:\n{refused}"


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An embedded lab, closed when the test is over."""
    with lu.open_lab("embedded") as opened:
        yield opened


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a second target: a server that lives as long as the tests."""
    with ministack(tmp_path_factory.mktemp("ministack")) as address:
        yield address


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits begins first, and the rest runs beside it; otherwise the order is as it was."""
    items.sort(key=lambda item: item.get_closest_marker("waiting") is None)
