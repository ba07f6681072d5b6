"""`python -m lab_utils template`: the pipeline as a CloudFormation template."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lab_utils.commands import Commands
from lab_utils.errors import LabError


def add(commands: Commands) -> None:
    """Declare the command."""
    writing = commands.add_parser(
        "template",
        help="write the pipeline as a CloudFormation template",
        description="Write the workshop's pipeline as a CloudFormation template: the very settings "
        "with which the lab deploys it. How to put it up and delete it stands on top of it.",
    )
    writing.add_argument(
        "--connected",
        action="store_true",
        help="with all three event source mappings, as after the first lab",
    )
    writing.add_argument(
        "--shards",
        type=_shards,
        default=20,
        help="how many the stream has if the parameter Shards is not set (20)",
    )
    writing.add_argument("--format", choices=("yaml", "json"), default="yaml")
    writing.add_argument("--output", type=Path, metavar="FILE", help="instead of on the screen")
    writing.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the template."""
    from lab_utils.template import as_json, as_yaml, template

    content = template(connected=options.connected, shards=options.shards)
    text = as_json(content) if options.format == "json" else as_yaml(content)
    if options.output is None:
        sys.stdout.write(text)
        return 0
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise LabError(
            f"{options.output} cannot be written ({problem.strerror}): name another file."
        ) from None
    return 0


def _shards(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("a stream has at least one shard: give a whole number")
    return int(text)
