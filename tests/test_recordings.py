"""Recordings of a table's stream: what they hold, what they tell, and that nothing breaks them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st
from running import ROOT, table

import lab_utils as lu
from lab_utils import frames
from lab_utils.emulator.shards import Shard
from lab_utils.errors import LabError
from lab_utils.lab import Lab
from lab_utils.recordings import NOT_YET, Recording, read_recording, recording_in

FOLDER = ROOT / "book" / "recordings"
MODEL = FOLDER / "the-model.jsonl"
MINUTE, HOUR = 60.0, 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.jsonl"


def record(lab: Lab, arn: str, path: Path, **options: Any) -> Recording:
    return lu.record_stream(lab.client("dynamodbstreams"), arn, path, **options)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def instant(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


# --- the model's own recording ----------------------------------------------------------------


def record_the_model(path: Path) -> Recording:
    """A day of a table of four partitions, of which one splits in the tenth hour.

    Where the model has changed on purpose: remove the file, and call this with `MODEL`.
    """
    with lu.open_lab("embedded", seed=3) as lab:
        arn = table(lab)
        lab.clock.advance(hours=30)
        record(lab, arn, path, every=300, hours=10)
        lab.split_partition("Source", 2)
        return record(lab, arn, path, every=300, hours=24)


def test_the_book_holds_a_recording_of_the_model(path: Path) -> None:
    recording = record_the_model(path)
    assert path.read_bytes() == MODEL.read_bytes()
    assert (recording.target, recording.missed) == ("embedded", ())
    assert recording.hours == pytest.approx(24, abs=0.01)
    assert len(recording.lineage.open_shards) == 5


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.jsonl")), ids=lambda file: file.name)
def test_every_recording_of_the_book_can_be_read(file: Path) -> None:
    recording = read_recording(file)
    assert recording.hours >= 23
    assert recording.target in ("aws", "embedded")
    assert not recording.lifetimes.empty
    named = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"`{file.name}`" in named


# --- what a recording tells -------------------------------------------------------------------


def test_a_shard_lived_between_the_looks_that_tell_of_it(lab: Lab, path: Path) -> None:
    arn = table(lab)
    lab.clock.advance(hours=30)
    frame = record(lab, arn, path, every=600, hours=28).lifetimes
    seen = frame[frame.opened_after.notna()]
    assert len(seen) >= 4 * 5
    assert (seen.opened_after < seen.born).all()
    assert (seen.born < seen.opened_before).all()
    assert (seen.opened_before - seen.opened_after <= timedelta(seconds=603)).all()
    closed = frame[frame.closed_after.notna() & frame.closed_before.notna()]
    at_least = (closed.closed_after - closed.opened_before).dropna()
    assert (at_least <= timedelta(hours=4.5)).all()
    gone = frame[frame.gone_before.notna() & frame.closed_after.notna()]
    assert not gone.empty, "whoever ended in the first hours goes within the 28"
    assert (gone.gone_before - gone.closed_after >= timedelta(hours=24)).all()
    assert (gone.gone_after - gone.closed_before <= timedelta(hours=24)).all()


def test_what_had_not_happened_has_no_end(lab: Lab, path: Path) -> None:
    recording = record(lab, table(lab), path, hours=1)
    frame = recording.lifetimes
    assert list(frame.columns) == [
        "shard", "parent", "opened_after", "opened_before", "closed_after", "closed_before",
        "gone_after", "gone_before", "children", "born",
    ]  # fmt: skip
    assert frame.opened_after.isna().all(), "all of them were there at the first look"
    assert frame.closed_before.isna().all()
    assert frame.gone_before.isna().all()
    assert (frame.closed_after == recording.looks[-1].earliest).all()
    assert frame.parent.isna().all()
    assert frame.children.sum() == 0


def test_the_lineage_of_a_recording_is_that_of_all_shards_ever_seen(lab: Lab, path: Path) -> None:
    arn = table(lab)
    record(lab, arn, path, hours=6)
    lab.split_partition("Source", 2)
    recording = record(lab, arn, path, hours=40)
    now = lu.read_lineage(lab.client("dynamodbstreams"), arn)
    lineage = recording.lineage
    assert lineage.open_shards == now.open_shards
    assert lineage.closed_shards == now.closed_shards
    assert set(lineage.trimmed) > set(now.trimmed)
    for shard in now.open_shards + now.closed_shards:
        node = lineage.graph.nodes[shard]
        assert now.graph.nodes[shard].items() <= node.items()
        assert node["opened"].after is None or node["opened"].after < node["started"]
    gone = [node for _, node in lineage.graph.nodes.items() if node["state"] == "trimmed"]
    assert all(node["gone"].before is not None and node["starting"] for node in gone)
    (parent,) = [shard for shard, many in lineage.graph.out_degree() if many == 2]
    frame = recording.lifetimes.set_index("shard")
    assert frame.children[parent] == 2
    assert set(frame.index[frame.parent == parent]) == set(lineage.graph.succ[parent])


def test_snapshots_are_the_listings(lab: Lab, path: Path) -> None:
    arn, streams = table(lab), lab.client("dynamodbstreams")
    seen = []
    for hours in (0.1, 9, 18, 30):
        record(lab, arn, path, every=360, hours=hours)
        listed = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        seen.append({shard["ShardId"] for shard in listed})
    recording = read_recording(path)
    assert seen[-1] == set(recording.snapshots[-1].shards)
    assert [len(snapshot.shards) for snapshot in recording.snapshots] == [
        look.listed for look in recording.looks
    ]
    assert recording.snapshots[0].age < timedelta(minutes=1)
    assert recording.snapshots[-1].age > timedelta(hours=30)
    assert all(snapshot.pages == 1 and snapshot.enabled for snapshot in recording.snapshots)


def test_who_looks_too_seldom_sees_parents_by_name_only(path: Path) -> None:
    with lu.open_lab("embedded", physics=lu.Physics(rollover=(HOUR, HOUR), retention=HOUR)) as lab:
        recording = record(lab, table(lab), path, every=5 * HOUR, hours=15)
    lineage = recording.lineage
    unseen = [shard for shard, node in lineage.graph.nodes.items() if node["opened"] is None]
    assert len(unseen) == 4 * 3
    assert set(unseen) < set(lineage.trimmed)
    assert not set(unseen) & set(recording.lifetimes.shard)
    assert set(unseen) < set(recording.lifetimes.parent)


def test_a_stream_of_many_pages_is_read_whole_and_not_too_fast(path: Path) -> None:
    with lu.open_lab("embedded", physics=lu.Physics(on_demand_partitions=1250)) as lab:
        recording = record(lab, table(lab), path, every=60, hours=0.05)
    assert {look.pages for look in recording.looks} == {13}
    assert len(recording.lives) == 1250
    assert all(look.took >= 1 for look in recording.looks), "ten pages a second at most"
    assert recording.missed == ()


def test_a_stream_that_was_switched_off_is_watched_to_its_end(lab: Lab, path: Path) -> None:
    arn = table(lab)
    record(lab, arn, path, hours=2)
    off = {"StreamEnabled": False}
    lab.client("dynamodb").update_table(TableName="Source", StreamSpecification=off)
    recording = record(lab, arn, path, hours=72)
    assert 26 < recording.hours < 26.1
    assert (recording.looks[-1].pages, recording.looks[-1].listed) == (0, 0)
    assert not recording.lineage.enabled
    assert recording.lineage.open_shards == recording.lineage.childless == []
    frame = recording.lifetimes
    assert frame.closed_before.notna().all()
    assert frame.gone_before.notna().all()
    with pytest.raises(LabError, match="There is no stream"):
        record(lab, arn, path, hours=90)


# --- the emulator's own truth -----------------------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([7.0, 40 * MINUTE, 3 * HOUR, 9 * HOUR, 30 * HOUR])),
    st.tuples(st.just("split"), st.integers(0, 50)),
    st.tuples(st.just("switch"), st.just(0)),
    st.tuples(st.just("cut"), st.integers(0, 300)),
)


class Watched:
    """A table whose first stream is recorded, and what really became of its shards."""

    def __init__(self, lab: Lab, path: Path, every: float) -> None:
        self.lab, self.path, self.every = lab, path, every
        self.arn, self.on = table(lab), True
        self.log = frames.table_of(lab._world("partitions"), lab.region, "Source").stream.log
        self.truth: dict[str, Shard] = {shard.id: shard for shard in self.log}
        self.log.on_birth(self, lambda shard: self.truth.setdefault(shard.id, shard))
        self.hours = 0.0

    def do(self, kind: str, much: float) -> None:
        if kind == "wait":
            self.watch(much / HOUR)
        elif kind == "split":
            ids = self.lab.partitions("Source").index
            self.lab.split_partition("Source", ids[int(much) % len(ids)])
        elif kind == "cut":
            whole = self.path.read_bytes() if self.path.exists() else b""
            self.path.write_bytes(whole[: max(len(whole) - int(much), 0)])
        else:
            self.on = not self.on
            self.lab.client("dynamodb").update_table(
                TableName="Source",
                StreamSpecification={"StreamEnabled": self.on}
                | ({"StreamViewType": "KEYS_ONLY"} if self.on else {}),
            )

    def watch(self, hours: float) -> None:
        """Go on recording until the file has so many hours more, or the stream is gone."""
        before = recording_in(self.path.read_bytes() if self.path.exists() else b"", self.path)
        now = self.lab.clock.now()
        begun = before.looks[0].at if before and before.looks else now
        hours += (now - begun) / timedelta(hours=1)
        try:
            record(self.lab, self.arn, self.path, every=self.every, hours=hours)
        except LabError as problem:
            assert "There is no stream" in str(problem)  # noqa: PT017

    def check(self) -> None:
        recording = read_recording(self.path)
        self.log.trim(round(self.lab.clock.now().timestamp() * 1e6))
        for shard, life in recording.lives.items():
            true = self.truth[shard]
            assert within(life.opened, true.started)
            assert within(life.closed, true.ended)
            assert within(
                life.gone, None if true.ended is None else true.ended + self.log.retention
            )
            assert life.shard.parents == true.parents
            assert life.shard.starting == true.starting
            assert life.shard.ending in (None, true.ending)
        named = {parent for life in recording.lives.values() for parent in life.shard.parents}
        assert named <= self.truth.keys(), "parents that nobody saw were there"
        assert set(recording.lineage.graph) == named | set(recording.lives)
        for look, snapshot in zip(recording.looks, recording.snapshots, strict=True):
            for shard in snapshot.shards:
                assert look.latest > instant(self.truth[shard].started)


def within(bounds: Any, moment: int | None) -> bool:
    """Whether something happened in its bounds; never: not before the lower one."""
    after, before = bounds
    if moment is None:
        return before is None
    happened = instant(moment)
    return (after is None or after <= happened) and (before is None or happened <= before)


@pytest.mark.slow
@given(
    st.lists(STEP, min_size=1, max_size=8),
    st.sampled_from([240.0, 1000.0, 2 * HOUR, 11 * HOUR, 30 * HOUR]),
    st.integers(0, 3),
    st.sampled_from([{}, {"rollover": (HOUR, 2 * HOUR)}, {"trim_lag": 2 * HOUR}]),
)
def test_what_really_happened_lies_in_the_bounds(
    tmp_path_factory: Any, steps: list[Any], every: float, seed: int, physics: dict[str, Any]
) -> None:
    """Roll-overs, splits, streams switched off and on, trims; files that were cut off anywhere."""
    path = tmp_path_factory.mktemp("watched") / "recording.jsonl"
    with lu.open_lab("embedded", seed=seed, physics=lu.Physics(**physics)) as lab:
        watched = Watched(lab, path, every)
        watched.watch(0.01)
        for step in steps:
            watched.do(*step)
        watched.watch(2)
        if path.exists() and recording_in(path.read_bytes(), path) is not None:
            watched.check()


# --- what goes wrong meanwhile ----------------------------------------------------------------


class Refusals:
    """Answers DescribeStream in the service's stead, in turn; then it is let through."""

    def __init__(self, client: Any, *answers: Any) -> None:
        self.left = list(answers)
        event = "before-send.dynamodb-streams.DescribeStream"
        client.meta.events.register_first(event, self.answer)

    def answer(self, request: Any, **_: Any) -> AWSResponse | None:
        if not self.left or (said := self.left.pop(0)) is None:
            return None
        if isinstance(said, Exception):
            raise said
        body = json.dumps({"__type": said, "message": "arn:aws:iam::123456789012:user/alice"})
        date = {"Date": "Mon, 05 Jan 2026 09:00:00 GMT"}
        return AWSResponse(request.url, 400, date, Raw(body.encode()))


