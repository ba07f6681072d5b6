"""What functions print. Kept in lists, and handed to CloudWatch Logs when somebody reads them."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab_utils.emulator.world import World

Event = tuple[int, str]
"""A log event: milliseconds since 1970, and its text."""

EVENTS_PER_CALL = 1000
HEADERS = {"content-type": "application/x-amz-json-1.1"}


class Logbook:
    """All log lines of a world that CloudWatch Logs has not got yet."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pending: dict[tuple[str, str, str], list[Event]] = {}
        self._known: set[tuple[str, ...]] = set()

    def write(self, region: str, group: str, stream: str, text: str) -> None:
        """Note a line at this instant; one longer than CloudWatch takes is cut into several."""
        moment = self._world.scheduler.now // 1000
        events = self._pending.setdefault((region, group, stream), [])
        longest = self._world.physics.log_event_bytes // (1 if text.isascii() else 4)
        for start in range(0, max(len(text), 1), longest):
            events.append((moment, text[start : start + longest]))

    def deliver(self) -> None:
        """Hand over what is pending: called before anybody reads the logs."""
        pending, self._pending = self._pending, {}
        for (region, group, stream), events in pending.items():
            self._make_sure_of(region, group, stream)
            for start in range(0, len(events), EVENTS_PER_CALL):
                self._call(
                    region,
                    "PutLogEvents",
                    {
                        "logGroupName": group,
                        "logStreamName": stream,
                        "logEvents": [
                            {"timestamp": at, "message": text or " "}
                            for at, text in events[start : start + EVENTS_PER_CALL]
                        ],
                    },
                )

    def _make_sure_of(self, region: str, group: str, stream: str) -> None:
        if (region, group) not in self._known:
            self._call(region, "CreateLogGroup", {"logGroupName": group})
            self._known.add((region, group))
        if (region, group, stream) not in self._known:
            self._call(region, "CreateLogStream", {"logGroupName": group, "logStreamName": stream})
            self._known.add((region, group, stream))

    def _call(self, region: str, operation: str, params: dict[str, object]) -> None:
        self._world.backing.request(
            "logs",
            region,
            "POST",
            "/",
            HEADERS | {"x-amz-target": f"Logs_20140328.{operation}"},
            json.dumps(params).encode(),
            {},
        )

    def forget(self, *deleted: str) -> None:
        """Somebody deleted this log group (or stream): make it again when there is a line."""
        self._known = {key for key in self._known if key[: len(deleted)] != deleted}


class LogStream(io.StringIO):
    """The standard output of one instance of a function: each line becomes a log event."""

    def __init__(self, logbook: Logbook, region: str, group: str, stream: str) -> None:
        super().__init__()
        self._logbook, self._region = logbook, region
        self.group, self.stream = group, stream
        self._line = ""
        self.tail: list[str] = []
        """The lines of the present invocation."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self.line(line)
        return len(text)

    def line(self, text: str) -> None:
        if not text.isascii():
            text = text.encode(errors="replace").decode()  # half a character fits no log
        self.tail.append(text)
        self._logbook.write(self._region, self.group, self.stream, text)

    def finish_line(self) -> None:
        """The end of an invocation ends the line that a print with end="" left open."""
        if self._line:
            self.line(self._line)
            self._line = ""
