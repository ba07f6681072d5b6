"""The pipeline's resources: how to put them up, connect them, and take them down.

``deploy`` leaves the pipeline as the first lab finds it: everything is there, only MapLambda
has its event source mapping, and ReduceLambda's role may not read the stream it needs.
What the reader does by hand afterwards, ``Pipeline.connect`` does in one call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from lab_utils.errors import LabError
from lab_utils.pipeline.contract import Lab, every, function_file
from lab_utils.pipeline.parts import (
    NAMES,
    REDUCE_AT_ONCE,
    SHARDS,
    START,
    Function,
    Names,
    Statement,
    Table,
    functions,
    tables,
)
from lab_utils.refusals import error_code
from lab_utils.settling import settled

STORE_PATIENCE = 300
"""Seconds until a stream or a table is to be active. Assumed, with much to spare."""
MAPPING_PATIENCE = 600
"""Seconds: on AWS it can take minutes until a mapping is what it was asked to be."""


@dataclass(frozen=True)
class Pipeline:
    """The pipeline as deployed: the ARNs of its streams and the names of its parts."""

    stream_arn: str
    state_stream_arn: str
    reduce_stream_arn: str
    names: Names = field(default=NAMES, repr=False)
    lab: Lab = field(repr=False, compare=False, kw_only=True)

    def function(self, name: str) -> Function:
        """How one of the three functions was declared; ``name`` may be its plain name."""
        found = {function.name: function for function in functions(self.names)}
        if self.lab.name(name) not in found:
            known = ", ".join(found)
            raise LabError(f"The pipeline has no function {name!r}: use one of {known}.")
        return found[self.lab.name(name)]

    def statements(self, function_name: str, *, complete: bool = False) -> tuple[Statement, ...]:
        """What a function's role is allowed by ``deploy``; ``complete``: and by ``connect``."""
        function = self.function(function_name)
        return function.statements + (function.missing if complete else ())

    def source_of(self, function_name: str) -> str:
        """The ARN of the stream that feeds one of the three functions."""
        sources = {
            self.names.stream: self.stream_arn,
            self.names.state_table: self.state_stream_arn,
            self.names.reduce_table: self.reduce_stream_arn,
        }
        return sources[self.function(function_name).source]

    def mapping(self, function_name: str) -> str | None:
        """The UUID of the mapping that feeds this function; None if it is not connected."""
        found = find_mapping(self.lab, self.lab.name(function_name), self.source_of(function_name))
        return str(found["UUID"]) if found else None

    def connect(
        self,
        lab: Lab | None = None,
        *,
        start: str = START,
        reserved_concurrency: int | None = REDUCE_AT_ONCE,
    ) -> None:
        """Do the whole first lab in one call: permissions, reserved concurrency, mappings.

        Mappings that exist are kept. ``start`` is the StartingPosition of the new ones;
        ``reserved_concurrency`` is ReduceLambda's. None leaves it without one, as an account of
        few concurrent executions has to; the totals are as right, since ReduceLambda only adds.
        Returns when all three mappings are enabled.
        """
        lab = lab or self.lab
        if start not in ("TRIM_HORIZON", "LATEST"):
            raise LabError(f"start={start!r} is no position: use 'TRIM_HORIZON' or 'LATEST'.")
        with lab.explaining("connecting the pipeline"):
            reduce = self.function(self.names.reduce_function)
            lab.role(reduce.role, *self.statements(reduce.name, complete=True))
            if reserved_concurrency is not None:
                with lab.explaining(f"reserving concurrency for {reduce.name}"):
                    lab.client("lambda").put_function_concurrency(
                        FunctionName=reduce.name,
                        ReservedConcurrentExecutions=reserved_concurrency,
                    )
            all_three = functions(self.names)
            lab.together(*(partial(self._ensure_mapping, lab, each, start) for each in all_three))
            lab.together(*(partial(self._wait_connected, lab, each) for each in all_three))

    def _ensure_mapping(self, lab: Lab, function: Function, start: str | None = None) -> None:
        source = self.source_of(function.name)
        there = _mappings(lab, function.name, source)
        if any(map(_stays, there)):
            return
        for going in there:  # until it is gone, Lambda makes no other
            _wait_until_gone(lab, going["UUID"])
        request = function.mapping | ({"StartingPosition": start} if start else {})
        create = partial(settled, lab, lab.client("lambda").create_event_source_mapping)
        _create(create, EventSourceArn=source, **request)

    def _wait_connected(self, lab: Lab, function: Function) -> None:
        uuid = self.mapping(function.name)
        if uuid:
            wait_enabled(lab, uuid)


