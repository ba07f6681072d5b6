"""Virtual time: order, overlap, ends and interruptions."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import lab_utils as lu
from lab_utils.emulator import scheduler as scheduling
from lab_utils.emulator.scheduler import GuestEnded, GuestOverrun, Scheduler, current_guest
from lab_utils.errors import LabClosed, LabError
from lab_utils.lab import Lab

SECOND = 1_000_000
START = 1_767_603_600 * SECOND
ALLOW_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


class Owner:
    """Whoever a guest belongs to; nothing here is asked of it."""


@pytest.fixture
def world() -> Iterator[Scheduler]:
    made = Scheduler(START)
    yield made
    made.close()


def interrupt() -> None:
    """Ctrl-C, at this very moment."""
    os.kill(os.getpid(), signal.SIGINT)


def since_start(world: Scheduler) -> float:
    return (world.now - START) / SECOND


# -- order and time -----------------------------------------------------------------------------


def test_things_happen_in_the_order_of_their_moments(world: Scheduler) -> None:
    seen: list[tuple[str, float]] = []
    for name, delay in (("late", 5), ("early", 1), ("first of two", 3), ("second of two", 3)):
        world.after(delay * SECOND, lambda n=name: seen.append((n, since_start(world))))
    world.run(START + 4 * SECOND)
    assert seen == [("early", 1), ("first of two", 3), ("second of two", 3)]
    assert world.now == START + 4 * SECOND, "time passes even where nothing happens"
    world.run(START + 5 * SECOND)
    assert seen[-1] == ("late", 5)


def test_running_into_the_past_changes_nothing(world: Scheduler) -> None:
    world.run(START + SECOND)
    world.run(START)
    assert world.now == START + SECOND


def test_sleep_passes_exactly_so_much_time(world: Scheduler) -> None:
    for seconds in (1.5, 0.000001, 0):
        world.sleep(seconds)
    assert world.now == START + 1_500_001
    with pytest.raises(ValueError, match="non-negative"):
        world.sleep(-1)


def test_ten_thousand_small_sleeps_lose_nothing(world: Scheduler) -> None:
    for _ in range(10_000):
        world.sleep(0.1)
    assert world.now == START + 1000 * SECOND


def test_time_cannot_be_moved_from_within_itself(world: Scheduler) -> None:
    told: list[str] = []

    def meddle() -> None:
        try:
            world.sleep(1)
        except LabError as refused:
            told.append(str(refused))

    world.after(1, meddle)
    world.run(START + SECOND)
    assert len(told) == 1
    assert "while it is being moved" in told[0]
    world.sleep(1)


def test_waiting_for_what_never_happens_is_told(world: Scheduler) -> None:
    with pytest.raises(LabError, match="would never end"):
        world.wait(lambda resume: None)
    world.sleep(1)


@pytest.mark.parametrize("move", [lambda world: world.sleep(1), lambda world: world.run(world.now)])
def test_a_foreign_thread_cannot_move_time(
    world: Scheduler, move: Callable[[Scheduler], Any]
) -> None:
    told: list[str] = []

    def work() -> None:
        try:
            move(world)
        except LabError as refused:
            told.append(str(refused))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(told) == 1
    assert "Only the thread that opened the lab" in told[0]


def test_the_clock_of_a_lab_goes_forward_only(lab: Lab) -> None:
    before = lab.clock.now()
    with pytest.raises(LabError, match="Time cannot go back by 1:00:00"):
        lab.clock.advance(hours=-1)
    with pytest.raises(LabError, match="Time cannot go back"):
        lab.clock.advance(hours=1, seconds=-3601)
    assert lab.clock.now() == before
    assert (lab.clock.advance(hours=1, minutes=1, seconds=1) - before).total_seconds() == 3661


def test_other_threads_run_while_virtual_time_runs(world: Scheduler) -> None:
    ticks, over = [], threading.Event()

    def tick() -> None:
        while not over.is_set():
            ticks.append(1)
            time.sleep(0.001)

    def again() -> None:
        world.after(1, again)

    again()
    thread = threading.Thread(target=tick)
    thread.start()
    ends = time.perf_counter() + 0.3
    while time.perf_counter() < ends:
        world.run(world.now + 2000)
    over.set()
    thread.join()
    assert len(ticks) > 5


# -- guests -------------------------------------------------------------------------------------


def test_guests_overlap(world: Scheduler) -> None:
    seen: list[tuple[str, float]] = []

    def work(name: str, nap: float) -> Callable[[], str]:
        def run() -> str:
            for _ in range(2):
                world.sleep(nap)
                seen.append((name, since_start(world)))
            return name

        return run

    one, two = world.start(work("one", 2), Owner()), world.start(work("two", 3), Owner())
    assert world.run(two.done) == "two"
    assert seen == [("one", 2), ("two", 3), ("one", 4), ("two", 6)]
    assert one.done.value == "one"


def test_a_guest_that_never_waits_is_done_at_once(world: Scheduler) -> None:
    guest = world.start(lambda: "answer", Owner())
    assert guest.done.value == "answer"
    assert world.now == START


def test_who_is_running(world: Scheduler) -> None:
    seen: list[Any] = []

    def work() -> None:
        seen.append(current_guest())
        world.sleep(1)
        seen.append(current_guest())

    guest = world.start(work, Owner())
    assert current_guest() is None
    world.run(guest.done)
    assert seen == [guest, guest]


def test_what_a_guest_prints_is_its_own(
    world: Scheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = {"one": io.StringIO(), "two": io.StringIO()}

    def work(name: str) -> None:
        for number in range(3):
            print(name, number)
            print("also", name, file=sys.stderr)
            world.sleep(1)

    for name, log in logs.items():
        world.start(lambda n=name: work(n), Owner(), log)
    print("the cell")
    world.run(START + 10 * SECOND)
    assert logs["one"].getvalue() == "".join(f"one {n}\nalso one\n" for n in range(3))
    assert logs["two"].getvalue() == "".join(f"two {n}\nalso two\n" for n in range(3))
    assert capsys.readouterr() == ("the cell\n", "")


def test_a_guest_may_run_an_event_loop_inside_another(world: Scheduler) -> None:
    async def inner() -> str:
        world.sleep(1)
        await asyncio.sleep(0)
        return "inner"

    async def cell() -> Any:
        guest = world.start(lambda: asyncio.run(inner()), Owner())
        answer = world.run(guest.done)
        assert asyncio.get_running_loop()
        return answer

    assert asyncio.run(cell()) == "inner"
    assert asyncio._get_running_loop() is None


def test_an_abandoned_guest_is_never_resumed(world: Scheduler) -> None:
    seen: list[str] = []

    def work() -> None:
        try:
            world.sleep(5)
            seen.append("resumed")
        finally:
            seen.append("finally")

    guest = world.start(work, Owner())
    world.run(START + SECOND)
    world.abandon(guest)
    world.run(START + 100 * SECOND)
    assert seen == []
    assert not guest.done.triggered
    world.close()
    assert seen == ["finally"], "only the end of the lab unwinds it"


# -- Ctrl-C -------------------------------------------------------------------------------------


def poller(world: Scheduler, ticks: list[int]) -> None:
    def tick() -> None:
        ticks.append(world.now)
        world.after(SECOND, tick)

    world.after(SECOND, tick)


def test_ctrl_c_between_events_stops_the_cell_and_nothing_else(world: Scheduler) -> None:
    ticks: list[int] = []
    poller(world, ticks)
    world.after(2_500_000, interrupt)
    with pytest.raises(KeyboardInterrupt):
        world.run(START + 10 * SECOND)
    assert since_start(world) < 4
    world.run(START + 10 * SECOND)
    assert len(ticks) == 10, "no tick is lost"


def test_ctrl_c_at_the_very_last_event_is_not_lost(world: Scheduler) -> None:
    world.after(SECOND, interrupt)
    with pytest.raises(KeyboardInterrupt):
        world.run(START + SECOND)
    world.run(START + 2 * SECOND)


def test_ctrl_c_is_told_once(world: Scheduler) -> None:
    world.after(SECOND, lambda: [interrupt(), interrupt()])
    with pytest.raises(KeyboardInterrupt):
        world.run(START + 5 * SECOND)
    world.run(START + 5 * SECOND)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_inside_a_guest_ends_its_attempt_and_stops_the_cell(world: Scheduler) -> None:
    ticks: list[int] = []
    poller(world, ticks)

    def work() -> str:
        try:
            world.sleep(1.5)
            interrupt()
            return "went on"
        except KeyboardInterrupt:
            return "interrupted"

    guest = world.start(work, Owner())
    with pytest.raises(KeyboardInterrupt):
        world.run(START + 10 * SECOND)
    world.run(START + 10 * SECOND)
    assert guest.done.value == "interrupted"
    assert len(ticks) == 10


def test_ctrl_c_outside_of_a_guests_own_try_still_gives_an_outcome(world: Scheduler) -> None:
    def work() -> str:
        world.sleep(1)
        interrupt()
        return "went on"

    guest = world.start(work, Owner())
    with pytest.raises(KeyboardInterrupt):
        world.run(guest.done)
    world.run(START + 2 * SECOND)
    assert isinstance(guest.done.value, KeyboardInterrupt), "whoever waits for it is told"


def test_what_is_critical_is_not_cut(world: Scheduler) -> None:
    seen: list[str] = []

    def work() -> str:
        world.critical += 1
        interrupt()
        seen.append("first half")
        seen.append("second half")
        world.critical -= 1
        return "done"

    guests = []
    world.after(1, lambda: guests.append(world.start(work, Owner())))
    with pytest.raises(KeyboardInterrupt):
        world.run(START + SECOND)
    world.run(START + SECOND)
    assert seen == ["first half", "second half"]
    assert guests[0].done.value == "done"


PIPELINE = """
import ctypes, time, boto3
table = boto3.resource("dynamodb").Table("Sums")

