"""What happens when a function is invoked, and the instances in which it does.

An instance (AWS: execution environment) handles one invocation at a time and keeps its modules'
globals as long as it lives. How long an invocation takes is the sum of the virtual time its code
spends in API calls and sleeps: computing is free.
"""

from __future__ import annotations

import decimal
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import simpy

from lab_utils.emulator.guest import Context, GuestError, GuestModules, describe_error, error_log
from lab_utils.emulator.logbook import LogStream
from lab_utils.emulator.physics import MICROSECONDS, between, microseconds
from lab_utils.emulator.scheduler import Guest, GuestEnded, GuestOverrun
from lab_utils.emulator.versions import Family, Function, Version

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region, World

Params = dict[str, Any]
Outcome = Literal["ok", "partial", "error", "timeout", "throttled"]


@dataclass(frozen=True)
class Trigger:
    """Where an invocation comes from: a batch of a shard, or a direct call (shard None)."""

    shard: str | None = None
    lane: int | None = None
    batch_size: int | None = None
    attempt: int = 1
    newest: int | None = None
    """When the last record of the batch was written (microseconds), for the iterator age."""
    reported: Callable[[str], int | None] | None = None
    """Of a mapping whose function reports failures: how many records succeeded by an answer, None
    if all did. An invocation whose answer reports any is "partial"."""
    batch: int | None = None
    """The number of the batch within its mapping."""
    first: int | None = None
    """Where in the batch the first record stands that is handed over (from 0)."""
    request_id: str | None = None
    """Of an event that is tried again: the id that it has had from the beginning."""
    client_context: Params | None = None


@dataclass(frozen=True)
class Result:
    """How an invocation ended; `payload` is the handler's answer or the error, as JSON text."""

    outcome: Outcome
    payload: str = "null"
    error: str | None = None
    request_id: str = ""
    log: tuple[str, ...] = ()
    reason: str | None = None
    """Of a throttled invocation: the limit that it met."""
    version: str = "$LATEST"
    """The number of the version that was executed."""


@dataclass(eq=False)
class Instance:
    """One execution environment of one version of a function."""

    world: World
    family: Family
    version: Version
    """It keeps the code and the settings with which it began."""
    number: int
    log: LogStream
    modules: GuestModules | None = None
    handler: Callable[[Any, Any], Any] | None = None
    last_used: int = 0
    run: Run | None = None
    """The invocation that it is at work on."""
    watched: bool = False
    exited: bool = False
    """Its code ended the process, which takes the instance with it."""

    @property
    def name(self) -> str:
        return f"{self.family.name}/{self.number}"

    @property
    def role(self) -> str:
        """Whose permissions the instance's AWS calls have."""
        return self.version.role

    @property
    def session_name(self) -> str:
        return self.family.name

    @property
    def request_id(self) -> str:
        return self.run.request_id if self.run else ""

    def watch(self) -> None:
        """See to it that an invocation ends in time.

        An instance has one alarm, set again when it rings too early: timers of invocations that
        ended long ago would fill the queue of events.
        """
        self.watched = self.run is not None
        if self.run is None:
            return
        left = self.run.ends - self.world.scheduler.now
        if left > 0:
            self.world.scheduler.after(left, self.watch, first=True)
        else:
            self.run.time_out()


