"""Questions about writes: how many records they leave in the stream, and which."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from botocore.exceptions import ClientError

from lab_utils.exercises import Found, Question
from lab_utils.exercises.tables import TABLE, new_table
from lab_utils.lab import open_lab

KEY = {"id": {"S": "A"}}
Item = dict[str, Any]


def ask(rng: random.Random) -> Question:
    """One of five situations, with its writes drawn."""
    return rng.choice([_life, _batch, _transactions, _echo, _expiry])(rng)


def _life(rng: random.Random) -> Question:
    """One item, written again and again."""
    moves = []
    for _ in range(rng.randint(6, 9)):
        kind = rng.choice(["put", "put", "set", "set", "add", "delete"])
        moves.append((kind, rng.choice([0, 1]) if kind == "add" else rng.randint(1, 2)))
    words = {
        "put": "put with n = {}",
        "set": "update SET n = {}",
        "add": "update ADD n {}",
        "delete": "delete",
    }

    def run() -> Found:
        with _Watched() as lab:
            for kind, value in moves:
                if kind == "put":
                    lab.put("A", value)
                elif kind == "delete":
                    lab.dynamodb.delete_item(TableName=TABLE, Key=KEY)
                else:
                    expression = "SET n = :n" if kind == "set" else "ADD n :n"
                    lab.update("A", expression, value)
            names = tuple(each["eventName"] for each in lab.new_records())
        return Found(
            names,
            f"{len(moves) - len(names)} of the {len(moves)} writes found the item as they were to "
            "leave it, and left no record. A write that makes the item is an INSERT, whichever it "
            "is; any other change is a MODIFY.",
        )

    told = "; ".join(words[kind].format(value) for kind, value in moves)
    return Question(
        "A table with a stream is empty. One item is written to, again and again:\n"
        f"{told}.\nWhich event names do its records have, in order? (A tuple of words.)",
        run,
    )


def _batch(rng: random.Random) -> Question:
    """Puts and deletes in one envelope, some of them without effect."""
    stored = sorted(rng.sample("ABCDEFGH", rng.randint(3, 5)))
    written = rng.sample("ABCDEFGH", rng.randint(4, 7))
    deleted = sorted(written[: len(written) // 2])
    puts = {name: rng.randint(1, 2) for name in sorted(written[len(written) // 2 :])}

    def run() -> Found:
        with _Watched() as lab:
            for name in stored:
                lab.put(name, 1)
            lab.new_records()
            requests: list[Item] = [
                *({"DeleteRequest": {"Key": {"id": {"S": name}}}} for name in deleted),
                *({"PutRequest": {"Item": _item(name, n)}} for name, n in puts.items()),
            ]
            lab.dynamodb.batch_write_item(RequestItems={TABLE: requests})
            names = Counter(each["eventName"] for each in lab.new_records())
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(names.items()))
        return Found(
            names.total(),
            f"{kinds or 'No record at all'}. A batch leaves a record for each item that is not "
            "what it was: none for a put of what is there, none for a delete of what is not.",
        )

    return Question(
        f"A table holds the items {_list(stored)}, each with n = 1. One BatchWriteItem deletes "
        f"{_list(deleted)} and puts "
        f"{_list(f'{name} with n = {n}' for name, n in puts.items())}. "
        "How many records does the batch leave?",
        run,
    )


def _transactions(rng: random.Random) -> Question:
    """Transactions that add, one of which may be cancelled."""
    stock, orders = rng.randint(3, 9), [rng.randint(1, 4) for _ in range(rng.randint(3, 5))]

    def run() -> Found:
        done = 0
        with _Watched() as lab:
            lab.put("stock", stock)
            lab.new_records()
            for number, amount in enumerate(orders):
                done += lab.order(f"order {number}", amount)
            left = len(lab.new_records())
        return Found(
            left,
            f"{done} of the {len(orders)} orders found enough in stock. Each of these "
            "transactions left two records; one that is cancelled leaves none.",
        )

    return Question(
        f"An item holds a stock of {stock}. One after the other come orders of {_list(orders)}. "
        "Each is a transaction with two members: it puts an item for the order, and takes the "
        "amount from the stock, on condition that there is enough. How many records do the orders "
        "leave?",
        run,
    )


def _echo(rng: random.Random) -> Question:
    """A function that writes to its own table."""
    items, ceiling = rng.randint(2, 6), rng.randint(3, 9)
    starts = [rng.randint(1, ceiling + 2) for _ in range(items)]

    def run() -> Found:
        records = 0
        with _Watched() as lab:
            for number, n in enumerate(starts):
                lab.put(f"item {number}", n)
            while found := lab.new_records():
                records += len(found)
                for image in (each["dynamodb"]["NewImage"] for each in found):
                    n = int(image["n"]["N"])
                    lab.update(image["id"]["S"], "SET n = :n", n + (n < ceiling))
        return Found(
            records,
            f"{items} of them are the puts'. After that there is one for each step up, and the "
            "first write that changes nothing ends the chain of its item.",
        )

    return Question(
        f"A function reads a table's stream and writes to the same table: where n is below "
        f"{ceiling} it sets n to one more, else to the n that it read. "
        f"{items} items are put, with n = {_list(starts)}; the function is done with each record "
        "before the next comes. How many records are in the stream when all is quiet?",
        run,
    )


def _expiry(rng: random.Random) -> Question:
    """Items whose time is over; users delete some and put off others."""
    names = "ABCDEFGH"[: rng.randint(4, 8)]
    ends = {name: rng.choice([10, 20, 30, 40]) for name in names}
    deleted, put_off = rng.sample(names, 2)
    minute = rng.choice([15, 25, 35])

    def run() -> Found:
        with _Watched() as lab:
            lab.dynamodb.update_time_to_live(
                TableName=TABLE, TimeToLiveSpecification={"Enabled": True, "AttributeName": "n"}
            )
            start = int(lab.lab.clock.now().timestamp())
            for name, end in ends.items():
                lab.put(name, start + 60 * end)
            lab.lab.clock.advance(minutes=5)
            lab.dynamodb.delete_item(TableName=TABLE, Key={"id": {"S": deleted}})
            lab.update(put_off, "SET n = :n", start + 60 * 60)
            lab.lab.clock.advance(minutes=minute - 5)
            removed = [each for each in lab.new_records() if each["eventName"] == "REMOVE"]
        by_dynamodb = [each for each in removed if "userIdentity" in each]
        return Found(
            len(by_dynamodb),
            f"{len(removed)} records are a REMOVE, one of them the user's, which names nobody. "
            f"{put_off} has its end still before it.",
        )

    told = _list(f"{name} after {end}" for name, end in ends.items())
    return Question(
        "Items of a table end at a time of their own, in minutes from now: "
        f"{told}. After 5 minutes a user deletes {deleted} and puts the end of {put_off} off to "
        "minute 60. Suppose that DynamoDB deletes an item within a minute of its end. It is "
        f"minute {minute}. How many records have a userIdentity?",
        run,
    )


# -- what they share -----------------------------------------------------------------------------


def _item(name: str, n: int) -> Item:
    return {"id": {"S": name}, "n": {"N": str(n)}}


def _list(words: Iterable[object]) -> str:
    """Words as one lists them: a, b and c."""
    *first, last = map(str, words)
    return f"{', '.join(first)} and {last}" if first else last


class _Watched:
    """A lab with a table of one partition, so that its records come in the order of the writes."""

    def __enter__(self) -> _Watched:
        self.lab = open_lab("embedded")
        self.dynamodb, self._streams = self.lab.clients("dynamodb", "dynamodbstreams")
        units = {"ReadCapacityUnits": 500, "WriteCapacityUnits": 500}
        arn = new_table(self.lab, "NEW_AND_OLD_IMAGES", ProvisionedThroughput=units)
        (shard,) = self._streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        self._from_the_oldest = {
            "StreamArn": arn,
            "ShardId": shard["ShardId"],
            "ShardIteratorType": "TRIM_HORIZON",
        }
        self._seen = 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lab.close()

    def new_records(self) -> list[Item]:
        """What came since the last call; read anew each time, as an iterator lives 15 minutes."""
        place = self._streams.get_shard_iterator(**self._from_the_oldest)["ShardIterator"]
        records = self._streams.get_records(ShardIterator=place)["Records"]
        fresh, self._seen = records[self._seen :], len(records)
        return list(fresh)

    def put(self, name: str, n: int) -> None:
        self.dynamodb.put_item(TableName=TABLE, Item=_item(name, n))

    def update(self, name: str, expression: str, n: int) -> None:
        self.dynamodb.update_item(
            TableName=TABLE,
            Key={"id": {"S": name}},
            UpdateExpression=expression,
            ExpressionAttributeValues={":n": {"N": str(n)}},
        )

    def order(self, name: str, amount: int) -> bool:
        """Whether an order was taken: it is put, and the stock lowered, or neither."""
        take = {
            "TableName": TABLE,
            "Key": {"id": {"S": "stock"}},
            "UpdateExpression": "SET n = n - :n",
            "ConditionExpression": "n >= :n",
            "ExpressionAttributeValues": {":n": {"N": str(amount)}},
        }
        order = {"TableName": TABLE, "Item": _item(name, amount)}
        try:
            self.dynamodb.transact_write_items(TransactItems=[{"Put": order}, {"Update": take}])
        except ClientError:
            return False
        return True
