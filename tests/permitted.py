"""What IAM would say to the calls that boto3's clients send: what each needs, and what is allowed.

Actions, resources and keys of conditions are those of the Service Authorization Reference. What a
policy hears of a resource's tags is what the recorded calls themselves have put on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from botocore.client import BaseClient

from lab_utils.kinds import KINDS

Json = dict[str, Any]
Context = dict[str, str]


# -- calls --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A call that was sent: with which parameters, and what was answered."""

    service: str
    operation: str
    params: Json
    answer: Json


@contextmanager
def recorded(endpoint: str = "") -> Iterator[list[Call]]:
    """All calls that boto3's clients send meanwhile, in the order of their answers.

    `endpoint`: only those that are sent there.
    """
    calls: list[Call] = []
    send = BaseClient._make_api_call

    def sending(self: Any, operation: str, params: Json) -> Any:
        answer: Json = {}
        try:
            answer = send(self, operation, params)
            return answer
        finally:  # what the lab adds to the parameters, it adds in place
            if endpoint in self.meta.endpoint_url:
                service = self.meta.service_model.service_name
                calls.append(Call(service, operation, params, answer))

    BaseClient._make_api_call = sending
    try:
        yield calls
    finally:
        BaseClient._make_api_call = send


WRITE_DOWN = """
import atexit, permitted
_recording = permitted.recorded({endpoint!r})
atexit.register(permitted.write_down, {path!r}, _recording.__enter__())
"""
"""A notebook's first cell: it records what the others send, and writes it down at the end."""


def write_down(path: str, calls: list[Call]) -> None:
    """Keep the calls in a file."""
    told = [[call.service, call.operation, call.params, call.answer] for call in calls]
    Path(path).write_text(json.dumps(told, default=str), encoding="utf-8")


def read_back(path: Path) -> list[Call]:
    """The calls that a notebook sent."""
    return [Call(*each) for each in json.loads(path.read_text(encoding="utf-8"))]


# -- what a call needs --------------------------------------------------------------------------


@dataclass(frozen=True)
class Need:
    """An action that has to be allowed, on a resource, and what conditions can ask about it."""

    action: str
    resource: str
    context: Context = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.action} on {self.resource} with {self.context}"


ACTIONS = {
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListObjectsV2": "s3:ListBucket",
}
TAGGING = {
    "dynamodb:CreateTable": "dynamodb:TagResource",
    "iam:CreatePolicy": "iam:TagPolicy",
    "iam:CreateRole": "iam:TagRole",
    "kinesis:CreateStream": "kinesis:AddTagsToStream",
    "lambda:CreateEventSourceMapping": "lambda:TagResource",
    "lambda:CreateFunction": "lambda:TagResource",
    "logs:CreateLogGroup": "logs:TagResource",
    "sns:CreateTopic": "sns:TagResource",
    "sqs:CreateQueue": "sqs:TagQueue",
}
"""What a creation with tags needs besides."""
CREATIONS = {kind.creation for kind in KINDS}
ANYWHERE = {"dynamodb:ListStreams", "lambda:ListEventSourceMappings", "logs:DescribeLogGroups"}
"""Granted for all resources or not at all, whatever the call names."""
NAMING = {
    "cloudwatch": {"AlarmName": "alarm:", "AlarmNames": "alarm:", "ResourceARN": ""},
    "dynamodb": {"TableName": "table/", "ResourceArn": "", "StreamArn": ""},
    "iam": {"RoleName": "role/", "PolicyName": "policy/", "PolicyArn": ""},
    "kinesis": {"StreamName": "stream/", "StreamARN": ""},
    "lambda": {"FunctionName": "function:", "UUID": "event-source-mapping:", "Resource": ""},
    "logs": {"logGroupName": "log-group:", "resourceArn": ""},
    "s3": {"Bucket": ""},
    "sns": {"TopicArn": "", "ResourceArn": "", "Name": ""},
    "sqs": {"QueueName": "", "QueueUrl": ""},
}
"""The parameters that name a resource, the telling ones first; what stands before the name."""


