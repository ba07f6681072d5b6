"""The pipeline's resources, declared once, and how to put them up and take them down.

``deploy`` leaves the pipeline as the first lab finds it: everything is there, only MapLambda
has its event source mapping, and ReduceLambda's role may not read the stream it needs.
What the reader does by hand afterwards, ``Pipeline.connect`` does in one call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from lab_utils.errors import LabError
from lab_utils.pipeline.contract import Lab, every, function_file

Statement = dict[str, Any]


@dataclass(frozen=True)
class Names:
    """What every part of the pipeline is called; the workshop's own names."""

    stream: str = "IncomingDataStream"
    state_table: str = "StateTable"
    reduce_table: str = "ReduceTable"
    aggregate_table: str = "AggregateTable"
    parameter_table: str = "ParameterTable"
    state_function: str = "StateLambda"
    map_function: str = "MapLambda"
    reduce_function: str = "ReduceLambda"
    state_role: str = "StateLambdaRole"
    map_role: str = "MapLambdaRole"
    reduce_role: str = "ReduceLambdaRole"


NAMES = Names()
SHARDS = 20  # of IncomingDataStream

# name, hash key (a string), and whether its changes go to a stream. All are on-demand.
TABLES = (
    (NAMES.state_table, "id", True),
    (NAMES.reduce_table, "MessageId", True),
    (NAMES.aggregate_table, "Identifier", False),
    (NAMES.parameter_table, "parameter", False),
)


def _allow(resource: str, *actions: str) -> Statement:
    service = resource.split(":")[2]
    allowed = [f"{service}:{action}" for action in actions]
    return {"Effect": "Allow", "Action": allowed, "Resource": resource}


def _table(name: str) -> str:
    return f"arn:aws:dynamodb:*:*:table/{name}"


def _may_read_stream_of(table: str) -> Statement:
    actions = ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")
    return _allow(f"{_table(table)}/stream/*", *actions)


_MAY_READ_PARAMETERS = _allow(_table(NAMES.parameter_table), "GetItem")

STATE_STATEMENTS: tuple[Statement, ...] = (
    _allow(
        f"arn:aws:kinesis:*:*:stream/{NAMES.stream}",
        "DescribeStream",
        "DescribeStreamSummary",
        "GetRecords",
        "GetShardIterator",
        "ListShards",
        "ListStreams",
    ),
    _allow(_table(NAMES.state_table), "UpdateItem"),
    _MAY_READ_PARAMETERS,
)
MAP_STATEMENTS: tuple[Statement, ...] = (
    _may_read_stream_of(NAMES.state_table),
    _allow(_table(NAMES.reduce_table), "PutItem"),
    _MAY_READ_PARAMETERS,
)
# Incomplete on purpose: finding out what is missing is a part of the first lab.
REDUCE_STATEMENTS: tuple[Statement, ...] = (_MAY_READ_PARAMETERS,)
REDUCE_MISSING_STATEMENTS: tuple[Statement, ...] = (
    _may_read_stream_of(NAMES.reduce_table),
    _allow(_table(NAMES.aggregate_table), "UpdateItem"),
)


@dataclass(frozen=True)
class Function:
    """A function's settings: its file, role, ``timeout`` (seconds) and ``memory`` (MB)."""

    name: str
    file: str
    role: str
    statements: tuple[Statement, ...]
    timeout: int
    memory: int = 256
    environment: dict[str, str] = field(default_factory=dict)


FUNCTIONS = (
    Function(
        NAMES.state_function,
        "state",
        NAMES.state_role,
        STATE_STATEMENTS,
        timeout=180,
        environment={"STATE_TABLE": NAMES.state_table, "PARAMETER_TABLE": NAMES.parameter_table},
    ),
    Function(
        NAMES.map_function,
        "map",
        NAMES.map_role,
        MAP_STATEMENTS,
        timeout=60,
        environment={"REDUCE_TABLE": NAMES.reduce_table, "PARAMETER_TABLE": NAMES.parameter_table},
    ),
    Function(
        NAMES.reduce_function,
        "reduce",
        NAMES.reduce_role,
        REDUCE_STATEMENTS,
        timeout=30,
        environment={
            "AGGREGATE_TABLE": NAMES.aggregate_table,
            "PARAMETER_TABLE": NAMES.parameter_table,
        },
    ),
)

