"""What a learner's policy allows: every call that a lab sends, and not much more.

The calls of a lab's whole life on AWS's stand-in are held against the policy, with resources, tags
and conditions (`permitted`); then the stand-in itself asks for permissions, action by action.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import botocore.session
import cfnlint
import nbformat
import pytest
from botocore import xform_name
from everything import make_everything
from on_aws import NOTHING, Account, set_out
from permitted import WRITE_DOWN, Authorization, Need, allows, read_back, recorded
from strict_aws import ACCOUNT, forget_everything, strict_aws
from test_chapters_elsewhere import CHAPTERS, run

import lab_utils as lu
from lab_utils import policies
from lab_utils.__main__ import main
from lab_utils.errors import LabError
from lab_utils.lab import Lab
from lab_utils.labels import MADE_BY, MADE_BY_TAG, Label
from lab_utils.targets import SERVICES

pytestmark = pytest.mark.slow

REGION = "us-east-1"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/what-functions-may-do"
ELSEWHERE = "000000000000"
"""The account of the second target, where chapters run."""
CHAPTERS_ON_AWS = sorted({*CHAPTERS, "on_localstack_and_aws"})
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
HANDLER = "def handler(event, context):\n    return len(event)\n"

CURIOUS = "which_writes_leave_a_record"
"""The chapter whose cells call what no lab does by itself."""
EMBEDDED_ONLY = {"put_record", "update_event_source_mapping", "update_time_to_live"}
"""Calls that chapters make on embedded labs alone, which they open by name."""
BY_PARTS = {
    "dynamodb:ExecuteStatement": "dynamodb:PartiQLUpdate",
    "dynamodb:TransactWriteItems": "dynamodb:ConditionCheckItem",
}
"""Operations that need permission for their parts, and one of those."""


def learner(**where: str) -> dict[str, Any]:
    return policies.learner(REGION, ACCOUNT, **where)


def actions(policy: dict[str, Any]) -> set[str]:
    return {
        action
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
    }


# -- a lab's whole life -------------------------------------------------------------------------


class Life(NamedTuple):
    """What the calls of a lab need, what making one of everything does, and what sweeping it."""

    lab: list[Need]
    everything: list[Need]
    sweep: list[Need]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with strict_aws(MOTO_LAMBDA_CONCURRENCY_QUOTA="1000") as address:
        yield address


@pytest.fixture
def environment(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A reader's, before an empty account."""
    set_out(monkeypatch, tmp_path, server)
    forget_everything(server)
    return monkeypatch


@pytest.fixture(scope="module")
def life(server: str, tmp_path_factory: pytest.TempPathFactory) -> Life:
    folder = tmp_path_factory.mktemp("life")
    with pytest.MonkeyPatch.context() as monkeypatch, recorded() as calls:
        set_out(monkeypatch, folder, server)
        forget_everything(server)
        live(folder)
        lived = len(calls)
        lab = lu.open_lab()
        opened = len(calls)
        make_everything(lab.client, lambda plain: lab.name(plain), {})
        made = len(calls)
        assert main(["sweep", "--yes"]) == 0
    assert Account(server).inventory() == NOTHING
    authorization = Authorization(REGION, ACCOUNT)
    needs = [authorization.needs(call) for call in calls]

    def between(first: int, last: int) -> list[Need]:
        return [need for some in needs[first:last] for need in some]

    return Life(between(0, lived), between(opened, made), between(made, len(needs)))


def live(folder: Path) -> None:
    """All that a lab does on AWS, twice what is done otherwise the second time."""
    lab = lu.open_lab()
    pipeline = lu.pipeline.deploy(lab, shards=2)
    for _ in range(2):
        pipeline.connect()
    lu.pipeline.deploy(lab)
    for _ in range(2):
        role = lab.role("Echo")
        lab.deploy_function("Echo", HANDLER, role=role)
    lu.pipeline.set_failures(lab, state=5)
    lu.pipeline.play_round(lab, pipeline, seed=1, n=40, patience=0.5, quiet=0.1)
    lu.pipeline.stages(lab, pipeline)
    for report in (lab.invocations, lab.iterator_age, lab.throttles):
        report("StateLambda")
    lab.doctor()
    streams, kinesis = lab.clients("dynamodbstreams", "kinesis")
    lu.read_lineage(streams, pipeline.state_stream_arn)
    assert list(lu.StreamReader(streams, pipeline.state_stream_arn)) == []
    assert len(list(lu.StreamReader(kinesis, pipeline.names.stream))) == 40
    looks = ["--every", "0.01", "--hours", "0.00001", "--output", str(folder / "recording.jsonl")]
    assert main(["watch", lab.name("StateTable"), *looks]) == 0
    lu.pipeline.remove(lab)
    lab.close()