class Authorization:
    """Turns calls into needs, and remembers what they tell of the resources."""

    def __init__(self, region: str, account: str) -> None:
        self._region, self._account = region, account
        self._tags: dict[str, Context] = {}
        self._boundaries: dict[str, str] = {}
        self._mapped: dict[str, str] = {}
        self._read: dict[str, str] = {}

    def needs(self, call: Call) -> list[Need]:
        """What a call needs permission for; what comes of it is remembered."""
        found = list(self._needs(call))
        self._remember(call, found)
        return found

    def _needs(self, call: Call) -> Iterator[Need]:
        service = {"dynamodbstreams": "dynamodb"}.get(call.service, call.service)
        action = f"{service}:{call.operation}"
        action = ACTIONS.get(action, action)
        if action == "sts:GetCallerIdentity":
            return  # asks for no permission
        if action == "dynamodb:TransactWriteItems":
            for item in call.params["TransactItems"]:
                for kind, request in item.items():
                    action = {"ConditionCheck": "ConditionCheckItem"}.get(kind, f"{kind}Item")
                    yield self._need(f"dynamodb:{action}", self._arn("dynamodb", request))
        elif action == "dynamodb:BatchWriteItem":
            for table in call.params["RequestItems"]:
                yield self._need(action, self._arn("dynamodb", {"TableName": table}))
        elif action == "dynamodb:ExecuteStatement":
            statement = re.match(r'(\w+) (?:INTO |FROM )?"([^"]+)"', call.params["Statement"])
            assert statement, call.params
            verb, table = statement.groups()
            arn = self._arn("dynamodb", {"TableName": table})
            yield self._need(f"dynamodb:PartiQL{verb.capitalize()}", arn)
        elif action == "s3:DeleteObject" and "VersionId" in call.params:
            arn = f"{self._arn('s3', call.params)}/{call.params['Key']}"
            yield self._need("s3:DeleteObjectVersion", arn)
        else:
            yield from self._plain(service, action, call)

    def _plain(self, service: str, action: str, call: Call) -> Iterator[Need]:
        params = call.params
        arn = "*" if action in ANYWHERE else self._arn(service, params)
        asked = {f"aws:RequestTag/{key}": value for key, value in tags_in(params).items()}
        if "PermissionsBoundary" in params:
            asked["iam:PermissionsBoundary"] = params["PermissionsBoundary"]
        if action == "lambda:CreateEventSourceMapping":
            yield Need(action, "*", {**asked, "lambda:FunctionArn": arn})
            arn = self._arn(service, {"UUID": call.answer.get("UUID", "new")})
        else:
            yield self._need(action, arn, asked)
        if asked and action in TAGGING:
            yield Need(TAGGING[action], arn, asked)
        if service == "lambda" and "Role" in params:
            passed = {"iam:PassedToService": "lambda.amazonaws.com"}
            yield Need("iam:PassRole", params["Role"], passed)

    def _need(self, action: str, arn: str, asked: Context | None = None) -> Need:
        carried = {f"aws:ResourceTag/{k}": v for k, v in self._tags.get(arn, {}).items()}
        if arn in self._boundaries:
            carried["iam:PermissionsBoundary"] = self._boundaries[arn]
        if arn in self._mapped:
            carried["lambda:FunctionArn"] = self._mapped[arn]
        return Need(action, arn, {**carried, **(asked or {})})

    def _arn(self, service: str, params: Json) -> str:
        if "ShardIterator" in params:
            return self._read[params["ShardIterator"]]
        for parameter, before in NAMING[service].items():
            if parameter in params:
                named = params[parameter]
                (name,) = named if isinstance(named, list) else (named,)
                if name.startswith("arn:"):
                    return str(name)
                where = {"iam": f":{self._account}", "s3": ":"}
                here = where.get(service, f"{self._region}:{self._account}")
                name = name.rsplit("/", 1)[-1] if parameter == "QueueUrl" else name
                return f"arn:aws:{service}:{here}:{before}{name}"
        return "*"

    def _remember(self, call: Call, needs: Iterable[Need]) -> None:
        if not call.answer:
            return
        for need in needs:
            if call.operation in CREATIONS and need.resource != "*":
                told = tags_in(call.params)
                self._tags[need.resource] = self._tags.get(need.resource, {}) | told
            if "PermissionsBoundary" in call.params:
                self._boundaries[need.resource] = call.params["PermissionsBoundary"]
            if call.operation == "CreateEventSourceMapping" and need.resource != "*":
                self._mapped[need.resource] = call.answer["FunctionArn"]
            for iterator in ("ShardIterator", "NextShardIterator"):
                if iterator in call.answer:
                    self._read[call.answer[iterator]] = need.resource


def tags_in(params: Json) -> Context:
    """The tags that a creation asks for, in whichever shape."""
    asked = params.get("Tags", params.get("tags", {}))
    return asked if isinstance(asked, dict) else {tag["Key"]: tag["Value"] for tag in asked}


# -- what a policy says -------------------------------------------------------------------------


def allows(policy: Json, need: Need) -> bool:
    """Allowed by a statement and denied by none."""
    effects = {each["Effect"] for each in policy["Statement"] if _concerns(each, need)}
    return effects == {"Allow"}


def _concerns(statement: Json, need: Need) -> bool:
    return (
        need.action in statement["Action"]
        and any(_like(need.resource, pattern) for pattern in _listed(statement["Resource"]))
        and all(
            _holds(operator, need.context.get(key), expected)
            for operator, keys in statement.get("Condition", {}).items()
            for key, expected in keys.items()
        )
    )


def _holds(operator: str, found: str | None, expected: str) -> bool:
    if operator == "StringNotEquals":
        return found != expected  # true of a key that is missing, too
    if operator == "StringEquals":
        return found == expected
    assert operator == "ArnLike"
    return found is not None and all(
        fnmatchcase(part, pattern)
        for part, pattern in zip(found.split(":", 5), expected.split(":", 5), strict=True)
    )


def _like(resource: str, pattern: str) -> bool:
    return fnmatchcase(resource, pattern.replace("[", "[[]"))


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