# The mappings, as parameters of CreateEventSourceMapping; only EventSourceArn is to be added.
STATE_MAPPING: dict[str, Any] = {
    "FunctionName": NAMES.state_function,
    "BatchSize": 100,
    "StartingPosition": "LATEST",
}
MAP_MAPPING: dict[str, Any] = {
    "FunctionName": NAMES.map_function,
    "BatchSize": 10_000,
    "MaximumBatchingWindowInSeconds": 3,
    "ParallelizationFactor": 1,
    "MaximumRecordAgeInSeconds": -1,
    "BisectBatchOnFunctionError": False,
    "MaximumRetryAttempts": -1,
    "TumblingWindowInSeconds": 0,
    "StartingPosition": "LATEST",
    "Enabled": True,
}
REDUCE_MAPPING: dict[str, Any] = {
    "FunctionName": NAMES.reduce_function,
    "BatchSize": 1_000,
    "StartingPosition": "LATEST",
}


@dataclass(frozen=True)
class Pipeline:
    """The pipeline as deployed: the ARNs of its streams and the names of its parts."""

    stream_arn: str
    state_stream_arn: str
    reduce_stream_arn: str
    names: Names = field(default=NAMES, repr=False)
    lab: Lab = field(repr=False, compare=False, kw_only=True)

    def source_of(self, function_name: str) -> str:
        """The ARN of the stream that feeds one of the three functions."""
        sources = {
            self.names.state_function: self.stream_arn,
            self.names.map_function: self.state_stream_arn,
            self.names.reduce_function: self.reduce_stream_arn,
        }
        if function_name not in sources:
            known = ", ".join(sources)
            raise LabError(f"The pipeline has no function {function_name!r}: use one of {known}.")
        return sources[function_name]

    def mapping(self, function_name: str) -> str | None:
        """The UUID of the mapping that feeds this function; None if it is not connected."""
        found = find_mapping(self.lab, function_name, self.source_of(function_name))
        return str(found["UUID"]) if found else None

    def connect(
        self,
        lab: Lab | None = None,
        *,
        start: str = "TRIM_HORIZON",
        reserved_concurrency: int | None = 1,
    ) -> None:
        """Do the whole first lab in one call: permissions, reserved concurrency, mappings.

        Mappings that exist are kept. ``start`` is the StartingPosition of the new ones;
        ``reserved_concurrency`` is ReduceLambda's, and None leaves it without one. Returns
        when all three mappings are enabled.
        """
        lab = lab or self.lab
        if start not in ("TRIM_HORIZON", "LATEST"):
            raise LabError(f"start={start!r} is no position: use 'TRIM_HORIZON' or 'LATEST'.")
        lab.role(self.names.reduce_role, *REDUCE_STATEMENTS, *REDUCE_MISSING_STATEMENTS)
        if reserved_concurrency is not None:
            lab.client("lambda").put_function_concurrency(
                FunctionName=self.names.reduce_function,
                ReservedConcurrentExecutions=reserved_concurrency,
            )
        for mapping in (STATE_MAPPING, MAP_MAPPING, REDUCE_MAPPING):
            source = self.source_of(mapping["FunctionName"])
            _ensure_mapping(lab, {**mapping, "StartingPosition": start}, source)
        for mapping in (STATE_MAPPING, MAP_MAPPING, REDUCE_MAPPING):
            uuid = self.mapping(mapping["FunctionName"])
            if uuid:
                wait_enabled(lab, uuid)