@pytest.mark.parametrize("policy", [learner(), policies.learner()], ids=["here", "anywhere"])
def test_all_that_a_lab_does_is_allowed(life: Life, policy: dict[str, Any]) -> None:
    assert [str(need) for need in life.lab if not allows(policy, need)] == []


@pytest.mark.parametrize(
    "policy", [learner(), policies.sweeper(), policies.sweeper(REGION, ACCOUNT)]
)
def test_a_sweep_of_everything_is_allowed(life: Life, policy: dict[str, Any]) -> None:
    assert [str(need) for need in life.sweep if not allows(policy, need)] == []


def test_nothing_is_allowed_that_neither_a_lab_nor_a_chapter_needs(
    life: Life, chapter: list[Need]
) -> None:
    used = {need.action for need in (*life.lab, *life.sweep, *chapter)}
    assert actions(learner()) == used


def test_whoever_sweeps_may_not_make_anything(life: Life) -> None:
    sweeping = actions(policies.sweeper())
    assert sweeping == {need.action for need in life.sweep}
    assert sweeping < actions(policies.learner())
    assert not [action for action in sweeping if ":Create" in action or ":Put" in action]


def test_what_no_chapter_makes_may_not_be_made(life: Life) -> None:
    refused = {need.action for need in life.everything if not allows(learner(), need)}
    assert refused == {
        "cloudwatch:PutMetricAlarm",
        "iam:AttachRolePolicy",
        "iam:CreatePolicy",
        "iam:CreatePolicyVersion",
        "iam:TagPolicy",
        "s3:CreateBucket",
        "s3:DeleteObject",
        "s3:PutBucketTagging",
        "s3:PutBucketVersioning",
        "s3:PutObject",
        "sns:CreateTopic",
        "sns:TagResource",
        "sqs:CreateQueue",
        "sqs:TagQueue",
    }


# -- chapters -----------------------------------------------------------------------------------


def words_of(chapter: str) -> str:
    notebook = nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", as_version=4)
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


@pytest.fixture(scope="module")
def chapter(elsewhere: str, tmp_path_factory: pytest.TempPathFactory) -> list[Need]:
    """What the calls of a chapter need, which runs as it would on AWS."""
    folder = tmp_path_factory.mktemp("chapter")
    copy, calls = folder / "chapter.ipynb", folder / "calls.json"
    notebook = nbformat.read(NOTEBOOKS / f"{CURIOUS}.ipynb", as_version=4)
    first = WRITE_DOWN.format(endpoint=elsewhere, path=str(calls))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(first))
    nbformat.write(notebook, copy)
    path = os.pathsep.join([str(NOTEBOOKS.parent), str(Path(__file__).parent)])
    run(copy, PYTHONPATH=path, **reader_at(elsewhere, folder))
    authorization = Authorization(REGION, ELSEWHERE)
    return [need for call in read_back(calls) for need in authorization.needs(call)]


def reader_at(elsewhere: str, folder: Path) -> dict[str, str]:
    """A reader there, for whom it is AWS: root credentials would be refused."""
    anybody = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    iam = boto3.Session(region_name=REGION, **anybody).client("iam", endpoint_url=elsewhere)
    iam.create_user(UserName="permitted")
    key = iam.create_access_key(UserName="permitted")["AccessKey"]
    return {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_ENDPOINT_URL": elsewhere,
        "AWS_REGION": REGION,
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "LAB_AWS_CONFIRM": ELSEWHERE,
        "LAB_TARGET": "aws",
    }


def test_all_that_a_chapter_does_is_allowed(chapter: list[Need]) -> None:
    policy = policies.learner(REGION, ELSEWHERE)
    assert [str(need) for need in chapter if not allows(policy, need)] == []
    assert "dynamodb:PartiQLInsert" in {need.action for need in chapter}