class Invocations:
    """All invocations of a Region: who may run, in which instance, and what is known of it."""

    def __init__(self, region: Region) -> None:
        self.region, self.world = region, region.world
        self.scheduler, self.physics = region.world.scheduler, region.world.physics
        self.rng = region.world.rng("lambda")
        self.rows: list[dict[str, Any]] = []
        """One row for each invocation, in the order in which they began."""

    def invoke(self, function: Function, payload: str, trigger: Trigger) -> simpy.Event:
        """Run a function on a JSON text; the event that is returned carries the `Result`."""
        done = self.scheduler.env.event()
        row = self._row(function, trigger)
        limit = self._limit_met(function.family)
        self.count(function, "Throttles", limit is not None)
        if limit is not None:
            row |= {"ended": row["started"], "outcome": "throttled"}
            done.succeed(Result("throttled", reason=limit, version=function.version.number))
            return done
        if trigger.newest is not None:
            age = (row["started"] - trigger.newest) / 1000
            self.count(function, "IteratorAge", age, "Milliseconds")
        self._count_running(function.family, 1)
        instance = self._take_instance(function)
        row["instance"] = instance.name
        run = Run(self, function, instance, payload, row, done, trigger)
        delay = between(self.rng, self.physics.invoke_overhead)
        delay += microseconds(len(payload) / self.physics.payload_rate)
        if instance.handler is None:
            run.init = between(self.rng, self.physics.cold_start)
        self.scheduler.after(delay + run.init, run.begin)
        return done

    def _row(self, function: Function, trigger: Trigger) -> dict[str, Any]:
        now = self.scheduler.now
        age = None if trigger.newest is None else (now - trigger.newest) / MICROSECONDS
        row = {
            "function": function.family.name,
            "instance": None,
            "shard": trigger.shard,
            "lane": trigger.lane,
            "batch_size": trigger.batch_size,
            "started": now,
            "ended": None,
            "outcome": None,
            "attempt": trigger.attempt,
            "iterator_age": age,
            "batch": trigger.batch,
            "first": trigger.first,
        }
        self.rows.append(row)
        return row

    def count(
        self,
        function: Function,
        name: str,
        value: float,
        unit: str = "Count",
        at: int | None = None,
    ) -> None:
        """Note a metric of a function, and of the version or alias by which it was called."""
        for dimensions in _dimensions(function):
            self.world.metrics.add(self.region.name, name, value, unit, dimensions, at=at)

    def _count_running(self, family: Family, change: int) -> None:
        family.running += change
        self.world.metrics.level(
            self.region.name,
            "ConcurrentExecutions",
            family.running,
            "Count",
            {"FunctionName": family.name},
        )

    # -- who may run ----------------------------------------------------------------------------

    def _limit_met(self, family: Family) -> str | None:
        """What AWS calls the concurrency limit that stands in the way of one more invocation."""
        if family.reserved is not None:
            full = family.running >= family.reserved
            return "ReservedFunctionConcurrentInvocationLimitExceeded" if full else None
        families = self.region.functions.families
        running = sum(each.running for each in families if each.reserved is None)
        full = running >= self.physics.account_concurrency - reserved(families)
        return "ConcurrentInvocationLimitExceeded" if full else None

    # -- instances ------------------------------------------------------------------------------

    def _take_instance(self, function: Function) -> Instance:
        """The instance that was idle last, or a new one."""
        idle = function.idle
        oldest = self.scheduler.now - microseconds(self.physics.idle_instance_life)
        while idle and idle[0].last_used < oldest:
            idle.popleft()
        return idle.pop() if idle else self._new_instance(function)

    def _new_instance(self, function: Function) -> Instance:
        family, version = function.family, function.version
        family.started_instances += 1
        day = datetime.fromtimestamp(self.scheduler.now / MICROSECONDS, UTC).strftime("%Y/%m/%d")
        log = LogStream(
            self.world.logbook,
            self.region.name,
            family.log_group,
            f"{day}/[{version.number}]{self.rng.getrandbits(128):032x}",
        )
        instance = Instance(self.world, family, version, family.started_instances, log)
        instance.modules = GuestModules(
            version.files,
            environ=_environ(family, version, log),
            now=lambda: self.scheduler.now,
            sleep=self.scheduler.sleep,
            rng=random.Random(self.rng.getrandbits(64)),
            session=self.world.guest_session(self.region.name),
            request_id=lambda: instance.request_id,
        )
        return instance

    def release(self, instance: Instance, alive: bool) -> None:
        """An invocation is over: its instance waits for the next one, if it is to live on.

        New code or new settings of its version end it.
        """
        family, version = instance.family, instance.version
        self._count_running(family, -1)
        instance.run = None
        if alive and family.versions.get(version.number) is version:
            instance.last_used = self.scheduler.now
            Function(family, version).idle.append(instance)


