"""Tags: what whoever made a function, a mapping or a data stream calls it besides its name.

Nothing in the lab heeds them. How many there may be, and how long, is documented (Lambda Developer
Guide, "Using tags on Lambda functions"; Kinesis API reference, AddTagsToStream); in which words
more are refused is ours.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from lab_utils.emulator.errors import ApiError

if TYPE_CHECKING:
    from lab_utils.emulator.world import Region

Params = dict[str, Any]
Tags = dict[str, str]

MOST, LONGEST_KEY, LONGEST_VALUE = 50, 128, 256
AWS_OWN = "aws:"
"""No key of the reader's begins so, in whatever case."""
BAD = {"lambda": "InvalidParameterValueException", "kinesis": "InvalidArgumentException"}


def tagged(service: str, tags: Tags, more: Tags | None) -> Tags:
    """Tags with those of a request among them, of which the newer ones win."""
    for key, value in (more or {}).items():
        if not 0 < len(key) <= LONGEST_KEY or len(value) > LONGEST_VALUE:
            raise ApiError(
                BAD[service],
                f"A tag's key has 1 to {LONGEST_KEY} characters, its value at most "
                f"{LONGEST_VALUE}: {key!r}.",
            )
        if key.lower().startswith(AWS_OWN):
            raise ApiError(BAD[service], f"Keys that begin with {AWS_OWN} are AWS's own: {key!r}.")
    every = tags | (more or {})
    if len(every) > MOST:
        raise ApiError(BAD[service], f"A resource has at most {MOST} tags.")
    return every


class Tagging:
    """The calls about tags in a Region."""

    def __init__(self, region: Region) -> None:
        self._region = region

    # -- Lambda: functions and mappings ---------------------------------------------------------

    def tag(self, params: Params) -> Params:
        owner = self._owner(params["Resource"])
        owner.tags = tagged("lambda", owner.tags, params["Tags"])
        return {}

    def untag(self, params: Params) -> Params:
        owner = self._owner(params["Resource"])
        owner.tags = _without(owner.tags, params["TagKeys"])
        return {}

    def list(self, params: Params) -> Params:
        return {"Tags": dict(self._owner(params["Resource"]).tags)}

    def _owner(self, arn: str) -> Any:
        """The function or the mapping of an ARN; versions and aliases have no tags."""
        if ":event-source-mapping:" in arn:
            found = next((each for each in self._region.mappings if each.arn == arn), None)
            if found is None:
                raise ApiError(
                    "ResourceNotFoundException", "The resource you requested does not exist.", 404
                )
            return found
        return self._region.functions.whole(
            {"FunctionName": arn},
            ApiError(BAD["lambda"], "Tags belong to a function, not to a version or an alias."),
        )

    # -- Kinesis --------------------------------------------------------------------------------

    def add_to_stream(self, params: Params) -> Params:
        stream = self._region.kinesis.stream(params)
        stream.tags = tagged("kinesis", stream.tags, params["Tags"])
        return {}

    def remove_from_stream(self, params: Params) -> Params:
        stream = self._region.kinesis.stream(params)
        stream.tags = _without(stream.tags, params["TagKeys"])
        return {}

    def list_for_stream(self, params: Params) -> Params:
        """Page by page, in the order of the keys."""
        after, limit = params.get("ExclusiveStartTagKey", ""), params.get("Limit", MOST)
        tags = self._region.kinesis.stream(params).tags
        keys = list(islice(filter(lambda key: key > after, sorted(tags)), limit + 1))
        page = [{"Key": key, "Value": tags[key]} for key in keys[:limit]]
        return {"Tags": page, "HasMoreTags": len(keys) > limit}


def _without(tags: Tags, keys: list[str]) -> Tags:
    return {key: value for key, value in tags.items() if key not in keys}
