"""Tumbling windows: what a function carries from batch to batch, and what it gets at their end."""

from __future__ import annotations

import json
from datetime import datetime

import pandas as pd
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from running import code_of, connect, function, log_lines, put, send, stream, table, wait_for_state

import lab_utils as lu

QUICK = {"mapping_creation": (1.0, 1.0), "mapping_update": (1.0, 1.0)}
REPORTS = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}

SUM = """
    import base64, json, os

    MODE = os.environ["MODE"].split()

    def grown(state, names):
        ballast = {"ballast": "x" * 1024 * 1024} if "huge" in names else {}
        return {"seen": state.get("seen", []) + names, **ballast}

    def handler(event, context):
        shown = dict(event["state"])
        if "ballast" in shown:
            shown["ballast"] = len(shown["ballast"])
        print("EVENT", json.dumps({**event, "Records": len(event["Records"]), "state": shown}))
        names = []
        for record in event["Records"]:
            if "kinesis" in record:
                name = base64.b64decode(record["kinesis"]["data"]).decode()
                number = record["kinesis"]["sequenceNumber"]
            else:
                name = record["dynamodb"]["NewImage"]["value"]["N"]
                number = record["dynamodb"]["SequenceNumber"]
            if name in MODE and "report" in MODE:
                return {
                    "state": grown(event["state"], names),
                    "batchItemFailures": [{"itemIdentifier": number}],
                }
            if name in MODE:
                raise ValueError(name)
            names.append(name)
        if event["isFinalInvokeForWindow"]:
            if "final" in MODE:
                raise ValueError("final")
            return None
        if "stateless" in MODE:
            return {"seen": names}
        return {"state": grown(event["state"], names)}
"""
"""Its state is what it has seen so far. MODE names records that fail, and other ailments."""


def deploy(lab, mode="", **settings):
    return function(lab, SUM, environment={"MODE": mode}, **settings)


def heal(lab, mode=""):
    lab.client("lambda").update_function_configuration(
        FunctionName="Worker", Environment={"Variables": {"MODE": mode}}
    )


def events(lab):
    """What the function got, in the order of time; of the records, how many."""
    logs, group = lab.client("logs"), "/aws/lambda/Worker"
    found = []
    for page in logs.get_paginator("describe_log_streams").paginate(logGroupName=group):
        for each in page["logStreams"]:
            found += logs.get_log_events(
                logGroupName=group, logStreamName=each["logStreamName"], startFromHead=True
            )["events"]
    found.sort(key=lambda event: event["timestamp"])
    return [
        json.loads(event["message"][6:]) for event in found if event["message"].startswith("EVENT")
    ]


def told(lab):
    """Of each invocation: how many records, the state, whether it is a window's last."""
    return [
        (each["Records"], each["state"].get("seen", []), each["isFinalInvokeForWindow"])
        for each in events(lab)
    ]


def seconds(text):
    return datetime.fromisoformat(text).timestamp()


def to_the_next(lab, length, past=0.0):
    """Let time pass to the beginning of a window, and a little more."""
    now = lab.clock.now().timestamp()
    lab.clock.advance(seconds=length - now % length + past)


@pytest.fixture
def lab():
    with lu.open_lab("embedded", physics=lu.Physics(**QUICK)) as opened:
        yield opened


@pytest.fixture(params=["dynamodb", "kinesis"])
def source(request, lab):
    return table(lab) if request.param == "dynamodb" else stream(lab)


def write(lab, arn, *names):
    for name in names:
        if ":kinesis:" in arn:
            send(lab, str(name), key="k")
        else:
            put(lab, "k", name)


# -- a window -----------------------------------------------------------------------------------


