"""Which splits the observed keys suggest, and which are refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lab_utils as lu
from lab_utils.emulator import heat
from lab_utils.emulator.heat import MINUTE, Demand, Sample, judge
from lab_utils.emulator.partitions import RING, Partition, Position, key_hash
from lab_utils.emulator.throughput import UNIT
from lab_utils.lab import Lab

Item = dict[str, Any]
WHOLE = Partition(0, (0,), (RING,))


def verdict(
    loads: dict[Position, int],
    partition: Partition = WHOLE,
    *,
    sort_key: bool = True,
    local_index: bool = False,
    observed: Sample | None = None,
) -> heat.Verdict:
    return judge(partition, loads, sort_key=sort_key, local_index=local_index, observed=observed)


# -- where to cut -------------------------------------------------------------------------------


def test_the_cut_is_where_half_of_the_load_lies_and_not_in_the_middle() -> None:
    """A10: the observed keys are all in the first thousandth of the range."""
    found = verdict({(place,): 1 for place in range(1, 101)})
    assert found == heat.Verdict(((51,),), heat.HALVES)


@pytest.mark.parametrize(
    ("partition", "cuts"),
    [
        (WHOLE, ((7,), (8,))),
        (Partition(0, (7,), (RING,)), ((8,),)),
        (Partition(0, (0,), (8,)), ((7,),)),
    ],
)
def test_one_key_is_isolated(partition: Partition, cuts: tuple[Position, ...]) -> None:
    """A11: a cut before and after its hash, where there is something to cut off."""
    found = verdict({(1,): 5, (7,): 20}, partition, sort_key=False)
    assert found == heat.Verdict(cuts, heat.ISOLATED_KEY)


def test_one_key_alone_is_split_no_further() -> None:
    """A11: its ceiling stays that of one partition."""
    alone = Partition(0, (7,), (8,))
    assert verdict({(7,): 9}, alone, sort_key=False) == heat.Verdict((), heat.ONE_KEY)
    item = Partition(0, (7, b"x"), (8,))
    assert verdict({(7, b"x"): 9}, item) == heat.Verdict((), heat.ONE_ITEM)


COLLECTION = {(7, bytes([place])): 1 + (place > 19) for place in range(30)}
ALONE = Partition(0, (7,), (8,))


def test_a_hot_collection_is_split_by_its_sort_keys() -> None:
    """A12: where half of its load lies: 20 sort keys of 1 and 10 of 2."""
    assert verdict(COLLECTION, ALONE) == heat.Verdict(((7, bytes([20])),), heat.BY_SORT_KEY)


def test_a_local_index_keeps_a_collection_together() -> None:
    """A12: it may be isolated, but is never cut."""
    assert verdict(COLLECTION, ALONE, local_index=True) == heat.Verdict((), heat.LOCAL_INDEX)
    assert verdict(COLLECTION, local_index=True).cuts == ((7,), (8,))


def sample_of(*positions: Position, most: int = 1000) -> Sample:
    sample = Sample(most, random.Random(0))
    for each in positions:
        sample.add(each, 1)
    return sample


def test_a_sort_key_that_only_grows_is_no_reason_to_split() -> None:
    """A10, A12: what is observed in the order of its keys would only be hot in the next part."""
    rising = [(7, place) for place in range(100)]
    growing = sample_of(*rising)
    assert verdict(growing.costs, ALONE, observed=growing) == heat.Verdict((), heat.GROWS)
    shuffled = random.Random(1).sample(rising, 100)
    mixed = sample_of(*shuffled)
    assert verdict(mixed.costs, ALONE, observed=mixed).reason == heat.BY_SORT_KEY
    again = sample_of(*rising, *rising, *rising)
    assert verdict(again.costs, ALONE, observed=again).reason == heat.BY_SORT_KEY


def test_a_load_that_walks_from_key_to_key_is_no_reason_to_split() -> None:
    """A10: when the split is done, another key will be hot. Many new keys are something else."""
    walking = sample_of(*[(place,) for place in (1, 2, 3) for _ in range(100)])
    assert verdict(walking.costs, observed=walking) == heat.Verdict((), heat.WALKS)
    staying = sample_of(*[(place,) for _ in range(100) for place in (1, 2, 3)])
    assert verdict(staying.costs, observed=staying).reason == heat.HALVES
    ever_new = sample_of(*[(key_hash(str(number)),) for number in range(900)])
    assert verdict(ever_new.costs, observed=ever_new).reason == heat.HALVES
    one = sample_of(*[(1,)] * 100)
    assert verdict(one.costs, observed=one).reason == heat.ISOLATED_KEY


def test_one_item_of_a_collection_is_isolated() -> None:
    """A11: then its partition holds that item alone."""
    loads = {(7, 1): 1, (7, 5): 9, (7, 6): 1}
    assert verdict(loads, ALONE) == heat.Verdict(((7, 5), (7, 6)), heat.ISOLATED_ITEM)
    between = Partition(0, (7, 5), (7, 6))
    assert verdict({(7, 5): 9}, between) == heat.Verdict((), heat.ONE_ITEM)


def test_without_any_observation_the_middle_has_to_do() -> None:
    assert verdict({}) == heat.Verdict(((RING // 2,),), heat.MIDDLE)
    assert verdict({}, ALONE) == heat.Verdict((), heat.TOO_NARROW)


Loads = st.dictionaries(
    st.tuples(st.integers(1, 50)) | st.tuples(st.integers(1, 50), st.integers(0, 9)),
    st.integers(1, 100),
    min_size=1,
    max_size=40,
).filter(lambda loads: len({len(each) for each in loads}) == 1)


@given(Loads, st.booleans(), st.booleans())
def test_a_verdict_always_cuts_inside_or_says_why_not(
    loads: dict[Position, int], sort_key: bool, local_index: bool
) -> None:
    """Any loads: cuts lie inside and in order; none without a reason; a repetition changes nothing;
    applied again and again to its own parts it comes to an end."""
    todo, rounds = [(0, (RING,), (0,))], 0
    while todo:
        rounds += 1
        assert rounds < 500
        _, end, start = todo.pop()
        part = Partition(0, start, end)
        inside = {place: load for place, load in loads.items() if start <= place < end}
        if not inside:
            continue
        found = verdict(inside, part, sort_key=sort_key, local_index=local_index)
        assert found == verdict(dict(reversed(inside.items())), part, sort_key=sort_key,
                                local_index=local_index)  # fmt: skip
        assert found.reason
        assert all(part.holds(cut) for cut in found.cuts)
        assert list(found.cuts) == sorted(found.cuts)
        if local_index:
            assert all(len(cut) == 1 for cut in found.cuts)
        bounds = [start, *found.cuts, end]
        if found.cuts:
            todo += [(0, bounds[n + 1], bounds[n]) for n in range(len(bounds) - 1)]


# -- what is observed ---------------------------------------------------------------------------


def test_a_sample_keeps_what_is_asked_for_often() -> None:
    rng = random.Random(3)
    sample = Sample(50, random.Random(0))
    for number in range(5000):
        sample.add((1,) if rng.random() < 0.6 else (number + 2,), 1)
    assert len(sample.costs) == 50
    assert max(sample.costs, key=lambda place: sample.costs[place]) == (1,)
    assert sample.costs[1,] > 0.9 * sum(sample.costs.values())


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5)), max_size=80), st.integers(1, 9))
def test_a_sample_is_bounded_and_repeatable(asked: list[tuple[int, int]], most: int) -> None:
    samples = [Sample(most, random.Random(7)) for _ in range(2)]
    for sample in samples:
        for place, cost in asked:
            sample.add((place,), cost)
    first, second = samples
    assert list(first.costs.items()) == list(second.costs.items())
    assert len(first.costs) <= most
    assert sum(first.costs.values()) <= sum(cost for _, cost in asked)
    first.clear()
    assert not first.costs


def test_minutes_in_a_row_are_counted_and_a_cool_one_begins_anew() -> None:
    """A10: sustained heat, minute by minute; the limit is reached once in each."""
    demand, streaks = Demand(10 * UNIT), []
    for minute, units in enumerate([20, 10, 9, 30, 30]):
        for second in range(1, 61):
            if demand.add(units * UNIT // 60 + 1, minute * MINUTE + second * UNIT):
                streaks.append((minute, demand.streak))
    assert streaks == [(0, 1), (1, 2), (3, 1), (4, 2)]


def test_the_rate_of_the_last_minute() -> None:
    demand = Demand(0)
    for second in range(1, 121):
        demand.add(5 * UNIT, second * UNIT)
    assert demand.rate(120 * UNIT) == 5
    assert demand.rate(150 * UNIT) == 2.5
    assert demand.rate(180 * UNIT) == 0
    assert demand.rate(999 * UNIT) == 0


# -- from real requests -------------------------------------------------------------------------


def make_table(lab: Lab) -> str:
    made = lab.client("dynamodb").create_table(
        TableName="Table",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": "id", "KeyType": "HASH"},
            {"AttributeName": "at", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "at", "AttributeType": "N"},
        ],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )
    return str(made["TableDescription"]["LatestStreamArn"])


def test_a_loop_of_writes_makes_a_scale_model_split() -> None:
    """A10, A12: 10 writes a second are hot in a model of 1 : 100. After five minutes the key is
    isolated, and its records go on in the shards of the parts."""
    physics = lu.Physics.scaled(100, split_time=(60, 60))
    with lu.open_lab("embedded", physics=physics) as lab:
        arn = make_table(lab)
        for number in range(8 * 60 * 9):
            lab.client("dynamodb").put_item(
                TableName="Table",
                Item={"id": {"S": "hot"}, "at": {"N": str(number * 7919 % 1000)}},
            )
            lab.clock.advance(seconds=0.107)
        splits = lab.splits("Table")
        assert list(splits["cause"]) == ["heat", "heat"]
        assert set(splits["reason"]) == {heat.ISOLATED_KEY}
        assert splits.loc[0, "at"].minute in (6, 7)
        frame = lab.partitions("Table")
        home = frame[frame["items"] > 0]
        assert list(home["items"]) == [1000]
        assert (home["high"] - home["low"]).tolist() == [1]
        shards = lab.client("dynamodbstreams").describe_stream(StreamArn=arn)
        parents = [each.get("ParentShardId") for each in shards["StreamDescription"]["Shards"]]
        assert len(frame) == 6
        assert sum(parent is not None for parent in parents) == 4


def test_the_same_seed_splits_at_the_same_points() -> None:
    def history(seed: int) -> list[Item]:
        physics = lu.Physics.scaled(100, heat_sample=10)
        with lu.open_lab("embedded", seed=seed, physics=physics) as lab:
            make_table(lab)
            keys = {(f"k{number}", number): 1 + number % 7 for number in range(200)}
            lab.traffic("Table", keys, 60, 30)
            found: list[Item] = lab.splits("Table").to_dict("records")
            return found

    first = history(0)
    assert first
    assert history(0) == first
    assert history(1) != first
