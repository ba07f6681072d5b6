"""Event source mappings: how shards become running functions.

A mapping runs one poller for each shard it reads, parents to their end before their children. A
poller reads, cuts what it read into batches and hands them to the function one at a time: the next
batch of a shard is not invoked before the last one succeeded, and a batch that failed is tried
again as the very same batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import simpy

from lab_utils.emulator import destinations, failures
from lab_utils.emulator.backing import ACCOUNT
from lab_utils.emulator.destinations import GivenUp
from lab_utils.emulator.errors import ApiError, not_modelled
from lab_utils.emulator.failures import Condition, Part, Policy
from lab_utils.emulator.filters import Filters
from lab_utils.emulator.lambda_functions import Function, Result, Trigger
from lab_utils.emulator.physics import between, microseconds
from lab_utils.emulator.shards import Record, Shard, ShardLog

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region

Params = dict[str, Any]
Steps = Generator[simpy.Event, Any, None]

FAILED = "PROBLEM: Function call failed"
SETTLED = ("Enabled", "Disabled")
"""The states in which a mapping may be changed or deleted."""

REPORTS = "ReportBatchItemFailures"
SHORTEST_RECORD_AGE = 60

DYNAMODB_ACTIONS = ("GetRecords", "GetShardIterator", "DescribeStream", "ListStreams")
KINESIS_ACTIONS = ("GetRecords", "GetShardIterator", "DescribeStream", "ListShards", "ListStreams")

ONLY_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "ParallelizationFactor": (1,),
    "TumblingWindowInSeconds": (0,),
}
"""Settings that are modelled in their default only; any other value is refused."""
MODELLED = frozenset(
    {
        "EventSourceArn",
        "FunctionName",
        "Enabled",
        "BatchSize",
        "StartingPosition",
        "MaximumBatchingWindowInSeconds",
        "MaximumRetryAttempts",
        "MaximumRecordAgeInSeconds",
        "BisectBatchOnFunctionError",
        "FunctionResponseTypes",
        "DestinationConfig",
        "UUID",
        "FilterCriteria",
        *ONLY_DEFAULTS,
    }
)


@dataclass(frozen=True)
class Source:
    """A stream as a mapping reads it: its shards, and the limits of one read."""

    arn: str
    log: ShardLog
    period: int
    """Microseconds between two polls of a shard."""
    read_records: int
    read_bytes: int
    envelope: Callable[[Shard, Record, str], Params]
    """A record as the function gets it, from its shard, the record and the function's role."""


@dataclass(eq=False)
class Mapping:
    """One event source mapping and its pollers."""

    uuid: str
    function: str
    source: Source
    start: str
    batch_size: int
    window: float
    state: str
    modified: int
    filters: Filters
    enabled: bool = True
    policy: Policy = field(default_factory=Policy)
    destination: str = ""
    """Where word of what is given up goes (an ARN), if anywhere."""
    deleted: bool = False
    last_result: str = "No records processed"
    pollers: dict[str, Poller] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    watcher: Callable[[Shard], None] | None = None
    """Told of newborn shards; None before the first poll."""
    waiting: dict[str, list[Shard]] = field(default_factory=dict)
    """Shards whose turn comes after that of a parent, by the parent's id. A parent that is read
    late may have left the stream's log by then, and its children with it; they are not skipped."""

    @property
    def arn(self) -> str:
        region = self.source.arn.split(":")[3]
        return f"arn:aws:lambda:{region}:{ACCOUNT}:event-source-mapping:{self.uuid}"


