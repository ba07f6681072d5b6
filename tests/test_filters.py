"""Filter patterns: the grammar, what they see of a record, and a naive matcher that must agree."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.filters import DEEPEST, Filters


def filters(*patterns: Any, service: str = "dynamodb") -> Filters:
    """Filters of patterns, each a text or what becomes one."""
    texts = [each if isinstance(each, str) else json.dumps(each) for each in patterns]
    return Filters({"Filters": [{"Pattern": text} for text in texts]}, service)


def matches(pattern: Any, event: dict[str, Any]) -> bool:
    return filters(pattern).match(event)


def leaf_matches(alternatives: list[Any], *value: Any) -> bool:
    """Whether a leaf, there or not, satisfies alternatives."""
    return matches({"a": alternatives}, {"a": value[0]} if value else {})


def change(**attributes: Any) -> dict[str, Any]:
    return {
        "eventName": "INSERT",
        "eventSource": "aws:dynamodb",
        "dynamodb": {
            "ApproximateCreationDateTime": 1700000000.0,
            "Keys": {"id": {"S": "a"}},
            "NewImage": {"id": {"S": "a"}, **attributes},
            "SizeBytes": 12,
        },
    }


def image(**fields: Any) -> dict[str, Any]:
    return {"dynamodb": {"NewImage": fields}}


def sent(data: Any, key: str = "k") -> dict[str, Any]:
    """A Kinesis record as a function gets it; `data` is bytes, or becomes JSON."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return {
        "kinesis": {
            "partitionKey": key,
            "sequenceNumber": "49",
            "data": base64.b64encode(raw).decode(),
            "approximateArrivalTimestamp": 1700000000.25,
        },
        "eventSource": "aws:kinesis",
        "eventID": "shardId-000000000000:49",
    }


# -- the grammar --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alternatives", "yes", "no"),
    [
        ([None], [None], ["", "null", 0, False]),
        ([""], [""], [" ", None]),
        (["x"], ["x", ["y", "x"]], ["X", "xx", ["y"], []]),
        ([True], [True], [1, "true", False]),
        ([1], [1], ["1", True, 1.5]),
        (["x", 2, None], ["x", 2, None], ["2", "null"]),
        ([{"prefix": "ab"}], ["ab", "abc"], ["AB", "cab", "a", 5, None]),
        ([{"suffix": ".png"}], ["x.png", ".png"], ["x.PNG", "png", 5]),
        ([{"equals-ignore-case": "Alice"}], ["alice", "ALICE"], ["alices", None]),
        ([{"anything-but": "x"}], ["y", 5, None, "X"], ["x"]),
        ([{"anything-but": 5}], [6, "5"], [5]),
        ([{"anything-but": ["x", "y"]}], ["z", ["x", "z"]], ["x", "y", ["x", "y"], []]),
        ([{"anything-but": [1, 2]}], [3, "1"], [1, 2]),
        ([{"anything-but": {"prefix": "ab"}}], ["b", 5], ["ab", "abc"]),
        ([{"anything-but": {"prefix": ["a", "b"]}}], ["c"], ["a1", "b1"]),
        ([{"anything-but": {"suffix": "z"}}], ["a"], ["az"]),
        ([{"anything-but": {"equals-ignore-case": ["a", "b"]}}], ["c"], ["A", "b"]),
        ([{"numeric": ["=", 100]}], [100, 100.0], ["100", 101, True, None]),
        ([{"numeric": [">", 10, "<=", 20]}], [10.5, 20], [10, 21, "15"]),
        ([{"numeric": ["<", -1.5]}], [-2], [-1.5, 0]),
        ([{"numeric": [">=", 5]}], [5, 6], [4.999]),
        ([{"exists": True}], ["", None, 0, False, ["x"]], [{"b": 1}, [], {}]),
        ([{"exists": False}], [{"b": 1}, [], {}], ["", None, 0, ["x"]]),
    ],
)
def test_each_operator(alternatives, yes, no):
    for value in yes:
        assert leaf_matches(alternatives, value), value
    for value in no:
        assert not leaf_matches(alternatives, value), value


