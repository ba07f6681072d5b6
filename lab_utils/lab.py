"""open_lab(): one world, whatever answers behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import ClientError

from lab_utils import frames, measures, packaging, roles
from lab_utils.at_once import at_once
from lab_utils.clock import Clock, wait_until
from lab_utils.emulator.physics import Physics
from lab_utils.errors import LabClosed, LabError, NotOnThisTarget
from lab_utils.refusals import error_code, explained
from lab_utils.settling import settled
from lab_utils.tagging import tagging
from lab_utils.targets import FEATURES, SERVICES, Embedded, Target, open_target

if TYPE_CHECKING:
    import pandas as pd

    from lab_utils.doctor import Diagnosis
    from lab_utils.emulator.traffic import Keys
    from lab_utils.emulator.world import World
    from lab_utils.labels import Label
    from lab_utils.plan import Plan


class Lab:
    """A laboratory: clients, a clock, functions, and a look behind the scenes.

    Made by `open_lab`. Usable as a context manager, which closes it.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._opened = target.clock.now()
        self._clients: dict[str, Any] = {}
        self._closed = False

    # -- clients and time -----------------------------------------------------------------------

    @property
    def target(self) -> str:
        """The name of what answers: embedded, localstack or aws."""
        return self._target.name

    @property
    def region(self) -> str:
        """The Region of the lab's clients."""
        return self._target.region

    @property
    def label(self) -> Label | None:
        """What names and tags of everything the lab makes say; None where they say nothing."""
        return self._target.label

    @property
    def plan(self) -> Plan | None:
        """What was confirmed before the lab made anything on AWS; None on other targets."""
        return self._target.plan

    @property
    def clock(self) -> Clock:
        """The target's clock: `now()` and, on the embedded target, `advance(...)`."""
        return self._target.clock

    def client(self, name: str, config: Config | None = None) -> Any:
        """A boto3 client of the lab. It reaches this lab and nothing else.

        `config`: a botocore Config, for `retries={"total_max_attempts": 1}` and the like; such a
        client is made anew at every call.
        """
        self._check_open()
        if name not in SERVICES:
            raise LabError(f"The lab has no service {name!r}: it has {', '.join(SERVICES)}.")
        if config is not None:
            if not isinstance(config, Config):
                raise LabError(f"config={config!r} is no Config: give botocore.config.Config(...).")
            if config.region_name not in (None, self.region):
                raise LabError(
                    f"The lab is in {self.region}, and looks for what it made there only: leave "
                    f"region_name={config.region_name!r} out of the Config."
                )
            return self._tagging(self._target.make_client(name, config))
        if name not in self._clients:
            self._clients[name] = self._tagging(self._target.make_client(name))
        return self._clients[name]

    def _tagging(self, client: Any) -> Any:
        return tagging(client, self._target.owner, in_names=self._target.label is not None)

    def clients(self, *names: str) -> tuple[Any, ...]:
        """Several clients at once, in the order of their names."""
        return tuple(self.client(name) for name in names)

    def wait_until(self, predicate: Callable[[], Any], timeout: float = 300) -> Any:
        """Let the world run until `predicate()` holds, and return what it said.

        `timeout` is in seconds of the target's own time; TimeoutError names what was waited for.
        """
        return wait_until(self.clock, predicate, timeout)

    def name(self, plain: str) -> str:
        """What a resource called `plain` is called in this lab.

        On AWS names carry the lab's id, `Orders-lab-7f3a9c-2611260314`; elsewhere they are plain. A
        name that has been through here stays as it is.
        """
        label = self._target.label
        return label.name(plain) if label else plain

    def together(self, *calls: Callable[[], Any]) -> list[Any]:
        """Make calls that do not depend on one another; their answers, in the same order.

        At the same time where time is real, one after the other in virtual time. All of them are
        finished when it returns or raises; of several errors it raises the first's.
        """
        if isinstance(self._target, Embedded):
            return [call() for call in calls]
        return at_once(*calls)

    # -- functions ------------------------------------------------------------------------------

    def role(self, name: str, *statements: dict[str, Any]) -> str:
        """A role for functions from IAM statements; its ARN. It may always write its logs.

        Called again with the same name, it replaces the statements.
        """
        for statement in statements:
            if not isinstance(statement, dict) or "Effect" not in statement:
                raise LabError(
                    f"{statement!r} is no IAM statement: give dicts with Effect, "
                    "Action and Resource."
                )
        name, iam = self.name(name), self.client("iam")
        if not self._target.label:  # else it may write the logs that `deploy_function` makes
            statements = (roles.WRITE_LOGS, *statements)
        with self.explaining(f"making role {name}"):
            self._unless(
                "EntityAlreadyExists",
                iam.create_role,
                RoleName=name,
                AssumeRolePolicyDocument=json.dumps(roles.TRUST_LAMBDA),
                **(roles.boundary() if self._target.label else {}),
            )
            if statements:
                self._put_policy(name, "lab", *statements)
            else:
                gone = iam.delete_role_policy
                self._unless("NoSuchEntity", gone, RoleName=name, PolicyName="lab")
            return str(settled(self, iam.get_role, RoleName=name)["Role"]["Arn"])

    def deploy_function(
        self,
        name: str,
        handler: Path | str | Callable[..., Any],
        *,
        role: str,
        timeout: int = 3,
        memory: int = 128,
        environment: dict[str, str] | None = None,
    ) -> str:
        """Create or update a function and wait until it is Active; its ARN.

        `handler` is a path to a Python file, source text, or a function; one that is defined in a
        cell takes its whole cell along. `timeout` in seconds, `memory` in MB.
        """
        name, code = self.name(name), packaging.package(handler)
        functions = self.client("lambda")
        settings = {
            "Role": role,
            "Handler": code.handler,
            "Runtime": packaging.RUNTIME,
            "Timeout": timeout,
            "MemorySize": memory,
            "Environment": {"Variables": environment or {}},
        }
        with self.explaining(f"deploying function {name}"):
            if self._target.owner:
                self._make_log_group(name, role)
            created = self._unless(
                "ResourceConflictException",
                functions.create_function,
                FunctionName=name,
                Code={"ZipFile": code.zip},
                **settings,
            )
            if not created:
                settled(self, functions.update_function_code, FunctionName=name, ZipFile=code.zip)
                self._wait_until_active(name)
                change = functions.update_function_configuration
                settled(self, change, FunctionName=name, **settings)
            return self._wait_until_active(name)

    def _make_log_group(self, function: str, role: str) -> None:
        """Where tags tell whose a thing is, the lab makes a function's log group: see `roles`."""
        logs, group = self.client("logs"), roles.log_group(function)
        self._unless("ResourceAlreadyExistsException", logs.create_log_group, logGroupName=group)
        logs.put_retention_policy(logGroupName=group, retentionInDays=roles.LOG_DAYS)
        name = role.rsplit("/", 1)[-1]
        if self._target.label and name == self.name(name):  # a role that is not the lab's stays
            self._put_policy(name, f"logs-of-{function}", roles.may_write_logs(function))

    def _put_policy(self, role: str, policy: str, *statements: dict[str, Any]) -> None:
        document = json.dumps(roles.document(*statements))
        put = self.client("iam").put_role_policy
        settled(self, put, RoleName=role, PolicyName=policy, PolicyDocument=document)

    def _unless(self, refusal: str, call: Callable[..., Any], **request: Any) -> bool:
        """Make a call; False if AWS refuses it with this code, for all is as wanted already."""
        try:
            settled(self, call, **request)
        except ClientError as problem:
            if error_code(problem) != refusal:
                raise
            return False
        return True

    def _wait_until_active(self, name: str) -> str:
        def active() -> Any:
            found = self.client("lambda").get_function_configuration(FunctionName=name)
            states = (found.get("State", "Active"), found.get("LastUpdateStatus", "Successful"))
            if "Failed" in states:
                why = found.get("LastUpdateStatusReason") or found.get("StateReason")
                remedy = self._target.remedy(str(why))
                raise LabError(f"Function {name} failed ({why}): {remedy}.")
            return found if states == ("Active", "Successful") else None

        active.__doc__ = f"function {name} is Active"
        return str(self.wait_until(active, timeout=120)["FunctionArn"])

    def explaining(self, doing: str) -> AbstractContextManager[None]:
        """Say in a sentence what AWS refuses in the block, and what to do about it (`refusals`).

        `doing` is a gerund. On other targets errors stay as they are.
        """
        label = self._target.label
        return explained(doing, label) if label else nullcontext()

    # -- behind the scenes ----------------------------------------------------------------------

    def can(self, feature: str) -> bool:
        """Whether the target can do this.

        There are time_travel, partitions, invocations, pollers and role_check.
        """
        if feature not in FEATURES:
            raise LabError(f"Nobody knows the feature {feature!r}: ask for {', '.join(FEATURES)}.")
        return feature in self._target.features

    def invocations(self, function: str | None = None) -> pd.DataFrame:
        """Every invocation that is over, one row each, in the order in which they began.

        Columns: function, instance, shard, lane, batch_size, started, ended (UTC), outcome (ok,
        partial, error, timeout, throttled), attempt, iterator_age (seconds, when it began).

        Elsewhere than on the embedded target this is what functions' logs tell, to the millisecond,
        since the lab was opened, and they tell less. `function`: a plain name will do; None is all
        that the lab made and that are still there. A log line can come minutes late, so look again
        before you count. Throttled invocations leave no line: see `throttles`. A partial success
        looks like any other. No log knows of lanes. An instance is a log stream. Shard, batch size,
        age and the attempt at a batch come from a line that the function prints (the pipeline's do;
        `lab_utils.reports` shows it); without it an attempt is one at the same event. The age of a
        table's record is up to a second too high, as records are stamped in whole seconds; its
        shard is found by reading the stream, within the day that it is kept.
        """
        if isinstance(self._target, Embedded):
            return frames.invocations(self._world("invocations"), function)
        from lab_utils import reports

        self._check_open()
        since = None if self.label else self._opened
        with self.explaining("reading the functions' logs"):
            return reports.invocations(self, function, self._target.owner, since)

    def iterator_age(self, function: str, minutes: float = 60) -> pd.DataFrame:
        """How old records were when a function was given them, as CloudWatch counts.

        Columns: at (UTC, the beginning of a minute), age (seconds, the highest in that minute, of
        the last record of a batch). `minutes`: so far back. Metrics can come minutes late.
        """
        return self._measured(measures.ITERATOR_AGE, function, minutes)

    def throttles(self, function: str, minutes: float = 60) -> pd.DataFrame:
        """How often a function was throttled, as CloudWatch counts: columns at (UTC) and throttles.

        As for `iterator_age`, one row for each minute of which anything is known.
        """
        return self._measured(measures.THROTTLES, function, minutes)

    def _measured(self, measure: measures.Measure, function: str, minutes: float) -> pd.DataFrame:
        name, now = self.name(function), self.clock.now()
        with self.explaining("reading metrics"):
            return measure.frame(self.client("cloudwatch"), name, now, minutes)

    def tries(self, function: str | None = None) -> pd.DataFrame:
        """Every handing-over of a batch, or of a part of one, so far, in order.

        Columns: function, shard, lane, batch (its number within its mapping, from 1), first (where
        in the batch the part begins, from 0), size (records handed over), attempt, outcome,
        started (UTC). A batch that was never cut nor tried again has one row.
        """
        return frames.tries(self._world("pollers"), function)

    def why(self, mapping: str | dict[str, Any]) -> str:
        """In words: what a mapping's pollers are doing, and why nothing arrived.

        `mapping` is its UUID, or the answer to its creation.
        """
        world = self._world("pollers")
        uuid = mapping.get("UUID", "") if isinstance(mapping, dict) else mapping
        return frames.why(world, self.region, uuid)

    def backlog(self, function: str | None = None, every: float = 0.25) -> pd.DataFrame:
        """What waited in the streams, looked at `every` so many seconds since the first record.

        Columns: at (UTC), function, waiting (records not yet processed), age (seconds, of the
        oldest of them).
        """
        return frames.backlog(self._world("pollers"), function, every)

    def partitions(self, table: str) -> pd.DataFrame:
        """The partitions of a table in the order of the ring, indexed by their id.

        Columns: low, high (it holds the key hashes from low to high - 1), items, bytes (traffic
        that grows counts too), write_rate, read_rate (capacity units asked for, a second, over the
        last minute, throttled ones included), open_shard. Where an item collection is cut, two
        more: sort_from, sort_to (the sort keys at its bounds; None at a whole hash).
        `attrs`: scale, write_ceiling, read_ceiling (units a second), created, now.
        """
        return frames.partitions(self._world("partitions"), self.region, table)

    def splits(self, table: str) -> pd.DataFrame:
        """Every split of a table's partitions so far, and every one that was refused, in order.

        Columns: at (UTC), partition, cause (size, heat, throughput, asked), parts (the two ids; ()
        if it was refused), reason, low, high (the hashes of the partition), point, sort_point
        (where it was cut; None if not), born (UTC, when the partition came to be).
        `attrs`: as those of `partitions`.
        """
        return frames.splits(self._world("partitions"), self.region, table)

    def traffic(
        self,
        table: str,
        keys: Keys,
        rate: float,
        minutes: float,
        *,
        size: int = 1000,
        operation: str = "write",
        growing: bool = False,
    ) -> pd.DataFrame:
        """Load as a rate: let `minutes` pass while clients ask for `rate` requests a second.

        Nothing is stored and no record is written; throttling, heat, peaks and splits are as for
        real requests. `keys`: a list of keys, a dict of keys and their shares, or a function of the
        minute (0, 1, ...) that returns one of them; a key is the partition-key value, with a sort
        key a pair. `size`: bytes of each item; `operation`: write, or read (strongly consistent);
        `growing`: every write is a new item, so partitions and the table grow.

        One row a minute, indexed by minute: offered, accepted, throttled (requests), partitions,
        hottest (what is asked of the hottest partition, as a share of its ceiling).
        """
        return frames.traffic(
            self._world("partitions"),
            self.region,
            table,
            keys,
            rate,
            minutes,
            size=size,
            operation=operation,
            growing=growing,
        )

    def split_partition(self, table: str, partition: int, at: Any = None) -> None:
        """Split a partition at once: in the middle of its range, or `at` a hash inside it.

        In a table with a sort key `at` may be a pair of a hash and a sort key.
        """
        frames.split(self._world("partitions"), self.region, table, partition, at)

    def doctor(self) -> Diagnosis:
        """Is this target ready for a class, and if not, what is missing?"""
        from lab_utils.doctor import examine

        self._check_open()
        return examine(self, self._target)

    def _check_open(self) -> None:
        if self._closed:
            raise LabClosed("This lab is closed: open another with open_lab().")

    def _world(self, feature: str) -> World:
        self._check_open()
        if not isinstance(self._target, Embedded):
            raise NotOnThisTarget(
                f"{self.target} cannot {FEATURES[feature]}: run this with LAB_TARGET=embedded."
            )
        return self._target.world

    # -- the end --------------------------------------------------------------------------------

    def reset(self) -> None:
        """Begin again as after `open_lab`: nothing that was made is left. Ask for new clients."""
        self._check_open()
        self._remove_what_was_made()
        self._clients.clear()
        self._target.reset()

    def close(self) -> None:
        """Leave nothing behind. A closed lab answers no more; closing twice does no harm."""
        if not self._closed:
            self._remove_what_was_made()
            self._target.close()
            self._closed = True

    def _remove_what_was_made(self) -> None:
        """By its tags, so that what an earlier kernel made of this lab goes, too."""
        target = self._target
        if target.owner is None:
            return  # it all goes with its world
        from lab_utils.sweep import clear

        with self.explaining("removing what the lab made"):
            found, removal = clear(self.client, target.owner, in_names=target.label is not None)
        print(*removal.told(), *found.left_alone(), *found.overlooked(), sep="\n")
        removal.check()
        if target.label:  # a LocalStack need not have every service
            found.check()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<lab on {self.target}, {self.region}, {self.clock!r}>"


def open_lab(
    target: str | None = None,
    *,
    seed: int = 0,
    physics: Physics | None = None,
    confirm: str | None = None,
    hours: float | None = None,
    lab_id: str | None = None,
) -> Lab:
    """Open a lab: embedded (the default), or what `target` or LAB_TARGET names.

    `seed` chooses one of many possible worlds, `physics` its constants; both concern the embedded
    target, where the same seed gives the same run, to the byte.

    `confirm`, `hours` and `lab_id` concern AWS, where nothing is made before `confirm` (or
    LAB_AWS_CONFIRM) names the account: twelve digits. What is made expires after `hours` (or
    LAB_AWS_HOURS; 4 if neither is said). A lab that this notebook, or this folder, left open is
    found again and goes on until it expires; `lab_id` (or LAB_ID) names another to go on with.
    """
    lab = Lab(open_target(target, seed, physics, confirm=confirm, hours=hours, lab_id=lab_id))
    if lab.plan is not None:
        print(lab.plan)
    return lab
