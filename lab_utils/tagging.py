"""What a lab's clients add to all that they create: the tags by which it is found and removed."""

from __future__ import annotations

from typing import Any

from lab_utils.errors import LabError
from lab_utils.kinds import KINDS, Kind, Tags, as_dict, as_list
from lab_utils.labels import Label

PARTS = frozenset(
    {
        "CreateAlias",
        "CreateBucketMetadataConfiguration",
        "CreateBucketMetadataTableConfiguration",
        "CreateFunctionUrlConfig",
        "CreateLogStream",
        "CreateMultipartUpload",
        "CreatePolicyVersion",
        "CreateSession",
    }
)
"""What these create goes with the resource that it is a part of."""
LASTING = frozenset(
    {
        "ImportTable",
        "PublishLayerVersion",
        "PutAccountPolicy",
        "PutAlarmMuteRule",
        "PutAnomalyDetector",
        "PutCompositeAlarm",
        "PutDashboard",
        "PutDeliveryDestination",
        "PutDeliverySource",
        "PutDestination",
        "PutInsightRule",
        "PutIntegration",
        "PutLogAlarm",
        "PutManagedInsightRules",
        "PutMetricStream",
        "PutQueryDefinition",
        "RestoreTableFromBackup",
        "RestoreTableToPointInTime",
        "UpdateAccountSettings",
        "UploadSSHPublicKey",
        "UploadServerCertificate",
        "UploadSigningCertificate",
    }
)
"""What these make, and every other Create*, stays when a lab is closed. (UpdateAccountSettings of
Kinesis commits the account to a bill.)"""
REPLACES = "PutBucketTagging"
"""The one operation that puts tags into the place of all that are there."""


def tagging(client: Any, label: Label | None, in_names: bool) -> Any:
    """The client, which from now on tags all that it creates, at its creation.

    Where the label is to stand `in_names`, it refuses to create what could not be found again.
    """
    if label:
        tagger = _Tagger(client, label, in_names)
        service = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register(f"before-parameter-build.{service}", tagger.asked)
        client.meta.events.register(f"after-call.{service}", tagger.answered)
    return client


class _Tagger:
    def __init__(self, client: Any, label: Label, in_names: bool) -> None:
        self._client, self._label, self._in_names = client, label, in_names
        service = client.meta.service_model.service_name
        self._kinds = {kind.creation: kind for kind in KINDS if kind.service == service}

    def asked(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        """Before a request is built from its parameters."""
        kind = self._kinds.get(model.name)
        if self._in_names:
            self._check(model.name, kind, params)
        if kind:
            tags = _add(params, model.input_shape, kind.tagging, self._label.tags)
            context["lab_made"] = params.get(kind.naming), tags
        elif model.name == REPLACES and self._label.id in str(params.get("Bucket")):
            _add(params, model.input_shape, ("Tagging", "TagSet"), self._label.tags)

    def answered(self, http_response: Any, model: Any, context: dict[str, Any], **_: Any) -> None:
        """After a server has answered, which may have left out the tags."""
        kind = self._kinds.get(model.name)
        if kind and kind.retag and http_response.status_code < 300:
            name, tags = context["lab_made"]
            there = kind.tags(self._client, kind.found(name)) or {}
            if not self._label.owns(there):
                kind.retag(self._client, name, tags)

    def _check(self, operation: str, kind: Kind | None, params: dict[str, Any]) -> None:
        if kind is None:
            lasts = operation in LASTING or operation.startswith("Create")
            if lasts and operation not in PARTS:
                raise LabError(
                    f"What {operation} makes would stay when the lab is closed: make it with a "
                    "client of your own, boto3.client(...), and remove it yourself."
                )
            return
        name = params.get(kind.naming)
        if isinstance(name, str) and Label.within(name) != self._label:
            raise LabError(
                f"Without the lab's id in its name this {kind.name} could not be found again to "
                f"be removed: write {kind.naming}=lab.name({name!r})."
            )


def _add(params: dict[str, Any], shape: Any, path: tuple[str, ...], tags: Tags) -> Tags:
    """Put tags where they belong, beside the reader's own; all of them together.

    The reader's objects are left as they are; what is no tags at all is for boto3 to refuse.
    """
    member, *deeper = path
    given, shape = params.get(member), shape.members[member]
    if deeper:
        if given is not None and not isinstance(given, dict):
            return tags
        params[member] = dict(given or {})
        return _add(params[member], shape, tuple(deeper), tags)
    try:
        every = {**as_dict(given), **tags}
    except (KeyError, TypeError, ValueError):
        return tags
    params[member] = every if shape.type_name == "map" else as_list(every)
    return every
