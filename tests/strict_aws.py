"""AWS's strict stand-in for tests: moto's server, in a process of its own, on a free loopback port.

`python strict_aws.py` runs it and prints its address. What AWS documents and moto leaves out, and
the lab relies on, is mended in the server's process: see `_mend`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"
PROMISE = "Ready on "
CONCURRENCY = 1000


def credentials(address: str) -> dict[str, str]:
    """The environment of a reader whose AWS is this server."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def strict_aws(**settings: str) -> Iterator[str]:
    """A server that is ready, until the block ends; its address. `settings`: moto's variables."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=own | settings,
    )
    assert process.stdout is not None
    try:
        promise = process.stdout.readline()
        assert promise.startswith(PROMISE), "moto's server did not start"
        yield promise.removeprefix(PROMISE).strip()
    finally:
        process.terminate()
        process.communicate(timeout=10)


def forget_everything(address: str) -> None:
    """The server as it began."""
    import urllib.request

    urllib.request.urlopen(
        urllib.request.Request(f"{address}/moto-api/reset", method="POST"), timeout=10
    ).close()


def _mend() -> None:
    """What AWS documents and moto 5.2.5 leaves out.

    CreateStream takes Tags; Lambda has GetAccountSettings, whose limit the environment variable
    LAB_TEST_CONCURRENCY sets.
    """
    import json

    from moto.awslambda import urls
    from moto.kinesis.models import KinesisBackend
    from moto.kinesis.responses import KinesisResponse

    create_stream = KinesisResponse.create_stream

    def with_tags(self: Any) -> Any:
        answer = create_stream(self)
        tags = self._get_param("Tags")
        if tags:
            backend: KinesisBackend = self.kinesis_backend
            backend.add_tags_to_stream(None, self._get_param("StreamName"), tags)
        return answer

    KinesisResponse.create_stream = with_tags

    limit = int(os.environ.get("LAB_TEST_CONCURRENCY", CONCURRENCY))

    def account_settings(*_: Any, **__: Any) -> tuple[int, dict[str, str], str]:
        limits = {
            "TotalCodeSize": 80530636800,
            "CodeSizeUnzipped": 262144000,
            "CodeSizeZipped": 52428800,
            "ConcurrentExecutions": limit,
            "UnreservedConcurrentExecutions": limit,
        }
        usage = {"TotalCodeSize": 0, "FunctionCount": 0}
        body = json.dumps({"AccountLimit": limits, "AccountUsage": usage})
        return 200, {"Content-Type": "application/json"}, body

    urls.url_paths[r"{0}/2016-08-19/account-settings/?$"] = account_settings


def _mend_permissions() -> None:
    """Where moto is told to ask for permissions, it asks for those of AWS, in AWS's protocols.

    It names CloudWatch's as the signature does, answers JSON's clients in XML, and can't follow the
    signatures of Lambda's clients: whose key it is, is enough here.
    """
    from moto.core.exceptions import JsonRESTError
    from moto.iam.access_control import IAMRequest, IAMRequestBase

    begin, refuse = IAMRequestBase.__init__, IAMRequest._raise_access_denied
    query = ("iam", "sns", "sts")

    def named(self: Any, *arguments: Any, **request: Any) -> None:
        begin(self, *arguments, **request)
        self._action = self._action.replace("monitoring:", "cloudwatch:")

    def refused(self: Any) -> None:
        if self._service in query:
            refuse(self)
        who = f"User: {self._access_key.arn} is not authorized to perform: {self._action}"
        raise JsonRESTError("AccessDeniedException", who)

    IAMRequestBase.__init__ = named
    IAMRequestBase.check_signature = lambda self: None
    IAMRequest._raise_access_denied = refused


def _serve() -> None:
    _mend()
    _mend_permissions()
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"{PROMISE}http://{host}:{port}", flush=True)
    assert server._thread is not None
    server._thread.join()


if __name__ == "__main__":
    _serve()
