"""The pipeline on AWS's strict stand-in: put up, controlled, taken down, and nothing is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from on_aws import NOTHING, Account, set_out
from strict_aws import ACCOUNT, forget_everything, strict_aws

import lab_utils as lu
from lab_utils import pipeline as game
from lab_utils import progress, settling
from lab_utils.errors import LabError
from lab_utils.lab import Lab
from lab_utils.pipeline import resources
from lab_utils.pipeline.parts import NAMES, Names, functions

pytestmark = pytest.mark.slow

REGION = f"us-east-1:{ACCOUNT}"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with strict_aws(MOTO_LAMBDA_CONCURRENCY_QUOTA="1000") as address:
        yield address


@pytest.fixture(scope="module")
def account(server: str) -> Account:
    return Account(server)


@pytest.fixture
def lab(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab of a reader who confirmed the account; an empty one."""
    forget_everything(server)
    set_out(monkeypatch, tmp_path, server)
    with lu.open_lab() as opened:
        yield opened


def label(lab: Lab) -> Any:
    assert lab.label is not None
    return lab.label


def names(lab: Lab) -> Names:
    return NAMES.each(label(lab).name)


# -- provisioned, used, removed -----------------------------------------------------------------


def test_it_is_provisioned_and_connected_and_nothing_stays(lab: Lab, account: Account) -> None:
    pipeline = game.deploy(lab, shards=2)
    called = names(lab)
    assert pipeline.names == called
    three = [called.state_function, called.map_function, called.reduce_function]
    there = {
        "tables": [
            called.state_table,
            called.reduce_table,
            called.aggregate_table,
            called.parameter_table,
        ],
        "streams": [called.stream],
        "functions": three,
        "roles": [called.state_role, called.map_role, called.reduce_role],
        "log groups": [f"/aws/lambda/{name}" for name in three],
        "mappings": [pipeline.mapping("MapLambda")],
    }
    expected = {kind: sorted(there.get(kind, [])) for kind in NOTHING}
    assert account.inventory() == expected
    pipeline.connect()
    mappings = [pipeline.mapping(name) for name in ("StateLambda", "MapLambda", "ReduceLambda")]
    assert account.inventory() == expected | {"mappings": sorted(map(str, mappings))}
    lab.close()
    assert account.inventory() == NOTHING


def test_doing_it_twice_changes_nothing(lab: Lab, account: Account) -> None:
    pipeline = game.deploy(lab)
    pipeline.connect()
    before, described = account.inventory(), described_in(account)
    assert game.deploy(lab) == pipeline
    pipeline.connect()
    assert account.inventory() == before
    assert described_in(account) == described


def test_it_is_removed_and_put_up_again(lab: Lab, account: Account) -> None:
    game.deploy(lab, shards=1).connect()
    game.remove(lab)
    left = account.inventory()
    for kind in ("tables", "streams", "functions", "mappings"):
        assert left[kind] == []
    assert len(left["roles"]) == len(left["log groups"]) == 3
    pipeline = game.deploy(lab, shards=1)
    assert [stage.link for stage in game.stages(lab, pipeline)] == [
        "",
        "missing",
        "direct",
        "connected",
        "direct",
        "missing",
        "direct",
    ]


def test_the_stages_have_plain_names_on_every_target(lab: Lab) -> None:
    stages = game.stages(lab, game.deploy(lab))
    assert [stage.name for stage in stages] == [
        NAMES.stream,
        NAMES.state_function,
        NAMES.state_table,
        NAMES.map_function,
        NAMES.reduce_table,
        NAMES.reduce_function,
        NAMES.aggregate_table,
    ]
    assert stages[0].shards == 20


def described_in(account: Account) -> dict[str, Any]:
    """What every function and every mapping is, as Lambda describes it, and what roles may do."""
    functions, iam = account.clients["lambda"], account.clients["iam"]
    roles = [each["RoleName"] for each in iam.list_roles()["Roles"]]
    return {
        "functions": functions.list_functions()["Functions"],
        "mappings": functions.list_event_source_mappings()["EventSourceMappings"],
        "permissions": {role: policies(account, role) for role in roles},
    }


