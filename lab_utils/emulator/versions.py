"""What a function is: its versions, the aliases that point to them, and how it is named.

$LATEST changes when it is updated; a numbered version stays as it was published. All versions of a
function are one family: they share its name, its reserved concurrency and its log group, but no
instances.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from lab_utils.emulator.backing import ACCOUNT
from lab_utils.emulator.errors import ApiError, not_modelled
from lab_utils.emulator.physics import MICROSECONDS

if TYPE_CHECKING:
    from lab_utils.emulator.asynchronous import EventSettings
    from lab_utils.emulator.invocations import Instance
    from lab_utils.emulator.world import Region

Params = dict[str, Any]

LATEST = "$LATEST"
ARCHITECTURES = ["x86_64"]

_NAME = re.compile(
    r"(?:arn:aws:lambda:(?P<region>[a-z0-9-]+):)?(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[A-Za-z0-9_-]+)(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]+))?"
)


class Named(NamedTuple):
    """A function as a name, an ARN or a part of an ARN says it; None where nothing is said."""

    region: str | None
    account: str | None
    name: str
    qualifier: str | None


@lru_cache(maxsize=4096)
def parse(name_or_arn: str) -> Named | None:
    match = _NAME.fullmatch(name_or_arn)
    return Named(**match.groupdict()) if match else None


def arn_of(region: str, name: str, qualifier: str | None = None) -> str:
    arn = f"arn:aws:lambda:{region}:{ACCOUNT}:function:{name}"
    return f"{arn}:{qualifier}" if qualifier else arn


@dataclass(frozen=True, eq=False)
class Version:
    """A function's code and settings: $LATEST as it is configured now, or as it was published."""

    number: str
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

    def same_as(self, other: Version) -> bool:
        """Whether code and settings are those of another version, whatever they are called."""
        unlike = {"number", "modified", "revision"}
        return all(
            getattr(self, each.name) == getattr(other, each.name)
            for each in fields(self)
            if each.name not in unlike
        )


@dataclass(eq=False)
class Alias:
    """A name for a version, which can be pointed to another one."""

    name: str
    version: str
    description: str
    revision: str


@dataclass(eq=False)
class Family:
    """All versions of one function, and what they share."""

    region: str
    name: str
    versions: dict[str, Version]
    """By number; $LATEST comes first, then those that were published, in order."""
    aliases: dict[str, Alias] = field(default_factory=dict)
    event_settings: dict[str, EventSettings] = field(default_factory=dict)
    """How asynchronous invocations are handled, by the qualifier that they give."""
    tags: dict[str, str] = field(default_factory=dict)
    published: int = 0
    reserved: int | None = None
    running: int = 0
    started_instances: int = 0
    idle: dict[Version, deque[Instance]] = field(default_factory=dict)

    @property
    def latest(self) -> Version:
        return self.versions[LATEST]

    @property
    def log_group(self) -> str:
        return f"/aws/lambda/{self.name}"

    def function(self, qualifier: str | None) -> Function | None:
        """The version that a qualifier means now; without one it is $LATEST."""
        alias = self.aliases.get(qualifier) if qualifier else None
        number = alias.version if alias else qualifier or LATEST
        version = self.versions.get(number)
        return None if version is None else Function(self, version, qualifier)

    def renew(self, version: Version) -> None:
        """New code or settings need new instances; those at work finish what they have begun."""
        self.remove(version.number)
        self.versions = {LATEST: version} | self.versions

    def remove(self, number: str) -> None:
        version = self.versions.pop(number, None)
        if version is not None:
            self.idle.pop(version, None)


@dataclass(frozen=True, eq=False, slots=True)
class Function:
    """A function as somebody calls it: one of its versions, and the qualifier that was given."""

    family: Family
    version: Version
    qualifier: str | None = None

    @property
    def name(self) -> str:
        return self.family.name

    @property
    def role(self) -> str:
        return self.version.role

    @property
    def timeout(self) -> int:
        return self.version.timeout

    @property
    def reserved(self) -> int | None:
        """The concurrency that is reserved for all versions together."""
        return self.family.reserved

    @property
    def running(self) -> int:
        """How many invocations are under way, of all versions together."""
        return self.family.running

    @property
    def idle(self) -> deque[Instance]:
        """Instances of this version without work, the one that was used last at the end."""
        return self.family.idle.setdefault(self.version, deque())

    @property
    def arn(self) -> str:
        return arn_of(self.family.region, self.family.name, self.qualifier)

    @property
    def alias(self) -> Alias | None:
        return self.family.aliases.get(self.qualifier) if self.qualifier else None

    def described(self) -> Params:
        """AWS's FunctionConfiguration."""
        version = self.version
        moment = datetime.fromtimestamp(version.modified / MICROSECONDS, UTC)
        described: Params = {
            "FunctionName": self.name,
            "FunctionArn": self.arn,
            "Runtime": version.runtime,
            "Role": version.role,
            "Handler": version.handler,
            "CodeSize": version.code_size,
            "Description": version.description,
            "Timeout": version.timeout,
            "MemorySize": version.memory,
            "LastModified": moment.strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
            "CodeSha256": version.code_sha256,
            "Version": version.number,
            "TracingConfig": {"Mode": "PassThrough"},
            "RevisionId": version.revision,
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "PackageType": "Zip",
            "Architectures": ARCHITECTURES,
            "EphemeralStorage": {"Size": 512},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": self.family.log_group},
        }
        if version.environment:
            described["Environment"] = {"Variables": version.environment}
        return described


