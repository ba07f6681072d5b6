"""How long `python -m lab_utils sweep` takes for 500 tagged resources, against AWS's stand-in.

Beside them lie as many of somebody else's, whose tags have to be read as well. It is moto's server,
on this machine, that answers; how long AWS itself takes, nobody has measured here.

    python benchmarks/sweep.py
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

SETTINGS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "LAB_AWS_CONFIRM": "123456789012",
    "LAB_PROGRESS": "0",
}
RESOURCES, WANTED = 500, 30.0
"""How many, and in how many seconds."""


def main() -> None:
    from strict_aws import credentials, strict_aws

    with strict_aws() as address:
        os.environ.update(SETTINGS | credentials(address))
        ours, seconds, left = measure(RESOURCES)
    print(
        f"sweep    {ours} resources of a lab beside {left} of others: {seconds:.1f} s   "
        f"(wanted: under {WANTED:.0f} s)"
    )


def measure(resources: int) -> tuple[int, float, int]:
    """How many were removed, in how many seconds, and how many are left."""
    import boto3
    from on_aws import LISTINGS, Account

    import lab_utils as lu
    from lab_utils.__main__ import main as command

    with redirect_stdout(StringIO()):
        lab = lu.open_lab("aws")
    account = Account(os.environ["AWS_ENDPOINT_URL"])
    assert lab.label is not None
    rounds = -(-resources // len(LISTINGS))
    fill(lab.client, lambda name: lab.name(name), rounds)
    plain = {service: boto3.client(service) for service in account.clients}
    fill(plain.__getitem__, lambda name: f"{name}-of-others-{lab.label}", rounds)
    ours = theirs = rounds * len(LISTINGS)
    began = time.perf_counter()
    with redirect_stdout(StringIO()):
        assert command(["sweep", "--yes"]) == 0
    seconds = time.perf_counter() - began
    left = sum(map(len, account.inventory().values()))
    assert left == theirs, f"{left} resources are left, not {theirs}"
    return ours, seconds, left


def fill(client: Callable[[str], Any], name: Callable[[str], str], rounds: int) -> None:
    from everything import make_everything

    with ThreadPoolExecutor(8) as pool:
        under_way = [
            pool.submit(make_everything, client, partial(_numbered, name, number), {})
            for number in range(rounds)
        ]
    for each in under_way:
        each.result()


def _numbered(name: Callable[[str], str], number: int, plain: str) -> str:
    return name(f"{plain}-{number}")


if __name__ == "__main__":
    main()
