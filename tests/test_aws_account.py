"""Opening a lab on AWS: who, where, what for, and that nothing is made before it is confirmed."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import exceptions as botocore
from botocore.config import Config
from botocore.exceptions import ClientError
from strict_aws import ACCOUNT, credentials, forget_everything, strict_aws

import lab_utils as lu
from lab_utils import costs, prices
from lab_utils.account import Account, check_fit, manners, place_of
from lab_utils.at_once import at_once
from lab_utils.clock import WallClock, wait_until
from lab_utils.desk import desk_of, label_of_desk
from lab_utils.errors import LabError
from lab_utils.labels import Label
from lab_utils.plan import Plan, made
from lab_utils.refusals import explained

EXPIRED = Label(datetime(2020, 1, 2, 3, 4, tzinfo=UTC), "0ddba1")
NOW = datetime(2026, 11, 25, 23, 14, tzinfo=UTC)
LABEL = Label(NOW + timedelta(hours=4), "7f3a9c")
ANNA = Account(ACCOUNT, "us-east-1", f"arn:aws:iam::{ACCOUNT}:user/anna", alias="sandbox")
PLAN = Plan(
    account=ANNA,
    label=LABEL,
    now=NOW,
    resources=0,
    others=(),
    expired=(),
    hour=0.3,
    burst=0.0069,
    remark="Prices as of 2026-09-29, without free tiers: those of us-east-1.",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    notes = tmp_path_factory.mktemp("moto") / "recording"
    with strict_aws(MOTO_RECORDER_FILEPATH=str(notes)) as address:
        yield address


def set_out(monkeypatch: pytest.MonkeyPatch, folder: Path, **variables: str) -> None:
    """The environment of a reader with these variables, and nothing of who runs the tests."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "JPY_", "LAB_"))]:
        monkeypatch.delenv(name)
    for name in ("config", "credentials"):
        (folder / name).touch()
    settings = {
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "LAB_PROGRESS": "0",
        "LAB_TARGET": "aws",
    }
    for name, value in (settings | variables).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def there(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The environment of a reader whose AWS is the stand-in, which is empty; its address."""
    forget_everything(server)
    set_out(monkeypatch, tmp_path, **credentials(server))
    monkeypatch.chdir(tmp_path)
    return server


def table(client: Any, name: str) -> None:
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )


def refusal(**arguments: Any) -> str:
    """What opening a lab is refused with."""
    with pytest.raises(LabError) as refused:
        lu.open_lab(**arguments)
    return str(refused.value)


# -- the screen -----------------------------------------------------------------------------------

SCREEN = """\
A lab on AWS, new
  account  123456789012, sandbox
  identity arn:aws:iam::123456789012:user/anna
  region   us-east-1
  lab      lab-7f3a9c-2611260314, in every name and in a tag
  holds    no resources yet
  expires  2026-11-26 03:14 UTC, in 4.0 hours: lab.close() removes all of
           it, or later `python -m lab_utils sweep`; nothing goes by itself
The whole pipeline, of which most chapters need less
  makes    a data stream of 20 shards, 4 tables (2 with streams), 3
           functions, 3 roles, 3 log groups, 3 event source mappings
  ready    in about 4 minutes, it is assumed
  costs    0.30 USD an hour, used or not (1.20 until it expires), and 0.0069
           USD for each burst of 10,000 messages. Prices as of 2026-09-29,
           without free tiers: those of us-east-1."""


def test_the_screen() -> None:
    assert str(PLAN) == repr(PLAN) == SCREEN


def test_an_example_of_the_screen_asks_nobody(sealed: Any) -> None:
    shown = str(lu.Plan.example())
    assert "  expires  2026-01-05 13:00 UTC, in 4.0 hours" in shown
    assert lu.Plan.example(hours=2).label != lu.Plan.example().label
    assert shown == str(Plan.example())


def test_the_screen_of_a_lab_that_is_there_already() -> None:
    shown = str(replace(PLAN, resources=1, now=LABEL.expires - timedelta(minutes=30)))
    assert shown.startswith("A lab on AWS, resumed\n")
    assert "  holds    1 resource already\n" in shown
    assert "in 30 minutes" in shown
    assert "0.15 until it expires" in " ".join(shown.split())


def test_the_screen_with_everything_that_can_be_remarked() -> None:
    """Fact E23: at least 100 of an account's concurrency stay unreserved."""
    others = tuple(Label(LABEL.expires, f"{number:06x}") for number in range(5))
    account = replace(
        ANNA,
        alias=None,
        identity=f"arn:aws:sts::{ACCOUNT}:assumed-role/{'Learner' * 8}/{'anna' * 8}@example.org",
        endpoint="http://127.0.0.1:5000",
        unreserved=10,
    )
    shown = str(replace(PLAN, account=account, others=others, expired=(EXPIRED,)))
    assert max(map(len, shown.splitlines())) <= 80
    words = " ".join(shown.split())
    for said in (
        "endpoint http://127.0.0.1:5000, not AWS's own",
        (
            "! You may not read the account's alias (iam:ListAccountAliases): make sure that it "
            "is no production account."
        ),
        "! 10 concurrent executions of functions are unreserved. At least 100 must stay so",
        (
            "a reservation beyond that is refused: ask Service Quotas for more concurrent "
            "executions, or leave ReduceLambda without a reservation by "
            "connect(reserved_concurrency=None)."
        ),
        f"! Expired, and not removed yet: {EXPIRED}. `python -m lab_utils sweep` does it.",
        f"! In use at other desks: {others[0]}, {others[1]}, {others[2]} and 2 more.",
    ):
        assert said in words


@pytest.mark.parametrize(("limit", "remarked"), [(100, True), (101, False), (None, False)])
def test_when_a_reservation_of_one_is_possible(limit: int | None, remarked: bool) -> None:
    shown = str(replace(PLAN, account=replace(ANNA, unreserved=limit)))
    assert ("must stay so" in " ".join(shown.split())) is remarked


def test_what_is_made_is_counted_in_the_pipelines_own_declarations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lab_utils.pipeline import parts

    monkeypatch.setattr(parts, "SHARDS", 1)
    monkeypatch.setattr(parts, "tables", lambda: ())
    assert made().startswith("a data stream of 1 shard, no tables (0 with streams), 3 functions")


# -- confirmation ---------------------------------------------------------------------------------


def test_nothing_is_made_before_the_account_is_named(there: str) -> None:
    with recording(there) as asked:
        said = refusal()
    assert said.startswith("Nothing is made before you confirm it.\n\nA lab on AWS, new\n")
    assert said.endswith(
        f'To go on, name the account: open_lab("aws", confirm="{ACCOUNT}"),\n'
        f"or set LAB_AWS_CONFIRM={ACCOUNT}."
    )
    assert max(map(len, said.splitlines())) <= 80
    assert len(said.splitlines()) <= 24
    assert f"endpoint {there}, not AWS's own" in said
    assert {"GetCallerIdentity", "ListTables", "GET /2016-08-19/account-settings"} <= set(asked)
    assert not [each for each in asked if not re.match("Get|List|Describe|GET ", each)]


def test_the_costs_are_those_of_the_price_file(there: str) -> None:
    known = prices.load()
    words = " ".join(refusal().split())
    assert f"costs {costs.pipeline_hour(known, 'us-east-1'):.2f} USD an hour" in words
    assert f"and {costs.pipeline_burst(known, 'us-east-1'):.2g} USD for each burst" in words
    assert known.remark("us-east-1") in words


@pytest.mark.parametrize("confirm", [ACCOUNT, f" {ACCOUNT} ", int(ACCOUNT)])
def test_whoever_names_the_account_gets_a_lab(
    there: str, confirm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with recording(there) as asked, lu.open_lab(confirm=confirm) as lab:
        assert capsys.readouterr().out == f"{lab.plan}\n"
        assert (lab.target, lab.region, lab.plan.account.id) == ("aws", "us-east-1", ACCOUNT)
        assert lab.label == lab.plan.label
        assert lab.name("Orders") == f"Orders-{lab.label}"
        assert lab.can("role_check")
    assert not [each for each in asked if not re.match("Get|List|Describe|GET ", each)]


def test_the_environment_names_the_account(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_AWS_CONFIRM", ACCOUNT)
    lu.open_lab().close()
    assert "You confirmed account 210987654321" in refusal(confirm="210987654321")


def test_another_account_is_no_confirmation(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, variable in (({"confirm": "210987654321"}, ""), ({}, "210987654321")):
        monkeypatch.setenv("LAB_AWS_CONFIRM", variable)
        assert refusal(**arguments) == (
            f"You confirmed account 210987654321, but your credentials belong to account {ACCOUNT},"
            " so nothing is made: choose the profile of 210987654321 in AWS_PROFILE, or confirm "
            f"{ACCOUNT}."
        )


def test_the_other_targets_need_no_confirmation() -> None:
    with lu.open_lab("embedded", confirm="1", hours=-1, lab_id="nonsense") as lab:
        assert (lab.plan, lab.label, lab.name("Orders")) == (None, None, "Orders")


# -- the desk -------------------------------------------------------------------------------------


def opened(**arguments: Any) -> Any:
    return lu.open_lab(confirm=ACCOUNT, **arguments)


def test_a_desk_goes_on_with_what_was_left_open_at_it(
    there: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = opened(hours=3)
    table(first.client("dynamodb"), first.name("Orders"))
    again = opened(hours=5)  # the kernel of the first was killed
    assert again.label == first.label
    assert again.plan.resources == 1
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    elsewhere = opened(hours=5)
    assert elsewhere.label.desk != first.label.desk
    assert elsewhere.plan.resources == 0
    assert elsewhere.plan.others == (first.label,)
    elsewhere.close()
    again.close()
    assert opened().plan.others == ()


def test_a_closed_lab_is_not_resumed(there: str) -> None:
    with opened(hours=3) as lab:
        table(lab.client("dynamodb"), lab.name("Orders"))
    after = opened(hours=5)
    assert (after.plan.resources, after.label) != (1, lab.label)
    assert str(after.plan).startswith("A lab on AWS, new\n")


def test_an_expired_lab_is_named_and_not_resumed(there: str) -> None:
    mine = desk_of(opened().plan.account)
    stranger, own = EXPIRED, Label(EXPIRED.expires, mine)
    for label in (stranger, own):
        table(boto3.client("dynamodb"), label.name("Orders"))
    lab = opened()
    assert lab.label.desk == mine
    assert lab.label not in (stranger, own)
    assert lab.plan.expired == tuple(sorted((stranger, own)))
    assert "Expired, and not removed yet" in str(lab.plan)
    assert str(stranger) in refusal()


def test_the_same_desk_whatever_a_session_is_called() -> None:
    def desk(identity: str, **changed: Any) -> str:
        return desk_of(replace(ANNA, identity=identity, **changed))

    role = f"arn:aws:sts::{ACCOUNT}:assumed-role/Learner"
    assert desk(f"{role}/botocore-session-1732571234") == desk(
        f"{role}/botocore-session-1732579999"
    )
    user = f"arn:aws:iam::{ACCOUNT}:user/learner"
    others = {
        desk(f"{user}-202600001"),
        desk(f"{user}-202600002"),
        desk(f"{role}/learner-202600001"),
        desk(f"{role}/learner-202600002"),
        desk(f"{role}/anna"),
        desk(f"{role}/ben"),
        desk(f"{role}/anna", region="eu-west-1"),
        desk(f"{role}/anna", id="210987654321"),
    }
    assert len(others) == 8
    assert all(re.fullmatch("[0-9a-f]{6}", each) for each in others)


def test_a_desk_is_a_folder_of_a_computer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = desk_of(ANNA)
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    there = desk_of(ANNA)
    monkeypatch.chdir(tmp_path)
    assert len({here, there, desk_of(ANNA)}) == 3


def test_two_notebooks_of_a_folder_are_two_desks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter's server tells a kernel its notebook, as VS Code does, in different ways."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    desks = [desk_of(ANNA)]
    for notebook in ("/book/one.ipynb", "/book/two.ipynb", "/book/one.ipynb"):
        monkeypatch.setenv("JPY_SESSION_NAME", notebook)
        desks.append(desk_of(ANNA))
    monkeypatch.setattr(sys.modules["__main__"], "__vsc_ipynb_file__", "two.ipynb", raising=False)
    desks.append(desk_of(ANNA))
    assert desks[1] == desks[3]
    assert len(set(desks)) == 4


def test_a_notebook_is_told_by_its_own_variables(tmp_path: Path) -> None:
    """In a kernel as VS Code starts one, a cell's variables are those of `__main__`."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    told = "__vsc_ipynb_file__ = '/book/one.ipynb'"
    asked = "from lab_utils.desk import _notebook\nprint(_notebook())"
    notebook = new_notebook(cells=[new_code_cell(told), new_code_cell(asked)])
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert notebook.cells[1].outputs[0]["text"] == "/book/one.ipynb\n"


def test_of_several_labs_of_a_desk_the_one_that_lasts_longest_goes_on() -> None:
    def label(hours: float, desk: str = "7f3a9c") -> Label:
        return Label(NOW + timedelta(hours=hours), desk)

    there = [label(-1), label(1), label(3), label(2), label(9, "0ddba1")]
    assert label_of_desk("7f3a9c", there, NOW, timedelta(hours=4)) == label(3)
    assert label_of_desk("7f3a9c", there[:1], NOW, timedelta(hours=4)) == label(4)
    assert label_of_desk("7f3a9c", [label(0)], NOW, timedelta(hours=4)) == label(4)


def test_a_label_is_not_cut_short_by_its_seconds() -> None:
    late = NOW + timedelta(seconds=1)
    label = label_of_desk("7f3a9c", (), late, timedelta(seconds=30))
    assert label.expires == NOW + timedelta(minutes=1)


def test_how_long_a_lab_lasts(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def hours(**arguments: Any) -> float:
        plan = opened(**arguments).plan
        return round((plan.label.expires - plan.now).total_seconds() / 3600, 1)

    assert hours() == 4
    assert hours(hours=0.5) == 0.5
    assert hours(hours=168) == 168
    monkeypatch.setenv("LAB_AWS_HOURS", "6")
    assert hours() == 6
    assert hours(hours=2) == 2


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        (0, "more than 0 and at most 168 hours, not 0"),
        (-1, "not -1"),
        (168.1, "not 168.1"),
        (float("nan"), "not nan"),
        (float("inf"), "not inf"),
        ("4", "hours='4' is no number of hours"),
        (True, "hours=True is no number of hours"),
    ],
)
def test_hours_that_are_none(there: str, hours: Any, said: str) -> None:
    with recording(there) as asked:
        assert said in refusal(hours=hours, confirm=ACCOUNT)
    assert asked == []


@pytest.mark.parametrize("text", ["many", "-1", "0", "inf", "nan"])
@pytest.mark.parametrize("variable", ["LAB_AWS_HOURS", "LAB_AWS_TIMEOUT", "AWS_MAX_ATTEMPTS"])
def test_numbers_in_the_environment_that_are_none(
    there: str, monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    assert f"{variable}={text!r} is no positive number" in refusal(confirm=ACCOUNT)


def test_a_lab_that_is_named_goes_on(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    colleague = Label(
        datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=1), "ab12cd"
    )
    table(boto3.client("dynamodb"), colleague.name("Orders"))
    assert opened().label != colleague
    lab = opened(lab_id=colleague.id)
    assert (lab.label, lab.plan.resources, lab.plan.others) == (colleague, 1, ())
    monkeypatch.setenv("LAB_ID", colleague.id)
    assert opened().label == colleague


@pytest.mark.parametrize(
    ("lab_id", "said"),
    [
        ("orders", "'orders' is no id of a lab"),
        ("lab-7f3a9c-9999999999", "is no id of a lab"),
        (f"Orders-{LABEL}", "is no id of a lab"),
        (7, "7 is no id of a lab"),
        (EXPIRED.id, f"{EXPIRED} expired at 2020-01-02 03:04 UTC: remove it with `python -m lab_u"),
        ("lab-7f3a9c-6812312359", "would last longer than 168 hours"),
    ],
)
def test_what_no_lab_can_be_called(there: str, lab_id: Any, said: str) -> None:
    with recording(there) as asked:
        assert said in refusal(lab_id=lab_id, confirm=ACCOUNT)
    assert asked == []


# -- where, and as whom ---------------------------------------------------------------------------


def test_a_region_is_chosen(there: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with recording(there) as asked:
        assert refusal().startswith("You chose no Region: set AWS_REGION, to us-east-1 for example")
    assert asked == []
    (tmp_path / "config").write_text("[default]\nregion = eu-north-1\n")
    assert "region   eu-north-1\n" in refusal()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert "region   eu-west-1\n" in refusal()
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    with opened() as lab:
        assert lab.region == lab.client("dynamodb").meta.region_name == "ap-south-1"


@pytest.mark.parametrize(
    ("region", "instead"),
    [
        ("eu-wset-1", "did you mean eu-west-1?"),
        ("us-gov-west-1", "did you mean us-west-1?"),
        ("mars", "us-east-1 is one, for example."),
        ("../etc", "us-east-1 is one, for example."),
    ],
)
def test_a_region_that_is_none(
    there: str, monkeypatch: pytest.MonkeyPatch, region: str, instead: str
) -> None:
    monkeypatch.setenv("AWS_REGION", region)
    with recording(there) as asked:
        assert refusal(confirm=ACCOUNT) == (
            f"AWS has no Region {region!r} with everything a lab needs: set AWS_REGION to another; "
            f"{instead}"
        )
    assert asked == []


def test_root_is_refused() -> None:
    with pytest.raises(LabError, match=f"root credentials of account {ACCOUNT}.*lab_utils policy"):
        check_fit(replace(ANNA, identity=f"arn:aws:iam::{ACCOUNT}:root"))
    check_fit(replace(ANNA, identity=f"arn:aws:iam::{ACCOUNT}:user/root"))


@pytest.mark.parametrize(
    "alias", ["prod", "acme-prod", "acme-production-eu", "live", "live2", "prd-7", "nonprod-prod"]
)
def test_a_production_account_is_refused(alias: str) -> None:
    with pytest.raises(LabError, match=f"Account {ACCOUNT} is called '{alias}'"):
        check_fit(replace(ANNA, alias=alias))


@pytest.mark.parametrize(
    "alias", ["", None, "sandbox", "product-catalog", "delivery", "acme-nonprod", "acme-non-prod"]
)
def test_other_accounts_are_not(alias: str | None) -> None:
    check_fit(replace(ANNA, alias=alias))


def test_the_alias_is_the_accounts_own(there: str) -> None:
    iam = boto3.client("iam")
    iam.create_account_alias(AccountAlias="acme-sandbox")
    assert f"account  {ACCOUNT}, acme-sandbox\n" in refusal()
    iam.delete_account_alias(AccountAlias="acme-sandbox")
    iam.create_account_alias(AccountAlias="acme-prod")
    assert "is called 'acme-prod', so it is a production account" in refusal(confirm=ACCOUNT)


def test_a_limit_of_ten_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with strict_aws(LAB_TEST_CONCURRENCY="10") as address:
        set_out(monkeypatch, tmp_path, **credentials(address))
        assert "! 10 concurrent executions of functions are unreserved." in refusal()


def test_who_may_not_read_the_alias_is_told_so(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    iam = boto3.client("iam")
    iam.create_user(UserName="anna")
    key = iam.create_access_key(UserName="anna")["AccessKey"]

    def allow(*actions: str) -> None:
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName="anna", PolicyName="own", PolicyDocument=document)

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    allow("dynamodb:*", "lambda:*", "sts:*")
    with permissions_that_count(there):
        said = refusal()
    assert f"account  {ACCOUNT}\n" in said
    assert f"arn:aws:iam::{ACCOUNT}:user/anna" in said
    assert "! You may not read the account's alias (iam:ListAccountAliases)" in said


# -- held to what was confirmed -------------------------------------------------------------------


def test_services_that_are_asked_at_different_places_are_refused(
    there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:8000")
    said = refusal(confirm=ACCOUNT)
    assert "dynamodb at http://127.0.0.1:8000" in said
    assert said.endswith("or set AWS_ENDPOINT_URL for all.")
    monkeypatch.delenv("AWS_ENDPOINT_URL_DYNAMODB")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", there)
    assert f"asked elsewhere than the rest (sts at {there})" in refusal(confirm=ACCOUNT)


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("https://dynamodb.eu-west-1.amazonaws.com", ""),
        ("https://vpce-1.sts.us-east-1.vpce.amazonaws.com:443/", ""),
        ("https://lambda.us-east-1.api.aws", ""),
        ("http://127.0.0.1:5000/x.amazonaws.com", "http://127.0.0.1:5000/x.amazonaws.com"),
    ],
)
def test_which_places_are_awss_own(endpoint: str, place: str) -> None:
    session = boto3.Session("anybody", "anything", region_name="us-east-1")
    assert place_of(session.client("sts", endpoint_url=endpoint)) == place


def test_a_place_that_is_set_later_is_refused(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = opened()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(LabError, match=rf"has changed since account {ACCOUNT} was confirmed: set"):
        lab.client("dynamodb")
    monkeypatch.setenv("AWS_ENDPOINT_URL", there)
    assert lab.client("dynamodb").list_tables()["TableNames"] == []


def test_a_client_of_another_region_is_refused(there: str) -> None:
    with pytest.raises(LabError, match=r"The lab is in us-east-1, .* region_name='eu-west-1' out"):
        opened().client("dynamodb", config=Config(region_name="eu-west-1"))
    same = opened().client("dynamodb", config=Config(region_name="us-east-1"))
    assert same.meta.region_name == "us-east-1"


def test_credentials_that_are_renewed_in_another_account_make_and_remove_nothing(
    there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore renews those that are about to expire from wherever they came."""
    sts = boto3.Session("anybody", "anything", region_name="us-east-1").client("sts")

    def renew(account: str) -> None:
        role = f"arn:aws:iam::{account}:role/reader"
        keys = sts.assume_role(RoleArn=role, RoleSessionName="reader")["Credentials"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["SecretAccessKey"])
        monkeypatch.setenv("AWS_SESSION_TOKEN", keys["SessionToken"])

    soon = datetime.now(UTC) + timedelta(minutes=12)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", soon.isoformat())
    renew(ACCOUNT)
    lab = opened()
    renew(ACCOUNT)
    table(lab.client("dynamodb"), lab.name("Orders"))
    renew("111111111111")
    for call in (lambda: table(lab.client("dynamodb"), lab.name("Others")), lab.close):
        with pytest.raises(LabError, match=rf"111111111111 by now, and {ACCOUNT} was confirmed"):
            call()
    renew(ACCOUNT)
    assert lab.client("dynamodb").list_tables()["TableNames"] == [lab.name("Orders")]
    lab.close()


# -- no credentials, no answer --------------------------------------------------------------------


def test_no_credentials(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert refusal(confirm=ACCOUNT) == (
        "Asking AWS who you are failed for want of credentials (Unable to locate credentials): log "
        "in with `aws login` or `aws sso login`, or name a profile in AWS_PROFILE."
    )


def test_half_of_the_credentials(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "for want of credentials (Partial credentials found in env" in refusal()


def test_a_profile_that_is_none(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    assert refusal() == (
        "Reading your AWS settings failed, for there is no profile 'nobodys': name one that `aws "
        "configure list-profiles` lists in AWS_PROFILE, or unset it."
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "ExpiredToken",
            (
                "Asking AWS who you are was refused, for your credentials have expired "
                "(ExpiredToken): log in with `aws login` or `aws sso login`, or name a profile in "
                "AWS_PROFILE, and open the lab again, which reads them anew."
            ),
        ),
        ("InvalidClientTokenId", "does not accept your credentials here (InvalidClientTokenId): "),
        ("SignatureDoesNotMatch", "the clock of this computer, and that the account has enabled t"),
        ("Throttling", "for the account asks AWS too often (Throttling), and asking again did not"),
        ("AccessDenied", "for you may not GetCallerIdentity: ask whoever administers the account"),
    ],
)
def test_what_an_identity_is_refused_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, said: str
) -> None:
    with refusing(code) as address:
        set_out(monkeypatch, tmp_path, AWS_MAX_ATTEMPTS="1", **credentials(address))
        assert said in refusal(confirm=ACCOUNT)


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        set_out(monkeypatch, tmp_path, AWS_MAX_ATTEMPTS="1", **credentials(address))
        said = refusal(confirm=ACCOUNT)
    assert said.startswith(f"Asking AWS who you are failed: no answer from {address}, given up ")
    assert "(EndpointConnectionError): check the network, a proxy in HTTPS_PROXY, and " in said


def test_somebody_listens_and_never_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        variables = {"AWS_MAX_ATTEMPTS": "1", "LAB_AWS_TIMEOUT": "0.2"}
        set_out(monkeypatch, tmp_path, **variables, **credentials(address))
        said = refusal(confirm=ACCOUNT)
    assert f"no answer from {address}, given up after 0 s (ReadTimeoutError)" in said


def test_how_long_and_how_often_clients_try(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def usual() -> tuple[Any, ...]:
        config = opened().client("sts").meta.config
        retries = config.retries
        return (
            config.connect_timeout,
            config.read_timeout,
            retries["mode"],
            retries["total_max_attempts"],
        )

    assert usual() == (5, 60, "standard", 5)
    monkeypatch.setenv("LAB_AWS_TIMEOUT", "1.5")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    assert usual() == (1.5, 1.5, "standard", 2)
    assert manners().read_timeout == 1.5


# -- refusals in words ----------------------------------------------------------------------------


def error(code: str, message: str = "", operation: str = "CreateTable") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


def said_of(problem: Exception, label: Label | None = None) -> str:
    with pytest.raises(LabError) as refused, explained("creating table Orders", label):
        raise problem
    return str(refused.value)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (
            error(
                "AccessDeniedException",
                f"User: arn:aws:iam::{ACCOUNT}:user/anna is not authorized to perform: "
                "dynamodb:CreateTable on resource: table/Orders because no identity-based policy "
                "allows the dynamodb:CreateTable action",
            ),
            (
                "Creating table Orders was refused, for you may not dynamodb:CreateTable: ask "
                "whoever administers the account for the policy that `python -m lab_utils "
                "policy` prints."
            ),
        ),
        (
            error(
                "AccessDenied",
                "User: anna is not authorized to perform: iam:CreateRole on resource: role R with "
                "an explicit deny in a service control policy",
            ),
            (
                "Creating table Orders was refused, for a policy denies you iam:CreateRole "
                "whatever another one allows: ask whoever administers the account."
            ),
        ),
        (
            error("AccessDenied", "Access Denied", "CreateBucket"),
            (
                "Creating table Orders was refused, for you may not CreateBucket: ask whoever "
                "administers the account for the policy that `python -m lab_utils policy` prints."
            ),
        ),
        (
            error("LimitExceededException", "Subscriber limit exceeded: 500 tables."),
            (
                "Creating table Orders was refused, for a quota of the account is used up "
                "(LimitExceededException: Subscriber limit exceeded: 500 tables): remove what "
                "is not needed, or ask Service Quotas for more."
            ),
        ),
        (
            error("TooManyRequestsException", "Rate exceeded"),
            (
                "Creating table Orders was refused, for the account asks AWS too often "
                "(TooManyRequestsException), and asking again did not help: wait a minute."
            ),
        ),
        (
            botocore.UnauthorizedSSOTokenError(),
            (
                "Creating table Orders failed, for you are not logged in (The SSO session "
                "associated with this profile has expired or is otherwise invalid. To refresh "
                "this SSO session run aws sso login with the corresponding profile): log in "
                "with `aws login` or `aws sso login`, or name a profile in AWS_PROFILE."
            ),
        ),
        (
            botocore.ConnectTimeoutError(endpoint_url="https://dynamodb.eu-west-1.amazonaws.com/"),
            (
                "Creating table Orders failed: no answer from "
                "https://dynamodb.eu-west-1.amazonaws.com, given up after 0 s "
                "(ConnectTimeoutError): check the network, a proxy in HTTPS_PROXY, and "
                "AWS_ENDPOINT_URL if it is set."
            ),
        ),
    ],
)
def test_refusals_in_words(problem: Exception, said: str) -> None:
    assert said_of(problem) == said


def test_a_reservation_that_leaves_too_little() -> None:
    """Fact E23."""
    said = said_of(
        error(
            "InvalidParameterValueException",
            "Specified ReservedConcurrentExecutions for function decreases account's "
            "UnreservedConcurrentExecution below its minimum value of [100].",
            "PutFunctionConcurrency",
        )
    )
    assert "ask Service Quotas for more" in said
    assert "connect(reserved_concurrency=None)" in said


def test_a_lab_that_has_made_something_says_what_becomes_of_it() -> None:
    said = said_of(error("AccessDenied"), LABEL)
    assert said.endswith(
        f"What {LABEL} has made so far stays: run the cell again and it goes on from there, or "
        "remove it with lab.close() or `python -m lab_utils sweep`."
    )


@pytest.mark.parametrize(
    "problem",
    [
        error("ResourceInUseException", "Table already exists: Orders"),
        error("InvalidParameterValueException", "The role cannot be assumed by Lambda."),
        botocore.ParamValidationError(report="no"),
        LabError("Somebody else has said it."),
    ],
)
def test_what_has_better_words_passes_unchanged(problem: Exception) -> None:
    with pytest.raises(type(problem)) as passed, explained("creating table Orders", LABEL):
        raise problem
    assert passed.value is problem


def test_whoever_presses_ctrl_c_does_not_wait_for_what_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even where calls that are made at once make calls at once."""
    monkeypatch.setenv("LAB_PROGRESS", "0")
    waiting, ended = threading.Event(), []

    def never() -> None:
        waiting.set()

    def wait() -> None:
        try:
            wait_until(WallClock(), never, timeout=60)
        except BaseException as why:
            ended.append(type(why))
            raise

    def press() -> None:
        waiting.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        at_once(lambda: at_once(wait, wait), wait, press)
    assert ended == [KeyboardInterrupt] * 3, "and not a TimeoutError"


def test_calls_made_at_once_wait_for_one_another() -> None:
    meeting = threading.Barrier(3, timeout=10)
    assert sorted(at_once(meeting.wait, meeting.wait, meeting.wait)) == [0, 1, 2]

    def refuse(text: str) -> None:
        raise LabError(text)

    with pytest.raises(LabError, match="the first"):
        at_once(lambda: 1, lambda: refuse("the first"), lambda: refuse("the second"))


# -- the other side -------------------------------------------------------------------------------


@contextmanager
def recording(address: str) -> Iterator[list[str]]:
    """Which operations a server was asked for meanwhile: filled when the block ends."""
    asked: list[str] = []
    _moto(address, "recorder/reset-recording")
    _moto(address, "recorder/start-recording")
    try:
        yield asked
    finally:
        _moto(address, "recorder/stop-recording")
        lines = _moto(address, "recorder/download-recording", method="GET").decode().splitlines()
        asked += [_operation(json.loads(line)) for line in lines]


def _operation(request: dict[str, Any]) -> str:
    body = base64.b64decode(request["body"]).decode(errors="replace")
    if target := request["headers"].get("X-Amz-Target"):
        return str(target.rpartition(".")[2])
    if action := re.match(r"Action=(\w+)", body):
        return action[1]
    path = re.sub(r"^\w+://[^/]+", "", request["url"])
    return f"{request['method']} {path}"


@contextmanager
def permissions_that_count(address: str) -> Iterator[None]:
    """Who may not do a thing is refused by the stand-in, until the block ends."""
    _moto(address, "reset-auth", b"0")
    try:
        yield
    finally:
        _moto(address, "reset-auth", b"inf")


def _moto(address: str, what: str, data: bytes = b"", method: str = "POST") -> bytes:
    request = urllib.request.Request(
        f"{address}/moto-api/{what}", data, {"Content-Type": "text/plain"}, method=method
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


@contextmanager
def refusing(code: str) -> Iterator[str]:
    """A server that refuses everything with this code; its address."""
    answer = f"<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>".encode()

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(403)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            self.headers["Content-Length"] = self.headers["Content-Length"] or "0"
            self.do_POST()

        def log_message(self, *_: Any) -> None:
            """In silence."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
