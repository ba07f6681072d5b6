"""Clients that others wrote, in their own languages, on the lab's server.

They are installed once per run, each apart from this environment: the AWS CLI and the stream
library want other versions of botocore. Without a network the tests are skipped, and say so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import localstack_client.session
import pytest
from serving import Served, environment, serving

pytestmark = pytest.mark.slow

CLI = "awscli==1.46.3"
STREAM_LIBRARY = "async-kinesis==3.0.1"
JAVASCRIPT = [
    "@aws-sdk/client-dynamodb@3.1169.0",
    "@aws-sdk/client-dynamodb-streams@3.1141.0",
    "@aws-sdk/client-kinesis@3.1143.0",
]
NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|Temporary failure|"
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH"
)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--speed", "60") as server:
        yield server


@pytest.fixture
def settings(served: Served) -> dict[str, str]:
    """The environment of a client, which finds the server by it."""
    return environment() | {
        "AWS_ENDPOINT_URL": served.address,
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "PYTHONPATH": "",
    }


def run(*command: str | Path, **options: Any) -> str:
    """A command's output; it is an error if it fails."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def install(what: str, *command: str | Path, **options: Any) -> None:
    """From a registry: the only thing that leaves this machine, so without the tests' guard."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": ""},
        **options,
    )
    if done.returncode != 0 and NO_NETWORK.search(done.stderr + done.stdout):
        pytest.skip(f"{what} cannot be installed: there is no network")
    assert done.returncode == 0, done.stderr


def python_with(package: str, folder: Path) -> Path:
    """A Python of its own that has a package."""
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    install(package, *pip, "install", "-q", "--retries", "1", "--timeout", "10", package)
    return python


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_with(CLI, tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="session")
def stream_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_with(STREAM_LIBRARY, tmp_path_factory.mktemp("stream-library"))


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which scripts find the SDK."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm")
    folder = tmp_path_factory.mktemp("javascript")
    quiet = ("--no-audit", "--no-fund", "--fetch-retries=1")
    install("the SDK for JavaScript", npm, "install", *quiet, *JAVASCRIPT, cwd=folder)
    return folder


# -- the AWS CLI ----------------------------------------------------------------------------------


def test_the_aws_cli(cli: Path, settings: dict[str, str], tmp_path: Path) -> None:
    def aws(*words: str) -> Any:
        said = run(cli, "-m", "awscli", *words, "--output", "json", env=settings, cwd=tmp_path)
        return json.loads(said) if said.startswith("{") else said

    made = aws(
        *("dynamodb", "create-table", "--table-name", "Trades"),
        *("--attribute-definitions", "AttributeName=id,AttributeType=S"),
        *("--key-schema", "AttributeName=id,KeyType=HASH", "--billing-mode", "PAY_PER_REQUEST"),
        *("--stream-specification", "StreamEnabled=true,StreamViewType=NEW_IMAGE"),
    )
    stream = made["TableDescription"]["LatestStreamArn"]
    item = '{"id": {"S": "first"}}'
    aws("dynamodb", "put-item", "--table-name", "Trades", "--item", item)
    described = aws("dynamodbstreams", "describe-stream", "--stream-arn", stream)
    found = []
    for shard in described["StreamDescription"]["Shards"]:
        named = ("--stream-arn", stream, "--shard-id", shard["ShardId"])
        kind = ("--shard-iterator-type", "TRIM_HORIZON")
        begun = aws("dynamodbstreams", "get-shard-iterator", *named, *kind)
        read = aws(
            *("dynamodbstreams", "get-records", "--shard-iterator", begun["ShardIterator"]),
        )
        found += [record["dynamodb"]["NewImage"] for record in read["Records"]]
    assert found == [json.loads(item)]
    (tmp_path / "file").write_text("hello")
    aws("s3", "mb", "s3://bucket")
    aws("s3", "cp", "file", "s3://bucket/folder/file")
    aws("s3", "cp", "s3://bucket/folder/file", "copy")
    assert (tmp_path / "copy").read_text() == "hello"
    assert aws("sts", "get-caller-identity")["Account"] == "123456789012"


# -- the SDK for JavaScript -----------------------------------------------------------------------

SCRIPT = """
import { DynamoDB } from "@aws-sdk/client-dynamodb";
import { DynamoDBStreams } from "@aws-sdk/client-dynamodb-streams";
import { Kinesis } from "@aws-sdk/client-kinesis";

