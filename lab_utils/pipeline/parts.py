"""What the pipeline is made of, declared once: names, tables, functions, and what each may do.

Everything here is a function of the names, which on AWS carry the lab's id: so a role's statements
name the very resources of its lab.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

Statement = dict[str, Any]


@dataclass(frozen=True)
class Names:
    """What every part of the pipeline is called; plain, the workshop's own names."""

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

    def each(self, rename: Callable[[str], str]) -> Names:
        """All of them, renamed."""
        return Names(*(rename(getattr(self, field.name)) for field in fields(self)))


NAMES = Names()
SHARDS = 20  # of IncomingDataStream
START = "TRIM_HORIZON"
"""Where the mappings begin that ``Pipeline.connect`` makes."""
REDUCE_AT_ONCE = 1
"""ReduceLambda's reserved concurrency, once it is connected."""


@dataclass(frozen=True)
class Table:
    """An on-demand table: its hash key, a string, and whether its changes go to a stream."""

    name: str
    key: str
    streams: bool


@dataclass(frozen=True)
class Function:
    """A function's settings: its file, its role, ``timeout`` (seconds) and ``memory`` (MB).

    ``statements`` is what its role may do when it is deployed, ``missing`` what it lacks then.
    ``source`` is the stream, or the table, that feeds it, and ``mapping`` how: parameters of
    CreateEventSourceMapping, to which only the source's ARN is to be added.
    """

    name: str
    file: str
    role: str
    source: str
    environment: dict[str, str]
    mapping: dict[str, Any]
    statements: tuple[Statement, ...]
    timeout: int
    missing: tuple[Statement, ...] = ()
    memory: int = 256


def tables(names: Names = NAMES) -> tuple[Table, ...]:
    """The pipeline's tables, in the order in which a message meets them."""
    return (
        Table(names.state_table, "id", streams=True),
        Table(names.reduce_table, "MessageId", streams=True),
        Table(names.aggregate_table, "Identifier", streams=False),
        Table(names.parameter_table, "parameter", streams=False),
    )


def functions(names: Names = NAMES) -> tuple[Function, ...]:
    """StateLambda, MapLambda and ReduceLambda, in the order in which a message meets them."""
    may_read_parameters = _allow(_table(names.parameter_table), "GetItem")
    parameters = {"PARAMETER_TABLE": names.parameter_table}
    return (
        Function(
            names.state_function,
            "state",
            names.state_role,
            names.stream,
            environment={"STATE_TABLE": names.state_table, **parameters},
            mapping={
                "FunctionName": names.state_function,
                "BatchSize": 100,
                "StartingPosition": "LATEST",
            },
            statements=(
                _may_read(names.stream),
                _allow(_table(names.state_table), "UpdateItem"),
                may_read_parameters,
            ),
            timeout=180,
        ),
        Function(
            names.map_function,
            "map",
            names.map_role,
            names.state_table,
            environment={"REDUCE_TABLE": names.reduce_table, **parameters},
            mapping={
                "FunctionName": names.map_function,
                "BatchSize": 10_000,
                "MaximumBatchingWindowInSeconds": 3,
                "ParallelizationFactor": 1,
                "MaximumRecordAgeInSeconds": -1,
                "BisectBatchOnFunctionError": False,
                "MaximumRetryAttempts": -1,
                "TumblingWindowInSeconds": 0,
                "StartingPosition": "LATEST",
                "Enabled": True,
            },
            statements=(
                _may_read_stream_of(names.state_table),
                _allow(_table(names.reduce_table), "PutItem"),
                may_read_parameters,
            ),
            timeout=60,
        ),
        Function(
            names.reduce_function,
            "reduce",
            names.reduce_role,
            names.reduce_table,
            environment={"AGGREGATE_TABLE": names.aggregate_table, **parameters},
            mapping={
                "FunctionName": names.reduce_function,
                "BatchSize": 1_000,
                "StartingPosition": "LATEST",
            },
            statements=(may_read_parameters,),
            # On purpose: finding out what is missing is a part of the first lab.
            missing=(
                _may_read_stream_of(names.reduce_table),
                _allow(_table(names.aggregate_table), "UpdateItem"),
            ),
            timeout=30,
        ),
    )


def _allow(resource: str, *actions: str) -> Statement:
    service = resource.split(":")[2]
    allowed = [f"{service}:{action}" for action in actions]
    return {"Effect": "Allow", "Action": allowed, "Resource": resource}


def _table(name: str) -> str:
    return f"arn:aws:dynamodb:*:*:table/{name}"


def _may_read(stream: str) -> Statement:
    return _allow(
        f"arn:aws:kinesis:*:*:stream/{stream}",
        "DescribeStream",
        "GetRecords",
        "GetShardIterator",
        "ListShards",
        "ListStreams",
    )


def _may_read_stream_of(table: str) -> Statement:
    actions = ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")
    return _allow(f"{_table(table)}/stream/*", *actions)
