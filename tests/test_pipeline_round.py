"""The pipeline as a whole on the embedded lab: deployed, connected, played, removed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from botocore.exceptions import ClientError

import lab_utils as lu
from lab_utils import pipeline as game
from lab_utils.errors import LabError
from lab_utils.pipeline.messages import TOTAL_KEYS
from lab_utils.pipeline.scoreboard import send


@pytest.fixture
def lab():
    with lu.open_lab("embedded") as opened:
        yield opened


def links(lab, pipeline):
    return {stage.name: stage.link for stage in game.stages(lab, pipeline)}


def test_deploy_leaves_two_links_missing_and_can_be_run_twice(lab):
    pipeline = game.deploy(lab)
    before = game.stages(lab, pipeline)
    assert [(stage.name, stage.kind, stage.shards, stage.link) for stage in before] == [
        ("IncomingDataStream", "stream", 20, ""),
        ("StateLambda", "function", 0, "missing"),
        ("StateTable", "table", 4, "direct"),
        ("MapLambda", "function", 0, "connected"),
        ("ReduceTable", "table", 4, "direct"),
        ("ReduceLambda", "function", 0, "missing"),
        ("AggregateTable", "table", 0, "direct"),
    ]
    uuid = pipeline.mapping("MapLambda")
    assert game.deploy(lab) == pipeline
    assert pipeline.mapping("MapLambda") == uuid
    assert pipeline.mapping("StateLambda") is None
    assert game.stages(lab, pipeline) == before


def test_reduce_may_not_read_its_stream_until_it_is_allowed_to(lab):
    pipeline = game.deploy(lab, shards=2)
    functions = lab.client("lambda")
    declared = pipeline.function("ReduceLambda")
    request = {**declared.mapping, "EventSourceArn": pipeline.reduce_stream_arn}
    with pytest.raises(ClientError, match="Cannot access stream") as refused:
        functions.create_event_source_mapping(**request)
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValueException"
    lab.role(declared.role, *pipeline.statements("ReduceLambda", complete=True))
    uuid = functions.create_event_source_mapping(**request)["UUID"]
    game.wait_enabled(lab, uuid)
    assert pipeline.mapping("ReduceLambda") == uuid
    assert links(lab, pipeline)["ReduceLambda"] == "connected"


def test_a_mapping_that_is_being_deleted_is_waited_for_and_made_anew(lab):
    pipeline = game.deploy(lab, shards=2)
    pipeline.connect()
    uuid = pipeline.mapping("StateLambda")
    lab.client("lambda").delete_event_source_mapping(UUID=uuid)
    assert pipeline.mapping("StateLambda") is None
    pipeline.connect()
    assert pipeline.mapping("StateLambda") not in (None, uuid)
    assert links(lab, pipeline)["StateLambda"] == "connected"


def test_three_rounds_are_three_hundred_points(lab):
    pipeline = game.deploy(lab)
    pipeline.connect()
    board = game.Scoreboard()
    for _ in range(3):
        board.play(lab, pipeline, n=1_000)
    assert board.points == 300, repr(board)
    assert board.message_count == 3_000
    totals = game.read_totals(lab)
    assert tuple(totals) == (*TOTAL_KEYS, "message_count")
    expected = sum(played.expected["Delta"] for played in board.rounds)
    assert totals["Delta"] == Decimal(expected) / 100
    frame = game.totals_frame(lab)
    assert frame.index.names == ["RiskType", "TradeDesk", "Region"]
    assert frame.loc[("Delta", "", ""), "Value"] == expected / 100


def test_a_round_may_be_played_again_with_the_same_seed(lab):
    pipeline = game.deploy(lab, shards=4)
    pipeline.connect(start="TRIM_HORIZON")
    rounds = [game.play_round(lab, pipeline, seed=5, n=200) for _ in range(2)]
    assert [played.points for played in rounds] == [100, 100]
    assert rounds[0].expected == rounds[1].expected


def test_a_round_is_the_same_in_every_lab():
    played = []
    for _ in range(2):
        with lu.open_lab("embedded") as lab:
            pipeline = game.deploy(lab, shards=4)
            pipeline.connect()
            played.append(game.play_round(lab, pipeline, seed=3, n=400, special=True))
    assert played[0] == played[1]
    assert played[0].report() == played[1].report()


def test_without_failures_the_totals_are_those_of_state_table(lab):
    """Right or wrong for the game, the totals never disagree with the items they come from."""
    pipeline = game.deploy(lab)
    pipeline.connect()
    game.play_round(lab, pipeline, seed=1, n=2_000, special=True)
    game.wait_until_quiet(lab)
    pages = lab.client("dynamodb").get_paginator("scan").paginate(TableName="StateTable")
    values = [Decimal(item["Value"]["N"]) for page in pages for item in page["Items"]]
    totals = game.read_totals(lab)
    assert totals["Delta"] + totals["PV"] == sum(values)


def test_failures_after_the_write_spoil_the_totals(lab):
    pipeline = game.deploy(lab, shards=4)
    pipeline.connect()
    game.set_failures(lab, reduce=60)
    played = game.play_round(lab, pipeline, seed=1, n=400)
    assert played.points == 0
    assert max(played.off.values()) > 0  # counted twice: too much, never too little
    assert "too high" in played.report()
    game.set_failures(lab)
    assert game.play_round(lab, pipeline, seed=2, n=400).points == 100


def test_an_unconnected_pipeline_scores_nothing_and_says_why(lab):
    pipeline = game.deploy(lab, shards=2)
    played = game.play_round(lab, pipeline, seed=1, n=40)
    assert (played.points, played.message_count) == (0, 0)
    assert played.waited >= 30
    assert "nothing arrived" in played.report()


def test_more_shards_than_a_page_of_the_listing_holds_are_counted(lab):
    pipeline = game.deploy(lab, shards=1_001)
    assert game.stages(lab, pipeline)[0].shards == 1_001


def test_a_throttled_burst_loses_nothing(lab):
    """One shard takes 1,000 records a second; the rest of a batch goes again."""
    pipeline = game.deploy(lab, shards=1)
    burst = game.make_burst(1, 3_000, now=lab.clock.now())
    send(lab, pipeline, burst)
    kinesis = lab.client("kinesis")
    (shard,) = kinesis.list_shards(StreamName="IncomingDataStream")["Shards"]
    iterator = kinesis.get_shard_iterator(
        StreamName="IncomingDataStream",
        ShardId=shard["ShardId"],
        ShardIteratorType="TRIM_HORIZON",
    )["ShardIterator"]
    seen = []
    while True:
        answer = kinesis.get_records(ShardIterator=iterator)
        seen += answer["Records"]
        iterator = answer["NextShardIterator"]
        if not answer["MillisBehindLatest"]:
            break
    assert len({record["PartitionKey"] for record in seen}) == len(seen) == 3_000


def test_what_is_removed_is_gone_and_can_be_deployed_again(lab):
    game.deploy(lab, shards=2)
    game.remove(lab)
    game.remove(lab)
    dynamodb, kinesis, functions = lab.clients("dynamodb", "kinesis", "lambda")
    assert dynamodb.list_tables()["TableNames"] == []
    assert kinesis.list_streams()["StreamNames"] == []
    assert functions.list_functions()["Functions"] == []
    assert functions.list_event_source_mappings()["EventSourceMappings"] == []
    pipeline = game.deploy(lab, shards=3)
    pipeline.connect()
    assert game.play_round(lab, pipeline, seed=1, n=80).points == 100


def test_mistakes_are_told_with_their_remedy(lab):
    for shards in (0, -1, "20", 2.0, True):
        with pytest.raises(LabError, match="shards"):
            game.deploy(lab, shards=shards)
    pipeline = game.deploy(lab, shards=2)
    with pytest.raises(LabError, match=r"has 2 open shards, not 3: call remove\(lab\)"):
        game.deploy(lab, shards=3)
    with pytest.raises(LabError, match="'TRIM_HORIZON' or 'LATEST'"):
        pipeline.connect(start="NEWEST")
    with pytest.raises(LabError, match="use one of StateLambda, MapLambda, ReduceLambda"):
        pipeline.mapping("GeneratorLambda")
    with pytest.raises(LabError, match="give 0 to 100"):
        game.set_failures(lab, state=101)
