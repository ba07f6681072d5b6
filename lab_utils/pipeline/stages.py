"""The pipeline from its first stream to its last table, as it is at this moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lab_utils.pipeline.contract import Lab
from lab_utils.pipeline.parts import NAMES
from lab_utils.pipeline.resources import Pipeline, find_mapping


@dataclass(frozen=True)
class Stage:
    """One part of the pipeline, and how the part before it feeds it.

    ``shards`` counts the open shards of the stage's stream. ``link`` is ``"direct"`` where the
    function before writes to it, ``"connected"`` or ``"missing"`` where an event source mapping
    reads the stream before, and empty for the first stage.

    ``name`` is the plain one, whatever the target. ``detail`` is short enough for a picture:
    ``"batch 10,000, 3 s"`` is a mapping's BatchSize and batching window, ``"1 at once"`` a
    function's reserved concurrency.
    """

    name: str
    kind: Literal["stream", "function", "table"]
    shards: int = 0
    link: Literal["", "direct", "connected", "missing"] = ""
    detail: str = ""


def stages(lab: Lab, pipeline: Pipeline) -> list[Stage]:
    """Ask AWS what is there: seven stages, in the order in which a message meets them."""
    kinesis_shards = _open_kinesis_shards(lab, pipeline.names.stream)
    return [
        Stage(NAMES.stream, "stream", kinesis_shards, detail=_some(kinesis_shards, "open shard")),
        _function(lab, pipeline, NAMES.state_function),
        _table(lab, NAMES.state_table, pipeline.state_stream_arn),
        _function(lab, pipeline, NAMES.map_function),
        _table(lab, NAMES.reduce_table, pipeline.reduce_stream_arn),
        _function(lab, pipeline, NAMES.reduce_function),
        _table(lab, NAMES.aggregate_table),
    ]


def _some(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _function(lab: Lab, pipeline: Pipeline, name: str) -> Stage:
    mapping = find_mapping(lab, lab.name(name), pipeline.source_of(name))
    details = [_describe(mapping)] if mapping else []
    answer = lab.client("lambda").get_function_concurrency(FunctionName=lab.name(name))
    reserved = answer.get("ReservedConcurrentExecutions")
    if reserved is not None:
        details.append(f"{reserved} at once")
    stopped = mapping is None or mapping["State"] in ("Disabled", "Disabling")
    link: Literal["connected", "missing"] = "missing" if stopped else "connected"
    return Stage(name, "function", link=link, detail=", ".join(details))


def _describe(mapping: dict[str, Any]) -> str:
    details = [f"batch {mapping['BatchSize']:,}"]
    if mapping.get("MaximumBatchingWindowInSeconds"):
        details.append(f"{mapping['MaximumBatchingWindowInSeconds']} s")
    if mapping.get("ParallelizationFactor", 1) > 1:
        details.append(f"{mapping['ParallelizationFactor']} lanes")
    if mapping["State"] != "Enabled":
        details.append(mapping["State"].lower())
    return ", ".join(details)


def _table(lab: Lab, name: str, stream_arn: str | None = None) -> Stage:
    shards = _open_table_shards(lab, stream_arn) if stream_arn else 0
    detail = _some(_count_items(lab, name), "item")
    return Stage(name, "table", shards, link="direct", detail=detail)


def _count_items(lab: Lab, table: str) -> int:
    request = {"TableName": lab.name(table), "Select": "COUNT", "ConsistentRead": True}
    pages = lab.client("dynamodb").get_paginator("scan").paginate(**request)
    return sum(page["Count"] for page in pages)


def _open_kinesis_shards(lab: Lab, stream: str) -> int:
    kinesis, request, count = lab.client("kinesis"), {"StreamName": stream}, 0
    while True:
        page = kinesis.list_shards(**request)
        count += sum(map(_is_open, page["Shards"]))
        if "NextToken" not in page:
            return count
        request = {"NextToken": page["NextToken"]}  # alone; boto3's paginator would add the name


def _open_table_shards(lab: Lab, stream_arn: str) -> int:
    streams = lab.client("dynamodbstreams")
    request = {"StreamArn": stream_arn}
    count = 0
    while True:
        description = streams.describe_stream(**request)["StreamDescription"]
        count += sum(map(_is_open, description["Shards"]))
        if "LastEvaluatedShardId" not in description:
            return count
        request["ExclusiveStartShardId"] = description["LastEvaluatedShardId"]


def _is_open(shard: dict[str, Any]) -> bool:
    return "EndingSequenceNumber" not in shard["SequenceNumberRange"]