def reserved(families: Iterable[Family]) -> int:
    """The concurrency that is taken from what is left for functions without a reservation."""
    return sum(each.reserved or 0 for each in families)


def _dimensions(function: Function) -> list[dict[str, str]]:
    """Lambda counts for a function, and once more for the version or alias that was called."""
    own = {"FunctionName": function.family.name}
    if function.qualifier is None:
        return [own]
    called = own | {"Resource": f"{function.family.name}:{function.qualifier}"}
    if function.alias is None:
        return [own, called]
    return [own, called, called | {"ExecutedVersion": function.version.number}]


def _environ(family: Family, version: Version, log: LogStream) -> dict[str, str]:
    return {
        "AWS_REGION": family.region,
        "AWS_DEFAULT_REGION": family.region,
        "AWS_LAMBDA_FUNCTION_NAME": family.name,
        "AWS_LAMBDA_FUNCTION_VERSION": version.number,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(version.memory),
        "AWS_LAMBDA_LOG_GROUP_NAME": log.group,
        "AWS_LAMBDA_LOG_STREAM_NAME": log.stream,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{version.runtime}",
        "LAMBDA_TASK_ROOT": "/var/task",
        "_HANDLER": version.handler,
        "TZ": ":UTC",
        "LANG": "en_US.UTF-8",
        **version.environment,
    }