def deploy(lab: Lab, *, shards: int | None = None) -> Pipeline:
    """Put up everything but two of the three mappings, and wait until it can be used.

    What exists is kept as it is, so that running it twice changes nothing; ``remove`` first
    to begin again. ``shards`` is the number of IncomingDataStream's shards, 20 if not given.
    """
    if shards is not None and (isinstance(shards, bool) or not isinstance(shards, int)):
        raise LabError(f"shards={shards!r} is no number of shards: give a whole number, e.g. 20.")
    if shards is not None and shards < 1:
        raise LabError(f"A stream needs at least one shard, not {shards}: give shards=1 or more.")
    _ensure_stream(lab, shards)
    for name, key, with_stream in TABLES:
        _ensure_table(lab, name, key, with_stream)
    stream = lab.client("kinesis").describe_stream_summary(StreamName=NAMES.stream)
    pipeline = Pipeline(
        stream_arn=stream["StreamDescriptionSummary"]["StreamARN"],
        state_stream_arn=_wait_for_table(lab, NAMES.state_table, True),
        reduce_stream_arn=_wait_for_table(lab, NAMES.reduce_table, True),
        lab=lab,
    )
    for name, _, with_stream in TABLES:
        _wait_for_table(lab, name, with_stream)
    for function in FUNCTIONS:
        _ensure_function(lab, function)
    _ensure_mapping(lab, MAP_MAPPING, pipeline.state_stream_arn)
    uuid = pipeline.mapping(NAMES.map_function)
    if uuid:
        wait_enabled(lab, uuid)
    return pipeline


def remove(lab: Lab) -> None:
    """Take the pipeline down: mappings, functions, tables and stream; what is gone is gone.

    The roles stay until the lab is closed.
    """
    functions, dynamodb, kinesis = (lab.client(n) for n in ("lambda", "dynamodb", "kinesis"))
    for function in FUNCTIONS:
        for mapping in _mappings(lab, function.name):
            uuid = mapping["UUID"]
            # A mapping on its way from one state to another can't be deleted.
            _wait_for_state(lab, uuid, lambda state: state in (None, *_SETTLED, "Deleting"))
            _if_there(functions.delete_event_source_mapping, UUID=uuid)
            _wait_for_state(lab, uuid, lambda state: state is None)
        _if_there(functions.delete_function, FunctionName=function.name)
    for name, _, _ in TABLES:
        _if_there(dynamodb.delete_table, TableName=name)
    _if_there(kinesis.delete_stream, StreamName=NAMES.stream)

    def gone() -> bool:
        """The tables and the stream are gone."""
        described = [_if_there(dynamodb.describe_table, TableName=name) for name, _, _ in TABLES]
        stream = _if_there(kinesis.describe_stream_summary, StreamName=NAMES.stream)
        return not any(described) and stream is None

    lab.wait_until(every(lab, 1, gone))


def set_failures(lab: Lab, *, state: float = 0, map: float = 0, reduce: float = 0) -> None:
    """Let the functions fail on purpose in so many of a hundred batches; 0 switches it off.

    StateLambda fails before a record in the middle of its batch, the two others after their
    write. Each function reads its figure at every invocation.
    """
    dynamodb = lab.client("dynamodb")
    for name, percent in (("STATE", state), ("MAP", map), ("REDUCE", reduce)):
        if not 0 <= percent <= 100:
            raise LabError(f"{name.lower()}={percent} is no percentage: give 0 to 100.")
        item = {
            "parameter": {"S": f"FAILURE_{name}_LAMBDA_PCT"},
            "value": {"N": str(percent)},
        }
        dynamodb.put_item(TableName=NAMES.parameter_table, Item=item)


def wait_enabled(lab: Lab, uuid: str, timeout: float = 300) -> None:
    """Wait until a mapping is enabled; ``timeout`` in seconds of the target's time."""
    _wait_for_state(lab, uuid, lambda state: state == "Enabled", timeout)


def find_mapping(lab: Lab, function_name: str, source_arn: str) -> dict[str, Any] | None:
    """The mapping from this stream to this function, as Lambda describes it, or None."""
    for mapping in _mappings(lab, function_name):
        if mapping.get("EventSourceArn") == source_arn and mapping.get("State") != "Deleting":
            return mapping
    return None


# States in which a mapping may be changed or deleted.
_SETTLED = ("Enabled", "Disabled")


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _if_there(call: Callable[..., Any], **request: Any) -> Any:
    """The call's answer, or None where the thing it names does not exist."""
    try:
        return call(**request)
    except ClientError as error:
        if _code(error) != "ResourceNotFoundException":
            raise
        return None


def _create(call: Callable[..., Any], **request: Any) -> bool:
    """Make the call; False where the thing is there already."""
    try:
        call(**request)
    except ClientError as error:
        if _code(error) not in ("ResourceInUseException", "ResourceConflictException"):
            raise
        return False
    return True