def policies(account: Account, role: str) -> dict[str, Any]:
    iam = account.clients["iam"]
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    inline = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return {
        name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        for name in inline
    }


# -- names, tags, permissions -------------------------------------------------------------------


def test_everything_carries_the_lab_in_its_name_and_its_tags(lab: Lab, account: Account) -> None:
    game.deploy(lab, shards=1).connect()
    found = tags(account)
    assert len(found) == 3 + 3 + 3 + 3 + 4 + 1
    for arn, its_tags in found.items():
        assert its_tags == label(lab).tags, arn
    for kind, inventory in account.inventory().items():
        if kind != "mappings":  # they have no names
            assert all(name.endswith(label(lab).id) for name in inventory)


def tags(account: Account) -> dict[str, dict[str, str]]:
    """The tags of everything there, by its ARN."""
    clients = account.clients
    found: dict[str, dict[str, str]] = {}
    for table in clients["dynamodb"].list_tables()["TableNames"]:
        arn = clients["dynamodb"].describe_table(TableName=table)["Table"]["TableArn"]
        found[arn] = as_dict(clients["dynamodb"].list_tags_of_resource(ResourceArn=arn)["Tags"])
    for name in clients["kinesis"].list_streams()["StreamNames"]:
        tagged = clients["kinesis"].list_tags_for_stream(StreamName=name)["Tags"]
        found[f"arn:aws:kinesis:{REGION}:stream/{name}"] = as_dict(tagged)
    listed = clients["lambda"].list_functions()["Functions"]
    mappings = clients["lambda"].list_event_source_mappings()["EventSourceMappings"]
    arns = [each["FunctionArn"] for each in listed]
    arns += [f"arn:aws:lambda:{REGION}:event-source-mapping:{each['UUID']}" for each in mappings]
    for arn in arns:
        found[arn] = clients["lambda"].list_tags(Resource=arn)["Tags"]
    for role in clients["iam"].list_roles()["Roles"]:
        tagged = clients["iam"].list_role_tags(RoleName=role["RoleName"])["Tags"]
        found[role["Arn"]] = as_dict(tagged)
    for group in clients["logs"].describe_log_groups()["logGroups"]:
        arn = group["arn"].removesuffix(":*")
        found[arn] = clients["logs"].list_tags_for_resource(resourceArn=arn)["tags"]
    return found


def as_dict(listed: list[dict[str, str]]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in listed}


def may(service: str, resource: str, *actions: str) -> dict[str, Any]:
    allowed = [f"{service}:{action}" for action in actions]
    return {"Effect": "Allow", "Action": allowed, "Resource": resource}


READ_A_TABLES_STREAM = ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")


def test_each_role_may_do_what_the_workshop_says_and_with_this_labs_things_only(
    lab: Lab, account: Account
) -> None:
    """Word by word, with one deviation: logs may be written, but no log group be made."""
    own = label(lab).id
    table = f"arn:aws:dynamodb:*:*:table/{{}}-{own}"
    parameters = may("dynamodb", table.format("ParameterTable"), "GetItem")
    state = [
        may(
            "kinesis",
            f"arn:aws:kinesis:*:*:stream/IncomingDataStream-{own}",
            "DescribeStream",
            "GetRecords",
            "GetShardIterator",
            "ListShards",
            "ListStreams",
        ),
        may("dynamodb", table.format("StateTable"), "UpdateItem"),
        parameters,
    ]
    map_ = [
        may("dynamodb", table.format("StateTable") + "/stream/*", *READ_A_TABLES_STREAM),
        may("dynamodb", table.format("ReduceTable"), "PutItem"),
        parameters,
    ]
    missing = [
        may("dynamodb", table.format("ReduceTable") + "/stream/*", *READ_A_TABLES_STREAM),
        may("dynamodb", table.format("AggregateTable"), "UpdateItem"),
    ]

    def allowed() -> dict[str, Any]:
        roles = ("StateLambda", "MapLambda", "ReduceLambda")
        return {name: policies(account, f"{name}Role-{own}") for name in roles}

    def expected(reduce: list[dict[str, Any]]) -> dict[str, Any]:
        statements = {"StateLambda": state, "MapLambda": map_, "ReduceLambda": reduce}
        return {
            name: {"lab": policy(*its), f"logs-of-{name}-{own}": policy(may_log(f"{name}-{own}"))}
            for name, its in statements.items()
        }

    pipeline = game.deploy(lab, shards=1)
    assert allowed() == expected([parameters])
    pipeline.connect()
    assert allowed() == expected([parameters, *missing])


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def may_log(function: str) -> dict[str, Any]:
    group = f"arn:aws:logs:*:*:log-group:/aws/lambda/{function}:*"
    return may("logs", group, "CreateLogStream", "PutLogEvents")