def interrupt():
    libc = ctypes.CDLL(None)  # a handler's own `os` sends no signals
    libc.kill(libc.getpid(), 2)

def handler(event, context):
    for record in event["Records"]:
        if record["dynamodb"]["Keys"]["id"]["S"] == "stop":
            if not table.get_item(Key={"id": "stopped"}).get("Item"):
                table.put_item(Item={"id": "stopped"})
                interrupt()
    time.sleep(0.01)
    table.update_item(Key={"id": "n"}, UpdateExpression="ADD n :n",
                      ExpressionAttributeValues={":n": len(event["Records"])})
"""


def build_pipeline(lab: Lab) -> None:
    dynamodb = lab.client("dynamodb")
    options: dict[str, Any] = {
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    }
    dynamodb.create_table(TableName="Sums", **options)
    made = dynamodb.create_table(
        TableName="Source",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        **options,
    )
    lab.deploy_function("Sum", PIPELINE, role=lab.role("Sum", ALLOW_ALL), timeout=10)
    lab.client("lambda").create_event_source_mapping(
        FunctionName="Sum",
        EventSourceArn=made["TableDescription"]["LatestStreamArn"],
        StartingPosition="TRIM_HORIZON",
        BatchSize=10,
    )
    lab.clock.advance(seconds=20)


def total(lab: Lab) -> int:
    found = lab.client("dynamodb").get_item(TableName="Sums", Key={"id": {"S": "n"}})
    return int(found.get("Item", {"n": {"N": "0"}})["n"]["N"])


def put_source(lab: Lab, key: str) -> None:
    lab.client("dynamodb").put_item(TableName="Source", Item={"id": {"S": key}})


def test_ctrl_c_inside_a_handler_loses_no_record_and_no_poller(lab: Lab) -> None:
    build_pipeline(lab)
    for number in range(30):
        put_source(lab, f"key-{number}")
    put_source(lab, "stop")
    with pytest.raises(KeyboardInterrupt):
        lab.clock.advance(minutes=1)
    lab.clock.advance(minutes=1)
    assert total(lab) == 31
    for number in range(30):
        put_source(lab, f"more-{number}")
    lab.clock.advance(minutes=1)
    assert total(lab) == 61, "every shard still has its poller"
    errors = lab.invocations("Sum").query("outcome == 'error'")
    assert len(errors) == 1


def test_ctrl_c_anywhere_in_a_burst(lab: Lab) -> None:
    """Interrupted at many wall-clock moments, the world goes on and loses nothing."""
    build_pipeline(lab)
    interrupted = 0
    for round_number in range(25):
        timer = threading.Timer(0.002 + 0.0007 * round_number, interrupt)
        try:
            timer.start()
            for number in range(8):
                put_source(lab, f"{round_number}-{number}")
            lab.clock.advance(seconds=2)
            timer.join()
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
    lab.clock.advance(minutes=5)
    written = len(lab.client("dynamodb").scan(TableName="Source")["Items"])
    assert interrupted > 5
    assert total(lab) >= written, "at least once: an attempt that was cut is made again"
    before = total(lab)
    for number in range(40):
        put_source(lab, f"after-{number}")
    lab.clock.advance(minutes=1)
    assert total(lab) == before + 40, "every shard still has its poller"


# -- guests without end -------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest may compute for a twentieth of a second only."""
    monkeypatch.setattr(scheduling, "COMPUTING_LIMIT", 0.05)
    monkeypatch.setattr(scheduling, "LIMIT_AGAIN", 0.02)


