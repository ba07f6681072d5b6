"""Lanes of a shard, which ParallelizationFactor makes: what runs beside what, and what does not."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pandas as pd
import pytest
from running import connect, function, log_lines, put, stream, table, wait_for_state

import lab_utils as lu

REPORTS = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
QUICK = {
    "mapping_creation": (1.0, 1.0),
    "mapping_update": (1.0, 1.0),
    "cold_start": (0.0, 0.0),
    "invoke_overhead": (0.001, 0.001),
}

WORKER = """
    import base64, json, os, random, time

    def now():
        return round(time.time() * 1e6)

    def handler(event, context):
        began = now()
        names, numbers = [], []
        for record in event["Records"]:
            names.append(base64.b64decode(record["kinesis"]["data"]).decode())
            numbers.append(record["kinesis"]["sequenceNumber"])
        slow = json.loads(os.environ.get("SLOW", "{}"))
        time.sleep(max(slow.get(name[0], float(os.environ.get("TIME", "0"))) for name in names))
        time.sleep(random.random() / 100)
        print("BATCH", json.dumps([began, now(), names, numbers]))
        bad = os.environ.get("BAD", "").split()
        failed = [place for place, name in enumerate(names) if name in bad or name[0] in bad]
        if failed and os.environ.get("REPORTS"):
            return {"batchItemFailures": [{"itemIdentifier": numbers[failed[0]]}]}
        if failed:
            raise ValueError(names[failed[0]])
