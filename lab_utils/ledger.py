"""What a lab made on a target that outlives it, so that closing the lab removes it again.

Every client of a lab reports the resources that its calls create and delete. Only what the lab
created and nobody deleted since is ever removed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

Clients = Callable[[str], Any]
Clear = Callable[[Clients, str], None]

GONE = ("NotFound", "NonExistent", "NoSuch")


def _nothing(_: Clients, __: str) -> None:
    """Most resources can be deleted as they are."""


def _strip_role(client: Clients, name: str) -> None:
    iam = client("iam")
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])


def _strip_policy(client: Clients, arn: str) -> None:
    iam = client("iam")
    for version in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
        if not version["IsDefaultVersion"]:
            iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])


def _empty_bucket(client: Clients, bucket: str) -> None:
    s3 = client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", ()):
            s3.delete_object(Bucket=bucket, Key=each["Key"])


@dataclass(frozen=True)
class Kind:
    """A kind of resource: made by Create<noun>, removed by Delete<noun>, told apart by `members`.

    `clear` removes what stands in the way of its deletion.
    """

    name: str
    service: str
    noun: str
    members: tuple[str, ...]
    clear: Clear = _nothing

    def identity(self, *answers: dict[str, Any]) -> str:
        """The name of a resource, in a request or an answer about it; ARNs end in the name."""
        found = next(
            str(answer[member]) for answer in answers for member in self.members if member in answer
        )
        return (
            re.split("[:/]", found)[-1]
            if self.members[0].endswith("Name") and (found.startswith("arn:"))
            else found
        )

    def remove(self, client: Clients, identity: str) -> None:
        self.clear(client, identity)
        delete = getattr(client(self.service), xform_name(f"Delete{self.noun}"))
        delete(**{self.members[0]: identity})


KINDS = (
    Kind("mapping", "lambda", "EventSourceMapping", ("UUID",)),
    Kind("function", "lambda", "Function", ("FunctionName",)),
    Kind("table", "dynamodb", "Table", ("TableName",)),
    Kind("stream", "kinesis", "Stream", ("StreamName", "StreamARN")),
    Kind("queue", "sqs", "Queue", ("QueueUrl",)),
    Kind("topic", "sns", "Topic", ("TopicArn",)),
    Kind("bucket", "s3", "Bucket", ("Bucket",), _empty_bucket),
    Kind("log group", "logs", "LogGroup", ("logGroupName",)),
    Kind("role", "iam", "Role", ("RoleName",), _strip_role),
    Kind("policy", "iam", "Policy", ("PolicyArn", "Arn"), _strip_policy),
)
"""What is removed first stands first."""


class Ledger:
    """The resources that a lab created and that nobody deleted yet."""

    def __init__(self) -> None:
        self._began = time.time()
        self._made: dict[tuple[Kind, str], None] = {}

    def watch(self, client: Any) -> Any:
        """Note what this client creates and deletes from now on."""
        service = client.meta.service_model.service_name
        hyphenized = client.meta.service_model.service_id.hyphenize()
        register = client.meta.events.register
        for kind in KINDS:
            if kind.service == service:
                for verb, note in (("Create", self._created), ("Delete", self._deleted)):
                    name = f"{hyphenized}.{verb}{kind.noun}"
                    register(f"before-parameter-build.{name}", _remember)
                    register(
                        f"after-call.{name}",
                        lambda kind=kind, note=note, **call: _succeeded(kind, note, **call),
                    )
        return client

    def _created(self, kind: Kind, asked: dict[str, Any], answer: dict[str, Any]) -> None:
        described = [each for each in answer.values() if isinstance(each, dict)]
        self._made[kind, kind.identity(asked, answer, *described)] = None

    def _deleted(self, kind: Kind, asked: dict[str, Any], _: dict[str, Any]) -> None:
        self._made.pop((kind, kind.identity(asked)), None)

    def remove_all(self, client: Clients) -> list[str]:
        """Remove everything that was noted, mappings first and roles last; say what failed.

        What failed stays noted, so that it can be tried again.
        """
        failures = []
        self._note_logs(client)
        for kind, identity in sorted(self._made, key=lambda entry: KINDS.index(entry[0])):
            try:
                kind.remove(client, identity)
            except ClientError as problem:
                if not any(mark in problem.response["Error"]["Code"] for mark in GONE):
                    failures.append(f"{kind.name} {identity}: {problem}")
                    continue
            self._made.pop((kind, identity), None)
        return failures

    def _note_logs(self, client: Clients) -> None:
        """A function makes its log group itself; one older than the lab is not the lab's."""
        log_group = next(kind for kind in KINDS if kind.name == "log group")
        for kind, name in list(self._made):
            if kind.name == "function":
                group = f"/aws/lambda/{name}"
                found = client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
                if any(
                    each["logGroupName"] == group
                    and each.get("creationTime", 0) >= self._began * 1000
                    for each in found
                ):
                    self._made[log_group, group] = None


def _remember(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    context["lab_params"] = dict(params)


def _succeeded(
    kind: Kind,
    note: Callable[..., None],
    http_response: Any,
    parsed: dict[str, Any],
    context: dict[str, Any],
    **_: Any,
) -> None:
    if http_response.status_code < 300:
        note(kind, context.get("lab_params", {}), parsed)