def test_functions_get_their_tables_by_name_and_keep_their_logs_for_a_day(
    lab: Lab, account: Account
) -> None:
    game.deploy(lab, shards=1)
    called = names(lab)
    listed = account.clients["lambda"].list_functions()["Functions"]
    found = {each["FunctionName"]: each for each in listed}
    for declared in functions(called):
        function = found[declared.name]
        assert function["Environment"]["Variables"] == declared.environment
        assert all(name.endswith(label(lab).id) for name in declared.environment.values())
        assert (function["Timeout"], function["MemorySize"]) == (declared.timeout, 256)
        assert function["Role"].endswith(f"/{declared.role}")
    for group in account.clients["logs"].describe_log_groups()["logGroups"]:
        assert group["retentionInDays"] == 1


def test_a_role_that_the_lab_did_not_make_is_left_as_it_is(lab: Lab, account: Account) -> None:
    iam = account.clients["iam"]
    made = iam.create_role(RoleName="LearnerRole", AssumeRolePolicyDocument=json.dumps(policy()))
    lab.deploy_function("Own", "def handler(e, c): pass\n", role=made["Role"]["Arn"])
    assert policies(account, "LearnerRole") == {}
    lab.close()
    assert account.inventory() == NOTHING | {"roles": ["LearnerRole"]}


def test_a_role_asked_for_again_without_statements_has_none(lab: Lab, account: Account) -> None:
    lab.role("Reader", may("dynamodb", "*", "Scan"))
    assert set(policies(account, lab.name("Reader"))) == {"lab"}
    lab.role("Reader")
    assert policies(account, lab.name("Reader")) == {}


# -- the control plane --------------------------------------------------------------------------


def test_a_mapping_is_changed_stopped_deleted_and_made_anew(lab: Lab, account: Account) -> None:
    pipeline = game.deploy(lab, shards=1)
    pipeline.connect()
    lambda_ = lab.client("lambda")
    uuid = pipeline.mapping("StateLambda")
    lambda_.update_event_source_mapping(UUID=uuid, BatchSize=10)
    assert state_of(lab, pipeline) == ("connected", "batch 10")
    lambda_.update_event_source_mapping(UUID=uuid, Enabled=False)
    assert state_of(lab, pipeline) == ("missing", "batch 10, disabled")
    lambda_.update_event_source_mapping(UUID=uuid, Enabled=True)
    game.wait_enabled(lab, str(uuid))
    lambda_.delete_event_source_mapping(UUID=uuid)
    assert pipeline.mapping("StateLambda") is None
    pipeline.connect(start="LATEST")
    anew = pipeline.mapping("StateLambda")
    assert anew not in (None, uuid)
    made = lambda_.get_event_source_mapping(UUID=anew)
    assert (made["BatchSize"], made["StartingPosition"]) == (100, "LATEST")
    assert set(account.inventory()["mappings"]) == {
        pipeline.mapping(name) for name in ("StateLambda", "MapLambda", "ReduceLambda")
    }


def state_of(lab: Lab, pipeline: game.Pipeline) -> tuple[str, str]:
    stage = game.stages(lab, pipeline)[1]
    return stage.link, stage.detail