@pytest.mark.parametrize("chapter", CHAPTERS_ON_AWS)
def test_what_chapters_call_is_allowed(chapter: str) -> None:
    allowed = actions(learner())
    known: dict[str, set[str]] = {}
    for service in SERVICES:
        for operation in operations(service):
            action = f"{service.removesuffix('streams')}:{operation}"
            known.setdefault(xform_name(operation), set()).add(BY_PARTS.get(action, action))
    called = set(re.findall(r"\.(\w+)[(,]", words_of(chapter))) & set(known)
    assert {"create_table", "put_item"} <= called or "list_event_source_mappings" in called
    assert [call for call in called - EMBEDDED_ONLY if not known[call] & allowed] == []


def operations(service: str) -> list[str]:
    return list(botocore.session.get_session().get_service_model(service).operation_names)


# -- how narrow it is ---------------------------------------------------------------------------

LAB = "lab-7f3a9c-2611260314"
OWN_TAG = {f"aws:ResourceTag/{MADE_BY_TAG}": MADE_BY}
ASKED_TAG = {f"aws:RequestTag/{MADE_BY_TAG}": MADE_BY}
LAMBDA = f"arn:aws:lambda:{REGION}:{ACCOUNT}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/EchoRole-{LAB}"
TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table"


@pytest.mark.parametrize(
    ("refused", "allowed"),
    [
        (
            Need("dynamodb:DeleteTable", f"{TABLE}/Orders"),
            Need("dynamodb:DeleteTable", f"{TABLE}/Orders-{LAB}"),
        ),
        (
            Need("dynamodb:DeleteTable", f"{TABLE}/our-lab-orders"),
            Need("dynamodb:GetRecords", f"{TABLE}/Orders-{LAB}/stream/2026-11-26T03:14:00.000"),
        ),
        (
            Need("lambda:DeleteFunction", f"{LAMBDA}:function:Echo-{LAB}"),
            Need("lambda:DeleteFunction", f"{LAMBDA}:function:Echo-{LAB}", OWN_TAG),
        ),
        (
            Need("lambda:DeleteFunction", f"{LAMBDA}:function:Echo", OWN_TAG),
            Need("lambda:PutFunctionConcurrency", f"{LAMBDA}:function:Echo-{LAB}"),
        ),
        (
            Need("lambda:CreateFunction", f"{LAMBDA}:function:Echo-{LAB}"),
            Need("lambda:CreateFunction", f"{LAMBDA}:function:Echo-{LAB}", ASKED_TAG),
        ),
        (
            Need(
                "lambda:CreateEventSourceMapping",
                "*",
                {"lambda:FunctionArn": f"{LAMBDA}:function:Billing"},
            ),
            Need(
                "lambda:CreateEventSourceMapping",
                "*",
                {"lambda:FunctionArn": f"{LAMBDA}:function:Echo-{LAB}"},
            ),
        ),
        (
            Need(
                "lambda:DeleteEventSourceMapping",
                f"{LAMBDA}:event-source-mapping:1",
                {"lambda:FunctionArn": f"{LAMBDA}:function:Billing", **OWN_TAG},
            ),
            Need(
                "lambda:DeleteEventSourceMapping",
                f"{LAMBDA}:event-source-mapping:1",
                {"lambda:FunctionArn": f"{LAMBDA}:function:Echo-{LAB}"},
            ),
        ),
        (
            Need("iam:PassRole", ROLE, {"iam:PassedToService": "ec2.amazonaws.com"}),
            Need("iam:PassRole", ROLE, {"iam:PassedToService": "lambda.amazonaws.com"}),
        ),
        (
            Need(
                "iam:PassRole",
                f"arn:aws:iam::{ACCOUNT}:role/Admin",
                {"iam:PassedToService": "lambda.amazonaws.com"},
            ),
            Need("iam:PutRolePolicy", ROLE),
        ),
        (
            Need("iam:PutRolePolicy", f"arn:aws:iam::{ACCOUNT}:role/Admin"),
            Need("iam:CreateRole", ROLE, ASKED_TAG),
        ),
        (
            Need("dynamodb:DeleteTable", f"{TABLE}/Orders-{LAB}".replace(REGION, "eu-west-1")),
            Need("iam:DeleteRole", ROLE, OWN_TAG),
        ),
    ],
    ids=lambda need: need.action,
)
def test_what_is_no_labs_is_out_of_reach(refused: Need, allowed: Need) -> None:
    assert not allows(learner(), refused)
    assert allows(learner(), allowed)


