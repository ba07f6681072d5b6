"""`python -m lab_utils watch`: as a command, against servers, killed and interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from on_aws import set_out
from running import ROOT
from serving import serving
from strict_aws import forget_everything, strict_aws

from lab_utils.__main__ import main
from lab_utils.recordings import Recording, read_recording, recording_in

pytestmark = pytest.mark.slow

A_FEW = ("--every", "0.2", "--hours", "0.0003")
"""A second of real time or two."""
STREAM = {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    with strict_aws() as address:
        yield address


@pytest.fixture
def reader(aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The environment of a reader in an empty folder, with an account of their own."""
    settle(monkeypatch, aws, tmp_path)
    yield aws
    forget_everything(aws)


def settle(monkeypatch: pytest.MonkeyPatch, address: str, folder: Path) -> None:
    set_out(monkeypatch, folder, address)
    monkeypatch.chdir(folder)


def make_table(name: str, **settings: Any) -> dict[str, Any]:
    made = boto3.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        **settings,
    )
    return dict(made["TableDescription"])


def watch(*options: str) -> subprocess.Popen[str]:
    """The command, in a process of its own, with this one's environment."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "lab_utils", "watch", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def wait_for_looks(process: subprocess.Popen[str], path: Path, count: int) -> Recording:
    """Until the file holds so many looks."""
    while process.poll() is None:
        recording = recording_in(path.read_bytes(), path) if path.exists() else None
        if recording and len(recording.looks) >= count:
            return recording
        time.sleep(0.02)
    raise AssertionError(process.communicate())


# --- what it does -----------------------------------------------------------------------------


def test_a_table_is_watched_by_its_name(reader: str, capfd: Any) -> None:
    make_table("Orders", StreamSpecification=STREAM)
    assert main(["watch", "Orders", *A_FEW]) == 0
    said = capfd.readouterr()
    recording = read_recording("recording.jsonl")
    assert (recording.target, recording.header.region) == ("other", None)
    assert len(recording.looks) >= 2
    assert len(recording.lives) == 1
    assert "A look every 0.2 s for 0.0003 h, into recording.jsonl. Ctrl-C" in said.out
    assert f"recording.jsonl: {recording}" in said.out
    assert said.err == ""
    assert "Orders" not in Path("recording.jsonl").read_text()


def test_a_stream_is_watched_by_its_arn_wherever_you_are(
    reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = make_table("Orders", StreamSpecification=STREAM)["LatestStreamArn"]
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert main(["watch", arn, *A_FEW, "--tell-region", "--output", "a.jsonl"]) == 0
    assert read_recording("a.jsonl").header.region == "us-east-1"


def test_localstack_is_watched_where_it_listens(
    elsewhere: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settle(monkeypatch, elsewhere, tmp_path)
    make_table("WatchedOrders", StreamSpecification=STREAM)
    try:
        assert main(["watch", "WatchedOrders", *A_FEW, "--target", "localstack"]) == 0
        recording = read_recording("recording.jsonl")
        assert (recording.target, len(recording.lives)) == ("other", 1)
        assert recording.lifetimes.born.isna().all(), "its ids tell no time"
    finally:
        boto3.client("dynamodb").delete_table(TableName="WatchedOrders")


def test_the_served_lab_is_watched_in_its_own_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At an hour a second, a look every tenth of a second is one every six minutes."""
    with serving("--speed", "3600") as lab:
        settle(monkeypatch, lab.address, tmp_path)
        make_table("Orders", StreamSpecification=STREAM)
        assert main(["watch", "Orders", "--every", "0.1", "--hours", "6"]) == 0
    recording = read_recording("recording.jsonl")
    assert recording.hours >= 6
    frame = recording.lifetimes
    assert len(frame) >= 8
    assert frame.closed_before.notna().sum() >= 4
    seen = frame[frame.opened_after.notna()]
    assert ((seen.opened_after <= seen.born) & (seen.born <= seen.opened_before)).all()


# --- how it ends ------------------------------------------------------------------------------


