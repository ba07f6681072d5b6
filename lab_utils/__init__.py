"""A laboratory for DynamoDB Streams: the names that a notebook of this book imports.

import lab_utils as lu

lab = lu.open_lab()
dynamodb, streams = lab.clients("dynamodb", "dynamodbstreams")
"""

from __future__ import annotations

import importlib
from typing import Any

from lab_utils.emulator.physics import Physics
from lab_utils.errors import LabError, NotOnThisTarget
from lab_utils.lab import Lab, open_lab

_LATER = {
    "question": "lab_utils.exercises",
    "Gap": "lab_utils.reader",
    "Recording": "lab_utils.recordings",
    "Plan": "lab_utils.plan",
    "ShardLineage": "lab_utils.lineage",
    "StreamReader": "lab_utils.reader",
    "TrimmedRecords": "lab_utils.errors",
    "TrimmedRecordsWarning": "lab_utils.errors",
    "read_lineage": "lab_utils.lineage",
    "read_recording": "lab_utils.recordings",
    "record_stream": "lab_utils.watching",
    "plot_backlog": "lab_utils.plots",
    "plot_batch_sizes": "lab_utils.plots",
    "plot_bisections": "lab_utils.plots",
    "plot_comparison": "lab_utils.plots",
    "plot_concurrency": "lab_utils.plots",
    "plot_costs": "lab_utils.plots",
    "plot_instances": "lab_utils.plots",
    "plot_invocations": "lab_utils.plots",
    "plot_iterator_age": "lab_utils.plots",
    "plot_limits": "lab_utils.plots",
    "plot_lineage": "lab_utils.plots",
    "plot_partitions": "lab_utils.plots",
    "plot_pipeline": "lab_utils.plots",
    "plot_recording": "lab_utils.plots",
    "plot_recordings": "lab_utils.plots",
    "plot_totals": "lab_utils.plots",
}
"""Names that are loaded when they are first used: most need networkx or matplotlib."""
_ROOMS = ("costs", "pipeline", "plots", "prices", "quotas")

__all__ = ["Lab", "LabError", "NotOnThisTarget", "Physics", "open_lab", *_LATER, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"lab_utils.{name}")
    raise AttributeError(f"lab_utils has no {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