const dynamodb = new DynamoDB(), streams = new DynamoDBStreams(), kinesis = new Kinesis();

const table = await dynamodb.createTable({
  TableName: "Script", BillingMode: "PAY_PER_REQUEST",
  AttributeDefinitions: [{ AttributeName: "id", AttributeType: "S" }],
  KeySchema: [{ AttributeName: "id", KeyType: "HASH" }],
  StreamSpecification: { StreamEnabled: true, StreamViewType: "KEYS_ONLY" },
});
const StreamArn = table.TableDescription.LatestStreamArn;
for (const id of ["a", "b", "c"])
  await dynamodb.putItem({ TableName: "Script", Item: { id: { S: id } } });

const changed = [];
for (const { ShardId } of (await streams.describeStream({ StreamArn })).StreamDescription.Shards) {
  const start = { StreamArn, ShardId, ShardIteratorType: "TRIM_HORIZON" };
  const { ShardIterator } = await streams.getShardIterator(start);
  const { Records } = await streams.getRecords({ ShardIterator });
  changed.push(...Records.map((record) => record.dynamodb.Keys.id.S));
}

const StreamName = "Script";
await kinesis.createStream({ StreamName, ShardCount: 1 });
const put = await kinesis.putRecords({
  StreamName, Records: [{ Data: new Uint8Array([255, 0]), PartitionKey: "k" }],
});
const begin = { StreamName, ShardId: "shardId-000000000000", ShardIteratorType: "TRIM_HORIZON" };
const { ShardIterator } = await kinesis.getShardIterator(begin);
const [record] = (await kinesis.getRecords({ ShardIterator })).Records;

let refusal = "";
try { await kinesis.describeStream({ StreamName: "nowhere" }); }
catch (error) { refusal = error.name; }

console.log(JSON.stringify({
  changed: changed.sort(), failed: put.FailedRecordCount, data: Array.from(record.Data),
  arrived: record.ApproximateArrivalTimestamp instanceof Date, refusal,
}));
"""


def test_the_sdk_for_javascript(javascript: Path, settings: dict[str, str]) -> None:
    """Its Kinesis client speaks HTTP/2, the others HTTP/1.1."""
    script = javascript / "script.mjs"
    script.write_text(SCRIPT)
    said = run("node", "--no-warnings", script, env=settings, cwd=javascript)
    assert json.loads(said) == {
        "changed": ["a", "b", "c"],
        "failed": 0,
        "data": [255, 0],
        "arrived": True,
        "refusal": "ResourceNotFoundException",
    }


# -- libraries ------------------------------------------------------------------------------------

CONSUMER = """
import asyncio, json, os
from kinesis import Consumer, Producer, StringProcessor

there = {"stream_name": "Library", "endpoint_url": os.environ["AWS_ENDPOINT_URL"],
         "region_name": "us-east-1", "processor": StringProcessor()}

async def main():
    async with Producer(**there, create_stream=True, create_stream_shards=3) as producer:
        for number in range(100):
            await producer.put(f"record {number}")
    got = []
    async with Consumer(**there, sleep_time_no_records=0.1, shard_fetch_rate=5) as consumer:
        while len(got) < 100:
            async for record in consumer:
                got.append(record)
    print(json.dumps(got))

asyncio.run(main())
"""


def test_a_stream_library(stream_library: Path, settings: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "consumer.py"
    script.write_text(CONSUMER)
    got = json.loads(run(stream_library, script, env=settings, cwd=tmp_path))
    assert sorted(got) == sorted(f"record {number}" for number in range(100))


def test_localstack_client(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALSTACK_HOST", f"127.0.0.1:{served.port}")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    session = localstack_client.session.Session(region_name="us-east-1")
    url = session.client("sqs").create_queue(QueueName="queue")["QueueUrl"]
    session.client("sqs").send_message(QueueUrl=url, MessageBody="hello")
    got = session.client("sqs").receive_message(QueueUrl=url)
    assert [each["Body"] for each in got["Messages"]] == ["hello"]
