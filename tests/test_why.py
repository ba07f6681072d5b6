"""In words: why nothing arrived, and what pollers are doing; and every handing-over of a batch."""

from __future__ import annotations

import json

import pytest
from running import (
    COLLECTOR,
    EVERYTHING,
    connect,
    function,
    got,
    put,
    send,
    stream,
    table,
    wait_for_state,
)

import lab_utils as lu

SLOW = "import time\ndef handler(event, context): time.sleep(5)"
BAD = "def handler(event, context): raise ValueError('no')"


def why(lab, mapping):
    """What it says, without its line breaks."""
    return " ".join(lab.why(mapping).split())


@pytest.fixture
def lab():
    quick = lu.Physics(mapping_creation=(1.0, 1.0), mapping_update=(1.0, 1.0))
    with lu.open_lab("embedded", physics=quick) as opened:
        yield opened


def test_it_is_text_and_shows_as_text(lab):
    function(lab, COLLECTOR)
    made = lab.client("lambda").create_event_source_mapping(
        EventSourceArn=table(lab), FunctionName="Worker", StartingPosition="LATEST"
    )
    words = lab.why(made)
    assert isinstance(words, str)
    assert repr(words) == words == lab.why(made["UUID"])
    assert max(map(len, words.splitlines())) <= 76
    assert words.startswith("Worker reads table/Source/stream/")
    assert "still being created" in words
    assert "is missed" in why(lab, made)


def test_an_unknown_mapping_is_named_with_those_there_are(lab):
    with pytest.raises(lu.LabError, match="there is: none"):
        lab.why("nobody")
    function(lab, COLLECTOR)
    uuid = connect(lab, table(lab))
    with pytest.raises(lu.LabError, match=f"there is: {uuid}"):
        lab.why("nobody")


def test_latest_says_what_it_missed(lab):
    function(lab, COLLECTOR)
    source = table(lab)
    for number in range(3):
        put(lab, f"k{number}")
    words = why(lab, connect(lab, source, start="LATEST"))
    assert "3 records that came before in these shards are not read" in words
    assert "No record has come" in words
    assert "4 shards read to the present end" in words


def test_trim_horizon_misses_nothing(lab):
    function(lab, COLLECTOR)
    source = table(lab)
    put(lab, "k")
    uuid = connect(lab, source)
    lab.clock.advance(seconds=5)
    assert "before" not in why(lab, uuid)
    assert "No record" not in why(lab, uuid)


def test_filters_that_keep_everything_out(lab):
    function(lab, COLLECTOR)
    pattern = json.dumps({"dynamodb": {"NewImage": {"id": ["k"]}}})
    uuid = connect(lab, table(lab), FilterCriteria={"Filters": [{"Pattern": pattern}]})
    put(lab, "k")
    put(lab, "l")
    lab.clock.advance(seconds=5)
    assert "kept out all of 2 of 2 records" in why(lab, uuid)
    assert not len(lab.invocations())


def test_what_is_read_again_after_a_pause_is_told_once(lab):
    function(lab, "import time\ndef handler(event, context): time.sleep(2)")
    arn = stream(lab)
    pattern = json.dumps({"partitionKey": ["wanted"]})
    uuid = connect(lab, arn, BatchSize=1, FilterCriteria={"Filters": [{"Pattern": pattern}]})
    send(lab, *"abcdef", key="wanted")
    send(lab, *"xyz", key="other")
    lab.clock.advance(seconds=3)
    for enabled in (False, True):
        lab.client("lambda").update_event_source_mapping(UUID=uuid, Enabled=enabled)
        lab.clock.advance(seconds=10)
    assert "kept out 3 of 9 records" in why(lab, uuid)


def test_a_disabled_mapping_and_a_paused_one(lab):
    function(lab, COLLECTOR)
    uuid = connect(lab, table(lab))
    lab.client("lambda").update_event_source_mapping(UUID=uuid, Enabled=False)
    assert "It is Disabling" in why(lab, uuid), "and reads on until then"
    assert "nothing is read" not in why(lab, uuid)
    wait_for_state(lab, uuid, "Disabled")
    assert "It is disabled" in why(lab, uuid)
    assert "4 shards not read at present" in why(lab, uuid)


