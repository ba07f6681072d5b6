"""DynamoDB: items are MiniStack's; partitions, streams, tokens and conflicts are the lab's.

Every write goes to MiniStack, which says what changed; each change is counted in its partition and,
if the table has a stream, appended to that partition's open shard. Whatever a request says about
streams never reaches MiniStack: it is kept here and written into the answers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lab_utils.emulator.backing import ACCOUNT, Answer, Change
from lab_utils.emulator.dynamodb_streams import TableStream
from lab_utils.emulator.errors import ApiError, not_modelled
from lab_utils.emulator.partitions import Partition, PartitionMap, first_partitions
from lab_utils.emulator.physics import microseconds
from lab_utils.emulator.sizes import item_size
from lab_utils.emulator.wire import HttpAnswer, json_answer, parse_json

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region

Params = dict[str, Any]

READS = frozenset({"GetItem", "BatchGetItem", "Query", "Scan", "TransactGetItems"})
WRITES = frozenset(
    {
        "PutItem",
        "UpdateItem",
        "DeleteItem",
        "BatchWriteItem",
        "TransactWriteItems",
        "ExecuteStatement",
        "BatchExecuteStatement",
        "ExecuteTransaction",
    }
)
SINGLE_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem"})
VIEW_TYPES = ("NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES", "KEYS_ONLY")
STREAM_MEMBERS = ("StreamSpecification", "LatestStreamArn", "LatestStreamLabel")
TABLE_MEMBERS = frozenset(
    {
        "TableName",
        "AttributeDefinitions",
        "StreamSpecification",
        "SSESpecification",
        "TableClass",
        "DeletionProtectionEnabled",
    }
)
MODELLED = {
    "CreateTable": TABLE_MEMBERS
    | {
        "KeySchema",
        "LocalSecondaryIndexes",
        "GlobalSecondaryIndexes",
        "BillingMode",
        "ProvisionedThroughput",
        "Tags",
    },
    "UpdateTable": TABLE_MEMBERS | {"GlobalSecondaryIndexUpdates"},
}
"""What may be said about a table; anything else is refused."""
ItemKey = tuple[str, str]


@dataclass
class Table:
    """What the lab knows of a table besides its items."""

    name: str
    arn: str
    key_schema: list[Params]
    on_demand: bool
    partitions: PartitionMap
    stream: TableStream | None = None
    latest: tuple[str, str] | None = None
    """ARN and label of the newest stream; they stay when it is disabled."""

    @property
    def hash_key(self) -> str:
        return str(self.key_schema[0]["AttributeName"])

    def partition_of(self, item: Params) -> Partition:
        return self.partitions.of_key(_key_text(item[self.hash_key]))


@dataclass
class Transaction:
    """A transaction in flight: the items it holds, and those that another one held already."""

    held: set[ItemKey] = field(default_factory=set)
    conflicts: list[bool] = field(default_factory=list)


class DynamoDB:
    """Tables, and the way from a write to its stream."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._world = region.world
        self._physics = region.world.physics
        self.tables: dict[str, Table] = {}
        self._held: dict[ItemKey, int] = {}
        self._tokens: dict[str, tuple[str, int, Answer]] = {}

    # -- one request ----------------------------------------------------------------------------

    def handle(
        self, operation: str, headers: Params, body: bytes, transaction: Transaction | None
    ) -> HttpAnswer:
        """Carry out a request at this instant."""
        if operation in WRITES:
            return self._write(operation, headers, body, transaction)
        if operation in ("CreateTable", "UpdateTable", "DeleteTable", "DescribeTable"):
            params = parse_json(body)
            params["TableName"] = table_name(params.get("TableName"))
            act = {
                "CreateTable": self._create,
                "UpdateTable": self._update,
                "DeleteTable": self._delete,
                "DescribeTable": self._describe,
            }[operation]
            return act(headers, params)
        if operation == "TransactGetItems" and self._held:
            self._refuse_held_reads(body)
        return HttpAnswer(*self._forward(headers, body))

    def _forward(self, headers: Params, body: bytes) -> Answer:
        return self._world.backing.request(
            "dynamodb", self._region.name, "POST", "/", headers, body, {}
        )

    # -- writes ---------------------------------------------------------------------------------

    def _write(
        self, operation: str, headers: Params, body: bytes, transaction: Transaction | None
    ) -> HttpAnswer:
        token, known = None, None
        if operation == "TransactWriteItems":
            body, token, known = self._token(body)
        if known is not None:
            return HttpAnswer(*known)
        if transaction is not None and any(transaction.conflicts):
            raise _cancelled(transaction.conflicts)
        if self._held and operation != "TransactWriteItems":
            self._refuse_held(operation, body)
        answer, changes = self._world.backing.write(self._region.name, headers, body)
        if answer[0] != 200 and operation == "ExecuteTransaction":
            changes = []  # MiniStack has taken them back
        for change in changes:
            self._record(change)
        if token is not None and answer[0] == 200:
            self._remember(token, body, answer)
        return HttpAnswer(*answer)

    def _record(self, change: Change) -> None:
        table = self.tables[change.table]
        partition = table.partition_of(change.new or change.old or {})
        partition.items += (change.new is not None) - (change.old is not None)
        old_size, new_size = item_size(change.old), item_size(change.new)
        partition.bytes += new_size - old_size
        if table.stream is not None:
            table.stream.append(partition, change, old_size, new_size)

    # -- transactions ---------------------------------------------------------------------------

    def begin_transaction(self, body: bytes) -> Transaction:
        """Hold the items of a transaction from its arrival until it is carried out."""
        transaction = Transaction()
        keys = [self._item_key(each) for each in parse_json(body).get("TransactItems") or ()]
        transaction.conflicts = [key is not None and key in self._held for key in keys]
        if not any(transaction.conflicts):
            transaction.held = {key for key in keys if key is not None}
            for key in transaction.held:
                self._held[key] = self._held.get(key, 0) + 1
        return transaction

    def end_transaction(self, transaction: Transaction) -> None:
        for key in transaction.held:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
        transaction.held = set()

    def _item_key(self, member: Any) -> ItemKey | None:
        """Which item a member of a transaction is about; None if that cannot be told."""
        if not isinstance(member, dict) or len(member) != 1:
            return None
        ((kind, action),) = member.items()
        name = table_name(action.get("TableName"))
        table = self.tables.get(name)
        item = action.get("Item" if kind == "Put" else "Key")
        return (name, _item_text(table, item)) if table and isinstance(item, dict) else None

    def _refuse_held(self, operation: str, body: bytes) -> None:
        """An ordinary write to an item that a transaction holds is refused, not delayed."""
        if operation not in SINGLE_WRITES:
            return
        params = parse_json(body)
        kind = "Put" if operation == "PutItem" else "Other"
        if self._item_key({kind: params}) in self._held:
            raise ApiError("TransactionConflictException", "Transaction is ongoing for the item")

    def _refuse_held_reads(self, body: bytes) -> None:
        conflicts = [
            self._item_key(each) in self._held
            for each in parse_json(body).get("TransactItems") or ()
        ]
        if any(conflicts):
            raise _cancelled(conflicts)

    def _token(self, body: bytes) -> tuple[bytes, str | None, Answer | None]:
        """The client request token of a transaction, and the answer it already has, if any."""
        params = parse_json(body)
        if any(len(each) != 1 for each in params.get("TransactItems") or ()):
            raise ApiError(
                "ValidationException",
                "TransactItems can only contain one of Check, Put, Update or Delete",
            )
        token = params.pop("ClientRequestToken", None)
        if token is None:
            return body, None, None
        bare = json.dumps(params).encode()
        known = self._tokens.get(token)
        age = self._world.scheduler.now - known[1] if known else 0
        if known is None or age >= microseconds(self._physics.token_life):
            return bare, token, None
        if known[0] != _canonical(bare):
            raise ApiError(
                "IdempotentParameterMismatchException",
                "Request token already in use for another request with a different payload",
            )
        return bare, token, known[2]

    def _remember(self, token: str, body: bytes, answer: Answer) -> None:
        """Keep an answer for its token, from its completion on; boto3 gives every call one."""
        now = self._world.scheduler.now
        oldest = now - microseconds(self._physics.token_life)
        self._tokens.pop(token, None)
        while self._tokens and next(iter(self._tokens.values()))[1] <= oldest:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[token] = (_canonical(body), now, answer)

    # -- tables ---------------------------------------------------------------------------------

    def _create(self, headers: Params, params: Params) -> HttpAnswer:
        _refuse_unmodelled("CreateTable", params)
        specification = params.pop("StreamSpecification", None)
        view_type = _view_type(specification)
        answer = self._forward(headers, json.dumps(params).encode())
        if answer[0] != 200:
            return HttpAnswer(*answer)
        description = json.loads(answer[2])["TableDescription"]
        throughput = description["ProvisionedThroughput"]
        count = first_partitions(
            self._physics, throughput["ReadCapacityUnits"], throughput["WriteCapacityUnits"]
        )
        table = Table(
            description["TableName"],
            description["TableArn"],
            description["KeySchema"],
            params.get("BillingMode") == "PAY_PER_REQUEST",
            PartitionMap(count),
        )
        self.tables[table.name] = table
        if view_type:
            self._enable(table, view_type)
        described = self._described(table, description) | {"TableStatus": "CREATING"}
        described.pop("WarmThroughput", None)
        return json_answer({"TableDescription": described})

    def _update(self, headers: Params, params: Params) -> HttpAnswer:
        specification = params.pop("StreamSpecification", None)
        table = self._table(params["TableName"])
        _refuse_unmodelled("UpdateTable", params)
        if specification is not None:
            _check_switch(table, specification)
        if set(params) > {"TableName"}:
            answer = self._forward(headers, json.dumps(params).encode())
            if answer[0] != 200:
                return HttpAnswer(*answer)
        elif specification is None:
            raise ApiError(
                "ValidationException",
                "At least one of ProvisionedThroughput, "
                "BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates or "
                "SSESpecification or ReplicaUpdates is required",
            )
        if specification is not None:
            self._switch_stream(table, specification)
        described = self._described(table, self._description(headers, table.name))
        return json_answer({"TableDescription": described | {"TableStatus": "UPDATING"}})

    def _delete(self, headers: Params, params: Params) -> HttpAnswer:
        answer = self._forward(headers, json.dumps(params).encode())
        table = self.tables.get(params["TableName"])
        if answer[0] != 200 or table is None:
            return HttpAnswer(*answer)
        if table.stream is not None:
            table.stream.disable()
        del self.tables[table.name]
        described = self._described(table, json.loads(answer[2])["TableDescription"])
        return json_answer({"TableDescription": described})

    def _describe(self, headers: Params, params: Params) -> HttpAnswer:
        answer = self._forward(headers, json.dumps(params).encode())
        if answer[0] != 200:
            return HttpAnswer(*answer)
        table = self.tables[params["TableName"]]
        return json_answer({"Table": self._described(table, json.loads(answer[2])["Table"])})

    def _description(self, headers: Params, name: str) -> Params:
        headers = headers | {"x-amz-target": "DynamoDB_20120810.DescribeTable"}
        answer = self._forward(headers, json.dumps({"TableName": name}).encode())
        described: Params = json.loads(answer[2])["Table"]
        return described

    def _described(self, table: Table, description: Params) -> Params:
        """MiniStack's description, with what the lab knows better written into it."""
        described = {
            name: value for name, value in description.items() if name not in STREAM_MEMBERS
        }
        described["TableSizeBytes"] = sum(each.bytes for each in table.partitions)
        if table.on_demand:
            described["ProvisionedThroughput"] = {
                "NumberOfDecreasesToday": 0,
                "ReadCapacityUnits": 0,
                "WriteCapacityUnits": 0,
            }
            described["WarmThroughput"] = {
                "ReadUnitsPerSecond": self._physics.warm_reads,
                "WriteUnitsPerSecond": self._physics.warm_writes,
                "Status": "ACTIVE",
            }
        else:
            described.pop("BillingModeSummary", None)
        if table.latest:
            described["LatestStreamArn"], described["LatestStreamLabel"] = table.latest
        if table.stream is not None:
            described["StreamSpecification"] = {
                "StreamEnabled": True,
                "StreamViewType": table.stream.view_type,
            }
        return described

    def _table(self, name: str) -> Table:
        table = self.tables.get(name)
        if table is None:
            raise ApiError(
                "ResourceNotFoundException",
                f"Requested resource not found: Table: {name} not found",
            )
        return table

    # -- streams and splits ---------------------------------------------------------------------

    def _enable(self, table: Table, view_type: str) -> None:
        table.stream = self._region.streams.enable(
            table.name, table.arn, table.key_schema, view_type, table.partitions
        )
        table.latest = table.stream.arn, table.stream.label

    def _switch_stream(self, table: Table, specification: Params) -> None:
        view_type = _view_type(specification)
        if view_type:
            self._enable(table, view_type)
        elif table.stream is not None:
            table.stream.disable()
            table.stream = None

    def split(self, table: Table, partition: Partition) -> tuple[Partition, Partition]:
        """Cut a partition in two and let its items find their part."""
        parts = table.partitions.split(partition)
        for part, item in self._items_of(table, parts):
            part.items += 1
            part.bytes += item_size(item)
        if table.stream is not None:
            table.stream.split(partition, parts)
        return parts

    def _items_of(
        self, table: Table, parts: tuple[Partition, ...]
    ) -> list[tuple[Partition, Params]]:
        stored = self._world.backing.table(self._region.name, table.name) or {"items": {}}
        items = [item for rows in stored["items"].values() for item in rows.values()]
        placed = [(table.partition_of(item), item) for item in items]
        return [(partition, item) for partition, item in placed if partition in parts]


