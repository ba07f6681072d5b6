"""The lab's own server for tests: in a process of its own, on a free port of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parent.parent
PROMISE = "Ready on "


@dataclass(frozen=True)
class Served:
    """A server that is ready."""

    address: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def client(self, service: str, region: str = "us-east-1") -> Any:
        """A client as anybody makes one, which tries everything once."""
        return boto3.client(
            service,
            endpoint_url=self.address,
            region_name=region,
            aws_access_key_id="anybody",
            aws_secret_access_key="anything",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
        )


def environment() -> dict[str, str]:
    """This process' own, without the reader's AWS settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    path = os.pathsep.join(filter(None, [str(ROOT), own.get("PYTHONPATH")]))
    return own | {"PYTHONPATH": path, "AWS_EC2_METADATA_DISABLED": "true"}


def start(*options: str) -> subprocess.Popen[str]:
    """The server's process, as soon as it runs."""
    return subprocess.Popen(
        [sys.executable, "-m", "lab_utils", "serve", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )


@contextmanager
def serving(*options: str) -> Iterator[Served]:
    """A server that is ready, until the block ends; what it said besides is an error."""
    process = start("--port", "0", *options)
    assert process.stdout is not None
    try:
        promise = process.stdout.readline()
        assert promise.startswith(PROMISE), process.stderr and process.stderr.read()
        yield Served(promise.removeprefix(PROMISE).strip(), process)
    finally:
        process.terminate()
        try:
            _, complaints = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
    assert complaints == "", complaints


def sign(service: str, region: str = "us-east-1") -> str:
    """The header of a signature, which nobody verifies."""
    scope = f"anybody/20260101/{region}/{service}/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"


def make_table(dynamodb: Any, name: str, **settings: Any) -> dict[str, Any]:
    """An on-demand table; its description."""
    described = dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        **settings,
    )
    return dict(described["TableDescription"])
