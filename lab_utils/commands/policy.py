"""`python -m lab_utils policy`: what an IAM policy must allow for a lab on AWS."""

from __future__ import annotations

import argparse
import json
import re

from lab_utils.commands import Commands
from lab_utils.errors import LabError


def add(commands: Commands) -> None:
    """Declare the command."""
    printing = commands.add_parser(
        "policy",
        help="print the least IAM policy that a learner needs on AWS",
        description="Print the least IAM policy with which a lab can be opened, used and closed on "
        "AWS. Give it in an account that is for experiments: who may make roles for functions can "
        "do through them whatever the account, or a permissions boundary, lets a role do.",
    )
    printing.add_argument("--region", default="*", help="the only Region it holds in (any)")
    printing.add_argument(
        "--account", type=_account, default="*", help="the only account it holds in (any)"
    )
    wanted = printing.add_mutually_exclusive_group()
    wanted.add_argument(
        "--sweep", action="store_true", help="only what `sweep` needs, which makes nothing"
    )
    wanted.add_argument(
        "--boundary",
        type=_boundary,
        metavar="ARN",
        help="let only roles with this permissions boundary be made; learners set LAB_AWS_BOUNDARY "
        "to it",
    )
    printing.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the policy."""
    from lab_utils import policies

    where = (options.region, options.account, _partition_of(options.region))
    policy = (
        policies.sweeper(*where) if options.sweep else policies.learner(*where, options.boundary)
    )
    print(json.dumps(policy, indent=2))
    return 0


def _account(text: str) -> str:
    if not re.fullmatch(r"\d{12}|\*", text):
        raise argparse.ArgumentTypeError("an account is a number of twelve digits")
    return text


def _boundary(text: str) -> str:
    if not re.fullmatch(r"arn:[\w-]+:iam::(\d{12}|aws):policy/\S+", text):
        raise argparse.ArgumentTypeError("a boundary is the ARN of a policy")
    return text


def _partition_of(region: str) -> str:
    """Such as `aws`, or `aws-cn` for the Regions in China."""
    import botocore.session
    from botocore.exceptions import UnknownRegionError

    if region == "*":
        return "aws"
    try:
        return str(botocore.session.get_session().get_partition_for_region(region))
    except UnknownRegionError:
        raise LabError(f"There is no Region {region!r}: give one such as us-east-1.") from None
