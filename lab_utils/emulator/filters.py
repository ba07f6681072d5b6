"""Filters of an event source mapping: which records of a stream a function gets at all.

A pattern is a JSON object with the structure of the record that it wants. All its fields must
match; a field matches if one of its alternatives does. A mapping has up to five patterns, of which
one must match. The grammar is the table of "Filter rule syntax" in the Lambda Developer Guide,
which calls it a subset of EventBridge's. What it leaves open is taken from EventBridge: an array
of the record matches if one of its elements does, and what is missing matches `exists: false` only.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from lab_utils.emulator.errors import ApiError, not_modelled

Test = Callable[[Any], bool]

MOST_FILTERS = 5
"""Of one mapping (Lambda Developer Guide; AWS raises it to 10 on request)."""
DEEPEST = 100
"""Levels of a pattern that are looked into, three times those of an item; AWS names no limit."""
DATA_FIELDS = {"kinesis": "data", "dynamodb": "dynamodb"}
"""By service, the field of a record whose pattern has to be an object."""
COMPARISONS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "=": lambda value, bound: value == bound,
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}
STRING_TESTS: dict[str, Callable[[str, str], bool]] = {
    "prefix": str.startswith,
    "suffix": str.endswith,
    "equals-ignore-case": lambda value, wanted: value.lower() == wanted.lower(),
}
OPERATORS = {*STRING_TESTS, "anything-but", "numeric", "exists"}

_NOT_JSON = object()
"""Data that cannot be read as JSON: no pattern about it matches."""


class Filters:
    """The filters of one mapping, read from its FilterCriteria; without filters, all matches.

    `service` is that of the stream, `dynamodb` or `kinesis`. Raises InvalidParameterValueException
    for a pattern that is none (AWS's words are recorded) and for too many (its words are not).
    """

    def __init__(self, criteria: dict[str, Any] | None, service: str) -> None:
        self._filters: list[dict[str, Any]] = list((criteria or {}).get("Filters") or ())
        if len(self._filters) > MOST_FILTERS:
            raise ApiError(
                "InvalidParameterValueException",
                f"A mapping has at most {MOST_FILTERS} filters.",
            )
        self._tests = [_parse(each.get("Pattern") or "", service) for each in self._filters]

    def __bool__(self) -> bool:
        return bool(self._filters)

    @property
    def criteria(self) -> dict[str, Any]:
        """The FilterCriteria as it was given."""
        return {"Filters": [dict(each) for each in self._filters]}

    def match(self, event: dict[str, Any]) -> bool:
        """Tell whether a function gets a record, given in the shape in which it would get it."""
        if not self._tests:
            return True
        seen = _as_filters_see(event)
        return any(test(seen) for test in self._tests)


# -- what a filter sees -------------------------------------------------------------------------


def _as_filters_see(event: dict[str, Any]) -> dict[str, Any]:
    """A Kinesis record has its members, the data read as JSON, beside those of the event."""
    if "kinesis" not in event:
        return event
    seen = {**event, **event["kinesis"], "data": _decoded(event["kinesis"]["data"])}
    del seen["kinesis"]
    return seen


def _decoded(data: str) -> Any:
    try:
        return _read(base64.b64decode(data).decode())
    except (ValueError, ArithmeticError, RecursionError):
        return _NOT_JSON


def _read(text: str) -> Any:
    """JSON whose numbers keep the way they are written."""
    return json.loads(text, parse_int=Decimal, parse_float=Decimal, parse_constant=_no_json)


def _no_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _literal(value: Any) -> str:
    """A value as it is written: AWS holds 300, 300.0 and 3.0e2 for three different numbers."""
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


def _number(value: Any) -> Decimal | None:
    """The number that a value is; a string with digits in it is none."""
    if isinstance(value, Decimal):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Decimal(json.dumps(value)) if is_number else None


def _elements(value: Any) -> Iterator[Any]:
    """A value, or those of an array, arrays in it included."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += reversed(each)
        else:
            yield each


# -- patterns -----------------------------------------------------------------------------------


class _BadPatternError(ValueError):
    """A pattern that says nothing."""


def _parse(text: str, service: str) -> Test:
    try:
        pattern = _read(text)
        if not isinstance(pattern, dict):
            raise _BadPatternError
        _check_data(pattern, DATA_FIELDS[service])
        return _whole(pattern, 1)
    except (ValueError, ArithmeticError, RecursionError):
        raise ApiError(
            "InvalidParameterValueException", "Invalid filter pattern definition."
        ) from None


def _check_data(pattern: dict[str, Any], name: str) -> None:
    """A pattern for the data that is no JSON is refused (Developer Guide), read as: no object."""
    if not isinstance(pattern.get(name, {}), dict):
        raise _BadPatternError
    if _is_choice(pattern.get("$or")):
        for branch in pattern["$or"]:
            _check_data(branch, name)


def _whole(pattern: dict[str, Any], depth: int) -> Test:
    """All fields of an object pattern."""
    if not pattern:
        raise _BadPatternError
    if depth > DEEPEST:
        raise not_modelled(f"A filter pattern of more than {DEEPEST} levels", "Lambda")
    tests = [
        _one_of([_whole(branch, depth + 1) for branch in value])
        if name == "$or" and _is_choice(value)
        else _field(name, value, depth)
        for name, value in pattern.items()
    ]
    return lambda event: all(test(event) for test in tests)


def _is_choice(value: Any) -> bool:
    """Whether this is what `$or` chooses from; else it is a field of that name."""
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(each, dict) and not OPERATORS & each.keys() for each in value)
    )


