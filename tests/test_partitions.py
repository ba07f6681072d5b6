"""The ring of key hashes and the partitions that tile it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lab_utils as lu
from lab_utils.emulator.partitions import (
    RING,
    PartitionMap,
    Position,
    first_partitions,
    key_hash,
    sort_value,
    warm_partitions,
)
from lab_utils.emulator.physics import Physics, as_records
from lab_utils.errors import LabError


def assert_tiles(partitions: PartitionMap) -> None:
    bounds = [(each.start, each.end) for each in partitions]
    assert bounds[0][0] == (0,)
    assert bounds[-1][1] == (RING,)
    assert all(start < end for start, end in bounds)
    assert [end for _, end in bounds[:-1]] == [start for start, _ in bounds[1:]]


@pytest.mark.parametrize(
    ("reads", "writes", "count"),
    [
        (0, 0, 4),
        (5, 5, 1),
        (3000, 1000, 2),
        (1500, 500, 1),
        (1501, 500, 2),
        (5, 1001, 2),
        (9000, 5000, 8),
        (2400, 3200, 4),
        (5, 6000, 7),
    ],
)
def test_first_partitions(reads: int, writes: int, count: int) -> None:
    """A4, A5: four on demand, one for 5/5 (recorded on AWS, fact 6), else the formula of 2016."""
    assert first_partitions(Physics(), reads, writes) == count


@pytest.mark.parametrize(
    ("reads", "writes", "count"), [(12000, 4000, 4), (12001, 4000, 5), (1, 10_000_000, 10_000)]
)
def test_partitions_for_warm_throughput(reads: int, writes: int, count: int) -> None:
    """A6: so many that reads and writes fit at once."""
    assert warm_partitions(Physics(), reads, writes) == count


Places = st.tuples(st.integers(0, RING - 1), st.none() | st.binary(max_size=3))


def position(place: tuple[int, bytes | None]) -> Position:
    return (place[0],) if place[1] is None else place


@given(st.integers(1, 9), st.lists(Places, max_size=40), st.lists(Places, max_size=20))
def test_ranges_tile_and_every_item_has_one_partition(
    count: int, cuts: list[tuple[int, bytes | None]], stored: list[tuple[int, bytes | None]]
) -> None:
    """A2, A13: after any cuts, between hashes and inside a collection, the ranges tile the ring,
    ids are new, and every item is counted exactly where it lies."""
    partitions = PartitionMap(count)
    items = {position(place): number + 1 for number, place in enumerate(stored)}
    for place, size in items.items():
        partitions.at(place).sizes[place] = size
        partitions.at(place).bytes += size
    seen = {each.id for each in partitions}
    for cut in map(position, cuts):
        target = partitions.at(cut)
        if not target.holds(cut):
            continue
        left, right = partitions.split(target, cut)
        assert (left.start, left.end, right.end) == (target.start, cut, target.end)
        assert not {left.id, right.id} & seen
        seen |= {left.id, right.id}
        assert partitions.by_id(target.id) is None
        assert partitions.by_id(right.id) is right
    assert_tiles(partitions)
    assert sum(each.items for each in partitions) == len(items)
    assert sum(each.bytes for each in partitions) == sum(items.values())
    for place in items:
        owners = [each for each in partitions if each.start <= place < each.end]
        assert owners == [partitions.at(place)]
        assert place in owners[0].sizes
        assert owners[0].low <= place[0] < owners[0].high


@pytest.mark.parametrize("cut", [(0,), (RING,), (RING // 2,), (-1,)])
def test_a_cut_must_lie_inside(cut: Position) -> None:
    partitions = PartitionMap(2)
    with pytest.raises(ValueError, match="not inside partition-00000"):
        partitions.split(partitions.at((0,)), cut)
    assert_tiles(partitions)
    assert len(partitions) == 2


def test_bounds_of_a_collection_that_is_cut() -> None:
    """A12: one hash lies in several partitions; the narrowest ones have no middle."""
    partitions = PartitionMap(1)
    for cut in ((5,), (6,), (5, b"m")):
        partitions.split(partitions.at(cut), cut)
    below, first, second, above = partitions
    assert [(each.low, each.high) for each in partitions] == [(0, 5), (5, 6), (5, 6), (6, RING)]
    assert partitions.at((5, b"a")) is first
    assert partitions.at((5, b"m")) is second
    assert first.middle() is None
    assert second.middle() is None
    assert below.middle() == (2,)
    assert above.holds(above.middle() or ())


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ({"N": "9"}, {"N": "10"}),
        ({"N": "-1"}, {"N": "0.5"}),
        ({"S": "B"}, {"S": "a"}),
        ({"S": "z"}, {"S": "\u00e9"}),
        ({"S": "\uffff"}, {"S": "\U00010000"}),
        ({"B": "fw=="}, {"B": "gA=="}),
    ],
)
def test_sort_keys_lie_in_dynamodbs_order(smaller: dict[str, str], larger: dict[str, str]) -> None:
    """A2: numbers by value, strings by their UTF-8 bytes, binary by unsigned bytes."""
    assert sort_value(smaller) < sort_value(larger)  # type: ignore[operator]


def test_ten_thousand_partitions_are_found_by_hash_and_by_id() -> None:
    partitions = PartitionMap(4)
    while len(partitions) < 10_000:
        for each in list(partitions):
            partitions.split(each, each.middle() or ())
    assert_tiles(partitions)
    assert all(partitions.by_id(each.id) is each for each in partitions)
    assert all(partitions.at(each.start) is each for each in partitions)


def test_keys_spread_over_the_ring() -> None:
    partitions = PartitionMap(4)
    share = [partitions.at((key_hash(f"S:key-{number}"),)).id for number in range(2000)]
    assert all(430 < share.count(each) < 570 for each in range(4))


@pytest.mark.parametrize(
    "override",
    [
        {"rollover": (0, 0)},
        {"rollover": (5, 4)},
        {"rollover": 4},
        {"rollover": "x"},
        {"retention": -1},
        {"retention": float("nan")},
        {"retention": float("inf")},
        {"on_demand_partitions": 0},
        {"on_demand_partitions": 2.5},
        {"dynamodb_poll": 0},
    ],
)
def test_impossible_constants_are_refused_in_one_sentence(override: dict[str, object]) -> None:
    name = next(iter(override))
    with pytest.raises(LabError, match=rf"^Physics\({name}=.*must be .*\.$"):
        lu.Physics(**override)  # type: ignore[arg-type]


def test_every_constant_says_where_it_comes_from() -> None:
    rows = as_records(Physics())
    assert {row["mark"] for row in rows} == {"documented", "observed", "assumed"}
    assert all(row["source"] for row in rows)