def test_a_windows_events_have_these_members(lab, source):
    deploy(lab)
    connect(lab, source, TumblingWindowInSeconds=60)
    to_the_next(lab, 60, past=5)
    write(lab, source, 1)
    lab.clock.advance(seconds=70)
    first, last = events(lab)
    shard = lab.invocations()["shard"].iloc[0]
    start = seconds(first["window"]["start"])
    assert start % 60 == 0
    assert first["window"].keys() == {"start", "end"}
    for text in first["window"].values():
        assert datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    assert seconds(first["window"]["end"]) == start + 60
    assert first == {
        "Records": 1,
        "window": first["window"],
        "state": {},
        "shardId": shard,
        "eventSourceARN": source,
        "isFinalInvokeForWindow": False,
        "isWindowTerminatedEarly": False,
    }
    assert last == {
        **first,
        "Records": 0,
        "state": {"seen": ["1"]},
        "isFinalInvokeForWindow": True,
    }


def test_a_state_goes_from_batch_to_batch_and_ends_with_its_window(lab, source):
    deploy(lab)
    connect(lab, source, TumblingWindowInSeconds=60)
    to_the_next(lab, 60, past=1)
    for number in range(3):
        write(lab, source, number)
        lab.clock.advance(seconds=5)
    to_the_next(lab, 60, past=5)
    write(lab, source, 3)
    to_the_next(lab, 60, past=5)
    assert told(lab) == [
        (1, [], False),
        (1, ["0"], False),
        (1, ["0", "1"], False),
        (0, ["0", "1", "2"], True),
        (1, [], False),
        (0, ["3"], True),
    ]
    starts = [seconds(each["window"]["start"]) for each in events(lab)]
    assert [start - starts[0] for start in starts] == [0, 0, 0, 0, 60, 60]


def test_windows_without_records_are_not_told(lab, source):
    deploy(lab)
    connect(lab, source, TumblingWindowInSeconds=60)
    write(lab, source, 1)
    lab.clock.advance(minutes=20)
    assert len(events(lab)) == 2


def test_a_record_belongs_to_the_window_in_which_it_was_written(lab, source):
    """Although the mapping reads all of them at once, and much later."""
    deploy(lab)
    to_the_next(lab, 30, past=1)
    for number in range(6):
        write(lab, source, number)
        lab.clock.advance(seconds=15)
    connect(lab, source, TumblingWindowInSeconds=30)
    lab.clock.advance(seconds=60)
    assert told(lab) == [
        (2, [], False),
        (0, ["0", "1"], True),
        (2, [], False),
        (0, ["2", "3"], True),
        (2, [], False),
        (0, ["4", "5"], True),
    ]
    ends = [seconds(each["window"]["end"]) for each in events(lab)]
    assert [end - ends[0] for end in ends] == [0, 0, 30, 30, 60, 60]


@pytest.mark.parametrize("kind", ["dynamodb", "kinesis"])
def test_a_quiet_windows_end_is_seen_at_a_poll(lab, kind):
    """Soon after its end, at the pace of the polls; no record is needed for that."""
    arn, period = (table(lab), 0.25) if kind == "dynamodb" else (stream(lab), 1.0)
    deploy(lab)
    connect(lab, arn, TumblingWindowInSeconds=30)
    to_the_next(lab, 30, past=1)
    write(lab, arn, 1)
    lab.clock.advance(seconds=40)
    polls = lab.invocations()["started"]
    end = pd.Timestamp(events(lab)[-1]["window"]["end"])
    late = (polls.iloc[-1] - end).total_seconds()
    assert 0 <= late < period
    grid = (polls.iloc[-1] - polls.iloc[0]).total_seconds() / period
    assert grid == pytest.approx(round(grid))


def test_a_batching_window_ends_with_the_tumbling_window(lab, source):
    deploy(lab)
    connect(lab, source, TumblingWindowInSeconds=30, MaximumBatchingWindowInSeconds=300)
    to_the_next(lab, 30, past=20)
    write(lab, source, 1, 2)
    lab.clock.advance(seconds=12)
    assert told(lab) == [(2, [], False), (0, ["1", "2"], True)]


