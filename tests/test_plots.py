"""Pictures: right bars in right places, readable labels, the palette's colours, the same bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from drawn import NOON, fills, frame, invocation, kinesis_shard, png, polygons, table_shard, words
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch

from lab_utils import plots
from lab_utils.plots import style


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@dataclass(frozen=True)
class Stage:
    name: str
    kind: str
    shards: int = 0
    link: str = ""
    detail: str = ""


PIPELINE = [
    Stage("IncomingDataStream", "stream", 20, "", "10,000 records"),
    Stage("StateLambda", "function", 0, "connected", "batch 100"),
    Stage("StateTable", "table", 4, "direct", "9,730 items"),
    Stage("MapLambda", "function", 0, "connected", "batch 10,000"),
    Stage("ReduceTable", "table", 4, "direct"),
    Stage("ReduceLambda", "function", 0, "missing", "one at a time"),
    Stage("AggregateTable", "table", 0, "direct", "19 items"),
]


def busy(bars_per_lane: int = 28) -> pd.DataFrame:
    """Three functions on 20, 4 and 4 shards."""
    rows = []
    for function, shards in (("StateLambda", 20), ("MapLambda", 4), ("ReduceLambda", 4)):
        for shard in range(shards):
            name = kinesis_shard(shard) if shards == 20 else table_shard(shard)
            rows += [
                invocation(i + shard / 40, 0.8, function=function, shard=name, instance=f"i{shard}")
                for i in range(bars_per_lane)
            ]
    return frame(*rows)


def backlog() -> pd.DataFrame:
    rows = [
        (NOON + pd.Timedelta(seconds=i), name, waiting, waiting / 10 if waiting else np.nan)
        for i in range(5)
        for name, waiting in (("StateLambda", [0, 90, 50, 10, 0][i]), ("MapLambda", 5 * i))
    ]
    return pd.DataFrame(rows, columns=["at", "function", "waiting", "age"])


def throttled() -> pd.DataFrame:
    return frame(invocation(0, 0, outcome="throttled", instance=None))


def tries() -> pd.DataFrame:
    """A batch of four whose last record fails: cut twice."""
    parts = [(0, 4, "error"), (0, 2, "ok"), (2, 2, "error"), (2, 1, "ok"), (3, 1, "error")]
    rows = [{"function": "MapLambda", "shard": kinesis_shard(0), "lane": 0, "batch": 1,
             "first": first, "size": size, "attempt": 1, "outcome": outcome,
             "started": NOON + pd.Timedelta(seconds=i)}
            for i, (first, size, outcome) in enumerate(parts)]  # fmt: skip
    return pd.DataFrame(rows)


def comparison() -> pd.DataFrame:
    measures = {"invocations": [10021, 21], "good records lost": [999, 0]}
    return pd.DataFrame(measures, index=["as it is created", "bisect the batch"])


@dataclass(frozen=True)
class Family:
    graph: nx.DiGraph


def family() -> Family:
    """A trimmed shard, its child, which splits; and one that rolled over."""
    graph = nx.DiGraph()
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def shard(
        name: str, began: float | None, ended: float | None, state: str, *parents: str
    ) -> None:
        times = [None if h is None else start + timedelta(hours=h) for h in (began, ended)]
        graph.add_node(name, started=times[0], ended=times[1], state=state)
        graph.add_edges_from((parent, name) for parent in parents)

    shard(table_shard(1), None, None, "trimmed")
    shard(table_shard(2, 1), 0, 4, "closed", table_shard(1))
    shard(table_shard(3, 2), 4, None, "open", table_shard(2, 1))
    shard(table_shard(4, 2), 4, None, "open", table_shard(2, 1))
    shard(table_shard(5, 1), 0.5, 4.5, "closed")
    shard(table_shard(6, 2), 4.5, None, "open", table_shard(5, 1))
    return Family(graph)


def merged() -> Family:
    """A Kinesis stream whose shards 0 and 1 were merged into 2; nobody knows when."""
    graph = nx.DiGraph([(kinesis_shard(0), kinesis_shard(2)), (kinesis_shard(1), kinesis_shard(2))])
    for name in graph:
        state = "open" if name == kinesis_shard(2) else "closed"
        graph.nodes[name].update(started=None, ended=None, state=state)
    return Family(graph)


TOTALS = {
    "PV": 30.0, "PV:FXSpot": 20.0, "PV:FXSpot:EMEA": 15.0, "PV:FXSpot:APAC": 5.0,
    "PV:FXOptions": 10.0, "PV:FXOptions:EMEA": 10.0, "Delta": 10.0, "Delta:FXSpot": 10.0,
    "Delta:FXSpot:AMER": 10.0, "message_count": 40,
}  # fmt: skip


PICTURES = {
    "pipeline": lambda: plots.plot_pipeline(PIPELINE),
    "invocations": lambda: plots.plot_invocations(busy(3)),
    "backlog": lambda: plots.plot_backlog(backlog())[0],
    "concurrency": lambda: plots.plot_concurrency(busy(3)),
    "lineage": lambda: plots.plot_lineage(family()),
    "merged lineage": lambda: plots.plot_lineage(merged()),
    "totals": lambda: plots.plot_totals(TOTALS),
    "instances": lambda: plots.plot_instances(busy(3)),
    "sizes of batches": lambda: plots.plot_batch_sizes(busy(3)),
    "iterator age": lambda: plots.plot_iterator_age(busy(3)),
    "bisections": lambda: plots.plot_bisections(tries()),
    "comparison": lambda: plots.plot_comparison(comparison())[0],
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_same_data_gives_the_same_bytes(name: str) -> None:
    first = png(PICTURES[name]())
    plt.close("all")
    assert png(PICTURES[name]()) == first


@pytest.mark.parametrize("name", PICTURES)
def test_the_readers_matplotlib_style_changes_neither_paper_nor_ink(name: str) -> None:
    with plt.style.context("dark_background"):
        ax = PICTURES[name]()
        assert to_hex(ax.get_figure().get_facecolor()).upper() == style.PAPER
        inks = {to_hex(t.get_color()).upper() for t in ax.texts if t.get_text() != "λ"}
        assert all(style._luminance(ink) < 0.2 for ink in inks - {style.PAPER})


@pytest.mark.parametrize("name", PICTURES)
def test_text_is_large_enough_for_a_phone(name: str) -> None:
    ax = PICTURES[name]()
    width = ax.get_figure().get_size_inches()[0]
    texts = [text for text in ax.texts if not text.get_text().replace(",", "").isdigit()]
    texts += [ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
    sizes = [text.get_fontsize() / 72 / width * 360 for text in texts if text.get_text()]
    assert min(sizes) > 7.0, "pixels, in a figure 360 pixels wide"


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plots.plot_pipeline(PIPELINE, ax),
        lambda ax: plots.plot_invocations(busy(2), ax),
        lambda ax: plots.plot_concurrency(busy(2), ax),
        lambda ax: plots.plot_lineage(family(), ax),
        lambda ax: plots.plot_totals(TOTALS, ax),
        lambda ax: plots.plot_instances(busy(2), ax),
        lambda ax: plots.plot_batch_sizes(busy(2), ax),
        lambda ax: plots.plot_iterator_age(busy(2), ax),
        lambda ax: plots.plot_bisections(tries(), ax),
        lambda ax: plots.plot_comparison(comparison()[["invocations"]], ax)[0],
    ],
)
def test_axes_that_are_given_are_used_and_returned(draw: Any) -> None:
    _, ax = plt.subplots()
    assert draw(ax) is ax
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("draw", "text"),
    [
        (lambda: plots.plot_pipeline([]), "no stages yet"),
        (lambda: plots.plot_invocations(frame()), "no invocations"),
        (lambda: plots.plot_invocations(busy(1), function="Other"), "no invocations"),
        (lambda: plots.plot_concurrency(frame()), "no invocations"),
        (lambda: plots.plot_backlog(backlog().head(0))[0], "no records waiting"),
        (lambda: plots.plot_lineage(Family(nx.DiGraph())), "no shards"),
        (lambda: plots.plot_instances(frame()), "no instances yet"),
        (lambda: plots.plot_instances(throttled()), "no instances yet"),
        (lambda: plots.plot_batch_sizes(frame()), "no batches yet"),
        (lambda: plots.plot_batch_sizes(throttled()), "no batches yet"),
        (lambda: plots.plot_iterator_age(frame()), "no iterator age yet"),
        (lambda: plots.plot_bisections(tries().head(0)), "no tries yet"),
        (lambda: plots.plot_comparison(comparison().head(0))[0], "nothing to compare"),
        (lambda: plots.plot_totals({}), "no totals yet"),
        (lambda: plots.plot_totals({"message_count": 3}), "no totals yet"),
    ],
)
def test_nothing_to_draw_is_said_in_words(draw: Any, text: str) -> None:
    ax = draw()
    assert words(ax) == [text]
    assert png(ax)


# --- the pipeline ---------------------------------------------------------------------------


def test_a_pipeline_has_one_line_per_shard_and_one_arrow_per_write() -> None:
    whole = [replace(stage, link=stage.link.replace("missing", "connected")) for stage in PIPELINE]
    ax = plots.plot_pipeline(whole)
    lines = [len(c.get_segments()) for c in ax.collections if isinstance(c, LineCollection)]
    assert lines == [20, 4, 4]
    assert sum(isinstance(patch, FancyArrowPatch) for patch in ax.patches) == 3
    assert "not\nconnected" not in words(ax)


def test_a_missing_link_is_cut_and_named_in_the_colour_of_trouble() -> None:
    ax = plots.plot_pipeline(PIPELINE)
    assert words(ax).count("not\nconnected") == 1
    dashed = [
        c for c in ax.collections if isinstance(c, LineCollection) and c.get_linestyle()[0][1]
    ]
    assert len(dashed) == 1
    assert to_hex(dashed[0].get_color()[0]).upper() == style.tint(style.VERMILLION, 0.7).upper()
    bottom = min(segment[-1, 1] for segment in dashed[0].get_segments())
    stubs = ax.collections[ax.collections.index(dashed[0]) - 1]
    assert min(stub[-1, 1] for stub in stubs.get_segments()) > bottom + 0.5


def test_a_pipeline_says_names_details_and_numbers_of_shards() -> None:
    said = words(plots.plot_pipeline(PIPELINE))
    for text in ("Incoming", "DataStream", "batch 10,000", "20\nshards", "4\nshards", "19 items"):
        assert text in said


def test_a_long_detail_takes_two_lines() -> None:
    stage = Stage("ReduceLambda", "function", 0, "", "batch 1,000, 3 s, 1 at once")
    assert {"batch 1,000,", "3 s, 1 at once"} <= set(words(plots.plot_pipeline([stage])))


def test_a_store_without_a_stream_says_so() -> None:
    stages = [Stage("ReduceTable", "table"), Stage("ReduceLambda", "function", 0, "missing")]
    assert "no\nstream" in words(plots.plot_pipeline(stages))


@pytest.mark.parametrize("length", range(1, 8))
def test_pipelines_of_any_length_stay_inside_their_axes(length: int) -> None:
    ax = plots.plot_pipeline(PIPELINE[:length])
    ax.get_figure().canvas.draw()
    paper = ax.get_window_extent()
    for text in ax.texts:
        box = text.get_window_extent()
        assert paper.x0 <= box.x0
        assert box.x1 <= paper.x1
        assert paper.y0 <= box.y0
        assert box.y1 <= paper.y1


def test_names_in_a_pipeline_do_not_touch_each_other() -> None:
    ax = plots.plot_pipeline(PIPELINE)
    ax.get_figure().canvas.draw()
    boxes = [text.get_window_extent().shrunk(0.98, 0.8) for text in ax.texts]
    touching = [
        (ax.texts[i].get_text(), ax.texts[j].get_text())
        for i in range(len(boxes))
        for j in range(i)
        if boxes[i].overlaps(boxes[j])
    ]
    assert touching == []


def test_an_unknown_kind_of_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="not 'queue'"):
        plots.plot_pipeline([Stage("Mail", "queue")])


# --- invocations ----------------------------------------------------------------------------


def test_a_bar_spans_its_run_in_seconds_since_the_first() -> None:
    ax = plots.plot_invocations(frame(invocation(0, 1), invocation(4, 2.5)))
    left, right = polygons(ax)[1][:, 0].min(), polygons(ax)[1][:, 0].max()
    assert (left, right) == pytest.approx((4.0, 6.5))
    assert ax.get_xlabel() == "seconds since the first invocation"
    assert ax.get_ylabel() == "shard"


@pytest.mark.parametrize(
    ("seconds", "unit"),
    [(0.4, "milliseconds"), (30, "seconds"), (1800, "minutes"), (90_000, "hours"), (1e6, "days")],
)
def test_the_unit_of_time_suits_the_span(seconds: float, unit: str) -> None:
    ax = plots.plot_invocations(frame(invocation(0, seconds)))
    assert ax.get_xlabel().startswith(unit)
    assert polygons(ax)[0][:, 0].max() < 2000


def test_an_origin_moves_the_zero_and_since_names_it() -> None:
    origin = (NOON - pd.Timedelta(seconds=10)).to_pydatetime()
    ax = plots.plot_invocations(frame(invocation(0, 5)), origin=origin, since="the burst began")
    assert polygons(ax)[0][:, 0].min() == pytest.approx(10.0)
    assert ax.get_xlabel() == "seconds since the burst began"


def test_each_shard_has_a_row_and_each_function_its_rows_together() -> None:
    ax = plots.plot_invocations(busy(2))
    rows: dict[float, int] = {}
    for corners in polygons(ax):
        middle = round(float(corners[:, 1].mean()), 6)
        rows[middle] = rows.get(middle, 0) + 1
    assert len(rows) == 28
    assert set(rows.values()) == {2}
    steps = np.diff(sorted(rows))
    assert sorted(np.flatnonzero(steps > 1.5)) == [19, 23]
    assert [w for w in words(ax) if w.endswith("Lambda")] == [
        "StateLambda",
        "MapLambda",
        "ReduceLambda",
    ]


def test_kinesis_shards_keep_their_number_and_those_of_tables_are_numbered_by_age() -> None:
    rows = [invocation(i, 1, shard=kinesis_shard(n)) for i, n in enumerate((7, 3))]
    older, younger = table_shard(9, 1), table_shard(1, 2)
    rows += [invocation(i, 1, shard=s, function="R") for i, s in enumerate((younger, older))]
    labels = [t.get_text() for t in plots.plot_invocations(frame(*rows)).get_yticklabels()]
    assert labels == ["s3", "s7", "s0", "s1"]


def test_lanes_of_one_shard_and_direct_calls_have_rows_of_their_own() -> None:
    rows = [invocation(0, 1, lane=lane) for lane in (0, 1)]
    rows += [invocation(0, 1, function="F", shard=None, instance=name) for name in ("a", "b", "a")]
    ax = plots.plot_invocations(frame(*rows))
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels == ["s0.0", "s0.1", "no shard", "no shard"]


def test_good_bars_have_their_functions_colour_and_bad_ones_their_own() -> None:
    rows = [invocation(i, 0.9, outcome=o) for i, o in enumerate(("ok", "error", "timeout"))]
    ax = plots.plot_invocations(frame(*rows, invocation(4, 1, function="Other")))
    assert fills(ax) == [style.BLUE, style.VERMILLION, style.BLACK, style.ORANGE]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["error", "timeout"]
    marks = [
        (line.get_xdata()[0], line.get_marker()) for line in ax.lines if line.get_marker() != "None"
    ]
    assert marks == [(pytest.approx(1.9), "X"), (pytest.approx(2.9), "D")]


def test_a_function_keeps_its_colour_when_it_is_shown_alone() -> None:
    ax = plots.plot_invocations(busy(1), function="ReduceLambda")
    assert set(fills(ax)) == {style.GREEN}
    assert len(polygons(ax)) == 4


def test_instances_can_be_told_apart() -> None:
    rows = [invocation(i, 0.9, instance=name) for i, name in enumerate("aba")]
    assert fills(plots.plot_invocations(frame(*rows), by="instance")) == [
        style.BLUE,
        style.ORANGE,
        style.BLUE,
    ]
    with pytest.raises(ValueError, match="not 'weather'"):
        plots.plot_invocations(frame(*rows), by="weather")


def test_a_bar_shows_its_batch_size_only_where_it_has_room() -> None:
    wide, narrow = invocation(0, 50, batch_size=1234), invocation(60, 0.5, batch_size=77)
    said = words(plots.plot_invocations(frame(wide, narrow)))
    assert "1,234" in said
    assert "77" not in said


def test_what_was_throttled_took_no_time_and_is_still_seen() -> None:
    rows = [invocation(0, 0, outcome="throttled"), invocation(10, 10)]
    ax = plots.plot_invocations(frame(*rows))
    assert polygons(ax)[0][:, 0].max() - polygons(ax)[0][:, 0].min() >= 20 / 400
    assert png(plots.plot_invocations(frame(rows[0])))


def test_what_still_runs_reaches_the_edge() -> None:
    rows = [invocation(0, 10), invocation(2, 1, ended=pd.NaT, shard=kinesis_shard(1))]
    ax = plots.plot_invocations(frame(*rows))
    assert polygons(ax)[1][:, 0].max() == pytest.approx(10.0)


def test_eight_hundred_bars_on_twenty_eight_rows_are_drawn_within_a_second() -> None:
    invocations = busy()
    assert len(invocations) == 784
    plots.plot_invocations(invocations)
    before = time.process_time()
    png(plots.plot_invocations(invocations))
    assert time.process_time() - before < 1.0


# --- running at once, waiting ---------------------------------------------------------------


def test_concurrency_counts_overlapping_runs_only() -> None:
    rows = [invocation(0, 2), invocation(1, 2, shard=kinesis_shard(1)), invocation(3, 1)]
    rows.append(invocation(1.5, 0, outcome="throttled"))
    ax = plots.plot_concurrency(frame(*rows))
    (line,) = ax.lines
    steps = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert steps == {0.0: 1, 1.0: 2, 2.0: 1, 3.0: 1, 4.0: 0}
    assert words(ax) == ["MapLambda, at most 2"]
    assert ax.get_ylabel() == "instances running"
    assert ax.get_xlabel() == "seconds since the first invocation"


def test_backlog_draws_what_waits_above_and_its_age_below() -> None:
    upper, lower = plots.plot_backlog(backlog(), since="the burst began")
    assert [line.get_ydata().max() for line in upper.lines] == [90, 20]
    assert [np.nanmax(line.get_ydata()) for line in lower.lines] == [9.0, 2.0]
    assert np.isnan(lower.lines[0].get_ydata()[0]), "nothing waits, so nothing has an age"
    assert [line.get_color() for line in upper.lines] == [style.BLUE, style.ORANGE]
    assert words(upper) == ["StateLambda", "MapLambda"]
    assert upper.get_ylabel() == "records waiting"
    assert lower.get_ylabel() == "age of the oldest (seconds)"
    assert lower.get_xlabel() == "seconds since the burst began"


def test_backlog_draws_into_two_given_axes() -> None:
    _, axes = plt.subplots(2)
    assert plots.plot_backlog(backlog(), axes) == tuple(axes)


def test_labels_of_lines_that_peak_together_do_not_overlap() -> None:
    rows = [(NOON + pd.Timedelta(seconds=i), f"Function{n}", i % 2, np.nan)
            for i in range(4) for n in range(4)]  # fmt: skip
    together = pd.DataFrame(rows, columns=["at", "function", "waiting", "age"])
    ax, _ = plots.plot_backlog(together)
    ax.get_figure().canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 4
    assert not any(boxes[i].overlaps(boxes[j]) for i in range(4) for j in range(i))


# --- lineage and totals ---------------------------------------------------------------------


def lineage_rows(ax: Any) -> list[tuple[float, float, float]]:
    """Start, end and row of each bar, from the left."""
    bars = polygons(ax)
    return sorted((b[:, 0].min(), b[:, 0].max(), (b[:, 1].min() + b[:, 1].max()) / 2) for b in bars)


def test_a_lineage_goes_from_left_to_right_and_forks() -> None:
    ax = plots.plot_lineage(family())
    gap = (ax.get_xlim()[1] - ax.get_xlim()[0]) * 0.02
    (_, trimmed_end, _), (start, end, row), *rest = lineage_rows(ax)
    assert trimmed_end < start < gap
    assert end == pytest.approx(4, abs=gap)
    children = [bar for bar in rest if bar[0] == pytest.approx(4, abs=gap)]
    assert sorted(bar[2] for bar in children) == [row - 0.5, row + 0.5]
    assert len({bar[1] for bar in rest if bar[0] > 4}) == 1, (
        "open shards end where the picture ends"
    )
    assert ax.get_xlabel() == "hours since the oldest listed shard opened"
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert names == ["trimmed", "closed", "open", "roll-over", "split"]
    (links,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert len(links.get_segments()) == family().graph.number_of_edges()


def test_shards_without_times_are_drawn_by_generation_and_can_merge() -> None:
    ax = plots.plot_lineage(merged())
    assert ax.get_xlabel() == "generation"
    first, second, child = lineage_rows(ax)
    assert first[2] != second[2]
    assert child[0] > max(first[1], second[1])
    assert {"0", "1", "2"} < set(words(ax))


def test_a_young_stream_measures_no_milliseconds() -> None:
    graph = nx.DiGraph()
    for i in range(4):
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=i)
        graph.add_node(table_shard(i), started=started, ended=None, state="open")
    ax = plots.plot_lineage(Family(graph))
    assert ax.get_xlabel() == "hours since the first shard opened"
    assert list(ax.get_xticks()) == [0]


def test_no_two_shards_of_one_time_share_a_row() -> None:
    graph = nx.DiGraph(
        [(kinesis_shard(a), kinesis_shard(b)) for a, b in ((0, 3), (0, 4), (1, 5), (4, 5))]
    )
    graph.add_node(kinesis_shard(2))
    for name in graph:
        graph.nodes[name].update(started=None, ended=None, state="closed")
    bars = lineage_rows(plots.plot_lineage(Family(graph)))
    assert len({(round(start, 3), row) for start, _, row in bars}) == 6


def test_a_thousand_shards_are_drawn() -> None:
    graph = nx.DiGraph()
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for chain in range(150):
        for age in range(7):
            began = start + timedelta(hours=4 * age)
            closed = age < 6
            graph.add_node(table_shard(chain, age), started=began,
                           ended=began + timedelta(hours=4) if closed else None,
                           state="closed" if closed else "open")  # fmt: skip
            if age:
                graph.add_edge(table_shard(chain, age - 1), table_shard(chain, age))
    ax = plots.plot_lineage(Family(graph))
    assert len(polygons(ax)) == 1050
    assert words(ax) == ["1,050 shards in 150 lanes, 150 open"], "no names where none can be read"


def test_totals_are_as_high_as_they_are_large() -> None:
    ax = plots.plot_totals(TOTALS)
    heights = [(patch.get_x(), round(patch.get_height(), 6)) for patch in ax.patches]
    assert sorted(h for x, h in heights if x == 0) == [0.25, 0.75]
    assert sorted(h for x, h in heights if x == 2) == [0.125, 0.25, 0.25, 0.375]
    assert len(heights) == 9, "message_count is no total"


def test_totals_may_come_as_a_frame() -> None:
    table = pd.DataFrame({"Identifier": list(TOTALS), "Value": list(TOTALS.values())})
    assert png(plots.plot_totals(table)) == png(plots.plot_totals(TOTALS))
    assert png(plots.plot_totals(table.set_index("Identifier"))) == png(plots.plot_totals(TOTALS))


def test_a_wrong_total_says_by_how_much() -> None:
    ax = plots.plot_totals(TOTALS, expected=TOTALS | {"PV": 27.5})
    assert "+2.50 off" in words(ax)
    outlined = [p for p in ax.patches if to_hex(p.get_edgecolor()).upper() == style.VERMILLION]
    assert len(outlined) == 1
    assert not any(
        text.endswith("off") for text in words(plots.plot_totals(TOTALS, expected=TOTALS))
    )


# --- colours --------------------------------------------------------------------------------


def test_trouble_has_a_colour_that_no_function_has() -> None:
    colours = style.function_colours(f"f{i}" for i in range(12))
    assert set(colours.values()) == set(style.FUNCTION_COLOURS)
    assert style.VERMILLION not in colours.values()


@pytest.mark.parametrize("colour", [*style.FUNCTION_COLOURS, style.VERMILLION, style.YELLOW])
def test_text_has_contrast(colour: str) -> None:
    def ratio(one: str, other: str) -> float:
        light, dark = sorted((style._luminance(one), style._luminance(other)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    assert ratio(style.text_on(colour), colour) >= 4.5
    assert ratio(style.darker(colour), style.PAPER) >= 4.5
    assert ratio(style.MUTED, style.tint(colour, 0.2)) >= 4.5