"""
"""A record's name begins with a letter that stands for its key. SLOW says how many seconds a key
takes (others: TIME), BAD which keys or records fail. No two invocations end at one moment."""


@pytest.fixture
def lab():
    with lu.open_lab("embedded", physics=lu.Physics(**QUICK)) as opened:
        yield opened


def deploy(lab, timeout=600, **environment):
    function(lab, WORKER, timeout=timeout, environment=environment)


def heal(lab, **environment):
    lab.client("lambda").update_function_configuration(
        FunctionName="Worker", Environment={"Variables": environment}
    )


def write(lab, *names):
    """Records whose key is the first letter of their name."""
    for start in range(0, len(names), 500):
        lab.client("kinesis").put_records(
            StreamName="Stream",
            Records=[
                {"Data": name.encode(), "PartitionKey": name[0]}
                for name in names[start : start + 500]
            ],
        )


def logged(lab):
    """(began, ended, names, numbers) of each invocation that is over, in the order of time."""
    return sorted(json.loads(line[6:]) for line in log_lines(lab) if line.startswith("BATCH"))


def batches(lab):
    """The records of each invocation, in the order of time."""
    return [names for _, _, names, _ in logged(lab)]


def update(lab, uuid, **changes):
    lab.client("lambda").update_event_source_mapping(UUID=uuid, **changes)
    wait_for_state(lab, uuid, "Enabled" if changes.get("Enabled", True) else "Disabled")


def most_at_once(rows):
    """How many invocations ran at the same time, at the most."""
    edges = [(at, 1) for at in rows["started"]] + [(at, -1) for at in rows["ended"]]
    running = most = 0
    for _, change in sorted(edges, key=lambda edge: edge):
        running += change
        most = max(most, running)
    return most


def apart(rows):
    """Whether no two invocations of one lane overlap."""
    for _, lane in rows.groupby(["shard", "lane"]):
        lane = lane.sort_values("started")
        assert (lane["ended"].shift() <= lane["started"])[1:].all(), lane
    return True


def lanes_of(lab, letters):
    """The lanes in which the records of each key were."""
    rows = lab.invocations()
    ran = rows[rows["outcome"] != "throttled"]
    ended = ran["ended"].dt.as_unit("us").astype("int64")
    lane_at = dict(zip(ended, ran["lane"], strict=True))
    lanes = {letter: set() for letter in letters}
    for _, moment, names, _ in logged(lab):
        for name in names:
            lanes[name[0]].add(int(lane_at[moment]))
    return lanes


LETTERS = "abcdefghijklmnop"


# -- lanes and keys -----------------------------------------------------------------------------


def test_a_key_is_in_one_lane_and_lanes_run_together(lab):
    arn = stream(lab)
    deploy(lab, TIME="3")
    write(lab, *[f"{letter}{number}" for number in range(4) for letter in LETTERS])
    connect(lab, arn, ParallelizationFactor=4, BatchSize=2)
    lab.clock.advance(minutes=3)
    rows = lab.invocations()
    assert most_at_once(rows) == 4
    assert apart(rows)
    homes = lanes_of(lab, LETTERS)
    assert all(len(lanes) == 1 for lanes in homes.values()), "a key has one lane"
    assert len({min(lanes) for lanes in homes.values()}) == 4


def test_each_key_keeps_its_order_and_the_shard_does_not(lab):
    arn = stream(lab)
    deploy(lab, SLOW='{"a": 20}', TIME="0.1")
    sent = [f"{letter}{number}" for number in range(5) for letter in LETTERS]
    write(lab, *sent)
    connect(lab, arn, ParallelizationFactor=10, BatchSize=1)
    lab.clock.advance(minutes=5)
    arrived = [name for names in batches(lab) for name in names]
    assert Counter(arrived) == Counter(sent)
    assert arrived != sent, "what is slow is overtaken"
    slow = lanes_of(lab, LETTERS)["a"]
    last = {name[0] for name in arrived[-5:]}
    assert all(lanes_of(lab, LETTERS)[letter] == slow for letter in last)
    for letter in LETTERS:
        mine = [name for name in arrived if name[0] == letter]
        assert mine == [name for name in sent if name[0] == letter]


def test_a_hot_key_gains_nothing(lab):
    spent = {}
    for factor, name in ((1, "One"), (10, "Ten")):
        arn = stream(lab, name)
        function(lab, "import time\ndef handler(e, c):\n    time.sleep(1)\n", name, timeout=10)
        lab.client("kinesis").put_records(
            StreamName=name, Records=[{"Data": b"x", "PartitionKey": "hot"}] * 100
        )
        connect(lab, arn, name, ParallelizationFactor=factor, BatchSize=5)
        lab.clock.advance(minutes=2)
        rows = lab.invocations(name)
        assert rows["lane"].nunique() == 1
        assert most_at_once(rows) == 1
        spent[name] = rows["ended"].max() - rows["started"].min()
    assert abs(spent["One"] - spent["Ten"]) < pd.Timedelta(seconds=0.1)


def test_ten_lanes_of_four_shards_are_forty_at_once(lab):
    arn = stream(lab, shards=4)
    function(lab, "import time\ndef handler(e, c):\n    time.sleep(5)\n", timeout=10)
    keys = [f"key {number}" for number in range(800)]
    for start in (0, 400):
        lab.client("kinesis").put_records(
            StreamName="Stream",
            Records=[{"Data": b"x", "PartitionKey": key} for key in keys[start : start + 400]],
        )
    connect(lab, arn, ParallelizationFactor=10, BatchSize=5)
    lab.clock.advance(minutes=3)
    rows = lab.invocations()
    assert len(rows.groupby(["shard", "lane"])) == 40
    assert most_at_once(rows) == 40
    assert rows["instance"].nunique() == 40
    assert rows["batch_size"].sum() == 800
    assert apart(rows)


def test_each_lane_fills_batches_of_its_own(lab):
    arn = stream(lab)
    deploy(lab)
    write(lab, *[f"{letter}{number}" for number in range(30) for letter in LETTERS])
    connect(lab, arn, ParallelizationFactor=3, BatchSize=50)
    lab.clock.advance(seconds=30)
    for _, rows in lab.invocations().groupby("lane"):
        sizes = list(rows["batch_size"])
        assert sizes[:-1] == [50] * (len(sizes) - 1)
        assert 0 < sizes[-1] <= 50
        assert sum(sizes) % 30 == 0, "whole keys"


def test_each_lane_has_a_batching_window_of_its_own(lab):
    arn = stream(lab)
    deploy(lab)
    connect(lab, arn, ParallelizationFactor=2, MaximumBatchingWindowInSeconds=10)
    write(lab, "a0")
    lab.clock.advance(seconds=5)
    write(lab, *[f"{letter}1" for letter in LETTERS])
    lab.clock.advance(seconds=8)
    (first,) = batches(lab)
    assert first[0] == "a0"
    assert "a1" in first
    lab.clock.advance(seconds=5)
    second = batches(lab)[1]
    assert sorted([*first, *second]) == sorted(["a0", *[f"{letter}1" for letter in LETTERS]])


# -- failures inside a lane ---------------------------------------------------------------------


def test_a_failing_lane_blocks_itself_alone(lab):
    arn = stream(lab)
    deploy(lab, BAD="a")
    connect(lab, arn, ParallelizationFactor=4, BatchSize=1)
    write(lab, *[f"{letter}{number}" for number in range(3) for letter in LETTERS])
    lab.clock.advance(minutes=2)
    arrived = [name for names in batches(lab) for name in names]
    stuck = lanes_of(lab, LETTERS)["a"]
    assert {name for name in arrived if name[0] == "a"} == {"a0"}
    lanes = lanes_of(lab, LETTERS)
    others = [letter for letter in LETTERS if lanes[letter] and lanes[letter] != stuck]
    assert len(others) > 8
    assert all(set(names) == {"a0"} for names in batches(lab) if names[0][0] not in others)
    for letter in others:
        assert [name for name in arrived if name[0] == letter] == [f"{letter}{n}" for n in range(3)]


def test_a_batch_is_bisected_inside_its_lane(lab):
    arn = stream(lab)
    deploy(lab, BAD="a2")
    write(lab, *[f"{letter}{number}" for number in range(4) for letter in "ab"])
    connect(
        lab,
        arn,
        ParallelizationFactor=10,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=0,
    )
    lab.clock.advance(minutes=1)
    assert lanes_of(lab, "ab")["a"] != lanes_of(lab, "ab")["b"]
    mine = [names for names in batches(lab) if names[0][0] == "a"]
    assert mine == [["a0", "a1", "a2", "a3"], ["a0", "a1"], ["a2", "a3"], ["a2"], ["a3"]]
    assert [names for names in batches(lab) if names[0][0] == "b"] == [["b0", "b1", "b2", "b3"]]


def test_fact_75_inside_a_lane(lab):
    """Progress resets the count of tries of its lane; the destination is told the lane's record."""
    arn = stream(lab)
    lab.client("sqs").create_queue(QueueName="Failures")
    deploy(lab, BAD="a6", REPORTS="yes")
    write(lab, *[f"{letter}{number}" for number in range(1, 7) for letter in "ab"])
    connect(
        lab,
        arn,
        ParallelizationFactor=10,
        BatchSize=3,
        MaximumRetryAttempts=3,
        **REPORTS,
        DestinationConfig={
            "OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:Failures"}
        },
    )
    lab.clock.advance(minutes=1)
    mine = [names for names in batches(lab) if names[0][0] == "a"]
    assert mine == [["a1", "a2", "a3"], ["a4", "a5", "a6"], *[["a6"]] * 4]
    others = [names for names in batches(lab) if names[0][0] == "b"]
    assert others == [["b1", "b2", "b3"], ["b4", "b5", "b6"]]
    sqs = lab.client("sqs")
    url = sqs.get_queue_url(QueueName="Failures")["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    body = json.loads(message["Body"])
    assert body["requestContext"]["approximateInvokeCount"] == 4
    assert body["responseContext"]["functionError"] is None
    info = body["KinesisBatchInfo"]
    number = next(
        numbers[names.index("a6")]
        for line in log_lines(lab)
        if line.startswith("BATCH")
        for _, _, names, numbers in [json.loads(line[6:])]
        if "a6" in names
    )
    assert (info["startSequenceNumber"], info["endSequenceNumber"]) == (number, number)
    assert info["batchSize"] == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_fact_68_inside_a_lane(lab, retries):
    arn = stream(lab)
    deploy(lab, BAD="a1")
    write(lab, *[f"{letter}{number}" for number in (1, 2) for letter in "ab"])
    connect(lab, arn, ParallelizationFactor=10, BatchSize=1, MaximumRetryAttempts=retries)
    lab.clock.advance(minutes=1)
    assert [names for names in batches(lab) if names[0][0] == "a"] == [
        *[["a1"]] * (retries + 1),
        ["a2"],
    ]
    lane = lanes_of(lab, "ab")["a"]
    rows = lab.invocations()
    assert list(rows[rows["lane"].isin(lane)]["attempt"]) == [*range(1, retries + 2), 1]


def test_fact_73_and_74_inside_a_lane(lab):
    """Eight calls in a minute, then too old; what is too old in another lane is cut out there."""
    arn = stream(lab)
    lab.client("sqs").create_queue(QueueName="Failures")
    deploy(lab, BAD="a1")
    connect(
        lab,
        arn,
        ParallelizationFactor=10,
        MaximumRecordAgeInSeconds=60,
        DestinationConfig={
            "OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:Failures"}
        },
    )
    write(lab, "a1", "b1")
    lab.clock.advance(seconds=50)
    write(lab, "a2")
    lab.clock.advance(minutes=1)
    mine = [names for names in batches(lab) if names[0][0] == "a"]
    assert mine == [*[["a1"]] * 8, ["a2"]]
    assert [names for names in batches(lab) if names[0][0] == "b"] == [["b1"]]
    sqs = lab.client("sqs")
    url = sqs.get_queue_url(QueueName="Failures")["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    body = json.loads(message["Body"])
    assert body["requestContext"]["condition"] == "RecordAgeExceeded"
    assert body["requestContext"]["approximateInvokeCount"] == 8
    assert body["KinesisBatchInfo"]["batchSize"] == 1


def test_throttled_lanes_lose_nothing_and_no_attempt(lab):
    arn = stream(lab)
    deploy(lab, TIME="0.5")
    lab.client("lambda").put_function_concurrency(
        FunctionName="Worker", ReservedConcurrentExecutions=2
    )
    sent = [f"{letter}{number}" for number in range(3) for letter in LETTERS]
    write(lab, *sent)
    connect(lab, arn, ParallelizationFactor=8, BatchSize=2, MaximumRetryAttempts=0)
    lab.clock.advance(minutes=5)
    rows = lab.invocations()
    assert set(rows["outcome"]) == {"ok", "throttled"}
    assert most_at_once(rows[rows["outcome"] == "ok"]) == 2
    assert set(rows["attempt"]) == {1}
    assert Counter(name for names in batches(lab) for name in names) == Counter(sent)


# -- the checkpoint -----------------------------------------------------------------------------


def test_the_slowest_lane_holds_the_checkpoint(lab):
    """What other lanes did beyond it comes again when the mapping is stopped and goes on."""
    arn = stream(lab)
    deploy(lab, BAD="a")
    uuid = connect(lab, arn, ParallelizationFactor=10, BatchSize=1)
    write(lab, "b0", "b1", "a0", "b2", "b3")
    lab.clock.advance(seconds=30)
    before = [name for names in batches(lab) for name in names]
    assert set(before) == {"a0", "b0", "b1", "b2", "b3"}
    update(lab, uuid, Enabled=False)
    lab.clock.advance(minutes=2)
    stopped = len(batches(lab))
    heal(lab)
    update(lab, uuid, Enabled=True)
    lab.clock.advance(minutes=2)
    again = [name for names in batches(lab)[stopped:] for name in names]
    assert Counter(again) == {"a0": 1, "b2": 1, "b3": 1}
    assert [name for name in again if name[0] == "b"] == ["b2", "b3"]


def test_the_backlog_is_what_is_beyond_the_checkpoint(lab):
    arn = stream(lab)
    deploy(lab, BAD="a")
    connect(lab, arn, ParallelizationFactor=10, BatchSize=1)
    write(lab, "a0", *[f"b{number}" for number in range(9)])
    lab.clock.advance(minutes=1)
    assert lab.backlog()["waiting"].iloc[-1] == 10
    heal(lab)
    lab.clock.advance(minutes=2)
    assert lab.backlog()["waiting"].iloc[-1] == 0


def test_lanes_are_ahead_of_the_slowest_by_so_many_records():
    physics = lu.Physics(**QUICK, lane_read_ahead=300, kinesis_read_records=100)
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = stream(lab)
        deploy(lab, BAD="a")
        connect(lab, arn, ParallelizationFactor=10)
        write(lab, "a0", *[f"b{number}" for number in range(1000)])
        lab.clock.advance(minutes=1)
        arrived = [name for names in batches(lab) for name in names if name[0] == "b"]
        assert arrived == [f"b{number}" for number in range(299)]
        heal(lab)
        lab.clock.advance(minutes=2)
        arrived = [name for names in batches(lab) for name in names if name[0] == "b"]
        assert arrived == [f"b{number}" for number in range(1000)]


def test_what_expires_in_a_stuck_lane_is_lost_in_that_lane_alone():
    with lu.open_lab("embedded", physics=lu.Physics(**QUICK, kinesis_retention=600)) as lab:
        arn = stream(lab)
        deploy(lab, BAD="a0 a1")
        uuid = connect(lab, arn, ParallelizationFactor=10, BatchSize=1)
        for number in range(4):
            write(lab, f"a{number}", f"b{number}")
            lab.clock.advance(minutes=4)
        lab.clock.advance(minutes=6)
        arrived = [name for names in batches(lab) for name in names]
        assert [name for name in arrived if name[0] == "b"] == ["b0", "b1", "b2", "b3"]
        mine = list(dict.fromkeys(name for name in arrived if name[0] == "a"))
        assert mine == ["a0", "a1", "a2", "a3"]
        rows = lab.invocations()
        assert set(rows[rows["outcome"] == "error"]["lane"]) == lanes_of(lab, "ab")["a"]
        assert lab.backlog()["waiting"].iloc[-1] == 0
        assert "2 records expired" in lab.why(uuid)


def test_children_wait_for_every_lane_of_their_parent():
    physics = lu.Physics(on_demand_partitions=1, child_discovery=(0, 0), **QUICK)
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = table(lab)
        function(
            lab,
            """
            import time

            def handler(event, context):
                if any(each["dynamodb"]["Keys"]["id"]["S"] == "a" for each in event["Records"]):
                    time.sleep(100)
        """,
            timeout=600,
        )
        connect(lab, arn, ParallelizationFactor=4)
        for letter in LETTERS:
            put(lab, letter)
        lab.clock.advance(seconds=5)
        lab.split_partition("Source", int(lab.partitions("Source").index[0]))
        for letter in LETTERS[1:]:
            put(lab, letter, 1)
        lab.clock.advance(seconds=60)
        rows = lab.invocations()
        (parent,) = rows["shard"].unique()
        assert rows["batch_size"].sum() < len(LETTERS), "one lane is at it, still"
        lab.clock.advance(minutes=2)
        rows = lab.invocations()
        mine = rows["shard"] == parent
        assert rows[mine]["ended"].max() <= rows[~mine]["started"].min()
        assert rows[mine]["batch_size"].sum() == len(LETTERS)
        assert rows[~mine]["batch_size"].sum() == len(LETTERS) - 1
        assert rows["shard"].nunique() == 3


# -- more lanes, or fewer -----------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (2, 10), (10, 2)])
def test_the_factor_changes_when_what_runs_is_over(lab, before, after):
    """Nothing is lost, nothing overtakes what is still with the function."""
    arn = stream(lab)
    deploy(lab, TIME="10")
    sent = [f"{letter}{number}" for number in range(3) for letter in LETTERS]
    write(lab, *sent)
    uuid = connect(lab, arn, ParallelizationFactor=before, BatchSize=2)
    lab.clock.advance(seconds=12)
    asked = pd.Timestamp(lab.clock.now())
    update(lab, uuid, ParallelizationFactor=after)
    lab.clock.advance(minutes=10)
    rows = lab.invocations().sort_values("started")
    assert apart(rows)
    old = rows["started"] <= asked
    assert rows[old]["lane"].max() < before
    assert rows["lane"].iloc[-1] < after
    late = rows[rows["started"] > asked + pd.Timedelta(seconds=2)]
    assert rows[old]["ended"].max() <= late["started"].min(), "all are at rest once"
    assert set(late["lane"]) <= set(range(after))
    assert late["lane"].nunique() > min(after, 4) - 1
    arrived = [name for names in batches(lab) for name in names]
    assert set(arrived) == set(sent)
    for letter in LETTERS:
        mine = list(dict.fromkeys(name for name in arrived if name[0] == letter))
        assert mine == [f"{letter}{number}" for number in range(3)]
    flights = sorted(
        (letter, began, ended)
        for began, ended, names, _ in logged(lab)
        for letter in {name[0] for name in names}
    )
    for first, second in pairwise(flights):
        assert first[0] != second[0] or first[2] <= second[1]


def test_a_factor_that_is_changed_back_and_forth_while_disabled(lab):
    arn = stream(lab)
    deploy(lab, TIME="20")
    uuid = connect(lab, arn, ParallelizationFactor=2, BatchSize=1)
    sent = [f"{letter}{number}" for number in range(2) for letter in "abcdef"]
    write(lab, *sent)
    lab.clock.advance(seconds=5)
    update(lab, uuid, ParallelizationFactor=5)
    update(lab, uuid, Enabled=False)
    update(lab, uuid, Enabled=True)
    update(lab, uuid, ParallelizationFactor=2)
    lab.clock.advance(minutes=15)
    assert {name for names in batches(lab) for name in names} == set(sent)
    assert apart(lab.invocations())
    assert lab.backlog()["waiting"].iloc[-1] == 0


def test_no_lane_goes_on_while_one_is_waited_for(lab):
    """Not even when the mapping is updated once more meanwhile."""
    arn = stream(lab)
    deploy(lab, SLOW='{"a": 120}', BAD="b")
    uuid = connect(lab, arn, ParallelizationFactor=10, BatchSize=1)
    write(lab, "a0", "b0", "b1")
    lab.clock.advance(seconds=10)
    update(lab, uuid, ParallelizationFactor=2)
    lab.clock.advance(seconds=20)
    rows = lab.invocations()
    assert set(rows["outcome"]) == {"error"}, "one fails, and one is with the function"
    update(lab, uuid, BatchSize=2)
    lab.clock.advance(seconds=20)
    assert len(lab.invocations()) == len(rows)
    heal(lab)
    lab.clock.advance(minutes=3)
    assert batches(lab)[len(rows) + 1 :] in ([["b0", "b1"]], [["a0"], ["b0", "b1"]])
    assert lab.backlog()["waiting"].iloc[-1] == 0
