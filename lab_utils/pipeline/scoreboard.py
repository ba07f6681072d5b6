"""The game: send a burst, give the pipeline 30 seconds, and compare every total.

A round is worth 100 points if all 18 totals have moved by exactly what the burst says, and
nothing otherwise. Time is the target's own, so a round on the embedded target takes moments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any

from lab_utils.errors import LabError
from lab_utils.pipeline.contract import Lab, every, pause
from lab_utils.pipeline.messages import TOTAL_KEYS, Burst, Counts, make_burst, stamp
from lab_utils.pipeline.resources import Pipeline
from lab_utils.pipeline.totals import MESSAGE_COUNT, in_cents, money, read_totals
from lab_utils.progress import progress

if TYPE_CHECKING:
    import pandas as pd

POINTS = 100
PATIENCE = 30.0  # seconds between the last message and the verdict
HOLD = 3.0  # seconds for which right totals must stay right: a retry may still count twice
LOOK_EVERY = 0.25  # seconds between two looks at AggregateTable
QUIET = 5.0  # seconds without a change after which the pipeline counts as quiet
MAX_TRIES = 20  # for records that Kinesis did not take


@dataclass(frozen=True)
class Round:
    """What became of one burst; amounts are in cents, times in the target's seconds."""

    seed: int
    special: bool
    sent: Counts
    expected: dict[str, int] = field(repr=False)
    observed: dict[str, int] = field(repr=False)
    sending: float
    """From the first message to the last."""
    waited: float
    """From the last message until every total was right for good, or patience ran out."""
    message_count: int
    """How many changes MapLambda counted; it is not part of the verdict."""
    late: dict[str, int] = field(repr=False)
    """What still moved, because of earlier rounds, while this one waited for quiet."""

    @property
    def off(self) -> dict[str, int]:
        """The totals that are wrong, and by how many cents: too much is positive."""
        errors = {key: self.observed[key] - self.expected[key] for key in TOTAL_KEYS}
        return {key: error for key, error in errors.items() if error}

    @property
    def right(self) -> int:
        """How many of the 18 totals are right."""
        return len(TOTAL_KEYS) - len(self.off)

    @property
    def points(self) -> int:
        """100 if every total is right, else 0."""
        return 0 if self.off else POINTS

    def report(self, number: int | None = None, *, most: int = 3) -> str:
        """The round in words; names up to ``most`` wrong totals, the widest errors first."""
        title = "Round" if number is None else f"Round {number}"
        verdict = f"{title}: {self.points} points - {self.right} of {len(TOTAL_KEYS)} totals right"
        lines = [f"{verdict} after {self.waited:.1f} s"]
        if not any(self.observed.values()) and not self.message_count:
            lines.append("  nothing arrived: is every link connected? Does each function work?")
            return "\n".join(lines)
        worst = sorted(self.off, key=lambda key: (-abs(self.off[key]), TOTAL_KEYS.index(key)))
        for key in worst[:most]:
            error = self.off[key]
            kind = "too high" if error > 0 else "too low"
            share = f"{money(self.observed[key])} instead of {money(self.expected[key])}"
            lines.append(f"  {key} is {money(abs(error))} {kind}: {share}")
        if len(worst) > most:
            lines.append(f"  and {len(worst) - most} more")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.report()


def play_round(
    lab: Lab,
    pipeline: Pipeline,
    seed: int,
    n: int = 10_000,
    special: bool = False,
    *,
    settle: bool = True,
    quiet: float = QUIET,
    patience: float = PATIENCE,
) -> Round:
    """Send a burst of ``n`` messages, wait up to ``patience`` seconds, and judge the totals.

    With ``settle`` the round first waits until earlier rounds have left the pipeline, that is
    until no total has moved for ``quiet`` seconds. Without, it starts at once, and what is still
    under way is counted as this round's.
    """
    before = in_cents(read_totals(lab))
    calm = wait_until_quiet(lab, quiet=quiet) if settle else read_totals(lab)
    start = in_cents(calm)
    late = {key: start[key] - before[key] for key in TOTAL_KEYS if start[key] != before[key]}

    began = lab.clock.now()
    burst = make_burst(seed, n, special, now=began)
    send(lab, pipeline, burst)
    sent = lab.clock.now()

    now = calm
    judged = sent
    right_since: datetime | None = None

    def moved() -> dict[str, int]:
        return {key: total - start[key] for key, total in in_cents(now).items()}

    def decided() -> bool:
        """The round is decided."""
        nonlocal now, judged, right_since
        now, judged = read_totals(lab), lab.clock.now()
        if moved() != burst.expected:
            right_since = None
        elif right_since is None:
            right_since = judged
        held = right_since is not None and judged - right_since >= timedelta(seconds=HOLD)
        return held or judged - sent >= timedelta(seconds=patience)

    lab.wait_until(every(lab, LOOK_EVERY, decided), timeout=patience + 60)
    return Round(
        seed=seed,
        special=special,
        sent=burst.counts,
        expected=burst.expected,
        observed=moved(),
        sending=(sent - began).total_seconds(),
        waited=((right_since or judged) - sent).total_seconds(),
        message_count=int(now.get(MESSAGE_COUNT, 0) - calm.get(MESSAGE_COUNT, 0)),
        late=late,
    )


