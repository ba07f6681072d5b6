"""Mistakes that readers make: each gets AWS's error, or one sentence with the remedy."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from running import COLLECTOR, code_of, connect, function, got, invoke, send, stream, table

import lab_utils as lu
from lab_utils.errors import LabClosed, LabError, NotOnThisTarget


def sentence(caught):
    """The message of a LabError: one sentence or two, on one line."""
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


# -- targets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [True, False])
def test_an_unknown_target(monkeypatch, by_name):
    monkeypatch.setenv("LAB_TARGET", "embedded" if by_name else "mars")
    with pytest.raises(LabError) as caught:
        lu.open_lab("mars" if by_name else None)
    assert sentence(caught) == (
        "There is no target 'mars': use embedded, localstack or aws, as an "
        "argument of open_lab or in LAB_TARGET."
    )


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "LOCALSTACK_HOST"])
def test_a_localstack_that_is_not_there(monkeypatch, variable):
    port = closed_port()
    for name in ("AWS_ENDPOINT_URL", "LOCALSTACK_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(
        variable, ("http://" if variable == "AWS_ENDPOINT_URL" else "") + f"127.0.0.1:{port}"
    )
    monkeypatch.setenv("LAB_TARGET", "localstack")
    began = time.monotonic()
    with pytest.raises(LabError) as caught:
        lu.open_lab()
    text = sentence(caught)
    assert text.startswith(f"Nothing answers at http://127.0.0.1:{port} (Connection refused): ")
    for remedy in (
        "docker compose up -d",
        "AWS_ENDPOINT_URL",
        "LOCALSTACK_HOST",
        "LAB_TARGET=embedded",
    ):
        assert remedy in text
    assert time.monotonic() - began < 5


def test_something_that_is_no_localstack(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def mumble():
            talk, _ = server.accept()
            with talk:
                talk.recv(1000)
                talk.sendall(b"220 mail.example ready\r\n\r\n")

        mumbling = threading.Thread(target=mumble)
        mumbling.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(LabError, match="it speaks no HTTP"):
            lu.open_lab("localstack")
        mumbling.join()


@pytest.mark.parametrize("address", ["nonsense", "http://", "http://[::1"])
def test_an_address_that_is_none(monkeypatch, address):
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    with pytest.raises(LabError, match="name LocalStack's in AWS_ENDPOINT_URL"):
        lu.open_lab("localstack")


def test_physics_on_a_target_that_has_its_own(monkeypatch):
    with pytest.raises(NotOnThisTarget) as caught:
        lu.open_lab("localstack", physics=lu.Physics())
    assert "LAB_TARGET=embedded" in sentence(caught)


@pytest.mark.parametrize(
    "wrong", [{"retention": -1}, {"rollover": (5, 4)}, {"rollover": 5}, {"retention": "a day"}]
)
def test_physics_that_can_not_be(wrong):
    with pytest.raises(LabError) as caught:
        lu.Physics(**wrong)
    assert next(iter(wrong)) in sentence(caught)


@pytest.mark.parametrize("physics", [{"retention": 60}, 100, "fast"])
def test_physics_that_are_none(physics):
    with pytest.raises(LabError, match="Physics"):
        lu.open_lab("embedded", physics=physics)


# -- a lab --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ec2", "DynamoDB", "dynamo", ""])
def test_an_unknown_service(lab, name):
    with pytest.raises(LabError) as caught:
        lab.client(name)
    assert sentence(caught).startswith(f"The lab has no service {name!r}: it has dynamodb, ")


def test_a_closed_lab(lab):
    lab.close()
    with pytest.raises(LabClosed) as caught:
        lab.client("dynamodb")
    assert sentence(caught) == "This lab is closed: open another with open_lab()."


def test_tables_and_streams_that_are_not_there(lab):
    dynamodb, streams, kinesis = lab.clients("dynamodb", "dynamodbstreams", "kinesis")
    arn = "arn:aws:dynamodb:us-east-1:123456789012:table/T/stream/2026-01-01T00:00:00.000"
    for call in (
        lambda: dynamodb.put_item(TableName="T", Item={"id": {"S": "1"}}),
        lambda: dynamodb.describe_table(TableName="T"),
        lambda: streams.describe_stream(StreamArn=arn),
        lambda: kinesis.put_record(StreamName="S", Data=b"", PartitionKey="k"),
        lambda: lab.client("lambda").invoke(FunctionName="F"),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert code_of(caught)[1] == "ResourceNotFoundException"


def test_a_cell_that_is_run_twice(lab):
    table(lab)
    with pytest.raises(ClientError) as caught:
        table(lab)
    assert code_of(caught) == (400, "ResourceInUseException")
    stream(lab)
    with pytest.raises(ClientError) as caught:
        stream(lab)
    assert code_of(caught) == (400, "ResourceInUseException")


def test_a_call_with_wrong_parameters(lab):
    with pytest.raises(ParamValidationError, match="Unknown parameter in input"):
        lab.client("kinesis").put_record(Stream="S", Data=b"", PartitionKey="k")


# -- functions ----------------------------------------------------------------------------------


def cell(text, name):
    """A function as a notebook's cell defines it."""
    import linecache

    file = f"<ipython-input-{abs(hash(text))}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names = {"__name__": "__main__"}
    exec(compile(text, file, "exec"), names)
    return names[name]


