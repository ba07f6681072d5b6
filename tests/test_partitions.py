"""The ring of key hashes and the partitions that tile it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lab_utils as lu
from lab_utils.emulator.partitions import RING, PartitionMap, first_partitions, key_hash
from lab_utils.emulator.physics import Physics, as_records
from lab_utils.errors import LabError


def assert_tiles(partitions: PartitionMap) -> None:
    bounds = [(each.low, each.high) for each in partitions]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == RING
    assert all(low < high for low, high in bounds)
    assert [high for _, high in bounds[:-1]] == [low for low, _ in bounds[1:]]


@pytest.mark.parametrize(
    ("reads", "writes", "count"),
    [(0, 0, 4), (5, 5, 1), (3000, 1000, 1), (3001, 5, 2), (5, 1001, 2), (9000, 5000, 5)],
)
def test_first_partitions(reads: int, writes: int, count: int) -> None:
    """Four on demand, one for 5/5 (recorded on AWS, fact 6), 3,000 reads or 1,000 writes each."""
    assert first_partitions(Physics(), reads, writes) == count


@given(st.integers(1, 9), st.lists(st.integers(0, RING - 1), max_size=40))
def test_ranges_tile_the_ring_after_any_splits(count: int, places: list[int]) -> None:
    partitions = PartitionMap(count)
    seen = {each.id for each in partitions}
    for place in places:
        target = partitions.of_hash(place)
        left, right = partitions.split(target)
        assert (left.low, right.high) == (target.low, target.high)
        assert not {left.id, right.id} & seen
        seen |= {left.id, right.id}
        assert_tiles(partitions)
        assert partitions.by_id(target.id) is None
    assert len(partitions) == count + len(places)


@given(st.integers(1, 9), st.lists(st.integers(1, RING - 1), max_size=20), st.text(max_size=9))
def test_every_key_has_one_partition(count: int, cuts: list[int], key: str) -> None:
    partitions = PartitionMap(count)
    for cut in cuts:
        target = partitions.of_hash(cut)
        if target.low < cut:
            partitions.split(target, cut)
    owners = [each for each in partitions if each.low <= key_hash(key) < each.high]
    assert owners == [partitions.of_key(key)]


@pytest.mark.parametrize("at", [0, RING, RING // 2, -1])
def test_a_cut_must_lie_inside(at: int) -> None:
    partitions = PartitionMap(2)
    first = partitions.of_hash(0)
    with pytest.raises(ValueError, match="not inside partition-00000"):
        partitions.split(first, at)
    assert_tiles(partitions)
    assert len(partitions) == 2


def test_keys_spread_over_the_ring() -> None:
    partitions = PartitionMap(4)
    share = [partitions.of_key(f"S:key-{number}").id for number in range(2000)]
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
