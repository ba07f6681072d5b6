"""The least that an IAM policy must allow: for a lab on AWS, or for sweeping away what labs left.

What is listed, read and removed follows from `kinds`, by which labs are swept; what is made and
used stands here, action by action. A test holds all of it against the calls that a lab sends.

A resource belongs to a lab by its name, wherever AWS lets a policy name resources. Where a policy
also hears of the tags of what is made or removed, they have to be the lab's. This is not narrowed:

- Listings show the names of everything in the account.
- Mappings have no names: any can be looked at, but only a lab's functions can be given one, or
  lose one.
- CloudWatch's numbers can be read of everything.

`watch` asks for no more, unless it is to watch a table that is no lab's.

**What a learner can do with it besides.** Whoever may make a role, write its policy and pass it to
a function can do, through that function, whatever the account lets a role do. No lab can do without
that: what functions may do is a part of the first exercise. So give the policy in an account that
is for experiments, or set a permissions boundary. With `boundary` no role is made without it, and
LAB_AWS_BOUNDARY makes the lab put it on each; the boundary has to allow what functions do, which is
to read streams, to read and write items, and to write logs.

Nor does a policy limit what is spent: two hundred shards are made by the same call as twenty.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab_utils.kinds import KINDS, Call, Kind
from lab_utils.labels import MADE_BY, MADE_BY_TAG

Json = dict[str, Any]
Condition = Mapping[str, Mapping[str, str]]

LIMIT = 6144
"""Characters of a managed policy, white space not counted (IAM and AWS STS quotas)."""
LAB = "*lab-??????-??????????*"
"""A name with a lab's id in it; each question mark is one character."""

RESOURCES = {
    "mapping": "lambda:{here}:event-source-mapping:*",
    "function": "lambda:{here}:function:{lab}",
    "log group": "logs:{here}:log-group:{lab}",
    "alarm": "cloudwatch:{here}:alarm:{lab}",
    "table": "dynamodb:{here}:table/{lab}",
    "stream": "kinesis:{here}:stream/{lab}",
    "queue": "sqs:{here}:{lab}",
    "topic": "sns:{here}:{lab}",
    "bucket": "s3:::{lab}",
    "role": "iam::{account}:role/{lab}",
    "policy": "iam::{account}:policy/{lab}",
}
"""By kind. A table's ARN begins those of its streams, a bucket's those of its objects."""
MADE = {
    "mapping": "lambda:TagResource",
    "function": "lambda:TagResource",
    "log group": "logs:TagResource",
    "table": "dynamodb:TagResource",
    "stream": "kinesis:AddTagsToStream",
    "role": "iam:TagRole",
}
"""The kinds that a learner makes, and what it takes to tag one as it is made."""
CLEARED = {
    "table": ["dynamodb:UpdateTable"],
    "bucket": ["s3:DeleteObjectVersion"],
    "role": ["iam:DeleteRolePolicy", "iam:DetachRolePolicy"],
    "policy": ["iam:DeletePolicyVersion"],
}
"""What it takes to clear a resource before it can be removed."""
UNTOLD = {"table", "bucket"}
"""A policy may hear of their tags or not: that is a setting of the account, or of the bucket."""

READ = """
    iam:ListAttachedRolePolicies iam:ListPolicyVersions iam:ListRolePolicies s3:ListBucketVersions
"""
"""What a sweep reads besides tags and states."""
LIST = """
    cloudwatch:GetMetricData cloudwatch:ListMetrics dynamodb:ListStreams iam:ListAccountAliases
    lambda:GetAccountSettings
"""
"""What a learner looks at that is nobody's."""
USE = """
    dynamodb:BatchWriteItem dynamodb:ConditionCheckItem dynamodb:DeleteItem dynamodb:DescribeStream
    dynamodb:GetRecords dynamodb:GetShardIterator dynamodb:PartiQLDelete dynamodb:PartiQLInsert
    dynamodb:PartiQLUpdate dynamodb:PutItem dynamodb:Scan dynamodb:UpdateItem
    iam:GetRole iam:PutRolePolicy
    kinesis:GetRecords kinesis:GetShardIterator kinesis:ListShards kinesis:PutRecords
    lambda:GetFunction lambda:GetFunctionConcurrency lambda:PutFunctionConcurrency
    lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration
    logs:FilterLogEvents logs:PutRetentionPolicy
"""
"""What a learner does with what is there."""
RENAMED = {"s3:ListBuckets": "s3:ListAllMyBuckets"}
"""Actions that are called otherwise than their operation."""

TAG = f"aws:{{}}Tag/{MADE_BY_TAG}"
ASKED_FOR = {"StringEquals": {TAG.format("Request"): MADE_BY}}
CARRIED = {"StringEquals": {TAG.format("Resource"): MADE_BY}}
TO_LAMBDA = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}


