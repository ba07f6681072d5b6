"""The table that a question is about."""

from __future__ import annotations

from typing import Any

from lab_utils.lab import Lab

TABLE = "Exercise"
ON_DEMAND = {"BillingMode": "PAY_PER_REQUEST"}


def new_table(lab: Lab, view: str | None = "KEYS_ONLY", **mode: Any) -> str:
    """Create the table, on demand if `mode` says nothing else; the ARN of its stream.

    Without a `view` it has no stream, and the ARN is empty.
    """
    stream = {"StreamEnabled": True, "StreamViewType": view} if view else {"StreamEnabled": False}
    made = lab.client("dynamodb").create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        StreamSpecification=stream,
        **(mode or ON_DEMAND),
    )
    return str(made["TableDescription"].get("LatestStreamArn", ""))