class Run:
    """One invocation, from its instance's first line to the REPORT in the log."""

    def __init__(
        self,
        invocations: Invocations,
        function: Function,
        instance: Instance,
        payload: str,
        row: dict[str, Any],
        done: simpy.Event,
        trigger: Trigger,
    ) -> None:
        self._invocations, self._function, self._instance = invocations, function, instance
        self._version = instance.version
        self._scheduler, self._physics = invocations.scheduler, invocations.physics
        self._payload, self._row, self._done = payload, row, done
        self._reported, self._client_context = trigger.reported, trigger.client_context
        self.request_id = trigger.request_id or invocations.world.new_id(invocations.rng)
        self.init = 0
        self._began = self.ends = 0
        self._guest: Guest | None = None

    def begin(self) -> None:
        instance, log = self._instance, self._instance.log
        self._began = self._scheduler.now
        self.ends = self._began + self._version.timeout * MICROSECONDS
        instance.run = self
        log.tail = []
        log.line(f"START RequestId: {self.request_id} Version: {self._version.number}")
        if not instance.watched:
            instance.watch()
        self._guest = self._scheduler.start(self._work, instance, log)
        self._guest.done.callbacks.append(lambda event: self._end(event.value))

    def _work(self) -> Result:
        """Inside the guest: foreign code, so anything may be raised, and nothing gets out."""
        instance = self._instance
        assert instance.modules is not None
        try:
            instance.modules.activate()
            if instance.handler is None:
                instance.handler = instance.modules.lookup(self._version.handler)
            answer = instance.handler(json.loads(self._payload), self._context())
            return Result("ok", _to_json(answer, self._physics.payload_bytes))
        except GuestEnded:
            return Result("timeout")
        except (KeyboardInterrupt, GuestOverrun) as stop:
            return self._stopped(stop)
        except SystemExit as leave:
            return self._exited(leave.code)
        except BaseException as problem:
            return self._error(describe_error(problem, self.request_id))

    def _exited(self, code: object) -> Result:
        """The handler ended its process: AWS knows no more than the exit status."""
        status = code if isinstance(code, int) else 0 if code is None else 1
        why = f"with error: exit status {status}" if status else "without providing a reason"
        message = f"RequestId: {self.request_id} Error: Runtime exited {why}"
        self._instance.log.write(f"{message}\nRuntime.ExitError\n")
        self._instance.exited = True
        return Result(
            "error",
            json.dumps({"errorType": "Runtime.ExitError", "errorMessage": message}),
            "Unhandled",
        )

    def _end(self, value: Result | BaseException) -> None:
        self._finish(value if isinstance(value, Result) else self._stopped(value))

    def _context(self) -> Context:
        return Context(
            function_name=self._function.name,
            function_version=self._version.number,
            invoked_function_arn=self._function.arn,
            memory_limit_in_mb=self._version.memory,
            aws_request_id=self.request_id,
            log_group_name=self._instance.log.group,
            log_stream_name=self._instance.log.stream,
            remaining=lambda: (self.ends - self._scheduler.now) // 1000,
            client_context=self._client_context,
        )

    def _stopped(self, stop: BaseException) -> Result:
        text = str(stop) or "the invocation was interrupted"
        return self._error(
            {
                "errorMessage": text,
                "errorType": type(stop).__name__,
                "requestId": self.request_id,
                "stackTrace": [],
            }
        )

    def _error(self, payload: Params) -> Result:
        self._instance.log.write(error_log(payload))
        return Result("error", json.dumps(payload), error="Unhandled")

    def time_out(self) -> None:
        assert self._guest is not None
        self._scheduler.abandon(self._guest)
        message = f"Task timed out after {self._version.timeout:.2f} seconds"
        self._instance.log.line(f"{_iso(self._scheduler.now)} {self.request_id} {message}")
        self._finish(
            Result(
                "timeout",
                json.dumps(
                    {
                        "errorType": "Sandbox.Timedout",
                        "errorMessage": f"RequestId: {self.request_id} Error: {message}",
                    }
                ),
                "Unhandled",
            )
        )

    def _finish(self, result: Result) -> None:
        if self._row["outcome"] is not None or self._scheduler.closed:
            return
        outcome = result.outcome
        if outcome == "ok" and self._reported and self._reported(result.payload) is not None:
            outcome = "partial"
        self._row |= {"ended": self._scheduler.now, "outcome": outcome}
        spent = (self._scheduler.now - self._began) / 1000
        self._report(spent, outcome)
        self._count(spent, outcome)
        broken = (
            result.outcome == "timeout"
            or self._instance.exited
            or (result.outcome == "error" and self._instance.handler is None)
        )
        self._invocations.release(self._instance, not broken)
        self._done.succeed(
            Result(
                outcome,
                result.payload,
                result.error,
                self.request_id,
                tuple(self._instance.log.tail),
                version=self._version.number,
            )
        )

    def _report(self, spent: float, outcome: Outcome) -> None:
        """The last lines of an invocation in the log; `spent` is milliseconds.

        That a timeout is named at the end is observed, not documented.
        """
        log = self._instance.log
        log.finish_line()
        log.line(f"END RequestId: {self.request_id}")
        parts = [
            f"REPORT RequestId: {self.request_id}",
            f"Duration: {spent:.2f} ms",
            f"Billed Duration: {int(spent + self.init / 1000) + 1} ms",
            f"Memory Size: {self._version.memory} MB",
            f"Max Memory Used: {min(self._physics.memory_used, self._version.memory)} MB",
        ]
        if self.init:
            parts.append(f"Init Duration: {self.init / 1000:.2f} ms")
        if outcome == "timeout":
            parts.append("Status: timeout")
        log.line("\t".join(parts))

    def _count(self, spent: float, outcome: Outcome) -> None:
        """Metrics bear the time at which the function was invoked."""
        function, at = self._function, self._row["started"]
        self._invocations.count(function, "Invocations", 1, at=at)
        self._invocations.count(function, "Errors", outcome in ("error", "timeout"), at=at)
        self._invocations.count(function, "Duration", round(spent, 2), "Milliseconds", at)


def _to_json(answer: Any, longest: int) -> str:
    try:
        text = json.dumps(answer, default=_number)
    except (TypeError, ValueError) as problem:
        raise GuestError("Runtime.MarshalError", f"Unable to marshal response: {problem}") from None
    if len(text) > longest:
        raise GuestError(
            "Function.ResponseSizeTooLarge",
            f"Response payload size exceeded maximum allowed payload size ({longest} bytes).",
        )
    return text


def _number(value: object) -> int | float:
    """Lambda's runtime takes the Decimals that DynamoDB's resource hands out; nothing else."""
    if isinstance(value, decimal.Decimal):
        return int(value) if value.is_finite() and value == int(value) else float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _iso(now: int) -> str:
    moment = datetime.fromtimestamp(now / MICROSECONDS, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
