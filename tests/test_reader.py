"""StreamReader: what it promises, one by one. Random histories are in test_reader_histories."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from botocore.exceptions import ClientError

import lab_utils as lu
from lab_utils import reader as reading
from lab_utils.sources import BUSY_WAITS

FOUR_HOURS = 4 * 3600.0


class Changes:
    """A table with a stream, and what was written to it."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.dynamodb, self.streams = lab.clients("dynamodb", "dynamodbstreams")
        made = self.dynamodb.create_table(
            TableName="Changes",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )
        self.arn = str(made["TableDescription"]["LatestStreamArn"])
        self.written: list[int] = []

    def write(self, times: int, key: str | None = None) -> list[int]:
        """Write so many numbers, to one key or to eight in turn; the numbers."""
        numbers = list(range(len(self.written), len(self.written) + times))
        for number in numbers:
            item = {"id": {"S": key or f"key {number % 8}"}, "n": {"N": str(number)}}
            self.dynamodb.put_item(TableName="Changes", Item=item)
        self.written += numbers
        return numbers

    def reader(self, *arguments: Any, **options: Any) -> lu.StreamReader:
        return lu.StreamReader(self.streams, self.arn, *arguments, **options)

    def disable(self) -> None:
        self.dynamodb.update_table(
            TableName="Changes", StreamSpecification={"StreamEnabled": False}
        )


def opened(**physics: Any) -> Iterator[Changes]:
    with lu.open_lab("embedded", physics=lu.Physics(**physics)) as lab:
        yield Changes(lab)


@pytest.fixture
def changes() -> Iterator[Changes]:
    yield from opened(rollover=(FOUR_HOURS, FOUR_HOURS))


@pytest.fixture
def lagging() -> Iterator[Changes]:
    yield from opened(rollover=(FOUR_HOURS, FOUR_HOURS), listing_lag=(20.0, 60.0))


def numbers(records: Any) -> list[int]:
    return [int(record["dynamodb"]["NewImage"]["n"]["N"]) for record in records]


class Calls:
    """Counts a client's calls by operation, and can answer some of them itself."""

    def __init__(self, client: Any) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []
        client.meta.events.register("before-parameter-build", self.note)

    def note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.made.append((model.name, dict(params)))

    def of(self, operation: str) -> list[dict[str, Any]]:
        return [params for name, params in self.made if name == operation]


# -- what is handed out ------------------------------------------------------------------------


