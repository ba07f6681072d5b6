"""Time to live: which items are deleted, when, and what their records tell."""

from __future__ import annotations

import decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

import lab_utils as lu
from lab_utils.emulator.backing import Backing
from lab_utils.emulator.time_to_live import TOO_OLD
from lab_utils.lab import Lab

Item = dict[str, Any]
YEAR = 365 * 24 * 3600
BY = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
"""Facts of the API reference: a deletion by time to live is told by its userIdentity."""


def make_table(lab: Lab, view: str = "NEW_AND_OLD_IMAGES", sort: bool = False) -> str:
    names = ["id", "sort"][: 1 + sort]
    made = lab.client("dynamodb").create_table(
        TableName="Table",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": name, "KeyType": kind}
            for name, kind in zip(names, ("HASH", "RANGE"), strict=False)
        ],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": view},
    )
    return str(made["TableDescription"]["LatestStreamArn"])


def switch(lab: Lab, on: bool = True, attribute: str = "gone", table: str = "Table") -> Item:
    found: Item = lab.client("dynamodb").update_time_to_live(
        TableName=table, TimeToLiveSpecification={"Enabled": on, "AttributeName": attribute}
    )
    return found


def put(lab: Lab, key: str, gone: Item | None = None, **more: Item) -> None:
    item = {"id": {"S": key}} | ({"gone": gone} if gone else {}) | more
    lab.client("dynamodb").put_item(TableName="Table", Item=item)


def at(lab: Lab, seconds: float) -> Item:
    """The attribute of an item that is over so many seconds from now."""
    return {"N": str(int(lab.clock.now().timestamp()) + int(seconds))}


def stored(lab: Lab) -> list[str]:
    items = lab.client("dynamodb").scan(TableName="Table")["Items"]
    return sorted(item["id"]["S"] for item in items)


def records(lab: Lab, arn: str) -> list[Item]:
    streams, found = lab.client("dynamodbstreams"), []
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        at = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        found += streams.get_records(ShardIterator=at)["Records"]
    return sorted(found, key=lambda each: int(each["dynamodb"]["SequenceNumber"]))