def test_the_next_window_waits_for_the_last_ones_end(lab, source):
    deploy(lab, "final")
    uuid = connect(lab, source, TumblingWindowInSeconds=30)
    to_the_next(lab, 30, past=1)
    write(lab, source, 1)
    to_the_next(lab, 30, past=1)
    write(lab, source, 2)
    lab.clock.advance(seconds=45)
    seen = told(lab)
    assert seen[0] == (1, [], False)
    assert len(seen) > 4
    assert set(map(str, seen[1:])) == {str((0, ["1"], True))}
    rows = lab.invocations()
    assert list(rows["attempt"]) == [1, *range(1, len(rows))]
    result = lab.client("lambda").get_event_source_mapping(UUID=uuid)["LastProcessingResult"]
    assert result == "PROBLEM: Function call failed"
    heal(lab)
    lab.clock.advance(seconds=120)
    assert told(lab)[len(seen) :][-3:] == [(0, ["1"], True), (1, [], False), (0, ["2"], True)]
    result = lab.client("lambda").get_event_source_mapping(UUID=uuid)["LastProcessingResult"]
    assert result == "OK"


def test_a_limit_of_retries_holds_for_a_windows_end_too(lab, source):
    deploy(lab, "final")
    connect(lab, source, TumblingWindowInSeconds=30, MaximumRetryAttempts=2)
    write(lab, source, 1)
    lab.clock.advance(minutes=5)
    write(lab, source, 2)
    lab.clock.advance(minutes=5)
    assert [final for _, _, final in told(lab)] == [False, True, True, True] * 2
    assert told(lab)[4] == (1, [], False)


def test_a_limit_set_later_holds_for_a_windows_end_too(lab, source):
    deploy(lab, "final")
    uuid = connect(lab, source, TumblingWindowInSeconds=30)
    write(lab, source, 1)
    lab.clock.advance(minutes=5)
    lab.client("lambda").update_event_source_mapping(UUID=uuid, MaximumRetryAttempts=0)
    lab.clock.advance(minutes=2)
    before = len(lab.invocations())
    lab.clock.advance(minutes=30)
    assert len(lab.invocations()) == before


# -- the state ----------------------------------------------------------------------------------


def test_an_answer_without_a_state_is_a_failure(lab, source):
    deploy(lab, "stateless")
    uuid = connect(lab, source, TumblingWindowInSeconds=30)
    write(lab, source, 1)
    lab.clock.advance(seconds=20)
    rows = lab.invocations()
    assert list(rows["attempt"]) == list(range(1, len(rows) + 1))
    assert len(rows) > 3
    result = lab.client("lambda").get_event_source_mapping(UUID=uuid)["LastProcessingResult"]
    assert result == "PROBLEM: Function call failed"
    heal(lab)
    lab.clock.advance(minutes=3)
    assert told(lab)[len(rows) :][-2:] == [(1, [], False), (0, ["1"], True)]


def test_a_failed_batch_leaves_the_state_as_it_was(lab, source):
    deploy(lab, "2")
    connect(lab, source, TumblingWindowInSeconds=900, MaximumRetryAttempts=2)
    to_the_next(lab, 900, past=1)
    for number in range(4):
        write(lab, source, number)
        lab.clock.advance(seconds=30)
    to_the_next(lab, 900, past=5)
    assert told(lab) == [
        (1, [], False),
        (1, ["0"], False),
        *[(1, ["0", "1"], False)] * 4,
        (0, ["0", "1", "3"], True),
    ]


def test_reports_and_a_state_together(lab, source):
    """The state that comes with a report is that of the records that succeeded."""
    deploy(lab, "report 2")
    to_the_next(lab, 900, past=1)
    write(lab, source, 0, 1, 2, 3)
    connect(lab, source, TumblingWindowInSeconds=900, **REPORTS)
    lab.clock.advance(seconds=20)
    seen = told(lab)
    assert len(seen) > 3
    assert seen[0] == (4, [], False)
    assert set(map(str, seen[1:])) == {str((2, ["0", "1"], False))}
    assert list(lab.invocations()["outcome"]) == ["partial"] * len(seen)
    heal(lab)
    to_the_next(lab, 900, past=5)
    assert told(lab)[-2:] == [(2, ["0", "1"], False), (0, ["0", "1", "2", "3"], True)]