@pytest.mark.usefixtures("impatient")
def test_a_guest_that_computes_without_end_is_stopped(world: Scheduler) -> None:
    def work() -> str:
        try:
            while True:
                pass
        except GuestOverrun as stopped:
            return str(stopped)

    world.after(1, lambda: seen.append(world.start(work, Owner())))
    seen: list[Any] = []
    world.run(START + SECOND)
    assert "seconds of real time without calling AWS or sleeping" in seen[0].done.value


@pytest.mark.usefixtures("impatient")
def test_a_guest_that_swallows_everything_is_told_again(world: Scheduler) -> None:
    def compute() -> None:
        for _ in range(100_000_000):
            pass

    def work() -> str:
        try:
            for _ in range(3):
                try:
                    compute()
                except BaseException:
                    continue
            compute()
        except GuestOverrun:
            return "stopped"
        return "went on"

    guests: list[Any] = []
    world.after(1, lambda: guests.append(world.start(work, Owner())))
    world.run(START + SECOND)
    assert guests[0].done.value == "stopped"


@pytest.mark.usefixtures("impatient")
def test_the_limit_counts_computing_only(world: Scheduler) -> None:
    def work() -> str:
        for _ in range(20):
            ends = time.perf_counter() + 0.005
            while time.perf_counter() < ends:
                pass
            world.sleep(1)
        return "done"

    guests: list[Any] = []
    world.after(1, lambda: guests.append(world.start(work, Owner())))
    world.run(START + 30 * SECOND)
    assert guests[0].done.value == "done"


