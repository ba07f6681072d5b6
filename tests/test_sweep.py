"""What labs leave is found and removed, and nothing else is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ParamValidationError, ReadTimeoutError
from everything import Clients, make_everything
from on_aws import NOTHING, Account, set_out
from strict_aws import ACCOUNT, forget_everything, strict_aws

import lab_utils as lu
from lab_utils import sweep
from lab_utils.__main__ import main
from lab_utils.errors import LabError
from lab_utils.kinds import KINDS
from lab_utils.lab import Lab
from lab_utils.labels import EXPIRES_TAG, ID_TAG, MADE_BY, MADE_BY_TAG, Label
from lab_utils.tagging import LASTING, PARTS
from lab_utils.targets import SERVICES

pytestmark = pytest.mark.slow

LIVE = Label(datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=4), "7f3a9c")
OTHER = Label(LIVE.expires, "7f3a9d")
EXPIRED = Label(datetime(2020, 1, 2, 3, 4, tzinfo=UTC), "0ddba1")
REGIONS = ("ap-northeast-1", "ap-southeast-2", "eu-west-1", "us-east-1")
"""All that the tests sweep: the clients of every Region take a while to make."""
SESSION = boto3.Session("anybody", "anything")
WHO = f"Account {ACCOUNT}, as arn:aws:sts::{ACCOUNT}:user/moto\n"
"""The first that a sweep says."""
ONE_OF_EACH = ", ".join(f"1 {kind.name}" for kind in KINDS)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with strict_aws() as address:
        yield address


@pytest.fixture
def there(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The environment of a reader whose AWS is the stand-in, which is empty."""
    forget_everything(server)
    set_out(monkeypatch, tmp_path, server)
    monkeypatch.setattr(sweep, "WAITS", (0.0,) * 8)
    return server


@pytest.fixture
def account(there: str) -> Account:
    return Account(there)


@pytest.fixture
def lab(there: str) -> Lab:
    return lu.open_lab("aws", lab_id=LIVE.id)


def plain(region: str = "us-east-1") -> Clients:
    """Clients that no lab has a part in."""
    return partial(_plain, region, os.environ["AWS_ENDPOINT_URL"])


@cache
def _plain(region: str, address: str, service: str) -> Any:
    return SESSION.client(service, region, endpoint_url=address)


def swept(*arguments: str) -> int:
    return main(["sweep", *arguments])


def table(client: Clients, name: str) -> None:
    client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )


def role(client: Clients, name: str) -> None:
    client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")


# -- what a lab's clients create --------------------------------------------------------------


