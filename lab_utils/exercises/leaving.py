"""Questions about a lab in somebody's account: what is removed, what is not, what it costs."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from botocore.exceptions import ClientError

from lab_utils import costs, prices
from lab_utils.emulator.physics import Physics
from lab_utils.exercises import Found, Question
from lab_utils.kinds import KINDS, as_list
from lab_utils.lab import open_lab
from lab_utils.labels import MADE_BY_TAG, Label

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HELLO = "def handler(event, context):\n    return 'hello'\n"
REGION = "us-east-1"


def ask(rng: random.Random) -> Question:
    """One of three situations, with its numbers drawn."""
    return rng.choice([_swept, _reserved, _forgotten])(rng)


def _swept(rng: random.Random) -> Question:
    mine, other = (
        Label(NOON + timedelta(hours=rng.randint(1, 8)), f"{rng.randrange(16**6):06x}")
        for _ in range(2)
    )
    own, bare, foreign, edited = (rng.randint(1, 4) for _ in range(4))
    tagged = [mine.tags] * own + [{}] * bare + [mine.tags | {MADE_BY_TAG: "me"}] * edited
    tables = {mine.name(f"Orders{number}"): tags for number, tags in enumerate(tagged)}
    tables |= {other.name(f"Orders{number}"): other.tags for number in range(foreign)}

    def run() -> Found:
        kind = next(kind for kind in KINDS if kind.name == "table")
        with open_lab("embedded") as lab:
            dynamodb = lab.client("dynamodb")
            for name, tags in tables.items():
                dynamodb.create_table(
                    TableName=name,
                    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                    BillingMode="PAY_PER_REQUEST",
                    Tags=as_list(tags),
                )
            there = list(kind.all(dynamodb))
            gone = [each for each in there if mine.owns(kind.tags(dynamodb, each) or {})]
        return Found(
            len(gone),
            f"Of {len(there)} tables {own + bare + edited} carry the lab's name. Names say where "
            "to look; what goes is what the lab's own tags are on, all of them as the lab wrote "
            "them.",
        )

    return Question(
        f"An account has {len(tables)} tables. Made by the lab {mine}: {own}. By the lab {other}: "
        f"{foreign}. By hand, with names that end in {mine} as well, and no tags: {bare}. By "
        f"hand, as copies to which the tags went along, except that {MADE_BY_TAG} says 'me': "
        f"{edited}.\nHow many does `python -m lab_utils sweep --lab {mine}` remove?",
        run,
    )


def _reserved(rng: random.Random) -> Question:
    limit = rng.choice([10, 50, 100, 101, 150, 1000])
    taken = rng.choice([0, 1, 20, 40])
    wanted = rng.choice([1, 10, 50])

    def run() -> Found:
        with open_lab("embedded", physics=Physics(account_concurrency=limit)) as lab:
            functions, role = lab.client("lambda"), lab.role("ExerciseRole")
            for name in ("Other", "Mine"):
                lab.deploy_function(name, HELLO, role=role)
            given = True
            for name, share in (("Other", taken), ("Mine", wanted)):
                try:
                    functions.put_function_concurrency(
                        FunctionName=name, ReservedConcurrentExecutions=share
                    )
                except ClientError:
                    given = False
        return Found(
            given,
            f"{limit} - {taken} - {wanted} = {limit - taken - wanted} would be left for functions "
            "without a reservation, and at least 100 have to stay unreserved.",
        )

    if limit - 100 < taken:  # the first reservation is to be one that the account grants
        taken = 0
    already = f"{taken} of them are reserved for another function" if taken else "none is reserved"
    return Question(
        f"At most {limit} functions may run at once in an account, and {already}. You reserve "
        f"{wanted} for a function of yours.\nDoes Lambda agree? (True or False.)",
        run,
    )


def _forgotten(rng: random.Random) -> Question:
    shards, days = rng.choice([2, 4, 20, 100]), rng.randint(2, 14)

    def run() -> Found:
        known = prices.load()
        hour = costs.pipeline_hour(known, REGION, shards)
        return Found(
            round(hour * 24 * days, 2),
            f"{hour:.3f} USD an hour, for {shards} shard-hours of the data stream "
            f"at {known.price('kinesis_shard_hour', REGION).usd:.3f} USD each: they are paid for "
            "whether or not anything flows. Tables on demand, functions and mappings cost nothing "
            "when idle.",
        )

    return Question(
        f"Somebody puts up the pipeline with {shards} shards in {REGION}, closes the laptop, and "
        f"finds it {days} days later. Nothing has flowed through it. What has it cost, in USD, to "
        "the cent?",
        run,
    )