class Versions:
    """The API of versions and aliases."""

    def __init__(self, region: Region) -> None:
        self._region, self._world = region, region.world
        self._rng = region.world.rng("versions")

    # -- versions -------------------------------------------------------------------------------

    def publish(self, params: Params) -> Params:
        """PublishVersion: a version that would be like the last one is that one."""
        if params.get("PublishTo"):
            raise not_modelled("PublishTo of a version", "Lambda")
        family = self._region.functions.family(params)
        refuse_stale(family.latest.revision, params)
        digest = params.get("CodeSha256") or family.latest.code_sha256
        if digest != family.latest.code_sha256:
            raise ApiError(
                "InvalidParameterValueException",
                f"CodeSHA256 ({digest}) is different from current CodeSHA256 in $LATEST "
                f"({family.latest.code_sha256}). Please try again with the CodeSHA256 in $LATEST.",
            )
        return self.publish_latest(family, params.get("Description")).described()

    def publish_latest(self, family: Family, description: str | None = None) -> Function:
        latest = family.latest
        if description:
            latest = replace(latest, description=description)
        last = family.versions.get(str(family.published))
        if last is None or not last.same_as(latest):
            family.published += 1
            last = replace(
                latest,
                number=str(family.published),
                modified=self._world.scheduler.now,
                revision=self._world.new_id(self._rng),
            )
            family.versions[last.number] = last
        return Function(family, last, last.number)

    def list(self, params: Params) -> Params:
        family = self._region.functions.family(params)
        page, marker = paged(list(family.versions.values()), params)
        versions = [Function(family, each, each.number).described() for each in page]
        return {"Versions": versions} | marker

    # -- aliases --------------------------------------------------------------------------------

    def create_alias(self, params: Params) -> Params:
        family = self._region.functions.family(params)
        name, version = params["Name"], params["FunctionVersion"]
        _refuse_weights(params)
        self._check_version(family, version)
        if name in family.aliases:
            raise ApiError(
                "ResourceConflictException",
                f"Alias already exists: {arn_of(family.region, family.name, name)}",
                409,
            )
        alias = Alias(name, version, params.get("Description") or "", self._new_revision())
        family.aliases[name] = alias
        return _described(family, alias)

    def update_alias(self, params: Params) -> Params:
        family = self._region.functions.family(params)
        _refuse_weights(params)
        alias = _alias(family, params["Name"], "Alias not found")
        refuse_stale(alias.revision, params)
        version = params.get("FunctionVersion") or alias.version
        self._check_version(family, version)
        alias.version = version
        if params.get("Description") is not None:
            alias.description = params["Description"]
        alias.revision = self._new_revision()
        return _described(family, alias)

    def get_alias(self, params: Params) -> Params:
        family = self._region.functions.family(params)
        return _described(family, _alias(family, params["Name"], "Cannot find alias arn"))

    def list_aliases(self, params: Params) -> Params:
        family = self._region.functions.family(params)
        version = params.get("FunctionVersion")
        names = [
            name for name, alias in sorted(family.aliases.items())
            if version in (None, alias.version)
        ]  # fmt: skip
        page, marker = paged(names, params)
        return {"Aliases": [_described(family, family.aliases[each]) for each in page]} | marker

    def delete_alias(self, params: Params) -> Params:
        """AWS lists no error for an alias that is not there."""
        family = self._region.functions.family(params)
        family.aliases.pop(params["Name"], None)
        family.event_settings.pop(params["Name"], None)
        return {}

    def _check_version(self, family: Family, number: str) -> None:
        if number not in family.versions:
            raise ApiError(
                "ResourceNotFoundException",
                f"Function not found: {arn_of(family.region, family.name, number)}",
                404,
            )

    def _new_revision(self) -> str:
        return self._world.new_id(self._rng)


def _alias(family: Family, name: str, complaint: str) -> Alias:
    alias = family.aliases.get(name)
    if alias is None:
        arn = arn_of(family.region, family.name, name)
        raise ApiError("ResourceNotFoundException", f"{complaint}: {arn}", 404)
    return alias


def _described(family: Family, alias: Alias) -> Params:
    return {
        "AliasArn": arn_of(family.region, family.name, alias.name),
        "Name": alias.name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RevisionId": alias.revision,
    }


def _refuse_weights(params: Params) -> None:
    if (params.get("RoutingConfig") or {}).get("AdditionalVersionWeights"):
        raise not_modelled("AdditionalVersionWeights of an alias", "Lambda")


def refuse_stale(revision: str, params: Params) -> None:
    if params.get("RevisionId", revision) != revision:
        raise ApiError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the "
            "latest Revision Id. Call the GetFunction/GetAlias API to retrieve the "
            "latest Revision Id",
            412,
        )


def paged(things: list[Any], params: Params, most: int = 50) -> tuple[list[Any], Params]:
    """The part of a list that a request asks for, `most` at a time, and where the next begins."""
    marker = params.get("Marker") or "0"
    if not marker.isdecimal():
        raise ApiError("InvalidParameterValueException", "Invalid Marker")
    start = int(marker)
    stop = start + min(params.get("MaxItems", most), most)
    return things[start:stop], {"NextMarker": str(stop)} if stop < len(things) else {}
