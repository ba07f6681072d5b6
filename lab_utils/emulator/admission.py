"""Which partitions a request touches, whether they let it in, and what it costs them.

As long as no bucket of the Region is in debt nothing is looked at before a request; what it cost is
counted after it, from what MiniStack stored or returned. Approximated: a read with a projection
costs what it returned, and a Query or Scan is scaled up by its ScannedCount; a single write that
deletes nothing or fails its condition costs one unit, such a member of a batch or a condition check
nothing; what is turned away makes as much heat as it would have cost at least. In PartiQL writes
are counted, selects are not, and nothing is turned away. Global indexes have no partitions here:
what they read or write is not counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.partitions import Partition, Position
from lab_utils.emulator.sizes import item_size
from lab_utils.emulator.throughput import (
    READ,
    WRITE,
    cancellation_reason,
    read_cost,
    throttled,
    throttling_reasons,
    write_cost,
)
from lab_utils.emulator.wire import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab_utils.emulator.dynamodb import Table

Params = dict[str, Any]

SINGLE = {
    "PutItem": WRITE,
    "UpdateItem": WRITE,
    "DeleteItem": WRITE,
    "GetItem": READ,
    "Query": READ,
    "Scan": READ,
}
TRANSACTIONS = {"TransactWriteItems": WRITE, "TransactGetItems": READ}
BATCHES = {"BatchWriteItem": "UnprocessedItems", "BatchGetItem": "UnprocessedKeys"}
COUNTED_READS = frozenset({"GetItem", "Query", "Scan", "BatchGetItem", "TransactGetItems"})
EQUALS = re.compile(r"([#\w.\-]+)\s*=\s*(:\w+)")


@dataclass(frozen=True, slots=True)
class Touch:
    """One place that a request reads or writes, and what that costs at least."""

    table: Table
    position: Position
    kind: int
    cost: int

    @property
    def partition(self) -> Partition:
        return self.table.partitions.at(self.position)

    def refusal(self) -> list[Params]:
        """AWS's reasons why this is not let in now; none if it is."""
        limits = self.table.admin.limits(self.kind, self.partition)
        return throttling_reasons(self.kind, limits, self.table.arn)

    def turn_away(self) -> None:
        self.table.admin.turn_away(self.kind, self.partition, self.position, self.cost)