def test_names_are_the_ones_that_labs_have() -> None:
    label = Label.within(LAB)
    assert label is not None
    named = Need("dynamodb:PutItem", f"{TABLE}/{label.name('Orders')}")
    assert allows(learner(), named)
    for name in ("Orders-lab-7f3a9c", "Orders-lab-7f3a9-2611260314", "Orders-lab"):
        assert Label.within(name) is None
        assert not allows(learner(), Need("dynamodb:PutItem", f"{TABLE}/{name}"))


# -- what AWS knows of actions ------------------------------------------------------------------

REFERENCE = json.loads(
    (Path(cfnlint.__file__).parent / "data/AdditionalSpecs/Policies.json").read_text("utf-8")
)
"""The Service Authorization Reference, as cfn-lint brings it along."""
KNOWN = {"cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData", "cloudwatch:ListMetrics"}
"""Can be narrowed; of all functions, or alarms, they are asked for everything."""


def of_aws(action: str) -> dict[str, Any]:
    service, name = action.split(":")
    return dict(REFERENCE[service]["Actions"][name.lower()])


@pytest.mark.parametrize("policy", [policies.learner(), policies.sweeper()])
def test_every_action_is_narrowed_where_aws_lets_it_be(policy: dict[str, Any]) -> None:
    for statement in policy["Statement"]:
        for action in statement["Action"]:
            narrowed = bool(of_aws(action).get("Resources"))
            if action not in KNOWN:
                assert (statement["Resource"] != ["*"]) == narrowed, action


@pytest.mark.parametrize("policy", [learner(), policies.sweeper(REGION, ACCOUNT)])
def test_every_action_finds_a_resource_and_every_condition_a_key(policy: dict[str, Any]) -> None:
    for statement in policy["Statement"]:
        for action in statement["Action"]:
            if statement["Resource"] == ["*"]:
                continue
            service = REFERENCE[action.split(":")[0]]
            kinds = [service["Resources"][kind.lower()] for kind in of_aws(action)["Resources"]]
            fitting = [kind for kind in kinds if any(map(fits(kind), statement["Resource"]))]
            assert fitting, action
            if statement.get("Condition") == policies.CARRIED:
                for kind in fitting:
                    assert "aws:ResourceTag/${TagKey}" in kind["ConditionKeys"], action


def fits(kind: dict[str, Any]) -> Callable[[str], bool]:
    """Whether an ARN is one of this kind's."""
    words = {"${Partition}": "aws", "${Region}": REGION, "${Account}": ACCOUNT}
    patterns = kind["ARNFormats"]
    for word, value in words.items():
        patterns = [pattern.replace(word, value) for pattern in patterns]
    return lambda arn: any(re.fullmatch(pattern, arn) for pattern in patterns)


# -- a boundary, the size, the command ----------------------------------------------------------


def test_with_a_boundary_no_role_is_made_without_it(
    environment: pytest.MonkeyPatch, server: str
) -> None:
    environment.setenv("LAB_AWS_BOUNDARY", BOUNDARY)
    with recorded() as calls, lu.open_lab() as lab:
        lab.role("Echo", {"Effect": "Allow", "Action": "*", "Resource": "*"})
        role = Account(server).clients["iam"].get_role(RoleName=lab.name("Echo"))["Role"]
        assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == BOUNDARY
    policy = learner(boundary=BOUNDARY)
    authorization = Authorization(REGION, ACCOUNT)
    needs = [need for call in calls for need in authorization.needs(call)]
    assert [str(need) for need in needs if not allows(policy, need)] == []
    other = {"iam:PermissionsBoundary": BOUNDARY.replace("what", "all")}
    for action, context in (("iam:CreateRole", ASKED_TAG), ("iam:PutRolePolicy", {})):
        assert allows(learner(), Need(action, ROLE, context))
        assert not allows(policy, Need(action, ROLE, context))
        assert not allows(policy, Need(action, ROLE, {**context, **other}))


@pytest.mark.parametrize(
    "policy",
    [
        policies.learner(),
        policies.learner("ap-southeast-1", ACCOUNT, "aws-us-gov", BOUNDARY),
        policies.sweeper("ap-southeast-1", ACCOUNT),
    ],
)
def test_it_fits_a_managed_policy(policy: dict[str, Any]) -> None:
    assert policies.size(policy) == len(re.sub(r"\s", "", json.dumps(policy)))
    assert policies.size(policy) <= policies.LIMIT == 6144
    sids = [statement["Sid"] for statement in policy["Statement"]]
    assert len(set(sids)) == len(sids)
    assert all(sid.isalnum() for sid in sids)