def table_name(name: Any) -> Any:
    """The name of a table that was given by its name or its ARN."""
    return name.rpartition("/")[2] if isinstance(name, str) and name.startswith("arn:") else name


def _refuse_unmodelled(operation: str, params: Params) -> None:
    refused = sorted(
        name
        for name, value in params.items()
        if name not in MODELLED[operation] and value not in (None, [], {})
    )
    if refused:
        raise not_modelled(f"{operation} with {' and '.join(refused)}", "DynamoDB")


def _view_type(specification: Params | None) -> str | None:
    """The view type of a stream to switch on; None where it is to be off."""
    if not specification or not specification.get("StreamEnabled"):
        if specification and specification.get("StreamViewType"):
            raise ApiError(
                "ValidationException",
                "One or more parameter values were invalid: "
                "Table is being created with a stream disabled, UpdateViewType should "
                "not be specified",
            )
        return None
    view_type = specification.get("StreamViewType")
    if view_type not in VIEW_TYPES:
        if view_type is None:
            raise ApiError(
                "ValidationException",
                "One or more parameter values were invalid: "
                "StreamViewType must be specified when the stream is enabled",
            )
        raise ApiError(
            "ValidationException",
            f"1 validation error detected: Value '{view_type}' at "
            "'streamSpecification.streamViewType' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(VIEW_TYPES)}]",
        )
    return str(view_type)


