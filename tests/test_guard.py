"""No test reaches out of this machine: the guard of conftest.py bites, here and in children.

192.0.2.1 is nobody's (RFC 5737), and example.invalid has no address (RFC 2606).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
import serving
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from loopback_only import FOLDER, ReachedOut


def taken_from(refusals: Path) -> list[str]:
    """What was refused; it is forgotten, so that the test does not fail for it."""
    noted = refusals.read_text().splitlines()
    refusals.write_text("")
    return noted


def connect(address: tuple[str, int]) -> None:
    with socket.socket() as plug:
        plug.connect(address)


def send(address: tuple[str, int]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as plug:
        plug.sendto(b"anybody there?", address)


@pytest.mark.parametrize(
    ("reach", "noted"),
    [
        (lambda: connect(("192.0.2.1", 80)), "socket.connect '192.0.2.1'"),
        (lambda: send(("192.0.2.1", 53)), "socket.sendto '192.0.2.1'"),
        (
            lambda: socket.getaddrinfo("example.invalid", 80),
            "socket.getaddrinfo 'example.invalid'",
        ),
        (
            lambda: socket.gethostbyname("example.invalid"),
            "socket.gethostbyname 'example.invalid'",
        ),
        (lambda: socket.getnameinfo(("192.0.2.1", 80), 0), "socket.getnameinfo '192.0.2.1'"),
    ],
)
def test_what_leaves_this_machine_is_refused(
    reach: Callable[[], None], noted: str, refusals: Path
) -> None:
    with pytest.raises(ReachedOut, match="only this machine"):
        reach()
    assert taken_from(refusals) == [noted]


def test_code_that_swallows_the_refusal_is_found_out(refusals: Path) -> None:
    """botocore makes an error of its own of whatever comes from a socket."""
    client = boto3.client(
        "sts",
        region_name="us-east-1",
        endpoint_url="http://192.0.2.1",
        aws_access_key_id="anybody",
        aws_secret_access_key="anything",
        config=Config(retries={"total_max_attempts": 1}),
    )
    with pytest.raises(BotoCoreError):
        client.get_caller_identity()
    assert taken_from(refusals)


def test_this_machine_is_reached(refusals: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, server.getsockname()[1])).close()
    with socket.socket(socket.AF_UNIX) as plug, pytest.raises(FileNotFoundError):
        plug.connect(str(tmp_path / "nobody"))
    assert taken_from(refusals) == []


def test_children_are_guarded_too(refusals: Path) -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert child.returncode == 1
    assert "ReachedOut: only this machine" in child.stderr
    assert taken_from(refusals) == ["socket.getaddrinfo '192.0.2.1'"]


def test_the_servers_of_the_tests_are_guarded_too() -> None:
    """What keeps PYTHONPATH keeps the guard; both are started with what this process has."""
    assert FOLDER in serving.environment()["PYTHONPATH"].split(os.pathsep)
    assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == FOLDER


def test_a_test_that_reaches_out_fails(tmp_path: Path) -> None:
    """In a run of pytest of its own, whatever the test makes of the refusal."""
    (tmp_path / "test_secretive.py").write_text(
        "import contextlib, socket\n"
        "def test_secretive():\n"
        "    with contextlib.suppress(AssertionError):\n"
        "        socket.getaddrinfo('example.invalid', 80)\n"
    )
    tests = Path(__file__).parent
    path = os.pathsep.join((str(tests), os.environ["PYTHONPATH"]))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "conftest", str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "socket.getaddrinfo 'example.invalid'" in run.stdout
    assert "1 passed, 1 error" in run.stdout
