"""What the lab writes into the roles of functions, and where functions write their logs."""

from __future__ import annotations

import os
from typing import Any

TRUST_LAMBDA = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
WRITE_LOGS = {
    "Effect": "Allow",
    "Resource": "*",
    "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
}
"""For a function that makes its log group itself."""
LOG_DAYS = 1
"""How long a log group that the lab makes keeps its lines."""


def log_group(function: str) -> str:
    """Where a function of this name logs."""
    return f"/aws/lambda/{function}"


def may_write_logs(function: str) -> dict[str, Any]:
    """A statement for a function whose log group the lab has made: it may fill that one.

    It may not make it. Lambda delivers logs late, and a group made anew after the lab was closed
    would carry no tag and stay.
    """
    return {
        "Effect": "Allow",
        "Resource": f"arn:aws:logs:*:*:log-group:{log_group(function)}:*",
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
    }


def document(*statements: dict[str, Any]) -> dict[str, Any]:
    """A policy of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def boundary() -> dict[str, str]:
    """What CreateRole needs where roles have to carry a permissions boundary: LAB_AWS_BOUNDARY."""
    arn = os.environ.get("LAB_AWS_BOUNDARY", "").strip()
    return {"PermissionsBoundary": arn} if arn else {}
