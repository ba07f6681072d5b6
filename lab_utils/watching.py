"""To watch a table's stream: DescribeStream every few minutes, and what it shows to a file.

Only the public API is used, and only to read. Each look is written whole as soon as it was taken,
so a recording that breaks off is good as far as it goes, and goes on where it broke off.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from lab_utils.clock import pause
from lab_utils.errors import LabError
from lab_utils.progress import counting
from lab_utils.recordings import (
    ERROR,
    Header,
    Look,
    Recording,
    line_of,
    read_recording,
    recording_in,
)
from lab_utils.refusals import DENIED, error_code, explained, in_words
from lab_utils.sources import (
    Shards,
    Source,
    StreamBusy,
    StreamGone,
    TableSource,
    open_source,
)

EVERY = 180.0
"""Seconds between two looks."""
HOURS = 24.0
PACE = 0.1
"""Seconds between two calls: DescribeStream may be called ten times a second (API reference)."""
AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
LISTING = "listing the shards of the stream"

OpenSource = Callable[[], Source]
"""Called again after a look that failed: the reader's credentials may be new ones."""


def record_stream(
    client: Any,
    stream: str,
    path: Path | str,
    *,
    every: float = EVERY,
    hours: float = HOURS,
    tell_region: bool = False,
) -> Recording:
    """Look at a table's stream `every` so many seconds for `hours`, and write down what is listed.

    `client` is a dynamodbstreams client and `stream` the stream's ARN. With a file that holds a
    recording of the same stream it goes on until that one has its `hours`. On the embedded lab it
    takes a moment. Looks that fail are noted and left out; it ends early when the stream is gone.
    Interrupting it loses nothing. LabError if nothing can be seen, or the file is of another kind.
    """
    source = table_stream(client, stream)
    record(lambda: source, Path(path), every=every, hours=hours, tell_region=tell_region)
    return read_recording(path)


def table_stream(client: Any, stream: str) -> Source:
    """The stream of a table behind a dynamodbstreams client; nothing is asked yet."""
    source = open_source(client, stream, "record_stream")
    if not isinstance(source, TableSource):
        raise LabError(
            "Only streams of tables are recorded: give record_stream a dynamodbstreams client."
        )
    return source


def record(
    open_stream: OpenSource, path: Path, *, every: float, hours: float, tell_region: bool
) -> None:
    """Record as `record_stream` does; `open_stream` is called anew after a look that failed."""
    _check_positive(every=every, hours=hours)
    source = open_stream()
    tape = _Tape(path, _header(source, every, tell_region))
    with explained(LISTING):
        shards = source.shards(PACE)
    end = (tape.begun or source.listed_from) + timedelta(hours=hours)
    if tape.begun and source.now >= end:
        raise LabError(
            f"{path} has its {hours:g} hours already: ask for more hours, or name another file."
        )
    with tape:
        tape.look(source, shards)
        _go_on(open_stream, source, tape, every, end)


def _go_on(
    open_stream: OpenSource, source: Source, tape: _Tape, every: float, end: datetime
) -> None:
    """Look again and again, until it is time to end or the stream is gone."""
    now, failed = source.now, False
    left = math.ceil((end - now).total_seconds() / every)
    virtual = tape.header.target == "embedded"
    with nullcontext(_unseen) if virtual else counting("looks", left) as tell:
        while now < end:
            spent = 0.0 if failed else (source.now - source.listed_from).total_seconds()
            wait = timedelta(seconds=max(every - spent, PACE))
            tell(f"shards seen: {tape.seen}, next look at {now + wait:%H:%M:%S} UTC")
            pause(source.client, wait.total_seconds())
            now += wait
            try:
                if failed:
                    source = open_stream()
                shards = source.shards(PACE)
            except StreamGone:
                tape.look(source, {})
                return
            except (StreamBusy, BotoCoreError, ClientError) as problem:
                _refuse_what_stays(problem, tape.path)
                tape.miss(problem)
                failed = True
            else:
                tape.look(source, shards)
                now, failed = source.now, False


