"""`python -m lab_utils doctor`: before class, without a notebook, is a target ready?"""

from __future__ import annotations

import argparse
import os
import sys

from lab_utils.commands import Commands

READY, NOT_READY = 0, 1


def add(commands: Commands) -> None:
    """Declare the command."""
    examining = commands.add_parser(
        "doctor",
        help="say whether a target is ready for class, and what is missing",
        description="Say whether a target is ready for class, and what is missing. On LocalStack a "
        "function is made, called and removed again; on AWS nothing is made. The exit status is 0 "
        "if the target is ready, else 1.",
    )
    examining.add_argument(
        "--target",
        choices=("embedded", "localstack", "aws"),
        default=os.environ.get("LAB_TARGET") or "embedded",
        help="instead of what LAB_TARGET names",
    )
    examining.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Examine the target."""
    from lab_utils.errors import LabError
    from lab_utils.lab import open_lab

    try:
        lab = open_lab(options.target, confirm=_account() if options.target == "aws" else None)
        found = lab.doctor()
        if options.target != "aws":
            lab.close()  # on AWS that would remove the lab of this desk, which may be in use
    except LabError as problem:
        print(problem, file=sys.stderr)
        return NOT_READY
    print(found)
    return READY if found.ready else NOT_READY


def _account() -> str:
    """The reader's account: nobody has to confirm where nothing is made."""
    from lab_utils import account
    from lab_utils.targets import SERVICES

    session, manners = account.open_session(), account.manners()
    region = account.region_of(session, SERVICES)
    return account.who_asks(lambda name: session.client(name, region, config=manners))[0]
