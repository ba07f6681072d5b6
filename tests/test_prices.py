"""Prices have a source each, and what the cost model takes for measured is measured here again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import lab_utils as lu
from lab_utils import costs, prices
from lab_utils.costs import AS_MEASURED, HOUR, MONTH, WORKSHOP, Design
from lab_utils.emulator.physics import Physics
from lab_utils.errors import LabError
from lab_utils.prices import HOME
from lab_utils.quotas import quotas, reached

FILE = Path(prices.__file__).with_suffix(".json")


@pytest.fixture(scope="module")
def paid() -> prices.Prices:
    return prices.load()


# -- the file -----------------------------------------------------------------------------------


def test_every_price_has_a_unit_a_mark_a_source_and_a_day(paid: prices.Prices) -> None:
    for region, own in paid.regions.items():
        for name, price in own.items():
            assert price.usd > 0, (region, name)
            assert price.unit
            assert price.mark in ("documented", "remembered"), (region, name)
            assert price.url.startswith(("https://aws.amazon.com/", "https://pricing.us-east-1."))
            assert price.read <= paid.as_of, (region, name)


def test_the_file_says_nothing_that_is_not_used() -> None:
    data = json.loads(FILE.read_text(encoding="utf-8"))
    named = {name for own in data["regions"].values() for name in own}
    cited = {price["source"] for own in data["regions"].values() for price in own.values()}
    assert named == set(data["units"]) == set(data["regions"][HOME])
    assert set(data["free"]) <= named
    assert cited == set(data["sources"])
    assert date.fromisoformat(data["as_of"])
    assert data["currency"] == "USD"


def test_a_region_has_its_own_prices_and_lacks_none(paid: prices.Prices) -> None:
    assert paid.price("kinesis_shard_hour", "ap-northeast-1").usd == 0.0195
    assert paid.price("lambda_arm", "ap-northeast-1") is paid.price("lambda_arm")
    assert paid.price("kinesis_shard_hour", "eu-west-3") is paid.price("kinesis_shard_hour")


def test_a_sum_says_whose_prices_it_is_made_of(paid: prices.Prices) -> None:
    day = f"Prices as of {paid.as_of}, without free tiers: "
    assert paid.remark() == f"{day}those of us-east-1."
    assert paid.remark("eu-west-3") == (
        f"{day}those of us-east-1, as none are known here for eu-west-3."
    )
    assert paid.remark("ap-northeast-1") == (
        f"{day}those of ap-northeast-1 and, where none is known here, of us-east-1."
    )


def test_an_unknown_price_is_refused(paid: prices.Prices) -> None:
    with pytest.raises(LabError, match=r"no price 'shards': use one of dynamodb_write, "):
        paid.price("shards")


# -- sums by hand -------------------------------------------------------------------------------


def test_an_idle_hour_is_its_shards(paid: prices.Prices) -> None:
    assert costs.pipeline_hour(paid, HOME) == pytest.approx(20 * 0.015)
    assert costs.pipeline_hour(paid, HOME, shards=3) == pytest.approx(3 * 0.015)
    assert costs.pipeline_hour(paid, "ap-northeast-1") == pytest.approx(20 * 0.0195)
    idle = costs.bill(paid, HOME, costs.steady(0))
    assert {part for part, usd in idle.items() if usd} == {"IncomingDataStream"}


def test_a_burst_is_mostly_its_writes(paid: prices.Prices) -> None:
    bill = costs.bill(paid, HOME, costs.burst(10_000))
    assert bill["IncomingDataStream"] == pytest.approx(10_000 * 1.4e-8)
    assert bill["StateTable"] == pytest.approx(10_000 * 6.25e-7)
    assert costs.pipeline_burst(paid, HOME) == pytest.approx(sum(bill.values()))
    assert bill["StateTable"] > 0.85 * sum(bill.values())
    assert costs.pipeline_burst(paid, HOME, 20_000) == pytest.approx(2 * sum(bill.values()))


def test_a_steady_second_by_hand(paid: prices.Prices) -> None:
    """At 1,000 messages a second each of 20 shards has something at every look."""
    bill = costs.bill(paid, HOME, costs.steady(1000))
    assert bill["IncomingDataStream"] == pytest.approx(20 * 0.015 / 3600 + 1000 * 1.4e-8)
    assert bill["StateTable"] == pytest.approx(1000 * 6.25e-7)
    busy = 20 * 0.003 + 1000 * (0.0045 + 0.003)
    assert bill["StateLambda"] == pytest.approx(20 * 2e-7 + busy * 0.25 * 1.66667e-5)


def test_a_stream_on_demand_counts_whole_kilobytes(paid: prices.Prices) -> None:
    stream = costs.steady(1000, Design(stream="on-demand"))["IncomingDataStream"]
    assert stream["kinesis_stream_hour"] == pytest.approx(1 / 3600)
    assert stream["kinesis_in"] == pytest.approx(1000 * 1024 / 2**30)
    assert stream["kinesis_out"] == pytest.approx(1000 * 257 / 2**30)


def test_provisioned_tables_pay_for_room_too() -> None:
    table = costs.steady(1000, Design(tables="provisioned"))["StateTable"]
    assert table == {"dynamodb_write_hour": pytest.approx(1000 / 0.7 / 3600)}


def test_a_month_of_new_trades_stays() -> None:
    added = costs.growth(1000)["StateTable"]["dynamodb_storage"]
    assert added == pytest.approx(1000 * MONTH * (145 + 100) / 2**30)


@pytest.mark.parametrize("rate", [-1, math.inf, math.nan])
def test_a_rate_is_a_number_of_messages(rate: float) -> None:
    with pytest.raises(LabError, match="messages a second"):
        costs.flow(rate)


def test_a_burst_is_a_number_of_messages() -> None:
    with pytest.raises(LabError, match="zero or more"):
        costs.burst(-1)


def test_a_design_has_known_modes() -> None:
    with pytest.raises(LabError, match="use provisioned or on-demand"):
        Design(stream="serverless")


def test_a_design_fits_a_rate_with_room() -> None:
    assert WORKSHOP.fit(1000) == WORKSHOP
    for rate in (3_000, 30_000, 300_000):
        fit = WORKSHOP.fit(rate)
        now = costs.flow(rate, fit)
        assert rate / fit.shards <= 1000 * fit.filled
        assert now.state_busy <= fit.shards * fit.state_lanes * 0.8
        assert fit.state_lanes <= 10


def test_batches_are_at_most_full_and_at_least_one_a_turn() -> None:
    assert costs.batches(0, 20, 100, 1.0) == 0
    assert costs.batches(1e-6, 20, 100, 1.0) == pytest.approx(1e-6)  # a message alone
    assert costs.batches(1000, 20, 100, 1.0) == pytest.approx(20)  # each shard at each look
    assert costs.batches(1e6, 20, 100, 1.0) == pytest.approx(1e4)  # full
    assert costs.batches(1e6, 4, 1e9, 0.25, 3.0) == pytest.approx(4 / 3, rel=1e-4)  # each window


# -- limits -------------------------------------------------------------------------------------


def test_limits_by_hand() -> None:
    assert reached("Kinesis: records a second and shard") == pytest.approx(20_000)
    assert reached("StateTable: write units while it is new") == pytest.approx(4_000)
    assert reached("StateTable: write units of a table") == pytest.approx(40_000)
    assert reached("Kinesis: shards of the account") == math.inf
    # one message after the other: 7.5 ms each, and 3 ms for each batch of 100
    one = "StateLambda: one batch a lane"
    at = reached(one)
    assert at / 20 * 0.0075 + max(1, at / 20 / 100) * 0.003 == pytest.approx(1)
    assert reached(one, replace(WORKSHOP, state_lanes=2)) > 1.9 * at


def test_a_limit_is_reached_where_it_is_said_to_be() -> None:
    for name in (quota.name for quota in quotas(1)):
        at = reached(name)
        if at < math.inf:
            before, then = (
                next(quota.share for quota in quotas(rate) if quota.name == name)
                for rate in (at * 0.999, at)
            )
            assert before < 1 <= then, name


# -- measured again -----------------------------------------------------------------------------

PROBE = """
    import json

    def handler(event, context):
        print("BYTES", len(json.dumps(event)), len(event["Records"]))
