"""Trouble at every operation: what a reader is told, that the lab goes on, that nothing is left.

A proxy stands between the lab and AWS's strict stand-in (`faults`). It refuses a call, throttles it
for ever, lets credentials expire, or carries the call out and never answers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from botocore.retries import standard
from faults import DENIED, EXPIRED, HANGING, THROTTLED, Fault, Faults, Request, faults
from on_aws import NOTHING, Account, set_out
from strict_aws import forget_everything, strict_aws

import lab_utils as lu
from lab_utils import account, sweep
from lab_utils import pipeline as game
from lab_utils.errors import LabError
from lab_utils.lab import Lab

pytestmark = pytest.mark.slow

TOLD = {
    DENIED: r"you may not .*: ask whoever administers the account",
    THROTTLED: r"too often .*: wait a minute",
    EXPIRED: r"your credentials have expired .*: log in with",
    HANGING: r"no answer from http://127\.0\.0\.1:\d+, .*: check the network",
}
"""What failed, and the remedy."""
UNKNOWN = r"^Whether .* are left is not known: try again\.$"
"""What closing a lab says if something could not be listed."""
MAKING = re.compile(r" (Create|Put|POST|PUT)")
HELLO = "def handler(event, context): pass\n"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with strict_aws() as address:
        yield address


@pytest.fixture(scope="module")
def proxy(server: str) -> Iterator[Faults]:
    with faults(server) as running:
        yield running


@pytest.fixture(scope="module")
def reader(server: str) -> Account:
    return Account(server)


@pytest.fixture(scope="module")
def session() -> object:
    """Made once: a session reads what all services can do from files."""
    return account.open_session()


@pytest.fixture
def trouble(
    server: str,
    proxy: Faults,
    session: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Faults:
    """The way to an empty account, by which retries come at once."""
    forget_everything(server)
    set_out(monkeypatch, tmp_path, proxy.address, AWS_MAX_ATTEMPTS="2")
    monkeypatch.setattr(account, "open_session", lambda: session)
    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda *_: 0.0)
    monkeypatch.setattr(sweep, "WAITS", (0.0,))
    return proxy


def open_impatiently(lab_id: str | None = None) -> Lab:
    """A lab that waits for an answer for a moment only, and once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_AWS_TIMEOUT", "0.5")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        return lu.open_lab(lab_id=lab_id)


@pytest.fixture
def labs(trouble: Faults) -> dict[Fault, Lab]:
    """One lab, opened twice: impatiently for what hangs."""
    lab = lu.open_lab()
    assert lab.label is not None
    opened: list[Lab] = []
    while not opened:  # a machine may have other things to do, and answer late
        with suppress(LabError):
            opened.append(open_impatiently(lab.label.id))
    return {fault: opened[0] if fault is HANGING else lab for fault in TOLD}


def operations(trouble: Faults, act: Callable[[], object]) -> list[str]:
    """What an act calls where nothing goes wrong."""
    trouble.seen.clear()
    act()
    return sorted({request.kind for request in trouble.seen})


def suffer(trouble: Faults, fault: Fault, kind: str, act: Callable[[], object]) -> None:
    """A fault happens to one call of an operation while somebody acts.

    What they are told is a sentence with a remedy, or nothing has come of it. On a machine that has
    other things to do an impatient lab may give up before it comes to that call.
    """
    for _ in range(5):
        with trouble.armed(fault, lambda request: request.kind == kind):
            try:
                act()
            except LabError as problem:
                words = str(problem)
                assert re.search(TOLD[fault], words) or re.search(UNKNOWN, words), words
        if trouble.struck is not None:
            return
    raise AssertionError(f"{kind} was not called")


def test_a_lab_that_can_not_be_opened_says_why(trouble: Faults, reader: Account) -> None:
    for kind in operations(trouble, lu.open_lab):
        for fault in TOLD:
            suffer(trouble, fault, kind, open_impatiently if fault is HANGING else lu.open_lab)
    assert reader.inventory() == NOTHING