def test_records_are_what_get_records_returned(changes: Changes) -> None:
    changes.write(8)
    records = list(changes.reader())
    shards = changes.streams.describe_stream(StreamArn=changes.arn)["StreamDescription"]["Shards"]
    plain = []
    for shard in shards:
        iterator = changes.streams.get_shard_iterator(
            StreamArn=changes.arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        plain += changes.streams.get_records(ShardIterator=iterator)["Records"]
    assert records == plain
    assert len(records) == 8


def test_parents_come_before_children_and_each_key_keeps_its_order(changes: Changes) -> None:
    for _ in range(3):
        changes.write(16)
        changes.lab.split_partition("Changes", int(changes.lab.partitions("Changes").index[0]))
        changes.write(16)
        changes.lab.clock.advance(hours=4.5)
    got = numbers(changes.reader())
    assert sorted(got) == changes.written
    assert got != changes.written
    for key in range(8):
        assert [n for n in got if n % 8 == key] == [n for n in changes.written if n % 8 == key]


def test_a_child_is_not_asked_for_before_its_parent_is_read(changes: Changes) -> None:
    changes.write(8)
    changes.lab.clock.advance(hours=5)
    changes.write(8)
    calls = Calls(changes.streams)
    lineage = lu.read_lineage(changes.streams, changes.arn)
    list(changes.reader())
    begun = [params["ShardId"] for params in calls.of("GetShardIterator")]
    assert sorted(begun) == sorted([*lineage.open_shards, *lineage.closed_shards])
    for parent, child in lineage.graph.edges:
        assert begun.index(parent) < begun.index(child)


def test_shards_take_turns_page_by_page(changes: Changes) -> None:
    changes.write(80)
    order = [
        record["dynamodb"]["NewImage"]["id"]["S"] for record in islice(changes.reader(limit=2), 16)
    ]
    assert len(set(order)) > 2
    assert len({tuple(order[start : start + 2]) for start in range(0, 16, 2)}) > 2


def test_reading_again_brings_what_is_new_only(changes: Changes) -> None:
    reader = changes.reader()
    assert list(reader) == []
    first = changes.write(10)
    assert sorted(numbers(reader)) == first
    changes.lab.clock.advance(hours=9)
    second = changes.write(10)
    assert sorted(numbers(reader)) == second
    assert list(reader) == []


def test_after_a_break_it_goes_on_behind_the_last_record(changes: Changes) -> None:
    changes.write(30)
    reader, got = changes.reader(limit=4), []
    for record in reader:
        got += numbers([record])
        if len(got) == 5:
            break
    got += numbers(islice(reader, 1))
    changes.lab.clock.advance(hours=5)
    changes.write(5)
    got += numbers(reader)
    assert sorted(got) == changes.written


def test_empty_answers_are_crossed_before_an_open_shard_counts_as_read(changes: Changes) -> None:
    calls = Calls(changes.streams)
    list(changes.reader())
    assert len(calls.of("GetRecords")) == 4 * reading.EMPTY_ANSWERS


# -- where it begins ---------------------------------------------------------------------------


def test_latest_is_fixed_when_the_reader_is_made(changes: Changes) -> None:
    changes.write(10)
    reader = changes.reader("LATEST")
    new = changes.write(10)
    assert sorted(numbers(reader)) == new


def test_latest_outlives_its_iterators_and_its_shards(changes: Changes) -> None:
    changes.write(10)
    changes.lab.clock.advance(seconds=2)
    reader = changes.reader("LATEST")
    checkpoint = reader.checkpoint()
    new = changes.write(3)
    changes.lab.clock.advance(hours=9)
    new += changes.write(10)
    assert sorted(numbers(reader)) == new
    assert sorted(numbers(changes.reader(checkpoint=checkpoint))) == new


def test_a_time_needs_a_boto3_that_knows_it(changes: Changes) -> None:
    now = changes.lab.clock.now()
    with pytest.raises(lu.LabError, match=r"boto3 1\.\d+.*update it"):
        changes.reader(now)


# -- checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [0, 1, 7, 19, 40])
def test_a_checkpoint_resumes_behind_the_last_record(changes: Changes, taken: int) -> None:
    changes.write(20)
    changes.lab.clock.advance(hours=5)
    changes.write(20)
    first = changes.reader(limit=3)
    got = numbers(islice(first, taken))
    second = changes.reader(checkpoint=first.checkpoint())
    rest = numbers(second)
    assert sorted(got + rest) == changes.written
    assert list(changes.reader(checkpoint=second.checkpoint())) == []


def test_a_checkpoint_does_not_grow(changes: Changes) -> None:
    reader, sizes = changes.reader(), []
    for _ in range(10):
        changes.write(4)
        changes.lab.clock.advance(hours=4)
        list(reader)
        sizes.append(len(json.loads(reader.checkpoint())["shards"]))
    assert sizes == [4] * 10


def test_the_same_history_gives_the_same_checkpoint() -> None:
    def play() -> tuple[str, list[int]]:
        with lu.open_lab("embedded") as lab:
            changes = Changes(lab)
            changes.write(20)
            lab.clock.advance(hours=13)
            changes.write(20)
            reader = changes.reader(limit=3)
            got = numbers(islice(reader, 33))
            return reader.checkpoint(), got

    assert play() == play()


def of(checkpoint: str, **changed: Any) -> str:
    return json.dumps(json.loads(checkpoint) | changed)


def test_bad_checkpoints_are_refused_in_a_sentence(changes: Changes) -> None:
    changes.write(10)
    reader = changes.reader()
    list(reader)
    good = reader.checkpoint()
    shard = next(iter(json.loads(good)["shards"]))
    young = f"shardId-{int(changes.lab.clock.now().timestamp() * 1000):020d}-0badcafe"
    calls = Calls(changes.streams)
    bad: list[tuple[Any, str]] = [
        ("", "cut short"),
        (good[:-9], "cut short"),
        (17, "cut short"),
        ("[]", "not what"),
        ('{"version":1}', "not what"),
        (of(good, version=2), "version is 2"),
        (of(good, stream=changes.arn + "9"), "another stream"),
        (of(good, shards=[shard]), "no object"),
        (of(good, shards={shard: 5}), "says 5"),
        (of(good, shards={shard: "AFTER"}), "says 'AFTER'"),
        (of(good, shards={shard: "AFTER -1"}), "says 'AFTER -1'"),
        (of(good, shards={shard: "BEFORE 1"}), "says 'BEFORE 1'"),
        (of(good, shards={shard: "AFTER 1"}), "no record 1"),
        (of(good, shards={shard: "AFTER " + "9" * 41}), "no record 9999"),
        (of(good, shards={shard: "SINCE 99999999999"}), "a moment in the future"),
        (of(good, shards={"shardId-\n": "START"}), "of shard 'shardId-"),
        ("[" * 100_000, "cut short"),
        (of(good, shards={young: "START"}), "never was there"),
        (of(good, shards={"x": "START"}), "says 'START' of shard 'x'"),
        (of(good, shards={"shard-0": "AFTER 1"}), "of shard 'shard-0'"),
    ]
    for checkpoint, words in bad:
        with pytest.raises(lu.LabError, match=words) as refused:
            changes.reader(checkpoint=checkpoint)
        assert "give the text that checkpoint()" in str(refused.value)
        assert "\n" not in str(refused.value)
    assert calls.of("GetRecords") == calls.of("GetShardIterator") == []


def test_a_checkpoint_of_shards_that_went_within_this_second_is_good(changes: Changes) -> None:
    changes.write(8)
    checkpoint = changes.reader().checkpoint()
    for partition in range(4):
        changes.lab.split_partition("Changes", partition)
    changes.lab.clock.advance(hours=24)
    resumed = changes.reader(checkpoint=checkpoint)
    assert len(resumed.gaps) == 4


# -- what goes wrong on the way ----------------------------------------------------------------


def test_an_iterator_that_expires_is_replaced(changes: Changes) -> None:
    changes.write(30)
    reader, got = changes.reader(limit=2), []
    for record in reader:
        got += numbers([record])
        changes.lab.clock.advance(minutes=20)
    assert sorted(got) == changes.written


def test_busy_answers_are_waited_out(changes: Changes) -> None:
    changes.write(400, key="one")
    begun = changes.lab.clock.now()
    got = numbers(changes.reader(limit=1))
    assert got == changes.written
    spent = (changes.lab.clock.now() - begun).total_seconds()
    assert spent > 5, "300 calls are free, then there are ten a second"


def test_a_service_that_stays_busy_is_named() -> None:
    with lu.open_lab(
        "embedded", physics=lu.Physics(shard_read_rate=0.001, shard_read_burst=1.0)
    ) as lab:
        changes = Changes(lab)
        changes.write(1)
        begun = lab.clock.now()
        with pytest.raises(lu.LabError, match="LimitExceededException for a minute"):
            list(changes.reader())
        assert (lab.clock.now() - begun).total_seconds() > sum(BUSY_WAITS)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("AccessDeniedException", lu.LabError, "Reading the stream was refused.*not GetRecords"),
        ("ExpiredTokenException", lu.LabError, "your credentials have expired"),
        ("SomethingNobodyKnows", ClientError, "SomethingNobodyKnows"),
    ],
)
def test_other_errors_are_not_hidden(
    changes: Changes, code: str, error: type[Exception], words: str
) -> None:
    changes.write(1)
    reader = changes.reader()

    def refuse(params: dict[str, Any], **_: Any) -> None:
        raise ClientError({"Error": {"Code": code}}, "GetRecords")

    event = "before-parameter-build.dynamodb-streams.GetRecords"
    changes.streams.meta.events.register(event, refuse)
    with pytest.raises(error, match=words):
        list(reader)
    changes.streams.meta.events.unregister(event, refuse)
    assert numbers(reader) == [0]


