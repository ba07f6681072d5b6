"""Pictures of recordings: bars where shards were for certain, marks where one does not know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from drawn import png, words
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from running import table

import lab_utils as lu
from lab_utils import LabError
from lab_utils.plots.lanes import LINKS, SHARDS
from lab_utils.plots.recordings import UNSEEN, UNSURE
from lab_utils.recordings import Recording

HOUR = 3600.0


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def recorded(
    path: Path,
    *,
    every: float = 600,
    hours: float = 24,
    split: float = 0,
    hole: float = 0,
    age: float = 30,
    **physics: Any,
) -> Recording:
    """A recording of a table of that age; one of its partitions splits, then nobody looks."""
    with lu.open_lab("embedded", seed=4, physics=lu.Physics(**physics)) as lab:
        arn, streams = table(lab), lab.client("dynamodbstreams")
        lab.clock.advance(hours=age)
        if split:
            lu.record_stream(streams, arn, path, every=every, hours=split)
            lab.split_partition("Source", 2)
        if hole:
            lu.record_stream(streams, arn, path, every=every, hours=hole)
            lab.clock.advance(hours=3)
        return lu.record_stream(streams, arn, path, every=every, hours=hours)


def shapes(ax: Any, colour: str) -> list[np.ndarray]:
    return [
        np.asarray(path.vertices)
        for drawn in ax.collections
        if isinstance(drawn, PolyCollection) and len(drawn.get_paths())
        if to_hex(drawn.get_facecolor()[0]).lower() == colour.lower()
        for path in drawn.get_paths()
    ]


def bars(ax: Any, state: Any) -> list[np.ndarray]:
    return shapes(ax, SHARDS[state][0])


def legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_day_shows_bars_where_shards_were_and_marks_between(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "a.jsonl", split=10)
    ax = lu.plot_recording(recording)
    frame = recording.lifetimes
    watched = frame[frame.opened_after.notna() | frame.closed_after.notna()]
    assert len(bars(ax, "open")) == 5
    assert len(bars(ax, "closed")) == len(watched) - 5
    changes = watched.opened_after.notna().sum() + watched.closed_before.notna().sum()
    assert len(shapes(ax, UNSURE)) == changes
    assert legend(ax) == ["closed", "open", "roll-over", "split", "between looks"]
    assert f"{len(watched)} shards in 5 lanes, 5 open, 146 looks" in words(ax)
    assert ax.get_xlabel() == "hours since the first look"
    left, right = ax.get_xlim()
    assert (left, right) == (0, pytest.approx(24 * 1.03, rel=0.01))


def test_a_bar_stands_where_its_shard_was_listed_as_open(tmp_path: Path) -> None:
    """Its ends are looks that saw it, less the little room that is left between bars."""
    recording = recorded(tmp_path / "a.jsonl", every=HOUR, hours=12)
    ax = lu.plot_recording(recording)
    begun = recording.looks[0].at
    room = (ax.get_xlim()[1]) * 0.009
    frame = recording.lifetimes
    frame = frame[frame.opened_after.notna() & frame.closed_before.notna()]
    expected = sorted(
        ((row.opened_before - begun).total_seconds() / HOUR,
         (row.closed_after - begun).total_seconds() / HOUR)
        for row in frame.itertuples()
    )  # fmt: skip
    found = sorted(
        (bar[:, 0].min(), bar[:, 0].max()) for bar in bars(ax, "closed") if bar[:, 0].min() > 0
    )
    assert len(found) == len(expected) > 0
    for (start, end), (opened, closed) in zip(found, expected, strict=True):
        assert opened <= start <= opened + room
        assert closed - room <= end <= closed


def test_marks_are_as_wide_as_the_looks_are_apart(tmp_path: Path) -> None:
    ax = lu.plot_recording(recorded(tmp_path / "a.jsonl", every=2 * HOUR))
    widths = [float(np.ptp(mark[:, 0])) for mark in shapes(ax, UNSURE)]
    assert widths == pytest.approx([2.0] * len(widths), abs=0.01)


def test_where_nobody_looked_is_shaded(tmp_path: Path) -> None:
    ax = lu.plot_recording(recorded(tmp_path / "a.jsonl", hole=8))
    (hole,) = [each for each in ax.patches if to_hex(each.get_facecolor()) == UNSEEN]
    start, end = hole.get_x(), hole.get_x() + hole.get_width()
    assert (start, end) == (pytest.approx(8, abs=0.01), pytest.approx(11, abs=0.01))
    assert legend(ax)[-1] == "no look"


def test_shards_that_nobody_saw_open_are_drawn_where_they_must_have_been(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "a.jsonl", every=6 * HOUR, hours=48)
    ax = lu.plot_recording(recording)
    assert "never seen open" in legend(ax)
    for bar in bars(ax, "ended"):
        assert np.ptp(bar[:, 0]) == pytest.approx(6, rel=0.2)
    short = recorded(tmp_path / "b.jsonl", every=5 * HOUR, hours=20, rollover=(HOUR, HOUR),
                     retention=HOUR)  # fmt: skip
    ax = lu.plot_recording(short)
    assert "never seen" in legend(ax)
    assert len(bars(ax, "trimmed")) == 4 * 4


def test_links_lead_from_parents_to_children(tmp_path: Path) -> None:
    ax = lu.plot_recording(recorded(tmp_path / "a.jsonl", split=10))
    (links,) = [each for each in ax.collections if isinstance(each, LineCollection)]
    colours = [to_hex(colour).upper() for colour in links.get_colors()]
    assert colours.count(LINKS["split"].upper()) == 2
    assert set(colours) == {LINKS["split"].upper(), LINKS["roll-over"].upper()}
    for line in links.get_segments():
        assert line[0, 0] < line[-1, 0]


def test_two_recordings_share_one_time_axis(tmp_path: Path) -> None:
    real = recorded(tmp_path / "a.jsonl", every=HOUR, hole=8, hours=30)
    model = recorded(tmp_path / "b.jsonl", hours=5)
    upper, lower = lu.plot_recordings(real, model)
    assert upper.get_xlim() == lower.get_xlim()
    assert upper.get_xlabel() == lower.get_xlabel() == "hours since the first look"
    assert any(text.startswith("The real table: ") for text in words(upper))
    assert any(text.startswith("The model: ") for text in words(lower))
    assert "no look" in legend(upper)
    assert legend(lower) == [], "what colours mean is said once"
    upper, _ = lu.plot_recordings(real, model, labels=("Quiet", "Busy"))
    assert any(text.startswith("Quiet: ") for text in words(upper))


def test_a_recording_without_times_says_so(tmp_path: Path) -> None:
    one = recorded(tmp_path / "a.jsonl", every=60, hours=0.001)
    one = Recording(one.header, one.looks[:1], ())
    assert words(lu.plot_recording(one)) == ["one look tells no times"]
    day = recorded(tmp_path / "b.jsonl")
    upper, lower = lu.plot_recordings(one, day)
    assert words(upper) == ["The real table: one look tells no times"]
    assert len(bars(lower, "open")) == 4
    assert words(lu.plot_recording(Recording(one.header, (), ()))) == ["one look tells no times"]


def test_many_shards_are_a_picture_of_their_density(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "a.jsonl", every=HOUR, hours=6, on_demand_partitions=320)
    ax = lu.plot_recording(recording)
    assert len(ax.images) == 1
    assert not shapes(ax, UNSURE)
    assert any("320 lanes" in text for text in words(ax))


def test_it_draws_into_axes_that_are_given_and_the_same_every_time(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "a.jsonl", split=10)
    _, ax = plt.subplots()
    assert lu.plot_recording(recording, ax) is ax
    pictures = {png(lu.plot_recording(recording)) for _ in range(2)}
    assert len(pictures) == 1


def test_plot_lineage_draws_what_was_ever_seen(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "a.jsonl", hours=30)
    ax = lu.plot_lineage(recording.lineage)
    shards = len(recording.lineage.graph)
    assert sum(len(bars(ax, state)) for state in ("open", "closed", "trimmed")) == shards


@pytest.mark.parametrize("mistake", [None, "recording.jsonl", object()])
def test_what_is_no_recording_is_refused_with_the_remedy(mistake: Any) -> None:
    with pytest.raises(LabError, match="is no recording: give what read_recording"):
        lu.plot_recording(mistake)
    with pytest.raises(LabError, match="is no recording: give what read_recording"):
        lu.plot_recordings(mistake, mistake)
    assert plt.get_fignums() == []
