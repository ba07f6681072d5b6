"""A burst of 10,000 messages through the whole pipeline, three ways, side by side.

* embedded:  the lab in this process, in virtual time;
* ministack: MiniStack's own server with its own pollers, running the same handlers, over HTTP;
* floor:     the very calls that the embedded run made, through default boto3 clients, each
             answered at once: what no lab can go below.

Each run has a process of its own; runs alternate, and the median of the ratios counts.

    python benchmarks/burst.py [--pairs 3] [--messages 10000]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAYS = ("embedded", "ministack", "floor")
PATIENCE = 300.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--pairs", type=int, default=3)
    arguments.add_argument("--messages", type=int, default=10_000)
    arguments.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.messages)))
        return
    rounds = [
        {way: in_own_process(way, options.messages) for way in WAYS} for _ in range(options.pairs)
    ]
    report(rounds)


def in_own_process(way: str, messages: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--way", way, "--messages", str(messages)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "LAB_PROGRESS": "0"}
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"  {way:10} {result['seconds']:7.2f} s   {result['memory_mb']:4.0f} MB   {result['note']}",
        flush=True,
    )
    return result


def report(rounds: list[dict[str, Any]]) -> None:
    def median(of: Any) -> float:
        return statistics.median(of(each) for each in rounds)

    for way in WAYS:
        print(f"{way:10} median {median(lambda each, way=way: each[way]['seconds']):6.2f} s")
    rival = median(lambda each: each["ministack"]["seconds"] / each["embedded"]["seconds"])
    floor = median(lambda each: each["embedded"]["seconds"] / each["floor"]["seconds"])
    peak = max(each["embedded"]["memory_mb"] for each in rounds)
    print(f"embedded is {rival:.2f} times as fast as ministack   (wanted: at least 3.5)")
    print(f"embedded takes {floor:.2f} times the floor           (wanted: at most 2.0)")
    print(f"embedded peaks at {peak:.0f} MB                      (wanted: under 400)")
    print(
        f"opening a lab takes {median(lambda each: each['embedded']['opening']):.2f} s, "
        "imports included   (wanted: under 1)"
    )


def measure(way: str, messages: int) -> dict[str, Any]:
    result = {"embedded": embedded, "ministack": ministack, "floor": floor}[way](messages)
    result.setdefault("memory_mb", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return result


def embedded(messages: int) -> dict[str, Any]:
    began = time.perf_counter()
    import lab_utils as lu

    lab = lu.open_lab("embedded")
    opening = time.perf_counter() - began
    pipeline = lu.pipeline.deploy(lab)
    pipeline.connect(lab)
    began = time.perf_counter()
    played = lu.pipeline.play_round(lab, pipeline, seed=1, n=messages, settle=False)
    return {
        "seconds": time.perf_counter() - began,
        "note": str(played).splitlines()[0],
        "opening": opening,
    }


def ministack(messages: int) -> dict[str, Any]:
    with ministack_server() as (endpoint, server):
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        import lab_utils as lu

        lab = lu.open_lab("localstack")
        pipeline = lu.pipeline.deploy(lab)
        pipeline.connect(lab)
        lu.pipeline.play_round(lab, pipeline, seed=9, n=200, settle=False)  # start its workers
        played = lu.pipeline.play_round(
            lab, pipeline, seed=1, n=messages, settle=False, patience=PATIENCE
        )
        memory = memory_of(server)
    return {
        "seconds": played.sending + played.waited,
        "note": str(played).splitlines()[0],
        "memory_mb": memory,
    }


@contextmanager
def ministack_server() -> Iterator[tuple[str, int]]:
    """MiniStack's server on a free loopback port, for as long as the block lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = shutil.which("ministack", path=str(Path(sys.executable).parent)) or "ministack"
    environment = {
        **os.environ,
        "GATEWAY_PORT": str(port),
        "LAMBDA_EXECUTOR": "local",
        "MINISTACK_HOST": "127.0.0.1",
        "LOG_LEVEL": "WARNING",
    }
    server = subprocess.Popen(
        [command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        endpoint = f"http://127.0.0.1:{port}"
        wait_for(f"{endpoint}/_ministack/health")
        yield endpoint, server.pid
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"MiniStack's server did not answer at {url} within 30 seconds.")


def memory_of(process: int) -> float:
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return 0.0
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return float(peak.split()[1]) / 1024


def floor(messages: int) -> dict[str, Any]:
    calls = recorded_calls(messages)
    clients = {service: default_client(service) for service in {call[0] for call in calls}}
    began = time.perf_counter()
    for service, method, params in calls:
        getattr(clients[service], method)(**params)
    return {"seconds": time.perf_counter() - began, "note": f"{len(calls):,} calls"}


def recorded_calls(messages: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Every call of an embedded burst, the handlers' calls included."""
    from botocore import xform_name

    import lab_utils as lu

    calls: list[tuple[str, str, dict[str, Any]]] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        calls.append((model.service_model.service_name, xform_name(model.name), dict(params)))

    lab = lu.open_lab("embedded")
    pipeline = lu.pipeline.deploy(lab)
    for session in (lab._target.world.session, lab._target.world.guest_session(lab.region)):
        session.register("before-parameter-build", note)
    lab._clients.clear()
    pipeline.connect(lab)
    calls.clear()
    lu.pipeline.play_round(lab, pipeline, seed=1, n=messages, settle=False)
    return calls


def default_client(service: str) -> Any:
    """A client as anybody makes it, whose every request is answered at once."""
    import boto3
    from botocore.awsrequest import AWSResponse

    class Raw(io.BytesIO):
        def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
            yield self.read()

    client = boto3.client(
        service, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    client.meta.events.register(
        "before-send", lambda request, **_: AWSResponse(request.url, 200, {}, Raw(b"{}"))
    )
    return client


if __name__ == "__main__":
    main()
