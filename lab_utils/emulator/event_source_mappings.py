"""Event source mappings: how shards become running functions.

A mapping runs one poller for each shard it reads, parents to their end before their children. This
room holds the mappings: what they are asked for, when that takes effect, and which shards are due.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lab_utils.emulator import destinations
from lab_utils.emulator.backing import ACCOUNT
from lab_utils.emulator.destinations import GivenUp
from lab_utils.emulator.errors import ApiError, not_modelled
from lab_utils.emulator.event_sources import Source
from lab_utils.emulator.failures import Policy
from lab_utils.emulator.filters import Filters
from lab_utils.emulator.lambda_functions import Function, Functions
from lab_utils.emulator.physics import MICROSECONDS, between
from lab_utils.emulator.pollers import Poller
from lab_utils.emulator.shards import Shard
from lab_utils.emulator.tags import tagged
from lab_utils.emulator.versions import arn_of, paged

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region

Params = dict[str, Any]

SETTLED = ("Enabled", "Disabled")
"""The states in which a mapping may be changed or deleted."""

REPORTS = "ReportBatchItemFailures"
EVENT_COUNT = "EventCount"
SHORTEST_RECORD_AGE = 60
LISTED = 100
"""So many mappings are listed at a time, at most (API reference, ListEventSourceMappings)."""

DYNAMODB_ACTIONS = ("GetRecords", "GetShardIterator", "DescribeStream", "ListStreams")
KINESIS_ACTIONS = ("GetRecords", "GetShardIterator", "DescribeStream", "ListShards", "ListStreams")

MODELLED = frozenset(
    {
        "EventSourceArn",
        "FunctionName",
        "Enabled",
        "BatchSize",
        "StartingPosition",
        "StartingPositionTimestamp",
        "MaximumBatchingWindowInSeconds",
        "ParallelizationFactor",
        "TumblingWindowInSeconds",
        "MaximumRetryAttempts",
        "MaximumRecordAgeInSeconds",
        "BisectBatchOnFunctionError",
        "FunctionResponseTypes",
        "DestinationConfig",
        "UUID",
        "FilterCriteria",
        "MetricsConfig",
        "Tags",
    }
)


@dataclass(frozen=True)
class Settings:
    """What a mapping does with the records it reads. An update replaces them as a whole."""

    function: str
    """The function's ARN, with the qualifier that was given."""
    batch_size: int = 100
    window: float = 0
    factor: int = 1
    tumbling: int = 0
    filters: Filters = field(default_factory=lambda: Filters(None, ""))
    policy: Policy = field(default_factory=Policy)
    destination: str = ""
    """Where word of what is given up goes (an ARN), if anywhere."""
    counts: bool = False
    """Whether events are counted for CloudWatch."""


@dataclass(eq=False)
class Mapping:
    """One event source mapping and its pollers."""

    uuid: str
    source: Source
    start: str
    moment: float | None
    """Of AT_TIMESTAMP: where to start, in seconds since 1970."""
    settings: Settings
    """As they were asked for last."""
    state: str
    modified: int
    """When it was updated or its state changed last (API reference)."""
    enabled: bool = True
    deleted: bool = False
    last_result: str = "No records processed"
    pollers: dict[str, Poller] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    watching: bool = False
    """Whether it polls, or did: it hears of newborn shards from its first poll on."""
    polls_since: int = 0
    """When it began to poll, which is when it was decided where LATEST is."""
    batches: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, list[Shard]] = field(default_factory=dict)
    """Shards whose turn comes after that of a parent, by the parent's id. A parent that is read
    late may have left the stream's log by then, and its children with it; they are not skipped."""

    def __post_init__(self) -> None:
        self.active = self.settings
        """The settings that pollers heed: an update takes effect some time after it was asked."""

    @property
    def function(self) -> str:
        """The name of the function that gets the records now."""
        return self.active.function.split(":")[6]

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.source.region}:{ACCOUNT}:event-source-mapping:{self.uuid}"