def test_all_kinds_are_made_with_tags_and_go_when_the_lab_is_closed(
    lab: Lab, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    make_everything(lab.client, lab.name, {"team": "red"})
    for found in sweep.find(plain()).leftovers:
        tags = found.kind.tags(plain()(found.kind.service), found.found)
        assert tags is not None
        assert LIVE.tags.items() <= tags.items(), found
        assert tags.get("team") == "red", found
    assert all(account.inventory().values())
    capsys.readouterr()
    lab.close()
    assert capsys.readouterr().out == f"Removed {ONE_OF_EACH}.\n"
    assert account.inventory() == NOTHING


def test_a_lab_that_made_nothing_says_so(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    lab.reset()
    lab.close()
    lab.close()
    assert capsys.readouterr().out == "Nothing was left to remove.\n" * 2


def test_a_name_without_the_labs_id_is_refused_before_anything_is_made(
    lab: Lab, account: Account
) -> None:
    for kind in KINDS:
        create = getattr(lab.client(kind.service), _snake(kind.creation))
        with pytest.raises(LabError, match=rf"write {kind.naming}=lab\.name\('Orders'\)\."):
            create(**{kind.naming: "Orders"})
    assert account.inventory() == NOTHING


def test_a_name_that_was_another_labs_is_made_this_labs_and_goes_with_it(
    lab: Lab, account: Account
) -> None:
    for name in (EXPIRED.name("Orders"), f"{LIVE}-of-{EXPIRED}"):
        if LIVE.id in name:
            with pytest.raises(LabError, match=r"write TableName=lab\.name\("):
                table(lab.client, name)
        table(lab.client, lab.name(name))
    lab.close()
    assert account.inventory() == NOTHING


def test_what_is_no_name_and_no_tag_is_for_boto3_to_refuse(lab: Lab) -> None:
    dynamodb, s3 = lab.clients("dynamodb", "s3")
    name = lab.name("Orders")
    for request in ({}, {"TableName": name, "Tags": "red"}):
        with pytest.raises(ParamValidationError):
            dynamodb.create_table(**request)
    for tags in ("red", ["red"], [{"Key": "team"}]):
        with pytest.raises(ParamValidationError, match="Tags"):
            dynamodb.create_table(TableName=name, Tags=tags)
    with pytest.raises(ParamValidationError):
        s3.create_bucket(Bucket=name.lower(), CreateBucketConfiguration="red")


def test_the_readers_own_tags_are_left_as_they_were(lab: Lab) -> None:
    mine = [{"Key": ID_TAG, "Value": "mine"}, {"Key": "team", "Value": "red"}]
    lab.client("sns").create_topic(Name=lab.name("Orders"), Tags=mine)
    assert mine == [{"Key": ID_TAG, "Value": "mine"}, {"Key": "team", "Value": "red"}]
    (found,) = sweep.find(plain()).leftovers
    assert found.tagged


def test_whatever_could_be_made_is_tagged_a_part_of_it_or_refused(lab: Lab) -> None:
    """botocore's own lists tell when AWS adds something that would stay."""
    makes = ("Create", "Import", "Restore", "PublishLayer")
    known = {kind.creation for kind in KINDS} | PARTS | LASTING | {"RestoreObject"}
    for service in SERVICES:
        client = lab.client(service)
        for operation in client.meta.service_model.operation_names:
            if operation in LASTING or (operation.startswith(makes) and operation not in known):
                with pytest.raises(LabError, match=f"What {operation} makes would stay"):
                    getattr(client, _snake(operation))()


def test_the_other_targets_take_every_name(lab: Lab) -> None:
    with lu.open_lab("embedded") as embedded:
        table(embedded.client, "Orders")
        assert embedded.name("Orders") == "Orders"


# -- what belongs to somebody else ------------------------------------------------------------


FOREIGN: dict[str, tuple[Callable[[str], str], dict[str, str]]] = {
    "the same prefix": (lambda name: f"{name}-laboratory", {}),
    "the same prefix and the lab's very tags": (lambda name: f"{name}-copied", LIVE.tags),
    "the id, no tag": (lambda name: f"{name}-untagged-{LIVE}", {}),
    "the id, tags of others": (lambda name: f"{name}-red-{LIVE}", {"team": "red"}),
    "the id, the tags of another lab": (lambda name: f"{name}-other-{LIVE}", OTHER.tags),
    "the id, made by somebody else": (
        lambda name: f"{name}-maker-{LIVE}",
        {**LIVE.tags, MADE_BY_TAG: "somebody-else"},
    ),
    "the id, nobody's make": (
        lambda name: f"{name}-nobody-{LIVE}",
        {ID_TAG: LIVE.id, EXPIRES_TAG: LIVE.tags[EXPIRES_TAG]},
    ),
    "the id as a tag's key": (lambda name: f"{name}-key-{LIVE}", {LIVE.id: ID_TAG}),
    "an id in capitals": (lambda name: f"{name}-id-{LIVE}", {**LIVE.tags, ID_TAG: LIVE.id.upper()}),
    "an id that goes on": (lambda name: f"{name}-{LIVE}0", LIVE.tags),
    "no date": (lambda name: f"{name}-lab-7f3a9c-9999999999", {MADE_BY_TAG: MADE_BY}),
}


def test_what_is_not_the_labs_survives_whatever_it_is_called(
    lab: Lab, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, tags in FOREIGN.values():
        make_everything(plain(), name, tags)
    make_everything(plain(), OTHER.name, OTHER.tags)
    foreign = account.inventory()
    assert {len(names) for names in foreign.values()} == {len(FOREIGN) + 1}

    make_everything(lab.client, lab.name, {})
    assert account.inventory() != foreign
    capsys.readouterr()
    lab.close()
    assert account.inventory() == foreign
    said = capsys.readouterr().out
    assert said.startswith(f"Removed {ONE_OF_EACH}.\nLeft alone, for want of the lab's tags: ")
    assert said.count(f"table Thing-untagged-{LIVE}") == 1

    assert swept("--lab", LIVE.id, "--yes") == 0
    assert account.inventory() == foreign
    assert "Nothing of that may be removed." in capsys.readouterr().out

    assert swept("--yes") == 0, "the other lab goes, for it is a lab"
    left = account.inventory()
    assert {len(names) for names in left.values()} == {len(FOREIGN)}
    assert not any(name.endswith(OTHER.name("ing")) for names in left.values() for name in names)


# -- what is found ----------------------------------------------------------------------------


def test_what_was_made_without_an_answer_is_found(lab: Lab, account: Account) -> None:
    def lose(**_: Any) -> None:
        raise ReadTimeoutError(endpoint_url="http://127.0.0.1")

    for service in ("dynamodb", "kinesis", "iam"):
        client = lab.client(service)
        client.meta.events.register_first(
            f"after-call.{client.meta.service_model.service_id.hyphenize()}", lose
        )
    stream = lab.name("Orders")
    for make in (
        lambda: table(lab.client, lab.name("Orders")),
        lambda: lab.client("kinesis").create_stream(StreamName=stream, ShardCount=1),
        lambda: role(lab.client, lab.name("Orders")),
    ):
        with pytest.raises(ReadTimeoutError):
            make()
    assert [len(account.inventory()[kind]) for kind in ("tables", "streams", "roles")] == [1] * 3
    lu.open_lab("aws", lab_id=LIVE.id).close()
    assert account.inventory() == NOTHING


def test_a_table_whose_tags_are_not_known_yet_is_no_table_that_is_gone(
    lab: Lab, account: Account
) -> None:
    table(lab.client, lab.name("Orders"))
    refused(lab, "dynamodb", "ListTagsOfResource", "ResourceNotFoundException", times=3)
    lab.close()
    assert account.inventory() == NOTHING


def test_what_is_listed_late_goes_all_the_same(
    lab: Lab, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "AB":
        table(lab.client, lab.name(name))
    late = iter([lab.name("B")])

    def hide(parsed: dict[str, Any], **_: Any) -> None:
        for name in late:
            parsed["TableNames"].remove(name)

    lab.client("dynamodb").meta.events.register("after-call.dynamodb.ListTables", hide)
    capsys.readouterr()
    lab.close()
    assert capsys.readouterr().out == "Removed 2 tables.\n"
    assert account.inventory() == NOTHING


def test_a_table_that_is_being_made_is_waited_for(lab: Lab, account: Account) -> None:
    """AWS does not find a table that it is making when it is asked for its tags."""
    table(lab.client, lab.name("Orders"))
    untold = refused(lab, "dynamodb", "ListTagsOfResource", "ResourceNotFoundException", times=1)
    told = iter(["CREATING", "CREATING"])

    def tell(parsed: dict[str, Any], **_: Any) -> None:
        if "Table" in parsed:
            parsed["Table"]["TableStatus"] = next(told, "ACTIVE")

    lab.client("dynamodb").meta.events.register("after-call.dynamodb.DescribeTable", tell)
    lab.close()
    assert (untold, list(told)) == ([], [])
    assert account.inventory() == NOTHING


def test_a_stream_that_has_its_tags_without_telling_yet_is_made(lab: Lab) -> None:
    """AWS takes tags at the creation, and refuses any until the stream is active."""
    lab.client("kinesis").meta.events.register(
        "after-call.kinesis.ListTagsForStream", lambda parsed, **_: parsed["Tags"].clear()
    )
    late = refused(lab, "kinesis", "AddTagsToStream", "ResourceInUseException", times=1)
    lab.client("kinesis").create_stream(StreamName=lab.name("Orders"), ShardCount=1)
    assert not late


def test_every_page_of_a_listing_is_asked_for(lab: Lab) -> None:
    """SQS has no second page for who doesn't say how long the first may be."""
    asked: list[dict[str, Any]] = []
    lab.client("sqs").meta.events.register(
        "before-call.sqs.ListQueues", lambda params, **_: asked.append(params["body"])
    )
    sweep.find(lab.client)
    assert "1000" in str(asked)


def test_names_alone_tell_which_labs_there_are(lab: Lab) -> None:
    assert sweep.labels_there(plain()) == {}
    make_everything(lab.client, lab.name, {})
    table(plain(), EXPIRED.name("Orders"))
    table(plain(), "Orders")
    assert sweep.labels_there(plain()) == {EXPIRED: 1, LIVE: len(KINDS)}


def test_what_may_not_be_listed_is_named_and_the_rest_goes(
    lab: Lab, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    table(lab.client, lab.name("Orders"))
    refused(lab, "sqs", "ListQueues", "AccessDenied")
    capsys.readouterr()
    lab.close()
    assert capsys.readouterr().out == (
        "Removed 1 table.\nNot looked for, as they could not be listed: queues (AccessDenied).\n"
    )
    assert account.inventory() == NOTHING


def test_a_lab_is_not_closed_while_something_may_be_there_unseen(lab: Lab) -> None:
    table(lab.client, lab.name("Orders"))
    refusals = refused(lab, "sqs", "ListQueues", "InternalError")
    with pytest.raises(LabError, match="Whether queues are left is not known: try again"):
        lab.close()
    refusals.clear()
    lab.close()


# -- how it is removed ------------------------------------------------------------------------


def refused(lab: Lab, service: str, operation: str, code: str, times: int = 1000) -> list[str]:
    """From now on this call of the lab's is refused so often; emptying the list ends it."""
    left = [code] * times

    def refuse(**_: Any) -> None:
        if left:
            raise ClientError({"Error": {"Code": left.pop(), "Message": "not now"}}, operation)

    events = lab.client(service).meta.events
    service_id = lab.client(service).meta.service_model.service_id.hyphenize()
    events.register(f"before-call.{service_id}.{operation}", refuse)
    return left


def test_what_can_not_be_removed_is_named_and_tried_again(lab: Lab, account: Account) -> None:
    make_everything(lab.client, lab.name, {})
    refusals = refused(lab, "lambda", "DeleteFunction", "ServiceException")
    with pytest.raises(LabError, match=r"by hand what is left: function Thing-lab-.*: .*not now"):
        lab.close()
    left = account.inventory()
    assert left.pop("functions") == [lab.name("Thing")]
    assert not any(left.values()), "the rest is removed all the same"
    refusals.clear()
    lab.close()
    assert account.inventory() == NOTHING


@pytest.mark.parametrize(
    "code",
    [
        "ThrottlingException",
        "DeleteConflict",
        "LimitExceededException",
        "ResourceConflictException",
        "ResourceInUseException",
    ],
)
def test_refusals_that_pass_are_waited_for(lab: Lab, account: Account, code: str) -> None:
    table(lab.client, lab.name("Orders"))
    for operation in ("ListTables", "ListTagsOfResource", "DescribeTable", "DeleteTable"):
        refused(lab, "dynamodb", operation, code, times=2)
    lab.close()
    assert account.inventory() == NOTHING


def test_credentials_that_expire_end_it_at_once_and_closing_again_goes_on(
    lab: Lab, account: Account
) -> None:
    for name in "ABC":
        role(lab.client, lab.name(name))
    table(lab.client, lab.name("Orders"))
    refusals = refused(lab, "dynamodb", "DeleteTable", "ExpiredTokenException")
    with pytest.raises(LabError, match=r"credentials have expired .*lab\.close\(\)"):
        lab.close()
    refusals.clear()
    lab.close()
    assert account.inventory() == NOTHING


def test_closing_again_goes_on_after_ctrl_c(lab: Lab, account: Account) -> None:
    make_everything(lab.client, lab.name, {})
    pressed = iter([KeyboardInterrupt()])

    def press(**_: Any) -> None:
        for interrupt in pressed:
            raise interrupt

    lab.client("lambda").meta.events.register("before-call.lambda.DeleteFunction", press)
    with pytest.raises(KeyboardInterrupt):
        lab.close()
    assert account.inventory()["mappings"] == []
    assert account.inventory()["tables"] == [lab.name("Thing")]
    lab.close()
    assert account.inventory() == NOTHING


def test_a_mapping_on_its_way_is_waited_for_and_gone_before_its_function(
    lab: Lab, account: Account
) -> None:
    """AWS refuses to delete a mapping that is being created, and deletes it bit by bit."""
    make_everything(lab.client, lab.name, {})
    told, calls = iter(["Creating", "Creating", "Enabled", "Deleting"]), []

    def note(model: Any, **_: Any) -> None:
        calls.append(model.name)

    def tell(parsed: dict[str, Any], **_: Any) -> None:
        parsed["State"] = next(told, "gone")

    events = lab.client("lambda").meta.events
    events.register("before-call.lambda", note)
    events.register("after-call.lambda.GetEventSourceMapping", tell)
    lab.close()
    states = [call for call in calls if call.startswith(("Get", "Delete"))]
    assert states[:4] == [*["GetEventSourceMapping"] * 3, "DeleteEventSourceMapping"]
    assert states[4:6] == ["GetEventSourceMapping"] * 2 or states[4] == "GetEventSourceMapping"
    assert states[-1] == "DeleteFunction"
    assert account.inventory() == NOTHING


def test_what_never_gets_ready_is_named(
    lab: Lab, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_everything(lab.client, lab.name, {})
    monkeypatch.setattr(sweep, "PATIENCE", 0.0)

    def tell(parsed: dict[str, Any], **_: Any) -> None:
        parsed["State"] = "Creating"

    lab.client("lambda").meta.events.register("after-call.lambda.GetEventSourceMapping", tell)
    with pytest.raises(LabError, match=r"mapping Thing-lab-.*: it is still Creating"):
        lab.close()
    left = account.inventory()
    assert len(left.pop("mappings")) == 1
    assert not any(left.values())


def test_what_lost_its_tags_since_it_was_found_is_left_alone(lab: Lab, account: Account) -> None:
    table(lab.client, lab.name("Orders"))
    table(lab.client, lab.name("Kept"))
    found = sweep.find(plain())
    arn = plain()("dynamodb").describe_table(TableName=lab.name("Kept"))["Table"]["TableArn"]
    plain()("dynamodb").untag_resource(ResourceArn=arn, TagKeys=[ID_TAG])
    removal = sweep.remove(plain(), found.leftovers)
    assert [str(each) for each in removal.removed] == [f"table {lab.name('Orders')}"]
    with pytest.raises(LabError, match=r"table Kept-lab-\S+: its tags are no longer this lab's"):
        removal.check()
    assert account.inventory()["tables"] == [lab.name("Kept")]


def test_what_goes_by_itself_does_no_harm(lab: Lab, account: Account) -> None:
    make_everything(lab.client, lab.name, {})
    found = sweep.find(plain())
    assert len(sweep.remove(plain(), found.leftovers).removed) == len(KINDS)
    again = sweep.remove(plain(), found.leftovers)
    assert again.failed == {}
    assert account.inventory() == NOTHING


# -- the command ------------------------------------------------------------------------------


def test_the_command_shows_asks_and_can_be_run_twice(
    lab: Lab, account: Account, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_everything(lab.client, lab.name, {})
    table(plain(), EXPIRED.name("Old"))
    before = account.inventory()
    capsys.readouterr()

    assert swept() == 0
    said = capsys.readouterr().out
    assert said.startswith(
        f"{WHO}{EXPIRED}, expired 2020-01-02 03:04 UTC\n"
        "  us-east-1: 1 table (Old), without the lab's tags: left alone\n"
        f"{LIVE}, in use until {LIVE.expires:%Y-%m-%d %H:%M} UTC\n"
        "  us-east-1: 1 mapping (Thing)\n"
    )
    assert "  all Regions: 1 role (Thing)\n" in said
    assert f"! Whoever works in {LIVE} loses everything there.\n" in said
    assert said.endswith("Nothing is removed, as there is nobody to ask: say --yes.\n")

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    for answer in ("", "n", "yes please"):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert swept() == 0
    assert swept("--expired", "--yes") == 0
    assert account.inventory() == before

    capsys.readouterr()
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert swept() == 0
    assert capsys.readouterr().out.endswith(f"Removed {ONE_OF_EACH}.\n")
    plain()("dynamodb").delete_table(TableName=EXPIRED.name("Old"))
    assert account.inventory() == NOTHING
    for _ in range(2):
        assert swept("--yes") == 0
        assert capsys.readouterr().out == f"{WHO}Nothing of any lab is there.\n"


def test_expired_labs_only_and_one_lab_only(
    there: str, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in (LIVE, OTHER, EXPIRED):
        plain()("sns").create_topic(
            Name=label.name("Orders"),
            Tags=[{"Key": key, "Value": value} for key, value in label.tags.items()],
        )
    assert swept("--expired", "--yes") == 0
    assert [Label.within(topic) for topic in account.inventory()["topics"]] == [LIVE, OTHER]
    capsys.readouterr()
    assert swept("--expired") == 0
    assert capsys.readouterr().out == f"{WHO}Nothing of any lab that has expired is there.\n"
    assert swept("--lab", OTHER.id, "--yes") == 0
    assert f"! Whoever works in {OTHER} loses everything there.\n" in capsys.readouterr().out
    assert [Label.within(topic) for topic in account.inventory()["topics"]] == [LIVE]
    for wrong in ("lab-7f3a9c", f"{LIVE}-Orders", "all"):
        with pytest.raises(SystemExit):
            swept("--lab", wrong)


def test_every_region_is_swept_and_what_knows_none_is_shown_once(
    there: str,
    account: Account,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boto3.Session, "get_available_regions", lambda *_, **__: REGIONS)
    role(plain(), "Somebody")
    tags = [{"Key": key, "Value": value} for key, value in LIVE.tags.items()]
    plain()("iam").create_role(
        RoleName=LIVE.name("Orders"), AssumeRolePolicyDocument="{}", Tags=tags
    )
    regions = REGIONS[1:]
    for region in regions:
        plain(region)("sns").create_topic(Name=LIVE.name("Orders"), Tags=tags)
    assert swept("--region", "eu-west-1", "--lab", OTHER.id, "--yes") == 0
    capsys.readouterr()
    assert swept("--all-regions") == 0
    said = capsys.readouterr().out
    for region in regions:
        assert said.count(f"  {region}: 1 topic (Orders)\n") == 1
    assert said.count("  all Regions: 1 role (Orders)\n") == 1
    assert swept("--all-regions", "--yes") == 0
    assert capsys.readouterr().out.endswith("Removed 3 topics, 1 role.\n")
    for region in regions:
        assert plain(region)("sns").list_topics()["Topics"] == []
    assert account.inventory() == {**NOTHING, "roles": ["Somebody"]}


def test_a_region_that_is_not_enabled_is_left_out_and_named(
    there: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find, shut = sweep.find, "ap-southeast-2"
    monkeypatch.setattr(boto3.Session, "get_available_regions", lambda *_, **__: REGIONS)

    def find_where_enabled(client: Clients, **options: Any) -> sweep.Findings:
        if client("lambda").meta.region_name == shut:
            error = {"Code": "UnrecognizedClientException", "Message": "The token is invalid"}
            raise ClientError({"Error": error}, "ListTables")
        return find(client, **options)

    monkeypatch.setattr("lab_utils.commands.sweep.find", find_where_enabled)
    assert swept("--all-regions") == 0
    assert capsys.readouterr().out == (
        f"{WHO}{shut} is left out, for it does not answer to your account.\n"
        "Nothing of any lab is there.\n"
    )
    assert swept("--region", shut) == 2
    assert "does not accept your credentials here" in capsys.readouterr().err


@pytest.mark.parametrize(("why", "status"), [("AccessDenied", 0), ("InternalError", 2)])
def test_what_could_not_be_listed_for_now_is_no_success(
    there: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    why: str,
    status: int,
) -> None:
    def find(*_: Any, **__: Any) -> sweep.Findings:
        return sweep.Findings((), {KINDS[0]: why})

    monkeypatch.setattr("lab_utils.commands.sweep.find", find)
    assert swept("--yes") == status
    said = capsys.readouterr()
    assert f"Not looked for, as they could not be listed: mappings ({why})." in said.out
    assert ("Whether mappings are left is not known: try again." in said.err) == bool(status)


def test_a_region_that_does_not_exist_is_refused(
    there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert swept("--region", "mars-1") == 2
    assert "AWS has no Region 'mars-1'" in capsys.readouterr().err


# -- on LocalStack ----------------------------------------------------------------------------


def test_what_a_session_left_on_localstack_is_swept_by_its_tags(
    elsewhere: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", elsewhere)
    monkeypatch.setenv("LAB_PROGRESS", "0")
    monkeypatch.setenv("LAB_TARGET", "localstack")
    here = Account(elsewhere)
    with lu.open_lab("localstack") as owner:
        make_everything(owner.client, lambda name: f"{name}-owned", {})
        owned = here.inventory()
        dead = lu.open_lab("localstack")
        make_everything(dead.client, lambda name: name, {})
        left = dead._target.owner
        assert left is not None
        assert here.inventory() != owned
        assert swept("--lab", left.id, "--yes") == 0
        assert capsys.readouterr().out.endswith(f"Removed {ONE_OF_EACH}.\n")
        assert here.inventory() == owned
        assert swept("--lab", left.id, "--yes") == 0
        assert capsys.readouterr().out == f"Nothing of {left} is there.\n"
        assert swept("--all-regions") == 2
        assert "name no Region" in capsys.readouterr().err


def _snake(operation: str) -> str:
    from botocore import xform_name

    return str(xform_name(operation))