def test_a_report_without_a_state_fails_the_whole_batch(lab):
    arn = stream(lab)
    function(
        lab,
        """
        def handler(event, context):
            last = event["Records"][-1]["kinesis"]["sequenceNumber"]
            return {"batchItemFailures": [{"itemIdentifier": last}]}
    """,
    )
    send(lab, "1", "2", key="k")
    connect(lab, arn, TumblingWindowInSeconds=900, **REPORTS)
    lab.clock.advance(seconds=20)
    rows = lab.invocations()
    assert len(rows) > 3
    assert set(rows["batch_size"]) == {2}
    assert list(rows["attempt"]) == list(range(1, len(rows) + 1))


def test_a_bisected_batch_carries_its_state_from_part_to_part(lab, source):
    deploy(lab, "2")
    to_the_next(lab, 900, past=1)
    write(lab, source, 0, 1, 2, 3)
    connect(
        lab,
        source,
        TumblingWindowInSeconds=900,
        MaximumRetryAttempts=0,
        BisectBatchOnFunctionError=True,
    )
    to_the_next(lab, 900, past=5)
    assert told(lab) == [
        (4, [], False),
        (2, [], False),
        (2, ["0", "1"], False),
        (1, ["0", "1"], False),
        (1, ["0", "1"], False),
        (0, ["0", "1", "3"], True),
    ]


def test_a_state_above_a_megabyte_ends_its_window_early(lab):
    arn = stream(lab)
    deploy(lab)
    connect(lab, arn, TumblingWindowInSeconds=900)
    to_the_next(lab, 900, past=1)
    for name in ("1", "huge", "2", "3"):
        send(lab, name, key="k")
        lab.clock.advance(seconds=5)
    to_the_next(lab, 900, past=5)
    assert told(lab) == [
        (1, [], False),
        (1, ["1"], False),
        (0, ["1", "huge"], True),
        (1, [], False),
        (1, ["2"], False),
        (0, ["2", "3"], True),
    ]
    seen = events(lab)
    early = [each["isWindowTerminatedEarly"] for each in seen]
    assert early == [False, False, True, False, False, False]
    assert len({each["window"]["start"] for each in seen}) == 1, "the same window goes on"
    assert seen[2]["state"]["ballast"] == 1024 * 1024, "what was too large is handed over"


def test_a_state_that_grows_too_large_inside_a_batch_ends_its_window_there(lab):
    arn = stream(lab)
    deploy(lab, "report 2")
    to_the_next(lab, 900, past=1)
    send(lab, "huge", "2", "3", key="k")
    connect(lab, arn, TumblingWindowInSeconds=900, MaximumRetryAttempts=1, **REPORTS)
    to_the_next(lab, 900, past=5)
    assert told(lab) == [
        (3, [], False),
        (0, ["huge"], True),
        (2, [], False),
        (2, [], False),
        (0, [], True),
    ]
    assert list(lab.invocations()["attempt"]) == [1, 1, 1, 2, 1]


def test_a_state_takes_room_in_the_payload(lab):
    """Six megabytes hold the state and the records together."""
    arn = stream(lab)
    function(
        lab,
        """
        import json

        def handler(event, context):
            size = len(json.dumps(event, separators=(",", ":")))
            print("SIZE", size, len(event["Records"]))
            return {"state": {"ballast": "x" * 1_000_000}}
    """,
    )
    to_the_next(lab, 900, past=1)
    for _ in range(11):
        send(lab, "x" * 900_000, key="k")
    connect(lab, arn, TumblingWindowInSeconds=900)
    lab.clock.advance(seconds=20)
    logged = [line.split() for line in log_lines(lab) if line.startswith("SIZE")]
    assert [int(count) for _, _, count in logged] == [5, 4, 2]
    assert all(int(size) <= 6 * 1024 * 1024 for _, size, _ in logged)


