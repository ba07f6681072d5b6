"""What a lab's clients can make that lasts: how each kind of it is made, found, known and removed.

Names and tags are looked at here only. Nothing in this file decides what is to be removed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jmespath
from botocore.exceptions import ClientError

from lab_utils.refusals import error_code

Clients = Callable[[str], Any]
Clear = Callable[[Any, str], None]
Tags = dict[str, str]

GONE = ("DoesNotExist", "NonExistent", "NotFound", "NoSuch")
"""In the codes by which services say that something is not there."""
LONG_PAGES = {"PaginationConfig": {"PageSize": 1000}}
"""For what an account may have thousands of. SQS tells of no second page if nobody asks for one."""
MOST_TAGS = 50
"""So many a resource can have."""
NO_TAGS = "NoSuchTagSet"
"""S3's way to say that a bucket has no tags."""


class Call(NamedTuple):
    """One of a client's calls: the parameter that names the resource, and where the answer is.

    `answer` is JMESPath; a `parameter` with brackets behind it takes a list.
    """

    operation: str
    parameter: str = ""
    answer: str = "@"
    settings: Mapping[str, Any] = {}

    def __call__(self, client: Any, identity: str = "") -> Any:
        """What the service says, page after page, about one resource or about all."""
        request = dict(self.settings)
        if self.parameter:
            listed = self.parameter.endswith("[]")
            request[self.parameter.removesuffix("[]")] = [identity] if listed else identity
        if client.can_paginate(self.operation):
            said = client.get_paginator(self.operation).paginate(**request).build_full_result()
        else:
            said = getattr(client, self.operation)(**request)
        return jmespath.search(self.answer, said)


class Found(NamedTuple):
    """A resource in a listing: what its deletion names, what it is called, what its tags hang on.

    A mapping has no name of its own: it is called by its function's.
    """

    identity: str
    called: str
    handle: str

    @property
    def name(self) -> str:
        """The name alone, without the ARN or the URL that it ends."""
        return re.sub(r"^(arn:.*?:function:|arn:.*[:/]|\w+://.*/)", "", self.called)


def _nothing(_: Any, __: str) -> None:
    """Most resources can be deleted as they are."""


def _strip_role(iam: Any, role: str) -> None:
    for policy in Call("list_role_policies", "RoleName", "PolicyNames")(iam, role):
        iam.delete_role_policy(RoleName=role, PolicyName=policy)
    for policy in Call("list_attached_role_policies", "RoleName", "AttachedPolicies")(iam, role):
        iam.detach_role_policy(RoleName=role, PolicyArn=policy["PolicyArn"])


def _strip_policy(iam: Any, arn: str) -> None:
    for version in Call("list_policy_versions", "PolicyArn", "Versions")(iam, arn):
        if not version["IsDefaultVersion"]:
            iam.delete_policy_version(PolicyArn=arn, VersionId=version["VersionId"])


def _empty_bucket(s3: Any, bucket: str) -> None:
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            s3.delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])


def _release_table(dynamodb: Any, table: str) -> None:
    if Call("describe_table", "TableName", "Table.DeletionProtectionEnabled")(dynamodb, table):
        dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)


def _tag_stream(kinesis: Any, stream: str, tags: Tags) -> None:
    """AWS, which has taken them at the creation, refuses it until the stream is active."""
    try:
        kinesis.add_tags_to_stream(StreamName=stream, Tags=tags)
    except ClientError as problem:
        if error_code(problem) != "ResourceInUseException":
            raise


def _tag_bucket(s3: Any, bucket: str, tags: Tags) -> None:
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": as_list(tags)})


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of resource.

    `creation` is the operation that makes one and `naming` its parameter for the name; `tagging` is
    where in its parameters the tags go. `listing` answers with names, or with what `Found` holds.
    `clear` removes what stands in the way of the deletion. `state` tells how a resource is doing:
    while it is one of `unsettled`, it can't be deleted; where `lingers`, it is there for a while
    after its deletion. `retag` is for servers that make such a resource, but leave its tags out.
    What is of a lower `stage` is removed first; `everywhere` is a kind that knows no Regions.
    """

    name: str
    plural: str
    service: str
    creation: str
    naming: str
    listing: Call
    reading: Call
    deletion: Call
    tagging: tuple[str, ...] = ("Tags",)
    handle: Call | None = None
    clear: Clear = _nothing
    state: Call | None = None
    unsettled: tuple[str, ...] = ()
    lingers: bool = False
    retag: Callable[[Any, str, Tags], None] | None = None
    stage: int = 3
    everywhere: bool = False

    def counted(self, number: int) -> str:
        """Such as `3 tables`."""
        return f"{number} {self.name if number == 1 else self.plural}"

    def all(self, client: Any) -> Iterator[Found]:
        """Those that are there."""
        for each in self.listing(client) or ():
            yield self.found(each) if isinstance(each, str) else Found(*each)

    @staticmethod
    def found(name: str) -> Found:
        """One that its name says everything about."""
        return Found(name, name, name)

    def tags(self, client: Any, found: Found) -> Tags | None:
        """The tags of one; None if the service finds it no more, or not yet."""
        try:
            handle = self.handle(client, found.handle) if self.handle else found.handle
            return as_dict(self.reading(client, handle))
        except ClientError as problem:
            if error_code(problem) == NO_TAGS:
                return {}
            if is_gone(problem):
                return None
            raise

    def delete(self, client: Any, identity: str) -> None:
        """Ask for its removal; it does no harm if it is gone."""
        try:
            self.clear(client, identity)
            self.deletion(client, identity)
        except ClientError as problem:
            if not is_gone(problem):
                raise

    def state_of(self, client: Any, identity: str) -> str | None:
        """How one is doing; None if it is gone, "" where the service doesn't say."""
        if self.state is None:
            return ""
        try:
            return str(self.state(client, identity))
        except ClientError as problem:
            if is_gone(problem):
                return None
            raise


