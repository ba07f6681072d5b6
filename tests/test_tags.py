"""Tags in the embedded lab: what is made with them, or given them later, says so when it is asked.

Sources: Lambda Developer Guide, "Using tags on Lambda functions"; API reference of Kinesis,
AddTagsToStream and ListTagsForStream. In which words more is refused than they allow is ours.
"""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError
from running import EVERYTHING, code_of, function, stream
from serving import serving

from lab_utils import packaging
from lab_utils.kinds import KINDS
from lab_utils.labels import Label
from lab_utils.roles import TRUST_LAMBDA
from lab_utils.roles import document as roles_document
from lab_utils.sweep import find, remove
from lab_utils.tagging import tagging

TAGS = {"team": "blue", "stage": "lab"}
PASS = "def handler(event, context):\n    pass\n"
LABEL = Label.within("lab-7f3a9c-2611260314")


@pytest.fixture
def tagged_function(lab):
    """A function's ARN."""
    role = lab.role("TaggedRole")
    arn = lab.deploy_function("Worker", PASS, role=role)
    lab.client("lambda").tag_resource(Resource=arn, Tags=TAGS)
    return arn


def refused(call, **request):
    with pytest.raises(ClientError) as caught:
        call(**request)
    return code_of(caught)


def test_a_function_made_with_tags(lab):
    functions = lab.client("lambda")
    arn = functions.create_function(
        FunctionName="Tagged",
        Role=lab.role("TaggedRole"),
        Runtime=packaging.RUNTIME,
        Handler="app.handler",
        Code={"ZipFile": packaging.package(PASS).zip},
        Tags=TAGS,
    )["FunctionArn"]
    assert functions.list_tags(Resource=arn)["Tags"] == TAGS
    assert functions.get_function(FunctionName="Tagged")["Tags"] == TAGS


def test_tags_come_and_go(lab, tagged_function):
    functions = lab.client("lambda")
    functions.tag_resource(Resource=tagged_function, Tags={"team": "red", "more": ""})
    found = functions.list_tags(Resource=tagged_function)["Tags"]
    assert found == {"team": "red", "stage": "lab", "more": ""}
    functions.untag_resource(Resource=tagged_function, TagKeys=["team", "stage", "nothing"])
    assert functions.list_tags(Resource=tagged_function)["Tags"] == {"more": ""}


def test_tags_stay_when_a_function_changes_and_go_with_it(lab, tagged_function):
    functions = lab.client("lambda")
    lab.deploy_function("Worker", f"{PASS}    return 2\n", role=lab.role("R"))
    assert functions.list_tags(Resource=tagged_function)["Tags"] == TAGS
    functions.delete_function(FunctionName="Worker")
    answer = refused(functions.list_tags, Resource=tagged_function)
    assert answer == (404, "ResourceNotFoundException")


def test_versions_and_aliases_have_no_tags(lab, tagged_function):
    functions = lab.client("lambda")
    version = functions.publish_version(FunctionName="Worker")["FunctionArn"]
    assert version.endswith(":1")
    answer = refused(functions.tag_resource, Resource=version, Tags=TAGS)
    assert answer == (400, "InvalidParameterValueException")


def test_a_mapping_has_tags_of_its_own(lab):
    function(lab, PASS)
    functions = lab.client("lambda")
    made = functions.create_event_source_mapping(
        FunctionName="Worker", EventSourceArn=stream(lab), StartingPosition="LATEST", Tags=TAGS
    )
    arn = made["EventSourceMappingArn"]
    assert functions.list_tags(Resource=arn)["Tags"] == TAGS
    functions.untag_resource(Resource=arn, TagKeys=["team"])
    assert functions.list_tags(Resource=arn)["Tags"] == {"stage": "lab"}
    gone = refused(functions.list_tags, Resource=f"{arn[:-12]}000000000000")
    assert gone == (404, "ResourceNotFoundException")


def test_a_stream_lists_its_tags_page_by_page(lab):
    kinesis = lab.client("kinesis")
    kinesis.create_stream(StreamName="Stream", ShardCount=1, Tags=TAGS)
    kinesis.add_tags_to_stream(StreamName="Stream", Tags={"age": "1", "team": "red"})
    kinesis.remove_tags_from_stream(StreamName="Stream", TagKeys=["stage", "nothing"])
    first = kinesis.list_tags_for_stream(StreamName="Stream", Limit=1)
    assert first["Tags"] == [{"Key": "age", "Value": "1"}]
    assert first["HasMoreTags"]
    rest = kinesis.list_tags_for_stream(StreamName="Stream", ExclusiveStartTagKey="age")
    assert rest["Tags"] == [{"Key": "team", "Value": "red"}]
    assert not rest["HasMoreTags"]


