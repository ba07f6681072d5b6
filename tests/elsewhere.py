"""A second target for tests: MiniStack's own server, in a process of its own, on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USUAL_PORT = 4566


@contextmanager
def ministack(folder: Path) -> Iterator[str]:
    """A server that is ready, until the block ends; its address."""
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    process = _start(folder, port)
    try:
        _wait_until_ready(process, address, folder)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    """LocalStack's own port; any other if somebody uses that one, or other workers may want it."""
    for port in (0,) if "PYTEST_XDIST_WORKER" in os.environ else (USUAL_PORT, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("no port is free")


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "LAMBDA_", "LAB_", "LOCALSTACK_", "MINISTACK_"))
    }
    # MiniStack runs functions with the first python3 on the path, which is to have boto3.
    path = os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", "")])
    settings = {
        "PATH": path,
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "LAMBDA_EXECUTOR": "local",
        "PERSIST_STATE": "0",
        "LOG_LEVEL": "WARNING",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "TMPDIR": str(folder),
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
    }
    command = shutil.which("ministack", path=path)
    assert command, "the command ministack is not installed: make venv"
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(
            [command],
            cwd=folder,
            env=own | settings,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, folder: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/_localstack/health", timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    log = (folder / "server.log").read_text(errors="replace")
    raise AssertionError(f"MiniStack's server did not get ready:\n{log[-2000:]}")