@pytest.mark.parametrize(
    "alternative",
    [None, "", "x", 0, {"anything-but": "x"}, {"prefix": ""}, {"numeric": [">", 0]}],
)
def test_a_missing_field_matches_nothing_but_exists_false(alternative):
    assert not leaf_matches([alternative])
    assert not leaf_matches([{"exists": True}])
    assert leaf_matches([alternative, {"exists": False}])


def test_numbers_are_equal_as_they_are_written():
    """Filter rule syntax: 300, 300.0 and 3.0e2 are not considered equal; `numeric` compares."""
    written = ["300", "300.0", "3.0e2"]
    for wanted in written:
        exact = filters(f'{{"data": {{"a": [{wanted}]}}}}', service="kinesis")
        by_value = filters(
            f'{{"data": {{"a": [{{"numeric": ["=", {wanted}]}}]}}}}', service="kinesis"
        )
        for given_as in written:
            record = sent(f'{{"a": {given_as}}}'.encode())
            assert exact.match(record) == (given_as == wanted)
            assert by_value.match(record)


def test_fields_are_anded_and_alternatives_and_filters_are_ored():
    """E26: ANDed within, ORed between."""
    event = {"a": "x", "b": {"c": "y", "d": 1}}
    assert matches({"a": ["x"], "b": {"c": ["y"]}}, event)
    assert not matches({"a": ["x"], "b": {"c": ["z"]}}, event)
    assert not matches({"a": ["x"], "b": {"c": ["y"], "d": [2]}}, event)
    assert matches({"a": ["q", "x"]}, event)
    assert filters({"a": ["q"]}, {"b": {"c": ["y"]}}).match(event)
    assert not filters({"a": ["q"]}, {"b": {"c": ["z"]}}).match(event)


def test_or_chooses_between_fields_and_nests():
    pattern = {
        "kind": ["order"],
        "$or": [
            {"place": ["New York"]},
            {"$or": [{"day": ["Monday"]}, {"price": [{"numeric": [">", 10]}]}]},
            {"who": {"$or": [{"name": ["Ann"]}, {"age": [7]}]}},
        ],
    }
    for more in ({"place": "New York"}, {"day": "Monday"}, {"price": 11}, {"who": {"age": 7}}):
        assert matches(pattern, {"kind": "order", **more})
        assert not matches(pattern, {"kind": "other", **more})
    for more in ({}, {"price": 10}, {"who": {"name": "Bob"}}):
        assert not matches(pattern, {"kind": "order", **more})


def test_a_field_may_be_called_or():
    """Only an array of two or more objects without operators is a choice, as in EventBridge."""
    assert matches({"$or": ["x"]}, {"$or": "x"})
    assert matches({"$or": [{"prefix": "x"}, {"prefix": "y"}]}, {"$or": "yes"})


def test_an_array_of_objects_matches_by_one_of_them():
    event = {"rows": [{"k": "a", "n": 1}, {"k": "b", "n": 2}]}
    assert matches({"rows": {"k": ["b"], "n": [2]}}, event)
    assert not matches({"rows": {"k": ["a"], "n": [2]}}, event)


def test_names_and_values_are_case_sensitive():
    assert not matches({"A": ["x"]}, {"a": "x"})
    assert not matches({"a": ["X"]}, {"a": "x"})