# -- shards and lives ---------------------------------------------------------------------------


def test_children_begin_with_no_state():
    physics = lu.Physics(on_demand_partitions=1, child_discovery=(0, 0), **QUICK)
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = table(lab)
        deploy(lab)
        connect(lab, arn, TumblingWindowInSeconds=900)
        to_the_next(lab, 900, past=1)
        keys = [f"k{number}" for number in range(8)]

        def write_all(round_):
            for number, key in enumerate(keys):
                put(lab, key, round_ * 100 + number)
            lab.clock.advance(seconds=5)

        write_all(1)
        lab.split_partition("Source", int(lab.partitions("Source").index[0]))
        write_all(2)
        to_the_next(lab, 900, past=5)
        seen = events(lab)
        shards = list(dict.fromkeys(each["shardId"] for each in seen))
        assert len(shards) == 3
        final = {
            each["shardId"]: each["state"]["seen"]
            for each in seen
            if each["isFinalInvokeForWindow"]
        }
        assert sorted(final[shards[0]]) == [f"{100 + number}" for number in range(8)]
        both = final[shards[1]] + final[shards[2]]
        assert sorted(both) == [f"{200 + number}" for number in range(8)]
        last = max(place for place, each in enumerate(seen) if each["shardId"] == shards[0])
        first = min(place for place, each in enumerate(seen) if each["shardId"] != shards[0])
        assert seen[last]["isFinalInvokeForWindow"], "a shard's end ends its window"
        assert last < first, "before its children are read"
        starts = {each["window"]["start"] for each in seen}
        assert len(starts) == 1, "its children go on with the same window"


def test_a_state_is_kept_while_its_mapping_is_disabled(lab, source):
    deploy(lab)
    uuid = connect(lab, source, TumblingWindowInSeconds=900)
    functions = lab.client("lambda")
    to_the_next(lab, 900, past=1)
    write(lab, source, 1)
    lab.clock.advance(seconds=5)
    functions.update_event_source_mapping(UUID=uuid, Enabled=False)
    wait_for_state(lab, uuid, "Disabled")
    write(lab, source, 2)
    lab.clock.advance(seconds=60)
    functions.update_event_source_mapping(UUID=uuid, Enabled=True)
    lab.clock.advance(seconds=10)
    assert told(lab) == [(1, [], False), (1, ["1"], False)]


def test_a_window_that_ends_while_its_mapping_is_disabled_is_ended_later(lab, source):
    deploy(lab)
    uuid = connect(lab, source, TumblingWindowInSeconds=30)
    functions = lab.client("lambda")
    to_the_next(lab, 30, past=1)
    write(lab, source, 1)
    lab.clock.advance(seconds=5)
    functions.update_event_source_mapping(UUID=uuid, Enabled=False)
    wait_for_state(lab, uuid, "Disabled")
    lab.clock.advance(minutes=10)
    assert told(lab) == [(1, [], False)]
    write(lab, source, 2)
    functions.update_event_source_mapping(UUID=uuid, Enabled=True)
    lab.clock.advance(seconds=5)
    assert told(lab) == [(1, [], False), (0, ["1"], True), (1, [], False)]


def test_a_window_whose_end_fails_is_not_forgotten_when_its_mapping_is_disabled(lab, source):
    deploy(lab, "final")
    uuid = connect(lab, source, TumblingWindowInSeconds=30)
    functions = lab.client("lambda")
    to_the_next(lab, 30, past=1)
    write(lab, source, 1)
    lab.clock.advance(seconds=45)
    functions.update_event_source_mapping(UUID=uuid, Enabled=False)
    wait_for_state(lab, uuid, "Disabled")
    lab.clock.advance(minutes=5)
    heal(lab)
    tries = len(events(lab))
    functions.update_event_source_mapping(UUID=uuid, Enabled=True)
    lab.clock.advance(minutes=1)
    assert told(lab)[tries:] == [(0, ["1"], True)]


