"""`python -m lab_utils serve`: the embedded lab, for whatever speaks AWS."""

from __future__ import annotations

import argparse
from contextlib import suppress

from lab_utils.commands import Commands

FASTEST = 86_400.0
"""A day of the lab's in a second."""
HIGHEST_PORT = 65_535


def add(commands: Commands) -> None:
    """Declare the command."""
    serving = commands.add_parser(
        "serve",
        help="offer the lab over HTTP to any AWS client",
        description="Offer an empty lab over HTTP to any AWS client until Ctrl-C: DynamoDB, its "
        "streams, Kinesis, Lambda, IAM, STS, SQS, SNS, S3, CloudWatch and its logs on one port. "
        "Any credentials will do; the account is 123456789012. Nothing is kept.",
    )
    serving.add_argument(
        "--port", type=_port, default=4566, help="0 takes any that is free (%(default)s)"
    )
    serving.add_argument("--host", default="127.0.0.1", help="the address to listen at")
    serving.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        help="seconds of the lab for each real second: at 60 a shard rolls over in four minutes",
    )
    serving.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until somebody stops it."""
    from lab_utils.http.serve import serve

    serve(options.host, options.port, options.speed)
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to {HIGHEST_PORT}")
    return int(text)


def _speed(text: str) -> float:
    with suppress(ValueError):
        if 0 < (speed := float(text)) <= FASTEST:
            return speed
    raise argparse.ArgumentTypeError(f"a speed is a number above 0, at most {FASTEST:.0f}")