def deploy(lab: Lab, *, shards: int | None = None) -> Pipeline:
    """Put up everything but two of the three mappings, and wait until it can be used.

    What exists is kept as it is, so that running it twice changes nothing, and after an
    interruption it goes on from there; ``remove`` first to begin again. ``shards`` is the number
    of IncomingDataStream's shards, 20 if not given.
    """
    if shards is not None and (isinstance(shards, bool) or not isinstance(shards, int)):
        raise LabError(f"shards={shards!r} is no number of shards: give a whole number, e.g. 20.")
    if shards is not None and shards < 1:
        raise LabError(f"A stream needs at least one shard, not {shards}: give shards=1 or more.")
    names = NAMES.each(lab.name)
    with lab.explaining("deploying the pipeline"):
        pipeline: Pipeline = lab.together(
            partial(_ensure_stores, lab, names, shards),
            *(partial(_ensure_function, lab, function) for function in functions(names)),
        )[0]
        connected = pipeline.function(names.map_function)
        pipeline._ensure_mapping(lab, connected)
        pipeline._wait_connected(lab, connected)
    return pipeline


def remove(lab: Lab) -> None:
    """Take the pipeline down: mappings, functions, tables and stream; what is gone is gone.

    The roles stay until the lab is closed.
    """
    names = NAMES.each(lab.name)
    dynamodb, kinesis = lab.client("dynamodb"), lab.client("kinesis")
    stores = [partial(_if_there, dynamodb.delete_table, TableName=t.name) for t in tables(names)]
    stores.append(partial(_if_there, kinesis.delete_stream, StreamName=names.stream))

    def gone() -> bool:
        """The tables and the stream are gone."""
        described = [_if_there(dynamodb.describe_table, TableName=t.name) for t in tables(names)]
        stream = _if_there(kinesis.describe_stream_summary, StreamName=names.stream)
        return not any(described) and stream is None

    with lab.explaining("removing the pipeline"):
        lab.together(*(partial(_remove_function, lab, each.name) for each in functions(names)))
        lab.together(*stores)
        lab.wait_until(every(lab, 1, gone), timeout=STORE_PATIENCE)


def _remove_function(lab: Lab, name: str) -> None:
    """Delete a function's mappings, and then the function."""
    functions = lab.client("lambda")
    for mapping in _mappings(lab, name):
        uuid = mapping["UUID"]
        # A mapping on its way from one state to another can't be deleted.
        _wait_for_state(lab, uuid, "may be deleted", ("Enabled", "Disabled", "Deleting", None))
        _if_there(functions.delete_event_source_mapping, UUID=uuid)
        _wait_until_gone(lab, uuid)
    _if_there(functions.delete_function, FunctionName=name)


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
        with lab.explaining("setting how often functions fail"):
            dynamodb.put_item(TableName=lab.name(NAMES.parameter_table), Item=item)


def wait_enabled(lab: Lab, uuid: str, timeout: float = MAPPING_PATIENCE) -> None:
    """Wait until a mapping is enabled; ``timeout`` in seconds of the target's time."""
    _wait_for_state(lab, uuid, "is enabled", ("Enabled",), timeout)


def find_mapping(lab: Lab, function_name: str, source_arn: str) -> dict[str, Any] | None:
    """The mapping from this stream to this function, as Lambda describes it, or None."""
    return next(filter(_stays, _mappings(lab, function_name, source_arn)), None)


def _if_there(call: Callable[..., Any], **request: Any) -> Any:
    """The call's answer, or None where the thing it names does not exist."""
    try:
        return call(**request)
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise
        return None


def _create(call: Callable[..., Any], **request: Any) -> bool:
    """Make the call; False where the thing is there already."""
    try:
        call(**request)
    except ClientError as error:
        if error_code(error) not in ("ResourceInUseException", "ResourceConflictException"):
            raise
        return False
    return True


def _ensure_stores(lab: Lab, names: Names, shards: int | None) -> Pipeline:
    """The stream and the tables, all of them active."""
    lab.together(
        partial(_ensure_stream, lab, names.stream, shards),
        *(partial(_ensure_table, lab, table) for table in tables(names)),
    )
    stream = lab.client("kinesis").describe_stream_summary(StreamName=names.stream)
    pipeline = Pipeline(
        stream_arn=stream["StreamDescriptionSummary"]["StreamARN"],
        state_stream_arn=_wait_for_table(lab, names.state_table, True),
        reduce_stream_arn=_wait_for_table(lab, names.reduce_table, True),
        names=names,
        lab=lab,
    )
    for table in tables(names):
        _wait_for_table(lab, table.name, table.streams)
    return pipeline