def test_without_filters_all_matches():
    for criteria in (None, {}, {"Filters": []}):
        none = Filters(criteria, "dynamodb")
        assert not none
        assert none.match({})


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "single-string",
        '[{"eventName": ["INSERT"=123}]',
        '"text"',
        "5",
        "null",
        "[]",
        "{}",
        '{"a": {}}',
        '{"a": []}',
        '{"a": "x"}',
        '{"a": 5}',
        '{"a": null}',
        '{"a": [NaN]}',
        '{"a": [1e99999999999999999999]}',
        '{"a": [["x"]]}',
        '{"a": [{}]}',
        '{"a": [{"wildcard": "x*"}]}',
        '{"a": [{"prefix": "x", "suffix": "y"}]}',
        '{"a": [{"prefix": 5}]}',
        '{"a": [{"suffix": null}]}',
        '{"a": [{"equals-ignore-case": ["x"]}]}',
        '{"a": [{"exists": "true"}]}',
        '{"a": [{"exists": null}]}',
        '{"a": [{"anything-but": []}]}',
        '{"a": [{"anything-but": null}]}',
        '{"a": [{"anything-but": true}]}',
        '{"a": [{"anything-but": ["x", 1]}]}',
        '{"a": [{"anything-but": {"prefix": ""}}]}',
        '{"a": [{"anything-but": {"prefix": []}}]}',
        '{"a": [{"anything-but": {"numeric": ["=", 1]}}]}',
        '{"a": [{"anything-but": {}}]}',
        '{"a": [{"numeric": []}]}',
        '{"a": [{"numeric": [">"]}]}',
        '{"a": [{"numeric": [">", "5"]}]}',
        '{"a": [{"numeric": ["==", 5]}]}',
        '{"a": [{"numeric": [[], 5]}]}',
        '{"a": [{"numeric": [">", 5, "<", 5]}]}',
        '{"a": [{"numeric": ["<", 9, ">", 5]}]}',
        '{"a": [{"numeric": [">", 1, "<", 5, "<", 7]}]}',
        '{"a": [{"numeric": ">5"}]}',
        '{"$or": [{"a": ["x"]}]}',
        '{"$or": [{"a": ["x"]}, {}]}',
        '{"$or": []}',
        '{"dynamodb": ["plain"]}',
        '{"$or": [{"a": ["x"]}, {"dynamodb": ["plain"]}]}',
        "[" * 4000,
    ],
)
def test_a_bad_pattern_is_refused_in_the_recorded_words(pattern):
    """E26; recorded: filter pattern not JSON / malformed."""
    with pytest.raises(ApiError) as refused:
        filters(pattern)
    assert (refused.value.status, refused.value.code, refused.value.message) == (
        400,
        "InvalidParameterValueException",
        "Invalid filter pattern definition.",
    )


def test_a_filter_without_a_pattern_is_refused():
    with pytest.raises(ApiError, match="Invalid filter pattern definition"):
        Filters({"Filters": [{}]}, "kinesis")


def test_the_pattern_for_kinesis_data_is_an_object():
    with pytest.raises(ApiError, match="Invalid filter pattern definition"):
        filters({"data": ["plain"]}, service="kinesis")
    filters({"data": ["plain"]})


def test_five_filters_are_the_most():
    """E26: up to 5 patterns."""
    five = [{"a": [str(number)]} for number in range(5)]
    assert filters(*five).match({"a": "4"})
    with pytest.raises(ApiError) as refused:
        filters(*five, {"a": ["5"]})
    assert (refused.value.status, refused.value.code) == (400, "InvalidParameterValueException")


def test_the_deepest_pattern():
    def nested(levels: int) -> str:
        return '{"a":' * levels + '["x"]' + "}" * levels

    event: Any = "x"
    for _ in range(DEEPEST):
        event = {"a": event}
    assert filters(nested(DEEPEST)).match(event)
    for levels in (DEEPEST + 1, 600):
        with pytest.raises(ApiError) as refused:
            filters(nested(levels))
        assert refused.value.status in (400, 501)


# -- table images -------------------------------------------------------------------------------


def test_images_are_typed():
    """Fact 63: {"dynamodb":{"NewImage":{"k":{"S":["v"]}}}}; without "S" it does not match."""
    record = change(k={"S": "v"})
    assert matches(image(k={"S": ["v"]}), record)
    assert not matches(image(k=["v"]), record)
    assert matches(image(k={"S": [{"exists": True}]}), record)
    assert matches(image(k={"S": [{"prefix": "v"}]}), record)
    assert matches(image(k={"S": [{"anything-but": ["w"]}]}), record)
    assert not matches(image(k={"S": [{"prefix": "w"}]}), record)
    assert matches(image(k={"L": {"S": ["v"]}}), change(k={"L": [{"N": "1"}, {"S": "v"}]}))
    assert matches(image(k={"SS": ["v"]}), change(k={"SS": ["u", "v"]}))
    assert matches(image(k={"BOOL": [True]}), change(k={"BOOL": True}))
    assert matches({"eventName": ["INSERT"]}, record)
    assert not matches({"eventName": ["MODIFY", "REMOVE"]}, record)