def _ensure_stream(lab: Lab, shards: int | None) -> None:
    kinesis = lab.client("kinesis")
    name = NAMES.stream

    def describe() -> Any:
        answer = _if_there(kinesis.describe_stream_summary, StreamName=name)
        return answer and answer["StreamDescriptionSummary"]

    def active() -> bool:
        """The stream of messages is active."""
        return bool((describe() or {}).get("StreamStatus") == "ACTIVE")

    created = False
    if describe() is None:
        count = shards or SHARDS
        created = _create(kinesis.create_stream, StreamName=name, ShardCount=count)
    lab.wait_until(every(lab, 1, active))
    if not created and shards is not None and describe()["OpenShardCount"] != shards:
        there = describe()["OpenShardCount"]
        raise LabError(
            f"{name} has {there} open shards, not {shards}: call remove(lab) before deploying it "
            "with another number, or leave shards out to use it as it is."
        )


def _ensure_table(lab: Lab, name: str, key: str, with_stream: bool) -> None:
    dynamodb = lab.client("dynamodb")
    stream = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    request: dict[str, Any] = {
        "TableName": name,
        "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"}],
        "BillingMode": "PAY_PER_REQUEST",
    }
    if with_stream:
        request["StreamSpecification"] = stream
    if _if_there(dynamodb.describe_table, TableName=name) is None:
        _create(dynamodb.create_table, **request)
        return
    _wait_for_table(lab, name, False)
    table = dynamodb.describe_table(TableName=name)["Table"]
    if with_stream and not table.get("StreamSpecification", {}).get("StreamEnabled"):
        dynamodb.update_table(TableName=name, StreamSpecification=stream)


def _wait_for_table(lab: Lab, name: str, with_stream: bool) -> str:
    """Wait until the table is active; the ARN of its stream, if it has one."""
    dynamodb = lab.client("dynamodb")
    arn = ""

    def active() -> bool:
        """The table is active, and so is its stream if it has one."""
        nonlocal arn
        answer = _if_there(dynamodb.describe_table, TableName=name)
        table = answer["Table"] if answer else {}
        arn = table.get("LatestStreamArn", "")
        return table.get("TableStatus") == "ACTIVE" and bool(arn or not with_stream)

    lab.wait_until(every(lab, 1, active))
    return arn


def _ensure_function(lab: Lab, function: Function) -> None:
    functions = lab.client("lambda")
    if _if_there(functions.get_function, FunctionName=function.name) is None:
        lab.deploy_function(
            function.name,
            function_file(function.file),
            role=lab.role(function.role, *function.statements),
            timeout=function.timeout,
            memory=function.memory,
            environment=dict(function.environment),
        )


def _mappings(lab: Lab, function_name: str) -> list[dict[str, Any]]:
    functions = lab.client("lambda")
    pages = functions.get_paginator("list_event_source_mappings")
    found: list[dict[str, Any]] = []
    for page in pages.paginate(FunctionName=function_name):
        found.extend(page["EventSourceMappings"])
    return found


def _ensure_mapping(lab: Lab, parameters: dict[str, Any], source_arn: str) -> None:
    """Create a mapping if it is missing; a permission just added may need a while to count."""
    functions = lab.client("lambda")
    if find_mapping(lab, parameters["FunctionName"], source_arn):
        return
    refusal: ClientError | None = None

    def created() -> bool:
        """The event source mapping is created."""
        nonlocal refusal
        try:
            create = functions.create_event_source_mapping
            _create(create, EventSourceArn=source_arn, **parameters)
        except ClientError as error:
            if _code(error) != "InvalidParameterValueException":
                raise
            refusal = error
            return False
        return True

    try:
        lab.wait_until(every(lab, 2, created), timeout=60)
    except TimeoutError:
        if refusal is not None:
            raise refusal from None
        raise


def _wait_for_state(
    lab: Lab, uuid: str, wanted: Callable[[str | None], bool], timeout: float = 300
) -> None:
    """Wait until a mapping's state is wanted; its state is None once it is gone."""
    functions = lab.client("lambda")

    def reached() -> bool:
        """The event source mapping is in the state that was asked for."""
        answer = _if_there(functions.get_event_source_mapping, UUID=uuid)
        return wanted(answer["State"] if answer else None)

    lab.wait_until(every(lab, 1, reached), timeout=timeout)
