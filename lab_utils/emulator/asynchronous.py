"""Asynchronous invocations: Lambda takes an event, and sees to it by itself.

An event whose invocation fails is tried twice more; one that is throttled waits until there is
room, up to its maximum age. What became of it can be told to a destination.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import simpy

from lab_utils.emulator import destinations
from lab_utils.emulator.errors import ApiError, not_modelled
from lab_utils.emulator.invocations import Result, Trigger
from lab_utils.emulator.physics import microseconds
from lab_utils.emulator.versions import LATEST, Family, Function, arn_of, paged

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region

Params = dict[str, Any]
Steps = Generator[simpy.Event, Any, None]
Condition = Literal["Success", "RetriesExhausted", "EventAgeExceeded", "ZeroReservedConcurrency"]
"""How an event ends; the last one's name is reported from the field, not documented."""


@dataclass(frozen=True)
class EventSettings:
    """How events for a function, a version or an alias are handled; None is AWS's default."""

    modified: int
    retries: int | None = None
    age: int | None = None
    on_success: str = ""
    on_failure: str = ""
    """The ARN of a destination, if there is one."""


NO_SETTINGS = EventSettings(0)


@dataclass(eq=False)
class Event:
    """One event in the queue of asynchronous invocations."""

    function: str
    """The ARN by which it was called: what it means is looked up at each try."""
    payload: str
    accepted: int
    request_id: str
    client_context: Params | None
    calls: int = 0
    """How often the function was called; throttled calls do not count."""
    last: Result | None = None


class Asynchronous:
    """The API of settings for asynchronous invocations, and the queue of events."""

    def __init__(self, region: Region) -> None:
        self._region, self._world = region, region.world
        self._scheduler, self._physics = region.world.scheduler, region.world.physics
        self._rng = region.world.rng("asynchronous")

    # -- the API --------------------------------------------------------------------------------

    def put(self, params: Params) -> Params:
        return self._set(params, NO_SETTINGS)

    def update(self, params: Params) -> Params:
        function = self._function(params)
        return self._set(params, self._settings(function.family, _key(function)))

    def get(self, params: Params) -> Params:
        function = self._region.functions.requested(params)
        self._settings(function.family, _key(function))
        return _described(function.family, _key(function))

    def delete(self, params: Params) -> Params:
        function = self._region.functions.requested(params)
        self._settings(function.family, _key(function))
        del function.family.event_settings[_key(function)]
        return {}

    def list(self, params: Params) -> Params:
        family = self._function({"FunctionName": params["FunctionName"]}).family
        page, marker = paged(sorted(family.event_settings), params)
        return {"FunctionEventInvokeConfigs": [_described(family, key) for key in page]} | marker

    def _set(self, params: Params, now: EventSettings) -> Params:
        retries, age = params.get("MaximumRetryAttempts"), params.get("MaximumEventAgeInSeconds")
        config = params.get("DestinationConfig")
        if retries is None and age is None and config is None:
            raise _invalid(
                "You must specify at least one of error handling or destination setting."
            )
        function = self._function(params)
        if config is not None:
            self._check_destinations(function, config)
            now = replace(
                now, on_success=_arn(config, "OnSuccess"), on_failure=_arn(config, "OnFailure")
            )
        function.family.event_settings[_key(function)] = replace(
            now,
            modified=self._scheduler.now,
            retries=now.retries if retries is None else retries,
            age=now.age if age is None else age,
        )
        return _described(function.family, _key(function))

    def _function(self, params: Params) -> Function:
        try:
            return self._region.functions.requested(params)
        except ApiError as error:
            if error.code != "ResourceNotFoundException":
                raise
            raise ApiError(error.code, "The function doesn't exist.", 404) from None

    def _settings(self, family: Family, key: str) -> EventSettings:
        if key not in family.event_settings:
            raise ApiError(
                "ResourceNotFoundException",
                f"The function {arn_of(family.region, family.name, key)} doesn't have an "
                "EventInvokeConfig",
                404,
            )
        return family.event_settings[key]

    def _check_destinations(self, function: Function, config: Params) -> None:
        for side in ("OnSuccess", "OnFailure"):
            arn = _arn(config, side)
            service = arn.split(":")[2] if arn.count(":") > 1 else ""
            if service == "events":
                raise not_modelled("An event bus as a destination", "Lambda")
            if arn and (
                service not in destinations.ACTIONS
                or arn.endswith(".fifo")
                or (service == "s3" and side == "OnSuccess")
            ):
                raise _invalid(_invalid_config(config))
            if service == "lambda":
                self._check_function(function, arn)
            if arn:
                destinations.check_allowed(self._world, function.role, arn)
            if service == "s3" and not self._world.permissions.allows(
                function.role, "s3:ListBucket", arn
            ):
                raise _invalid(
                    "The provided execution role does not have permissions to call ListBucket on S3"
                )

    def _check_function(self, function: Function, arn: str) -> None:
        target = self._world.region(arn.split(":")[3]).functions.find(arn)
        if target is None:
            raise _invalid(f"The destination ARN {arn} is invalid.")
        if target.family is function.family:
            raise _invalid("You can't specify the function as a destination for itself.")

    # -- the queue ------------------------------------------------------------------------------

    def accept(self, function: Function, payload: str, client_context: Params | None) -> None:
        """Take an event (a JSON text) for a function, as it was called."""
        event = Event(
            function.arn,
            payload,
            self._scheduler.now,
            self._world.new_id(self._rng),
            client_context,
        )
        self._region.functions.count(function, "AsyncEventsReceived", 1)
        self._scheduler.env.process(self._see_to(event))

    def pass_on(self, arn: str, payload: str) -> bool:
        """Take the record of another event; whether there is such a function."""
        function = self._region.functions.find(arn)
        if function is not None:
            self.accept(function, payload, None)
        return function is not None

    def _see_to(self, event: Event) -> Steps:
        """Try until it works, or all tries are used, or the event is too old.

        Each try is for the function as it is then; without one the event is lost. An event waits
        in the queue until its next try or until its age is over, whichever comes first: at which
        of the two AWS drops it is not documented.
        """
        pause, longest = self._physics.async_throttle_delay
        while (function := self._region.functions.find(event.function)) is not None:
            settings = function.family.event_settings.get(_key(function), NO_SETTINGS)
            left = event.accepted + self._longest(settings) - self._scheduler.now
            if left <= 0:
                return self._end(event, function, "EventAgeExceeded")
            if function.reserved == 0:
                return self._end(event, function, "ZeroReservedConcurrency")
            result = yield from self._try(event, function)
            if result.outcome == "throttled":
                delay, pause = pause, min(2 * pause, longest)
            elif result.outcome == "ok":
                return self._end(event, function, "Success")
            elif event.calls > self._retries(settings):
                return self._end(event, function, "RetriesExhausted")
            else:
                delay = self._physics.async_retry_delays[event.calls - 1]
            left = event.accepted + self._longest(settings) - self._scheduler.now
            yield self._scheduler.env.timeout(max(0, min(microseconds(delay), left)))

    def _try(self, event: Event, function: Function) -> Generator[simpy.Event, Any, Result]:
        age = (self._scheduler.now - event.accepted) / 1000
        self._region.functions.count(function, "AsyncEventAge", age, "Milliseconds")
        result: Result = yield self._region.functions.invoke(
            function,
            event.payload,
            Trigger(
                attempt=event.calls + 1,
                request_id=event.request_id,
                client_context=event.client_context,
            ),
        )
        if result.outcome != "throttled":
            event.calls, event.last = event.calls + 1, result
        return result

    def _retries(self, settings: EventSettings) -> int:
        return self._physics.async_retries if settings.retries is None else settings.retries

    def _longest(self, settings: EventSettings) -> int:
        """How long an event may stay in the queue, in microseconds."""
        age = self._physics.async_event_life if settings.age is None else settings.age
        return microseconds(age)

    def _end(self, event: Event, function: Function, condition: Condition) -> None:
        """An event leaves the queue; word of it goes to the destination, if there is one."""
        settings = function.family.event_settings.get(_key(function), NO_SETTINGS)
        arn = settings.on_success if condition == "Success" else settings.on_failure
        if arn:
            name, now = function.family.name, self._scheduler.now
            end = destinations.dated(now, self._world.new_id(self._rng))
            arrived = destinations.deliver(
                self._world,
                self._region.name,
                function.role,
                arn,
                json.dumps(_record(event, function, condition, now), separators=(",", ":")),
                f"aws/lambda/async/{name}/{end}",
            )
            if not arrived:
                self._region.functions.count(function, "DestinationDeliveryFailures", 1)
        if condition != "Success":
            self._region.functions.count(function, "AsyncEventsDropped", 1)


