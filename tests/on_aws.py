"""What tests of a lab on AWS share: its reader's environment, and all that is in the account."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import botocore.loaders
import pytest
from strict_aws import ACCOUNT, credentials

READ_ONCE = cache(botocore.loaders.create_loader)
"""botocore reads its descriptions of services anew in every session; the tests open hundreds."""


def set_out(monkeypatch: pytest.MonkeyPatch, folder: Path, address: str, **more: str) -> None:
    """The environment of a reader whose AWS is at this address, who confirmed the account."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "LAB_"))]:
        monkeypatch.delenv(name)
    settings = {
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "LAB_TARGET": "aws",
        "LAB_AWS_CONFIRM": ACCOUNT,
        "LAB_PROGRESS": "0",
    }
    for name, value in (credentials(address) | settings | more).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(botocore.loaders, "create_loader", READ_ONCE)


Inventory = dict[str, list[str]]

LISTINGS: dict[str, tuple[str, Callable[[Any], list[str]]]] = {
    "tables": ("dynamodb", lambda client: client.list_tables()["TableNames"]),
    "streams": ("kinesis", lambda client: client.list_streams(Limit=1000)["StreamNames"]),
    "functions": (
        "lambda",
        lambda client: [each["FunctionName"] for each in client.list_functions()["Functions"]],
    ),
    "mappings": (
        "lambda",
        lambda client: [
            each["UUID"] for each in client.list_event_source_mappings()["EventSourceMappings"]
        ],
    ),
    "roles": (
        "iam",
        lambda client: [each["RoleName"] for each in client.list_roles()["Roles"]],
    ),
    "policies": (
        "iam",
        lambda client: [
            each["PolicyName"] for each in client.list_policies(Scope="Local")["Policies"]
        ],
    ),
    "log groups": (
        "logs",
        lambda client: [each["logGroupName"] for each in client.describe_log_groups()["logGroups"]],
    ),
    "queues": ("sqs", lambda client: client.list_queues().get("QueueUrls", [])),
    "topics": ("sns", lambda client: [each["TopicArn"] for each in client.list_topics()["Topics"]]),
    "buckets": ("s3", lambda client: [each["Name"] for each in client.list_buckets()["Buckets"]]),
    "alarms": (
        "cloudwatch",
        lambda client: [each["AlarmName"] for each in client.describe_alarms()["MetricAlarms"]],
    ),
}


class Account:
    """What a reader with plain boto3 sees at an address: no client of a lab has a part in it."""

    def __init__(self, address: str) -> None:
        session = boto3.Session("anybody", "anything", region_name="us-east-1")
        services = {service for service, _ in LISTINGS.values()}
        self.clients = {
            service: session.client(service, endpoint_url=address) for service in sorted(services)
        }

    def inventory(self) -> Inventory:
        """The names of everything of each kind, sorted."""
        return {
            kind: sorted(listing(self.clients[service]))
            for kind, (service, listing) in LISTINGS.items()
        }


NOTHING: Inventory = {kind: [] for kind in LISTINGS}