class EventSourceMappings:
    """The API of mappings, and the shards that are due to be read."""

    def __init__(self, region: Region) -> None:
        self._region, self._world = region, region.world
        self.scheduler, self.physics = region.world.scheduler, region.world.physics
        self.rng = region.world.rng("mappings")
        self._destination_ids = region.world.rng("destinations")
        self._mappings: dict[str, Mapping] = {}

    def __iter__(self) -> Iterator[Mapping]:
        return iter(self._mappings.values())

    # -- the API --------------------------------------------------------------------------------

    def create(self, params: Params) -> Params:
        arn = params.get("EventSourceArn", "")
        _refuse_other_sources(arn)
        destinations.destination_of(params)
        start = _starting_position(params, arn)
        function = self.functions.find(params["FunctionName"])
        if function is None:
            raise _invalid("Function does not exist")
        _refuse_unmodelled(params)
        before = Settings(self.functions.arn_as_given(params["FunctionName"]))
        settings = self._changed(before, params, arn)
        source = self._source(arn)
        self._refuse_second(settings.function, function, arn)
        self._check_role(function, arn)
        destinations.check(self._world, function.role, settings.destination)
        mapping = Mapping(
            self._world.new_id(self.rng),
            source,
            start,
            self._starting_moment(params, start),
            settings,
            "Creating",
            self.scheduler.now,
            params.get("Enabled", True),
            tags=tagged("lambda", {}, params.get("Tags")),
        )
        self._mappings[mapping.uuid] = mapping
        self._settle_later(mapping, self.physics.mapping_creation)
        return self._described(mapping)

    def get(self, params: Params) -> Params:
        return self._described(self._mapping(params))

    def list(self, params: Params) -> Params:
        """Those of a function, be it there or not, and of a source.

        A name without a qualifier stands for all mappings of the function (assumed).
        """
        arn, name = params.get("EventSourceArn"), params.get("FunctionName")
        found = [
            mapping
            for mapping in self._mappings.values()
            if arn in (None, mapping.source.arn) and (name is None or self._is_for(mapping, name))
        ]
        page, marker = paged(found, params, LISTED)
        return {"EventSourceMappings": [self._described(each) for each in page]} | marker

    def _is_for(self, mapping: Mapping, name: str) -> bool:
        """Whether a mapping is for the function, the version or the alias of a name or an ARN."""
        return f"{mapping.settings.function}:".startswith(f"{self.functions.arn_as_given(name)}:")

    def update(self, params: Params) -> Params:
        mapping = self._mapping(params)
        arn = mapping.source.arn
        _refuse_unmodelled(params)
        before = mapping.settings
        if "FunctionName" in params:
            before = replace(before, function=self.functions.arn_as_given(params["FunctionName"]))
        settings = self._changed(before, params, arn)
        _refuse_unsettled(mapping, "update")
        function = self.functions.find(settings.function)
        if "FunctionName" in params:
            if function is None:
                raise _invalid("Function does not exist")
            if settings.function != mapping.settings.function:
                self._refuse_second(settings.function, function, arn)
            self._check_role(function, arn)
        if destinations.destination_of(params):
            role = function.role if function else ""
            destinations.check(self._world, role, settings.destination)
        mapping.settings = settings
        enabled = params.get("Enabled", mapping.enabled)
        mapping.state = (
            "Updating" if enabled == mapping.enabled else "Enabling" if enabled else "Disabling"
        )
        mapping.enabled = enabled
        mapping.modified = self.scheduler.now
        self._settle_later(mapping, self.physics.mapping_update)
        return self._described(mapping)

    def delete(self, params: Params) -> Params:
        mapping = self._mapping(params)
        _refuse_unsettled(mapping, "delete")
        mapping.state, mapping.modified = "Deleting", self.scheduler.now
        mapping.deleted = True
        if mapping.watching:
            mapping.source.log.off_birth(mapping)
        for poller in mapping.pollers.values():
            poller.end()
        self.scheduler.after(
            between(self.rng, self.physics.mapping_update),
            lambda: self._mappings.pop(mapping.uuid, None),
        )
        return self._described(mapping)

    def _changed(self, settings: Settings, params: Params, arn: str) -> Settings:
        """Settings with those of a request in them; what it does not name stays as it is."""
        names = {
            "batch_size": "BatchSize",
            "window": "MaximumBatchingWindowInSeconds",
            "factor": "ParallelizationFactor",
            "tumbling": "TumblingWindowInSeconds",
        }
        given = {
            ours: params[theirs] for ours, theirs in names.items() if params.get(theirs) is not None
        }
        if params.get("FilterCriteria") is not None:
            given["filters"] = Filters(params["FilterCriteria"], arn.split(":")[2])
        destination = destinations.destination_of(params)
        if destination is not None:
            given["destination"] = destination
        if params.get("MetricsConfig") is not None:
            metrics = params["MetricsConfig"].get("Metrics") or []
            for name in metrics:
                if name != EVENT_COUNT:
                    raise not_modelled(f"{name} of a mapping", "Lambda")
            given["counts"] = bool(metrics)
        changed = replace(settings, policy=_policy(params, settings.policy), **given)
        if changed.tumbling and changed.factor > 1:
            raise not_modelled("A tumbling window with a ParallelizationFactor above 1", "Lambda")
        return changed

    # -- checks ---------------------------------------------------------------------------------

    def _source(self, arn: str) -> Source:
        source = self._region.source(arn)
        if source is None:
            raise _invalid(f"Stream not found: {arn}")
        return source

    def _starting_moment(self, params: Params, start: str) -> float | None:
        """The words of both refusals are ours; that there are refusals is documented."""
        moment: float | None = params.get("StartingPositionTimestamp")
        if start != "AT_TIMESTAMP":
            if moment is not None:
                raise _invalid("StartingPositionTimestamp is for StartingPosition AT_TIMESTAMP.")
            return None
        if moment is None:
            raise _invalid("StartingPosition AT_TIMESTAMP needs a StartingPositionTimestamp.")
        if moment * MICROSECONDS > self.scheduler.now:
            raise _invalid("StartingPositionTimestamp cannot be in the future.")
        return moment

    def _refuse_second(self, target: str, function: Function, arn: str) -> None:
        for other in self._mappings.values():
            if other.settings.function == target and other.source.arn == arn:
                raise ApiError(
                    "ResourceConflictException",
                    f'The event source arn (" {arn} ") and function (" {function.name} ") '
                    "provided mapping already exists. Please update or delete the existing "
                    f"mapping with UUID {other.uuid}",
                    409,
                )

    def _may_read(self, role: str, arn: str) -> bool:
        service = arn.split(":")[2]
        return all(
            self._world.permissions.allows(role, f"{service}:{action}", arn)
            for action in _actions(service)
        )

    def _check_role(self, function: Function, arn: str) -> None:
        if not self._may_read(function.role, arn):
            raise _invalid(_cannot_access(arn))

    def _mapping(self, params: Params) -> Mapping:
        mapping = self._mappings.get(params["UUID"])
        if mapping is None:
            raise ApiError(
                "ResourceNotFoundException", "The resource you requested does not exist.", 404
            )
        return mapping

    def _described(self, mapping: Mapping) -> Params:
        settings = mapping.settings
        described: Params = {
            "UUID": mapping.uuid,
            "EventSourceMappingArn": mapping.arn,
            "StartingPosition": mapping.start,
            "BatchSize": settings.batch_size,
            "MaximumBatchingWindowInSeconds": int(settings.window),
            "ParallelizationFactor": settings.factor,
            "EventSourceArn": mapping.source.arn,
            "FunctionArn": settings.function,
            "LastModified": mapping.modified // 1000 / 1000,
            "LastProcessingResult": mapping.last_result,
            "State": mapping.state,
            "StateTransitionReason": "User action",
            "DestinationConfig": {
                "OnFailure": {"Destination": settings.destination} if settings.destination else {}
            },
            "MaximumRecordAgeInSeconds": settings.policy.record_age,
            "BisectBatchOnFunctionError": settings.policy.bisect,
            "MaximumRetryAttempts": settings.policy.retries,
            "TumblingWindowInSeconds": settings.tumbling,
            "FunctionResponseTypes": [REPORTS] if settings.policy.reports else [],
        }
        if mapping.moment is not None:
            described["StartingPositionTimestamp"] = mapping.moment
        if settings.filters:
            described["FilterCriteria"] = settings.filters.criteria
        if settings.counts:
            described["MetricsConfig"] = {"Metrics": [EVENT_COUNT]}
        return described

    # -- what pollers ask for -------------------------------------------------------------------

    @property
    def functions(self) -> Functions:
        return self._region.functions

    def unqualified_arn(self, mapping: Mapping) -> str:
        return arn_of(self._region.name, mapping.function)

    def role_of(self, mapping: Mapping) -> str:
        """The role of a mapping's function as it is now; "" if it is gone."""
        function = self.functions.find(mapping.active.function)
        return function.role if function else ""

    def may_read(self, mapping: Mapping) -> bool:
        """Whether the function's role may read the stream, still; a function that is gone may."""
        role = self.role_of(mapping)
        if not role or self._may_read(role, mapping.source.arn):
            return True
        mapping.last_result = f"PROBLEM: {_cannot_access(mapping.source.arn)}"
        return False

    def source_is_gone(self, mapping: Mapping) -> bool:
        """Whether what a mapping reads is there no more. Another stream of its name may be; that
        the mapping does not go over to it is assumed."""
        source = self._region.source(mapping.source.arn)
        return source is None or source.log is not mapping.source.log

    def next_batch(self, mapping: Mapping) -> int:
        """The number of a batch within its mapping."""
        mapping.batches += 1
        return mapping.batches

    def new_request_id(self) -> str:
        return self._world.new_id(self._destination_ids)

    def count(self, mapping: Mapping, name: str, events: int) -> None:
        """Count events for CloudWatch, if the mapping is to."""
        if events and mapping.active.counts:
            about = {"EventSourceMappingUUID": mapping.uuid}
            self._world.metrics.add(self._region.name, name, float(events), "Count", about)

    def tell_destination(self, mapping: Mapping, given_up: GivenUp) -> bool:
        """Send word of what a mapping gave up; the role is the function's as it is now.

        Tells whether the destination has it; False if there is none.
        """
        arn, function = mapping.active.destination, self.functions.find(mapping.active.function)
        if not arn or function is None:
            return False
        key = self._world.new_id(self._destination_ids)
        told = destinations.send(self._world, self._region.name, function.role, arn, given_up, key)
        if not told:
            self.functions.count(function, "DestinationDeliveryFailures", 1)
        return told

    # -- the life of a mapping ------------------------------------------------------------------

    def _settle_later(self, mapping: Mapping, delay: tuple[float, float]) -> None:
        """States change some time after they were asked to, and settings with them."""

        def settle() -> None:
            mapping.state = "Enabled" if mapping.enabled else "Disabled"
            mapping.modified, mapping.active = self.scheduler.now, mapping.settings
            if mapping.enabled:
                self._start(mapping)
            else:
                for poller in list(mapping.pollers.values()):
                    poller.pause()

        self.scheduler.after(between(self.rng, delay), settle)

    def _start(self, mapping: Mapping) -> None:
        """Polling begins (or goes on): only now is it decided where LATEST is."""
        if not mapping.watching:
            mapping.watching, mapping.polls_since = True, self.scheduler.now
            mapping.source.log.on_birth(mapping, partial(self._consider, mapping))
            for shard in mapping.source.log:
                if mapping.start != "LATEST":
                    self._consider(mapping, shard)
                elif shard.open:
                    self._poll(mapping, shard, shard.end)
                else:
                    mapping.finished.add(shard.id)
        for poller in list(mapping.pollers.values()):
            poller.resume()
            poller.renew()

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
            delay = between(self.rng, self.physics.child_discovery)
            self._poll(mapping, shard, self._first_position(mapping, shard), delay)
        else:
            self._poll(mapping, shard, self._first_position(mapping, shard))

    def _first_position(self, mapping: Mapping, shard: Shard) -> int:
        """Where a mapping that does not begin at LATEST begins in a shard."""
        if mapping.moment is None:
            return shard.trimmed
        return shard.position_at(round(mapping.moment * MICROSECONDS))

    def _poll(self, mapping: Mapping, shard: Shard, position: int, delay: int = 0) -> None:
        phase = self.rng.randrange(mapping.source.period)
        mapping.pollers[shard.id] = Poller(self, mapping, shard, position, phase, delay)

    def finished(self, mapping: Mapping, shard: Shard) -> None:
        """A shard is read to its end: its children are next."""
        mapping.finished.add(shard.id)
        for child in mapping.waiting.pop(shard.id, ()):
            self._consider(mapping, child)


