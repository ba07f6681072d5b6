"""The book's own tools on streams that are not the emulator's: as on AWS, and as on LocalStack."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pytest
from on_aws import set_out
from strict_aws import forget_everything, strict_aws

import lab_utils as lu
from lab_utils.errors import LabError
from lab_utils.lab import Lab

pytestmark = pytest.mark.slow

STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    with strict_aws() as address:
        yield address


@pytest.fixture(params=["aws", "localstack"])
def lab(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lab]:
    """An empty lab on one target, then on the other."""
    if request.param == "aws":
        address = request.getfixturevalue("aws")
        forget_everything(address)
    else:
        address = request.getfixturevalue("elsewhere")
    set_out(monkeypatch, tmp_path, address, LAB_TARGET=request.param)
    with lu.open_lab() as opened:
        yield opened


def make_table(lab: Lab) -> str:
    """A table with a stream; the stream's ARN."""
    dynamodb, name = lab.client("dynamodb"), lab.name("RealOrders")
    made = dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        StreamSpecification=STREAM,
    )
    dynamodb.get_waiter("table_exists").wait(TableName=name)
    return str(made["TableDescription"]["LatestStreamArn"])


def put(lab: Lab, keys: str) -> None:
    for key in keys:
        lab.client("dynamodb").put_item(TableName=lab.name("RealOrders"), Item={"id": {"S": key}})


def read(reader: Any) -> str:
    return "".join(record["dynamodb"]["Keys"]["id"]["S"] for record in reader)


def test_the_lineage_of_a_table_is_read_and_drawn(lab: Lab) -> None:
    arn = make_table(lab)
    lineage = lu.read_lineage(lab.client("dynamodbstreams"), arn)
    assert len(lineage.open_shards) == 1
    assert lineage.reading_order() == [lineage.open_shards]
    assert (lineage.enabled, lineage.childless, lineage.gaps) == (True, [], [])
    ax = lu.plot_lineage(lineage)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["open"]


def test_a_reader_reads_all_and_goes_on(lab: Lab) -> None:
    arn, streams = make_table(lab), lab.client("dynamodbstreams")
    put(lab, "abc")
    reader = lu.StreamReader(streams, arn)
    assert read(reader) == "abc"
    assert read(reader) == ""
    put(lab, "de")
    assert read(reader) == "de"
    assert reader.gaps == []


def test_a_reader_of_what_comes_passes_over_what_was(lab: Lab) -> None:
    arn, streams = make_table(lab), lab.client("dynamodbstreams")
    put(lab, "abc")
    reader = lu.StreamReader(streams, arn, "LATEST")
    put(lab, "de")
    assert read(reader) == "de"


def test_a_checkpoint_is_good_for_another_reader(lab: Lab) -> None:
    arn, streams = make_table(lab), lab.client("dynamodbstreams")
    put(lab, "abcde")
    first = lu.StreamReader(streams, arn, limit=2)
    assert read(next(first) for _ in range(3)) == "abc"
    assert read(lu.StreamReader(streams, arn, checkpoint=first.checkpoint())) == "de"


def test_a_reader_that_follows_hands_out_what_comes(lab: Lab) -> None:
    arn, streams = make_table(lab), lab.client("dynamodbstreams")
    put(lab, "a")
    reader = lu.StreamReader(streams, arn, follow=True, poll_interval=0.1)
    assert read([next(reader)]) == "a"
    put(lab, "b")
    assert read([next(reader)]) == "b"


def test_a_stream_that_is_not_there_is_told_of(lab: Lab) -> None:
    arn, streams = make_table(lab), lab.client("dynamodbstreams")
    wrong = arn.replace("RealOrders", "Nobody")
    with pytest.raises(LabError, match="There is no stream"):
        lu.read_lineage(streams, wrong)
    with pytest.raises(LabError, match="There is no stream"):
        lu.StreamReader(streams, wrong)
    with pytest.raises(LabError, match="There is no stream"):
        lu.record_stream(streams, wrong, "a.jsonl")


def test_beginning_at_a_time_is_left_to_a_boto3_that_can(lab: Lab) -> None:
    """The iterator at a time is newer than the boto3 that is pinned."""
    arn, streams = make_table(lab), lab.client("dynamodbstreams")
    with pytest.raises(LabError, match='update it, or start at "TRIM_HORIZON"'):
        lu.StreamReader(streams, arn, datetime.now(UTC) - timedelta(minutes=1))


def test_a_stream_is_recorded_from_a_cell(lab: Lab, tmp_path: Path) -> None:
    arn, streams = make_table(lab), lab.client("dynamodbstreams")
    recording = lu.record_stream(streams, arn, tmp_path / "a.jsonl", every=0.2, hours=0.0003)
    lineage = lu.read_lineage(streams, arn)
    assert recording.target == "other"
    assert recording.lineage.open_shards == lineage.open_shards
    assert len(recording.looks) >= 2
    assert lu.plot_recording(recording).get_xlabel().endswith("since the first look")


def test_a_data_stream_that_was_split_is_read_parents_first(lab: Lab) -> None:
    kinesis, name = lab.client("kinesis"), lab.name("RealTrades")
    kinesis.create_stream(StreamName=name, ShardCount=2)
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    kinesis.put_record(StreamName=name, Data=b"before", PartitionKey="k")
    first = kinesis.list_shards(StreamName=name)["Shards"][0]
    middle = int(first["HashKeyRange"]["EndingHashKey"]) // 2
    kinesis.split_shard(
        StreamName=name, ShardToSplit=first["ShardId"], NewStartingHashKey=str(middle)
    )
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    kinesis.put_record(StreamName=name, Data=b"after", PartitionKey="k")
    lineage = lu.read_lineage(kinesis, name)
    assert len(lineage.open_shards) == 3
    assert sorted(lineage.graph.succ[first["ShardId"]]) == lineage.open_shards[1:]
    assert [record["Data"] for record in lu.StreamReader(kinesis, name)] == [b"before", b"after"]
    lu.plot_lineage(lineage)