def test_another_length_begins_with_a_fresh_state(lab, source):
    deploy(lab)
    uuid = connect(lab, source, TumblingWindowInSeconds=900)
    to_the_next(lab, 900, past=1)
    write(lab, source, 1)
    lab.clock.advance(seconds=5)
    lab.client("lambda").update_event_source_mapping(UUID=uuid, TumblingWindowInSeconds=30)
    lab.clock.advance(seconds=5)
    to_the_next(lab, 30, past=1)
    write(lab, source, 2)
    lab.clock.advance(seconds=40)
    assert told(lab) == [(1, [], False), (1, [], False), (0, ["2"], True)]
    lab.client("lambda").update_event_source_mapping(UUID=uuid, TumblingWindowInSeconds=0)
    lab.clock.advance(seconds=5)
    assert len(lab.invocations()) == 3


def test_other_settings_leave_the_state_alone(lab, source):
    deploy(lab)
    uuid = connect(lab, source, TumblingWindowInSeconds=900)
    to_the_next(lab, 900, past=1)
    write(lab, source, 1)
    lab.clock.advance(seconds=5)
    lab.client("lambda").update_event_source_mapping(UUID=uuid, BatchSize=1)
    lab.clock.advance(seconds=5)
    write(lab, source, 2, 3)
    to_the_next(lab, 900, past=5)
    assert told(lab) == [
        (1, [], False),
        (1, ["1"], False),
        (1, ["1", "2"], False),
        (0, ["1", "2", "3"], True),
    ]


def test_throttles_and_a_missing_function_delay_a_windows_end_only(lab, source):
    deploy(lab)
    connect(lab, source, TumblingWindowInSeconds=30, MaximumRetryAttempts=0)
    functions = lab.client("lambda")
    to_the_next(lab, 30, past=1)
    write(lab, source, 1)
    lab.clock.advance(seconds=5)
    functions.put_function_concurrency(FunctionName="Worker", ReservedConcurrentExecutions=0)
    lab.clock.advance(minutes=3)
    assert told(lab) == [(1, [], False)]
    functions.delete_function_concurrency(FunctionName="Worker")
    lab.clock.advance(minutes=2)
    assert told(lab) == [(1, [], False), (0, ["1"], True)]
    write(lab, source, 2)
    lab.clock.advance(seconds=2)
    functions.delete_function(FunctionName="Worker")
    lab.clock.advance(minutes=3)
    deploy(lab)
    lab.clock.advance(minutes=2)
    assert told(lab)[-2:] == [(1, [], False), (0, ["2"], True)]


def test_windows_and_several_lanes_together_are_not_modelled(lab, source):
    deploy(lab)
    request = {"EventSourceArn": source, "FunctionName": "Worker", "StartingPosition": "LATEST"}
    with pytest.raises(ClientError) as caught:
        lab.client("lambda").create_event_source_mapping(
            **request, TumblingWindowInSeconds=30, ParallelizationFactor=2
        )
    assert code_of(caught) == (501, "NotImplemented")
    uuid = connect(lab, source, TumblingWindowInSeconds=30)
    with pytest.raises(ClientError) as caught:
        lab.client("lambda").update_event_source_mapping(UUID=uuid, ParallelizationFactor=2)
    assert code_of(caught) == (501, "NotImplemented")


# -- whatever happens ---------------------------------------------------------------------------

DIARY = """
    import json, os, random, time

    def handler(event, context):
        time.sleep(random.random())
        if random.random() < float(os.environ["FAIL"]):
            raise ValueError("a bad mood")
        seen = event["state"].get("seen", [])
        start = event["window"]["start"]
        if event["isFinalInvokeForWindow"]:
            print("WINDOW", json.dumps([time.time(), event["shardId"], start, seen]))
            return None
        for record in event["Records"]:
            change = record["dynamodb"]
            name = change["NewImage"]["id"]["S"], int(change["NewImage"]["value"]["N"])
            seen.append([*name, change["ApproximateCreationDateTime"]])
        print("BATCH", json.dumps([time.time(), event["shardId"], start, len(event["Records"])]))
        return {"state": {"seen": seen}}
"""

STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 6)),
    st.tuples(st.just("write"), st.integers(1, 6)),
    st.tuples(st.just("wait"), st.integers(1, 30)),
    st.tuples(st.just("fail"), st.sampled_from(["0", "0.5", "1"])),
    st.tuples(st.just("reserve"), st.sampled_from([0, 1, 900])),
    st.tuples(st.just("split"), st.integers(0, 20)),
    st.tuples(st.just("update"), st.fixed_dictionaries({"Enabled": st.booleans()})),
    st.tuples(st.just("update"), st.fixed_dictionaries({"BatchSize": st.integers(1, 5)})),
)


@settings(
    max_examples=15,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    steps=st.lists(STEP, min_size=5, max_size=25),
    length=st.sampled_from([10, 45]),
    batching=st.sampled_from([0, 5]),
    seed=st.integers(0, 3),
)
def test_every_record_is_seen_once_and_by_the_end_of_its_own_window(steps, length, batching, seed):
    physics = lu.Physics(on_demand_partitions=1, rollover=(40, 80), retry_ceiling=10, **QUICK)
    with lu.open_lab("embedded", seed=seed, physics=physics) as lab:
        functions, arn, written = lab.client("lambda"), table(lab), 0
        function(lab, DIARY, environment={"FAIL": "0"}, timeout=60)
        uuid = connect(
            lab,
            arn,
            TumblingWindowInSeconds=length,
            MaximumBatchingWindowInSeconds=batching,
            BatchSize=3,
        )
        for kind, what in [*steps, ("fail", "0"), ("reserve", 900), ("update", {"Enabled": True})]:
            if kind == "write":
                for _ in range(what):
                    put(lab, f"k{written % 4}", written)
                    written += 1
            elif kind == "wait":
                lab.clock.advance(seconds=what)
            elif kind == "fail":
                functions.update_function_configuration(
                    FunctionName="Worker", Environment={"Variables": {"FAIL": what}}
                )
            elif kind == "reserve":
                functions.put_function_concurrency(
                    FunctionName="Worker", ReservedConcurrentExecutions=what
                )
            elif kind == "split":
                ids = list(lab.partitions("Source").index)
                lab.split_partition("Source", int(ids[what % len(ids)]))
            else:
                lab.wait_until(lambda: settled(lab, uuid), timeout=60)
                functions.update_event_source_mapping(UUID=uuid, **what)
        lab.clock.advance(minutes=6)
        check_windows(lab, length, written)


def settled(lab, uuid):
    state = lab.client("lambda").get_event_source_mapping(UUID=uuid)["State"]
    return state in ("Enabled", "Disabled")


def check_windows(lab, length, written):
    if not written:
        assert lab.invocations().empty
        return
    lines = [line.partition(" ") for line in log_lines(lab)]
    ends = sorted(json.loads(text) for kind, _, text in lines if kind == "WINDOW")
    batches = sorted(json.loads(text) for kind, _, text in lines if kind == "BATCH")
    seen = [record for *_, records in ends for record in records]
    assert sorted(number for _, number, _ in seen) == list(range(written))
    for key in {key for key, *_ in seen}:
        mine = [number for other, number, _ in seen if other == key]
        assert mine == sorted(mine), "from parent to child, too"
    for _, _, start, records in ends:
        assert seconds(start) % length == 0
        assert all(0 <= at - seconds(start) < length for *_, at in records)
    last_windows = {}
    for _, shard, start, *_ in sorted([*ends, *batches], key=lambda event: event[0]):
        assert last_windows.get(shard, "") <= start, "one after the other"
        last_windows[shard] = start
    finished = [(shard, start) for _, shard, start, _ in ends]
    assert len(set(finished)) == len(finished), "a window ends once"