def printed(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["policy", *options]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys) == policies.learner()
    assert printed(capsys, "--region", REGION, "--account", ACCOUNT) == learner()
    assert printed(capsys, "--sweep") == policies.sweeper()
    assert printed(capsys, "--boundary", BOUNDARY) == policies.learner(boundary=BOUNDARY)
    china = printed(capsys, "--region", "cn-north-1")
    assert china == policies.learner("cn-north-1", partition="aws-cn")
    assert "arn:aws:" not in json.dumps(china)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--region", "nowhere"], "There is no Region 'nowhere'"),
        (["--account", "1234"], "twelve digits"),
        (["--boundary", "what-functions-may-do"], "ARN of a policy"),
        (["--sweep", "--boundary", BOUNDARY], "not allowed with"),
    ],
)
def test_what_the_command_cannot_print_it_says(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):  # how argparse refuses
        assert main(["policy", *options]) == 2
    assert words in capsys.readouterr().err


# -- asked for permission -----------------------------------------------------------------------


class Learner:
    """A user whose permissions the stand-in looks at. It knows of actions, not of resources."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._iam = Account(server).clients["iam"]
        self._iam.create_user(UserName="learner")
        self.key = self._iam.create_access_key(UserName="learner")["AccessKey"]

    def may(self, allowed: set[str]) -> None:
        """From now on these actions, and no others."""
        statement = {"Effect": "Allow", "Action": sorted(allowed), "Resource": "*"}
        self.ask(from_call="inf")
        self._iam.put_user_policy(
            UserName="learner",
            PolicyName="lab",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        )
        self.ask(from_call="0")

    def ask(self, from_call: str) -> None:
        """Look at permissions from this call on."""
        request = urllib.request.Request(
            f"{self._server}/moto-api/reset-auth",
            method="POST",
            data=from_call.encode(),
            headers={"Content-Type": "text/plain"},
        )
        urllib.request.urlopen(request, timeout=10).close()


@pytest.fixture
def asked(environment: pytest.MonkeyPatch, server: str) -> Iterator[Learner]:
    learner = Learner(server)
    environment.setenv("AWS_ACCESS_KEY_ID", learner.key["AccessKeyId"])
    environment.setenv("AWS_SECRET_ACCESS_KEY", learner.key["SecretAccessKey"])
    yield learner
    learner.ask(from_call="inf")


def provision() -> Lab:
    lab = lu.open_lab()
    lu.pipeline.deploy(lab, shards=1).connect()
    lu.pipeline.set_failures(lab)
    return lab


def test_a_user_with_just_this_policy_makes_uses_and_removes_a_lab(
    asked: Learner, server: str
) -> None:
    asked.may(actions(learner()))
    provision().close()
    provision()
    asked.may(actions(policies.sweeper()))
    assert main(["sweep", "--yes"]) == 0
    asked.ask(from_call="inf")
    assert Account(server).inventory() == NOTHING


@pytest.mark.parametrize(
    "missing",
    [
        "dynamodb:CreateTable",
        "dynamodb:PutItem",
        "iam:PutRolePolicy",
        "lambda:CreateEventSourceMapping",
        "logs:CreateLogGroup",
    ],
)
def test_an_action_that_is_missing_is_named_and_leaves_no_orphan(
    asked: Learner, server: str, missing: str
) -> None:
    asked.may(actions(learner()) - {missing})
    with pytest.raises(LabError, match=f"you may not {missing}.*lab_utils policy"):
        provision()
    assert main(["sweep", "--yes"]) == 0
    asked.ask(from_call="inf")
    assert Account(server).inventory() == NOTHING


@pytest.mark.parametrize("missing", ["dynamodb:DeleteTable", "iam:DeleteRole"])
def test_a_removal_that_is_not_allowed_is_named_and_can_be_done_later(
    asked: Learner, server: str, missing: str
) -> None:
    asked.may(actions(learner()) - {missing})
    lab = provision()
    with pytest.raises(LabError, match=f"you may not {missing}"):
        lab.close()
    asked.may(actions(learner()))
    lab.close()
    asked.ask(from_call="inf")
    assert Account(server).inventory() == NOTHING