def refusal(*given: Any, **named: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        switch(*given, **named)
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


# -- the setting --------------------------------------------------------------------------------


def test_it_is_switched_on_described_and_switched_off(lab: Lab) -> None:
    make_table(lab)
    describe = lab.client("dynamodb").describe_time_to_live
    assert describe(TableName="Table")["TimeToLiveDescription"] == {"TimeToLiveStatus": "DISABLED"}
    assert switch(lab)["TimeToLiveSpecification"] == {"Enabled": True, "AttributeName": "gone"}
    assert describe(TableName="Table")["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED",
        "AttributeName": "gone",
    }
    assert switch(lab, on=False)["TimeToLiveSpecification"]["Enabled"] is False
    assert describe(TableName="Table")["TimeToLiveDescription"] == {"TimeToLiveStatus": "DISABLED"}


def test_what_cannot_be_changed_is_refused_in_aws_words(lab: Lab) -> None:
    """As observed on AWS: what is on already, off already, or on for another attribute."""
    make_table(lab)
    wrong = "ValidationException"
    assert refusal(lab, on=False) == (wrong, "TimeToLive is already disabled")
    switch(lab)
    assert refusal(lab) == (wrong, "TimeToLive is already enabled")
    other = "TimeToLive is active on a different AttributeName: current AttributeName is gone"
    assert refusal(lab, attribute="other") == (wrong, other)
    assert refusal(lab, on=False, attribute="other") == (wrong, other)
    assert refusal(lab, table="Nowhere") == (
        "ResourceNotFoundException",
        "Requested resource not found: Table: Nowhere not found",
    )
    with pytest.raises(ClientError, match="Table: Nowhere not found"):
        lab.client("dynamodb").describe_time_to_live(TableName="Nowhere")


def test_a_table_may_be_named_by_its_arn(lab: Lab) -> None:
    arn = make_table(lab).partition("/stream/")[0]
    switch(lab, table=arn)
    found = lab.client("dynamodb").describe_time_to_live(TableName=arn)
    assert found["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED"


def test_what_is_left_out_is_named(lab: Lab) -> None:
    make_table(lab)
    with pytest.raises(ParamValidationError, match="AttributeName"):
        lab.client("dynamodb").update_time_to_live(
            TableName="Table", TimeToLiveSpecification={"Enabled": True}
        )
    assert refusal(lab, attribute="a" * 256)[1].endswith(
        "'timeToLiveSpecification.attributeName' failed to satisfy constraint: "
        "Member must have length less than or equal to 255"
    )


# -- what is deleted, and when ------------------------------------------------------------------


def test_an_expired_item_goes_within_a_minute_by_default(lab: Lab) -> None:
    arn = make_table(lab)
    switch(lab)
    for number in range(20):
        put(lab, f"item-{number:02d}", at(lab, 3600))
    lab.clock.advance(minutes=59, seconds=59)
    assert len(stored(lab)) == 20
    lab.clock.advance(seconds=31)
    assert 0 < len(stored(lab)) < 20, "each in its own time"
    lab.clock.advance(seconds=35)
    assert stored(lab) == []
    assert sum(lab.partitions("Table")["items"]) == sum(lab.partitions("Table")["bytes"]) == 0
    removed = [each for each in records(lab, arn) if each["eventName"] == "REMOVE"]
    assert len(removed) == 20
    assert all(each["userIdentity"] == BY for each in removed)


@pytest.mark.parametrize(
    ("view", "image"),
    [
        ("KEYS_ONLY", False),
        ("NEW_IMAGE", False),
        ("OLD_IMAGE", True),
        ("NEW_AND_OLD_IMAGES", True),
    ],
)
def test_the_record_shows_what_the_view_type_shows(lab: Lab, view: str, image: bool) -> None:
    arn = make_table(lab, view)
    switch(lab)
    put(lab, "a", at(lab, 5))
    lab.clock.advance(minutes=2)
    inserted, removed = records(lab, arn)
    assert "userIdentity" not in inserted
    assert removed["userIdentity"] == BY
    assert removed["dynamodb"]["Keys"] == {"id": {"S": "a"}}
    assert ("OldImage" in removed["dynamodb"]) == image
    assert "NewImage" not in removed["dynamodb"]


def test_items_that_were_there_before_go_as_well(lab: Lab) -> None:
    make_table(lab)
    put(lab, "long ago", at(lab, -3600))
    put(lab, "soon", at(lab, 300))
    put(lab, "never")
    lab.clock.advance(minutes=10)
    assert len(stored(lab)) == 3
    switch(lab)
    lab.clock.advance(minutes=1, seconds=1)
    assert stored(lab) == ["never"]


@pytest.mark.parametrize(
    "gone",
    [
        {"S": "1"},
        {"BOOL": True},
        {"NULL": True},
        {"L": [{"N": "1767600000"}]},
        {"NS": ["1767600000"]},
        {"N": "-5"},
        {"N": "0"},
    ],
)
def test_what_is_no_moment_of_the_last_five_years_is_no_expiry(lab: Lab, gone: Item) -> None:
    make_table(lab)
    switch(lab)
    put(lab, "a", gone)
    lab.clock.advance(hours=2)
    assert stored(lab) == ["a"]


def test_five_years_are_too_old(lab: Lab) -> None:
    """Documented: lest a slip deletes a whole table."""
    assert TOO_OLD == 5 * YEAR * 10**6
    make_table(lab)
    switch(lab)
    put(lab, "older", at(lab, -5 * YEAR - 60))
    put(lab, "younger", at(lab, -5 * YEAR + 60))
    lab.clock.advance(minutes=2)
    assert stored(lab) == ["older"]


def test_numbers_beyond_all_calendars_do_no_harm(lab: Lab) -> None:
    make_table(lab)
    switch(lab)
    put(lab, "milliseconds", {"N": str(10**3 * int(lab.clock.now().timestamp()))})
    put(lab, "huge", {"N": "9.9E+125"})
    put(lab, "tiny", {"N": "1E-130"})
    lab.clock.advance(hours=50)
    assert stored(lab) == ["huge", "milliseconds", "tiny"]


def test_the_last_word_of_an_item_counts(lab: Lab) -> None:
    make_table(lab)
    switch(lab)
    for name in ("later", "sooner", "without", "text", "again", "same"):
        put(lab, name, at(lab, 600))
    put(lab, "later", at(lab, 7200))
    put(lab, "sooner", at(lab, 60))
    put(lab, "without")
    put(lab, "text", {"S": at(lab, 600)["N"]})
    lab.client("dynamodb").delete_item(TableName="Table", Key={"id": {"S": "again"}})
    put(lab, "again")
    put(lab, "same", at(lab, 600), more={"S": "x"})
    lab.clock.advance(minutes=3)
    assert stored(lab) == ["again", "later", "same", "text", "without"]
    lab.clock.advance(minutes=10)
    assert stored(lab) == ["again", "later", "text", "without"]
    lab.clock.advance(hours=2)
    assert stored(lab) == ["again", "text", "without"]


def test_an_expired_item_can_still_be_saved(lab: Lab) -> None:
    """Until it is deleted an expired item is there for everybody to read and to change."""
    physics = lu.Physics(expiry_delay=(3600, 3600))
    with lu.open_lab("embedded", physics=physics) as slow:
        make_table(slow)
        switch(slow)
        put(slow, "a", at(slow, 5))
        put(slow, "b", at(slow, 5))
        slow.clock.advance(minutes=30)
        assert stored(slow) == ["a", "b"]
        put(slow, "a", at(slow, 24 * 3600))
        slow.clock.advance(hours=2)
        assert stored(slow) == ["a"]


def test_nothing_goes_once_it_is_off(lab: Lab) -> None:
    make_table(lab)
    switch(lab)
    put(lab, "a", at(lab, 60))
    switch(lab, on=False)
    lab.clock.advance(hours=1)
    assert stored(lab) == ["a"]
    switch(lab, attribute="other")
    lab.clock.advance(hours=1)
    assert stored(lab) == ["a"]
    switch(lab, on=False, attribute="other")
    switch(lab)
    lab.clock.advance(minutes=2)
    assert stored(lab) == []


def test_a_table_of_the_same_name_is_another(lab: Lab) -> None:
    make_table(lab)
    switch(lab)
    put(lab, "a", at(lab, 60))
    lab.client("dynamodb").delete_table(TableName="Table")
    make_table(lab)
    put(lab, "a", at(lab, 60))
    lab.clock.advance(hours=1)
    assert stored(lab) == ["a"], "it is off there"


def test_the_attribute_may_be_a_key(lab: Lab) -> None:
    """Observed: AWS lets time to live be a key attribute (which must be a number, though)."""
    make_table(lab)
    switch(lab, attribute="id")
    put(lab, "1")
    lab.clock.advance(hours=1)
    assert stored(lab) == ["1"], "a string is no expiry"


def test_a_sort_key_tells_items_apart(lab: Lab) -> None:
    make_table(lab, sort=True)
    switch(lab)
    for name, seconds in (("one", 60), ("two", 7200)):
        put(lab, "a", at(lab, seconds), sort={"S": name})
    lab.clock.advance(hours=1)
    (left,) = lab.client("dynamodb").scan(TableName="Table")["Items"]
    assert left["sort"] == {"S": "two"}


@pytest.mark.parametrize("write", ["update", "batch", "transaction", "partiql"])
def test_every_kind_of_write_sets_an_expiry(lab: Lab, write: str) -> None:
    make_table(lab)
    switch(lab)
    client, gone = lab.client("dynamodb"), at(lab, 60)
    item = {"id": {"S": "a"}, "gone": gone}
    if write == "update":
        client.update_item(
            TableName="Table",
            Key={"id": {"S": "a"}},
            UpdateExpression="SET gone = :g",
            ExpressionAttributeValues={":g": gone},
        )
    elif write == "batch":
        client.batch_write_item(RequestItems={"Table": [{"PutRequest": {"Item": item}}]})
    elif write == "transaction":
        client.transact_write_items(TransactItems=[{"Put": {"TableName": "Table", "Item": item}}])
    else:
        client.execute_statement(
            Statement="INSERT INTO \"Table\" VALUE {'id': 'a', 'gone': ?}", Parameters=[gone]
        )
    assert stored(lab) == ["a"]
    lab.clock.advance(minutes=3)
    assert stored(lab) == []


def test_a_function_sees_who_deleted_in_lower_case(lab: Lab) -> None:
    """Documented: Lambda's event spells type and principalId so, and filters match that."""
    arn = make_table(lab)
    role = lab.role("reader", {"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"})
    lab.deploy_function(
        "watch",
        "def handler(event, context):\n"
        "    for each in event['Records']:\n"
        "        print(each['eventName'], each.get('userIdentity'))\n",
        role=role,
    )
    lab.client("lambda").create_event_source_mapping(
        FunctionName="watch", EventSourceArn=arn, StartingPosition="TRIM_HORIZON"
    )
    switch(lab)
    put(lab, "a", at(lab, 60))
    lab.clock.advance(minutes=3)
    logs = lab.client("logs")
    lines = [
        each["message"].strip()
        for each in logs.filter_log_events(logGroupName="/aws/lambda/watch")["events"]
        if each["message"].startswith(("INSERT", "REMOVE"))
    ]
    assert lines == [
        "INSERT None",
        "REMOVE {'type': 'Service', 'principalId': 'dynamodb.amazonaws.com'}",
    ]


def test_ministack_never_hears_of_it(lab: Lab) -> None:
    """Its own thread would delete by the wall clock, and leave no record."""
    make_table(lab)
    switch(lab)
    put(lab, "a", at(lab, 60))
    known = Backing._loaded["dynamodb"]._ttl_settings
    assert not known._data


def test_the_same_seed_deletes_at_the_same_moments() -> None:
    def run(seed: int) -> list[Any]:
        with lu.open_lab("embedded", seed=seed) as lab:
            arn = make_table(lab)
            switch(lab)
            for number in range(8):
                put(lab, f"item-{number}", at(lab, 30))
            lab.clock.advance(minutes=2)
            return [(each["eventID"], each["dynamodb"]["Keys"]) for each in records(lab, arn)]

    assert run(1) == run(1) != run(2)


WRITE = st.tuples(st.integers(0, 3), st.sampled_from([None, "text", -400, 30, 90, 600]))


@settings(max_examples=15)
@given(st.lists(st.one_of(WRITE, st.integers(1, 200)), max_size=25), st.integers(0, 2))
def test_an_item_goes_if_and_only_if_its_time_is_over(steps: list[Any], seed: int) -> None:
    """Any history of writes and waits, against the plain rule."""
    with lu.open_lab("embedded", seed=seed) as lab:
        arn = make_table(lab)
        switch(lab)
        over: dict[str, float | None] = {}

        def forget_the_dead() -> None:
            present, now = stored(lab), lab.clock.now().timestamp()
            for key, end in list(over.items()):
                if end is not None and end + 60.1 < now:
                    assert key not in present, "it is more than a minute over"
                    del over[key]
                elif key not in present:
                    assert end is not None
                    assert end < now, "it was not over yet"
                    del over[key]
            assert set(present) == set(over)

        for step in steps:
            if isinstance(step, int):
                lab.clock.advance(seconds=step)
            else:
                key, wish = f"key-{step[0]}", step[1]
                if not isinstance(wish, int):
                    put(lab, key, {"S": wish} if wish else None)
                    over[key] = None
                else:
                    gone = at(lab, wish)
                    put(lab, key, gone)
                    over[key] = max(float(gone["N"]), lab.clock.now().timestamp() - 0.1)
            forget_the_dead()
        lab.clock.advance(minutes=20)
        forget_the_dead()
        removed = [each for each in records(lab, arn) if each["eventName"] == "REMOVE"]
        assert all(each["userIdentity"] == BY for each in removed)


def test_an_expiry_is_exact_whatever_precision_the_reader_has_set(lab: Lab) -> None:
    make_table(lab)
    switch(lab)
    with decimal.localcontext() as context:
        context.prec = 3
        put(lab, "later", at(lab, 3600))
        lab.clock.advance(minutes=59)
    assert stored(lab) == ["later"]
    lab.clock.advance(minutes=3)
    assert stored(lab) == []