def test_records_of_a_real_stream_are_read_with_the_same_tools(lab: Lab) -> None:
    """ReduceTable's stream, before anything is connected to it."""
    pipeline = game.deploy(lab, shards=1)
    for number in range(5):
        lab.client("dynamodb").put_item(
            TableName=pipeline.names.reduce_table, Item={"MessageId": {"S": str(number)}}
        )
    streams = lab.client("dynamodbstreams")
    lineage = lu.read_lineage(streams, pipeline.reduce_stream_arn)
    (shard,) = lineage.graph
    assert lineage.graph.nodes[shard]
    records = list(islice(lu.StreamReader(streams, pipeline.reduce_stream_arn), 5))
    assert [record["eventName"] for record in records] == ["INSERT"] * 5


def test_failures_are_switched_on_in_the_labs_own_table(lab: Lab) -> None:
    pipeline = game.deploy(lab, shards=1)
    game.set_failures(lab, state=5)
    item = lab.client("dynamodb").get_item(
        TableName=pipeline.names.parameter_table,
        Key={"parameter": {"S": "FAILURE_STATE_LAMBDA_PCT"}},
    )["Item"]
    assert item["value"] == {"N": "5"}
    assert game.read_totals(lab) == {}


def test_a_table_without_its_stream_gets_it(lab: Lab) -> None:
    """As after a session that ended between a table and its stream."""
    name = lab.name("StateTable")
    lab.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    assert f"table/{name}/stream/" in game.deploy(lab, shards=1).state_stream_arn


def test_names_are_those_of_the_lab_whoever_asks(lab: Lab) -> None:
    pipeline = game.deploy(lab, shards=1)
    plain, full = "MapLambda", lab.name("MapLambda")
    assert pipeline.mapping(plain) == pipeline.mapping(full) is not None
    assert pipeline.source_of(plain) == pipeline.state_stream_arn
    assert pipeline.statements(plain) == pipeline.statements(full)
    with pytest.raises(LabError, match=f"no function 'Nobody': use one of .*{full}"):
        pipeline.mapping("Nobody")


# -- accounts and answers of another kind -------------------------------------------------------


def test_an_account_that_can_reserve_nothing_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new account's limit is 10, of which nothing may be reserved."""
    with strict_aws(MOTO_LAMBDA_CONCURRENCY_QUOTA="10", LAB_TEST_CONCURRENCY="10") as address:
        set_out(monkeypatch, tmp_path, address)
        with lu.open_lab() as lab:
            pipeline = game.deploy(lab, shards=1)
            with pytest.raises(LabError, match=r"connect\(reserved_concurrency=None\)"):
                pipeline.connect()
            assert pipeline.mapping("ReduceLambda") is None
            pipeline.connect(reserved_concurrency=None)
            assert pipeline.mapping("ReduceLambda") is not None
        assert Account(address).inventory() == NOTHING


PASSING = [
    (
        "lambda.CreateFunction",
        "InvalidParameterValueException",
        "The role defined for the function cannot be assumed by Lambda.",
    ),
    (
        "lambda.CreateFunction",
        "InvalidParameterValueException",
        (
            "Lambda was unable to configure access to your environment variables because the KMS "
            "key is invalid for CreateGrant. Please check your KMS key settings. KMS Exception: "
            "InvalidArnException KMS Message: ARN does not refer to a valid principal: X"
        ),
    ),
    (
        "lambda.CreateEventSourceMapping",
        "InvalidParameterValueException",
        "Cannot access stream X. Please ensure the role can perform the GetRecords Actions.",
    ),
    ("iam.PutRolePolicy", "NoSuchEntity", "The role with name X cannot be found."),
    ("iam.GetRole", "NoSuchEntity", "The role with name X cannot be found."),
    ("dynamodb.CreateTable", "LimitExceededException", "Subscriber limit exceeded"),
    ("kinesis.CreateStream", "LimitExceededException", "Rate exceeded"),
]


