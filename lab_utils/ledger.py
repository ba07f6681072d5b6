"""What a lab made on a target that outlives it, so that closing the lab removes it again.

Every client of a lab reports the resources that its calls created; nothing else is ever removed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

Remove = Callable[[Callable[[str], Any], dict[str, Any], dict[str, Any]], None]

GONE = ("NotFound", "NonExistent", "NoSuch")


def _remove_role(client: Callable[[str], Any], params: dict[str, Any], _: dict[str, Any]) -> None:
    iam, name = client("iam"), params["RoleName"]
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
    iam.delete_role(RoleName=name)


def _remove_bucket(client: Callable[[str], Any], params: dict[str, Any],
                   _: dict[str, Any]) -> None:
    s3, bucket = client("s3"), params["Bucket"]
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", ()):
            s3.delete_object(Bucket=bucket, Key=each["Key"])
    s3.delete_bucket(Bucket=bucket)


REMOVALS: dict[str, tuple[str, Remove]] = {
    "lambda.CreateEventSourceMapping": ("mapping", lambda client, _, made: client(
        "lambda").delete_event_source_mapping(UUID=made["UUID"])),
    "lambda.CreateFunction": ("function", lambda client, params, _: client(
        "lambda").delete_function(FunctionName=params["FunctionName"])),
    "dynamodb.CreateTable": ("table", lambda client, params, _: client(
        "dynamodb").delete_table(TableName=params["TableName"])),
    "kinesis.CreateStream": ("stream", lambda client, params, _: client(
        "kinesis").delete_stream(StreamName=params["StreamName"])),
    "sqs.CreateQueue": ("queue", lambda client, _, made: client(
        "sqs").delete_queue(QueueUrl=made["QueueUrl"])),
    "sns.CreateTopic": ("topic", lambda client, _, made: client(
        "sns").delete_topic(TopicArn=made["TopicArn"])),
    "s3.CreateBucket": ("bucket", _remove_bucket),
    "logs.CreateLogGroup": ("log group", lambda client, params, _: client(
        "logs").delete_log_group(logGroupName=params["logGroupName"])),
    "iam.CreateRole": ("role", _remove_role),
}
"""How each kind of resource is removed; what is removed first stands first."""


class Ledger:
    """The resources that a lab created and has not removed yet."""

    def __init__(self) -> None:
        self._made: list[tuple[str, dict[str, Any], dict[str, Any]]] = []

    def watch(self, client: Any) -> Any:
        """Note what this client creates from now on."""
        service = client.meta.service_model.service_name
        hyphenized = client.meta.service_model.service_id.hyphenize()
        for event in REMOVALS:
            if event.startswith(f"{service}."):
                operation = event.partition(".")[2]
                client.meta.events.register(
                    f"before-parameter-build.{hyphenized}.{operation}", self._asked)
                client.meta.events.register(
                    f"after-call.{hyphenized}.{operation}",
                    lambda event=event, **call: self._made_one(event, **call))
        return client

    def _asked(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["lab_params"] = dict(params)

    def _made_one(self, event: str, http_response: Any, parsed: dict[str, Any],
                  context: dict[str, Any], **_: Any) -> None:
        if http_response.status_code < 300:
            self._made.append((event, context.get("lab_params", {}), parsed))

    def remove_all(self, client: Callable[[str], Any]) -> list[str]:
        """Remove everything that was noted, mappings first and roles last; say what failed."""
        failures = []
        order = {event: number for number, event in enumerate(REMOVALS)}
        for event, params, made in sorted(self._made, key=lambda entry: order[entry[0]]):
            kind, remove = REMOVALS[event]
            try:
                remove(client, params, made)
            except ClientError as problem:
                if not any(mark in problem.response["Error"]["Code"] for mark in GONE):
                    failures.append(f"{kind}: {problem}")
        self._made.clear()
        return failures