def test_numeric_never_matches_a_number_of_an_image():
    """Fact 64: the value is a string; anything-but lets "42" pass."""
    for number in ("42", "101", "1000"):
        assert not matches(image(n={"N": [{"numeric": [">", 0]}]}), change(n={"N": number}))
    both = image(n={"N": [{"numeric": [">", 100]}, {"anything-but": "101"}]})
    assert matches(both, change(n={"N": "42"}))
    assert not matches(both, change(n={"N": "101"}))


def test_exists_tests_leaves_only():
    """Fact 65: exists false matches an item without the key and one where it is an object."""
    pattern = image(presentKey=[{"exists": False}])
    assert matches(pattern, change())
    assert matches(pattern, change(presentKey={"S": "v"}))
    assert not matches(image(presentKey=[{"exists": True}]), change(presentKey={"S": "v"}))
    typed = image(presentKey={"S": [{"exists": False}]})
    assert matches(typed, change())
    assert not matches(typed, change(presentKey={"S": "v"}))
    assert matches({"dynamodb": {"OldImage": {"id": {"S": [{"exists": False}]}}}}, change())


def test_the_time_of_a_change_is_a_number():
    """Fact 66: ApproximateCreationDateTime matches {"numeric":[">",0]}."""
    pattern = {"dynamodb": {"ApproximateCreationDateTime": [{"numeric": [">", 0]}]}}
    assert matches(pattern, change())
    assert matches({"dynamodb": {"SizeBytes": [{"numeric": ["=", 12]}]}}, change())


# -- Kinesis records ----------------------------------------------------------------------------


def test_kinesis_data_is_read_as_json():
    """Fact 67: Kinesis filters look at the decoded JSON under `data`."""
    wanted = filters({"data": {"order": {"type": ["buy"]}}}, service="kinesis")
    assert wanted.match(sent({"order": {"type": "buy"}}))
    assert not wanted.match(sent({"order": {"type": "sell"}}))
    assert not wanted.match(sent({"type": "buy"}))
    below = filters({"kinesis": {"data": {"a": ["x"]}}}, service="kinesis")
    assert not below.match(sent({"a": "x"}))


@pytest.mark.parametrize(
    "raw", [b"plain", b"", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000, b"'a'"]
)
def test_data_that_is_not_json_matches_no_pattern_for_it(raw):
    for pattern in ({"data": {"a": ["x"]}}, {"data": {"a": [{"exists": False}]}}):
        assert not filters(pattern, service="kinesis").match(sent(raw))
    assert filters({"partitionKey": ["k"]}, service="kinesis").match(sent(raw))
    either = {"$or": [{"data": {"a": ["x"]}}, {"partitionKey": ["k"]}]}
    assert filters(either, service="kinesis").match(sent(raw))
    assert not filters(either, service="kinesis").match(sent(raw, "other"))


def test_data_that_is_json_but_no_object():
    for data in (5, "text", [1], None):
        assert not filters({"data": {"a": ["x"]}}, service="kinesis").match(sent(data))
        assert filters({"data": {"a": [{"exists": False}]}}, service="kinesis").match(sent(data))


def test_what_surrounds_the_data_of_a_kinesis_record():
    pattern = {
        "partitionKey": [{"prefix": "a"}],
        "sequenceNumber": ["49"],
        "approximateArrivalTimestamp": [{"numeric": [">", 1_699_999_999]}],
        "eventSource": ["aws:kinesis"],
        "data": {"n": [1]},
    }
    assert filters(pattern, service="kinesis").match(sent({"n": 1}, "abc"))
    assert not filters(pattern, service="kinesis").match(sent({"n": 1}, "bcd"))


# -- a naive matcher ----------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
WORDS = st.sampled_from(["", "a", "A", "ab", "ba", "Ab", "1"])
NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, -1.5]))
SCALARS = st.one_of(WORDS, NUMBERS, st.booleans(), st.none())

EVENTS = st.recursive(
    st.dictionaries(NAMES, st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=3),
    lambda inner: st.dictionaries(NAMES, st.one_of(SCALARS, inner), max_size=3),
    max_leaves=8,
)


