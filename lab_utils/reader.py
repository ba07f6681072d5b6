"""A reader that follows a stream's lineage: nothing twice, nothing out of order, no gap unsaid.

Parents are read to their end before their children, because the children go on with the same keys.
Shards that do not depend on each other take turns, a page each. Only the public API is used, so it
works on every target; `sources` knows how DynamoDB Streams and Kinesis differ.

Where the reader stands is a cursor per shard, and only for shards that matter: those being read,
and those that ended while no child of theirs is known. An ancestor of a shard with a cursor has
been read; every other listed shard has not. That is why a checkpoint is small and still exact.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import boto3
from botocore.exceptions import ClientError

from lab_utils.clock import pause
from lab_utils.errors import LabError, TrimmedRecords, TrimmedRecordsWarning
from lab_utils.refusals import error_code, explained
from lab_utils.sources import (
    LAG_WAITS,
    Record,
    Shard,
    Shards,
    StreamGone,
    born,
    children_of,
    open_source,
    unlisted_parents,
)

VERSION = 1
EMPTY_ANSWERS = 5
"""An open shard is read to its present end after so many empty answers in a row: a single one may
come from an empty stretch (observed by the library bloop; the API reference promises no number)."""
POLL_INTERVAL = 1.0
"""Seconds between two rounds that bring nothing, as the Kinesis Client Library waits."""
SLOWEST = 8
"""A reader that follows a silent stream slows down to so many times its poll interval."""
RELIST = timedelta(minutes=1)
"""So often a reader that follows lists everything, for shards that no parent led to."""
GRACE = timedelta(minutes=15)
"""A root that is begun so long after the reader still begins at what is the oldest then."""

Kind = Literal["AFTER", "START", "HORIZON", "SINCE", "TIME", "END", "LAST"]
"""Where a cursor stands in its shard:
AFTER a sequence number; at its START, with nothing of it handed out; at the trim HORIZON, as it
was at a moment; behind what was there when LATEST was asked for (SINCE a moment); at the first
record from a TIME on; at its END, with no child known; at the LAST record of a line in a disabled
stream."""
NUMBERS: dict[str, str] = {
    "AFTER": r"\d{1,200}",
    "START": "",
    "HORIZON": r"\d{1,11}",
    "SINCE": r"\d{1,11}",
    "TIME": r"\d{1,11}",
    "END": r"(\d{1,11})?",
    "LAST": "",
}
"""The number that belongs to each: of a record, or of seconds since 1970 (of TIME, if a shard ended
before any record of it was handed out)."""
ENDED = ("END", "LAST")


@dataclass(frozen=True)
class Gap:
    """Records that may be gone unread.

    `shard` is where reading broke off, `after` the last sequence number that was handed out of it
    (None: no record of it was), `reason` says in words what was found.
    """

    shard: str
    after: str | None
    reason: str

    def __str__(self) -> str:
        place = "from its beginning" if self.after is None else f"after {self.after}"
        return f"Shard {self.shard}, {place}: {self.reason}."


@dataclass(slots=True)
class _Cursor:
    """How far a shard is read. `empty` counts empty answers in a row; `scanning`: records that are
    older than the moment of SINCE or TIME are passed over; `missed`: it was listed, and not found;
    `behind`: a gap was told of, and nothing was read since: more that goes belongs to that gap."""

    shard: str
    kind: Kind
    value: str = ""
    iterator: str | None = None
    empty: int = 0
    scanning: bool = False
    missed: bool = False
    behind: bool = False

    @property
    def ended(self) -> bool:
        return self.kind in ENDED

    @property
    def after(self) -> str | None:
        return self.value if self.kind == "AFTER" else None

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(int(self.value), UTC)


class StreamReader:
    """An iterator over a stream's records, as boto3 gives them, in lineage order.

    `client` is a dynamodbstreams or kinesis client, `stream` an ARN, or a name for Kinesis.

    `start` is fixed when the reader is made: "TRIM_HORIZON" (the oldest record there is), "LATEST"
    (what comes after this moment) or an aware datetime, where the service can begin at one. If
    nothing is read for 15 minutes after LATEST, the moment is known to the second only: records of
    that very second may come, too, and where a listing lags those of the shards that it showed
    late. `checkpoint`, from `checkpoint()`, takes the place of `start`.

    Iteration ends when every listed shard is read to its present end: a closed one to its end, an
    open one until it gave five empty answers in a row, and a new listing shows nothing new.
    Iterating again, after `break` too, continues after the last record handed out. With `follow` it
    does not end before the stream does: rounds that bring nothing are `poll_interval` seconds
    apart, and up to eight times that when the stream stays silent. `limit` is the most records that
    are asked for at a time.

    Records that were trimmed before the reader came are listed in `gaps` and warned of with
    TrimmedRecordsWarning, or, with on_gap="raise", raised as TrimmedRecords; iterating again goes
    on behind them. What was trimmed before a reader began at TRIM_HORIZON is no gap. On Kinesis a
    gap inside a shard isn't noticed: the API documents no error for a place whose records are gone.

    Busy answers are waited out for a minute, then LabError; waiting lets the embedded lab's virtual
    time pass.
    """

    def __init__(
        self,
        client: Any,
        stream: str,
        start: str | datetime = "TRIM_HORIZON",
        checkpoint: str | None = None,
        *,
        follow: bool = False,
        poll_interval: float = POLL_INTERVAL,
        limit: int = 1000,
        on_gap: Literal["report", "raise"] = "report",
    ) -> None:
        self._source = open_source(client, stream, "StreamReader")
        _check_options(start, poll_interval, limit, self._source.most_records, on_gap)
        self.follow, self.poll_interval, self.limit = follow, poll_interval, limit
        self.on_gap = on_gap
        self.gaps: list[Gap] = []
        self._told = 0
        self._cursors: dict[str, _Cursor] = {}
        self._shards: Shards = {}
        self._children: dict[str, list[str]] = {}
        self._read: set[str] = set()
        self._orphans: list[tuple[str, str]] = []
        self._run: Iterator[Record] | None = None
        self._moves = 0
        """Counts whatever got the reader on."""
        if checkpoint is not None:
            self._cursors = _cursors_from(checkpoint, self._source.name)
        with explained("listing the shards of the stream"):
            shards = self._source.shards()
        self._listed_at = self._looked_at = self._source.now
        if checkpoint is not None:
            self._check_cursors(shards)
        elif start == "LATEST":
            self._begin_at_latest(shards)
        else:
            self._begin_at_roots(shards, start)
        self._take(shards)

    # -- for the caller -------------------------------------------------------------------------

    def __iter__(self) -> StreamReader:
        return self

    def __next__(self) -> Record:
        if self._run is None:
            self._run = self._records()
        try:
            with explained("reading the stream"):
                return next(self._run)
        except BaseException:
            self._run = None
            raise

    def checkpoint(self) -> str:
        """Where the reader stands, as JSON: another reader goes on after the last record."""
        shards = {
            shard: f"{cursor.kind} {cursor.value}".rstrip()
            for shard, cursor in sorted(self._cursors.items())
        }
        found = {"version": VERSION, "stream": self._source.name, "shards": shards}
        return json.dumps(found, separators=(",", ":"))

    def __repr__(self) -> str:
        reading = sum(not cursor.ended for cursor in self._cursors.values())
        return f"<reader of {self._source.name}, {reading} shards begun, {len(self.gaps)} gaps>"

    # -- where to begin -------------------------------------------------------------------------

    def _begin_at_latest(self, shards: Shards) -> None:
        parents = children_of(shards.values())
        for shard in shards.values():
            if shard.id in parents:
                continue
            if shard.ending is not None:
                self._cursors[shard.id] = _Cursor(shard.id, "END")
                continue
            cursor = _Cursor(shard.id, "SINCE", _seconds(self._source.now))
            try:
                cursor.iterator = self._source.iterator(shard.id, "LATEST")
            except ClientError as problem:
                if error_code(problem) != "ResourceNotFoundException":
                    raise
            self._cursors[shard.id] = cursor

    def _begin_at_roots(self, shards: Shards, start: str | datetime) -> None:
        now = self._source.now
        kind: Kind = "HORIZON"
        value = _seconds(now)
        if isinstance(start, datetime):
            self._check_moment(start, now)
            if start > now - self._source.retention:
                kind, value = "TIME", _seconds(start)
        held = {child for _, child in unlisted_parents(shards, now)}
        for shard in shards.values():
            if shard.id not in held and not any(parent in shards for parent in shard.parents):
                self._cursors[shard.id] = _Cursor(shard.id, kind, value)

    def _check_moment(self, start: datetime, now: datetime) -> None:
        if not self._source.knows_times:
            raise LabError(
                f"boto3 {boto3.__version__} cannot begin to read a table's stream at a time: "
                'update it, or start at "TRIM_HORIZON" and pass over what is older.'
            )
        if start > now + timedelta(seconds=1):
            raise LabError(
                f"start={start.isoformat()} lies in the future: give a moment of the past 24 hours."
            )

    def _check_cursors(self, shards: Shards) -> None:
        """Refuse a checkpoint that speaks of shards or records that this stream cannot have had."""
        newest, now = max(shards, default=""), self._source.now
        horizon = now + timedelta(seconds=1) - self._source.retention
        for cursor in self._cursors.values():
            shard, birth = shards.get(cursor.shard), born(cursor.shard)
            if shard is None:
                known = cursor.shard < newest and (birth is None or birth < horizon)
                if not known:
                    raise _bad_checkpoint(f"it names a shard {cursor.shard} that never was there")
            elif cursor.kind != "AFTER" and cursor.value and cursor.moment > now:
                raise _bad_checkpoint(f"of shard {cursor.shard} it tells a moment in the future")
            elif cursor.kind == "AFTER" and not (
                len(cursor.value) <= self._source.most_digits and _within(int(cursor.value), shard)
            ):
                raise _bad_checkpoint(f"shard {cursor.shard} has no record {cursor.value}")

    # -- what is listed -------------------------------------------------------------------------

    def _take(self, shards: Shards, *, patient: bool = True) -> None:
        """Look at a whole listing: what is gone, what has been read, what can be begun.

        While `patient`, a shard whose parent must be listed and is not has to wait for it.
        """
        self._shards, self._children = shards, children_of(shards.values())
        for cursor in [each for each in self._cursors.values() if each.shard not in shards]:
            self._miss(cursor)
        self._read = self._ancestors() | {
            each.shard for each in self._cursors.values() if each.ended
        }
        lacking = [
            (parent, child)
            for parent, child in unlisted_parents(shards, self._source.now)
            if parent not in self._read and child not in self._read and child not in self._cursors
        ]
        if not patient:
            for parent in sorted({parent for parent, _ in lacking}):
                self._lose(parent, None, "it is named as a parent, and was never listed")
            lacking = []
        self._orphans = lacking
        self._begin(shards)
        for cursor in [each for each in self._cursors.values() if each.ended]:
            self._settle(cursor)

    def _miss(self, cursor: _Cursor) -> None:
        """A shard with a cursor is listed no more."""
        del self._cursors[cursor.shard]
        if not cursor.ended:
            self._lose(
                cursor.shard, cursor.after, "the shard was trimmed before it was read to its end"
            )
        elif cursor.kind == "END" and cursor.shard not in self._children:
            self._lose(cursor.shard, None, "its children were trimmed before they were known")

    def _ancestors(self) -> set[str]:
        found: set[str] = set()
        stack = list(self._cursors)
        while stack:
            shard = self._shards.get(stack.pop())
            for parent in () if shard is None else shard.parents:
                if parent not in found:
                    found.add(parent)
                    stack.append(parent)
        return found

    def _begin(self, shards: Iterable[str]) -> None:
        """Begin every shard of these that is neither read nor begun, and whose parents are read."""
        held = {child for _, child in self._orphans}
        for shard in shards:
            if shard in self._read or shard in self._cursors or shard in held:
                continue
            parents = self._shards[shard].parents
            if all(parent in self._read or parent not in self._shards for parent in parents):
                self._cursors[shard] = self._first_cursor(shard, parents)
                self._moves += 1

    def _first_cursor(self, shard: str, parents: tuple[str, ...]) -> _Cursor:
        """A shard is read from its start; but a reader that begins at a time, and has handed out
        nothing of the parent, looks for that time in the child."""
        birth = born(shard)
        for parent in parents:
            cursor = self._cursors.get(parent)
            if cursor is not None and cursor.value and (birth is None or birth < cursor.moment):
                return _Cursor(shard, "TIME", cursor.value)
        return _Cursor(shard, "START")

    def _forget(self, ended: Iterable[str]) -> None:
        """Drop the cursors of ended shards whose children have all been begun."""
        for shard in ended:
            children = self._children.get(shard)
            if children and all(each in self._cursors or each in self._read for each in children):
                del self._cursors[shard]

    # -- what may have come ---------------------------------------------------------------------

    def _relist(self, *, patient: bool = True) -> None:
        try:
            shards = self._source.shards()
        except StreamGone:
            shards, self._source.enabled = {}, False
        self._listed_at = self._source.now
        self._take(shards, patient=patient)

    def _look(self) -> None:
        """Ask for what is missing, in whichever way takes fewer calls."""
        self._looked_at = self._source.now
        leaves = self._leaves()
        if self._orphans or self._unreadable() or len(leaves) > self._source.pages:
            self._relist()
            return
        try:
            for leaf in leaves:
                self._meet(self._source.children(leaf))
                if leaf in self._cursors:
                    self._settle(self._cursors[leaf])
        except StreamGone:
            self._relist()

    def _look_now_and_then(self) -> None:
        """While there is much to read, what is missing must not be forgotten."""
        now = self._source.now
        if now - self._listed_at > max(RELIST, timedelta(seconds=self._source.pages)):
            self._relist()
        elif now - self._looked_at >= timedelta(seconds=1) and self._is_missing():
            self._look()

    def _meet(self, newborn: Iterable[Shard]) -> None:
        """Take in children of shards that have been read to their end."""
        for shard in newborn:
            if shard.id in self._shards:
                continue
            self._shards[shard.id] = shard
            for parent in shard.parents:
                self._children.setdefault(parent, []).append(shard.id)
            self._begin([shard.id])
            self._forget(parent for parent in shard.parents if self._has_ended(parent))

    def _has_ended(self, shard: str) -> bool:
        return shard in self._cursors and self._cursors[shard].ended

    def _leaves(self) -> list[str]:
        """Shards that were read to their end, and whose children nobody knows yet."""
        return [
            cursor.shard
            for cursor in self._cursors.values()
            if cursor.kind == "END" and cursor.shard not in self._children
        ]

    def _unreadable(self) -> list[str]:
        """Shards that are listed, or were, and not found when they are to be read."""
        return [cursor.shard for cursor in self._cursors.values() if cursor.missed]

    def _is_missing(self) -> bool:
        return bool(self._orphans or self._unreadable() or self._leaves())

    # -- reading --------------------------------------------------------------------------------

    def _records(self) -> Iterator[Record]:
        """Rounds over the shards that can be read, until there is nothing more."""
        for cursor in self._cursors.values():
            cursor.empty = 0
        self._tell_gaps()
        seen, looks, silent, fresh = self._moves, 0, 0.0, False
        wait = self.poll_interval
        while True:
            for cursor in [each for each in self._cursors.values() if self._wants(each)]:
                yield from self._page(cursor)
                self._tell_gaps()
            if self._moves != seen:
                seen, looks, fresh, wait = self._moves, 0, False, self.poll_interval
                self._look_now_and_then()
            elif looks < len(LAG_WAITS) and self._is_missing():
                pause(self._source.client, LAG_WAITS[looks])
                looks += 1
                self._look()
            elif self._orphans:
                self._relist(patient=False)
            elif self._unreadable():
                raise LabError(
                    f"Shard {self._unreadable()[0]} is listed, and yet cannot be read: the "
                    "listing is out of date; iterate again in a minute."
                )
            elif not self.follow and any(map(self._wants, self._cursors.values())):
                continue
            elif not fresh:
                self._relist()
                fresh = True
            elif self._is_over():
                return
            else:
                pause(self._source.client, wait)
                silent += wait
                wait = min(2 * wait, SLOWEST * self.poll_interval)
                if silent > RELIST.total_seconds():
                    silent = 0.0
                    self._relist()

    def _wants(self, cursor: _Cursor) -> bool:
        """Whether a cursor is to be read in this round."""
        return not cursor.ended and (self.follow or cursor.empty < EMPTY_ANSWERS)

    def _is_over(self) -> bool:
        """Nothing more is to come, or nobody wants to wait for it."""
        return not self.follow or (
            not self._source.enabled and all(each.ended for each in self._cursors.values())
        )

    def _page(self, cursor: _Cursor) -> Iterator[Record]:
        """The next page of a shard. The cursor moves with each record, before it is handed out."""
        try:
            if cursor.iterator is None:
                cursor.iterator = self._iterator(cursor)
            page = self._source.read(cursor.iterator, self.limit)
        except ClientError as problem:
            self._stumble(cursor, problem)
            return
        cursor.iterator, cursor.missed, cursor.behind = None, False, False
        number, records = self._source.sequence_number, page.records
        if cursor.scanning:
            records = [each for each in records if self._source.created(each) >= cursor.moment]
        for record in records:
            cursor.value, cursor.kind = number(record), "AFTER"
            yield record
        if page.records:
            self._moves += 1
            cursor.empty = 0
        else:
            self._note_silence(cursor, page.caught_up)
        cursor.scanning = cursor.scanning and not records
        cursor.iterator = page.iterator
        self._meet(page.children)
        if page.iterator is None:
            self._end(cursor)

    def _iterator(self, cursor: _Cursor) -> str:
        """An iterator for where a cursor stands.

        Only answers tell the time: if a long pause came before, this one shows what to ask for.
        """
        cursor.scanning = cursor.kind in ("SINCE", "TIME")
        way = self._way(cursor)
        while True:
            iterator = self._source.iterator(cursor.shard, *way)
            asked, way = way, self._way(cursor)
            if asked == way:
                return iterator

    def _way(self, cursor: _Cursor) -> tuple[str, str | datetime | None]:
        """A type of iterator, and where it starts.

        AT_SEQUENCE_NUMBER with a shard's first number, unlike TRIM_HORIZON, is refused when records
        have been trimmed. Both moments are cut to seconds: at an age of 24 h some may be.
        """
        if cursor.kind == "AFTER":
            return "AFTER_SEQUENCE_NUMBER", cursor.value
        if cursor.kind != "START":
            age = self._source.now - cursor.moment
            if cursor.kind == "TIME" and age < self._source.retention:
                return "AT_TIMESTAMP", cursor.moment
            if age < (GRACE if cursor.kind == "HORIZON" else self._source.retention):
                return "TRIM_HORIZON", None
        starting = self._shards[cursor.shard].starting
        if starting is None:
            return "TRIM_HORIZON", None
        return "AT_SEQUENCE_NUMBER", str(starting)

    def _stumble(self, cursor: _Cursor, problem: ClientError) -> None:
        """An iterator was refused: begin with a new one, behind what is lost."""
        code, cursor.iterator = error_code(problem), None
        if code == "TrimmedDataAccessException":
            if not cursor.behind:
                self._lose(cursor.shard, cursor.after, "records were trimmed before they were read")
            cursor.kind, cursor.value = "HORIZON", _seconds(self._source.now)
            cursor.behind = True
        elif code == "ResourceNotFoundException":
            cursor.missed = True
        elif code != "ExpiredIteratorException":
            raise problem

    def _note_silence(self, cursor: _Cursor, caught_up: bool) -> None:
        """An empty answer; after some in a row, what a cursor owes began at this moment."""
        cursor.empty = EMPTY_ANSWERS if caught_up else cursor.empty + 1
        if cursor.empty >= EMPTY_ANSWERS and cursor.kind in ("SINCE", "HORIZON"):
            cursor.kind, cursor.value = "SINCE", _seconds(self._source.now)

    def _end(self, cursor: _Cursor) -> None:
        """A shard is read to its end: its children can be begun."""
        cursor.value = cursor.value if cursor.kind == "TIME" else ""
        cursor.kind, cursor.missed = "END", False
        self._read.add(cursor.shard)
        self._moves += 1
        self._settle(cursor)

    def _settle(self, cursor: _Cursor) -> None:
        self._begin(self._children.get(cursor.shard, ()))
        self._forget([cursor.shard])
        if not self._source.enabled and cursor.shard not in self._children:
            cursor.kind = "LAST"

    # -- what is gone ---------------------------------------------------------------------------

    def _lose(self, shard: str, after: str | None, reason: str) -> None:
        self.gaps.append(Gap(shard, after, reason))
        self._moves += 1

    def _tell_gaps(self) -> None:
        """Raise or warn of the gaps that nobody was told of; the cursors stand behind them."""
        untold, self._told = self.gaps[self._told :], len(self.gaps)
        if untold and self.on_gap == "raise":
            more = f" So it is with {len(untold) - 1} more." if len(untold) > 1 else ""
            raise TrimmedRecords(f"{untold[0]}{more} Iterate again to read on behind it.")
        for gap in untold:
            warnings.warn_explicit(str(gap), TrimmedRecordsWarning, "StreamReader", 0)


# --- checkpoints and options ------------------------------------------------------------------


def _cursors_from(checkpoint: str, stream: str) -> dict[str, _Cursor]:
    """The cursors that `StreamReader.checkpoint` wrote down."""
    try:
        found = json.loads(checkpoint)
    except (TypeError, ValueError, RecursionError):
        raise _bad_checkpoint("it is no JSON, or cut short") from None
    if not isinstance(found, dict) or found.keys() != {"version", "stream", "shards"}:
        raise _bad_checkpoint("it is not what checkpoint() returned")
    if found["version"] != VERSION:
        raise _bad_checkpoint(f"its version is {found['version']!r}, not {VERSION}")
    if found["stream"] != stream:
        raise _bad_checkpoint(f"it is of another stream, {found['stream']!r}")
    if not isinstance(found["shards"], dict):
        raise _bad_checkpoint("its shards are no object")
    return {shard: _cursor_from(shard, text) for shard, text in found["shards"].items()}


def _cursor_from(shard: str, text: Any) -> _Cursor:
    kind, _, value = text.partition(" ") if isinstance(text, str) else ("", "", "")
    known = kind in NUMBERS and re.fullmatch(r"shardId-[\w.-]+", shard, re.ASCII)
    if not known or not re.fullmatch(NUMBERS[kind], value, re.ASCII):
        raise _bad_checkpoint(f"it says {text!r} of shard {shard!r}")
    return _Cursor(shard, cast(Kind, kind), value)


def _bad_checkpoint(reason: str) -> LabError:
    return LabError(
        f"This checkpoint cannot be used, {reason}: give the text that checkpoint() of a reader "
        "of the same stream returned, or none."
    )


def _check_options(start: Any, poll_interval: Any, limit: Any, most: int, on_gap: Any) -> None:
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise LabError(f"start={start!r} has no time zone: give datetime(..., tzinfo=UTC).")
    elif start not in ("TRIM_HORIZON", "LATEST"):
        raise LabError(f'start={start!r} must be "TRIM_HORIZON", "LATEST" or a datetime.')
    if not _is_number(poll_interval) or not 0 < poll_interval < float("inf"):
        raise LabError(f"poll_interval={poll_interval!r} must be seconds, more than zero.")
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= most:
        raise LabError(f"limit={limit!r} must be a whole number from 1 to {most:,}.")
    if on_gap not in ("report", "raise"):
        raise LabError(f'on_gap={on_gap!r} must be "report" or "raise".')


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seconds(moment: datetime) -> str:
    """A moment as a checkpoint tells it: whole seconds since 1970."""
    return str(int(moment.timestamp()))


def _within(number: int, shard: Shard) -> bool:
    return (shard.starting is None or shard.starting <= number) and (
        shard.ending is None or number <= shard.ending
    )
