"""Recordings of a table's stream: what DescribeStream listed, look after look, in lines of JSON.

The first line says what is recorded; each further line is a look, and says what it showed that the
look before did not. Nothing tells whose stream it is: `book/recordings/README.md` lists all there
is in a recording. `watching` makes them.

DescribeStream tells no times. A shard that is listed at one look and was not at the look before
began between the two; so it is with its end, and with the moment when it goes. A recording gives
these bounds, and no more. They are those of the listing, which may lag behind the stream itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lab_utils.errors import LabError
from lab_utils.sources import Shard, Shards, born, children_of

if TYPE_CHECKING:
    import pandas as pd

    from lab_utils.lineage import ShardLineage

RECORDS = "shards of a DynamoDB stream"
VERSION = 1
TARGETS = ("aws", "embedded", "other")
"""Who can have answered: AWS, the book's own emulator, or something else that speaks like AWS."""
SECOND = timedelta(seconds=1)
"""Services tell the time in whole seconds, as of when they answer: so unsure is every look's."""

TIME = "%Y-%m-%dT%H:%M:%SZ"
SHARD_ID = re.compile(r"shardId-[0-9a-f-]{20,57}", re.ASCII)
SEQUENCE_NUMBER = re.compile(r"\d{1,40}", re.ASCII)
REGION = re.compile(r"[a-z]{2,3}(-[a-z]+)+-\d", re.ASCII)
ERROR = re.compile(r"\w[\w.]{0,79}", re.ASCII)

Line = dict[str, Any]


class Between(NamedTuple):
    """Something happened after one moment and before another; None: nothing bounds it there."""

    after: datetime | None
    before: datetime | None


NOT_YET = Between(None, None)


@dataclass
class Life:
    """What the looks tell of a shard, which is as it was listed last.

    It `opened`, `closed`, and was `gone` from the listing in these spans. What has not happened by
    the last look happens after it, and nothing bounds it there.
    """

    shard: Shard
    opened: Between
    closed: Between = NOT_YET
    gone: Between = NOT_YET


class Header(NamedTuple):
    """What is recorded.

    `created` is when the stream was switched on (its label), `every` how many seconds are to lie
    between two looks, `target` who answers, one of `TARGETS`.
    """

    created: str
    every: float
    target: str
    region: str | None = None


class Look(NamedTuple):
    """What one look showed that the look before did not.

    `at` is the time of its first answer; it `took` so many seconds. `pages` is the number of its
    answers, 0 if the stream was gone; `listed` counts the shards. `news` are those that are new or
    listed differently, `gone` the ids of those that are not listed any more.
    """

    at: datetime
    took: int
    pages: int
    enabled: bool
    listed: int
    news: tuple[Shard, ...] = ()
    gone: tuple[str, ...] = ()

    @property
    def earliest(self) -> datetime:
        """What was not listed had not happened by then."""
        return self.at - SECOND

    @property
    def latest(self) -> datetime:
        """What was listed had happened by then."""
        return self.at + timedelta(seconds=self.took) + SECOND

    def change(self, listed: Shards) -> None:
        """Make the listing of the look before that of this one."""
        for shard in self.gone:
            del listed[shard]
        listed.update((shard.id, shard) for shard in self.news)


class Snapshot(NamedTuple):
    """Everything that one look showed; `age` is that of the stream."""

    at: datetime
    age: timedelta
    pages: int
    enabled: bool
    shards: Shards