def _ensure_stream(lab: Lab, name: str, shards: int | None) -> None:
    kinesis = lab.client("kinesis")

    def describe() -> Any:
        answer = _if_there(kinesis.describe_stream_summary, StreamName=name)
        return answer and answer["StreamDescriptionSummary"]

    def active() -> bool:
        """The stream of messages is active."""
        return bool((describe() or {}).get("StreamStatus") == "ACTIVE")

    created = False
    if describe() is None:
        create = partial(settled, lab, kinesis.create_stream)
        created = _create(create, StreamName=name, ShardCount=shards or SHARDS)
    lab.wait_until(every(lab, 1, active), timeout=STORE_PATIENCE)
    if not created and shards is not None and describe()["OpenShardCount"] != shards:
        there = describe()["OpenShardCount"]
        raise LabError(
            f"{name} has {there} open shards, not {shards}: call remove(lab) before deploying it "
            "with another number, or leave shards out to use it as it is."
        )


def _ensure_table(lab: Lab, table: Table) -> None:
    dynamodb = lab.client("dynamodb")
    stream = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    request: dict[str, Any] = {
        "TableName": table.name,
        "KeySchema": [{"AttributeName": table.key, "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": table.key, "AttributeType": "S"}],
        "BillingMode": "PAY_PER_REQUEST",
    }
    if table.streams:
        request["StreamSpecification"] = stream
    if _if_there(dynamodb.describe_table, TableName=table.name) is None:
        _create(partial(settled, lab, dynamodb.create_table), **request)
        return
    _wait_for_table(lab, table.name, False)
    found = dynamodb.describe_table(TableName=table.name)["Table"]
    if table.streams and not found.get("StreamSpecification", {}).get("StreamEnabled"):
        dynamodb.update_table(TableName=table.name, StreamSpecification=stream)


def _wait_for_table(lab: Lab, name: str, with_stream: bool) -> str:
    """Wait until the table is active; the ARN of its stream, if it has one."""
    dynamodb = lab.client("dynamodb")
    arn = ""

    def active() -> bool:
        nonlocal arn
        answer = _if_there(dynamodb.describe_table, TableName=name)
        table = answer["Table"] if answer else {}
        arn = table.get("LatestStreamArn", "")
        return table.get("TableStatus") == "ACTIVE" and bool(arn or not with_stream)

    active.__doc__ = f"{name} is active, and so is its stream if it has one"
    lab.wait_until(every(lab, 1, active), timeout=STORE_PATIENCE)
    return arn


def _ensure_function(lab: Lab, function: Function) -> None:
    """A function that is there is kept, unless it failed when it was made or changed."""
    found = _if_there(lab.client("lambda").get_function, FunctionName=function.name)
    if found is None or not _is_well(found["Configuration"]):
        lab.deploy_function(
            function.name,
            function_file(function.file),
            role=lab.role(function.role, *function.statements),
            timeout=function.timeout,
            memory=function.memory,
            environment=dict(function.environment),
        )


def _is_well(function: dict[str, Any]) -> bool:
    states = (function.get("State", "Active"), function.get("LastUpdateStatus", "Successful"))
    return states == ("Active", "Successful")


def _mappings(lab: Lab, function: str, source_arn: str | None = None) -> list[dict[str, Any]]:
    """A function's mappings: all of them, or those from one stream."""
    functions = lab.client("lambda")
    pages = functions.get_paginator("list_event_source_mappings")
    return [
        mapping
        for page in pages.paginate(FunctionName=function)
        for mapping in page["EventSourceMappings"]
        if source_arn in (None, mapping.get("EventSourceArn"))
    ]


def _stays(mapping: dict[str, Any]) -> bool:
    return mapping.get("State") != "Deleting"


def _wait_until_gone(lab: Lab, uuid: str) -> None:
    _wait_for_state(lab, uuid, "is gone", (None,))


def _wait_for_state(
    lab: Lab,
    uuid: str,
    awaited: str,
    states: tuple[str | None, ...],
    timeout: float = MAPPING_PATIENCE,
) -> None:
    """Wait until a mapping is in one of these states; its state is None once it is gone."""
    functions = lab.client("lambda")

    def reached() -> bool:
        answer = _if_there(functions.get_event_source_mapping, UUID=uuid)
        return (answer["State"] if answer else None) in states

    reached.__doc__ = f"the event source mapping {awaited}"
    lab.wait_until(every(lab, 1, reached), timeout=timeout)