class Raw:
    """The body of an answer, as botocore reads it."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.body


AWAY = EndpointConnectionError(endpoint_url="https://streams.dynamodb.us-east-1.amazonaws.com")
OFTEN = ["ThrottlingException"] * 500


@pytest.mark.parametrize(
    ("refusals", "noted"),
    [
        (["ExpiredTokenException"] * 2, ["ExpiredTokenException"] * 2),
        ([AWAY] * 5, ["EndpointConnectionError"]),
        (["UnrecognizedClientException"], ["UnrecognizedClientException"]),
        (["no error is called so"], ["Error"]),
        ([*OFTEN[:3]], []),
    ],
)
def test_what_can_mend_itself_is_noted_and_left_behind(
    lab: Lab, path: Path, refusals: list[Any], noted: list[str]
) -> None:
    streams, arn = lab.client("dynamodbstreams"), table(lab)
    Refusals(streams, None, None, *refusals)
    recording = lu.record_stream(streams, arn, path, every=300, hours=1)
    assert list(recording.missed) == noted
    assert len(recording.looks) == 13 - len(noted)
    assert [list(line) for line in lines(path) if "missed" in line] == [["missed"]] * len(noted)
    assert "alice" not in path.read_text()
    assert recording.hours == pytest.approx(1, abs=0.1)


def test_a_service_that_is_busy_for_a_minute_costs_one_look(lab: Lab, path: Path) -> None:
    streams, arn = lab.client("dynamodbstreams"), table(lab)
    refusals = Refusals(streams, None, *OFTEN)
    calls = len(refusals.left)
    recording = lu.record_stream(streams, arn, path, every=300, hours=0.2)
    assert set(recording.missed) == {"StreamBusy"}
    assert len(recording.looks) >= 1
    assert len(refusals.left) < calls


def test_a_permission_that_is_taken_away_ends_it_in_words(lab: Lab, path: Path) -> None:
    streams, arn = lab.client("dynamodbstreams"), table(lab)
    Refusals(streams, None, None, "AccessDeniedException")
    with pytest.raises(LabError, match=r"you may not DescribeStream.*keeps what was seen"):
        lu.record_stream(streams, arn, path)
    assert len(read_recording(path).looks) == 2
    assert len(lu.record_stream(streams, arn, path, hours=0.2).looks) == 5


@pytest.mark.parametrize("refusal", ["AccessDeniedException", "ExpiredTokenException", AWAY])
def test_whoever_sees_nothing_at_all_is_told_why(lab: Lab, path: Path, refusal: Any) -> None:
    streams, arn = lab.client("dynamodbstreams"), table(lab)
    Refusals(streams, *[refusal] * 5)
    with pytest.raises(LabError, match=r"Listing the shards of the stream (was refused|failed)"):
        lu.record_stream(streams, arn, path)
    assert not path.exists()


def test_after_a_miss_the_stream_is_opened_anew(lab: Lab, path: Path) -> None:
    """As a reader may have logged in again: the next client has what there is then."""
    from lab_utils.watching import record as record_with
    from lab_utils.watching import table_stream

    arn, opened = table(lab), []

    def open_stream() -> Any:
        client = lab.client("dynamodbstreams", config=Config())
        opened.append(client)
        if len(opened) == 1:
            Refusals(client, None, *["ExpiredTokenException"] * 99)
        return table_stream(client, arn)

    record_with(open_stream, path, every=60, hours=0.1, tell_region=False)
    recording = read_recording(path)
    assert len(opened) == 2
    assert recording.missed == ("ExpiredTokenException",)
    assert len(recording.looks) == 6


# --- the file ---------------------------------------------------------------------------------


def test_nothing_in_it_tells_whose_it_is(lab: Lab, path: Path) -> None:
    arn = table(lab)
    lab.client("dynamodb").put_item(TableName="Source", Item={"id": {"S": "secret"}})
    record(lab, arn, path, hours=30)
    text = path.read_text()
    for told in ("123456789012", "Source", "arn:", "us-east-1", "secret", 'id":{', "KEYS"):
        assert told not in text
    head, *looks = lines(path)
    assert list(head) == ["recording", "version", "created", "every", "target"]
    keys = {key for look in looks for key in look}
    assert keys == {"at", "took", "pages", "enabled", "listed", "shards", "gone"}
    shards = {key for look in looks for shard in look.get("shards", ()) for key in shard}
    assert shards == {"id", "parent", "first", "last"}
    told = (FOLDER / "README.md").read_text(encoding="utf-8")
    for key in {*head, *keys, *shards, "missed", "region"}:
        assert f"`{key}`" in told, "the page says all that is in a recording"


def test_the_region_is_told_if_it_was_asked_for(lab: Lab, path: Path) -> None:
    recording = record(lab, table(lab), path, hours=0.1, tell_region=True)
    assert recording.header.region == "us-east-1"
    assert lines(path)[0]["region"] == "us-east-1"


@pytest.mark.parametrize("cut", [0, 1, 17, 60, 119, 127, 140, 400, 800, 1500])
def test_a_recording_that_was_cut_off_anywhere_goes_on(lab: Lab, path: Path, cut: int) -> None:
    arn = table(lab)
    record(lab, arn, path, hours=1)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    kept = whole[: whole[:cut].rfind(b"\n") + 1]
    lab.clock.advance(hours=5)
    recording = record(lab, arn, path, hours=7)
    assert path.read_bytes().startswith(kept)
    assert all(line for line in path.read_bytes().split(b"\n")[:-1])
    assert len(recording.lives) == (
        8 if kept.count(b"\n") > 1 else len(recording.snapshots[-1].shards)
    )


def test_a_last_line_that_was_cut_short_is_passed_over(lab: Lab, path: Path) -> None:
    record(lab, table(lab), path, hours=1)
    whole, looks = path.read_bytes(), len(read_recording(path).looks)
    path.write_bytes(whole[:-5])
    assert len(read_recording(path).looks) == looks - 1
    path.write_bytes(whole + b"\0" * 300)
    assert len(read_recording(path).looks) == looks


def test_another_stream_is_not_mixed_in(lab: Lab, path: Path) -> None:
    first = table(lab)
    record(lab, first, path, hours=0.1)
    before = path.read_bytes()
    lab.clock.advance(seconds=1)
    with pytest.raises(LabError, match=r"holds a recording of another stream .*: name another"):
        record(lab, table(lab, "Another"), path, hours=5)
    assert path.read_bytes() == before
    path.write_bytes(before.replace(b'"embedded"', b'"aws"'))
    with pytest.raises(LabError, match="target: aws, and here embedded"):
        record(lab, first, path, hours=5)


def test_a_recording_that_has_its_hours_is_left_alone(lab: Lab, path: Path) -> None:
    arn = table(lab)
    record(lab, arn, path, hours=2)
    before = path.read_bytes()
    with pytest.raises(LabError, match="has its 2 hours already: ask for more"):
        record(lab, arn, path, hours=2)
    assert path.read_bytes() == before
    assert record(lab, arn, path, hours=3).hours == pytest.approx(3, abs=0.01)


def test_a_file_of_another_kind_is_left_alone(lab: Lab, path: Path) -> None:
    path.write_text("dear diary")
    with pytest.raises(LabError, match="line 1 shows"):
        record(lab, table(lab), path)
    assert path.read_text() == "dear diary"
    with pytest.raises(LabError, match=r"cannot be written .*: name a file"):
        record(lab, table(lab, "Another"), path.parent)
    with pytest.raises(LabError, match="cannot be written"):
        record(lab, table(lab, "Third"), path / "below" / "a.jsonl")


HEAD = (
    '{"recording":"shards of a DynamoDB stream","version":1,'
    '"created":"2026-01-05T09:00:00.045","every":180,"target":"aws"}'
)
LOOK = '{"at":"2026-01-05T09:00:00Z","took":0,"pages":1,"enabled":true,"listed":0}'
FIRST, SECOND = (f"shardId-0000000176762{n}000000-abcdef0{n}" for n in (1, 2))


def look(at: str, listed: int, *shards: Any, gone: list[str] | None = None) -> str:
    told: dict[str, Any] = {"at": at, "took": 0, "pages": 1, "enabled": True, "listed": listed}
    told |= {"shards": list(shards)} if shards else {}
    return json.dumps(told | ({"gone": gone} if gone else {}))


def parsed(*text: str) -> Recording:
    found = recording_in(("\n".join([HEAD, *text]) + "\n").encode(), "a.jsonl")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ([HEAD.replace("of a Dyn", "of no Dyn")], "line 1 shows .*not of 'shards"),
        ([HEAD.replace('"version":1', '"version":2')], "version 1"),
        ([HEAD.replace('"version":1,', "")], "has no 'version'"),
        ([HEAD.replace('"aws"', '"azure"')], "'azure' is none of aws, embedded, other"),
        ([HEAD.replace("180", "0")], "0 is no time"),
        ([HEAD.replace("2026-01-05T09:00:00.045", "Orders")], "Orders"),
        ([HEAD.replace("}", ',"table":"Orders"}')], "nobody knows its 'table'"),
        ([HEAD.replace("}", ',"region":"123456789012"}')], "'123456789012' has no place"),
        ([HEAD, "[]"], "line 2 .*no object"),
        ([HEAD, "{"], "line 2 .*no JSON"),
        ([HEAD, LOOK, LOOK.replace("09:00", "08:00")], "line 3 .*time lies before"),
        ([HEAD, LOOK.replace("0Z", "0")], "line 2"),
        ([HEAD, LOOK.replace('"listed":0', '"listed":1')], "1 shards, and 0 are listed"),
        ([HEAD, LOOK.replace('"pages":1', '"pages":-1')], "-1 is no number"),
        ([HEAD, LOOK.replace('"pages":1', '"pages":true')], "True is no number"),
        ([HEAD, LOOK.replace("}", ',"arn":"x"}')], "nobody knows its 'arn'"),
        ([HEAD, '{"missed":"User: arn:aws:iam::123456789012:user/alice"}'], "has no place"),
        ([HEAD, '{"missed":"Error","why":"x"}'], "nobody knows its 'why'"),
        ([HEAD, look("2026-01-05T09:00:00Z", 0, gone=[FIRST])], "gone was not there"),
        ([HEAD, look("2026-01-05T09:00:00Z", 1, {"id": "Orders"})], "'Orders' has no place"),
        ([HEAD, look("2026-01-05T09:00:00Z", 1, {"id": FIRST, "name": "x"})], "its 'name'"),
        ([HEAD, look("2026-01-05T09:00:00Z", 1, {"id": FIRST, "first": 7})], "7 has no place"),
        ([HEAD, look("2026-01-05T09:00:00Z", 1, {"id": FIRST, "parent": None})], "None has no"),
        ([HEAD, look("2026-01-05T09:00:00Z", 1, {"first": "7"})], "has no 'id'"),
        ([HEAD, look("2026-01-05T09:00:00Z", 1, "x")], "a shard is no object"),
    ],
)
def test_what_no_recording_holds_is_refused(path: Path, text: list[str], reason: str) -> None:
    path.write_text("\n".join([*text, ""]))
    with pytest.raises(LabError, match=f"is no recording, .*{reason}"):
        read_recording(path)


@given(st.binary(max_size=300))
def test_whatever_a_file_holds_is_read_or_refused_in_a_sentence(noise: bytes) -> None:
    for data in (noise, HEAD.encode() + b"\n" + noise, (HEAD + "\n" + LOOK).encode() + noise):
        try:
            recording_in(data, "a.jsonl")
        except LabError as problem:
            assert str(problem).startswith("a.jsonl is no recording")  # noqa: PT017


def test_a_file_that_is_not_there_or_empty_is_told_of(path: Path) -> None:
    with pytest.raises(LabError, match=r"cannot be read .*: name a recording"):
        read_recording(path)
    path.write_bytes(HEAD.encode()[:30])
    with pytest.raises(LabError, match="is empty"):
        read_recording(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every=0 must be a number above zero"),
        ({"every": "often"}, "every='often'"),
        ({"hours": float("inf")}, "hours=inf"),
        ({"hours": True}, "hours=True"),
    ],
)
def test_bad_options_are_refused(lab: Lab, path: Path, options: Any, words: str) -> None:
    with pytest.raises(LabError, match=words):
        record(lab, table(lab), path, **options)
    assert not path.exists()


def test_only_streams_of_tables_are_recorded(lab: Lab, path: Path) -> None:
    lab.client("kinesis").create_stream(StreamName="trades", ShardCount=1)
    with pytest.raises(LabError, match="give record_stream a dynamodbstreams client"):
        lu.record_stream(lab.client("kinesis"), "trades", path)
    with pytest.raises(LabError, match="record_stream needs a dynamodbstreams"):
        lu.record_stream(lab, "trades", path)
    with pytest.raises(LabError, match="'Orders' names no stream of a table"):
        record(lab, "Orders", path)


def test_a_shard_that_is_listed_again_was_not_gone() -> None:
    """A listing promises nothing: what is missing at one look may be there at the next."""
    ended = {"id": FIRST, "first": "1", "last": "9"}
    away = parsed(
        look("2026-01-05T09:00:00Z", 1, {"id": FIRST, "first": "1"}),
        look("2026-01-05T09:10:00Z", 0, gone=[FIRST]),
    )
    assert away.lives[FIRST].closed == away.lives[FIRST].gone != NOT_YET
    back = parsed(
        look("2026-01-05T09:00:00Z", 1, {"id": FIRST, "first": "1"}),
        look("2026-01-05T09:10:00Z", 0, gone=[FIRST]),
        look("2026-01-05T09:20:00Z", 1, {"id": FIRST, "first": "1"}),
    )
    assert (back.lives[FIRST].closed.before, back.lives[FIRST].gone.before) == (None, None)
    closed = parsed(
        look("2026-01-05T09:00:00Z", 1, {"id": FIRST, "first": "1"}),
        look("2026-01-05T09:10:00Z", 0, gone=[FIRST]),
        look("2026-01-05T09:20:00Z", 1, ended),
    )
    life = closed.lives[FIRST]
    assert life.gone.before is None
    assert life.closed == (closed.looks[0].earliest, closed.looks[2].latest)


def test_a_parent_has_ended_when_its_child_is_there_whatever_the_listing_says() -> None:
    recording = parsed(
        look("2026-01-05T09:00:00Z", 1, {"id": FIRST, "first": "1"}),
        look("2026-01-05T09:10:00Z", 2, {"id": SECOND, "parent": FIRST, "first": "9"}),
        look("2026-01-05T09:20:00Z", 2, {"id": FIRST, "first": "1", "last": "8"}),
    )
    first, second, _ = recording.looks
    assert recording.lives[FIRST].closed == (first.earliest, second.latest)
    assert recording.lives[SECOND].opened == (first.earliest, second.latest)
    assert recording.lineage.closed_shards == [FIRST]