def _check_switch(table: Table, specification: Params) -> None:
    """A stream cannot be edited: what is on can only be switched off, and what is off on."""
    wanted = _view_type(specification)
    if wanted and table.stream is not None:
        raise ApiError(
            "ValidationException", f"Table already has an enabled stream: TableName: {table.name}"
        )
    if not wanted and table.stream is None:
        raise ApiError(
            "ValidationException", f"Table has no stream to disable: TableName: {table.name}"
        )


def _key_text(typed: Params) -> str:
    """A key value as text; 1, 1.0 and 1e0 are one number, and so one item."""
    ((kind, value),) = typed.items()
    return f"N:{Decimal(value).normalize():f}" if kind == "N" else f"{kind}:{value}"


def _item_text(table: Table, item: Params) -> str:
    return "|".join(
        _key_text(item[each["AttributeName"]])
        for each in table.key_schema
        if each["AttributeName"] in item
    )


def _canonical(body: bytes) -> str:
    """A request's content whatever the order of its members: the order is not compared."""
    return json.dumps(json.loads(body), sort_keys=True)


def _cancelled(conflicts: list[bool]) -> ApiError:
    codes = ["TransactionConflict" if conflict else "None" for conflict in conflicts]
    reasons = [
        {"Code": code, "Message": "Transaction is ongoing for the item"}
        if code != "None"
        else {"Code": code}
        for code in codes
    ]
    return ApiError(
        "TransactionCanceledException",
        "Transaction cancelled, please refer cancellation reasons "
        f"for specific reasons [{', '.join(codes)}]",
        CancellationReasons=reasons,
    )


def arn_of_table(region: str, name: str) -> str:
    return f"arn:aws:dynamodb:{region}:{ACCOUNT}:table/{name}"