@pytest.mark.parametrize(("operation", "code", "message"), PASSING)
def test_what_is_refused_only_for_now_is_asked_for_again(
    lab: Lab, operation: str, code: str, message: str
) -> None:
    """Twice each; the words of the first three are reported by users, not documented."""
    refusals = Refusals(lab, operation, code, message, times=2)
    game.deploy(lab, shards=1).connect()
    assert refusals.left == 0


def test_what_does_not_pass_is_told_after_a_while(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "PATIENCE", 0.3)
    operation, code, message = PASSING[0]
    Refusals(lab, operation, code, message, times=1000)
    with pytest.raises(ClientError, match="cannot be assumed by Lambda"):
        game.deploy(lab, shards=1)


class Refusals:
    """The first calls of an operation are refused, as AWS does before it knows what was made."""

    def __init__(self, lab: Lab, operation: str, code: str, message: str, times: int) -> None:
        service, name = operation.split(".")
        self.left = times
        answer = {"Error": {"Code": code, "Message": message}}

        def refuse(**_: Any) -> None:
            if self.left:
                self.left -= 1
                raise ClientError(answer, name)

        lab.client(service).meta.events.register(f"before-call.{operation}", refuse)


def test_a_function_whose_change_failed_is_deployed_anew(lab: Lab) -> None:
    pipeline = game.deploy(lab, shards=1)
    asked: list[str] = []
    failed = {"State": "Active", "LastUpdateStatus": "Failed"}

    def answered(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Configuration"] |= failed

    def changed(model: Any, **_: Any) -> None:
        asked.append(model.name)

    events = lab.client("lambda").meta.events
    events.register("after-call.lambda.GetFunction", answered)
    events.register("before-call.lambda", changed)
    assert game.deploy(lab) == pipeline
    assert asked.count("UpdateFunctionCode") == asked.count("UpdateFunctionConfiguration") == 3


def test_a_function_that_fails_is_named_with_its_reason(lab: Lab) -> None:
    def answered(parsed: dict[str, Any], **_: Any) -> None:
        parsed |= {"State": "Failed", "StateReason": "no room"}

    events = lab.client("lambda").meta.events
    events.register("after-call.lambda.GetFunctionConfiguration", answered)
    with pytest.raises(LabError, match=r"Function Own-lab-\S+ failed \(no room\)"):
        lab.deploy_function("Own", "def handler(e, c): pass\n", role=lab.role("Own"))


def test_a_wait_says_what_it_waits_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB_PROGRESS", "1")
    monkeypatch.setattr(progress, "A_MOMENT", 0.0)

    def godot() -> bool:
        """Godot comes."""
        return False

    with pytest.raises(TimeoutError, match=r"0\.4 seconds went by without: Godot comes"):
        lab.wait_until(godot, timeout=0.4)
    assert "waiting: Godot comes" in capsys.readouterr().err


def test_of_several_waits_one_is_shown_and_then_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB_PROGRESS", "1")
    with progress.waiting("the second", 10) as second:
        with progress.waiting("the first", 10) as first:
            first(progress.A_MOMENT)
            second(progress.A_MOMENT)
            assert "the second" not in (shown := capsys.readouterr().err)
            assert "waiting: the first" in shown
        second(0.5)
        assert "waiting: the second" in capsys.readouterr().err


def test_a_wait_of_a_moment_says_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAB_PROGRESS", "1")
    asked: list[int] = []
    lab.wait_until(lambda: asked.append(1) or len(asked) > 3)
    assert capsys.readouterr().err == ""


def test_a_stream_that_does_not_become_active_is_a_sentence(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answered(parsed: dict[str, Any], **_: Any) -> None:
        if "StreamDescriptionSummary" in parsed:
            parsed["StreamDescriptionSummary"]["StreamStatus"] = "CREATING"

    events = lab.client("kinesis").meta.events
    events.register("after-call.kinesis.DescribeStreamSummary", answered)
    monkeypatch.setattr(resources, "STORE_PATIENCE", 0.3)
    with pytest.raises(LabError, match=r"(?s)takes too long .*stream of messages.* run the cell"):
        game.deploy(lab, shards=1)
    events.unregister("after-call.kinesis.DescribeStreamSummary", answered)