class EventSourceMappings:
    """The API of mappings, and the work of their pollers."""

    def __init__(self, region: Region) -> None:
        self._region, self._world = region, region.world
        self._scheduler, self._physics = region.world.scheduler, region.world.physics
        self._rng = region.world.rng("mappings")
        self._destination_ids = region.world.rng("destinations")
        self._mappings: dict[str, Mapping] = {}

    def __iter__(self) -> Any:
        return iter(self._mappings.values())

    # -- the API --------------------------------------------------------------------------------

    def create(self, params: Params) -> Params:
        arn = params.get("EventSourceArn", "")
        if not arn.startswith(("arn:aws:kinesis:", "arn:aws:dynamodb:")):
            if arn.startswith("arn:aws:"):
                raise not_modelled(f"A mapping from {arn.split(':')[2]}", "Lambda")
            raise _invalid("Unrecognized event source.")
        destination = destinations.destination_of(params) or ""
        start = _starting_position(params, arn)
        function = self._region.functions.find(params["FunctionName"])
        if function is None:
            raise _invalid("Function does not exist")
        _refuse_unmodelled(params)
        filters = _filters(params, arn)
        source = self._source(arn)
        self._refuse_second(function, arn)
        self._check_role(function, arn)
        policy = _policy(params, Policy())
        destinations.check(self._world, function.role, destination)
        enabled = params.get("Enabled", True)
        mapping = Mapping(
            self._world.new_id(self._rng),
            function.name,
            source,
            start,
            params.get("BatchSize", 100),
            params.get("MaximumBatchingWindowInSeconds", 0),
            "Creating",
            self._scheduler.now,
            filters,
            enabled,
            policy,
            destination,
        )
        self._mappings[mapping.uuid] = mapping
        self._settle_later(mapping, self._physics.mapping_creation)
        return self._described(mapping)

    def get(self, params: Params) -> Params:
        return self._described(self._mapping(params))

    def list(self, params: Params) -> Params:
        function = params.get("FunctionName")
        wanted = self._region.functions.find(function) if function else None
        found = [
            mapping
            for mapping in self._mappings.values()
            if params.get("EventSourceArn") in (None, mapping.source.arn)
            and (function is None or (wanted and wanted.name == mapping.function))
        ]
        marker = params.get("Marker") or "0"
        if not marker.isdecimal():
            raise _invalid("Invalid Marker")
        start = int(marker)
        stop = start + params.get("MaxItems", 100)
        result: Params = {
            "EventSourceMappings": [self._described(each) for each in found[start:stop]]
        }
        if stop < len(found):
            result["NextMarker"] = str(stop)
        return result

    def update(self, params: Params) -> Params:
        mapping = self._mapping(params)
        _refuse_unmodelled(params)
        filters = _filters(params, mapping.source.arn)
        _refuse_unsettled(mapping, "update")
        function = self._region.functions.find(params.get("FunctionName", mapping.function))
        if "FunctionName" in params:
            if function is None:
                raise _invalid("Function does not exist")
            if function.name != mapping.function:
                self._refuse_second(function, mapping.source.arn)
            self._check_role(function, mapping.source.arn)
        policy = _policy(params, mapping.policy)
        destination = destinations.destination_of(params)
        if destination:
            destinations.check(self._world, function.role if function else "", destination)
        if function is not None:
            mapping.function = function.name
        mapping.policy = policy
        mapping.destination = mapping.destination if destination is None else destination
        if params.get("FilterCriteria") is not None:
            mapping.filters = filters
        mapping.batch_size = params.get("BatchSize", mapping.batch_size)
        mapping.window = params.get("MaximumBatchingWindowInSeconds", mapping.window)
        enabled = params.get("Enabled", mapping.enabled)
        mapping.state = (
            "Updating" if enabled == mapping.enabled else "Enabling" if enabled else "Disabling"
        )
        mapping.enabled = enabled
        mapping.modified = self._scheduler.now
        self._settle_later(mapping, self._physics.mapping_update)
        return self._described(mapping)

    def delete(self, params: Params) -> Params:
        mapping = self._mapping(params)
        _refuse_unsettled(mapping, "delete")
        mapping.state = "Deleting"
        mapping.deleted = True
        if mapping.watcher is not None:
            mapping.source.log.off_birth(mapping.watcher)
        self._stop(mapping)
        self._scheduler.after(
            between(self._rng, self._physics.mapping_update),
            lambda: self._mappings.pop(mapping.uuid, None),
        )
        return self._described(mapping)

    # -- checks ---------------------------------------------------------------------------------

    def _source(self, arn: str) -> Source:
        source = self._region.source(arn)
        if source is None:
            raise _invalid(f"Stream not found: {arn}")
        return source

    def _refuse_second(self, function: Function, arn: str) -> None:
        for other in self._mappings.values():
            if other.function == function.name and other.source.arn == arn:
                raise ApiError(
                    "ResourceConflictException",
                    f'The event source arn (" {arn} ") and function (" {function.name} ") '
                    "provided mapping already exists. Please update or delete the existing "
                    f"mapping with UUID {other.uuid}",
                    409,
                )

    def _check_role(self, function: Function, arn: str) -> None:
        """The words are reported from the field, not recorded."""
        service = arn.split(":")[2]
        actions = KINESIS_ACTIONS if service == "kinesis" else DYNAMODB_ACTIONS
        if not all(
            self._world.permissions.allows(function.role, f"{service}:{action}", arn)
            for action in actions
        ):
            listed = ", ".join(actions[:-1]) + f", and {actions[-1]}"
            raise _invalid(
                f"Cannot access stream {arn}. Please ensure the role can perform the "
                f"{listed} Actions on your stream in IAM."
            )

    def _mapping(self, params: Params) -> Mapping:
        mapping = self._mappings.get(params["UUID"])
        if mapping is None:
            raise ApiError(
                "ResourceNotFoundException", "The resource you requested does not exist.", 404
            )
        return mapping

    def _described(self, mapping: Mapping) -> Params:
        described: Params = {
            "UUID": mapping.uuid,
            "EventSourceMappingArn": mapping.arn,
            "StartingPosition": mapping.start,
            "BatchSize": mapping.batch_size,
            "MaximumBatchingWindowInSeconds": int(mapping.window),
            "ParallelizationFactor": 1,
            "EventSourceArn": mapping.source.arn,
            "FunctionArn": self.function_arn(mapping),
            "LastModified": mapping.modified // 1000 / 1000,
            "LastProcessingResult": mapping.last_result,
            "State": mapping.state,
            "StateTransitionReason": "User action",
            "DestinationConfig": {
                "OnFailure": {"Destination": mapping.destination} if mapping.destination else {}
            },
            "MaximumRecordAgeInSeconds": mapping.policy.record_age,
            "BisectBatchOnFunctionError": mapping.policy.bisect,
            "MaximumRetryAttempts": mapping.policy.retries,
            "TumblingWindowInSeconds": 0,
            "FunctionResponseTypes": [REPORTS] if mapping.policy.reports else [],
        }
        if mapping.filters:
            described["FilterCriteria"] = mapping.filters.criteria
        return described

    # -- what pollers ask for ----------------------------------------------------------------------

    def function_arn(self, mapping: Mapping) -> str:
        return f"arn:aws:lambda:{self._region.name}:{ACCOUNT}:function:{mapping.function}"

    def tell_destination(self, mapping: Mapping, given_up: GivenUp) -> None:
        """Send word of what a mapping gave up; the role is the function's as it is now."""
        function = self._region.functions.find(mapping.function)
        if not mapping.destination or function is None:
            return
        key = self._world.new_id(self._destination_ids)
        name = self._region.name
        destinations.send(self._world, name, function.role, mapping.destination, given_up, key)

    # -- the life of a mapping ------------------------------------------------------------------

    def _settle_later(self, mapping: Mapping, delay: tuple[float, float]) -> None:
        """States change some time after they were asked to."""

        def settle() -> None:
            mapping.state = "Enabled" if mapping.enabled else "Disabled"
            (self._start if mapping.enabled else self._stop)(mapping)

        self._scheduler.after(between(self._rng, delay), settle)

    def _start(self, mapping: Mapping) -> None:
        """Polling begins (or goes on): only now is it decided where LATEST is."""
        if mapping.watcher is None:
            mapping.watcher = partial(self._consider, mapping)
            mapping.source.log.on_birth(mapping.watcher)
            for shard in mapping.source.log:
                if mapping.start == "TRIM_HORIZON":
                    self._consider(mapping, shard)
                elif shard.open:
                    self._poll(mapping, shard, shard.end)
                else:
                    mapping.finished.add(shard.id)
        for poller in list(mapping.pollers.values()):
            poller.resume()

    def _stop(self, mapping: Mapping) -> None:
        for poller in list(mapping.pollers.values()):
            poller.pause()

    def _consider(self, mapping: Mapping, shard: Shard) -> None:
        """Read a shard once its parents are read to their end (or gone)."""
        if shard.id in mapping.pollers:
            return
        before = [
            parent
            for parent in shard.parents
            if parent not in mapping.finished
            and (parent in mapping.pollers or mapping.source.log.get(parent) is not None)
        ]
        if before:
            mapping.waiting.setdefault(before[0], []).append(shard)
        elif shard.parents:
            self._poll(mapping, shard, None, between(self._rng, self._physics.child_discovery))
        else:
            self._poll(mapping, shard, None)

    def _poll(self, mapping: Mapping, shard: Shard, position: int | None, delay: int = 0) -> None:
        start = shard.trimmed if position is None else position
        phase = self._rng.randrange(mapping.source.period)
        mapping.pollers[shard.id] = Poller(self, mapping, shard, start, phase, delay)

    def finished(self, mapping: Mapping, shard: Shard) -> None:
        """A shard is read to its end: its children are next."""
        mapping.finished.add(shard.id)
        for child in mapping.waiting.pop(shard.id, ()):
            self._consider(mapping, child)