class Admission:
    """The guard before the partitions of a Region's tables. `find` knows a table by name or ARN."""

    def __init__(self, find: Callable[[Any], Table | None]) -> None:
        self._find = find

    # -- before a request -----------------------------------------------------------------------

    def let_in(self, operation: str, body: bytes) -> tuple[bytes, Params]:
        """Refuse a request in AWS's words; of a batch, what goes on and what stays unprocessed.

        A request that cannot be understood goes on: it will be refused for that.
        """
        params = parse_json(body)
        if operation in SINGLE:
            self._let_in_single(self._touch(operation, params))
        elif operation in TRANSACTIONS:
            self._let_in_transaction(operation, params)
        elif operation in BATCHES:
            return self._let_in_batch(operation, params, body)
        return body, {}

    def _let_in_single(self, touch: Touch | None) -> None:
        if touch and (reasons := touch.refusal()):
            touch.turn_away()
            raise throttled(touch.table.on_demand, reasons)

    def _let_in_transaction(self, operation: str, params: Params) -> None:
        members = params.get("TransactItems") or ()
        touches = [self._member(each, TRANSACTIONS[operation]) for each in members]
        refused = [touch is not None and bool(touch.refusal()) for touch in touches]
        if not any(refused):
            return
        reasons = []
        for touch, full in zip(touches, refused, strict=True):
            if touch is not None:
                touch.turn_away()
            reasons.append(
                cancellation_reason(touch.table.on_demand) if touch and full else {"Code": "None"}
            )
        codes = ", ".join(each["Code"] for each in reasons)
        raise ApiError(
            "TransactionCanceledException",
            "Transaction cancelled, please refer cancellation reasons "
            f"for specific reasons [{codes}]",
            CancellationReasons=reasons,
        )

    def _let_in_batch(self, operation: str, params: Params, body: bytes) -> tuple[bytes, Params]:
        taken: Params = {}
        left: Params = {}
        refusal: ApiError | None = None
        for name, asked in (params.get("RequestItems") or {}).items():
            writing = operation == "BatchWriteItem"
            for each in asked if writing else asked.get("Keys") or ():
                touch = self._request(name, each) if writing else self._key(name, each, asked)
                reasons = touch.refusal() if touch else []
                if touch and reasons:
                    touch.turn_away()
                    refusal = throttled(touch.table.on_demand, reasons)
                part = left if reasons else taken
                if writing:
                    part.setdefault(name, []).append(each)
                else:
                    part.setdefault(name, asked | {"Keys": []})["Keys"].append(each)
        if refusal is None:
            return body, {}
        if not taken:
            raise refusal
        return json.dumps(params | {"RequestItems": taken}).encode(), left

    def _touch(self, operation: str, params: Params) -> Touch | None:
        table = self._find(params.get("TableName"))
        if table is None or not _reads_table(table, params):
            return None
        item = params.get("Item") or params.get("Key")
        if operation == "Query":
            item = _key_of_query(table, params)
        elif operation == "Scan":
            item = params.get("ExclusiveStartKey")
        position = _position(table, item)
        if operation == "Scan" and position is None:
            position = (0,)
        if position is None:
            return None
        if SINGLE[operation] == READ:
            cost = read_cost(0, bool(params.get("ConsistentRead")))
        else:
            cost = write_cost(item_size(params.get("Item")))
        return Touch(table, position, SINGLE[operation], cost)

    def _member(self, member: Params, kind: int) -> Touch | None:
        ((name, action),) = member.items()
        table = self._find(action.get("TableName"))
        item = action.get("Item" if name == "Put" else "Key")
        position = _position(table, item) if table else None
        if table is None or position is None:
            return None
        cost = write_cost(item_size(action.get("Item"))) if kind == WRITE else read_cost(0, True)
        return Touch(table, position, kind, 2 * cost)

    def _request(self, name: str, request: Params) -> Touch | None:
        put = request.get("PutRequest", {}).get("Item")
        table = self._find(name)
        position = _position(table, put or request.get("DeleteRequest", {}).get("Key"))
        if table is None or position is None:
            return None
        return Touch(table, position, WRITE, write_cost(item_size(put)))

    def _key(self, name: str, key: Params, asked: Params) -> Touch | None:
        table = self._find(name)
        position = _position(table, key)
        if table is None or position is None:
            return None
        return Touch(table, position, READ, read_cost(0, bool(asked.get("ConsistentRead"))))

    # -- after it -------------------------------------------------------------------------------

    def charge_unchanged(self, operation: str, body: bytes) -> None:
        """A write that changed nothing, or whose condition failed, costs a unit all the same."""
        touch = self._touch(operation, json.loads(body))
        if touch:
            touch.table.admin.charge(WRITE, touch.partition, touch.position, write_cost(0))

    def charge_read(self, operation: str, body: bytes, answer: bytes) -> None:
        """Count what a read cost."""
        params, found = json.loads(body), json.loads(answer)
        for touch in self._read(operation, params, found):
            touch.table.admin.charge(READ, touch.partition, touch.position, touch.cost)

    def _read(self, operation: str, params: Params, found: Params) -> Iterator[Touch]:
        if operation == "TransactGetItems":
            for member, each in zip(params["TransactItems"], found["Responses"], strict=True):
                touch = self._member(member, READ)
                if touch:
                    cost = 2 * read_cost(item_size(each.get("Item")), True)
                    yield Touch(touch.table, touch.position, READ, cost)
        elif operation == "BatchGetItem":
            for name, asked in params["RequestItems"].items():
                yield from self._batch_read(name, asked, found["Responses"].get(name, ()))
        elif operation == "GetItem":
            touch = self._touch(operation, params)
            if touch:
                size = item_size(found.get("Item"))
                cost = read_cost(size, bool(params.get("ConsistentRead")))
                yield Touch(touch.table, touch.position, READ, cost)
        else:
            yield from self._pages(operation, params, found)

    def _batch_read(self, name: str, asked: Params, items: list[Params]) -> Iterator[Touch]:
        table = self._find(name)
        sizes = {_position(table, each): item_size(each) for each in items}
        for key in asked["Keys"]:
            position = _position(table, key)
            if table and position:
                cost = read_cost(sizes.get(position, 0), bool(asked.get("ConsistentRead")))
                yield Touch(table, position, READ, cost)

    def _pages(self, operation: str, params: Params, found: Params) -> Iterator[Touch]:
        """A Query or Scan: all bytes together, rounded once, shared by where the items lie."""
        touch = self._touch(operation, params)
        if touch is None:
            return
        table, items = touch.table, found.get("Items") or []
        scanned, returned = found.get("ScannedCount", len(items)), len(items)
        sizes: dict[int, int] = {}
        places: dict[int, Position] = {}
        for each in items:
            position = _position(table, each) or touch.position
            partition = table.partitions.at(position).id
            places.setdefault(partition, position)
            sizes[partition] = sizes.get(partition, 0) + item_size(each)
        whole = sum(sizes.values())
        if returned:
            size = whole * scanned // returned
        else:
            partition_read = touch.partition
            size = scanned * partition_read.bytes // max(1, partition_read.items)
        cost = read_cost(size, bool(params.get("ConsistentRead")))
        if not whole:
            yield Touch(table, touch.position, READ, cost)
        for partition_id, part in sizes.items():
            yield Touch(table, places[partition_id], READ, cost * part // whole)


def _reads_table(table: Table, params: Params) -> bool:
    """Whether a request is about the table itself, or a local index, which shares its capacity."""
    index = params.get("IndexName")
    return index is None or index in table.local_indexes


def _position(table: Table | None, item: Any) -> Position | None:
    """Where an item (or key) lies; None if it has not the whole key."""
    if table is None or not isinstance(item, dict):
        return None
    try:
        return table.position_of(item)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _key_of_query(table: Table, params: Params) -> Params | None:
    """The key at which a Query begins: its partition-key value and, if need be, no sort key."""
    names, values = (
        params.get("ExpressionAttributeNames") or {},
        params.get("ExpressionAttributeValues"),
    )
    for name, value in EQUALS.findall(params.get("KeyConditionExpression") or ""):
        if names.get(name, name) == table.hash_key and values and value in values:
            return {table.hash_key: values[value]}
    legacy = (params.get("KeyConditions") or {}).get(table.hash_key) or {}
    given = legacy.get("AttributeValueList")
    return {table.hash_key: given[0]} if given else None
