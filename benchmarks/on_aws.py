"""What it takes to put up the pipeline on AWS, and to leave nothing, but for AWS's own time.

The other side is moto's server, which answers in some milliseconds and makes everything at once. So
this is what the lab's calls cost: how many there are, and how well they go together. Once the whole
is done to warm up, and then a few times; the medians are shown.

    python benchmarks/on_aws.py [--times 5] [--shards 20]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from measuring import median, timed

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from strict_aws import ACCOUNT, credentials, strict_aws  # noqa: E402

WANTED = {"provision": "   (wanted: under 3 s)"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--times", type=int, default=5)
    arguments.add_argument("--shards", type=int, default=20)
    options = arguments.parse_args()
    with strict_aws() as address, tempfile.TemporaryDirectory() as empty:
        os.environ |= credentials(address) | {
            "AWS_CONFIG_FILE": f"{empty}/config",
            "AWS_SHARED_CREDENTIALS_FILE": f"{empty}/credentials",
            "LAB_PROGRESS": "0",
        }
        measure(options.shards)
        rounds = [measure(options.shards) for _ in range(options.times)]
    for act in rounds[0]:
        seconds = median([each[act][0] for each in rounds])
        calls = rounds[0][act][1]
        print(f"{act:11} {seconds:5.2f} s, {calls:3} calls{WANTED.get(act, '')}")


def measure(shards: int) -> dict[str, tuple[float, int]]:
    """Seconds and calls of one round, act by act."""
    import lab_utils as lu
    from lab_utils.targets import SERVICES

    calls: list[str] = []
    pipelines: list[Any] = []
    with redirect_stdout(StringIO()):
        lab = lu.open_lab("aws", confirm=ACCOUNT)
    for service in SERVICES:
        events = lab.client(service).meta.events
        events.register("before-send", lambda request, **_: calls.append(request.url))

    def act(what: Callable[[], object]) -> tuple[float, int]:
        calls.clear()
        with redirect_stdout(StringIO()):
            seconds, _, _ = timed(what)
        return seconds, len(calls)

    return {
        "provision": act(lambda: pipelines.append(lu.pipeline.deploy(lab, shards=shards))),
        "again": act(lambda: lu.pipeline.deploy(lab, shards=shards)),
        "connect": act(lambda: pipelines[0].connect()),
        "close": act(lab.close),
    }


if __name__ == "__main__":
    main()
