"""What a function's role allows: checked on every call its code makes.

The policies and their evaluation are MiniStack's; which action and which resources a request needs
is told here. The answers are remembered until somebody changes a role.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from lab_utils.emulator.backing import ACCOUNT
from lab_utils.emulator.dynamodb import arn_of_table, table_name
from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.kinesis_tokens import stream_name

if TYPE_CHECKING:
    from lab_utils.emulator.gateway import Request
    from lab_utils.emulator.world import World

Need = tuple[str, str]
"""An IAM action and the ARN of the resource it is asked for."""

_TRANSACTION_ACTIONS = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
    "Get": "GetItem",
}
_STATEMENT_LISTS = {
    "ExecuteStatement": "",
    "BatchExecuteStatement": "Statements",
    "ExecuteTransaction": "TransactStatements",
}
"""Where each PartiQL operation has its statements, if it has several."""


_CODES = {
    "iam": "AccessDenied",
    "sts": "AccessDenied",
    "s3": "AccessDenied",
    "sqs": "AccessDenied",
    "sns": "AuthorizationError",
}
"""What a service calls the refusal, where it is not AccessDeniedException."""
_FORBIDDEN = ("lambda", "iam", "sts", "sns", "sqs", "s3")
"""Services whose refusal is HTTP 403; it is 400 elsewhere."""

_STATEMENT = re.compile(
    r"\s*(?:EXISTS\s*\(\s*)?(?P<verb>SELECT|INSERT|UPDATE|DELETE)\b"
    r"(?:(?<=SELECT)(?:\"[^\"]*\"|[^\"])*?\bFROM\b|(?<=INSERT)\s+INTO\b|(?<=DELETE)\s+FROM\b"
    r"|(?<=UPDATE))\s*"
    r"(?P<table>\"[^\"]+\"|[\w-]+)(?:\.(?P<index>\"[^\"]+\"|[\w-]+))?",
    re.IGNORECASE | re.DOTALL,
)
"""As much of a PartiQL statement as tells what it does, and to which table or index."""


class Permissions:
    """Decisions about roles, remembered."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._decisions: dict[tuple[str, str, str], str] = {}

    def forget(self) -> None:
        """A role or a policy changed: decide anew."""
        self._decisions.clear()

    def allows(self, role: str, action: str, resource: str) -> bool:
        return self._decide(role, action, resource) == "Allow"

    def _decide(self, role: str, action: str, resource: str) -> str:
        key = role, action, resource
        if key not in self._decisions:
            region = resource.split(":")[3] if resource.count(":") > 4 else ""
            self._decisions[key] = self._world.backing.decide(
                region or self._world.home, role, action, resource
            )
        return self._decisions[key]

    def check(self, request: Request, role: str, session: str) -> None:
        """AWS's AccessDeniedException if the role does not allow what the request needs."""
        for action, resource in needs(self._world, request):
            decision = self._decide(role, action, resource)
            if decision != "Allow":
                name = role.rpartition("/")[2]
                user = f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}"
                reason = (
                    "with an explicit deny in an identity-based policy"
                    if decision == "Deny"
                    else f"because no identity-based policy allows the {action} action"
                )
                raise ApiError(
                    _CODES.get(request.service, "AccessDeniedException"),
                    f"User: {user} is not authorized to perform: {action} on resource: {resource} "
                    f"{reason}",
                    403 if request.service in _FORBIDDEN else 400,
                )


def needs(world: World, request: Request) -> Iterator[Need]:
    """The permissions that a request needs, in the order in which AWS would miss them."""
    if request.service == "dynamodb":
        yield from _for_tables(world, request)
    elif request.service == "dynamodbstreams":
        body = json.loads(request.body)
        arn = body.get("StreamArn") or body.get("ShardIterator", "*").partition("|")[0]
        yield f"dynamodb:{request.operation}", arn
    elif request.service == "kinesis":
        name = stream_name(json.loads(request.body))
        arn = f"arn:aws:kinesis:{request.region}:{ACCOUNT}:stream/{name}" if name else "*"
        yield f"kinesis:{request.operation}", arn
    elif request.service == "lambda":
        action = "InvokeFunction" if request.operation == "Invoke" else request.operation
        yield f"lambda:{action}", _function_arn(world, request)
    elif request.service == "iam":
        given = parse_qs(request.body.decode())
        role, policy = given.get("RoleName", [""])[0], given.get("PolicyArn", ["*"])[0]
        yield (
            f"iam:{request.operation}",
            f"arn:aws:iam::{ACCOUNT}:role/{role}" if role else policy,
        )
    else:
        form = parse_qs(request.body.decode()) if request.service in ("sns", "sts") else {}
        needed, resource = world.backing.needs(
            request.service,
            request.region,
            request.method,
            request.path,
            request.headers,
            request.body,
            {**request.query, **form},
        )
        if needed is not None:
            yield needed, resource


def _function_arn(world: World, request: Request) -> str:
    """A version or an alias is a resource of its own."""
    name = request.path.rpartition("/functions/")[2].partition("/")[0]
    if not name:
        return "*"  # about all functions, or about mappings
    arn = world.region(request.region).functions.arn_as_given(name)
    qualifier = request.query.get("Qualifier", [""])[0]
    return f"{arn}:{qualifier}" if qualifier and not arn.endswith(f":{qualifier}") else arn


def _for_tables(world: World, request: Request) -> Iterator[Need]:
    body: dict[str, Any] = json.loads(request.body)
    operation = request.operation
    if "TransactItems" in body:
        for member in body["TransactItems"]:
            for kind, action in member.items():
                yield (
                    f"dynamodb:{_TRANSACTION_ACTIONS.get(kind, kind)}",
                    _table_arn(request, action.get("TableName")),
                )
    elif "RequestItems" in body:
        for name in body["RequestItems"]:
            yield f"dynamodb:{operation}", _table_arn(request, name)
    elif "TableName" in body:
        arn = _table_arn(request, body["TableName"])
        index = body.get("IndexName")
        yield f"dynamodb:{operation}", f"{arn}/index/{index}" if index else arn
    elif operation in _STATEMENT_LISTS:
        members = body.get(_STATEMENT_LISTS[operation]) or [body]
        for member in members:
            yield _for_statement(request, str(member.get("Statement", "")))
    else:
        needed, resource = world.backing.needs(
            "dynamodb",
            request.region,
            request.method,
            request.path,
            request.headers,
            request.body,
            request.query,
        )
        yield needed or f"dynamodb:{operation}", resource


def _for_statement(request: Request, statement: str) -> Need:
    """The permission of a PartiQL statement: one of its own, not that of the native call."""
    found = _STATEMENT.match(statement)
    if found is None:
        return f"dynamodb:{request.operation}", "*"  # no statement at all: refused in any case
    arn = _table_arn(request, found["table"].strip('"'))
    index = (found["index"] or "").strip('"')
    return (
        f"dynamodb:PartiQL{found['verb'].capitalize()}",
        f"{arn}/index/{index}" if index else arn,
    )


def _table_arn(request: Request, name: Any) -> str:
    return arn_of_table(request.region, str(table_name(name)))
