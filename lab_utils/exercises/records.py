"""Questions about records: what one holds and weighs, which time it shows, which stream has it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from lab_utils.exercises import Found, Question
from lab_utils.exercises.tables import TABLE, new_table
from lab_utils.lab import Lab, open_lab

VIEWS = ("KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES")
KINDS = ("INSERT", "MODIFY", "REMOVE")
IDS = ("Ada", "Fred", "Zoë", "Grace", "Björk")
VALUES = ("Oslo", "Århus", "Bergen", "Rome", "Köln", "Lisbon")
NAMES = ("city", "home", "lives", "place")
HALF = 0.5
"""What happens, happens on the hour and is seen at half past."""

Record = dict[str, Any]


def ask(rng: random.Random) -> Question:
    """One of six situations, with its numbers drawn."""
    situations = [_bytes, _images, _switched, _seconds, _first_empty_page, _listed]
    return rng.choice(situations)(rng)


def _bytes(rng: random.Random) -> Question:
    view, kind, told, write = _one_write(rng)

    def run() -> Found:
        with open_lab("embedded") as lab:
            change = _written(lab, view, write)["dynamodb"]
        images = [part for part in ("NewImage", "OldImage") if part in change]
        return Found(
            change["SizeBytes"],
            f"The record has {' and '.join(['Keys', *images])}. Each counts by itself, with the "
            "bytes of its names and values in UTF-8, where a letter with an accent has two.",
        )

    return Question(
        f"{told} The view type is {view}. What is the SizeBytes of the {kind} record?", run
    )


def _images(rng: random.Random) -> Question:
    view, kind, told, write = _one_write(rng)

    def run() -> Found:
        with open_lab("embedded") as lab:
            change = _written(lab, view, write)["dynamodb"]
        images = tuple(part for part in ("NewImage", "OldImage") if part in change)
        return Found(
            images,
            f"{view} asks for {_asked_for(view)}, and what a record could have "
            f"depends on what happened: {_possible(kind)}.",
        )

    return Question(
        f"{told} The view type is {view}. Which images has the {kind} record? (A tuple of "
        "names, in alphabetical order; it may be empty.)",
        run,
    )


def _switched(rng: random.Random) -> Question:
    before, during, between, after = (rng.randint(1, 9) for _ in range(4))

    def run() -> Found:
        with open_lab("embedded") as lab:
            new_table(lab, view=None)
            _put(lab, range(before))
            old = _enable(lab, "NEW_IMAGE")
            _put(lab, range(100, 100 + during))
            _disable(lab)
            _put(lab, range(200, 200 + between))
            new = _enable(lab, "KEYS_ONLY")
            _put(lab, range(300, 300 + after))
            counts = len(_read(lab, old)), len(_read(lab, new))
        return Found(
            counts,
            "A stream has what was written while it was enabled, and keeps it when it is disabled. "
            f"The other {before + between} changes are in no stream.",
        )

    return Question(
        f"{_items(before)} put into a table. Then its stream is enabled, and {_items(during)} put; "
        f"it is disabled, and {_items(between)} put; another is enabled, and {_items(after)} put. "
        "All are different items. How many records can be read from the old stream right "
        "afterwards, and how many from the new one? (A pair.)",
        run,
    )


def _seconds(rng: random.Random) -> Question:
    many, tenths = rng.randint(4, 15), rng.choice((2, 3, 4, 6, 7, 8))

    def run() -> Found:
        with open_lab("embedded") as lab:
            new_table(lab, view=None)
            arn = _enable(lab, "NEW_IMAGE")
            _advance_to(lab, lab.clock.now().timestamp() // 1 + 1.05)
            first = lab.clock.now().timestamp()
            for n in range(many):
                _advance_to(lab, first + n * tenths / 10)
                _put(lab, [n], key="the same")
            times = {_time(each) for each in _read(lab, arn)}
        return Found(
            len(times),
            f"The last write is {0.05 + (many - 1) * tenths / 10:.2f} seconds after the first full "
            f"second, and times are rounded down: {len(times)} seconds have a record.",
        )

    return Question(
        f"One item is changed {many} times: first 0.05 seconds after a full second, and then every "
        f"{tenths / 10} seconds. How many different values of ApproximateCreationDateTime do "
        "the records show?",
        run,
    )


def _first_empty_page(rng: random.Random) -> Question:
    limit = rng.randint(2, 9)
    many = limit * rng.randint(1, 4) + rng.choice((0, 0, 1, limit - 1))

    def run() -> Found:
        with open_lab("embedded") as lab:
            new_table(lab, view=None)
            arn = _enable(lab, "KEYS_ONLY")
            _put(lab, range(many), key="the same")
            call = _calls_until_empty(lab, arn, limit)
        return Found(
            call,
            f"{call - 1} calls bring the {many} records. Nothing in the last of these pages says "
            "that no more will come: the shard is open, and only the next page is empty.",
        )

    return Question(
        f"One item is changed {many} times. A reader reads its shard from TRIM_HORIZON with "
        f"Limit={limit}, page after page. Which call of GetRecords (the first is 1) is the first "
        "that brings no record?",
        run,
    )


def _listed(rng: random.Random) -> Question:
    switches = sorted(rng.sample(range(1, 40), rng.randint(2, 5)))
    hour = rng.randint(switches[-1], 60) + HALF

    def run() -> Found:
        with open_lab("embedded") as lab:
            new_table(lab, view=None)
            _enable(lab, "KEYS_ONLY")
            began = lab.clock.now().timestamp()
            for at in switches:
                _advance_to(lab, began + 3600 * at)
                _disable(lab)
                _enable(lab, "KEYS_ONLY")
            _advance_to(lab, began + 3600 * hour)
            streams = lab.client("dynamodbstreams").list_streams(TableName=TABLE)["Streams"]
        return Found(
            len(streams),
            "One is enabled. A disabled stream stays for the 24 hours that its last records "
            f"may be read: of {len(switches)}, {len(streams) - 1} were disabled since hour "
            f"{hour - 24:g}.",
        )

    hours = ", ".join(map(str, switches[:-1])) + f" and {switches[-1]}"
    return Question(
        f"A stream is enabled at hour 0. At the hours {hours} it is disabled, and another is "
        f"enabled at once. It is hour {hour:g}. How many streams does the table list?",
        run,
    )


# -- what they share -----------------------------------------------------------------------------


def _one_write(rng: random.Random) -> tuple[str, str, str, list[Record | None]]:
    """View type, event, the story, and the item after each write (None: deleted)."""
    view, kind, name = rng.choice(VIEWS), rng.choice(KINDS), rng.choice(NAMES)
    key, (was, is_now) = rng.choice(IDS), rng.sample(VALUES, 2)
    item: Record = {"id": {"S": key}, name: {"S": was}}
    moved: Record = {"id": {"S": key}, name: {"S": is_now}}
    told = f'A table has the key id. The item {{"id": "{key}", "{name}": "{was}"}} is put into it'
    if kind == "INSERT":
        return view, kind, f"{told}.", [item]
    if kind == "MODIFY":
        return view, kind, f'{told}, and then {name} is set to "{is_now}".', [item, moved]
    return view, kind, f"{told} and deleted.", [item, None]


def _written(lab: Lab, view: str, states: list[Record | None]) -> Record:
    """The record of the last of some writes of one item."""
    new_table(lab, view=None)
    arn, dynamodb = _enable(lab, view), lab.client("dynamodb")
    for item in states:
        if item is not None:
            dynamodb.put_item(TableName=TABLE, Item=item)
        elif states[0] is not None:
            dynamodb.delete_item(TableName=TABLE, Key={"id": states[0]["id"]})
    return _read(lab, arn)[-1]


def _asked_for(view: str) -> str:
    return {
        "KEYS_ONLY": "no image",
        "NEW_IMAGE": "the new image",
        "OLD_IMAGE": "the old image",
        "NEW_AND_OLD_IMAGES": "both images",
    }[view]


def _possible(kind: str) -> str:
    return {
        "INSERT": "a new item has no old image",
        "MODIFY": "a changed item has both",
        "REMOVE": "a deleted item has no new image",
    }[kind]


def _items(many: int) -> str:
    return f"{many} items are" if many > 1 else "1 item is"


def _time(record: Record) -> Any:
    return record["dynamodb"]["ApproximateCreationDateTime"]


def _enable(lab: Lab, view: str) -> str:
    """The ARN of the table's new stream."""
    enabled = lab.client("dynamodb").update_table(
        TableName=TABLE, StreamSpecification={"StreamEnabled": True, "StreamViewType": view}
    )
    return str(enabled["TableDescription"]["LatestStreamArn"])