@pytest.mark.parametrize(
    "tags",
    [
        {f"key-{number}": "" for number in range(51)},
        {"k" * 129: ""},
        {"key": "v" * 257},
        {"aws:cloudformation:stack-name": "mine"},
        {"AWS:mine": ""},
    ],
)
def test_what_tags_can_not_be(lab, tagged_function, tags):
    functions, kinesis = lab.clients("lambda", "kinesis")
    answer = refused(functions.tag_resource, Resource=tagged_function, Tags=tags)
    assert answer == (400, "InvalidParameterValueException")
    assert functions.list_tags(Resource=tagged_function)["Tags"] == TAGS
    status, code = refused(kinesis.create_stream, StreamName="S", ShardCount=1, Tags=tags)
    assert status == 400
    assert code in ("InvalidArgumentException", "ValidationException")
    assert kinesis.list_streams()["StreamNames"] == []


def test_fifty_are_not_too_many(lab, tagged_function):
    functions = lab.client("lambda")
    functions.tag_resource(Resource=tagged_function, Tags={f"{n}": "v" * 256 for n in range(48)})
    assert len(functions.list_tags(Resource=tagged_function)["Tags"]) == 50


def test_a_handler_needs_a_permission_to_see_tags(lab, tagged_function):
    source = (
        "import boto3\n"
        "def handler(event, context):\n"
        "    return boto3.client('lambda').list_tags(Resource=event)['Tags']\n"
    )
    for statements, answer in (
        ((), "AccessDeniedException"),
        (({"Effect": "Allow", "Action": "lambda:ListTags", "Resource": "*"},), "blue"),
    ):
        lab.deploy_function("Looker", source, role=lab.role("LookerRole", *statements))
        got = lab.client("lambda").invoke(
            FunctionName="Looker", Payload=json.dumps(tagged_function).encode()
        )
        assert answer in got["Payload"].read().decode()


@pytest.mark.slow
def test_what_a_lab_tags_is_found_and_removed_by_its_tags_alone():
    """As `python -m lab_utils serve` is used: as a LocalStack."""
    with serving() as served:
        clients = {
            name: tagging(served.client(name), LABEL, in_names=False)
            for name in {kind.service for kind in KINDS}
        }
        make_all_but_alarms(clients)
        found = find(clients.__getitem__, label=LABEL, in_names=False)
        there = {each.kind.name for each in found.leftovers if each.tagged}
        assert there == {kind.name for kind in KINDS} - {"alarm"}
        assert not remove(clients.__getitem__, found.leftovers).failed
        assert not find(clients.__getitem__, label=LABEL, in_names=False).leftovers


def make_all_but_alarms(clients):
    """One of each kind that the embedded lab has."""
    trust, document = json.dumps(TRUST_LAMBDA), json.dumps(roles_document(EVERYTHING))
    role = clients["iam"].create_role(RoleName="Thing", AssumeRolePolicyDocument=trust)
    clients["iam"].create_policy(PolicyName="Thing", PolicyDocument=document)
    clients["iam"].put_role_policy(RoleName="Thing", PolicyName="all", PolicyDocument=document)
    clients["dynamodb"].create_table(
        TableName="Thing",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    clients["kinesis"].create_stream(StreamName="Thing", ShardCount=1)
    summary = clients["kinesis"].describe_stream_summary(StreamName="Thing")
    clients["lambda"].create_function(
        FunctionName="Thing",
        Role=role["Role"]["Arn"],
        Runtime=packaging.RUNTIME,
        Handler="app.handler",
        Code={"ZipFile": packaging.package(PASS).zip},
    )
    clients["lambda"].create_event_source_mapping(
        FunctionName="Thing",
        EventSourceArn=summary["StreamDescriptionSummary"]["StreamARN"],
        StartingPosition="LATEST",
    )
    clients["logs"].create_log_group(logGroupName="/aws/lambda/Thing")
    clients["sqs"].create_queue(QueueName="Thing")
    clients["sns"].create_topic(Name="Thing")
    clients["s3"].create_bucket(Bucket="thing")
    clients["s3"].put_object(Bucket="thing", Key="a", Body=b"x")
