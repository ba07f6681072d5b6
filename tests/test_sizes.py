"""Sizes of items and records, held against what AWS returned."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab_utils.emulator.sizes import Item, binary_size, item_size, number_size


@pytest.mark.parametrize(
    ("item", "size"),
    [
        ({"id": {"S": "Fred"}}, 6),
        ({"id": {"S": "NewKey"}}, 8),
        ({"Username": {"S": "Fred"}}, 12),
        ({"Username": {"S": "Alice"}}, 13),
        ({"id": {"N": "42"}}, 4),
        ({"on": {"BOOL": True}}, 3),
        ({"raw": {"B": "AAEC"}}, 6),
    ],
)
def test_sizes_recorded_on_aws(item: Item, size: int) -> None:
    """Fact 19: names and strings in UTF-8, B raw, BOOL 1, N "42" 2; {Username:Fred} is 12."""
    assert item_size(item) == size


def test_a_missing_item_weighs_nothing() -> None:
    assert item_size(None) == item_size({}) == 0


@pytest.mark.parametrize(
    ("typed", "size"),
    [
        ({"S": ""}, 0),
        ({"S": "é"}, 2),
        ({"S": "🙂"}, 4),
        ({"NULL": True}, 1),
        ({"B": ""}, 0),
        ({"M": {}}, 3),
        ({"L": []}, 3),
        ({"L": [{"S": "ab"}]}, 6),
        ({"M": {"k": {"S": "ab"}}}, 7),
        ({"SS": ["a", "bc"]}, 3),
        ({"NS": ["1", "22"]}, 4),
        ({"BS": ["AA==", "AAEC"]}, 4),
    ],
)
def test_the_size_of_each_type(typed: Item, size: int) -> None:
    """A list or a map takes 3 bytes and 1 for each element (Developer Guide)."""
    assert item_size({"": typed}) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 1), ("1", 2), ("42", 2), ("123", 3), ("-42", 3), ("100", 2), ("0.05", 2), ("1e10", 2)],
)
def test_a_number_counts_by_its_significant_digits(text: str, size: int) -> None:
    assert number_size(text) == size


@given(st.binary(max_size=70))
def test_binary_counts_its_raw_bytes(raw: bytes) -> None:
    assert binary_size(base64.b64encode(raw).decode()) == len(raw)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_text_counts_its_utf8_bytes(text: str) -> None:
    assert item_size({text: {"S": text}}) == 2 * len(text.encode())