def _disable(lab: Lab) -> None:
    lab.client("dynamodb").update_table(
        TableName=TABLE, StreamSpecification={"StreamEnabled": False}
    )


def _put(lab: Lab, numbers: Any, key: str | None = None) -> None:
    """One item for each number, or one item that takes them all in turn."""
    for n in numbers:
        item = {"id": {"S": key or f"item {n}"}, "n": {"N": str(n)}}
        lab.client("dynamodb").put_item(TableName=TABLE, Item=item)


def _advance_to(lab: Lab, moment: float) -> None:
    lab.clock.advance(seconds=moment - lab.clock.now().timestamp())


def _iterators(lab: Lab, arn: str) -> list[str]:
    """The beginning of each shard."""
    streams = lab.client("dynamodbstreams")
    shards = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    return [
        streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        for shard in shards
    ]


def _read(lab: Lab, arn: str) -> list[Record]:
    read: Callable[..., Any] = lab.client("dynamodbstreams").get_records
    pages = [read(ShardIterator=iterator)["Records"] for iterator in _iterators(lab, arn)]
    return [record for page in pages for record in page]


def _calls_until_empty(lab: Lab, arn: str, limit: int) -> int:
    """Which call of GetRecords is the first without records, in the shard that has some."""
    read: Callable[..., Any] = lab.client("dynamodbstreams").get_records
    calls = []
    for iterator in _iterators(lab, arn):
        page, call = read(ShardIterator=iterator, Limit=limit), 1
        while page["Records"]:
            page, call = read(ShardIterator=page["NextShardIterator"], Limit=limit), call + 1
        calls.append(call)
    return max(calls)
