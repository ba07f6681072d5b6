"""One world: a clock, the services of its Regions, and everything they share."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar

from lab_utils.emulator.backing import Backing
from lab_utils.emulator.dynamodb import DynamoDB
from lab_utils.emulator.dynamodb_streams import DynamoDBStreams
from lab_utils.emulator.event_source_mappings import EventSourceMappings
from lab_utils.emulator.event_sources import Source, dynamodb_envelope, kinesis_envelope
from lab_utils.emulator.gateway import Gateway
from lab_utils.emulator.guest import forget_sources
from lab_utils.emulator.kinesis import Kinesis
from lab_utils.emulator.lambda_functions import Functions
from lab_utils.emulator.logbook import Logbook
from lab_utils.emulator.metrics import Metrics
from lab_utils.emulator.permissions import Permissions
from lab_utils.emulator.physics import MICROSECONDS, Physics, microseconds
from lab_utils.emulator.scheduler import Scheduler, current_guest
from lab_utils.emulator.sessions import (
    LabSession,
    Send,
    install_router,
    make_router,
    make_session,
    remove_router,
)
from lab_utils.emulator.streaming_destinations import StreamingDestinations
from lab_utils.emulator.tags import Tagging
from lab_utils.emulator.time_to_live import TimeToLive

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
"""When every embedded world begins: a Monday morning."""
HOME = "us-east-1"


_ROUTER = make_router(current_guest)


class Region:
    """The services of one Region that are modelled here."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.dynamodb = DynamoDB(self)
        self.streams = DynamoDBStreams(self)
        self.time_to_live = TimeToLive(self)
        self.streaming = StreamingDestinations(self)
        self.kinesis = Kinesis(self)
        self.functions = Functions(self)
        self.mappings = EventSourceMappings(self)
        self.tags = Tagging(self)

    def source(self, arn: str) -> Source | None:
        """A stream as a mapping reads it; None if there is no such stream in this Region."""
        physics = self.world.physics
        if arn.startswith("arn:aws:kinesis:"):
            data_stream = self.kinesis.find(arn)
            return (
                None
                if data_stream is None
                else Source(
                    arn,
                    data_stream.log,
                    microseconds(physics.kinesis_poll),
                    physics.kinesis_read_records,
                    physics.kinesis_read_bytes,
                    physics.kinesis_shard_reads,
                    kinesis_envelope(arn, self.name),
                )
            )
        table_stream = self.streams.find(arn)
        return (
            None
            if table_stream is None
            else Source(
                arn,
                table_stream.log,
                microseconds(physics.dynamodb_poll),
                physics.stream_read_records,
                physics.stream_read_bytes,
                physics.shard_read_rate,
                dynamodb_envelope(arn),
            )
        )


class World:
    """Everything that one lab holds; two worlds share nothing."""

    _open: ClassVar[int] = 0

    def __init__(
        self, seed: int = 0, physics: Physics | None = None, start: datetime = START
    ) -> None:
        self.seed, self.home = seed, HOME
        self.physics = physics or Physics()
        self.scheduler = Scheduler(int(start.timestamp()) * MICROSECONDS)
        self.backing = Backing(lambda: self.scheduler.now, self.rng("backing"))
        self.permissions = Permissions(self)
        self.logbook = Logbook(self)
        self.metrics = Metrics(self)
        self.gateway = Gateway(self)
        self._regions: dict[str, Region] = {}
        self._guest_sessions: dict[str, LabSession] = {}
        World._open += 1
        install_router(_ROUTER)

    def rng(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose, so that one use does not shift another."""
        return random.Random(f"{self.seed} {purpose}")

    def new_id(self, rng: random.Random) -> str:
        """A seeded id in the shape of a UUID."""
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))

    def region(self, name: str) -> Region:
        if name not in self._regions:
            self._regions[name] = Region(self, name)
        return self._regions[name]

    @property
    def regions(self) -> list[Region]:
        return [self._regions[name] for name in sorted(self._regions)]

    # -- clients --------------------------------------------------------------------------------

    @cached_property
    def session(self) -> LabSession:
        """The session of the reader, who may do everything."""
        return self._session(HOME, self.gateway.answer, "retries")

    def guest_session(self, region: str) -> LabSession:
        """The session of the functions of a Region; who calls is told by who is running."""
        if region not in self._guest_sessions:
            send = self.gateway.answer_function
            self._guest_sessions[region] = self._session(region, send, f"retries in {region}")
        return self._guest_sessions[region]

    def _session(self, region: str, send: Send, purpose: str) -> LabSession:
        """Sessions draw apart: a token that one of them made up must never come from another."""
        return make_session(
            region=region, send=send, wait=self.scheduler.sleep, rng=self.rng(purpose)
        )

    def close(self) -> None:
        """End all guests and forget everything."""
        if not self.scheduler.closed:
            self.scheduler.close()
            self.backing.close()
            self._regions.clear()
            World._open -= 1
            if not World._open:
                remove_router(_ROUTER)
                forget_sources()

    def records(self) -> list[dict[str, Any]]:
        """The rows of all invocations, in the order in which they began."""
        rows = [row for region in self.regions for row in region.functions.rows]
        return sorted(rows, key=lambda row: row["started"])
