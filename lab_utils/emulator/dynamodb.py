"""DynamoDB: items are MiniStack's; partitions, streams, tokens and conflicts are the lab's.

Every write goes to MiniStack, which says what changed; each change is counted in its partition and,
if the table has a stream, appended to that partition's open shard. Whatever a request says about
streams never reaches MiniStack: it is kept here and written into the answers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab_utils.emulator.admission import BATCHES, COUNTED_READS, Admission
from lab_utils.emulator.autoadmin import Autoadmin, Parts
from lab_utils.emulator.backing import ACCOUNT, Answer, Change
from lab_utils.emulator.dynamodb_streams import TableStream
from lab_utils.emulator.errors import ApiError, not_modelled
from lab_utils.emulator.partitions import (
    MOST_PARTITIONS,
    Partition,
    PartitionMap,
    Position,
    first_partitions,
    key_hash,
    key_text,
    sort_value,
    warm_partitions,
)
from lab_utils.emulator.physics import microseconds
from lab_utils.emulator.sizes import item_size
from lab_utils.emulator.throughput import (
    WRITE,
    Debts,
    asked_warmth,
    check_billing,
    check_more_warmth,
    check_new_warmth,
    check_provisioned,
    mode_warmth,
    write_cost,
)
from lab_utils.emulator.wire import HttpAnswer, json_answer, parse_json

if TYPE_CHECKING:
    from lab_utils.emulator.streaming_destinations import StreamingDestination
    from lab_utils.emulator.time_to_live import Expiry
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
TRANSACTIONS = frozenset({"TransactWriteItems", "ExecuteTransaction"})
GIVES = re.compile(r"\b(SET|ADD)\s", re.IGNORECASE)
"""The clauses of an update expression that give an item something."""
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
        "BillingMode",
        "ProvisionedThroughput",
        "WarmThroughput",
    }
)
MODELLED = {
    "CreateTable": TABLE_MEMBERS
    | {
        "KeySchema",
        "LocalSecondaryIndexes",
        "GlobalSecondaryIndexes",
        "Tags",
    },
    "UpdateTable": TABLE_MEMBERS | {"GlobalSecondaryIndexUpdates"},
}
"""What may be said about a table; anything else is refused."""
TIME_TO_LIVE = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
"""The userIdentity of a record whose item DynamoDB deleted (members as GetRecords spells them)."""
ItemKey = tuple[str, str]


@dataclass
class Table:
    """What the lab knows of a table besides its items."""

    name: str
    arn: str
    key_schema: list[Params]
    key_types: dict[str, str]
    local_indexes: frozenset[str]
    partitions: PartitionMap
    created: int
    provisioned: tuple[int, int] | None
    """Reads and writes a second; None on demand."""
    admin: Autoadmin = field(init=False)
    stream: TableStream | None = None
    latest: tuple[str, str] | None = None
    """ARN and label of the newest stream; they stay when it is disabled."""
    expiry: Expiry | None = None
    """What deletes its items when their time is over, if that is switched on."""
    destinations: list[StreamingDestination] = field(default_factory=list)
    """Where its changes are sent beside its stream, or were; the newest first."""

    def __post_init__(self) -> None:
        names = [str(each["AttributeName"]) for each in self.key_schema]
        self.hash_key, self.sort_key = names[0], names[1] if len(names) > 1 else None

    @property
    def on_demand(self) -> bool:
        return self.provisioned is None

    def keys_of(self, change: Change) -> Params:
        """The key attributes of the item that a change is about."""
        item = change.new or change.old or {}
        return {each["AttributeName"]: item[each["AttributeName"]] for each in self.key_schema}

    def position_of(self, item: Params) -> Position:
        """Where an item lies in the key space, from its key attributes."""
        place = key_hash(key_text(item[self.hash_key]))
        if self.sort_key is None or self.sort_key not in item:
            return (place,)
        return place, sort_value(item[self.sort_key])


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
        self._debts = Debts()
        self._admission = Admission(lambda name: self.tables.get(table_name(name)))
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
        if operation in COUNTED_READS:
            return self._read(operation, headers, body)
        return HttpAnswer(*self._forward(headers, body))

    def _read(self, operation: str, headers: Params, body: bytes) -> HttpAnswer:
        left: Params = {}
        if self._world.scheduler.now < self._debts.until:
            body, left = self._admission.let_in(operation, body)
        answer = self._forward(headers, body)
        if answer[0] == 200:
            self._admission.charge_read(operation, body, answer[2])
        return _with_leftovers(operation, answer, left)

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
        left: Params = {}
        if self._world.scheduler.now < self._debts.until:
            body, left = self._admission.let_in(operation, body)
        answer, changes = self._world.backing.write(self._region.name, headers, body)
        if answer[0] != 200 and operation == "ExecuteTransaction":
            changes = []  # MiniStack has taken them back
        if operation == "UpdateItem" and changes and changes[0].old is None:
            answer, changes = self._without_an_item_of_nothing(body, answer, changes)
        for change in changes:
            self._record(change, rounds=2 if operation in TRANSACTIONS else 1)
        if not changes and operation in SINGLE_WRITES and _was_carried_out(answer):
            self._admission.charge_unchanged(operation, body)
        if token is not None and answer[0] == 200:
            self._remember(token, body, answer)
        return _with_leftovers(operation, answer, left)

    def _without_an_item_of_nothing(
        self, body: bytes, answer: Answer, changes: list[Change]
    ) -> tuple[Answer, list[Change]]:
        """An update that only takes away makes no item where there was none (observed by Scylla's
        tests on AWS); MiniStack makes one of the key alone."""
        params = parse_json(body)
        if not _only_takes_away(params):
            return answer, changes
        self._delete_item(params["TableName"], params["Key"])
        status, headers, text = answer
        shown = {name: value for name, value in json.loads(text).items() if name != "Attributes"}
        return (status, headers, json.dumps(shown).encode()), []

    def _delete_item(self, table: str, key: Params) -> list[Change]:
        headers = {"x-amz-target": "DynamoDB_20120810.DeleteItem"}
        body = json.dumps({"TableName": table, "Key": key}).encode()
        return self._world.backing.write(self._region.name, headers, body)[1]

    def expire(self, table: str, key: Params) -> None:
        """Delete an item as DynamoDB itself does when its time is over: it costs nothing."""
        for change in self._delete_item(table, key):
            self._record(change, rounds=0, by=TIME_TO_LIVE)

    def _record(self, change: Change, rounds: int = 1, by: Params | None = None) -> None:
        """Count a change in its partition, and note it in the stream. It costs its size `rounds`
        times: twice in a transaction, never for what DynamoDB itself deletes."""
        table = self.tables[change.table]
        position = table.position_of(change.new or change.old or {})
        partition = table.partitions.at(position)
        old_size, new_size = item_size(change.old), item_size(change.new)
        partition.bytes += new_size - old_size
        if change.new is not None:
            partition.sizes[position] = new_size
        else:
            partition.sizes.pop(position, None)
        if rounds:
            cost = rounds * write_cost(max(old_size, new_size))
            table.admin.charge(WRITE, partition, position, cost)
        if partition.bytes + partition.phantom > self._physics.partition_bytes:
            table.admin.look_at_size(partition)
        if table.stream is not None:
            table.stream.append(partition, change, old_size, new_size, by)
        for destination in table.destinations:
            destination.note(change, old_size, new_size, by)
        if table.expiry is not None:
            table.expiry.note(change)

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
        check_provisioned(params)
        provisioned = _provisioned(params)
        asked, least = asked_warmth(params), provisioned or mode_warmth(self._physics)
        check_new_warmth(asked, provisioned is None, least)
        count = self._partitions_for(provisioned or (0, 0), asked)
        params.pop("WarmThroughput", None)
        answer = self._forward(headers, json.dumps(params).encode())
        if answer[0] != 200:
            return HttpAnswer(*answer)
        description = json.loads(answer[2])["TableDescription"]
        now = self._world.scheduler.now
        table = Table(
            description["TableName"],
            description["TableArn"],
            description["KeySchema"],
            {each["AttributeName"]: each["AttributeType"]
             for each in description["AttributeDefinitions"]},
            frozenset(each["IndexName"] for each in params.get("LocalSecondaryIndexes") or ()),
            PartitionMap(count, now),
            now,
            provisioned,
        )  # fmt: skip
        reads, writes = (max(each or 0, floor) for each, floor in zip(asked, least, strict=True))
        table.admin = self._autoadmin(table, (reads, writes))
        self.tables[table.name] = table
        if view_type:
            self._enable(table, view_type)
        described = self._described(table, description) | {"TableStatus": "CREATING"}
        described.pop("WarmThroughput", None)
        return json_answer({"TableDescription": described})

    def _update(self, headers: Params, params: Params) -> HttpAnswer:
        specification = params.pop("StreamSpecification", None)
        table = self.table(params["TableName"])
        _refuse_unmodelled("UpdateTable", params)
        if specification is not None:
            _check_switch(table, specification)
        check_provisioned(params)
        check_billing(params, table.on_demand, table.provisioned or (0, 0))
        asked = asked_warmth(params)
        check_more_warmth(asked, table.admin.warm)
        given = params.get("ProvisionedThroughput")
        wanted = _provisioned({"ProvisionedThroughput": given}) if given else None
        self._partitions_for(wanted or (0, 0), asked)
        warming = params.pop("WarmThroughput", None) is not None
        if set(params) > {"TableName"}:
            answer = self._forward(headers, json.dumps(params).encode())
            if answer[0] != 200:
                return HttpAnswer(*answer)
        elif specification is None and not warming:
            raise ApiError(
                "ValidationException",
                "At least one of ProvisionedThroughput, "
                "BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates or "
                "SSESpecification or ReplicaUpdates is required",
            )
        if specification is not None:
            self._switch_stream(table, specification)
        self._set_throughput(table, params, asked)
        described = self._described(table, self._description(headers, table.name))
        if warming:
            described["WarmThroughput"]["Status"] = "UPDATING"
        if not warming or specification is not None or set(params) > {"TableName"}:
            described["TableStatus"] = "UPDATING"
        return json_answer({"TableDescription": described})

    def _partitions_for(
        self, provisioned: tuple[int, int], asked: tuple[int | None, int | None]
    ) -> int:
        """How many partitions a request's throughput takes; too many are refused."""
        count = first_partitions(self._physics, *provisioned)
        count = max(count, warm_partitions(self._physics, *(each or 0 for each in asked)))
        if count > MOST_PARTITIONS:
            raise not_modelled(f"A table of more than {MOST_PARTITIONS:,} partitions", "DynamoDB")
        return count

    def _set_throughput(
        self, table: Table, params: Params, asked: tuple[int | None, int | None]
    ) -> None:
        """What an UpdateTable says about throughput; it is in force when it is answered."""
        if params.get("ProvisionedThroughput"):
            table.provisioned = _provisioned(params)
            table.admin.provision(*(table.provisioned or (0, 0)))
        elif params.get("BillingMode") == "PAY_PER_REQUEST" and not table.on_demand:
            table.provisioned = None
            table.admin.go_on_demand()
        if any(asked):
            reads, writes = (each or 0 for each in asked)
            table.admin.raise_warm(reads, writes, "warm throughput raised")

    def _delete(self, headers: Params, params: Params) -> HttpAnswer:
        answer = self._forward(headers, json.dumps(params).encode())
        table = self.tables.get(params["TableName"])
        if answer[0] != 200 or table is None:
            return HttpAnswer(*answer)
        if table.stream is not None:
            table.stream.disable()
        table.admin.over = True
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
        described["TableSizeBytes"] = sum(each.size for each in table.partitions)
        reads, writes = table.admin.warm
        described["WarmThroughput"] = {
            "ReadUnitsPerSecond": reads,
            "WriteUnitsPerSecond": writes,
            "Status": "ACTIVE",
        }
        if table.on_demand:
            described["ProvisionedThroughput"] = {
                "NumberOfDecreasesToday": 0,
                "ReadCapacityUnits": 0,
                "WriteCapacityUnits": 0,
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

    def table(self, name_or_arn: str) -> Table:
        """A table that exists; AWS's ResourceNotFoundException if there is none."""
        name = table_name(name_or_arn)
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

    def _autoadmin(self, table: Table, warm: tuple[int, int]) -> Autoadmin:
        return Autoadmin(
            table.partitions,
            self._physics,
            self._world.scheduler,
            self._world.rng(f"partitions {table.arn} {table.created}"),
            self._debts,
            provisioned=table.provisioned,
            warm=warm,
            sort_key=table.sort_key is not None,
            local_index=bool(table.local_indexes),
            cut=lambda partition, cut: self._cut(table, partition, cut),
        )

    def split(
        self,
        table: Table,
        partition: Partition,
        cut: Position | None = None,
        cause: str = "asked",
        reason: str = "asked by the reader",
    ) -> Parts:
        """Split a partition now, in the middle or at a cut inside it; ValueError if that is not
        possible."""
        cut = partition.middle() if cut is None else cut
        if cut is None or not partition.holds(cut):
            raise ValueError(f"{partition.name} cannot be cut at {cut}")
        return table.admin.split(partition, cut, cause, reason)

    def _cut(self, table: Table, partition: Partition, cut: Position) -> Parts:
        """Cut a partition in two; its shard splits as well."""
        parts = table.partitions.split(partition, cut, self._world.scheduler.now)
        if table.stream is not None:
            table.stream.split(partition, parts)
        return parts


def table_name(name: Any) -> Any:
    """The name of a table that was given by its name or its ARN."""
    return name.rpartition("/")[2] if isinstance(name, str) and name.startswith("arn:") else name


def _only_takes_away(update: Params) -> bool:
    """Whether an update removes attributes, or members of sets, and gives nothing."""
    if expression := update.get("UpdateExpression"):
        return not GIVES.search(expression)
    older = update.get("AttributeUpdates") or {}
    return bool(older) and all(each.get("Action") == "DELETE" for each in older.values())


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


def _item_text(table: Table, item: Params) -> str:
    return "|".join(
        key_text(item[each["AttributeName"]])
        for each in table.key_schema
        if each["AttributeName"] in item
    )


def _provisioned(params: Params) -> tuple[int, int] | None:
    """What a request provisions, (reads, writes) a second; None where that is on demand."""
    if params.get("BillingMode", "PROVISIONED") != "PROVISIONED":
        return None
    given = params.get("ProvisionedThroughput")
    if given is None:
        raise ApiError(
            "ValidationException",
            "One or more parameter values were invalid: ReadCapacityUnits and WriteCapacityUnits "
            "must both be specified when BillingMode is PROVISIONED",
        )
    return int(given["ReadCapacityUnits"]), int(given["WriteCapacityUnits"])


def _was_carried_out(answer: Answer) -> bool:
    return answer[0] == 200 or b"ConditionalCheckFailedException" in answer[2][:200]


def _with_leftovers(operation: str, answer: Answer, left: Params) -> HttpAnswer:
    """A batch's answer, with what its partitions did not let in."""
    if not left or answer[0] != 200:
        return HttpAnswer(*answer)
    return json_answer(json.loads(answer[2]) | {BATCHES[operation]: left})


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
