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

from lab_utils.emulator.backing import ACCOUNT
from lab_utils.emulator.errors import ApiError, not_modelled
from lab_utils.emulator.lambda_functions import Function, Trigger
from lab_utils.emulator.physics import between, microseconds
from lab_utils.emulator.shards import Record, Shard, ShardLog

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region

Params = dict[str, Any]
Steps = Generator[simpy.Event, Any, None]

SETTLED = ("Enabled", "Disabled")
"""The states in which a mapping may be changed or deleted."""

DYNAMODB_ACTIONS = ("GetRecords", "GetShardIterator", "DescribeStream", "ListStreams")
KINESIS_ACTIONS = ("GetRecords", "GetShardIterator", "DescribeStream", "ListShards", "ListStreams")

ONLY_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "ParallelizationFactor": (1,),
    "BisectBatchOnFunctionError": (False,),
    "MaximumRecordAgeInSeconds": (-1,),
    "MaximumRetryAttempts": (-1,),
    "TumblingWindowInSeconds": (0,),
    "FunctionResponseTypes": ([],),
    "FilterCriteria": ({}, {"Filters": []}),
    "DestinationConfig": ({}, {"OnFailure": {}}),
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
        "UUID",
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
    enabled: bool = True
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
        if "OnSuccess" in (params.get("DestinationConfig") or {}):
            raise _invalid(
                "Unsupported DestinationConfig parameter for given event source mapping type."
            )
        start = _starting_position(params, arn)
        function = self._region.functions.find(params["FunctionName"])
        if function is None:
            raise _invalid("Function does not exist")
        _refuse_unmodelled(params)
        source = self._source(arn)
        self._refuse_second(function, arn)
        self._check_role(function, arn)
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
            enabled,
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
        _refuse_unsettled(mapping, "update")
        if "FunctionName" in params:
            function = self._region.functions.find(params["FunctionName"])
            if function is None:
                raise _invalid("Function does not exist")
            if function.name != mapping.function:
                self._refuse_second(function, mapping.source.arn)
            self._check_role(function, mapping.source.arn)
            mapping.function = function.name
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
        return {
            "UUID": mapping.uuid,
            "EventSourceMappingArn": mapping.arn,
            "StartingPosition": mapping.start,
            "BatchSize": mapping.batch_size,
            "MaximumBatchingWindowInSeconds": int(mapping.window),
            "ParallelizationFactor": 1,
            "EventSourceArn": mapping.source.arn,
            "FunctionArn": f"arn:aws:lambda:{self._region.name}:{ACCOUNT}:function:"
            f"{mapping.function}",
            "LastModified": mapping.modified // 1000 / 1000,
            "LastProcessingResult": mapping.last_result,
            "State": mapping.state,
            "StateTransitionReason": "User action",
            "DestinationConfig": {"OnFailure": {}},
            "MaximumRecordAgeInSeconds": -1,
            "BisectBatchOnFunctionError": False,
            "MaximumRetryAttempts": -1,
            "TumblingWindowInSeconds": 0,
            "FunctionResponseTypes": [],
        }

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
        self._read_to = position
        self._buffer: list[Record] = []
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
        """The next moment of the poller's own grid: a record waits as long as it would have."""
        period, now = self.mapping.source.period, self._env.now
        ticks = -(-(now - self._phase) // period)
        return self._env.timeout(self._phase + ticks * period - now)

    def _read(self) -> None:
        source = self.mapping.source
        self.shard.trim(int(self._env.now) - source.log.retention)
        start = max(self._read_to, self.shard.trimmed)
        records = self.shard.read(start, source.read_records, source.read_bytes)
        self._buffer.extend(records)
        self._read_to = start + len(records)

    # -- batches --------------------------------------------------------------------------------

    def _next_batch(self) -> Steps:
        batch: list[Record] = []
        texts: list[str] = []
        room = self._physics.payload_bytes - len('{"Records":[]}')
        deadline = self._env.now + microseconds(self.mapping.window)
        while True:
            full, room = self._fill(batch, texts, room)
            if full or self._env.now >= deadline or self._paused is not None:
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
        """Move records from the buffer into a batch; tell whether it is full, by count or bytes."""
        taken = 0
        role = self._role()
        for record in self._buffer:
            if len(batch) == self.mapping.batch_size:
                break
            text = json.dumps(
                self.mapping.source.envelope(self.shard, record, role), separators=(",", ":")
            )
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
        """The same batch again and again, until it succeeds, expires or the mapping is stopped."""
        attempt, throttles = 1, 0
        while self._paused is None:
            alive = self._alive(batch)
            if not alive:
                break
            outcome = yield from self._attempt(batch[-alive:], texts[-alive:], attempt)
            if outcome == "ok":
                self.mapping.last_result = "OK"
                break
            if outcome == "throttled":  # costs no attempt
                yield self._env.timeout(self._after_throttle(throttles))
                throttles += 1
            else:
                self.mapping.last_result = "PROBLEM: Function call failed"
                yield self._env.timeout(microseconds(self._physics.backoff(attempt)))
                attempt += 1
        else:
            return  # stopped: the records will be read again when polling goes on
        self.position = self._read_to - len(self._buffer)
        self.progress.append((int(self._env.now), self.position))

    def _attempt(
        self, batch: list[Record], texts: list[str], attempt: int
    ) -> Generator[simpy.Event, Any, str]:
        function = self._region.functions.find(self.mapping.function)
        if function is None:
            return "error"
        trigger = Trigger(self.shard.id, 0, len(batch), attempt, batch[-1].at)
        payload = '{"Records":[' + ",".join(texts) + "]}"
        result = yield self._region.functions.invoke(function, payload, trigger)
        return str(result.outcome)

    def _after_throttle(self, throttles: int) -> int:
        """Soon at first; one that is throttled again and again asks less and less often."""
        soon = between(self._rng, self._physics.throttle_delay)
        patience = max(1.0, throttles / self._physics.throttle_patience)
        return min(round(soon * patience), microseconds(self._physics.retry_ceiling))

    def _alive(self, batch: list[Record]) -> int:
        """How many records of a batch, counted from its end, have not expired."""
        horizon = self._env.now - self.mapping.source.log.retention
        return sum(record.at >= horizon for record in batch)


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