# -- gaps --------------------------------------------------------------------------------------


def test_a_late_reader_is_told_of_trimmed_records(changes: Changes) -> None:
    changes.write(8, key="one")
    reader = changes.reader()
    assert numbers(islice(reader, 3)) == [0, 1, 2]
    checkpoint = reader.checkpoint()
    changes.lab.clock.advance(hours=2)
    late = changes.write(2, key="one")
    changes.lab.clock.advance(hours=23)
    resumed = changes.reader(checkpoint=checkpoint)
    with pytest.warns(lu.TrimmedRecordsWarning, match="records were trimmed before they were"):
        assert numbers(resumed) == late
    gap = resumed.gaps[0]
    assert gap.after in checkpoint
    assert f"{gap.shard}" in checkpoint
    assert str(gap) == (
        f"Shard {gap.shard}, after {gap.after}: records were trimmed before they were read."
    )


def test_a_pause_before_the_first_record_skips_nothing_in_silence(changes: Changes) -> None:
    """The latest answer, which tells the time, is older than the pause."""
    changes.lab.clock.advance(minutes=30)
    for number in range(16):
        changes.write(1, key=f"early {number}")
    changes.lab.clock.advance(hours=3)
    kept = changes.write(8)
    changes.lab.clock.advance(hours=20.3)
    reader = changes.reader()
    oldest = sorted(json.loads(reader.checkpoint())["shards"])
    changes.lab.clock.advance(hours=2)
    with pytest.warns(lu.TrimmedRecordsWarning):
        assert sorted(numbers(reader)) == kept
    assert [gap.shard for gap in reader.gaps] == oldest


