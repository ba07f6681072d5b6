"""The game's rules: what a burst is made of, and what it must add up to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.errors import LabError
from lab_utils.pipeline.messages import BATCH, TOTAL_KEYS, make_burst, stamp

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def brute_force(records):
    """Totals straight from the bytes that are sent: the highest version of a trade counts."""
    best = {}
    for record in records:
        message = json.loads(record["Data"], parse_float=Decimal)
        kept = best.get(message["TradeID"])
        if kept is None or message["Version"] > kept["Version"]:
            best[message["TradeID"]] = message
    totals = dict.fromkeys(TOTAL_KEYS, Decimal(0))
    for message in best.values():
        place = message["Hierarchy"]
        for key in (
            place["RiskType"],
            place["RiskType"] + ":" + place["TradeDesk"],
            place["RiskType"] + ":" + place["TradeDesk"] + ":" + place["Region"],
        ):
            totals[key] += message["Value"]
    return totals


def test_there_are_eighteen_totals_each_before_its_parts():
    assert len(TOTAL_KEYS) == len(set(TOTAL_KEYS)) == 18
    assert [key.count(":") for key in TOTAL_KEYS] == [0, 1, 2, 2, 2, 1, 2, 2, 2] * 2
    for place, key in enumerate(TOTAL_KEYS):
        assert ":" not in key or TOTAL_KEYS.index(key.rpartition(":")[0]) < place


def test_a_normal_burst_has_new_trades_only():
    burst = make_burst(1, now=NOON)
    assert len(burst) == len(burst.records) == 10_000
    assert len(burst.batches) == 250
    assert (burst.counts.new, burst.counts.messages) == (10_000, 10_000)
    messages = [json.loads(record["Data"]) for record in burst.records]
    assert len({message["TradeID"] for message in messages}) == 10_000
    assert {message["Version"] for message in messages} == {0}
    assert {message["Timestamp"] for message in messages} == {NOON.timestamp()}
    assert all(0 <= message["Value"] <= 100_000 for message in messages)
    assert len({tuple(sorted(message["Hierarchy"].items())) for message in messages}) == 12
    # 10,000 values between 0 and 100,000: 500 million, give or take a little; in cents.
    whole = burst.expected["Delta"] + burst.expected["PV"]
    assert 490_000_000_00 < whole < 510_000_000_00


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 700), st.booleans())
def test_the_expected_totals_are_those_of_the_latest_versions(seed, n, special):
    burst = make_burst(seed, n, special)
    recomputed = brute_force(burst.records)
    assert {key: Decimal(cents) / 100 for key, cents in burst.expected.items()} == recomputed
    assert len(burst.records) == burst.counts.messages == n
    assert list(burst.expected) == list(TOTAL_KEYS)


def test_a_whole_special_burst_adds_up_too():
    burst = make_burst(7, special=True)
    recomputed = brute_force(burst.records)
    assert {key: Decimal(cents) / 100 for key, cents in burst.expected.items()} == recomputed


def test_special_bursts_have_the_volumes_of_the_game():
    counts = [make_burst(seed, special=True).counts for seed in range(12)]
    assert {count.messages for count in counts} == {10_000}
    assert {count.duplicates for count in counts} == {1_250}
    assert all(200 <= count.modified <= 310 for count in counts)
    assert all(1 <= count.obsolete <= 20 for count in counts)
    assert 8_460 < mean(count.new for count in counts) < 8_515


def test_obsolete_messages_bring_a_smaller_version_than_the_one_before():
    burst = make_burst(3, special=True)
    latest, obsolete = {}, 0
    for batch in burst.batches:
        fresh = batch[: BATCH - 5]
        for message in fresh:
            version = latest.setdefault(message.trade_id, message.version)
            if message.version < version:
                obsolete += 1
            latest[message.trade_id] = max(version, message.version)
        # The last five are copies of some of the others, bytes and partition key alike.
        assert set(batch[BATCH - 5 :]) <= set(fresh)
    assert obsolete == burst.counts.obsolete > 0
    assert set(latest.values()) == {0, 1}


def test_the_partition_key_is_the_hash_of_the_text():
    for record in make_burst(1, 80, special=True).records:
        assert record["PartitionKey"] == sha256(record["Data"]).hexdigest()


def test_stamping_changes_the_time_and_the_shard_but_nothing_else():
    batch = make_burst(1, 40).batches[0]
    early, late = stamp(batch, NOON), stamp(batch, NOON.timestamp() + 1)
    for one, other in zip(early, late, strict=True):
        assert one["PartitionKey"] != other["PartitionKey"]
        first, second = json.loads(one["Data"]), json.loads(other["Data"])
        assert second.pop("Timestamp") - first.pop("Timestamp") == 1
        assert first == second


def test_the_same_seed_draws_the_same_burst():
    assert make_burst(5, 400, True, NOON) == make_burst(5, 400, True, NOON)
    assert make_burst(5, 400, True, NOON) == make_burst(5, 400, True, NOON.timestamp())
    assert make_burst(5, 400).expected != make_burst(6, 400).expected


def test_a_burst_sent_again_later_brings_new_trades_with_the_same_totals():
    first, again = make_burst(5, 400, True, 0), make_burst(5, 400, True, 60)
    assert first.expected == again.expected
    assert first.counts == again.counts
    ids = [{m.trade_id for batch in burst.batches for m in batch} for burst in (first, again)]
    assert ids[0].isdisjoint(ids[1])


def test_bursts_do_not_depend_on_the_hash_seed():
    code = (
        "from hashlib import sha256; from lab_utils.pipeline.messages import make_burst;"
        "b = make_burst(9, 400, True, 1.5);"
        "print(sha256(repr((b.records, b.expected)).encode()).hexdigest())"
    )
    seen = set()
    for hash_seed in ("1", "99"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", code]
        seen.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(seen) == 1


@pytest.mark.parametrize("n", [0, -40, 2.5, True, "many"])
def test_a_bad_number_of_messages_is_refused(n):
    with pytest.raises(LabError, match="whole number from 1"):
        make_burst(1, n)


@pytest.mark.parametrize("seed", [None, "abc", 1.5])
def test_a_bad_seed_is_refused(seed):
    with pytest.raises(LabError, match="whole number"):
        make_burst(seed, 40)