@st.composite
def ranges(draw):
    low, high = sorted(draw(st.lists(NUMBERS, min_size=2, max_size=2, unique=True)))
    lower, upper = draw(st.sampled_from([">", ">="])), draw(st.sampled_from(["<", "<="]))
    one = [draw(st.sampled_from(["=", "<", "<=", ">", ">="])), low]
    return draw(st.sampled_from([one, [lower, low, upper, high]]))


def only(name, values):
    return st.builds(lambda value: {name: value}, values)


LOOKS = st.one_of(
    *(only(name, WORDS) for name in ("prefix", "suffix", "equals-ignore-case")),
)
ALTERNATIVES = st.one_of(
    SCALARS,
    LOOKS,
    only("exists", st.booleans()),
    only("numeric", ranges()),
    only(
        "anything-but",
        st.one_of(
            WORDS,
            NUMBERS,
            st.lists(WORDS, min_size=1, max_size=3),
            st.lists(NUMBERS, min_size=1, max_size=3),
            LOOKS.filter(lambda looks: "" not in looks.values()),
        ),
    ),
)
LEAVES = st.lists(ALTERNATIVES, min_size=1, max_size=3)


def wholes(fields):
    return st.dictionaries(NAMES, fields, min_size=1, max_size=2)


def choices(inner):
    return st.builds(
        lambda fields, branches: {**fields, "$or": branches},
        st.one_of(st.just({}), inner),
        st.lists(inner, min_size=2, max_size=3),
    )


PATTERNS = st.recursive(
    wholes(LEAVES),
    lambda inner: st.one_of(wholes(st.one_of(LEAVES, inner)), choices(inner)),
    max_leaves=6,
)


def flattened(pattern):
    """A pattern without `$or`: its alternatives, each a list of (path, leaf) that must all hold."""
    rows = [[]]
    for name, value in pattern.items():
        if name == "$or":
            more = [row for branch in value for row in flattened(branch)]
        elif isinstance(value, dict):
            more = [[((name, *path), leaf) for path, leaf in row] for row in flattened(value)]
        else:
            more = [[((name,), value)]]
        rows = [row + other for row in rows for other in more]
    return rows


def leaves_of(event, path=()):
    """Every leaf of an event with its path; an element of an array has the array's."""
    if isinstance(event, dict):
        return [pair for name, value in event.items() for pair in leaves_of(value, (*path, name))]
    return [(path, each) for each in (event if isinstance(event, list) else [event])]


def same(one, other):
    return json.dumps(one) == json.dumps(other)


def satisfies(value, wanted):
    if not isinstance(wanted, dict):
        return same(value, wanted)
    ((operator, operand),) = wanted.items()
    if operator == "anything-but":
        kept_out = operand if isinstance(operand, list) else [operand]
        return not any(satisfies(value, each) for each in kept_out)
    if operator == "numeric":
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        pairs = zip(operand[::2], operand[1::2], strict=True)
        return all(eval(f"{value}{'==' if op == '=' else op}{bound}") for op, bound in pairs)
    if not isinstance(value, str):
        return False
    return {
        "prefix": value[: len(operand)] == operand,
        "suffix": value[max(0, len(value) - len(operand)) :] == operand,
        "equals-ignore-case": value.upper() == operand.upper(),
    }[operator]


def naive(pattern, event):
    leaves = leaves_of(event)

    def holds(path, leaf):
        found = [value for where, value in leaves if where == path]
        return any(
            bool(found) == wanted["exists"]
            if isinstance(wanted, dict) and "exists" in wanted
            else any(satisfies(value, wanted) for value in found)
            for wanted in leaf
        )

    return any(all(holds(path, leaf) for path, leaf in row) for row in flattened(pattern))


def test_a_naive_matcher_agrees():
    answers = []

    @settings(max_examples=1500)
    @given(PATTERNS, EVENTS)
    def agree(pattern, event):
        expected = naive(pattern, event)
        answers.append(expected)
        assert matches(pattern, event) == expected
        assert filters({"data": pattern}, service="kinesis").match(sent(event)) == expected

    agree()
    assert answers.count(True) > 100
    assert answers.count(False) > 100