def test_a_cell_function_that_uses_names_of_other_cells(lab):
    role = lab.role("Role")
    handler = cell("def handler(event, context):\n    return json.dumps(RATE)\n", "handler")
    with pytest.raises(LabError) as caught:
        lab.deploy_function("F", handler, role=role)
    assert str(caught.value) == (
        "handler uses RATE, json, which are not in its cell: put them there"
    )
    assert lab.client("lambda").list_functions()["Functions"] == []
    whole = "import json\nRATE = 4\ndef handler(event, context):\n    return json.dumps(RATE)\n"
    lab.deploy_function("F", cell(whole, "handler"), role=role)
    assert invoke(lab, "F")["answer"] == "4"


def test_a_cell_that_is_changed_and_deployed_again(lab):
    role = lab.role("Role")
    for rate in (4, 5):
        text = f"RATE = {rate}\ndef handler(event, context):\n    return RATE\n"
        lab.deploy_function("F", cell(text, "handler"), role=role)
        assert invoke(lab, "F")["answer"] == rate


@pytest.mark.parametrize("handler", ["nowhere.py", "no/such/folder/app.py", ""])
def test_a_path_that_does_not_exist(lab, handler):
    with pytest.raises(LabError, match="There is no file"):
        lab.deploy_function("F", handler, role=lab.role("Role"))


def test_a_handler_that_computes_for_ever(lab, monkeypatch):
    monkeypatch.setattr("lab_utils.emulator.scheduler.COMPUTING_LIMIT", 0.3)
    function(lab, "def handler(event, context):\n    while True:\n        pass\n")
    answer = invoke(lab)
    assert answer["answer"]["errorType"] == "GuestOverrun"
    assert "seconds of real time" in answer["answer"]["errorMessage"]
    function(lab, "def handler(event, context):\n    return 1\n")
    assert invoke(lab)["answer"] == 1


def test_the_lab_inside_its_own_callbacks(lab):
    def impatient():
        lab.clock.advance(seconds=1)
        return True

    assert lab.wait_until(impatient), "a predicate runs in the cell, so it may"


# -- Ctrl-C -------------------------------------------------------------------------------------

BUSY = """
    import boto3, time
    dynamodb = boto3.client("dynamodb")

    def handler(event, context):
        import base64
        for record in event["Records"]:
            key = base64.b64decode(record["kinesis"]["data"]).decode()
            dynamodb.put_item(TableName="Result", Item={"id": {"S": key}})
            sum(range(2000))
"""


class Pestering:
    """Presses Ctrl-C again and again, at moments that nobody foresees."""

    def __init__(self, times):
        self._times, self.pressed = times, 0
        self._thread = threading.Thread(target=self._press)

    def _press(self):
        for number in range(self._times):
            time.sleep(0.003 + 0.011 * (number * 7 % 13) / 13)
            self.pressed += 1
            os.kill(os.getpid(), signal.SIGINT)

    def __enter__(self):
        self._thread.start()
        return self

    @property
    def over(self):
        return not self._thread.is_alive()

    def __exit__(self, *_):
        while True:
            try:
                self._thread.join()
                time.sleep(0.01)
                return
            except KeyboardInterrupt:
                pass


def test_ctrl_c_in_a_burst_loses_nothing(lab):
    table(lab, "Result")
    arn = stream(lab, shards=4)
    function(lab, BUSY, timeout=60)
    connect(lab, arn, BatchSize=10)
    sent, heard, number = 0, 0, 0
    with Pestering(60) as nuisance:
        while not nuisance.over:
            try:
                while not nuisance.over:
                    send(lab, *[f"{number}-{each}" for each in range(10)])
                    number += 1
                    sent += 10
            except KeyboardInterrupt:
                heard += 1
    assert nuisance.pressed == 60
    assert heard > 20, "Ctrl-C reaches the cell"
    assert sent > 100
    for each in range(4):
        lab.client("kinesis").put_record(
            StreamName="Stream",
            PartitionKey="k",
            ExplicitHashKey=str(each * 2**126),
            Data=f"last-{each}".encode(),
        )
    lab.clock.advance(minutes=10)
    kept = set()
    for page in lab.client("dynamodb").get_paginator("scan").paginate(TableName="Result"):
        kept |= {item["id"]["S"] for item in page["Items"]}
    wanted = {f"{n}-{each}" for n in range(number) for each in range(10)}
    assert wanted <= kept
    assert {f"last-{each}" for each in range(4)} <= kept, "each shard's poller is alive"
    functions = lab._target.world.region("us-east-1").functions
    assert functions.find("Worker").running == 0, "no invocation was left hanging"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_stops_a_wait_and_the_lab_goes_on(lab):
    arn = stream(lab)
    function(lab, COLLECTOR)
    connect(lab, arn)
    pressing = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        lab.wait_until(lambda: False, timeout=10**9)
    pressing.join()
    send(lab, "after")
    lab.clock.advance(seconds=5)
    assert got(lab) == ["after"]


def test_ctrl_c_breaks_off_an_attempt_and_the_batch_comes_again(lab):
    arn = stream(lab)
    function(
        lab,
        """
        import os

        def handler(event, context):
            print("GOT", context.aws_request_id)
            while "LOOP" in os.environ:
                pass
    """,
        environment={"LOOP": "1"},
        timeout=60,
    )
    connect(lab, arn)
    send(lab, "a")
    pressing = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        lab.clock.advance(seconds=5)
    pressing.join()
    lab.client("lambda").update_function_configuration(
        FunctionName="Worker", Environment={"Variables": {}}
    )
    lab.clock.advance(seconds=30)
    assert list(lab.invocations()["outcome"]) == ["error", "ok"]
    assert len(got(lab)) == 2