def is_gone(problem: ClientError) -> bool:
    """Whether a service says that something is not there."""
    return any(mark in error_code(problem) for mark in GONE)


def as_list(tags: Tags) -> list[dict[str, str]]:
    """Tags in the one shape that services have for them; the other is a dict."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def as_dict(tags: Any) -> Tags:
    """Tags of either shape as a dict."""
    return dict(tags or {}) if not isinstance(tags, list) else {t["Key"]: t["Value"] for t in tags}


KINDS: tuple[Kind, ...] = (
    Kind(
        "mapping",
        "mappings",
        "lambda",
        "CreateEventSourceMapping",
        "FunctionName",
        Call(
            "list_event_source_mappings",
            answer="EventSourceMappings[].[UUID, FunctionArn, EventSourceMappingArn]",
        ),
        Call("list_tags", "Resource", "Tags"),
        Call("delete_event_source_mapping", "UUID"),
        state=Call("get_event_source_mapping", "UUID", "State"),
        unsettled=("Creating", "Enabling", "Disabling", "Updating"),
        lingers=True,
        stage=1,
    ),
    Kind(
        "function",
        "functions",
        "lambda",
        "CreateFunction",
        "FunctionName",
        Call("list_functions", answer="Functions[].[FunctionName, FunctionName, FunctionArn]"),
        Call("list_tags", "Resource", "Tags"),
        Call("delete_function", "FunctionName"),
        state=Call("get_function_configuration", "FunctionName", "State"),
        unsettled=("Pending",),
        stage=2,
    ),
    Kind(
        "log group",
        "log groups",
        "logs",
        "CreateLogGroup",
        "logGroupName",
        Call("describe_log_groups", answer="logGroups[].[logGroupName, logGroupName, logGroupArn]"),
        Call("list_tags_for_resource", "resourceArn", "tags"),
        Call("delete_log_group", "logGroupName"),
        tagging=("tags",),
    ),
    Kind(
        "alarm",
        "alarms",
        "cloudwatch",
        "PutMetricAlarm",
        "AlarmName",
        Call("describe_alarms", answer="MetricAlarms[].[AlarmName, AlarmName, AlarmArn]"),
        Call("list_tags_for_resource", "ResourceARN", "Tags"),
        Call("delete_alarms", "AlarmNames[]"),
    ),
    Kind(
        "table",
        "tables",
        "dynamodb",
        "CreateTable",
        "TableName",
        Call("list_tables", answer="TableNames"),
        Call("list_tags_of_resource", "ResourceArn", "Tags"),
        Call("delete_table", "TableName"),
        handle=Call("describe_table", "TableName", "Table.TableArn"),
        clear=_release_table,
        state=Call("describe_table", "TableName", "Table.TableStatus"),
        unsettled=("CREATING", "UPDATING"),
        lingers=True,
    ),
    Kind(
        "stream",
        "streams",
        "kinesis",
        "CreateStream",
        "StreamName",
        Call("list_streams", answer="StreamNames", settings=LONG_PAGES),
        Call("list_tags_for_stream", "StreamName", "Tags", settings={"Limit": MOST_TAGS}),
        Call("delete_stream", "StreamName", settings={"EnforceConsumerDeletion": True}),
        state=Call(
            "describe_stream_summary", "StreamName", "StreamDescriptionSummary.StreamStatus"
        ),
        unsettled=("CREATING", "UPDATING"),
        lingers=True,
        retag=_tag_stream,
    ),
    Kind(
        "queue",
        "queues",
        "sqs",
        "CreateQueue",
        "QueueName",
        Call("list_queues", answer="QueueUrls", settings=LONG_PAGES),
        Call("list_queue_tags", "QueueUrl", "Tags"),
        Call("delete_queue", "QueueUrl"),
        tagging=("tags",),
    ),
    Kind(
        "topic",
        "topics",
        "sns",
        "CreateTopic",
        "Name",
        Call("list_topics", answer="Topics[].TopicArn"),
        Call("list_tags_for_resource", "ResourceArn", "Tags"),
        Call("delete_topic", "TopicArn"),
    ),
    Kind(
        "bucket",
        "buckets",
        "s3",
        "CreateBucket",
        "Bucket",
        Call("list_buckets", answer="Buckets[].Name"),
        Call("get_bucket_tagging", "Bucket", "TagSet"),
        Call("delete_bucket", "Bucket"),
        tagging=("CreateBucketConfiguration", "Tags"),
        clear=_empty_bucket,
        retag=_tag_bucket,
        everywhere=True,
    ),
    Kind(
        "role",
        "roles",
        "iam",
        "CreateRole",
        "RoleName",
        Call("list_roles", answer="Roles[].RoleName", settings=LONG_PAGES),
        Call("list_role_tags", "RoleName", "Tags"),
        Call("delete_role", "RoleName"),
        clear=_strip_role,
        everywhere=True,
    ),
    Kind(
        "policy",
        "policies",
        "iam",
        "CreatePolicy",
        "PolicyName",
        Call("list_policies", answer="Policies[].Arn", settings={"Scope": "Local", **LONG_PAGES}),
        Call("list_policy_tags", "PolicyArn", "Tags"),
        Call("delete_policy", "PolicyArn"),
        clear=_strip_policy,
        stage=4,
        everywhere=True,
    ),
)
"""In the order of their removal."""