def test_a_pipeline_goes_on_after_trouble_and_leaves_nothing(
    trouble: Faults, labs: dict[Fault, Lab], reader: Account
) -> None:
    """Each operation that makes something meets one fault after the other in a lab that was empty,
    and then all of it is removed. The others meet them where everything is there already."""

    def put_up(fault: Fault = DENIED) -> None:
        game.deploy(labs[fault], shards=1).connect()

    every, again = operations(trouble, put_up), operations(trouble, put_up)
    making = [kind for kind in every if MAKING.search(kind) or kind not in again]
    assert len(making) == 11
    for kind in again:
        for fault in TOLD:
            suffer(trouble, fault, kind, partial(put_up, fault))
    lab = labs[DENIED]
    lab.reset()
    for kind in making:
        for fault in TOLD:
            suffer(trouble, fault, kind, partial(put_up, fault))
            if not MAKING.search(kind):  # it is asked once only, about what is new
                lab.reset()
        lab.reset()
        assert reader.inventory() == NOTHING, kind


def test_what_is_made_before_trouble_is_told_to_stay(
    trouble: Faults, labs: dict[Fault, Lab], reader: Account
) -> None:
    lab = labs[DENIED]
    assert lab.label is not None
    with (
        trouble.armed(EXPIRED, lambda request: request.kind == "lambda POST functions"),
        pytest.raises(LabError, match=f"What {lab.label.id} has made so far stays: run the cell"),
    ):
        game.deploy(lab, shards=1)
    assert reader.inventory()["roles"]
    lab.close()
    assert reader.inventory() == NOTHING


def one_of_each(lab: Lab) -> None:
    """The least that has everything to remove in it."""
    role = lab.role("Role", {"Effect": "Allow", "Action": "kinesis:*", "Resource": "*"})
    function = lab.deploy_function("Function", HELLO, role=role)
    lab.client("dynamodb").create_table(
        TableName=lab.name("Table"),
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    kinesis, name = lab.client("kinesis"), lab.name("Stream")
    kinesis.create_stream(StreamName=name, ShardCount=1)
    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    lab.client("lambda").create_event_source_mapping(
        FunctionName=function, EventSourceArn=summary["StreamARN"], StartingPosition="LATEST"
    )


def test_a_lab_is_removed_whatever_happens_at_its_end(
    trouble: Faults, labs: dict[Fault, Lab], reader: Account
) -> None:
    lab = labs[DENIED]
    one_of_each(lab)
    every = operations(trouble, lab.reset)
    assert len(every) >= 25
    for kind in every:
        one_of_each(lab)
        for fault in TOLD:
            suffer(trouble, fault, kind, labs[fault].reset)
        lab.reset()
        assert reader.inventory() == NOTHING, kind


def test_a_call_that_is_throttled_once_does_not_matter(
    trouble: Faults, labs: dict[Fault, Lab], reader: Account
) -> None:
    met: set[str] = set()

    def first(request: Request) -> bool:
        new = request.kind not in met
        met.add(request.kind)
        return new

    lab = labs[DENIED]
    with trouble.armed(THROTTLED, first, lasts=False):
        game.deploy(lab, shards=1).connect()
        assert len(met) >= 16
        lab.close()
    assert reader.inventory() == NOTHING


@pytest.mark.skipif(
    not os.environ.get("LAB_TEST_EVERY_CALL"),
    reason="a lab's whole life again for each of its calls takes a quarter of an hour",
)
@pytest.mark.parametrize("fault", TOLD, ids=["denied", "throttled", "expired", "hanging"])
def test_every_single_call_of_a_labs_life(
    trouble: Faults, reader: Account, server: str, fault: Fault
) -> None:
    """What the tests above do to every operation is done to every call, and nothing before it."""
    open_lab = open_impatiently if fault is HANGING else lu.open_lab

    def live() -> None:
        with open_lab() as lab:
            game.deploy(lab, shards=1).connect()

    trouble.seen.clear()
    live()
    for number in range(len(trouble.seen)):
        calls = count()
        with trouble.armed(fault, lambda _, n=number, calls=calls: next(calls) == n):
            try:
                live()
            except LabError as problem:
                words = str(problem)
                assert re.search(TOLD[fault], words) or re.search(UNKNOWN, words), words
        lu.open_lab().close()
        assert reader.inventory() == NOTHING, (number, str(trouble.struck))
        forget_everything(server)