def test_killed_it_goes_on_where_it_broke_off(reader: str, tmp_path: Path) -> None:
    make_table("Orders", StreamSpecification=STREAM)
    path = tmp_path / "recording.jsonl"
    process = watch("Orders", "--every", "0.1")
    wait_for_looks(process, path, 3)
    process.kill()
    process.communicate()
    before = path.read_bytes()
    path.write_bytes(before + b'{"at":"2026-')
    again = watch("Orders", "--every", "0.1")
    recording = wait_for_looks(again, path, before.count(b"\n") + 2)
    again.kill()
    again.communicate()
    assert path.read_bytes().startswith(before + b'{"at":')
    assert b'{"at":"2026-{' not in path.read_bytes()
    assert len(recording.lives) == 1
    assert sum("shards" in json.loads(line) for line in before.splitlines()) == 1


def test_ctrl_c_ends_it_politely(reader: str, tmp_path: Path) -> None:
    make_table("Orders", StreamSpecification=STREAM)
    process = watch("Orders", "--every", "0.1")
    wait_for_looks(process, tmp_path / "recording.jsonl", 2)
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=30)
    recording = read_recording(tmp_path / "recording.jsonl")
    assert process.returncode == 0
    assert said.splitlines()[-2:] == ["Stopped.", f"recording.jsonl: {recording}"]
    assert f"{len(recording.looks)} looks" in said
    assert complaints == ""


def test_what_it_says_while_it_waits(reader: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("LAB_PROGRESS", "1")
    make_table("Orders", StreamSpecification=STREAM)
    process = watch("Orders", "--every", "100", "--hours", "1")
    wait_for_looks(process, tmp_path / "recording.jsonl", 1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, bar = process.communicate(timeout=30)
    assert "of 36, shards seen: 1, next look at " in bar
    assert "UTC" in bar


def test_where_nothing_can_be_seen_nothing_is_begun(reader: str, tmp_path: Path) -> None:
    process = watch("Orders")
    said, complaints = process.communicate(timeout=60)
    assert (process.returncode, said) == (2, "")
    assert complaints.startswith("There is no table 'Orders' in us-east-1")
    assert not (tmp_path / "recording.jsonl").exists()


# --- what it refuses --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "Say what to watch: a table's name, or the ARN"),
        (["Nope"], "There is no table 'Nope' in us-east-1 in this account: give"),
        (["a"], "There is no table 'a' in us-east-1"),
        (["Plain"], "Table Plain has no stream: switch it on with `aws dynamodb update-table"),
        (["Orders", "--region", "eu-west-1"], "There is no table 'Orders' in eu-west-1"),
        (["Orders", "--region", "eu-wast-1"], "did you mean eu-west-1?"),
        (["Orders", "--every", "0"], "every=0.0 must be a number above zero"),
        (["Orders", "--hours", "nan"], "hours=nan must be a number above zero"),
        (["Orders", "--output", "diary.txt"], "diary.txt is no recording, as its line 1 shows"),
        (["Orders", "--output", "no/folder.jsonl"], "no/folder.jsonl cannot be written"),
        (["arn:aws:dynamodb:us-east-1:123456789012:table/Orders/stream/now"], "names no stream"),
        (["--check", "diary.txt"], "diary.txt is no recording"),
        (["--check", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
    ],
)
def test_what_cannot_be_watched_is_said_in_a_sentence(
    reader: str, capsys: Any, options: list[str], words: str
) -> None:
    make_table("Plain")
    make_table("Orders", StreamSpecification=STREAM)
    Path("diary.txt").write_text("dear diary\n")
    assert main(["watch", *options]) == 2
    assert words in capsys.readouterr().err
    assert Path("diary.txt").read_text() == "dear diary\n"
    assert not Path("recording.jsonl").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "no answer from http://127.0.0.1:1"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "for want of credentials"),
        ({"AWS_PROFILE": "nobody"}, "there is no profile 'nobody'"),
        ({"AWS_DEFAULT_REGION": ""}, "You chose no Region"),
    ],
)
def test_whoever_cannot_reach_aws_is_told_why(
    reader: str, capsys: Any, monkeypatch: pytest.MonkeyPatch, settings: Any, words: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name, value in settings.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    assert main(["watch", "Orders"]) == 2
    assert words in capsys.readouterr().err


def test_a_file_is_checked_without_any_aws(capsys: Any, sealed: Any) -> None:
    file = str(ROOT / "book" / "recordings" / "the-model.jsonl")
    assert main(["watch", "--check", file, file]) == 0
    line = f"{file}: <recording (embedded): 290 looks in 24.0 h, 53 shards seen>\n"
    assert capsys.readouterr().out == 2 * line