"""


@pytest.fixture(scope="module")
def played() -> Iterator[Any]:
    """A lab in which a burst went through the pipeline, and probes saw the events."""
    from running import connect, function

    with lu.open_lab("embedded") as lab:
        pipeline = lu.pipeline.deploy(lab)
        pipeline.connect()
        for name, arn, settings in (
            ("StateProbe", pipeline.stream_arn, {"BatchSize": 100}),
            ("MapProbe", pipeline.state_stream_arn, {"BatchSize": 1000}),
        ):
            function(lab, PROBE, name)
            connect(lab, arn, name, **settings)
        assert lu.pipeline.Scoreboard().play(lab, pipeline, seed=3).points == 100
        yield lab


def lines(lab: Any, name: str) -> list[str]:
    from running import log_lines

    return log_lines(lab, name)


def test_a_message_is_as_large_as_that(played: Any) -> None:
    records = lu.pipeline.make_burst(3, now=played.clock.now()).records
    mean = sum(len(record["Data"]) for record in records) / len(records)
    assert mean == pytest.approx(AS_MEASURED.message_bytes, abs=1)
    assert {len(record["PartitionKey"]) for record in records} == {AS_MEASURED.key_bytes}


@pytest.mark.parametrize("name", ["state", "map"])
def test_events_are_as_large_as_that(played: Any, name: str) -> None:
    seen = [line.split()[1:] for line in lines(played, f"{name.title()}Probe") if "BYTES" in line]
    size, records = (sum(int(each[i]) for each in seen) for i in (0, 1))
    assert records == 10_000
    assert size / records == pytest.approx(getattr(AS_MEASURED, f"{name}_event_bytes"), rel=0.02)


def test_items_are_as_large_as_that(played: Any) -> None:
    for table, size in (("StateTable", "item_bytes"), ("ReduceTable", "row_bytes")):
        found = played.client("dynamodb").describe_table(TableName=table)["Table"]
        mean = found["TableSizeBytes"] / found["ItemCount"]
        assert mean == pytest.approx(getattr(AS_MEASURED, size), abs=1)
        assert mean < 1024  # one unit for each write


def test_requests_cost_so_many_units(played: Any) -> None:
    dynamodb = played.client("dynamodb")
    total = {"ReturnConsumedCapacity": "TOTAL"}
    item = dynamodb.scan(TableName="StateTable", Limit=1)["Items"][0]
    put = dynamodb.put_item(TableName="StateTable", Item=item, **total)
    assert put["ConsumedCapacity"]["CapacityUnits"] == AS_MEASURED.update_units
    row = dynamodb.scan(TableName="ReduceTable", Limit=1)["Items"][0]
    put = dynamodb.put_item(TableName="ReduceTable", Item=row, **total)
    assert put["ConsumedCapacity"]["CapacityUnits"] == AS_MEASURED.row_units
    key = {"parameter": {"S": "FAILURE_MAP_LAMBDA_PCT"}}
    look = dynamodb.get_item(TableName="ParameterTable", Key=key, ConsistentRead=True, **total)
    assert look["ConsumedCapacity"]["CapacityUnits"] == AS_MEASURED.look_units


def test_a_transaction_costs_so_many_units(played: Any) -> None:
    dynamodb = played.client("dynamodb")
    totals = dynamodb.scan(TableName="AggregateTable")["Items"]
    assert len(totals) == AS_MEASURED.totals
    updates = [
        {
            "Update": {
                "TableName": "AggregateTable",
                "Key": {"Identifier": item["Identifier"]},
                "UpdateExpression": "ADD #value :none",
                "ExpressionAttributeNames": {"#value": "Value"},
                "ExpressionAttributeValues": {":none": {"N": "0"}},
            }
        }
        for item in totals
    ]
    (used,) = dynamodb.transact_write_items(TransactItems=updates, ReturnConsumedCapacity="TOTAL")[
        "ConsumedCapacity"
    ]
    assert used["CapacityUnits"] == AS_MEASURED.totals * AS_MEASURED.total_units


def test_batches_of_a_burst_are_as_large_as_that(played: Any) -> None:
    runs = played.invocations()
    runs = runs[(runs.outcome == "ok") & runs.function.str.endswith("Lambda")]
    sizes = runs.groupby("function").batch_size.mean()
    assert sizes["StateLambda"] == pytest.approx(AS_MEASURED.burst_states, rel=0.1)
    assert sizes["MapLambda"] == pytest.approx(AS_MEASURED.burst_maps, rel=0.1)
    assert sizes["ReduceLambda"] == pytest.approx(AS_MEASURED.burst_reduces, rel=0.5)


def test_an_invocation_logs_as_much_as_that(played: Any) -> None:
    logged = [line for name in ("StateLambda", "MapLambda", "ReduceLambda")
              for line in lines(played, name)]  # fmt: skip
    invocations = sum(line.startswith("REPORT") for line in logged)
    size = sum(len(line.encode()) + 26 for line in logged)
    assert size / invocations == pytest.approx(AS_MEASURED.log_bytes, rel=0.03)


def test_times_are_those_of_the_lab() -> None:
    physics = Physics()
    for name in ("read", "write", "transaction"):
        mean = sum(getattr(physics, f"{name}_latency")) / 2
        assert getattr(AS_MEASURED, f"{name}_time") == pytest.approx(mean)


def test_a_month_is_730_hours() -> None:
    assert MONTH == 730 * HOUR
