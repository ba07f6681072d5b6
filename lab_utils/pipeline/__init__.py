"""The workshop's pipeline: messages in at one end, running totals out at the other.

IncomingDataStream -> StateLambda -> StateTable -> MapLambda -> ReduceTable -> ReduceLambda ->
AggregateTable. It needs nothing but a lab, and runs the same on every target.
"""

from lab_utils.pipeline.messages import TOTAL_KEYS, Burst, make_burst
from lab_utils.pipeline.parts import NAMES
from lab_utils.pipeline.resources import (
    Pipeline,
    deploy,
    remove,
    set_failures,
    wait_enabled,
)
from lab_utils.pipeline.scoreboard import Round, Scoreboard, play_round, wait_until_quiet
from lab_utils.pipeline.stages import Stage, stages
from lab_utils.pipeline.totals import read_totals, totals_frame

__all__ = [
    "NAMES",
    "TOTAL_KEYS",
    "Burst",
    "Pipeline",
    "Round",
    "Scoreboard",
    "Stage",
    "deploy",
    "make_burst",
    "play_round",
    "read_totals",
    "remove",
    "set_failures",
    "stages",
    "totals_frame",
    "wait_enabled",
    "wait_until_quiet",
]
