"""One shard and the log of all: append, read, trim, close."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab_utils.emulator.shards import Record, Shard, ShardLog


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

    def note(shard: Shard) -> None:
        born.append(shard.id)

    log.on_birth(note)
    log.add(shard_with(id="a"))
    log.off_birth(note)
    log.add(shard_with(id="b"))
    assert born == ["a"]
    assert len(log) == 2