@pytest.mark.usefixtures("impatient")
def test_a_runaway_function_is_an_error_with_a_reason(lab: Lab) -> None:
    role = lab.role("Endless")
    lab.deploy_function(
        "Endless", "def handler(event, context):\n    while True:\n        pass\n", role=role
    )
    answer = lab.client("lambda").invoke(FunctionName="Endless")
    assert answer["FunctionError"] == "Unhandled"
    assert b"virtual time stood still meanwhile" in answer["Payload"].read()


# -- the end ------------------------------------------------------------------------------------


def test_a_closed_lab_says_so_in_one_sentence(lab: Lab) -> None:
    dynamodb, clock = lab.client("dynamodb"), lab.clock
    lab.close()
    lab.close()
    sentence = r"^This lab is closed: open another with open_lab\(\)"
    for call in (
        dynamodb.list_tables,
        lambda: clock.advance(seconds=1),
        lambda: lab.client("sqs"),
        lambda: lab.wait_until(lambda: False),
    ):
        with pytest.raises(LabClosed, match=sentence):
            call()
    assert clock.now().year == 2026


def test_close_ends_guests_that_wait(world: Scheduler) -> None:
    seen: list[str] = []

    def work() -> None:
        try:
            world.sleep(5)
        finally:
            seen.append("finally")
            try:
                world.sleep(1)
            except GuestEnded:
                seen.append("refused")

    guest = world.start(work, Owner())
    world.close()
    assert seen == ["finally", "refused"]
    assert guest.greenlet.dead