def test_a_pause_of_a_day_to_the_second_skips_nothing_in_silence(changes: Changes) -> None:
    """Written in the second in which LATEST was asked for, and trimmed in the same, a day later."""
    reader = changes.reader("LATEST")
    list(reader)
    begun = changes.lab.clock.now().replace(microsecond=0)
    changes.write(8, key="one")
    changes.lab.clock.advance(hours=24)
    with pytest.warns(lu.TrimmedRecordsWarning, match="records were trimmed before they were"):
        assert list(reader) == []
    assert len(reader.gaps) == 1
    assert changes.lab.clock.now() - begun < timedelta(hours=24, seconds=2)


def test_records_that_go_while_they_are_asked_for_are_one_gap(changes: Changes) -> None:
    begun = changes.lab.clock.now()
    changes.write(1000, key="one")
    spent = changes.lab.clock.now() - begun
    changes.lab.clock.advance(hours=24, seconds=1 - spent.total_seconds())
    reader = changes.reader()
    with pytest.warns(lu.TrimmedRecordsWarning) as told:
        got = numbers(reader)
    assert got == changes.written[len(changes.written) - len(got) :]
    assert len(told) == len(reader.gaps) == 1


def test_a_shard_that_is_gone_is_reported(changes: Changes) -> None:
    changes.write(8)
    reader = changes.reader()
    list(reader)
    begun = list(json.loads(reader.checkpoint())["shards"])
    changes.lab.clock.advance(hours=50)
    new = changes.write(8)
    with pytest.warns(lu.TrimmedRecordsWarning) as told:
        assert sorted(numbers(reader)) == new
    assert sorted(gap.shard for gap in reader.gaps) == sorted(begun)
    assert {each.filename for each in told} == {"StreamReader"}, "no path of this machine"


def test_gaps_can_be_raised_and_reading_goes_on_behind_them(changes: Changes) -> None:
    changes.write(8)
    reader = changes.reader(on_gap="raise")
    list(reader)
    changes.lab.clock.advance(hours=50)
    new = changes.write(8)
    with pytest.raises(lu.TrimmedRecords, match="Iterate again to read on"):
        list(reader)
    assert sorted(numbers(reader)) == new
    assert len(reader.gaps) == 4


