"""ReduceLambda: add the differences of a batch to the totals in AggregateTable."""

import json
import os
import random
import time
from decimal import Decimal
from typing import Any

import boto3

dynamodb = boto3.client("dynamodb")

AGGREGATE_TABLE = os.environ.get("AGGREGATE_TABLE", "AggregateTable")
PARAMETER_TABLE = os.environ.get("PARAMETER_TABLE", "ParameterTable")


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Add a batch of ReduceTable's stream to all totals, in one transaction."""
    log_batch(event["Records"])
    failure_pct = read_failure_pct()
    totals = add_up(event["Records"])
    if not totals:
        return {"statusCode": 200}
    # All or nothing: no reader sees a desk's total without its risk type's. But nothing says
    # which batch this was: delivered twice, it counts twice.
    updates = [
        {
            "Update": {
                "TableName": AGGREGATE_TABLE,
                "Key": {"Identifier": {"S": key}},
                "UpdateExpression": "ADD #value :val",
                "ExpressionAttributeNames": {"#value": "Value"},
                "ExpressionAttributeValues": {":val": {"N": str(total)}},
            }
        }
        for key, total in sorted(totals.items())
    ]
    dynamodb.transact_write_items(TransactItems=updates)
    if random.random() * 100 < failure_pct:  # after the write, where it hurts most
        raise RuntimeError("injected failure in ReduceLambda")
    return {"statusCode": 200}


def add_up(records: list[dict[str, Any]]) -> dict[str, Decimal]:
    """Sum the rows that MapLambda wrote, key by key."""
    totals: dict[str, Decimal] = {}
    for record in records:
        if "NewImage" not in record["dynamodb"]:
            continue  # a row was deleted: nothing to add
        row = json.loads(record["dynamodb"]["NewImage"]["Message"]["S"])
        for key, value in row.items():
            if not key.startswith("timestamp"):  # times can't be added up
                totals[key] = totals.get(key, Decimal(0)) + Decimal(value)
    return totals


def log_batch(records: list[dict[str, Any]]) -> None:
    """Say in the log which batch this is: its records name their stream, but not their shard."""
    stream, first = records[0]["eventSourceARN"], records[0]["dynamodb"]["SequenceNumber"]
    age = time.time() - records[-1]["dynamodb"]["ApproximateCreationDateTime"]
    batch = {"stream": stream, "first": first, "size": len(records), "age": round(age, 3)}
    print(json.dumps({"batch": batch}))


def read_failure_pct() -> float:
    """How many batches in a hundred shall fail: 0 unless ParameterTable says otherwise."""
    key = {"parameter": {"S": "FAILURE_REDUCE_LAMBDA_PCT"}}
    answer = dynamodb.get_item(TableName=PARAMETER_TABLE, Key=key, ConsistentRead=True)
    return float(answer["Item"]["value"]["N"]) if "Item" in answer else 0.0