def test_a_guest_that_swallows_its_end_does_not_keep_the_lab_from_closing() -> None:
    """In a process of its own, which must come to its end as well."""
    script = textwrap.dedent("""
        from lab_utils.emulator.scheduler import Scheduler

        world = Scheduler(0)

        def stubborn():
            while True:
                try:
                    world.sleep(1)
                except BaseException:
                    pass

        guest = world.start(stubborn, object())
        timed_out = world.start(stubborn, object())
        world.run(2_500_000)
        world.abandon(timed_out)
        world.close()
        print("closed", guest.greenlet.dead)
        """)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed False\n", "")


@pytest.mark.usefixtures("impatient")
def test_a_finally_without_end_does_not_keep_the_lab_from_closing(world: Scheduler) -> None:
    def work() -> None:
        try:
            world.sleep(5)
        finally:
            while True:
                pass

    guest = world.start(work, Owner())
    world.close()
    assert guest.greenlet.dead


def test_handlers_that_time_out_go_no_further(lab: Lab) -> None:
    source = textwrap.dedent("""
        import time, boto3
        table = boto3.resource("dynamodb").Table("Marks")

        def handler(event, context):
            try:
                time.sleep(event["nap"])
                table.put_item(Item={"id": "after the sleep"})
            finally:
                table.put_item(Item={"id": "finally"})
        """)
    lab.client("dynamodb").create_table(
        TableName="Marks",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    lab.deploy_function("Slow", source, role=lab.role("Slow", ALLOW_ALL), timeout=2)
    answer = lab.client("lambda").invoke(FunctionName="Slow", Payload=b'{"nap": 3}')
    assert b"Task timed out after 2.00 seconds" in answer["Payload"].read()
    lab.clock.advance(minutes=5)
    assert lab.client("dynamodb").scan(TableName="Marks")["Count"] == 0
    lab.client("lambda").invoke(FunctionName="Slow", Payload=b'{"nap": 1}')
    assert lab.client("dynamodb").scan(TableName="Marks")["Count"] == 2
    assert lab.invocations("Slow")["instance"].nunique() == 2, "its instance is gone"


def test_a_lab_can_be_used_with_asyncio_around_it() -> None:
    """As in a notebook's kernel, where a loop always runs."""

    async def cell() -> list[str]:
        with lu.open_lab("embedded") as lab:
            role = lab.role("Async")
            lab.deploy_function(
                "Async",
                textwrap.dedent("""
                import asyncio

                async def answer():
                    await asyncio.sleep(0)
                    return "from a loop"

                def handler(event, context):
                    return asyncio.run(answer())
                """),
                role=role,
            )
            payload = lab.client("lambda").invoke(FunctionName="Async")["Payload"]
            return [payload.read().decode(), type(asyncio.get_running_loop()).__name__]

    answer, loop = asyncio.run(cell())
    assert answer == '"from a loop"'
    assert loop