def _record(event: Event, function: Function, condition: Condition, now: int) -> Params:
    """What a destination is told, `now` in microseconds; its form is the Developer Guide's."""
    arn = arn_of(function.family.region, function.name, _key(function))
    record: Params = {
        "version": "1.0",
        "timestamp": destinations.milliseconds(now),
        "requestContext": {
            "requestId": event.request_id,
            "functionArn": arn,
            "condition": condition,
            "approximateInvokeCount": event.calls,
        },
        "requestPayload": json.loads(event.payload),
    }
    if event.last is not None:
        context: Params = {"statusCode": 200, "executedVersion": event.last.version}
        if event.last.error:
            context["functionError"] = event.last.error
        record["responseContext"] = context
        record["responsePayload"] = json.loads(event.last.payload)
    return record


def _key(function: Function) -> str:
    """Under which the settings of a function, a version or an alias are kept."""
    return function.qualifier or LATEST


def _arn(config: Params, side: str) -> str:
    return str((config.get(side) or {}).get("Destination") or "")


def _described(family: Family, key: str) -> Params:
    settings = family.event_settings[key]
    described: Params = {
        "LastModified": settings.modified // 1000 / 1000,
        "FunctionArn": arn_of(family.region, family.name, key),
        "DestinationConfig": {
            side: {"Destination": arn} if arn else {}
            for side, arn in (
                ("OnSuccess", settings.on_success),
                ("OnFailure", settings.on_failure),
            )
        },
    }
    if settings.retries is not None:
        described["MaximumRetryAttempts"] = settings.retries
    if settings.age is not None:
        described["MaximumEventAgeInSeconds"] = settings.age
    return described


def _invalid_config(config: Params) -> str:
    sides = {
        side: f"{side}(destination={arn})" if (arn := _arn(config, side)) else "null"
        for side in ("OnSuccess", "OnFailure")
    }
    return (
        "The provided destination config DestinationConfig("
        f"onSuccess={sides['OnSuccess']}, onFailure={sides['OnFailure']}) is invalid."
    )


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValueException", message)
