"""A kernel that is killed in the middle of provisioning leaves nothing that isn't found again.

A process of its own puts up the whole pipeline and kills itself, by SIGKILL, right after AWS has
answered its n-th creation; for every n.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from on_aws import NOTHING, Account, Inventory, set_out
from strict_aws import forget_everything, strict_aws

import lab_utils as lu
from lab_utils import at_once
from lab_utils.__main__ import main
from lab_utils.kinds import KINDS
from lab_utils.lab import Lab
from lab_utils.labels import Label
from lab_utils.targets import SERVICES

pytestmark = pytest.mark.slow

CREATIONS = {kind.creation for kind in KINDS}
PARTS = {"streams": 1, "tables": 4, "roles": 3, "log groups": 3, "functions": 3, "mappings": 3}
"""Of the whole pipeline."""
MOMENTS = range(1, sum(PARTS.values()) + 1)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with strict_aws() as address:
        yield address


@pytest.fixture
def account(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Account:
    """An empty account, and the environment of its reader."""
    forget_everything(server)
    set_out(monkeypatch, tmp_path, server)
    return Account(server)


def provision(lab: Lab) -> None:
    """The whole pipeline, as after the first lab."""
    lu.pipeline.deploy(lab).connect()


def at_creations(lab: Lab, act: Callable[[int], None]) -> None:
    """Whenever AWS has answered a creation, act before anybody else hears of it."""
    made = []

    def answered(http_response: Any, model: Any, **_: Any) -> None:
        if model.name in CREATIONS and http_response.status_code < 300:
            made.append(model.name)
            act(len(made))

    for client in lab.clients(*SERVICES):
        client.meta.events.register_first("after-call", answered)


def provision_and_die(moment: int) -> None:
    """In a process of its own. One call after the other, so that none is under way at the end."""
    at_once.AT_ONCE = 1
    lab = lu.open_lab()

    def die(made: int) -> None:
        if made == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    at_creations(lab, die)
    provision(lab)


def killed_at(moment: int) -> None:
    process = multiprocessing.get_context("fork").Process(target=provision_and_die, args=(moment,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def numbers(inventory: Inventory) -> dict[str, int]:
    """How many there are of each kind that is there at all."""
    return {kind: len(names) for kind, names in inventory.items() if names}


def test_it_takes_so_many_creations(account: Account) -> None:
    made: list[int] = []
    with lu.open_lab() as lab:
        at_creations(lab, made.append)
        provision(lab)
        assert numbers(account.inventory()) == PARTS
        assert sorted(made) == list(MOMENTS), "killed at each of them, nothing is missed"
    assert account.inventory() == NOTHING


@pytest.mark.parametrize("moment", MOMENTS)
def test_whenever_it_is_killed_a_sweep_leaves_nothing(account: Account, moment: int) -> None:
    killed_at(moment)
    assert sum(numbers(account.inventory()).values()) == moment
    assert main(["sweep", "--yes"]) == 0
    assert account.inventory() == NOTHING


@pytest.mark.parametrize("moment", MOMENTS)
def test_whenever_it_is_killed_the_next_kernel_completes_it(account: Account, moment: int) -> None:
    killed_at(moment)
    left = account.inventory()
    with lu.open_lab() as lab:
        assert {Label.within(name) for name in named(left)} == {lab.label}
        provision(lab)
        complete = account.inventory()
        assert numbers(complete) == PARTS, "nothing is there twice"
        assert all(set(left[kind]) <= set(complete[kind]) for kind in left), "what was there stays"
    assert account.inventory() == NOTHING


def test_the_command_itself_sweeps_what_is_left(account: Account) -> None:
    killed_at(MOMENTS[-1])
    for said in (
        "Removed 3 mappings, 3 functions, 3 log groups, 4 tables, 1 stream, 3 roles.",
        "Nothing of any lab is there.",
    ):
        command = [sys.executable, "-m", "lab_utils", "sweep", "--yes"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == said
        assert done.stderr == ""
        assert account.inventory() == NOTHING


def named(inventory: Inventory) -> list[str]:
    """The names of all that has one."""
    return [name for kind, names in inventory.items() if kind != "mappings" for name in names]
