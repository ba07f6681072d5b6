"""The pipeline as a CloudFormation template: accepted, complete, and just what `deploy` makes.

moto's server carries it out; cfn-lint reads it with the schemas that it brings along.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import cfnlint.decode
import pytest
from cfnlint.api import lint
from conftest import ProcessGuard
from on_aws import NOTHING, Account, set_out
from strict_aws import ACCOUNT, forget_everything, strict_aws

import lab_utils as lu
from lab_utils import template as templates
from lab_utils.__main__ import main
from lab_utils.labels import MADE_BY, MADE_BY_TAG
from lab_utils.pipeline import parts
from lab_utils.pipeline.contract import function_file

pytestmark = pytest.mark.slow

REGION = "us-east-1"
SENT_INLINE = 51_200
"""Bytes of a template that CreateStack takes in the request itself."""
INLINE_CODE = 4 * 1024 * 1024
"""Bytes of a function's code that a template may hold."""

both = pytest.mark.parametrize("connected", [False, True], ids=["at the start", "connected"])


def written(*options: str, to: Path) -> str:
    assert main(["template", "--output", str(to), *options]) == 0
    return to.read_text(encoding="utf-8")


# -- the text -----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_cfn_lint_finds_nothing_and_asks_nobody(
    connected: bool, form: str, tmp_path: Path, sealed: ProcessGuard
) -> None:
    options = ["--connected"] if connected else []
    text = written(*options, "--format", form, to=tmp_path / "template")
    assert lint(text) == []
    assert text.isascii()
    assert len(text.encode()) < SENT_INLINE


@both
def test_yaml_and_json_say_the_same(connected: bool) -> None:
    content = templates.template(connected=connected)
    read, problems = cfnlint.decode.decode_str(templates.as_yaml(content))
    assert not problems
    assert json.loads(json.dumps(read)) == json.loads(templates.as_json(content)) == content


def test_code_is_the_functions_own_file_and_stands_in_yaml_as_it_is_written() -> None:
    content = templates.template()
    yaml = templates.as_yaml(content)
    for function in parts.functions():
        file = function_file(function.file).read_text(encoding="utf-8")
        properties = content["Resources"][function.name]["Properties"]
        module, entry = properties["Handler"].split(".")
        assert module == "index"
        assert entry in [getattr(each, "name", "") for each in ast.parse(file).body]
        assert properties["Code"]["ZipFile"] == file
        assert len(file.encode()) < INLINE_CODE
        indented = "".join(f"{' ' * 10}{line}".rstrip() + "\n" for line in file.splitlines())
        assert f"ZipFile: |\n{indented}" in yaml


def test_comments_on_top_say_how_to_put_it_up_and_how_to_delete_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["template", "--shards", "3"]) == 0
    comments = [line for line in capsys.readouterr().out.splitlines() if line.startswith("#")]
    text = "\n".join(comments)
    assert "aws cloudformation deploy" in text
    assert "--capabilities CAPABILITY_IAM --parameter-overrides Shards=3" in text
    assert "aws cloudformation delete-stack" in text
    assert f"at most {64 - len('ReduceLambda-')} characters" in text


def test_everything_is_tagged_and_nothing_is_kept() -> None:
    for name, resource in templates.template(connected=True)["Resources"].items():
        assert resource["Properties"]["Tags"] == [{"Key": MADE_BY_TAG, "Value": MADE_BY}], name
        assert resource.get("DeletionPolicy", "Delete") == "Delete"
        assert "RoleName" not in resource["Properties"], "it would ask for CAPABILITY_NAMED_IAM"


def test_a_stream_has_at_least_one_shard(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["template", "--shards", "0"])
    assert "at least one shard" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere" / "pipeline.yaml"
    assert main(["template", "--output", str(nowhere)]) == 2
    assert str(nowhere) in capsys.readouterr().err


# -- the stack ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with strict_aws() as found:
        yield found


@pytest.fixture
def aws(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Account:
    """An account in which there is nothing yet, and its reader's environment."""
    set_out(monkeypatch, tmp_path, address)
    forget_everything(address)
    return Account(address)


def put_up(stack: str, connected: bool, shards: int = 2) -> dict[str, str]:
    """A stack of the pipeline; its outputs."""
    formation = boto3.Session().client("cloudformation")
    formation.create_stack(
        StackName=stack,
        TemplateBody=templates.as_yaml(templates.template(connected=connected)),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": "Shards", "ParameterValue": str(shards)}],
    )
    (described,) = formation.describe_stacks(StackName=stack)["Stacks"]
    assert described["StackStatus"] == "CREATE_COMPLETE"
    return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}


