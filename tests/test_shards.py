"""One shard and the log of all: append, read, trim, close."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab_utils.emulator.shards import SWEEP, Record, Shard, ShardLog


def record(number: int, at: int = 0, size: int = 1) -> Record:
    return Record(number, at, size, "key", {"number": number})


def shard_with(*records: Record, **given: Any) -> Shard:
    shard = Shard(**{"id": "shard", "parents": (), "started": 0, "starting": 10} | given)
    for each in records:
        shard.append(each)
    return shard


def numbers(records: list[Record]) -> list[int]:
    return [each.sequence for each in records]


def test_a_closed_shard_never_changes_again() -> None:
    shard = shard_with(record(11), record(12))
    shard.close(99)
    assert (shard.open, shard.ended, shard.ending) == (False, 99, 12)
    with pytest.raises(ValueError, match="shard is closed"):
        shard.append(record(13))
    assert numbers(shard.read(0, 10, 10)) == [11, 12]


def test_an_idle_shard_ends_where_it_started() -> None:
    shard = shard_with()
    shard.close(99)
    assert shard.ending == shard.starting == 10


def test_a_shard_whose_records_are_all_trimmed_still_ends_with_the_last() -> None:
    shard = shard_with(record(11, at=1))
    shard.trim(2)
    shard.close(99)
    assert shard.ending == 11


def test_read_stops_at_the_limit_and_at_the_size() -> None:
    shard = shard_with(*(record(number, size=4) for number in range(11, 16)))
    assert numbers(shard.read(0, 2, 100)) == [11, 12]
    assert numbers(shard.read(1, 9, 8)) == [12, 13]
    assert numbers(shard.read(1, 9, 11)) == [12, 13]
    assert shard.read(5, 9, 100) == []


def test_a_record_larger_than_a_page_is_handed_out_alone() -> None:
    shard = shard_with(record(11, size=50), record(12, size=50))
    assert numbers(shard.read(0, 9, 8)) == [11]


def test_positions_stay_true_while_records_go() -> None:
    shard = shard_with(*(record(10 + at, at=at) for at in range(1, 7)))
    before = shard.position_of(14)
    shard.trim(3)
    assert (shard.trimmed, shard.lost, shard.end) == (2, 12, 6)
    assert shard.position_of(14) == before == 3
    assert numbers(shard.read(before, 9, 99)) == [14, 15, 16]
    assert shard.position_at(5) == 4


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.lists(st.integers(0, 60)))
def test_trimming_drops_exactly_what_is_older(gaps: list[int], horizons: list[int]) -> None:
    shard, at = shard_with(), 0
    for number, gap in enumerate(gaps, start=11):
        at += gap
        shard.append(record(number, at))
    everything, reached = list(shard.records), 0
    for horizon in horizons:
        shard.trim(horizon)
        reached = max(reached, horizon)
        assert shard.records == [each for each in everything if each.at >= reached]
        assert shard.trimmed + len(shard.records) == len(everything)


def test_watchers_are_called_once_at_append_or_close() -> None:
    shard, calls = shard_with(), []
    shard.watch(lambda: calls.append("append"))
    shard.append(record(11))
    shard.append(record(12))
    assert calls == ["append"]
    shard.watch(lambda: calls.append("close"))
    shard.close(5)
    assert calls == ["append", "close"]


def test_a_watcher_may_watch_again() -> None:
    shard, calls = shard_with(), []

    def again() -> None:
        calls.append(len(shard.records))
        shard.watch(again)

    shard.watch(again)
    shard.append(record(11))
    shard.append(record(12))
    assert calls == [1, 2]


def test_the_log_forgets_a_shard_its_retention_after_it_closed() -> None:
    log = ShardLog(retention=100)
    parent, child = shard_with(id="a", ended=None), shard_with(id="b", parents=("a",))
    log.add(parent)
    parent.append(record(11, at=40))
    parent.close(50)
    log.add(child)
    log.trim(149)
    assert [shard.id for shard in log] == ["a", "b"]
    assert parent.records == []
    assert log.children("a") == [child]
    log.trim(150)
    assert [shard.id for shard in log] == ["b"]
    assert log.get("a") is None
    assert log.children("a") == []
    assert child.parents == ("a",), "a child keeps naming its parent"
    assert log.open_shards() == [child]


def test_births_are_told_until_nobody_wants_to_know() -> None:
    log, born = ShardLog(100), []
    for who in ("one", "other"):
        log.on_birth(who, lambda shard, who=who: born.append((who, shard.id)))
    log.add(shard_with(id="a"))
    log.off_birth("one")
    log.add(shard_with(id="b"))
    assert born == [("one", "a"), ("other", "a"), ("other", "b")]
    assert len(log) == 2


def test_bytes_are_those_of_every_record_that_came() -> None:
    shard = shard_with(record(11, at=1, size=5), record(12, at=2, size=7))
    shard.trim(2)
    shard.append(record(13, at=3, size=1))
    assert shard.bytes == 13


def test_a_growing_shard_sheds_what_nobody_looks_at() -> None:
    """A shard that never closes would otherwise keep all it ever got."""
    log, shard = ShardLog(retention=100), shard_with(id="a")
    log.add(shard)
    for number in range(20 * SWEEP):
        shard.append(record(11 + number, at=number))
    assert 100 <= len(shard.records) < 100 + SWEEP
    assert shard.end == 20 * SWEEP
    assert shard.records[0].at == shard.trimmed, "positions stay true"


def test_records_go_when_somebody_looks() -> None:
    log, shard = ShardLog(retention=100), shard_with(record(11, at=1), record(12, at=50), id="a")
    log.add(shard)
    log.trim(120)
    assert numbers(log.get("a").records) == [12]  # type: ignore[union-attr]
    log.trim(110)
    assert numbers(log.get("a").records) == [12], "time never goes back"  # type: ignore[union-attr]
    log.trim(151)
    assert [each.records for each in log] == [[]]


ID = st.integers(0, 99).map(lambda number: f"shard-{number:02d}")
STEP = st.one_of(
    st.tuples(st.just("add"), ID),
    st.tuples(st.just("close"), st.integers(0, 50)),
    st.tuples(st.just("wait"), st.integers(0, 80)),
    st.tuples(st.just("trim"), st.just(0)),
)


@given(st.lists(STEP, max_size=80), ID)
def test_the_log_is_what_a_plain_list_would_be(steps: list[tuple[str, Any]], after: str) -> None:
    """Whatever is added, closed and trimmed, in whatever order: against a list looked through."""
    log, plain, now = ShardLog(retention=100), [], 0
    for step, what in steps:
        still_open = [each for each in plain if each.open]
        if step == "add" and what not in [each.id for each in plain]:
            parents = (still_open[-1].id,) if still_open else ()
            plain.append(shard_with(id=what, parents=parents))
            log.add(plain[-1])
        elif step == "close" and still_open:
            still_open[what % len(still_open)].close(now)
        elif step == "wait":
            now += what
        elif step == "trim":
            log.trim(now)
            plain = [each for each in plain if each.open or (each.ended or 0) > now - 100]
        assert list(log) == plain
        assert len(log) == len(plain)
        assert log.open_shards() == [each for each in plain if each.open]
        by_id = sorted(plain, key=lambda shard: shard.id)
        assert list(log.after("")) == by_id
        assert list(log.after(after)) == [each for each in by_id if each.id > after]
        assert all(log.get(each.id) is each and each.id in log for each in plain)


def test_a_longer_retention_brings_nothing_back() -> None:
    log = ShardLog(retention=10)
    closed, open_ = shard_with(), shard_with(id="other")
    for shard in (closed, open_):
        log.add(shard)
        for at in (0, 5):
            shard.append(record(11 + at, at=at))
    closed.close(6)
    log.retain(100, now=12)
    assert numbers(open_.records) == numbers(closed.records) == [16]
    log.retain(3, now=12)
    assert open_.records == []
    assert [shard.id for shard in log] == ["other"]


def test_a_shard_can_be_told_where_it_ends() -> None:
    shard = shard_with(record(11))
    shard.close(99, ending=20)
    assert shard.ending == 20
