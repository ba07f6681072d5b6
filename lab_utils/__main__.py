"""`python -m lab_utils`: what can be done from outside a notebook."""

from __future__ import annotations

import argparse
import sys

from lab_utils.commands import doctor, policy, serve, sweep, template, watch
from lab_utils.errors import LabError

COMMANDS = (serve, watch, template, policy, sweep, doctor)
"""In the order in which `--help` lists them."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status, 2 if it could not be done."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except LabError as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab_utils", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