class Poller:
    """Reads one shard for one mapping. Its position is that of the first record not yet done."""

    def __init__(
        self,
        mappings: EventSourceMappings,
        mapping: Mapping,
        shard: Shard,
        position: int,
        phase: int,
        delay: int,
    ) -> None:
        self._region = mappings._region
        self._mappings, self.mapping, self.shard = mappings, mapping, shard
        self._physics, self._rng = mappings._physics, mappings._rng
        self._env = mappings._scheduler.env
        self._phase = phase
        self.first = self.position = position
        self.progress: list[tuple[int, int]] = []
        """Each moment at which batches were done with, and the position from then on."""
        self._read_to, self._read_at = position, -1
        self._buffer: list[Record] = []
        self._request_id = mappings._world.new_id(mappings._destination_ids)
        """That of the last invocation; word of records that were never sent has one, too."""
        self._paused: simpy.Event | None = None
        self._news: simpy.Event | None = None
        self._env.process(self._run(delay))

    # -- told from outside ----------------------------------------------------------------------

    def pause(self) -> None:
        """Hand over no further batch; one that is with the function is let finish."""
        if self._paused is None:
            self._paused = self._env.event()
        self._wake()

    def resume(self) -> None:
        if self._paused is not None:
            paused, self._paused = self._paused, None
            paused.succeed()

    def _wake(self) -> None:
        if self._news is not None and not self._news.triggered:
            self._news.succeed()

    # -- the poller's day -----------------------------------------------------------------------

    def _run(self, delay: int) -> Steps:
        yield self._env.timeout(delay)
        while True:
            if self._paused is not None:
                if self.mapping.deleted:
                    return
                self._buffer.clear()
                self._read_to = self.position
                yield self._paused
            elif self._buffer:
                yield from self._next_batch()
            elif self._read_to < self.shard.end:
                yield self._next_tick()
                self._read()
            elif self.shard.open:
                yield self._something_new()
            else:
                break
        self._mappings.finished(self.mapping, self.shard)

    def _something_new(self) -> simpy.Event:
        """An idle poller costs nothing: it sleeps until its shard grows or closes."""
        self._news = self._env.event()
        self.shard.watch(self._wake)
        return self._news

    def _next_tick(self) -> simpy.Event:
        """The next moment of the poller's own grid: a record waits as long as it would have.

        One that has read at this very moment (and filtered it all out) waits for the moment after.
        """
        period, now = self.mapping.source.period, self._env.now
        ticks = -(-(now - self._phase) // period) + (self._read_at == now)
        return self._env.timeout(self._phase + ticks * period - now)

    def _read(self) -> None:
        source = self.mapping.source
        self.shard.trim(int(self._env.now) - source.log.retention)
        start = max(self._read_to, self.shard.trimmed)
        records = self.shard.read(start, source.read_records, source.read_bytes)
        self._buffer.extend(records)
        self._read_to, self._read_at = start + len(records), int(self._env.now)

    # -- batches --------------------------------------------------------------------------------

    def _next_batch(self) -> Steps:
        batch: list[Record] = []
        texts: list[str] = []
        room = self._physics.payload_bytes - len('{"Records":[]}')
        deadline = self._env.now + microseconds(self.mapping.window)
        while True:
            full, room = self._fill(batch, texts, room)
            if full or not batch or self._env.now >= deadline or self._paused is not None:
                break
            if self._read_to == self.shard.end:
                if not self.shard.open:
                    break
                yield self._something_new() | self._env.timeout(deadline - self._env.now)
            if self._read_to < self.shard.end:
                yield self._next_tick() | self._env.timeout(deadline - self._env.now)
            if self._env.now < deadline:
                self._read()
        yield from self._deliver(batch, texts)

    def _fill(self, batch: list[Record], texts: list[str], room: int) -> tuple[bool, int]:
        """Move records from the buffer into a batch; tell whether it is full, by count or bytes.

        What the filters keep out is gone without a trace, and is behind the poller like what the
        function was given; the window of a batch opens with the first record that is in it.
        """
        taken = 0
        role = self._role()
        for record in self._buffer:
            if len(batch) == self.mapping.batch_size:
                break
            event = self.mapping.source.envelope(self.shard, record, role)
            if not self.mapping.filters.match(event):
                taken += 1
                continue
            text = json.dumps(event, separators=(",", ":"))
            if len(text) + 1 > room and batch:
                del self._buffer[:taken]
                return True, room
            batch.append(record)
            texts.append(text)
            room -= len(text) + 1
            taken += 1
        del self._buffer[:taken]
        return len(batch) >= self.mapping.batch_size, room

    def _role(self) -> str:
        function = self._region.functions.find(self.mapping.function)
        return function.role if function else ""

    def _deliver(self, batch: list[Record], texts: list[str]) -> Steps:
        """A batch part by part, until all of it is delivered, given up, expired or stopped.

        What is left when the mapping is stopped will be read again when polling goes on.
        """
        parts, throttles, absences = [Part(0, len(batch))], 0, 0
        while parts and self._paused is None:
            part = self._let_age(batch, texts, parts.pop(0))
            if not part.size:
                self._checkpoint(batch, parts)
                continue
            result = yield from self._attempt(batch, texts, part)
            if result is None:  # no function: costs no attempt
                parts.insert(0, part)
                absences += 1
                self.mapping.last_result = FAILED
                yield self._env.timeout(microseconds(self._physics.backoff(absences)))
            elif result.outcome == "throttled":  # costs no attempt
                parts.insert(0, part)
                yield self._env.timeout(self._after_throttle(throttles))
                throttles += 1
            else:
                self._request_id = result.request_id
                done = self._done(batch, part, result)
                decision = failures.decide(part, done, self.mapping.policy)
                parts[:0] = decision.again
                if decision.given_up is not None:
                    self._give_up(batch, texts, part, "RetryAttemptsExhausted", result.error)
                self.mapping.last_result = "OK" if done == part.size else FAILED
                self._checkpoint(batch, parts)
                if decision.again:
                    yield self._env.timeout(microseconds(self._physics.backoff(part.attempt)))

    def _checkpoint(self, batch: list[Record], rest: list[Part]) -> None:
        """Move on to the first record of a batch that is not done with, or behind the batch."""
        if not rest:
            self.position = self._read_to - len(self._buffer)
        elif rest[0].start:
            self.position = self.shard.position_of(batch[rest[0].start].sequence)
        else:
            return
        if not self.progress or self.progress[-1][1] != self.position:
            self.progress.append((int(self._env.now), self.position))

    def _attempt(
        self, batch: list[Record], texts: list[str], part: Part
    ) -> Generator[simpy.Event, Any, Result | None]:
        """One try of a part of a batch; None if the function is gone."""
        function = self._region.functions.find(self.mapping.function)
        if function is None:
            return None
        last = batch[part.stop - 1].at
        reported = None
        if self.mapping.policy.reports:
            reported = partial(failures.reported, numbers=_numbers(batch, part))
        trigger = Trigger(self.shard.id, 0, part.size, part.attempt, last, reported)
        payload = '{"Records":[' + ",".join(texts[part.start : part.stop]) + "]}"
        result: Result = yield self._region.functions.invoke(function, payload, trigger)
        return result

    def _done(self, batch: list[Record], part: Part, result: Result) -> int:
        """How many records of a part, counted from its beginning, need not be tried again."""
        if result.outcome == "ok":
            return part.size
        if result.outcome == "partial":
            return failures.reported(result.payload, _numbers(batch, part)) or 0
        return 0

    def _let_age(self, batch: list[Record], texts: list[str], part: Part) -> Part:
        """A part without what is too old: expired records vanish, those past the limit are told."""
        now, times = int(self._env.now), [record.at for record in batch]
        _, part = failures.cut(part, times, now - self.mapping.source.log.retention)
        if self.mapping.policy.record_age != failures.UNLIMITED:
            limit = microseconds(self.mapping.policy.record_age)
            aged, part = failures.cut(part, times, now - limit)
            if aged.size:
                self._give_up(batch, texts, aged, "RecordAgeExceeded", None)
        return part

    def _give_up(
        self,
        batch: list[Record],
        texts: list[str],
        part: Part,
        condition: Condition,
        error: str | None,
    ) -> None:
        """The shard moves on without a part, and its destination is told if there is one."""
        exhausted = condition == "RetryAttemptsExhausted"
        self._mappings.tell_destination(
            self.mapping,
            GivenUp(
                condition,
                part.attempt if exhausted else failures.calls_of_aged(part),
                self._request_id,
                error,
                self._mappings.function_arn(self.mapping),
                self.mapping.source.arn,
                self.mapping.uuid,
                self.shard.id,
                batch[part.start : part.stop],
                texts[part.start : part.stop],
            ),
        )

    def _after_throttle(self, throttles: int) -> int:
        """Soon at first; one that is throttled again and again asks less and less often."""
        soon = between(self._rng, self._physics.throttle_delay)
        patience = max(1.0, throttles / self._physics.throttle_patience)
        return min(round(soon * patience), microseconds(self._physics.retry_ceiling))


def _numbers(batch: list[Record], part: Part) -> list[str]:
    """The sequence numbers of a part's records, as the function sees them."""
    return [str(record.sequence) for record in batch[part.start : part.stop]]


# -- what a function gets ---------------------------------------------------------------------


def dynamodb_envelope(arn: str) -> Callable[[Shard, Record, str], Params]:
    def envelope(_shard: Shard, record: Record, _role: str) -> Params:
        event = {**record.body, "eventSourceARN": arn}
        if "userIdentity" in event:  # Lambda spells its members in lower case (Developer Guide)
            who = event["userIdentity"]
            event["userIdentity"] = {"type": who["Type"], "principalId": who["PrincipalId"]}
        return event

    return envelope


def kinesis_envelope(arn: str, region: str) -> Callable[[Shard, Record, str], Params]:
    def envelope(shard: Shard, record: Record, role: str) -> Params:
        return {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": record.key,
                "sequenceNumber": record.body["SequenceNumber"],
                "data": record.body["Data"],
                "approximateArrivalTimestamp": record.at // 1000 / 1000,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard.id}:{record.sequence}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": role,
            "awsRegion": region,
            "eventSourceARN": arn,
        }

    return envelope


# -- refusals -----------------------------------------------------------------------------------


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValueException", message)


def _starting_position(params: Params, arn: str) -> str:
    start = params.get("StartingPosition")
    if start is None:
        raise _invalid(
            "1 validation error detected: Value null at 'startingPosition' failed to "
            "satisfy constraint: Member must not be null."
        )
    if start == "AT_TIMESTAMP":
        if arn.startswith("arn:aws:dynamodb:"):
            raise _invalid(f"Unsupported starting position for arn type: {arn}")
        raise not_modelled("StartingPosition AT_TIMESTAMP", "Lambda")
    return str(start)


def _filters(params: Params, arn: str) -> Filters:
    return Filters(params.get("FilterCriteria"), arn.split(":")[2])


def _policy(params: Params, now: Policy) -> Policy:
    """The settings for failures in a request; those that it does not name stay as they are now.

    Their ranges are in the service model, but for the ages that are too short to be allowed: what
    AWS says to those is reported from the field, not recorded.
    """

    def given(name: str, otherwise: Any) -> Any:
        value = params.get(name)
        return otherwise if value is None else value

    age = given("MaximumRecordAgeInSeconds", now.record_age)
    if 0 <= age < SHORTEST_RECORD_AGE:
        raise _invalid(
            "MaximumRecordAgeInSeconds must be either -1 (forever) or between "
            f"{SHORTEST_RECORD_AGE} and 604800 (inclusive)"
        )
    types = given("FunctionResponseTypes", [REPORTS] if now.reports else [])
    return Policy(
        given("MaximumRetryAttempts", now.retries),
        age,
        given("BisectBatchOnFunctionError", now.bisect),
        REPORTS in types,
    )


def _refuse_unsettled(mapping: Mapping, wish: str) -> None:
    if mapping.state not in SETTLED:
        raise ApiError(
            "ResourceInUseException",
            f"Cannot {wish} the event source mapping because it is in use.",
        )


def _refuse_unmodelled(params: Params) -> None:
    for name, value in params.items():
        if name in ONLY_DEFAULTS and value is not None and value not in ONLY_DEFAULTS[name]:
            raise not_modelled(f"{name}={value} of a mapping", "Lambda")
        if name not in MODELLED and value not in (None, {}, [], ""):
            raise not_modelled(f"{name} of a mapping", "Lambda")