def test_an_update_that_is_not_heeded_yet(lab):
    function(lab, COLLECTOR)
    uuid = connect(lab, table(lab))
    lab.client("lambda").update_event_source_mapping(UUID=uuid, BatchSize=7)
    assert "It is Updating" in why(lab, uuid)
    wait_for_state(lab, uuid, "Enabled")
    assert "Updating" not in why(lab, uuid)


def test_reserved_concurrency_of_zero(lab):
    function(lab, COLLECTOR)
    uuid = connect(lab, table(lab))
    lab.client("lambda").put_function_concurrency(
        FunctionName="Worker", ReservedConcurrentExecutions=0
    )
    put(lab, "k")
    lab.clock.advance(seconds=30)
    words = why(lab, uuid)
    assert "reserved concurrency is 0" in words
    assert "1 record at hand, throttled" in words
    assert "3 shards read to the present end" in words


def test_a_limit_that_is_in_use(lab):
    function(lab, SLOW, timeout=10)
    uuid = connect(lab, stream(lab, shards=3))
    lab.client("lambda").put_function_concurrency(
        FunctionName="Worker", ReservedConcurrentExecutions=1
    )
    send(lab, *[f"d{number}" for number in range(30)])
    lab.clock.advance(seconds=3)
    words = why(lab, uuid)
    assert "reserved concurrency of 1 is in use" in words
    assert "with the function since" in words
    assert "throttled" in words


def test_the_accounts_limit_that_is_in_use():
    with lu.open_lab("embedded", physics=lu.Physics(account_concurrency=1)) as lab:
        function(lab, SLOW, timeout=10)
        uuid = connect(lab, stream(lab, shards=3))
        send(lab, *[f"d{number}" for number in range(30)])
        lab.clock.advance(seconds=3)
        assert "The account's concurrency is in use" in why(lab, uuid)


def test_a_batch_that_fails_and_one_that_is_collected(lab):
    function(lab, BAD)
    failing = connect(lab, stream(lab, "Bad"))
    function(lab, COLLECTOR, "Patient")
    patient = connect(lab, stream(lab, "Good"), "Patient", MaximumBatchingWindowInSeconds=60)
    send(lab, "a", "b", key="k", name="Bad")
    send(lab, "a", "b", "c", key="k", name="Good")
    lab.clock.advance(seconds=10)
    assert "2 records at hand, waiting since" in why(lab, failing)
    assert "after try 4 failed" in why(lab, failing)
    assert "collecting a batch since" in why(lab, patient)
    assert "3 records so far" in why(lab, patient)


def test_a_function_that_is_gone(lab):
    function(lab, COLLECTOR)
    uuid = connect(lab, table(lab))
    lab.client("lambda").delete_function(FunctionName="Worker")
    put(lab, "k")
    lab.clock.advance(seconds=5)
    words = why(lab, uuid)
    assert "Its function Worker is not there" in words
    assert "no function to give them to" in words


def test_a_role_that_may_not_read_any_more(lab):
    lab.role("Narrow", EVERYTHING)
    function(lab, COLLECTOR, role=lab.role("Narrow", EVERYTHING))
    uuid = connect(lab, table(lab))
    lab.role("Narrow")
    put(lab, "k")
    lab.clock.advance(seconds=5)
    assert "role may not read the stream" in why(lab, uuid)
    assert ": 1 record behind" in why(lab, uuid)
    lab.role("Narrow", EVERYTHING)
    lab.clock.advance(seconds=90)
    assert got(lab) == ["k=0"]
    assert "role may not" not in why(lab, uuid)


def test_records_that_expired_are_said_to_be_lost(lab):
    function(lab, BAD)
    uuid = connect(lab, stream(lab))
    send(lab, "a", "b", key="k")
    lab.clock.advance(hours=25)
    assert "2 records expired before they were done with: they are lost" in why(lab, uuid)


def test_records_that_expired_before_they_were_read_are_said_to_be_lost(lab):
    function(lab, COLLECTOR)
    uuid = connect(lab, stream(lab))
    functions = lab.client("lambda")
    functions.update_event_source_mapping(UUID=uuid, Enabled=False)
    wait_for_state(lab, uuid, "Disabled")
    send(lab, "a", "b", key="k")
    lab.clock.advance(hours=25)
    send(lab, "c", key="k")
    functions.update_event_source_mapping(UUID=uuid, Enabled=True)
    lab.clock.advance(minutes=1)
    assert got(lab) == ["c"]
    assert "2 records expired before they were done with: they are lost" in why(lab, uuid)