def _refuse_what_stays(problem: Exception, path: Path) -> None:
    """Credentials can be renewed and networks come back, but nobody is given a permission."""
    if isinstance(problem, ClientError) and error_code(problem) in DENIED:
        raise LabError(
            f"{in_words(problem, LISTING, 0.0)} {path} keeps what was seen; the same command goes "
            "on with it."
        ) from None


class _Tape:
    """The file of a recording, and what its last look showed. Nothing is written until a look is.

    `begun` is the time of its first look, if it has one; `seen` counts the shards of this run.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.begun: datetime | None = None
        self._file: BinaryIO | None = None
        self._listed: Shards = {}
        self._seen: set[str] = set()
        data = self._read()
        self._whole = data.rfind(b"\n") + 1
        self._is_new = (held := recording_in(data, path)) is None
        if held is not None:
            self._go_on_with(held)

    @property
    def seen(self) -> int:
        return len(self._seen)

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as problem:
            raise self._unwritten(problem) from None

    def _go_on_with(self, held: Recording) -> None:
        for name in ("created", "target"):
            there, here = getattr(held.header, name), getattr(self.header, name)
            if there != here:
                raise LabError(
                    f"{self.path} holds a recording of another stream ({name}: {there}, and here "
                    f"{here}): name another file."
                )
        for look in held.looks:
            look.change(self._listed)
            self._seen.update(shard.id for shard in look.news)
        self.begun = held.looks[0].at if held.looks else None

    def look(self, source: Source, shards: Shards) -> None:
        """Write down what a look showed; the stream of a source without pages is gone."""
        look = Look(
            at=source.listed_from if source.pages else source.now,
            took=round((source.now - source.listed_from).total_seconds()) if source.pages else 0,
            pages=source.pages,
            enabled=source.enabled and source.pages > 0,
            listed=len(shards),
            news=tuple(each for each in shards.values() if self._listed.get(each.id) != each),
            gone=tuple(sorted(self._listed.keys() - shards.keys())),
        )
        self._write(line_of(look))
        self._listed = shards
        self._seen.update(shards)

    def miss(self, problem: Exception) -> None:
        """Write down why there was no look: no more than the error's name, for its words tell."""
        name = error_code(problem) if isinstance(problem, ClientError) else type(problem).__name__
        self._write(line_of(name if ERROR.fullmatch(name) else "Error"))

    def _write(self, line: bytes) -> None:
        try:
            if self._file is None:
                self._file = self.path.open("ab")
                self._file.truncate(self._whole)
                line = line_of(self.header) + line if self._is_new else line
            self._file.write(line)
            self._file.flush()
        except OSError as problem:
            raise self._unwritten(problem) from None

    def _unwritten(self, problem: OSError) -> LabError:
        return LabError(
            f"{self.path} cannot be written ({problem.strerror}): name a file in a folder of yours."
        )

    def __enter__(self) -> _Tape:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # what could not be written was told of
                self._file.close()


def _header(source: Source, every: float, tell_region: bool) -> Header:
    label = source.stream.rpartition("/stream/")[2]
    try:
        datetime.fromisoformat(label)
    except ValueError:
        raise LabError(
            f"{source.stream!r} names no stream of a table: give the LatestStreamArn of "
            "describe_table."
        ) from None
    region = source.client.meta.region_name if tell_region else None
    return Header(label, every, _target(source.client), region)


def _target(client: Any) -> str:
    """Who answers a client: the emulator's let virtual time pass when they are asked to."""
    _, virtual = client.meta.events.emit_until_response("lab-wait", seconds=0.0)
    if virtual:
        return "embedded"
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    return "aws" if host.endswith(AWS_HOSTS) else "other"


def _unseen(_: str) -> None:
    """Virtual time is over before anybody could read what is waited for."""


def _check_positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if type(number) not in (int, float) or not 0 < number < math.inf:
            raise LabError(f"{name}={number!r} must be a number above zero.")