# -- refusals -----------------------------------------------------------------------------------


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValueException", message)


def _actions(service: str) -> tuple[str, ...]:
    """What a function's role must allow on a stream that the function is to read."""
    return KINESIS_ACTIONS if service == "kinesis" else DYNAMODB_ACTIONS


def _cannot_access(arn: str) -> str:
    """The words are reported from the field, not recorded."""
    actions = _actions(arn.split(":")[2])
    listed = ", ".join(actions[:-1]) + f", and {actions[-1]}"
    return (
        f"Cannot access stream {arn}. Please ensure the role can perform the "
        f"{listed} Actions on your stream in IAM."
    )


def _refuse_other_sources(arn: str) -> None:
    """Refuse whatever is no stream of DynamoDB or Kinesis."""
    if not arn.startswith("arn:aws:"):
        raise _invalid("Unrecognized event source.")
    service, resource = arn.split(":", 5)[2::3]
    if service not in ("dynamodb", "kinesis"):
        raise not_modelled(f"A mapping from {service}", "Lambda")
    if service == "kinesis" and "/consumer/" in resource:
        raise not_modelled("A mapping from a consumer (enhanced fan-out)", "Lambda")


def _starting_position(params: Params, arn: str) -> str:
    start = params.get("StartingPosition")
    if start is None:
        raise _invalid(
            "1 validation error detected: Value null at 'startingPosition' failed to "
            "satisfy constraint: Member must not be null."
        )
    if start == "AT_TIMESTAMP" and arn.startswith("arn:aws:dynamodb:"):
        raise _invalid(f"Unsupported starting position for arn type: {arn}")
    return str(start)


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
        if name not in MODELLED and value not in (None, {}, [], ""):
            raise not_modelled(f"{name} of a mapping", "Lambda")