def send(lab: Lab, pipeline: Pipeline, burst: Burst) -> None:
    """Send a burst batch by batch, each stamped as it leaves; nothing is lost on the way."""
    kinesis = lab.client("kinesis")
    with lab.explaining("sending messages"):
        for batch in progress(burst.batches, "sending"):
            _put(lab, kinesis, pipeline.names.stream, stamp(batch, lab.clock.now()))


def _put(lab: Lab, kinesis: Any, stream: str, records: list[dict[str, Any]]) -> None:
    """PutRecords may take only a part of a batch: what it left goes again a little later."""
    for attempt in range(MAX_TRIES):
        answer = kinesis.put_records(StreamName=stream, Records=records)
        if not answer["FailedRecordCount"]:
            return
        results = zip(records, answer["Records"], strict=True)
        records = [record for record, result in results if "ErrorCode" in result]
        pause(lab, min(0.1 * 2**attempt, 2))
    raise LabError(
        f"{stream} refused {len(records)} messages {MAX_TRIES} times over: give it more shards, "
        "or send fewer messages."
    )


def wait_until_quiet(lab: Lab, *, quiet: float = QUIET, timeout: float = 120) -> dict[str, Any]:
    """Wait until no total has moved for ``quiet`` seconds; the totals then.

    A batch that waits longer than that for its next attempt can't be seen from here.
    """
    totals = read_totals(lab)
    since: datetime = lab.clock.now()

    def still() -> bool:
        """The totals have stopped moving."""
        nonlocal totals, since
        seen, now = read_totals(lab), lab.clock.now()
        if seen != totals:
            totals, since = seen, now
        return now - since >= timedelta(seconds=quiet)

    try:
        lab.wait_until(every(lab, quiet / 10, still), timeout=timeout)
    except TimeoutError:
        raise LabError(
            f"The totals still move after {timeout:.0f} seconds: stop what feeds the pipeline, "
            "or play with settle=False."
        ) from None
    return totals


class Scoreboard:
    """The rounds of a game, one after the other, and their points."""

    def __init__(self) -> None:
        self.rounds: list[Round] = []

    def play(
        self,
        lab: Lab,
        pipeline: Pipeline,
        seed: int | None = None,
        n: int = 10_000,
        special: bool = False,
        *,
        settle: bool = True,
        quiet: float = QUIET,
    ) -> Round:
        """Play a round and keep it; its seed is its number if none is given."""
        number = len(self.rounds) + 1
        seed = number if seed is None else seed
        played = play_round(lab, pipeline, seed, n, special, settle=settle, quiet=quiet)
        return self.add(played)

    def add(self, played: Round) -> Round:
        """Keep a round that was played elsewhere."""
        self.rounds.append(played)
        return played

    @property
    def points(self) -> int:
        """The points of all rounds."""
        return sum(played.points for played in self.rounds)

    @property
    def message_count(self) -> int:
        """How many changes MapLambda counted in all rounds."""
        return sum(played.message_count for played in self.rounds)

    def as_frame(self) -> pd.DataFrame:
        """One row per round; seconds of the target's time, ``largest_error`` as an amount."""
        import pandas as pd

        rows = [
            {
                "messages": played.sent.messages,
                "special": played.special,
                "sending": played.sending,
                "waited": played.waited,
                "totals_right": played.right,
                "largest_error": max(map(abs, played.off.values()), default=0) / 100,
                "points": played.points,
            }
            for played in self.rounds
        ]
        index = pd.RangeIndex(1, len(rows) + 1, name="round")
        return pd.DataFrame(rows, index=index)

    def __repr__(self) -> str:
        reports = [played.report(number) for number, played in enumerate(self.rounds, start=1)]
        return "\n".join([*reports, f"Total: {self.points} points"])

    def _repr_html_(self) -> str:
        head = ("Round", "Messages", "Totals right", "After", "Points")
        cells = [
            (
                str(number),
                f"{played.sent.messages:,}",
                f"{played.right} of {len(TOTAL_KEYS)}",
                f"{played.waited:.1f} s",
                str(played.points),
            )
            for number, played in enumerate(self.rounds, start=1)
        ]
        total = ("Total", f"{sum(p.sent.messages for p in self.rounds):,}", "", "")
        rows = [_row("th", head), *(_row("td", row) for row in cells)]
        return f"<table>{''.join(rows)}{_row('td', (*total, str(self.points)))}</table>"


def _row(tag: str, cells: tuple[str, ...]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