@dataclass(frozen=True)
class Recording:
    """The looks at one stream. `missed`: the looks that failed, each by the name of its error."""

    header: Header
    looks: tuple[Look, ...]
    missed: tuple[str, ...]

    @property
    def created(self) -> datetime:
        """When the stream was switched on."""
        return _label(self.header.created)

    @property
    def target(self) -> str:
        """Who answered: aws, embedded, or other."""
        return self.header.target

    @property
    def hours(self) -> float:
        """From the first look to the last."""
        return (self.looks[-1].at - self.looks[0].at) / timedelta(hours=1) if self.looks else 0.0

    @cached_property
    def snapshots(self) -> list[Snapshot]:
        """The whole listings, one for each look."""
        found, listed = [], dict[str, Shard]()
        for look in self.looks:
            look.change(listed)
            age, shards = look.at - self.created, dict(sorted(listed.items()))
            found.append(Snapshot(look.at, age, look.pages, look.enabled, shards))
        return found

    @cached_property
    def lives(self) -> dict[str, Life]:
        """Every shard that was ever seen, in the order of ids."""
        return _lives(self.looks)

    @cached_property
    def lineage(self) -> ShardLineage:
        """The shards that were ever seen, and who descends from whom, as of the last look.

        A shard that went meanwhile counts as trimmed, and so does a parent that was never seen.
        Nodes have what those of `read_lineage` have, `started` and `ended` by the shards' ids, and
        besides `opened`, `closed` and `gone`: pairs (after, before), by the looks alone. They are
        None for a parent that was never seen.
        """
        from lab_utils.lineage import ShardLineage, graph_of

        graph = graph_of({shard: life.shard for shard, life in self.lives.items()})
        for shard, node in graph.nodes.items():
            life = self.lives.get(shard)
            node |= {name: life and getattr(life, name) for name in ("opened", "closed", "gone")}
            if life is not None and life.gone.before is not None:
                node["state"] = "trimmed"
        enabled = self.looks[-1].enabled if self.looks else True
        return ShardLineage(f"stream of {self.header.created}", graph, enabled)

    @property
    def lifetimes(self) -> pd.DataFrame:
        """A row for each shard that was ever seen, in the order of ids.

        Columns: shard, parent (None: it has none), opened_after, opened_before, closed_after,
        closed_before, gone_after, gone_before (UTC, by the looks alone), children (how many were
        seen), born (UTC, by the shard's id, which AWS does not promise). What had not happened by
        the last look has an `after` and no `before`; what the first look found has no `after`.
        """
        import pandas as pd

        children = children_of(life.shard for life in self.lives.values())
        rows = [
            {
                "shard": shard,
                "parent": next(iter(life.shard.parents), None),
                "opened_after": life.opened.after,
                "opened_before": life.opened.before,
                "closed_after": life.closed.after,
                "closed_before": life.closed.before,
                "gone_after": life.gone.after,
                "gone_before": life.gone.before,
                "children": len(children.get(shard, ())),
                "born": born(shard),
            }
            for shard, life in self.lives.items()
        ]
        frame = pd.DataFrame(rows, columns=["shard", "parent", *TIMES[:-1], "children", "born"])
        return frame.astype(dict.fromkeys(TIMES, "datetime64[us, UTC]") | {"children": int})

    def __repr__(self) -> str:
        missed = f", {len(self.missed)} missed" if self.missed else ""
        return (
            f"<recording ({self.target}): {len(self.looks)} looks in {self.hours:.1f} h{missed}, "
            f"{len(self.lives)} shards seen>"
        )


TIMES = (
    "opened_after",
    "opened_before",
    "closed_after",
    "closed_before",
    "gone_after",
    "gone_before",
    "born",
)


# --- what the looks tell ----------------------------------------------------------------------


def _lives(looks: Iterable[Look]) -> dict[str, Life]:
    lives: dict[str, Life] = {}
    since: datetime | None = None
    for look in looks:
        now = Between(since, look.latest)
        for shard in look.news:
            if shard.id in lives:
                _see_again(lives[shard.id], shard, look)
            else:
                lives[shard.id] = Life(shard, opened=now)
        for life in _ended(lives, look.news):
            life.closed = now
        for life in (lives[shard] for shard in look.gone):
            life.gone = now
            if life.closed == NOT_YET:
                life.closed = now
        since = look.earliest
    for life in lives.values():
        if life.closed == NOT_YET:
            life.closed = Between(since, None)
        if life.gone == NOT_YET:
            life.gone = Between(since, None)
    return dict(sorted(lives.items()))


def _see_again(life: Life, shard: Shard, look: Look) -> None:
    """A shard is listed differently; or again, after it was not, for listings promise nothing."""
    life.shard = shard
    if life.gone == NOT_YET:
        return
    if life.closed == life.gone:  # nothing but its absence told of its end
        life.closed = Between(life.gone.after, look.latest) if shard.ending else NOT_YET
    life.gone = NOT_YET


def _ended(lives: dict[str, Life], news: Iterable[Shard]) -> Iterator[Life]:
    """Shards that are seen to have ended: by their own last number, or because a child is there."""
    for shard in news:
        for each in (*shard.parents, *([] if shard.ending is None else [shard.id])):
            life = lives.get(each)
            if life is not None and life.closed == NOT_YET:
                yield life


# --- lines ------------------------------------------------------------------------------------


def line_of(what: Header | Look | str) -> bytes:
    """A line of a recording; a text is the name of the error for which a look was missed."""
    if isinstance(what, str):
        line: Line = {"missed": what}
    elif isinstance(what, Header):
        line = {"recording": RECORDS, "version": VERSION} | what._asdict()
    else:
        line = what._asdict() | {"at": f"{what.at:{TIME}}", "news": None, "gone": what.gone or None}
        line["shards"] = [_told(shard) for shard in what.news] or None
    told = {name: value for name, value in line.items() if value is not None}
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def _told(shard: Shard) -> Line:
    told = {"id": shard.id} | ({"parent": shard.parents[0]} if shard.parents else {})
    numbers = {"first": shard.starting, "last": shard.ending}
    return told | {name: str(each) for name, each in numbers.items() if each is not None}


