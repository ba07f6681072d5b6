"""Lambda functions: their code, their instances, and what happens when one is invoked.

An instance (AWS: execution environment) handles one invocation at a time and keeps its modules'
globals as long as it lives. How long an invocation takes is the sum of the virtual time its code
spends in API calls and sleeps: computing is free.
"""

from __future__ import annotations

import base64
import decimal
import hashlib
import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import simpy

from lab_utils.emulator.backing import ACCOUNT
from lab_utils.emulator.errors import ApiError, not_modelled, refuse
from lab_utils.emulator.guest import Context, GuestError, GuestModules, describe_error, error_log
from lab_utils.emulator.logbook import LogStream
from lab_utils.emulator.physics import MB, MICROSECONDS, between, microseconds
from lab_utils.emulator.scheduler import Guest, GuestEnded, GuestOverrun
from lab_utils.emulator.wire import decode_blob

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region, World

Params = dict[str, Any]
Outcome = Literal["ok", "partial", "error", "timeout", "throttled"]

SETTINGS = ("Description", "Timeout", "MemorySize", "Role", "Handler", "Runtime", "Environment")
MODELLED = frozenset(
    {
        "FunctionName",
        "Code",
        "Architectures",
        "PackageType",
        "DryRun",
        "ZipFile",
        "RevisionId",
        *SETTINGS,
    }
)
ARCHITECTURES = ["x86_64"]
LONGEST_TIMEOUT = 900
"""Seconds; the service model that validates requests does not know this limit."""
TAIL_BYTES = 4096


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


@dataclass(eq=False)
class Instance:
    """One execution environment of a function."""

    world: World
    function: Function
    settings: Function
    """The function as it was configured when the instance began, which it keeps to its end."""
    number: int
    log: LogStream
    modules: GuestModules | None = None
    handler: Callable[[Any, Any], Any] | None = None
    last_used: int = 0
    request_id: str = ""
    exited: bool = False
    """Its code ended the process, which takes the instance with it."""

    @property
    def name(self) -> str:
        return f"{self.function.name}/{self.number}"

    @property
    def role(self) -> str:
        """Whose permissions the instance's AWS calls have."""
        return self.settings.role

    @property
    def session_name(self) -> str:
        return self.function.name


@dataclass(eq=False)
class Function:
    """A function as it is configured now."""

    region: str
    name: str
    role: str
    handler: str
    runtime: str
    files: dict[str, bytes]
    code_sha256: str
    code_size: int
    timeout: int = 3
    memory: int = 128
    description: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    modified: int = 0
    revision: str = ""
    reserved: int | None = None
    running: int = 0
    started_instances: int = 0
    idle: list[Instance] = field(default_factory=list)
    generation: int = 0

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{ACCOUNT}:function:{self.name}"

    @property
    def log_group(self) -> str:
        return f"/aws/lambda/{self.name}"