def _one_of(tests: list[Test]) -> Test:
    return lambda value: any(test(value) for test in tests)


def _field(name: str, wanted: Any, depth: int) -> Test:
    if isinstance(wanted, dict):
        inner = _whole(wanted, depth + 1)

        def within(event: Any) -> bool:
            found = event.get(name)
            if found is _NOT_JSON:
                return False
            objects = [each for each in _elements(found) if isinstance(each, dict)]
            return any(inner(each) for each in objects or [{}])

        return within
    if isinstance(wanted, list) and wanted:
        matches = _one_of([_alternative(each) for each in wanted])
        return lambda event: matches(
            [each for each in _elements(event.get(name, [])) if not isinstance(each, dict)]
        )
    raise _BadPatternError


def _alternative(wanted: Any) -> Test:
    """A test of the leaves found in one place: none, one, or those of an array."""
    if isinstance(wanted, list):
        raise _BadPatternError
    if not isinstance(wanted, dict):
        expected = _literal(wanted)
        return lambda leaves: any(_literal(leaf) == expected for leaf in leaves)
    if len(wanted) != 1:
        raise _BadPatternError
    ((operator, operand),) = wanted.items()
    if operator == "exists" and isinstance(operand, bool):
        return lambda leaves: bool(leaves) == operand
    test = _comparison(operator, operand)
    return lambda leaves: any(test(leaf) for leaf in leaves)


def _comparison(operator: str, operand: Any) -> Test:
    """A test of one leaf."""
    if operator in STRING_TESTS and isinstance(operand, str):
        return _string_test(operator, [operand])
    if operator == "numeric" and isinstance(operand, list):
        return _range(operand)
    if operator == "anything-but":
        named = _excluded(operand)
        return lambda leaf: not named(leaf)
    raise _BadPatternError


def _string_test(operator: str, wanted: list[str]) -> Test:
    compare = STRING_TESTS[operator]
    return lambda leaf: isinstance(leaf, str) and any(compare(leaf, each) for each in wanted)


def _excluded(operand: Any) -> Test:
    """What `anything-but` keeps out: values of one type, or strings by their looks."""
    if isinstance(operand, dict):
        if len(operand) != 1:
            raise _BadPatternError
        ((operator, wanted),) = operand.items()
        wanted = wanted if isinstance(wanted, list) else [wanted]
        if operator not in STRING_TESTS or not all(
            isinstance(each, str) and each for each in wanted or [""]
        ):
            raise _BadPatternError
        return _string_test(operator, wanted)
    values = operand if isinstance(operand, list) else [operand]
    if {type(each) for each in values} not in ({str}, {Decimal}):
        raise _BadPatternError
    literals = {_literal(each) for each in values}
    return lambda leaf: _literal(leaf) in literals


def _range(terms: list[Any]) -> Test:
    """One comparison, or a lower bound and then an upper one above it, as EventBridge has them."""
    operators, bounds = terms[::2], terms[1::2]
    if (
        len(operators) != len(bounds)
        or len(operators) not in (1, 2)
        or not all(isinstance(each, str) and each in COMPARISONS for each in operators)
        or not all(isinstance(each, Decimal) for each in bounds)
    ):
        raise _BadPatternError
    if len(operators) == 2 and (
        operators[0] not in (">", ">=") or operators[1] not in ("<", "<=") or bounds[0] >= bounds[1]
    ):
        raise _BadPatternError
    checks = [
        (COMPARISONS[operator], bound) for operator, bound in zip(operators, bounds, strict=True)
    ]

    def within(leaf: Any) -> bool:
        value = _number(leaf)
        return value is not None and all(compare(value, bound) for compare, bound in checks)

    return within
