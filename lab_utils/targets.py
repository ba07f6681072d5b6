"""What answers a notebook's calls: the embedded emulator, a LocalStack-compatible endpoint, or AWS.

A target makes clients, owns a clock, and says what it can do. Everything else a lab does, it does
through boto3, in the same way on every target.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from botocore.config import Config

from lab_utils.clock import Clock, VirtualClock, WallClock
from lab_utils.emulator.physics import Physics
from lab_utils.errors import LabClosed, LabError, NotOnThisTarget
from lab_utils.labels import Label

if TYPE_CHECKING:
    from lab_utils.plan import Plan

SERVICES = (
    "dynamodb",
    "dynamodbstreams",
    "kinesis",
    "lambda",
    "iam",
    "sqs",
    "sns",
    "s3",
    "logs",
    "cloudwatch",
    "sts",
)
FEATURES = {
    "time_travel": "move time with lab.clock.advance",
    "partitions": "look at partitions and split them",
    "invocations": "list every invocation, its instance and its iterator age",
    "pollers": "tell what its mappings' pollers see, try and wait for",
    "role_check": "refuse a mapping whose role may not read the stream",
}


class Target(ABC):
    """One place where AWS's calls are answered."""

    name: str
    clock: Clock
    features: frozenset[str] = frozenset()
    region = "us-east-1"
    label: Label | None = None
    """What names and tags of everything the lab makes say; None where names are plain."""
    owner: Label | None = None
    """What the tags say, with or without the names; None where all goes with the target."""
    plan: Plan | None = None
    """What the reader has confirmed, on AWS."""

    @abstractmethod
    def make_client(self, service: str, config: Config | None = None) -> Any:
        """A new boto3 client for one of `SERVICES`."""

    def remedy(self, words: str) -> str:
        """What to do about something that failed, in the service's own words."""
        return "mend that and try again"

    @abstractmethod
    def reset(self) -> None:
        """Begin again; what notebooks made is removed by the lab before."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the target itself holds."""


class Embedded(Target):
    """The emulator, in this very process: virtual time, nothing outside of it."""

    name = "embedded"
    features = frozenset(FEATURES)

    def __init__(self, seed: int, physics: Physics | None) -> None:
        from lab_utils.emulator.world import World

        self._seed, self._physics, self._new_world = seed, physics, World
        self.world = World(seed, physics)
        self.clock = VirtualClock(self.world.scheduler)

    def make_client(self, service: str, config: Config | None = None) -> Any:
        if self.world.scheduler.closed:
            raise LabClosed("This lab is closed: open another with open_lab().")
        return self.world.session.create_client(service, config=config)

    def reset(self) -> None:
        self.world.close()
        self.world = self._new_world(self._seed, self._physics)
        self.clock = VirtualClock(self.world.scheduler)

    def close(self) -> None:
        self.world.close()


class Aws(Target):
    """AWS itself, through the reader's own credentials and Region.

    Nothing is made before the reader has seen the plan and `confirm`, or LAB_AWS_CONFIRM, has named
    the account; nor does any call go to another one afterwards (`account.Confirmed`). Every call is
    tried a few times (AWS_MAX_ATTEMPTS), and no answer is waited for without end (LAB_AWS_TIMEOUT,
    seconds): see `account`.
    """

    name = "aws"
    features = frozenset({"invocations", "role_check"})

    def __init__(self, confirm: str | None, hours: float | None, lab_id: str | None) -> None:
        from lab_utils import account
        from lab_utils.plan import draw_up

        self.clock = WallClock()
        self._session, self._one_by_one = account.open_session(), Lock()
        self._manners = account.manners()
        self.region = account.region_of(self._session, SERVICES)
        plain = cache(self._plain_client)
        endpoint = account.one_place(plain, SERVICES)
        self.plan = draw_up(plain, self.region, endpoint, self.clock.now(), hours, lab_id)
        self.plan.check(confirm)
        self.label = self.owner = self.plan.label
        credentials = self._session.get_credentials()
        self._confirmed = account.Confirmed(self.plan.account, credentials, self._plain_client)

    def make_client(self, service: str, config: Config | None = None) -> Any:
        return self._confirmed.hold(self._plain_client(service, config))

    def _plain_client(self, service: str, config: Config | None = None) -> Any:
        manners = self._manners.merge(config) if config else self._manners
        with self._one_by_one:  # a session is not made for threads, as its clients are
            return self._session.client(service, config=manners)

    def reset(self) -> None:
        """Nothing of AWS's is the target's own."""

    def close(self) -> None:
        """AWS goes on; what the lab made there, the lab removes."""


def open_target(
    name: str | None,
    seed: int,
    physics: Physics | None,
    *,
    confirm: str | None = None,
    hours: float | None = None,
    lab_id: str | None = None,
) -> Target:
    """The target of this name, or of the environment variable LAB_TARGET, or the embedded one."""
    chosen = name or os.environ.get("LAB_TARGET") or "embedded"
    if physics is not None and not isinstance(physics, Physics):
        raise LabError(f"physics={physics!r} is no Physics: give open_lab(physics=Physics(...)).")
    if chosen == "embedded":
        return Embedded(seed, physics)
    if chosen not in ("localstack", "aws"):
        raise LabError(
            f"There is no target {chosen!r}: use embedded, localstack or aws, as an argument "
            "of open_lab or in LAB_TARGET."
        )
    if physics is not None:
        raise NotOnThisTarget(
            "Physics can be changed on the embedded target only: leave `physics` "
            "out, or use LAB_TARGET=embedded."
        )
    if chosen == "aws":
        return Aws(confirm, hours, lab_id)
    from lab_utils.localstack import LocalStack

    return LocalStack()