def test_what_waited_in_a_stream_that_is_deleted_goes_with_it(lab):
    function(lab, COLLECTOR)
    uuid = connect(lab, stream(lab))
    assert "is gone" not in why(lab, uuid)
    functions = lab.client("lambda")
    functions.update_event_source_mapping(UUID=uuid, Enabled=False)
    wait_for_state(lab, uuid, "Disabled")
    send(lab, "a", "b", key="k")
    lab.client("kinesis").delete_stream(StreamName="Stream")
    stream(lab)
    send(lab, "c", key="k")
    functions.update_event_source_mapping(UUID=uuid, Enabled=True)
    lab.clock.advance(minutes=1)
    assert "The stream that it reads is gone" in why(lab, uuid)
    assert "2 records went with the stream before they were done with" in why(lab, uuid)
    functions.delete_event_source_mapping(UUID=uuid)
    lab.clock.advance(minutes=1)
    connect(lab, "arn:aws:kinesis:us-east-1:123456789012:stream/Stream")
    lab.clock.advance(minutes=1)
    assert got(lab) == ["c"]


def test_children_wait_for_their_parents(lab):
    function(lab, BAD)
    uuid = connect(lab, table(lab))
    put(lab, "k")
    lab.clock.advance(seconds=2)
    partitions = lab.partitions("Source")
    shard = lab.invocations().shard[0]
    (hurt,) = partitions.index[partitions.open_shard == shard]
    lab.split_partition("Source", int(hurt))
    lab.clock.advance(seconds=5)
    assert "2 shards waiting for a parent to be read to its end" in why(lab, uuid)


def test_too_many_readers(lab):
    source = table(lab)
    uuids = []
    for name in ("One", "Two", "Three"):
        function(lab, COLLECTOR, name)
        uuids.append(connect(lab, source, name))
    for number in range(200):
        put(lab, f"k{number}")
        lab.clock.advance(seconds=0.3)
    assert any("polls were throttled: 3 mappings" in why(lab, uuid) for uuid in uuids)
    for name in ("One", "Two", "Three"):
        assert len(got(lab, name)) == 200


def test_many_lanes_are_counted_not_listed(lab):
    function(lab, SLOW, timeout=10)
    uuid = connect(lab, stream(lab, shards=2), ParallelizationFactor=10)
    send(lab, *[f"d{number}" for number in range(400)])
    lab.clock.advance(seconds=3)
    words = why(lab, uuid)
    assert " lane 0: " in words
    assert "and 8 more lanes at work" in words


# --- every handing-over --------------------------------------------------------------------------


def test_tries_tell_what_was_cut_and_tried_again(lab):
    function(
        lab,
        """
        import base64
        def handler(event, context):
            if any(base64.b64decode(r["kinesis"]["data"]) == b"bad" for r in event["Records"]):
                raise ValueError
        """,
    )
    settings = {"BisectBatchOnFunctionError": True, "MaximumRetryAttempts": 1}
    connect(lab, stream(lab), MaximumBatchingWindowInSeconds=5, **settings)
    send(lab, "a", "b", "c", "bad", key="k")
    lab.clock.advance(minutes=2)
    tries = lab.tries("Worker")
    assert list(tries.columns) == [
        "function", "shard", "lane", "batch", "first", "size", "attempt", "outcome", "started",
    ]  # fmt: skip
    seen = tries[["batch", "first", "size", "attempt", "outcome"]].itertuples(index=False)
    assert [tuple(row) for row in seen] == [
        (1, 0, 4, 1, "error"),
        (1, 0, 2, 1, "ok"),
        (1, 2, 2, 1, "error"),
        (1, 2, 1, 1, "ok"),
        (1, 3, 1, 1, "error"),
        (1, 3, 1, 2, "error"),
    ]


def test_tries_know_batches_only(lab):
    function(lab, COLLECTOR)
    lab.client("lambda").invoke(FunctionName="Worker", Payload=b'{"Records": []}')
    assert len(lab.invocations()) == 1
    assert len(lab.tries()) == 0