def test_what_was_trimmed_before_the_reader_began_is_no_gap(changes: Changes) -> None:
    changes.write(8)
    changes.lab.clock.advance(hours=3)
    changes.write(8)
    changes.lab.clock.advance(hours=22)
    new = changes.write(8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader = changes.reader()
        got = numbers(reader)
    assert sorted(got) == [*range(8, 16), *new]
    assert reader.gaps == []


def test_a_child_that_was_never_known_and_is_gone_is_a_gap(lagging: Changes) -> None:
    lagging.lab.clock.advance(minutes=2)
    reader = lagging.reader()
    list(reader)
    lagging.lab.clock.advance(hours=3.97)
    lagging.write(8)
    shards = json.loads(reader.checkpoint())["shards"]
    ended = dict.fromkeys(shards, "END")
    checkpoint = of(reader.checkpoint(), shards=ended)
    lagging.lab.clock.advance(hours=60)
    late = lagging.reader(checkpoint=checkpoint)
    with pytest.warns(lu.TrimmedRecordsWarning, match="children were trimmed before they were kn"):
        list(late)
    assert sorted(gap.shard for gap in late.gaps) == sorted(shards)


# -- a listing that lags -----------------------------------------------------------------------


def test_children_that_are_not_listed_yet_are_waited_for(lagging: Changes) -> None:
    lagging.lab.clock.advance(minutes=2)
    reader = lagging.reader()
    first = lagging.write(8)
    assert sorted(numbers(reader)) == first
    lagging.lab.split_partition("Changes", 0)
    second = lagging.write(8)
    calls = Calls(lagging.streams)
    assert sorted(numbers(reader)) == second
    filters = [each["ShardFilter"] for each in calls.of("DescribeStream") if "ShardFilter" in each]
    (split,) = {each["ShardId"] for each in filters}
    assert {each["Type"] for each in filters} == {"CHILD_SHARDS"}
    assert lu.read_lineage(lagging.streams, lagging.arn).graph.out_degree(split) == 2
    assert reader.gaps == []


def test_a_child_that_is_listed_before_its_parent_waits_for_it() -> None:
    with lu.open_lab("embedded", physics=lu.Physics(listing_lag=(0.0, 60.0))) as lab:
        changes = Changes(lab)
        changes.write(8)
        for partition in range(4):
            lab.split_partition("Changes", partition)
        changes.write(8)
        lab.clock.advance(seconds=30)
        listed = changes.streams.describe_stream(StreamArn=changes.arn)["StreamDescription"]
        ids = {shard["ShardId"] for shard in listed["Shards"]}
        parents = {each["ParentShardId"] for each in listed["Shards"] if "ParentShardId" in each}
        assert parents - ids, "the situation that this test is about"
        reader = changes.reader()
        got = numbers(reader)
        lab.clock.advance(minutes=1)
        got += numbers(reader)
        for key in range(8):
            mine = [n for n in got if n % 8 == key]
            assert mine == sorted(mine)
        assert sorted(got) == changes.written
        assert reader.gaps == []


# -- following ---------------------------------------------------------------------------------


def test_following_moves_the_world_and_never_spins(changes: Changes) -> None:
    changes.write(4)
    reader = changes.reader(follow=True, poll_interval=2.0)
    assert sorted(numbers(islice(reader, 4))) == [0, 1, 2, 3]
    begun, calls = changes.lab.clock.now(), Calls(changes.streams)
    wanted = begun + timedelta(hours=1)

    changes.lab._target.world.scheduler.after(
        3600 * 10**6, lambda: _write_behind_the_scenes(changes)
    )
    assert numbers(islice(reader, 1)) == [99]
    assert changes.lab.clock.now() - wanted < timedelta(seconds=17)
    rounds = 3600 / (2.0 * reading.SLOWEST)
    assert len(calls.of("GetRecords")) < 4 * rounds * 1.2


def _write_behind_the_scenes(changes: Changes) -> None:
    world = changes.lab._target.world
    body = {"TableName": "Changes", "Item": {"id": {"S": "late"}, "n": {"N": "99"}}}
    headers = {"x-amz-target": "DynamoDB_20120810.PutItem"}
    dynamodb = world.region("us-east-1").dynamodb
    for change in world.backing.write("us-east-1", headers, json.dumps(body).encode())[1]:
        dynamodb._record(change)


def test_following_ends_with_the_stream(changes: Changes) -> None:
    changes.write(8)
    changes.disable()
    assert sorted(numbers(changes.reader(follow=True))) == changes.written


def test_the_end_of_a_stream_of_one_shard_is_not_waited_for() -> None:
    with lu.open_lab("embedded", physics=lu.Physics(on_demand_partitions=1)) as lab:
        changes = Changes(lab)
        changes.write(8)
        reader = changes.reader()
        changes.disable()
        asked = lab.clock.now()
        assert numbers(reader) == changes.written
        assert (lab.clock.now() - asked).total_seconds() < 1


def test_a_disabled_stream_is_read_to_its_end_and_once(changes: Changes) -> None:
    changes.write(8)
    changes.disable()
    reader = changes.reader()
    assert sorted(numbers(reader)) == changes.written
    assert list(changes.reader(checkpoint=reader.checkpoint())) == []
    changes.lab.clock.advance(hours=30)
    assert list(reader) == []
    assert reader.gaps == []


# -- Kinesis -----------------------------------------------------------------------------------


def test_kinesis_is_read_by_the_same_reader(lab: Any) -> None:
    kinesis = lab.client("kinesis")
    kinesis.create_stream(StreamName="numbers", ShardCount=3)
    reader = lu.StreamReader(kinesis, "numbers", limit=5)
    late = lu.StreamReader(kinesis, "numbers", "LATEST")

    def put(first: int, last: int) -> None:
        for number in range(first, last):
            kinesis.put_record(
                StreamName="numbers", PartitionKey=f"key {number % 8}", Data=str(number).encode()
            )

    def got(reader: Any) -> list[int]:
        return [int(record["Data"]) for record in reader]

    put(0, 20)
    first = got(islice(reader, 7))
    arn = kinesis.describe_stream_summary(StreamName="numbers")["StreamDescriptionSummary"]
    resumed = lu.StreamReader(kinesis, arn["StreamARN"], checkpoint=reader.checkpoint())
    assert sorted(first + got(resumed)) == list(range(20))
    lab.clock.advance(hours=1)
    put(20, 30)
    assert sorted(got(resumed)) == list(range(20, 30))
    assert sorted(got(late)) == list(range(30))


# -- bad input ---------------------------------------------------------------------------------


def test_bad_input_names_the_remedy(changes: Changes) -> None:
    def make(*arguments: Any, **options: Any) -> Any:
        return lambda: lu.StreamReader(*arguments, **options)

    streams, arn = changes.streams, changes.arn
    tomorrow = changes.lab.clock.now() + timedelta(days=1)
    kinesis = changes.lab.client("kinesis")
    kinesis.create_stream(StreamName="numbers", ShardCount=1)
    for act, words in (
        (make(changes.lab.client("sqs"), arn), "not sqs: get one with"),
        (make("client", arn), "not str: get one with"),
        (make(streams, ""), "give its ARN"),
        (make(streams, None), "give its ARN"),
        (make(streams, "arn:aws:x"), "names no stream: take the LatestStreamArn"),
        (make(streams, "arn:aws:dynamodb:us-east-1:1:no-table-at-all"), "names no stream"),
        (make(streams, arn[:-1] + "9"), "There is no stream .* from the same lab"),
        (make(kinesis, arn), "names no stream: give the name"),
        (make(kinesis, "absent"), "There is no stream absent here: give the name"),
        (make(streams, arn, "OLDEST"), '"TRIM_HORIZON", "LATEST" or a datetime'),
        (make(streams, arn, datetime(2026, 1, 5, 9)), "no time zone"),
        (make(kinesis, "numbers", tomorrow), "lies in the future"),
        (make(streams, arn, limit=0), "from 1 to 1,000"),
        (make(streams, arn, limit=1001), "from 1 to 1,000"),
        (make(streams, arn, limit=True), "from 1 to 1,000"),
        (make(streams, arn, poll_interval=0), "more than zero"),
        (make(streams, arn, poll_interval="1"), "more than zero"),
        (make(streams, arn, on_gap="ignore"), '"report" or "raise"'),
    ):
        with pytest.raises(lu.LabError, match=words) as refused:
            act()
        assert "\n" not in str(refused.value)


def test_a_reader_says_what_it_is(changes: Changes) -> None:
    reader = changes.reader()
    assert repr(reader) == f"<reader of {changes.arn}, 4 shards begun, 0 gaps>"


# -- elsewhere ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_reader_on_another_target(elsewhere: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("LAB_TARGET", "localstack")
    monkeypatch.setenv("AWS_ENDPOINT_URL", elsewhere)
    with lu.open_lab() as lab:
        changes = Changes(lab)
        late = changes.reader("LATEST")
        reader = changes.reader(limit=3)
        first = changes.write(10)
        got = numbers(islice(reader, 4))
        resumed = changes.reader(checkpoint=reader.checkpoint())
        assert got + numbers(resumed) == first
        second = changes.write(5)
        assert numbers(resumed) == second
        assert numbers(late) == first + second
        assert lu.read_lineage(changes.streams, changes.arn).open_shards
        before = datetime.now(UTC)
        following = changes.reader(follow=True, poll_interval=0.05, checkpoint=reader.checkpoint())
        assert numbers(islice(following, 11)) == (first + second)[4:]
        assert datetime.now(UTC) - before < timedelta(seconds=60)