BEGINNING = line_of(Header("", 1, ""))[:50]


def read_recording(path: Path | str) -> Recording:
    """The recording in a file that `record_stream` or `python -m lab_utils watch` made.

    A last line that was cut short is passed over. LabError if the file is no recording, or holds
    anything that no recording holds.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise LabError(f"{path} cannot be read ({problem.strerror}): name a recording.") from None
    recording = recording_in(data, path)
    if recording is None:
        raise LabError(f"{path} is empty: make a recording with `python -m lab_utils watch`.")
    return recording


def recording_in(data: bytes, path: Path | str) -> Recording | None:
    """What the whole lines of a file say; None if it is no more than the beginning of the first."""
    first, *lines = data.split(b"\n")
    if not lines and BEGINNING.startswith(first[: len(BEGINNING)]):
        return None
    looks, missed, listed = list[Look](), list[str](), dict[str, Shard]()
    number = 1
    try:
        header = _header(_read(first))
        for text in lines[:-1]:
            number += 1
            line = _read(text)
            if "missed" in line:
                missed.append(_match(ERROR, _only(line, {"missed"})["missed"]))
            else:
                looks.append(_look(line, listed, looks[-1].at if looks else None))
    except (LookupError, TypeError, ValueError) as problem:
        raise LabError(
            f"{path} is no recording, as its line {number} shows ({problem}): name a file that "
            "`python -m lab_utils watch` wrote, as it wrote it."
        ) from None
    return Recording(header, tuple(looks), tuple(missed))


def _read(text: bytes) -> Line:
    try:
        line = json.loads(text)
    except (RecursionError, ValueError):
        raise ValueError("it is no JSON") from None
    if not isinstance(line, dict):
        raise ValueError("it is no object")
    return line


def _only(line: Line, must: set[str], may: set[str] = frozenset()) -> Line:  # type: ignore[assignment]
    if unknown := line.keys() - must - may:
        raise ValueError(f"nobody knows its {min(unknown)!r}")
    if missing := must - line.keys():
        raise ValueError(f"it has no {min(missing)!r}")
    return line


def _match(pattern: re.Pattern[str], text: Any) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"{text!r} has no place there")
    return text


def _count(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} is no number of things")
    return number


def _label(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _header(line: Line) -> Header:
    _only(line, {"recording", "version", "created", "every", "target"}, {"region"})
    if (line["recording"], line["version"]) != (RECORDS, VERSION):
        raise ValueError(f"it is not of {RECORDS!r}, version {VERSION}")
    if line["target"] not in TARGETS:
        raise ValueError(f"{line['target']!r} is none of {', '.join(TARGETS)}")
    if type(line["every"]) not in (int, float) or not line["every"] > 0:
        raise ValueError(f"{line['every']!r} is no time between looks")
    _label(line["created"])
    region = _match(REGION, line["region"]) if "region" in line else None
    return Header(line["created"], line["every"], line["target"], region)


def _look(line: Line, listed: Shards, before: datetime | None) -> Look:
    """A look, and `listed` as it is afterwards."""
    _only(line, {"at", "took", "pages", "enabled", "listed"}, {"shards", "gone"})
    look = Look(
        datetime.strptime(line["at"], TIME).replace(tzinfo=UTC),
        _count(line["took"]),
        _count(line["pages"]),
        line["enabled"] is True,
        _count(line["listed"]),
        tuple(map(_shard, line.get("shards", ()))),
        tuple(_match(SHARD_ID, shard) for shard in line.get("gone", ())),
    )
    if before and look.at < before - SECOND:
        raise ValueError("its time lies before that of the look before")
    if not listed.keys() >= set(look.gone):
        raise ValueError("what is gone was not there")
    look.change(listed)
    if len(listed) != look.listed:
        raise ValueError(f"it says {look.listed} shards, and {len(listed)} are listed")
    return look


def _shard(line: Any) -> Shard:
    if not isinstance(line, dict):
        raise ValueError("a shard is no object")
    _only(line, {"id"}, {"parent", "first", "last"})
    parents = (_match(SHARD_ID, line["parent"]),) if "parent" in line else ()
    first, last = (
        int(_match(SEQUENCE_NUMBER, line[name])) if name in line else None
        for name in ("first", "last")
    )
    return Shard(_match(SHARD_ID, line["id"]), parents, first, last, None)
