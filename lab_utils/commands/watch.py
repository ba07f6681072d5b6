"""`python -m lab_utils watch`: a day of a real table's shards, in a file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError, ParamValidationError

from lab_utils import account
from lab_utils.commands import Commands
from lab_utils.errors import LabError
from lab_utils.recordings import read_recording
from lab_utils.refusals import error_code, explained
from lab_utils.targets import open_target
from lab_utils.watching import EVERY, HOURS, record, table_stream

NO_TABLE = ("ResourceNotFoundException", "ValidationException")


def add(commands: Commands) -> None:
    """Declare the command."""
    watching = commands.add_parser(
        "watch",
        help="record the shards of a table's stream for a day",
        description="Look at a table's stream every few minutes and append what DescribeStream "
        "lists to a file, until Ctrl-C or the hours are over; run it again to go on. It only reads "
        "(dynamodb:DescribeTable, dynamodb:DescribeStream), which costs nothing. The file tells "
        "ids, sequence numbers and times of shards; no account, no name, no data.",
    )
    watching.add_argument("table", nargs="?", help="a table's name, or the ARN of a stream")
    watching.add_argument(
        "--every", type=float, default=EVERY, help="seconds between two looks (%(default)g)"
    )
    watching.add_argument(
        "--hours", type=float, default=HOURS, help="how long, in all (%(default)g)"
    )
    watching.add_argument(
        "--output",
        type=Path,
        default=Path("recording.jsonl"),
        help="the file to append to (%(default)s)",
    )
    watching.add_argument("--region", help="the table's Region, if it is not your usual one")
    watching.add_argument(
        "--tell-region", action="store_true", help="write the Region down in the file, too"
    )
    watching.add_argument(
        "--target",
        choices=("aws", "localstack"),
        default="localstack" if os.environ.get("LAB_TARGET") == "localstack" else "aws",
        help="who answers: whatever your credentials and AWS_ENDPOINT_URL name, or LocalStack",
    )
    watching.add_argument(
        "--check", type=Path, nargs="+", metavar="FILE", help="only say what is in recordings"
    )
    watching.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Record until the hours are over or somebody interrupts; or look into recordings."""
    for path in options.check or ():
        print(f"{path}: {read_recording(path)}")
    if options.check:
        return 0
    if not options.table:
        raise LabError("Say what to watch: a table's name, or the ARN of a stream.")
    client = _clients(options)
    stream = _stream(options.table, client)
    print(
        f"A look every {options.every:g} s for {options.hours:g} h, into {options.output}. Ctrl-C "
        "ends it; the same command goes on with it.",
        flush=True,
    )
    try:
        record(
            lambda: table_stream(client("dynamodbstreams"), stream),
            options.output,
            every=options.every,
            hours=options.hours,
            tell_region=options.tell_region,
        )
    except KeyboardInterrupt:
        print("Stopped.")
    if options.output.exists():
        print(f"{options.output}: {read_recording(options.output)}")
    return 0


def _clients(options: argparse.Namespace) -> Callable[[str], Any]:
    """What makes clients of whoever answers, each with the credentials that there are then."""
    region = options.region or _region_in(options.table)
    if options.target == "localstack":
        target = open_target("localstack", 0, None)
        target.region = region or target.region
        return target.make_client

    def client(service: str) -> Any:
        with explained("reading your AWS settings"):
            session = boto3.Session(region_name=region or os.environ.get("AWS_REGION") or None)
            account.region_of(session, (service,))
            return session.client(service, config=account.manners())

    return client


def _region_in(table: str) -> str | None:
    """The Region that an ARN names."""
    return table.split(":")[3] if table.startswith("arn:") and table.count(":") >= 5 else None


def _stream(table: str, client: Callable[[str], Any]) -> str:
    """The ARN of a table's latest stream, or the one that was given."""
    if "/stream/" in table:
        return table
    with explained(f"looking for table {table}"):
        dynamodb = client("dynamodb")
        try:
            described = dynamodb.describe_table(TableName=table)["Table"]
        except (ClientError, ParamValidationError) as problem:
            if isinstance(problem, ClientError) and error_code(problem) not in NO_TABLE:
                raise
            raise LabError(
                f"There is no table {table!r} in {dynamodb.meta.region_name} in this account: give "
                "the name of one, and its --region."
            ) from None
    if "LatestStreamArn" not in described:
        raise LabError(
            f"Table {table} has no stream: switch it on with `aws dynamodb update-table "
            f"--table-name {table} --stream-specification "
            "StreamEnabled=true,StreamViewType=KEYS_ONLY`."
        )
    return str(described["LatestStreamArn"])
