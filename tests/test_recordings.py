"""Recordings of a table's stream: what they hold, what they tell, and that nothing breaks them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st
from running import ROOT, table
from strict_aws import credentials, strict_aws

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
    """A day of a table of four partitions, of which one splits in the tenth hour."""
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
            assert within(life.gone, None if true.ended is None else true.ended + self.log.retention)
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


@settings(max_examples=40)
@given(
    st.lists(STEP, min_size=1, max_size=8),
    st.sampled_from([45.0, 600.0, 2 * HOUR, 11 * HOUR, 30 * HOUR]),
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
