"""One resource of every kind that a lab's clients can make, so that tests can look for the rest."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

Clients = Callable[[str], Any]
Tags = dict[str, str]

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
)
ALL = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
    }
)


def code() -> bytes:
    """A function's zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("code.py", "def handler(event, context):\n    return event\n")
    return file.getvalue()


def listed(tags: Tags) -> list[dict[str, str]]:
    """Tags as most services want them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def make_everything(client: Clients, name: Callable[[str], str], tags: Tags) -> None:
    """One of each kind, called what `name` makes of a plain name, with what stands in the way.

    `tags` are the caller's own; without any, none are asked for.
    """
    some = {"Tags": listed(tags)} if tags else {}
    plain = {"Tags": tags} if tags else {}
    small = {"tags": tags} if tags else {}
    dynamodb, iam, s3 = client("dynamodb"), client("iam"), client("s3")
    dynamodb.create_table(
        TableName=name("Thing"),
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        DeletionProtectionEnabled=True,
        **some,
    )
    source = dynamodb.describe_table(TableName=name("Thing"))["Table"]["LatestStreamArn"]
    client("kinesis").create_stream(StreamName=name("Thing"), ShardCount=1, **plain)
    role = iam.create_role(RoleName=name("Thing"), AssumeRolePolicyDocument=TRUST, **some)
    policy = iam.create_policy(PolicyName=name("Thing"), PolicyDocument=ALL, **some)
    arn = policy["Policy"]["Arn"]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=ALL, SetAsDefault=True)
    iam.attach_role_policy(RoleName=name("Thing"), PolicyArn=arn)
    iam.put_role_policy(RoleName=name("Thing"), PolicyName="inline", PolicyDocument=ALL)
    client("logs").create_log_group(logGroupName=f"/aws/lambda/{name('Thing')}", **small)
    client("lambda").create_function(
        FunctionName=name("Thing"),
        Role=role["Role"]["Arn"],
        Runtime="python3.12",
        Handler="code.handler",
        Code={"ZipFile": code()},
        **plain,
    )
    client("lambda").create_event_source_mapping(
        FunctionName=name("Thing"), EventSourceArn=source, StartingPosition="LATEST", **plain
    )
    client("sqs").create_queue(QueueName=name("Thing"), **small)
    client("sns").create_topic(Name=name("Thing"), **some)
    client("cloudwatch").put_metric_alarm(
        AlarmName=name("Thing"),
        Namespace="AWS/Lambda",
        MetricName="IteratorAge",
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        **some,
    )
    bucket = name("thing")
    s3.create_bucket(Bucket=bucket)
    if tags:
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": listed(tags)})
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"one", b"two"):
        s3.put_object(Bucket=bucket, Key="deep/down", Body=body)
    s3.delete_object(Bucket=bucket, Key="deep/down")
