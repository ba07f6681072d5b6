"""StateLambda: keep the version of every trade that arrived last in StateTable."""

import base64
import json
import os
import random
import time
from decimal import Decimal
from typing import Any

import boto3

# Made once per instance, outside the handler, and reused by its later invocations.
dynamodb = boto3.client("dynamodb")

STATE_TABLE = os.environ.get("STATE_TABLE", "StateTable")
PARAMETER_TABLE = os.environ.get("PARAMETER_TABLE", "ParameterTable")
MAX_AGE = 60  # seconds; an older message is of no use to the risk department


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Write each message of a Kinesis batch to the item of its trade."""
    log_batch(event["Records"])
    failure_pct = read_failure_pct()
    for record in event["Records"]:
        # A share of the whole per record; the records before this one are already written.
        if random.random() * 100 < failure_pct / len(event["Records"]):
            raise RuntimeError("injected failure in StateLambda")
        text = base64.b64decode(record["kinesis"]["data"])
        message = json.loads(text, parse_float=Decimal)  # Decimal: cents stay exact
        if time.time() - float(message["Timestamp"]) > MAX_AGE:
            continue  # too old: dropped without a trace
        save(message)
    return {"statusCode": 200}


def save(message: dict[str, Any]) -> None:
    """Overwrite the trade's item, whatever version it holds."""
    dynamodb.update_item(
        TableName=STATE_TABLE,
        Key={"id": {"S": message["TradeID"]}},
        UpdateExpression="SET #value = :value, #version = :version, "
        "#hierarchy = :hierarchy, #timestamp = :timestamp",
        ExpressionAttributeNames={
            "#value": "Value",
            "#version": "Version",
            "#hierarchy": "Hierarchy",
            "#timestamp": "Timestamp",
        },
        ExpressionAttributeValues={
            ":value": {"N": str(message["Value"])},
            ":version": {"N": str(message["Version"])},
            ":hierarchy": {"S": json.dumps(message["Hierarchy"], sort_keys=True)},
            ":timestamp": {"N": str(message["Timestamp"])},
        },
    )


def log_batch(records: list[dict[str, Any]]) -> None:
    """Say in the log which batch this is: what the log knows of shards comes from here."""
    shard, first = records[0]["eventID"].split(":")
    age = time.time() - records[-1]["kinesis"]["approximateArrivalTimestamp"]
    batch = {"shard": shard, "first": first, "size": len(records), "age": round(age, 3)}
    print(json.dumps({"batch": batch}))


def read_failure_pct() -> float:
    """How many batches in a hundred shall fail: 0 unless ParameterTable says otherwise."""
    key = {"parameter": {"S": "FAILURE_STATE_LAMBDA_PCT"}}
    answer = dynamodb.get_item(TableName=PARAMETER_TABLE, Key=key, ConsistentRead=True)
    return float(answer["Item"]["value"]["N"]) if "Item" in answer else 0.0
