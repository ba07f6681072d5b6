"""MapLambda: turn a batch of changed trades into one row of differences in ReduceTable."""

import hashlib
import json
import os
import random
import time
from decimal import Decimal
from typing import Any

import boto3
from botocore.exceptions import ClientError

dynamodb = boto3.client("dynamodb")

REDUCE_TABLE = os.environ.get("REDUCE_TABLE", "ReduceTable")
PARAMETER_TABLE = os.environ.get("PARAMETER_TABLE", "ParameterTable")


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Write what a batch of StateTable's stream changes in the totals."""
    log_batch(event["Records"])
    failure_pct = read_failure_pct()
    changed = [record for record in event["Records"] if "NewImage" in record["dynamodb"]]
    if not changed:
        return {"statusCode": 200}
    # The same batch has the same id, so a batch that is delivered again is not added again.
    batch = json.dumps(event["Records"], sort_keys=True)
    item = {
        "MessageId": {"S": hashlib.sha256(batch.encode()).hexdigest()},
        "Message": {"S": json.dumps(differences(changed), sort_keys=True, default=str)},
    }
    try:
        unseen = "attribute_not_exists(MessageId)"
        dynamodb.put_item(TableName=REDUCE_TABLE, Item=item, ConditionExpression=unseen)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            # A trap: Lambda takes any returned value for success, so this batch is lost.
            print(error)
            return {"statusCode": 500}
    if random.random() * 100 < failure_pct:  # after the write, where it hurts most
        raise RuntimeError("injected failure in MapLambda")
    return {"statusCode": 200}


def differences(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Add new values, take old ones away, on each of the three levels of the hierarchy."""
    totals: dict[str, Any] = {"message_count": len(records)}
    for record in records:
        for image, sign in (("OldImage", -1), ("NewImage", 1)):
            if image not in record["dynamodb"]:
                continue  # a new trade has no old image
            trade = record["dynamodb"][image]
            place = json.loads(trade["Hierarchy"]["S"])
            path = [place["RiskType"], place["TradeDesk"], place["Region"]]
            for level in (1, 2, 3):
                key = ":".join(path[:level])
                totals[key] = totals.get(key, 0) + sign * Decimal(trade["Value"]["N"])
    times = [Decimal(record["dynamodb"]["NewImage"]["Timestamp"]["N"]) for record in records]
    totals["timestamp_generator_first"] = min(times)
    totals["timestamp_generator_mean"] = sum(times) / len(times)
    return totals


def log_batch(records: list[dict[str, Any]]) -> None:
    """Say in the log which batch this is: its records name their stream, but not their shard."""
    stream, first = records[0]["eventSourceARN"], records[0]["dynamodb"]["SequenceNumber"]
    age = time.time() - records[-1]["dynamodb"]["ApproximateCreationDateTime"]
    batch = {"stream": stream, "first": first, "size": len(records), "age": round(age, 3)}
    print(json.dumps({"batch": batch}))


def read_failure_pct() -> float:
    """How many batches in a hundred shall fail: 0 unless ParameterTable says otherwise."""
    key = {"parameter": {"S": "FAILURE_MAP_LAMBDA_PCT"}}
    answer = dynamodb.get_item(TableName=PARAMETER_TABLE, Key=key, ConsistentRead=True)
    return float(answer["Item"]["value"]["N"]) if "Item" in answer else 0.0
