"""StateLambda, MapLambda and ReduceLambda, one by one, on events made by hand."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from decimal import Decimal
from itertools import count
from urllib.error import URLError
from urllib.request import urlopen

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.pipeline.contract import function_file
from lab_utils.pipeline.parts import functions, tables

# Five messages: id, value, region, desk. All Delta, all version 1.
SAMPLE = {
    "M1": ("0d957268-2913-4dbb-b359-5ec5ff732cac", "10", "AMER", "FXSpot"),
    "M2": ("8ec2fdcd-0000-4000-8000-000000000002", "100", "EMEA", "FXSpot"),
    "M3": ("f5bb0ced-0000-4000-8000-000000000003", "5", "EMEA", "FXOptions"),
    "M4": ("8c935bf7-0000-4000-8000-000000000004", "3", "EMEA", "FXOptions"),
    "M5": ("395974a4-0000-4000-8000-000000000005", "20", "AMER", "FXSpot"),
}
FIRST = {
    "message_count": 3,
    "Delta": 18,
    "Delta:FXSpot": 10,
    "Delta:FXSpot:AMER": 10,
    "Delta:FXOptions": 8,
    "Delta:FXOptions:EMEA": 8,
}
SECOND = {
    "message_count": 2,
    "Delta": 120,
    "Delta:FXSpot": 120,
    "Delta:FXSpot:EMEA": 100,
    "Delta:FXSpot:AMER": 20,
}
NOW = 1_800_000_000.0
STREAM = "arn:aws:dynamodb:us-east-1:123456789012:table/Orders/stream/2027-01-15T08:00:00.000"
TOTALS = {
    "message_count": 5,
    "Delta": 138,
    "Delta:FXSpot": 130,
    "Delta:FXOptions": 8,
    "Delta:FXSpot:AMER": 30,
    "Delta:FXSpot:EMEA": 100,
    "Delta:FXOptions:EMEA": 8,
}


# --- a server to run them against, and the functions themselves -----------------------------


@pytest.fixture(scope="module")
def endpoint():
    """MiniStack's own server on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1"}
    server = subprocess.Popen(
        [sys.executable, "-m", "ministack"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urlopen(f"{url}/_localstack/health", timeout=5).close()
                break
            except (URLError, ConnectionError):
                assert server.poll() is None, "the server ended before it was ready"
                assert time.monotonic() < deadline, "the server is not ready after 30 seconds"
                time.sleep(0.05)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


_world = count(1)


class World:
    """Fresh tables, and the three functions loaded as Lambda would load them."""

    def __init__(self, monkeypatch, endpoint):
        number = next(_world)
        self.names = {table.name: f"{table.name}{number}" for table in tables()}
        for key, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }.items():
            monkeypatch.setenv(key, value)
        self.dynamodb = boto3.client("dynamodb")
        for table in tables():
            self.dynamodb.create_table(
                TableName=self.names[table.name],
                KeySchema=[{"AttributeName": table.key, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": table.key, "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        for function in functions():
            for variable, table in function.environment.items():
                monkeypatch.setenv(variable, self.names[table])
        self.state, self.map, self.reduce = map(load, ("state", "map", "reduce"))

    def items(self, table):
        return self.dynamodb.scan(TableName=self.names[table], ConsistentRead=True)["Items"]

    def fail(self, function, percent):
        item = {
            "parameter": {"S": f"FAILURE_{function}_LAMBDA_PCT"},
            "value": {"N": str(percent)},
        }
        self.dynamodb.put_item(TableName=self.names["ParameterTable"], Item=item)


def load(name):
    spec = importlib.util.spec_from_file_location(f"function_{name}", function_file(name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def world(monkeypatch, endpoint):
    return World(monkeypatch, endpoint)


# --- events ---------------------------------------------------------------------------------


def message(trade_id, value, *, version=1, age=0.0, region="AMER", desk="FXSpot"):
    return {
        "TradeID": trade_id,
        "Version": version,
        "Value": value,
        "Timestamp": time.time() - age,
        "Hierarchy": {"RiskType": "Delta", "Region": region, "TradeDesk": desk},
    }


def kinesis_event(*messages):
    records = []
    for number, each in enumerate(messages, start=1):
        data = base64.b64encode(json.dumps(each).encode()).decode()
        body = {
            "sequenceNumber": f"{number:056}",
            "data": data,
            "approximateArrivalTimestamp": NOW - 3 + number / 8,
        }
        records.append({"eventID": f"shardId-000000000002:{number:056}", "kinesis": body})
    return {"Records": records}


def image(trade_id, value, region, desk, risk_type="Delta"):
    place = {"RiskType": risk_type, "Region": region, "TradeDesk": desk}
    return {
        "id": {"S": trade_id},
        "Value": {"N": str(value)},
        "Version": {"N": "1"},
        "Hierarchy": {"S": json.dumps(place, sort_keys=True)},
        "Timestamp": {"N": "1616413258.5"},
    }


def stream_event(*changes):
    """A DynamoDB Streams event from pairs (old image or None, new image or None)."""
    records = []
    for number, (old, new) in enumerate(changes, start=1):
        images = {"OldImage": old, "NewImage": new}
        body = {
            "ApproximateCreationDateTime": NOW - 3 + number,
            "SequenceNumber": f"{number:021}",
            **{k: v for k, v in images.items() if v},
        }
        records.append({"eventID": f"{number:032x}", "eventSourceARN": STREAM, "dynamodb": body})
    return {"Records": records}


def inserts(*names):
    return stream_event(*((None, image(*SAMPLE[name])) for name in names))


def without_times(item):
    row = json.loads(item["Message"]["S"])
    return {key: Decimal(value) for key, value in row.items() if "timestamp" not in key}


# --- StateLambda ----------------------------------------------------------------------------


def test_state_keeps_one_item_per_trade(world):
    event = kinesis_event(message("a", 34624.51), message("b", 0.1, region="EMEA"))
    assert world.state.handler(event, None) == {"statusCode": 200}
    items = {item["id"]["S"]: item for item in world.items("StateTable")}
    assert {key: item["Value"] for key, item in items.items()} == {
        "a": {"N": "34624.51"},
        "b": {"N": "0.1"},
    }
    place = '{"Region": "EMEA", "RiskType": "Delta", "TradeDesk": "FXSpot"}'
    assert items["b"]["Hierarchy"] == {"S": place}
    assert sorted(items["b"]) == ["Hierarchy", "Timestamp", "Value", "Version", "id"]


def test_state_lets_an_older_version_overwrite_a_newer_one(world):
    world.state.handler(kinesis_event(message("a", 1.5, version=1)), None)
    world.state.handler(kinesis_event(message("a", 2.5, version=0)), None)
    (item,) = world.items("StateTable")
    assert (item["Version"]["N"], item["Value"]["N"]) == ("0", "2.5")


def test_state_drops_what_is_older_than_a_minute(world):
    event = kinesis_event(message("old", 1.5, age=61), message("young", 1.5, age=50))
    assert world.state.handler(event, None) == {"statusCode": 200}
    assert [item["id"]["S"] for item in world.items("StateTable")] == ["young"]


def test_state_fails_before_a_record_and_keeps_what_came_before(world, monkeypatch):
    world.fail("STATE", 50)
    draws = iter([0.5, 0.1])  # 50 % over two records is 25 % before each
    monkeypatch.setattr(world.state, "random", type("R", (), {"random": lambda: next(draws)}))
    with pytest.raises(RuntimeError, match="injected failure in StateLambda"):
        world.state.handler(kinesis_event(message("a", 1.5), message("b", 1.5)), None)
    assert [item["id"]["S"] for item in world.items("StateTable")] == ["a"]


def test_state_stops_on_an_error_of_dynamodb(world):
    world.dynamodb.delete_table(TableName=world.names["StateTable"])
    with pytest.raises(world.state.dynamodb.exceptions.ResourceNotFoundException):
        world.state.handler(kinesis_event(message("a", 1.5)), None)


# --- MapLambda ------------------------------------------------------------------------------


def test_map_writes_one_row_of_differences_per_batch(world):
    assert world.map.handler(inserts("M4", "M3", "M1"), None) == {"statusCode": 200}
    assert world.map.handler(inserts("M5", "M2"), None) == {"statusCode": 200}
    rows = [without_times(item) for item in world.items("ReduceTable")]
    assert sorted(rows, key=lambda row: row["Delta"]) == [FIRST, SECOND]
    assert all(len(item["MessageId"]["S"]) == 64 for item in world.items("ReduceTable"))


def test_map_moves_a_value_from_its_old_place_to_its_new_one(world):
    event = stream_event((image("a", "10.10", "AMER", "FXSpot"), image("a", "7", "EMEA", "FXSpot")))
    world.map.handler(event, None)
    (item,) = world.items("ReduceTable")
    assert without_times(item) == {
        "message_count": 1,
        "Delta": Decimal("-3.10"),
        "Delta:FXSpot": Decimal("-3.10"),
        "Delta:FXSpot:AMER": Decimal("-10.10"),
        "Delta:FXSpot:EMEA": 7,
    }


def test_map_takes_the_same_batch_only_once(world):
    for _ in range(3):
        assert world.map.handler(inserts("M1", "M2"), None) == {"statusCode": 200}
    assert len(world.items("ReduceTable")) == 1


def test_map_takes_the_same_records_twice_if_they_are_cut_otherwise(world):
    world.map.handler(inserts("M1", "M2"), None)
    world.map.handler(inserts("M1"), None)
    assert len(world.items("ReduceTable")) == 2


def test_map_writes_nothing_for_deletions(world):
    event = stream_event((image("a", 10, "AMER", "FXSpot"), None))
    assert world.map.handler(event, None) == {"statusCode": 200}
    assert world.items("ReduceTable") == []


def test_map_calls_a_refused_write_a_success(world, capsys):
    world.dynamodb.delete_table(TableName=world.names["ReduceTable"])
    assert world.map.handler(inserts("M1"), None) == {"statusCode": 500}
    assert "ResourceNotFoundException" in capsys.readouterr().out


def test_map_fails_after_the_write_and_a_retry_does_no_harm(world):
    world.fail("MAP", 100)
    with pytest.raises(RuntimeError, match="injected failure in MapLambda"):
        world.map.handler(inserts("M1"), None)
    assert len(world.items("ReduceTable")) == 1
    world.fail("MAP", 0)
    assert world.map.handler(inserts("M1"), None) == {"statusCode": 200}
    assert len(world.items("ReduceTable")) == 1


# --- ReduceLambda ---------------------------------------------------------------------------


def reduce_event(world):
    return stream_event(*((None, item) for item in world.items("ReduceTable")))


def totals_of(world):
    items = world.items("AggregateTable")
    return {item["Identifier"]["S"]: Decimal(item["Value"]["N"]) for item in items}


def test_reduce_adds_the_sample_up(world):
    world.map.handler(inserts("M4", "M3", "M1"), None)
    world.map.handler(inserts("M5", "M2"), None)
    assert world.reduce.handler(reduce_event(world), None) == {"statusCode": 200}
    assert totals_of(world) == TOTALS


def test_reduce_counts_a_batch_twice_if_it_comes_twice(world):
    world.map.handler(inserts("M1"), None)
    world.fail("REDUCE", 100)
    with pytest.raises(RuntimeError, match="injected failure in ReduceLambda"):
        world.reduce.handler(reduce_event(world), None)
    assert totals_of(world)["Delta"] == 10
    world.fail("REDUCE", 0)
    world.reduce.handler(reduce_event(world), None)
    assert totals_of(world)["Delta"] == 20


def test_reduce_does_nothing_for_deletions(world):
    world.map.handler(inserts("M1"), None)
    (row,) = world.items("ReduceTable")
    assert world.reduce.handler(stream_event((row, None)), None) == {"statusCode": 200}
    assert totals_of(world) == {}


# --- all three ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state", "map", "reduce"])
def test_a_function_says_which_batch_it_was_given_before_anything_can_fail(
    world, monkeypatch, capsys, name
):
    monkeypatch.setattr(time, "time", lambda: NOW)
    world.fail(name.upper(), 100)
    if name == "state":
        event = kinesis_event(message("a", 1.5), message("b", 1.5))
        expected = {"shard": "shardId-000000000002", "first": f"{1:056}", "size": 2, "age": 2.75}
    else:
        event, expected = inserts("M1", "M2"), {"stream": STREAM, "first": f"{1:021}", "size": 2}
        expected["age"] = 1.0
    with pytest.raises((RuntimeError, KeyError)):
        getattr(world, name).handler(event, None)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"batch": expected}


PLACES = st.tuples(
    st.sampled_from(["AMER", "APAC", "EMEA"]),
    st.sampled_from(["FXSpot", "FXOptions"]),
    st.sampled_from(["Delta", "PV"]),
)
WRITES = st.lists(
    st.tuples(st.sampled_from("abcde"), st.integers(0, 10_000_000), PLACES), min_size=1
)


@pytest.fixture(scope="module")
def map_and_reduce():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        return load("map"), load("reduce")


@settings(max_examples=200, deadline=None)
@given(WRITES, st.integers(1, 7), st.integers(1, 3))
def test_totals_are_the_sums_of_the_latest_values(map_and_reduce, writes, cut, rows_at_once):
    """Whatever the writes, and however their records are cut into batches."""
    map_function, reduce_function = map_and_reduce
    latest, changes = {}, []
    for trade, cents, (region, desk, risk_type) in writes:
        new = image(trade, Decimal(cents) / 100, region, desk, risk_type)
        changes.append((latest.get(trade), new))
        latest[trade] = new
    rows = []
    for first in range(0, len(changes), cut):
        records = stream_event(*changes[first : first + cut])["Records"]
        text = json.dumps(map_function.differences(records), default=str)
        rows.append((None, {"Message": {"S": text}}))
    totals = {}
    for first in range(0, len(rows), rows_at_once):
        records = stream_event(*rows[first : first + rows_at_once])["Records"]
        for key, value in reduce_function.add_up(records).items():
            totals[key] = totals.get(key, 0) + value
    assert totals.pop("message_count") == len(writes)
    expected = dict.fromkeys(totals, Decimal(0))
    for item in latest.values():
        place, value = json.loads(item["Hierarchy"]["S"]), Decimal(item["Value"]["N"])
        path = [place["RiskType"], place["TradeDesk"], place["Region"]]
        for level in (1, 2, 3):
            expected[":".join(path[:level])] += value
    assert totals == expected


@pytest.mark.parametrize("name", ["state", "map", "reduce"])
def test_a_function_is_short_and_stands_alone(name):
    text = function_file(name).read_text(encoding="utf-8")
    assert "lab_utils" not in text
    assert len(text.splitlines()) <= 80