class Functions:
    """All functions of a Region: the API that makes them, and the invocations."""

    def __init__(self, region: Region) -> None:
        self._region, self._world = region, region.world
        self._scheduler, self._physics = region.world.scheduler, region.world.physics
        self._rng = region.world.rng("lambda")
        self._functions: dict[str, Function] = {}
        self.rows: list[dict[str, Any]] = []
        """One row for each invocation, in the order in which they began."""

    def find(self, name_or_arn: str) -> Function | None:
        """A function by its name, its ARN or a part of its ARN; qualifier $LATEST only."""
        return self._functions.get(self._name_of(name_or_arn) or "")

    def arn_as_given(self, name_or_arn: str) -> str:
        """The ARN of a function, with the qualifier that was given and without one if none was."""
        tail = name_or_arn.rpartition("function:")[2]
        if not name_or_arn.startswith("arn:") and tail.startswith(f"{ACCOUNT}:"):
            tail = tail.removeprefix(f"{ACCOUNT}:")
        return f"arn:aws:lambda:{self._region.name}:{ACCOUNT}:function:{tail}"

    def _name_of(self, name_or_arn: str) -> str | None:
        """The name in a name or an ARN; None if it is about another Region or account."""
        match = re.fullmatch(
            rf"(?:arn:aws:lambda:{self._region.name}:)?(?:{ACCOUNT}:)?"
            r"(?:function:)?([A-Za-z0-9_-]+)(?::\$LATEST)?",
            name_or_arn,
        )
        return match.group(1) if match else None

    # -- the API --------------------------------------------------------------------------------

    def create(self, params: Params) -> Params:
        name = self._name_of(params["FunctionName"])
        if name is None:
            raise ApiError(
                "InvalidParameterValueException",
                "The function's ARN is of another Region or account: give its name.",
            )
        if name in self._functions:
            raise ApiError("ResourceConflictException", f"Function already exist: {name}", 409)
        _check_settings(params)
        runtime = params.get("Runtime", "")
        if params.get("PackageType", "Zip") != "Zip":
            raise not_modelled("A function from a container image", "Lambda")
        if not runtime or not params.get("Handler"):
            raise ApiError(
                "InvalidParameterValueException",
                "Runtime and Handler are mandatory "
                "parameters for functions created with deployment packages.",
            )
        self._check_role(params["Role"])
        files, digest, size = _unzip(params["Code"])
        function = Function(
            self._region.name, name, params["Role"], params["Handler"], runtime, files, digest, size
        )
        self._functions[name] = function
        self._configure(function, params)
        return self._configuration(function) | {
            "State": "Pending",
            "StateReason": "The function is being created.",
            "StateReasonCode": "Creating",
        }

    def get(self, params: Params) -> Params:
        function = self._function(params)
        result: Params = {
            "Configuration": self._configuration(function),
            "Tags": {},
            "Code": {"RepositoryType": "S3"},
        }
        if function.reserved is not None:
            result["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved}
        return result

    def get_configuration(self, params: Params) -> Params:
        return self._configuration(self._function(params))

    def list(self, params: Params) -> Params:
        refuse(params, "a function", "MasterRegion", service="Lambda")
        names = [name for name in sorted(self._functions) if name > params.get("Marker", "")]
        page = names[: params.get("MaxItems", 50)]
        result: Params = {
            "Functions": [self._configuration(self._functions[each]) for each in page]
        }
        if len(page) < len(names):
            result["NextMarker"] = page[-1]
        return result

    def update_code(self, params: Params) -> Params:
        _check_settings(params)
        function = self._function(params)
        _refuse_stale(function, params)
        files, digest, size = _unzip(params)
        if not params.get("DryRun"):
            function.files, function.code_sha256, function.code_size = files, digest, size
            self._renew(function)
        return self._configuration(function)

    def update_configuration(self, params: Params) -> Params:
        _check_settings(params)
        function = self._function(params)
        _refuse_stale(function, params)
        if "Role" in params:
            self._check_role(params["Role"])
        self._configure(function, params)
        return self._configuration(function)

    def delete(self, params: Params) -> Params:
        function = self._function(params)
        if "Qualifier" in params:
            raise ApiError(
                "InvalidParameterValueException",
                "$LATEST version cannot be deleted without deleting the function.",
            )
        del self._functions[function.name]
        return {"StatusCode": 204}

    def put_concurrency(self, params: Params) -> Params:
        function = self._function(params)
        wanted = params["ReservedConcurrentExecutions"]
        others = self._reserved() - (function.reserved or 0)
        least = self._physics.unreserved_concurrency
        if self._physics.account_concurrency - others - wanted < least:
            raise ApiError(
                "InvalidParameterValueException",
                "Specified ReservedConcurrent"
                "Executions for function decreases account's UnreservedConcurrent"
                f"Execution below its minimum value of [{least}].",
            )
        function.reserved = wanted
        return {"ReservedConcurrentExecutions": wanted}

    def get_concurrency(self, params: Params) -> Params:
        function = self._function(params)
        return (
            {} if function.reserved is None else {"ReservedConcurrentExecutions": function.reserved}
        )

    def delete_concurrency(self, params: Params) -> Params:
        self._function(params).reserved = None
        return {}

    def invoke_api(self, params: Params) -> Params | tuple[simpy.Event, Callable[[Any], Params]]:
        """Invoke: at once (an event to wait for, and how to answer then), later, or not at all."""
        function = self._function(params)
        refuse(
            params,
            "an invocation",
            "ClientContext",
            "DurableExecutionName",
            "TenantId",
            service="Lambda",
        )
        kind = params.get("InvocationType", "RequestResponse")
        payload = self._payload(params.get("Payload") or b"{}", kind)
        if kind == "DryRun":
            return {"StatusCode": 204, "Payload": b""}
        if kind == "Event":
            self._scheduler.env.process(self._later(function.name, payload))
            return {"StatusCode": 202, "Payload": b""}
        with_log = params.get("LogType") == "Tail"
        return self.invoke(function, payload, Trigger()), lambda result: _answer(result, with_log)

    def _payload(self, payload: bytes, kind: str) -> str:
        limit = (
            self._physics.async_payload_bytes if kind == "Event" else self._physics.payload_bytes
        )
        if len(payload) > limit:
            raise ApiError(
                "RequestTooLargeException",
                f"{len(payload)} byte payload is too large "
                f"for the {kind} invocation type (limit {limit} bytes)",
                413,
            )
        try:
            text = payload.decode()
            json.loads(text)
        except ValueError as problem:
            raise ApiError(
                "InvalidRequestContentException",
                f"Could not parse request body into json: {problem}",
            ) from None
        return text

    def _later(self, name: str, payload: str) -> Any:
        """An asynchronous invocation: two more tries after errors, and patience with throttles.

        It is for the function of that name as it is at each try; without one the event is lost.
        """
        attempt, (pause, longest) = 1, self._physics.async_throttle_delay
        ends = self._scheduler.now + microseconds(self._physics.async_event_life)
        while (function := self._functions.get(name)) is not None and self._scheduler.now < ends:
            result = yield self.invoke(function, payload, Trigger(attempt=attempt))
            if result.outcome == "throttled":
                yield self._scheduler.env.timeout(microseconds(pause))
                pause = min(2 * pause, longest)
                continue
            if result.outcome == "ok" or attempt > self._physics.async_retries:
                return
            delay = self._physics.async_retry_delays[attempt - 1]
            yield self._scheduler.env.timeout(microseconds(delay))
            attempt += 1

    # -- configuration --------------------------------------------------------------------------

    def _configure(self, function: Function, params: Params) -> None:
        function.role = params.get("Role", function.role)
        function.handler = params.get("Handler", function.handler)
        function.runtime = params.get("Runtime", function.runtime)
        function.timeout = params.get("Timeout", function.timeout)
        function.memory = params.get("MemorySize", function.memory)
        function.description = params.get("Description", function.description)
        if "Environment" in params:
            function.environment = dict(params["Environment"].get("Variables", {}))
        self._renew(function)

    def _renew(self, function: Function) -> None:
        """New code or settings need new instances; those at work finish what they have begun."""
        function.generation += 1
        function.idle.clear()
        function.modified = self._scheduler.now
        function.revision = self._world.new_id(self._rng)

    def _configuration(self, function: Function) -> Params:
        moment = datetime.fromtimestamp(function.modified / MICROSECONDS, UTC)
        configuration: Params = {
            "FunctionName": function.name,
            "FunctionArn": function.arn,
            "Runtime": function.runtime,
            "Role": function.role,
            "Handler": function.handler,
            "CodeSize": function.code_size,
            "Description": function.description,
            "Timeout": function.timeout,
            "MemorySize": function.memory,
            "LastModified": moment.strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
            "CodeSha256": function.code_sha256,
            "Version": "$LATEST",
            "TracingConfig": {"Mode": "PassThrough"},
            "RevisionId": function.revision,
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "PackageType": "Zip",
            "Architectures": ARCHITECTURES,
            "EphemeralStorage": {"Size": 512},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": function.log_group},
        }
        if function.environment:
            configuration["Environment"] = {"Variables": function.environment}
        return configuration

    def _function(self, params: Params) -> Function:
        """The function that a request names; it has no versions and no aliases."""
        name, qualifier = params["FunctionName"], params.get("Qualifier", "$LATEST")
        function = self.find(name)
        if function is None or qualifier != "$LATEST":
            arn = (
                name
                if name.startswith("arn:")
                else (f"arn:aws:lambda:{self._region.name}:{ACCOUNT}:function:{name}")
            )
            arn += "" if qualifier == "$LATEST" else f":{qualifier}"
            raise ApiError("ResourceNotFoundException", f"Function not found: {arn}", 404)
        return function

    def _check_role(self, arn: str) -> None:
        if not self._world.backing.lambda_may_assume(self._region.name, arn):
            raise ApiError(
                "InvalidParameterValueException",
                "The role defined for the function cannot be assumed by Lambda.",
            )

    def _reserved(self) -> int:
        return sum(each.reserved or 0 for each in self._functions.values())

    # -- invocations ----------------------------------------------------------------------------

    def invoke(self, function: Function, payload: str, trigger: Trigger) -> simpy.Event:
        """Run a function on a JSON text; the event that is returned carries the `Result`."""
        done = self._scheduler.env.event()
        row = self._row(function, trigger)
        limit = self._limit_met(function)
        if limit is not None:
            row |= {"ended": row["started"], "outcome": "throttled"}
            done.succeed(Result("throttled", reason=limit))
            return done
        function.running += 1
        instance = self._take_instance(function)
        row["instance"] = instance.name
        run = _Run(self, instance, payload, row, done, trigger)
        delay = between(self._rng, self._physics.invoke_overhead)
        delay += microseconds(len(payload) / self._physics.payload_rate)
        if instance.handler is None:
            run.init = between(self._rng, self._physics.cold_start)
        self._scheduler.after(delay + run.init, run.begin)
        return done

    def _row(self, function: Function, trigger: Trigger) -> dict[str, Any]:
        now = self._scheduler.now
        age = None if trigger.newest is None else (now - trigger.newest) / MICROSECONDS
        row = {
            "function": function.name,
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

    def _limit_met(self, function: Function) -> str | None:
        """What AWS calls the concurrency limit that stands in the way of one more invocation."""
        if function.reserved is not None:
            full = function.running >= function.reserved
            return "ReservedFunctionConcurrentInvocationLimitExceeded" if full else None
        running = sum(each.running for each in self._functions.values() if each.reserved is None)
        full = running >= self._physics.account_concurrency - self._reserved()
        return "ConcurrentInvocationLimitExceeded" if full else None

    def _take_instance(self, function: Function) -> Instance:
        """The instance that was idle last, or a new one."""
        oldest = self._scheduler.now - microseconds(self._physics.idle_instance_life)
        function.idle = [each for each in function.idle if each.last_used >= oldest]
        return function.idle.pop() if function.idle else self._new_instance(function)

    def _new_instance(self, function: Function) -> Instance:
        function.started_instances += 1
        day = datetime.fromtimestamp(self._scheduler.now / MICROSECONDS, UTC).strftime("%Y/%m/%d")
        log = LogStream(
            self._world.logbook,
            self._region.name,
            function.log_group,
            f"{day}/[$LATEST]{self._rng.getrandbits(128):032x}",
        )
        instance = Instance(
            self._world, function, replace(function, idle=[]), function.started_instances, log
        )
        instance.modules = GuestModules(
            dict(function.files),
            environ=self._environ(function, log),
            now=lambda: self._scheduler.now,
            sleep=self._scheduler.sleep,
            rng=random.Random(self._rng.getrandbits(64)),
            session=self._world.guest_session(self._region.name),
            request_id=lambda: instance.request_id,
        )
        return instance

    def _environ(self, function: Function, log: LogStream) -> dict[str, str]:
        return {
            "AWS_REGION": function.region,
            "AWS_DEFAULT_REGION": function.region,
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
            "AWS_LAMBDA_LOG_GROUP_NAME": log.group,
            "AWS_LAMBDA_LOG_STREAM_NAME": log.stream,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
            "LAMBDA_TASK_ROOT": "/var/task",
            "_HANDLER": function.handler,
            "TZ": ":UTC",
            "LANG": "en_US.UTF-8",
            **function.environment,
        }

    def release(self, instance: Instance, alive: bool) -> None:
        """An invocation is over: its instance waits for the next one, if it is to live on."""
        function = instance.function
        function.running -= 1
        if alive and instance.settings.generation == function.generation:
            instance.last_used = self._scheduler.now
            function.idle.append(instance)


class _Run:
    """One invocation, from its instance's first line to the REPORT in the log."""

    def __init__(
        self,
        functions: Functions,
        instance: Instance,
        payload: str,
        row: dict[str, Any],
        done: simpy.Event,
        trigger: Trigger,
    ) -> None:
        self._functions, self._instance, self._settings = functions, instance, instance.settings
        self._scheduler = functions._scheduler
        self._payload, self._row, self._done = payload, row, done
        self._reported = trigger.reported
        self._request_id = functions._world.new_id(functions._rng)
        self._began = 0
        self._guest: Guest | None = None
        self.init = 0

    def begin(self) -> None:
        instance, log = self._instance, self._instance.log
        self._began = self._scheduler.now
        instance.request_id = self._request_id
        log.tail = []
        log.line(f"START RequestId: {self._request_id} Version: $LATEST")
        self._scheduler.after(self._settings.timeout * MICROSECONDS, self._time_out)
        self._context = self._make_context()
        self._guest = self._scheduler.start(self._work, instance, log)
        self._guest.done.callbacks.append(lambda event: self._end(event.value))

    def _work(self) -> Result:
        """Inside the guest: foreign code, so anything may be raised, and nothing gets out."""
        instance = self._instance
        assert instance.modules is not None
        try:
            instance.modules.activate()
            if instance.handler is None:
                instance.handler = instance.modules.lookup(self._settings.handler)
            answer = instance.handler(json.loads(self._payload), self._context)
            return Result("ok", _to_json(answer, self._functions._physics.payload_bytes))
        except GuestEnded:
            return Result("timeout")
        except (KeyboardInterrupt, GuestOverrun) as stop:
            return self._stopped(stop)
        except SystemExit as leave:
            return self._exited(leave.code)
        except BaseException as problem:
            return self._error(describe_error(problem, self._request_id))

    def _exited(self, code: object) -> Result:
        """The handler ended its process: AWS knows no more than the exit status."""
        status = code if isinstance(code, int) else 0 if code is None else 1
        why = f"with error: exit status {status}" if status else "without providing a reason"
        message = f"RequestId: {self._request_id} Error: Runtime exited {why}"
        self._instance.log.write(f"{message}\nRuntime.ExitError\n")
        self._instance.exited = True
        return Result(
            "error",
            json.dumps({"errorType": "Runtime.ExitError", "errorMessage": message}),
            "Unhandled",
        )

    def _end(self, value: Result | BaseException) -> None:
        self._finish(value if isinstance(value, Result) else self._stopped(value))

    def _make_context(self) -> Context:
        function, ends = self._settings, self._began + self._settings.timeout * MICROSECONDS
        return Context(
            function_name=function.name,
            function_version="$LATEST",
            invoked_function_arn=function.arn,
            memory_limit_in_mb=function.memory,
            aws_request_id=self._request_id,
            log_group_name=self._instance.log.group,
            log_stream_name=self._instance.log.stream,
            remaining=lambda: (ends - self._scheduler.now) // 1000,
        )

    def _stopped(self, stop: BaseException) -> Result:
        text = str(stop) or "the invocation was interrupted"
        return self._error(
            {
                "errorMessage": text,
                "errorType": type(stop).__name__,
                "requestId": self._request_id,
                "stackTrace": [],
            }
        )

    def _error(self, payload: Params) -> Result:
        self._instance.log.write(error_log(payload))
        return Result("error", json.dumps(payload), error="Unhandled")

    def _time_out(self) -> None:
        if self._row["outcome"] is not None or self._guest is None:
            return
        self._scheduler.abandon(self._guest)
        message = f"Task timed out after {self._settings.timeout:.2f} seconds"
        self._instance.log.line(f"{_iso(self._scheduler.now)} {self._request_id} {message}")
        self._finish(
            Result(
                "timeout",
                json.dumps(
                    {
                        "errorType": "Sandbox.Timedout",
                        "errorMessage": f"RequestId: {self._request_id} Error: {message}",
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
        self._report()
        broken = (
            result.outcome == "timeout"
            or self._instance.exited
            or (result.outcome == "error" and self._instance.handler is None)
        )
        self._functions.release(self._instance, not broken)
        self._done.succeed(
            Result(
                outcome,
                result.payload,
                result.error,
                self._request_id,
                tuple(self._instance.log.tail),
            )
        )

    def _report(self) -> None:
        log, spent = self._instance.log, (self._scheduler.now - self._began) / 1000
        log.finish_line()
        log.line(f"END RequestId: {self._request_id}")
        used = self._functions._physics.memory_used
        parts = [
            f"REPORT RequestId: {self._request_id}",
            f"Duration: {spent:.2f} ms",
            f"Billed Duration: {int(spent + self.init / 1000) + 1} ms",
            f"Memory Size: {self._settings.memory} MB",
            f"Max Memory Used: {min(used, self._settings.memory)} MB",
        ]
        if self.init:
            parts.append(f"Init Duration: {self.init / 1000:.2f} ms")
        log.line("\t".join(parts))


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


def _answer(result: Result, with_log: bool) -> Params:
    if result.outcome == "throttled":
        raise ApiError("TooManyRequestsException", "Rate Exceeded.", 429, Reason=result.reason)
    answer: Params = {
        "StatusCode": 200,
        "ExecutedVersion": "$LATEST",
        "Payload": result.payload.encode(),
    }
    if result.error:
        answer["FunctionError"] = result.error
    if with_log:
        tail = "\n".join(result.log).encode(errors="replace")[-TAIL_BYTES:]
        answer["LogResult"] = base64.b64encode(tail).decode()
    return answer


def _iso(now: int) -> str:
    moment = datetime.fromtimestamp(now / MICROSECONDS, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _check_settings(params: Params) -> None:
    unknown = sorted(
        name
        for name, value in params.items()
        if name not in MODELLED and value not in (None, {}, [], False, "")
    )
    if unknown:
        raise not_modelled(f"{', '.join(unknown)} of a function", "Lambda")
    runtime = params.get("Runtime") or "python3"
    if not runtime.startswith("python3"):
        raise not_modelled(f"The runtime {runtime!r}: only Python", "Lambda")
    if params.get("Timeout", 0) > LONGEST_TIMEOUT:
        raise ApiError(
            "ValidationException",
            "1 validation error detected: Value "
            f"'{params['Timeout']}' at 'timeout' failed to satisfy constraint: Member "
            f"must have value less than or equal to {LONGEST_TIMEOUT}",
        )
    if params.get("Architectures", ARCHITECTURES) != ARCHITECTURES:
        raise not_modelled(f"Architectures={params['Architectures']} of a function", "Lambda")


def _refuse_stale(function: Function, params: Params) -> None:
    if params.get("RevisionId", function.revision) != function.revision:
        raise ApiError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the "
            "latest Revision Id. Call the GetFunction/GetAlias API to retrieve the "
            "latest Revision Id",
            412,
        )


def _unzip(code: Params) -> tuple[dict[str, bytes], str, int]:
    """The files of a function's zip, its SHA-256 in base64, and its size."""
    if "ZipFile" not in code:
        raise not_modelled("Code from anywhere but ZipFile", "Lambda")
    refuse(code, "a function's code", "S3Bucket", "ImageUri", "SourceKMSKeyArn", service="Lambda")
    data = decode_blob(code["ZipFile"])
    if len(data) > 50 * MB:
        raise ApiError(
            "RequestEntityTooLargeException",
            "Request must be smaller than 70167211 bytes for the CreateFunction operation",
            413,
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {
                name: archive.read(name) for name in archive.namelist() if not name.endswith("/")
            }
    except zipfile.BadZipFile:
        raise ApiError(
            "InvalidParameterValueException",
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ) from None
    return files, base64.b64encode(hashlib.sha256(data).digest()).decode(), len(data)
