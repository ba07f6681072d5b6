"""The doctor on AWS: it tells what stands in the way of a class, and makes nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from strict_aws import ACCOUNT, credentials, forget_everything, strict_aws

import lab_utils as lu
from lab_utils.__main__ import main
from lab_utils.labels import Label
from lab_utils.targets import FEATURES, SERVICES

pytestmark = pytest.mark.slow

EXPIRED = Label(datetime(2020, 1, 2, 3, 4, tzinfo=UTC), "0ddba1")


@pytest.fixture(scope="module")
def server():
    with strict_aws() as address:
        yield address


@pytest.fixture(scope="module")
def narrow():
    """An account like a new one, where ten functions run at once."""
    with strict_aws(LAB_TEST_CONCURRENCY="10") as address:
        yield address


@pytest.fixture
def reader(monkeypatch, tmp_path):
    """Puts the environment of a reader in place whose AWS is the server at an address."""

    def put(address):
        forget_everything(address)
        for name in [each for each in os.environ if each.startswith(("AWS_", "LAB_"))]:
            monkeypatch.delenv(name)
        settings = {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "LAB_PROGRESS": "0",
            "LAB_TARGET": "aws",
        }
        for name, value in (settings | credentials(address)).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)

    return put


@pytest.fixture
def there(server, reader):
    reader(server)
    return server


def told(capsys, status):
    """What the command says, line by line."""
    assert main(["doctor"]) == status
    return capsys.readouterr().out.splitlines()


def test_what_a_ready_account_is(there, capsys):
    boto3.client("iam").create_account_alias(AccountAlias="sandbox")
    lines = told(capsys, 0)
    found = lines[lines.index("aws: ready for class") + 1 :]
    assert f"  ok  account: {ACCOUNT}, sandbox" in found
    assert "  ok  region: us-east-1" in found
    assert f"  ok  endpoint: {there}, not AWS's own" in found
    assert "  ok  concurrency: 1000 executions are unreserved" in found
    assert "  ok  expired labs: none" in found
    assert any(line.startswith("  ok  identity: arn:aws:sts::") for line in found)
    for service in SERVICES:
        assert f"  ok  {service}: answers" in found
    lacking = [FEATURES[each] for each in ("time_travel", "partitions", "pollers")]
    assert [line.split("cannot ")[1].split(": cells")[0] for line in found[-3:]] == lacking


def test_it_only_looks(there, capsys, monkeypatch):
    asked, ask = set(), BaseClient._make_api_call

    def noted(client, operation, request):
        asked.add(operation)
        return ask(client, operation, request)

    monkeypatch.setattr(BaseClient, "_make_api_call", noted)
    told(capsys, 0)
    assert len(asked) > len(SERVICES)
    assert all(operation.startswith(("List", "Get", "Describe")) for operation in asked), asked


def test_a_lab_of_this_desk_is_left_alone(there, capsys):
    lab = lu.open_lab(confirm=ACCOUNT)
    lab.client("sqs").create_queue(QueueName=lab.name("Orders"))
    told(capsys, 0)
    assert len(lab.client("sqs").list_queues()["QueueUrls"]) == 1
    lab.close()


def test_expired_labs_are_named(there, capsys):
    boto3.client("sqs").create_queue(QueueName=EXPIRED.name("Orders"), tags=EXPIRED.tags)
    lines = told(capsys, 0)
    sweep = "`python -m lab_utils sweep` removes what they left"
    assert f"  ok  expired labs: {EXPIRED}; {sweep}" in lines


def test_an_account_in_which_nothing_can_be_reserved(narrow, reader, capsys):
    reader(narrow)
    lines = told(capsys, 1)
    assert "aws: NOT ready" in lines
    (line,) = [line for line in lines if line.startswith("  NO ")]
    assert line.startswith("  NO  concurrency: 10 executions are unreserved -> At least 100 must ")
    assert "connect(reserved_concurrency=None)" in line


def test_what_the_reader_may_not_ask(there, monkeypatch):
    lab = lu.open_lab(confirm=ACCOUNT)
    message = f"User: arn:aws:iam::{ACCOUNT}:user/anna is not authorized to perform: sns:ListTopics"

    def deny(**_):
        raise ClientError({"Error": {"Code": "AuthorizationError", "Message": message}}, "any")

    lab.client("sns").meta.events.register("before-call.sns.ListTopics", deny)
    found = lab.doctor()
    lab.client("sns").meta.events.unregister("before-call.sns.ListTopics", deny)
    lab.close()
    (ill,) = [check for check in found.checks if not check.well]
    assert ill.what == "sns"
    assert ill.found.startswith("Asking sns was refused, for you may not sns:ListTopics: ")
    assert "`python -m lab_utils policy`" in ill.found
    assert " -> " not in repr(found), "the remedy is not said twice"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AWS_DEFAULT_REGION", "mars-east-1", "AWS has no Region 'mars-east-1'"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "no answer from http://127.0.0.1:9"),
        ("AWS_ACCESS_KEY_ID", "", "for want of credentials"),
    ],
)
def test_what_stands_in_the_way_of_a_lab(there, monkeypatch, capsys, variable, value, words):
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert main(["doctor"]) == 1
    assert words in capsys.readouterr().err


def test_a_production_account(there, capsys):
    boto3.client("iam").create_account_alias(AccountAlias="shop-prod")
    assert main(["doctor"]) == 1
    assert "so it is a production account" in capsys.readouterr().err