def learner(
    region: str = "*", account: str = "*", partition: str = "aws", boundary: str | None = None
) -> Json:
    """For whoever opens a lab: to make it, use it, remove it, and sweep.

    `boundary` is the ARN of the permissions boundary that every role then has to carry.
    """
    place = _Place(region, account, partition)
    return _document(
        _allow("List", [*_listings(), *LIST.split()], ["*"]),
        _allow("Read", _readings(), place.arns(RESOURCES)),
        *_making(place),
        _allow("Use", USE.split(), place.arns(kind for kind in MADE if kind != "mapping")),
        _allow("Pass", ["iam:PassRole"], place.arns(["role"]), TO_LAMBDA),
        *_removing(place),
        *([_within(boundary)] if boundary else []),
    )


def sweeper(region: str = "*", account: str = "*", partition: str = "aws") -> Json:
    """For whoever removes what labs left, and does nothing else."""
    place = _Place(region, account, partition)
    return _document(
        _allow("List", _listings(), ["*"]),
        _allow("Read", _readings(), place.arns(RESOURCES)),
        *_removing(place),
    )


def size(policy: Json) -> int:
    """How much of `LIMIT` a policy takes."""
    return len("".join(json.dumps(policy).split()))


@dataclass(frozen=True)
class _Place:
    """Where a policy holds; `*` stands for any Region or account."""

    region: str
    account: str
    partition: str

    def arns(self, kinds: Iterable[str]) -> list[str]:
        """Of all resources of these kinds that belong to a lab."""
        words = {"here": f"{self.region}:{self.account}", "account": self.account, "lab": LAB}
        return [f"arn:{self.partition}:{RESOURCES[kind].format(**words)}" for kind in kinds]

    def of_function(self) -> Condition:
        """For mappings: that they are those of a lab's function."""
        return {"ArnLike": {"lambda:FunctionArn": self.arns(["function"])[0]}}


# -- what is allowed ----------------------------------------------------------------------------


def _listings() -> list[str]:
    return [_action(kind, kind.listing) for kind in KINDS]


def _readings() -> list[str]:
    calls = ((kind, call) for kind in KINDS for call in (kind.reading, kind.handle, kind.state))
    return [*(_action(kind, call) for kind, call in calls if call), *READ.split()]


def _making(place: _Place) -> Iterator[Json]:
    """What is made is tagged as it is made, or is not made."""
    creations = {kind.name: f"{kind.service}:{kind.creation}" for kind in KINDS}
    connect = creations.pop("mapping")
    for sid, kinds, condition in _told("Make", MADE, ASKED_FOR):
        made = [creations[kind] for kind in kinds if kind in creations]
        yield _allow(sid, [*made, *(MADE[kind] for kind in kinds)], place.arns(kinds), condition)
    yield _allow("Connect", [connect], ["*"], place.of_function())


def _removing(place: _Place) -> Iterator[Json]:
    """What is removed carries the tag."""
    deletions = {kind.name: _action(kind, kind.deletion) for kind in KINDS}
    disconnect = deletions.pop("mapping")
    for sid, kinds, condition in _told("Remove", deletions, CARRIED):
        cleared = [action for kind in kinds for action in CLEARED.get(kind, ())]
        removed = [deletions[kind] for kind in kinds]
        yield _allow(sid, [*removed, *cleared], place.arns(kinds), condition)
    yield _allow("Disconnect", [disconnect], place.arns(["mapping"]), place.of_function())


def _told(
    sid: str, kinds: Iterable[str], condition: Condition
) -> Iterator[tuple[str, list[str], Condition]]:
    """Kinds of whose tags a policy surely hears, under a condition, and the others, without."""
    kinds = list(kinds)
    yield sid, [kind for kind in kinds if kind not in UNTOLD], condition
    yield f"{sid}ByName", [kind for kind in kinds if kind in UNTOLD], {}


def _within(boundary: str) -> Json:
    """No role without this boundary is made, nor given a policy."""
    return {
        "Sid": "Within",
        "Effect": "Deny",
        "Action": ["iam:CreateRole", "iam:PutRolePolicy"],
        "Resource": "*",
        "Condition": {"StringNotEquals": {"iam:PermissionsBoundary": boundary}},
    }


# -- how a policy says it -----------------------------------------------------------------------


def _action(kind: Kind, call: Call) -> str:
    operation = "".join(word.capitalize() for word in call.operation.split("_"))
    action = f"{kind.service}:{operation}"
    return RENAMED.get(action, action)


def _allow(
    sid: str, actions: Iterable[str], resources: Iterable[str], condition: Condition | None = None
) -> Json:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": sorted(set(actions)),
        "Resource": sorted(set(resources)),
        **({"Condition": condition} if condition else {}),
    }


def _document(*statements: Json) -> Json:
    return {"Version": "2012-10-17", "Statement": list(statements)}