def settings(aws: Account, suffix: str) -> dict[str, Any]:
    """How the service describes each part of the pipeline whose names end in `suffix`."""
    services = ("kinesis", "dynamodb", "lambda", "iam", "logs")
    kinesis, dynamodb, functions, iam, logs = (aws.clients[name] for name in services)
    names = parts.NAMES.each(lambda plain: plain + suffix)
    stream = kinesis.describe_stream_summary(StreamName=names.stream)
    found = {"stream": stream["StreamDescriptionSummary"]}
    for table in parts.tables(names):
        found[table.name] = dynamodb.describe_table(TableName=table.name)["Table"]
    for function in parts.functions(names):
        answer = functions.get_function(FunctionName=function.name)
        role = answer["Configuration"].pop("Role").split("/")[-1]
        mappings = functions.list_event_source_mappings(FunctionName=function.name)
        groups = logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{function.name}")
        found[function.name] = {
            "settings": answer["Configuration"],
            "concurrency": answer.get("Concurrency"),
            "trusts": iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"],
            "may": statements(iam, role),
            "attached": iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"],
            "fed by": mappings["EventSourceMappings"],
            "logs": groups["logGroups"],
        }
    return comparable(found, suffix)


def statements(iam: Any, role: str) -> list[Any]:
    """All that a role's policies allow, in whichever order and in however many policies."""
    found = []
    for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        if isinstance(document, str):  # moto's, of a policy that came with a stack
            document = ast.literal_eval(document)
        found += document["Statement"]
    return sorted(found, key=lambda statement: statement["Resource"])


OWN = {"CreationDateTime", "LatestStreamLabel", "StreamCreationTimestamp", "TableId", "UUID"}
OWN |= {"CodeSha256", "CodeSize", "EventSourceMappingArn", "Handler", "LastModified", "RevisionId"}
OWN |= {"creationTime", "ResponseMetadata"}
"""What no two resources share; of the code and its entry point another test speaks."""


def comparable(found: Any, suffix: str) -> Any:
    """Without names, moments and ids."""
    if isinstance(found, dict):
        kept = {key: value for key, value in found.items() if key not in OWN}
        return {key.removesuffix(suffix): comparable(kept[key], suffix) for key in kept}
    if isinstance(found, list):
        return [comparable(each, suffix) for each in found]
    if isinstance(found, str):
        plain = re.sub(r"/stream/\d{4}-.*", "/stream/its-label", found.replace(suffix, ""))
        return plain.replace(f":{REGION}:{ACCOUNT}:", ":*:*:")
    return found


@both
def test_a_stack_is_what_deploy_makes(aws: Account, connected: bool) -> None:
    put_up("trades", connected, shards=2)
    lab = lu.open_lab()
    try:
        pipeline = lu.pipeline.deploy(lab, shards=2)
        if connected:
            pipeline.connect()
        by_calls = settings(aws, lab.name("X").removeprefix("X"))
    finally:
        lab.close()
    by_file = settings(aws, "-trades")
    assert by_file.keys() == by_calls.keys()
    for part, described in by_file.items():
        assert described == by_calls[part], part


def test_outputs_name_what_there_is(aws: Account) -> None:
    outputs = put_up("trades", connected=True)
    streams = boto3.Session().client("dynamodbstreams").list_streams()["Streams"]
    by_table = {each["TableName"]: each["StreamArn"] for each in streams}
    assert outputs["StateTableStreamArn"] == by_table["StateTable-trades"]
    assert outputs["ReduceTableStreamArn"] == by_table["ReduceTable-trades"]
    there = aws.inventory()
    named = {value for key, value in outputs.items() if key.endswith("Name")}
    assert named == {*there["streams"], *there["tables"], *there["functions"]}


def test_shards_is_a_parameter_with_a_default(aws: Account) -> None:
    put_up("trades", connected=False, shards=5)
    stream = aws.clients["kinesis"].describe_stream_summary(StreamName="IncomingDataStream-trades")
    assert stream["StreamDescriptionSummary"]["OpenShardCount"] == 5
    assert templates.template()["Parameters"]["Shards"]["Default"] == parts.SHARDS == 20


def test_two_stacks_stand_side_by_side_and_leave_nothing(aws: Account) -> None:
    put_up("one", connected=True)
    one = aws.inventory()
    put_up("two", connected=False)
    both = aws.inventory()
    for kind, names in one.items():
        assert set(names) <= set(both[kind]), kind
        assert (len(names) < len(both[kind])) == bool(names), kind
    formation = boto3.Session().client("cloudformation")
    formation.delete_stack(StackName="two")
    assert aws.inventory() == one
    formation.delete_stack(StackName="one")
    assert aws.inventory() == NOTHING
