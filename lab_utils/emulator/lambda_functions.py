"""Lambda functions: the API that makes, changes and invokes them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import simpy

from lab_utils.emulator.asynchronous import Asynchronous
from lab_utils.emulator.backing import ACCOUNT
from lab_utils.emulator.errors import ApiError, not_modelled, refuse
from lab_utils.emulator.invocations import Invocations, Result, Trigger, reserved
from lab_utils.emulator.physics import MB
from lab_utils.emulator.tags import tagged
from lab_utils.emulator.versions import (
    ARCHITECTURES,
    LATEST,
    Family,
    Function,
    Named,
    Version,
    Versions,
    arn_of,
    paged,
    parse,
    refuse_stale,
)
from lab_utils.emulator.wire import decode_blob

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region

__all__ = ["Function", "Functions", "Result", "Trigger"]

Params = dict[str, Any]

CODE_STORAGE, UNZIPPED_CODE, ZIPPED_CODE = 75 * 1024 * MB, 250 * MB, 50 * MB
"""Bytes of code that an account and a function may have (Lambda quotas); told, and not enforced."""
MEMBERS = {
    "Description": "description",
    "Timeout": "timeout",
    "MemorySize": "memory",
    "Role": "role",
    "Handler": "handler",
    "Runtime": "runtime",
}
"""Where a version keeps the settings of a request."""
MODELLED = frozenset(
    {
        "FunctionName",
        "Code",
        "Architectures",
        "PackageType",
        "DryRun",
        "Publish",
        "ZipFile",
        "RevisionId",
        "Environment",
        "Tags",
        *MEMBERS,
    }
)
LONGEST_TIMEOUT = 900
"""Seconds; the service model that validates requests does not know this limit."""
TAIL_BYTES = 4096


class Functions:
    """All functions of a Region."""

    def __init__(self, region: Region) -> None:
        self._region, self._world = region, region.world
        self._physics = region.world.physics
        self._families: dict[str, Family] = {}
        self._invocations = Invocations(region)
        self.versions = Versions(region)
        self.asynchronous = Asynchronous(region)

    @property
    def families(self) -> Collection[Family]:
        return self._families.values()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row for each invocation, in the order in which they began."""
        return self._invocations.rows

    # -- by name --------------------------------------------------------------------------------

    def find(self, name_or_arn: str) -> Function | None:
        """A function by its name, its ARN or a part of its ARN, with or without a qualifier.

        $LATEST, a version or an alias; where an alias points to is looked up at every call.
        """
        family, qualifier = self._named(name_or_arn)
        return family.function(qualifier) if family else None

    def _named(self, name_or_arn: str) -> tuple[Family | None, str | None]:
        """No family if there is none of that name, or the ARN is of another Region or account."""
        named = parse(name_or_arn)
        if named is None:
            return None, None
        return self._families.get(named.name) if self._is_here(named) else None, named.qualifier

    def _is_here(self, named: Named) -> bool:
        return named.region in (None, self._region.name) and named.account in (None, ACCOUNT)

    def arn_as_given(self, name_or_arn: str) -> str:
        """The ARN of a function, with the qualifier that was given and without one if none was."""
        named = parse(name_or_arn)
        if name_or_arn.startswith("arn:") or named is None:
            return name_or_arn
        return arn_of(self._region.name, named.name, named.qualifier)

    def family(self, params: Params) -> Family:
        """The function that a request names, whichever of its versions."""
        family, qualifier = self._named(params["FunctionName"])
        if family is None:
            raise self._not_found(params["FunctionName"], params.get("Qualifier", qualifier))
        return family

    def whole(self, params: Params, complaint: ApiError) -> Family:
        """The function that a request names, which must not name one of its versions."""
        family = self.family(params)
        if self._named(params["FunctionName"])[1] not in (None, LATEST):
            raise complaint
        return family

    def requested(self, params: Params) -> Function:
        """The version of a function that a request names."""
        family = self.family(params)
        _, qualifier = self._named(params["FunctionName"])
        given = params.get("Qualifier", qualifier)
        if qualifier not in (None, given):
            raise ApiError(
                "InvalidParameterValueException",
                "The derived qualifier from the function name does not match the specified "
                "qualifier.",
            )
        function = family.function(given)
        if function is None:
            raise self._not_found(family.name, given)
        return function

    def _not_found(self, name_or_arn: str, qualifier: str | None) -> ApiError:
        arn = self.arn_as_given(name_or_arn)
        if qualifier not in (None, LATEST) and not arn.endswith(f":{qualifier}"):
            arn += f":{qualifier}"
        arn = arn.removesuffix(f":{LATEST}")
        return ApiError("ResourceNotFoundException", f"Function not found: {arn}", 404)

    # -- the API --------------------------------------------------------------------------------

    def create(self, params: Params) -> Params:
        named = parse(params["FunctionName"])
        if named is None or not self._is_here(named):
            raise ApiError(
                "InvalidParameterValueException",
                "The function's ARN is of another Region or account: give its name.",
            )
        if named.name in self._families:
            raise ApiError(
                "ResourceConflictException", f"Function already exist: {named.name}", 409
            )
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
        version = Version(
            LATEST, params["Role"], params["Handler"], runtime, *_unzip(params["Code"])
        )
        tags = tagged("lambda", {}, params.get("Tags"))
        family = Family(self._region.name, named.name, {LATEST: version}, tags=tags)
        self._families[named.name] = family
        self._renew(family, _configured(version, params))
        return self._changed(family, params) | {
            "State": "Pending",
            "StateReason": "The function is being created.",
            "StateReasonCode": "Creating",
        }

    def get(self, params: Params) -> Params:
        function = self.requested(params)
        result: Params = {
            "Configuration": function.described(),
            "Tags": dict(function.family.tags),
            "Code": {"RepositoryType": "S3"},
        }
        if function.reserved is not None:
            result["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved}
        return result

    def get_configuration(self, params: Params) -> Params:
        return self.requested(params).described()

    def list(self, params: Params) -> Params:
        """ListFunctions: $LATEST of each, or all versions."""
        refuse(params, "a function", "MasterRegion", service="Lambda")
        every = params.get("FunctionVersion") == "ALL"
        functions = [
            Function(family, version, version.number if every else None)
            for _, family in sorted(self._families.items())
            for version in (family.versions.values() if every else [family.latest])
        ]
        page, marker = paged(functions, params)
        return {"Functions": [each.described() for each in page]} | marker

    def update_code(self, params: Params) -> Params:
        _check_settings(params)
        family = self.whole(params, not_modelled("A change of a published version", "Lambda"))
        refuse_stale(family.latest.revision, params)
        files, digest, size = _unzip(params)
        if params.get("DryRun"):
            return Function(family, family.latest).described()
        self._renew(family, replace(family.latest, files=files, code_sha256=digest, code_size=size))
        return self._changed(family, params)

    def update_configuration(self, params: Params) -> Params:
        _check_settings(params)
        family = self.whole(params, not_modelled("A change of a published version", "Lambda"))
        refuse_stale(family.latest.revision, params)
        if "Role" in params:
            self._check_role(params["Role"])
        self._renew(family, _configured(family.latest, params))
        return Function(family, family.latest).described()

    def _renew(self, family: Family, version: Version) -> None:
        revision = self._world.new_id(self._invocations.rng)
        family.renew(replace(version, modified=self._world.scheduler.now, revision=revision))

    def _changed(self, family: Family, params: Params) -> Params:
        """A function after a change, which may ask to be published at once."""
        if params.get("Publish"):
            return self.versions.publish_latest(family).described()
        return Function(family, family.latest).described()

    def delete(self, params: Params) -> Params:
        """All of a function, or one version of it."""
        function = self.requested(params)
        family, number = function.family, function.qualifier
        if number is None:
            del self._families[family.name]
            return {"StatusCode": 204}
        if function.alias is not None:
            raise ApiError(
                "InvalidParameterValueException",
                "Deletion of aliases is not currently supported.",
            )
        if number == LATEST:
            raise ApiError(
                "InvalidParameterValueException",
                "$LATEST version cannot be deleted without deleting the function.",
            )
        names = sorted(each.name for each in family.aliases.values() if each.version == number)
        if names:
            raise ApiError(
                "ResourceConflictException",
                "Unable to delete version because the following aliases reference it: "
                f"[{', '.join(names)}]",
                409,
            )
        family.remove(number)
        family.event_settings.pop(number, None)
        return {"StatusCode": 204}

    def account_settings(self, _: Params) -> Params:
        """What the account may run at once and store, and what it has."""
        limit = self._physics.account_concurrency
        versions = [each for family in self.families for each in family.versions.values()]
        return {
            "AccountLimit": {
                "TotalCodeSize": CODE_STORAGE,
                "CodeSizeUnzipped": UNZIPPED_CODE,
                "CodeSizeZipped": ZIPPED_CODE,
                "ConcurrentExecutions": limit,
                "UnreservedConcurrentExecutions": limit - reserved(self.families),
            },
            "AccountUsage": {
                "TotalCodeSize": sum(version.code_size for version in versions),
                "FunctionCount": len(self.families),
            },
        }

    def put_concurrency(self, params: Params) -> Params:
        family = self.whole(
            params,
            ApiError(
                "InvalidParameterValueException",
                "This operation is permitted on Lambda functions only. Aliases and versions do not "
                "support this operation. Please specify either a function name or an unqualified "
                "function ARN.",
            ),
        )
        wanted = params["ReservedConcurrentExecutions"]
        others = reserved(self.families) - (family.reserved or 0)
        least = self._physics.unreserved_concurrency
        if self._physics.account_concurrency - others - wanted < least:
            raise ApiError(
                "InvalidParameterValueException",
                "Specified ReservedConcurrent"
                "Executions for function decreases account's UnreservedConcurrent"
                f"Execution below its minimum value of [{least}].",
            )
        family.reserved = wanted
        return {"ReservedConcurrentExecutions": wanted}

    def get_concurrency(self, params: Params) -> Params:
        family = self.family(params)
        return {} if family.reserved is None else {"ReservedConcurrentExecutions": family.reserved}

    def delete_concurrency(self, params: Params) -> Params:
        self.family(params).reserved = None
        return {}

    # -- invoking -------------------------------------------------------------------------------

    def invoke(self, function: Function, payload: str, trigger: Trigger) -> simpy.Event:
        """Run a function on a JSON text; the event that is returned carries the `Result`."""
        return self._invocations.invoke(function, payload, trigger)

    def count(self, function: Function, name: str, value: float, unit: str = "Count") -> None:
        """Note a metric of a function."""
        self._invocations.count(function, name, value, unit)

    def invoke_api(self, params: Params) -> Params | tuple[simpy.Event, Callable[[Any], Params]]:
        """Invoke: at once (an event to wait for, and how to answer then), later, or not at all."""
        function = self.requested(params)
        refuse(params, "an invocation", "DurableExecutionName", "TenantId", service="Lambda")
        kind = params.get("InvocationType", "RequestResponse")
        payload = self._payload(params.get("Payload") or b"{}", kind)
        context = _client_context(params)
        if kind == "DryRun":
            return {"StatusCode": 204, "Payload": b""}
        if kind == "Event":
            self.asynchronous.accept(function, payload, context)
            return {"StatusCode": 202, "Payload": b""}
        with_log = params.get("LogType") == "Tail"
        done = self.invoke(function, payload, Trigger(client_context=context))
        return done, lambda result: _answer(result, with_log)

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

    def _check_role(self, arn: str) -> None:
        if not self._world.backing.lambda_may_assume(self._region.name, arn):
            raise ApiError(
                "InvalidParameterValueException",
                "The role defined for the function cannot be assumed by Lambda.",
            )


def _answer(result: Result, with_log: bool) -> Params:
    if result.outcome == "throttled":
        raise ApiError("TooManyRequestsException", "Rate Exceeded.", 429, Reason=result.reason)
    answer: Params = {
        "StatusCode": 200,
        "ExecutedVersion": result.version,
        "Payload": result.payload.encode(),
    }
    if result.error:
        answer["FunctionError"] = result.error
    if with_log:
        tail = "\n".join(result.log).encode(errors="replace")[-TAIL_BYTES:]
        answer["LogResult"] = base64.b64encode(tail).decode()
    return answer


def _client_context(params: Params) -> Params | None:
    """What a mobile app tells about itself, or anybody else in its place."""
    try:
        context = json.loads(base64.b64decode(params.get("ClientContext") or b"bnVsbA=="))
        if isinstance(context, dict | None):
            return context
    except ValueError:
        pass
    raise ApiError(
        "InvalidRequestContentException",
        "Client context must be a valid Base64-encoded JSON object.",
    )


def _configured(version: Version, params: Params) -> Version:
    """A version with the settings of a request; what it does not name stays as it is."""
    given = {
        member: params[name] for name, member in MEMBERS.items() if params.get(name) is not None
    }
    if params.get("Environment") is not None:
        given["environment"] = dict(params["Environment"].get("Variables", {}))
    return replace(version, **given)


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
