"""Pictures of what mappings do: instances, lanes, batches, ages, bisections, comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from drawn import NOON, fills, frame, invocation, kinesis_shard, png, polygons, words
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

import lab_utils as lu
from lab_utils import plots
from lab_utils.plots import style
from lab_utils.plots.timeline import SHADES


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def ticks(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_yticklabels()]


def key(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def spans(ax: Any) -> list[tuple[float, float, float]]:
    """Of each bar: its row, where it begins and where it ends."""
    return [
        (round(float(bar[:, 1].min() + 0.4), 6), float(bar[:, 0].min()), float(bar[:, 0].max()))
        for bar in polygons(ax)
    ]


def middles(ax: Any) -> list[float]:
    """The row of each bar."""
    return [row for row, _, _ in spans(ax)]


def marks(ax: Any) -> list[tuple[float, float, str]]:
    """The points that stand for trouble."""
    return [
        (float(x), float(y), line.get_marker())
        for line in ax.lines
        if line.get_linestyle() == "None"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def overlapping(boxes: Sequence[Any]) -> list[tuple[int, int]]:
    return [(i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].overlaps(boxes[j])]


def test_every_picture_can_be_had_from_the_package() -> None:
    for name in plots.__all__:
        assert getattr(lu, name) is getattr(plots, name)


# --- instances ------------------------------------------------------------------------------


def test_each_instance_has_a_row_in_the_order_of_first_use() -> None:
    rows = [invocation(start, 1, instance=name) for start, name in ((2, "a"), (0, "b"), (4, "a"))]
    ax = plots.plot_instances(frame(*rows))
    assert ticks(ax) == ["1", "2"]
    low, high = sorted(set(middles(ax)))
    assert middles(ax) == [high, low, high], "b was first"
    assert ax.get_ylabel() == "instance"
    assert ax.get_xlabel() == "seconds since the first invocation"


def test_each_function_has_instances_of_its_own() -> None:
    rows = [invocation(i, 1, function=name, instance="one") for i, name in enumerate("FG")]
    ax = plots.plot_instances(frame(*rows))
    assert ticks(ax) == ["1", "1"]
    assert [word for word in words(ax) if word in "FG"] == ["F", "G"]


def test_the_first_run_of_each_instance_has_an_edge() -> None:
    rows = [invocation(i, 0.5, instance=name) for i, name in enumerate("aba")]
    ax = plots.plot_instances(frame(*rows))
    (edges,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert [segment[0, 0] for segment in edges.get_segments()] == [0.0, 1.0]
    assert "first run" in key(ax)


def test_bars_have_the_colour_and_the_name_of_their_shard() -> None:
    rows = [invocation(10 * i, 9, shard=kinesis_shard(n)) for i, n in enumerate((7, 3, 7))]
    rows.append(invocation(30, 9, shard=None, lane=None, batch_size=None))
    rows.append(invocation(40, 9, shard=kinesis_shard(3), outcome="timeout"))
    ax = plots.plot_instances(frame(*rows))
    blue, orange = SHADES[:2]
    grey = fills(ax)[3]
    assert fills(ax) == [colour.upper() for colour in (orange, blue, orange, grey, style.BLACK)]
    assert grey not in {shade.upper() for shade in SHADES}
    assert [word for word in words(ax) if word in ("s3", "s7", "no shard")] == [
        "s7", "s3", "s7", "no shard", "s3",
    ]  # fmt: skip
    assert key(ax) == ["s3", "s7", "no shard", "first run", "timeout"]
    assert [marker for *_, marker in marks(ax)] == ["D"]


def test_what_was_throttled_reached_no_instance() -> None:
    rows = [invocation(0, 2), invocation(1, 0, instance=None, outcome="throttled")]
    assert len(polygons(plots.plot_instances(frame(*rows)))) == 1


def test_more_shards_than_colours_are_named_but_not_in_the_key() -> None:
    rows = [invocation(10 * n, 9, shard=kinesis_shard(n), instance=f"i{n}") for n in range(20)]
    ax = plots.plot_instances(frame(*rows))
    assert key(ax) == ["first run"]
    assert ax.get_ylabel() == "instance (coloured by 20 shards)"


def fleet(shards: int, lanes: int) -> pd.DataFrame:
    return frame(
        *(
            invocation(i + lane / 10, 0.8, shard=kinesis_shard(shard), lane=lane,
                       instance=f"{shard}.{lane}")
            for i in range(3) for shard in range(shards) for lane in range(lanes)
        )
    )  # fmt: skip


def test_forty_lanes_are_grouped_by_shard_and_all_have_names_that_can_be_read() -> None:
    ax = plots.plot_invocations(fleet(4, 10))
    assert ticks(ax) == [f"s{shard}.{lane}" for shard in range(4) for lane in range(10)]
    steps = np.diff(sorted(set(middles(ax))))
    assert list(np.flatnonzero(steps > 1.1)) == [9, 19, 29]
    ax.get_figure().canvas.draw()
    boxes = [label.get_window_extent().shrunk(1, 0.8) for label in ax.get_yticklabels()]
    assert overlapping(boxes) == []


def test_forty_instances_are_told_apart_by_their_numbers() -> None:
    rows = [invocation(10 * i, 9, instance=f"i{i % 40}") for i in range(44)]
    ax = plots.plot_invocations(frame(*rows), by="instance")
    assert fills(ax)[:10] == [shade.upper() for shade in SHADES]
    assert fills(ax)[10] == SHADES[0].upper(), "colours repeat"
    wide = plots.plot_invocations(frame(*rows[30:]), by="instance")
    assert [word for word in words(wide) if word.isdigit()] == [f"{i}" for i in range(1, 15)]
    assert ticks(plots.plot_instances(frame(*rows))) == [f"{i}" for i in range(1, 41)]


def test_a_direct_call_has_no_batch_and_is_drawn() -> None:
    called = frame(invocation(0, 1, shard=None, lane=None, batch_size=None), invocation(1, 1))
    called["batch_size"] = called["batch_size"].astype("Int64")
    assert words(plots.plot_invocations(called)).count("100") == 1


# --- sizes of batches -----------------------------------------------------------------------


def batches(*sizes: int, function: str = "MapLambda") -> pd.DataFrame:
    return frame(
        *(invocation(i, 1, batch_size=size, function=function) for i, size in enumerate(sizes))
    )


def bins(ax: Any) -> dict[int, int]:
    """How many batches each bar counts, by the place of its bin."""
    return {
        int(bar.get_x() + bar.get_width() / 2): round(bar.get_height())
        for bar in ax.patches
        if bar.get_height()
    }


def named(ax: Any) -> dict[float, str]:
    return {
        float(place): text.get_text()
        for place, text in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    }


def test_one_size_alone_is_one_bar_with_its_number_below() -> None:
    ax = plots.plot_batch_sizes(batches(*[100] * 12))
    ((place, count),) = bins(ax).items()
    assert count == 12
    assert named(ax)[place + 0.5] == "100"
    assert len(named(ax)) == 5
    assert ax.get_xlabel() == "records in a batch"
    assert ax.get_ylabel() == "invocations"


def test_small_sizes_have_a_bar_each() -> None:
    ax = plots.plot_batch_sizes(batches(1, 1, 3, 10))
    assert {named(ax)[place + 0.5]: count for place, count in bins(ax).items()} == {
        "1": 2, "3": 1, "10": 1,
    }  # fmt: skip


def test_sizes_that_differ_little_are_counted_in_even_steps() -> None:
    ax = plots.plot_batch_sizes(batches(200, 219, 220, 500))
    assert bins(ax) == {0: 2, 1: 1, 15: 1}
    assert named(ax)[0] == "200"


def test_sizes_from_one_to_ten_thousand_are_counted_in_steps_that_grow() -> None:
    ax = plots.plot_batch_sizes(batches(1, 2, 4, 5, 99, 100, 199, 10_000))
    assert bins(ax) == {0: 1, 1: 2, 2: 1, 5: 1, 6: 2, 12: 1}
    assert named(ax) == {0: "1", 3: "10", 6: "100", 9: "1,000", 12: "10,000"}


def test_an_empty_batch_counts_as_one_of_no_records() -> None:
    ax = plots.plot_batch_sizes(batches(0, 0, 300))
    assert bins(ax)[0] == 2
    assert named(ax)[0] == "0"


@pytest.mark.parametrize("high", [1, 2, 24, 25, 26, 99, 100, 1000, 10_000])
@pytest.mark.parametrize("low", [0, 1, 7, 90, 10_000])
def test_no_batch_is_left_out_of_the_bars(low: int, high: int) -> None:
    ax = plots.plot_batch_sizes(batches(low, (low + high) // 2, high))
    assert sum(bins(ax).values()) == 3
    assert len(ax.patches) <= 26
    ax.get_figure().canvas.draw()
    assert overlapping([label.get_window_extent() for label in ax.get_xticklabels()]) == []


def test_functions_stand_side_by_side_with_their_counts() -> None:
    both = pd.concat([batches(1, 2, 2), batches(2, function="Other"), batches(2).assign(
        outcome="throttled")])  # fmt: skip
    ax = plots.plot_batch_sizes(both)
    assert key(ax) == ["MapLambda, 3 batches", "Other, 1 batch"]
    bars = [bar for bar in ax.patches if bar.get_height()]
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars] == [
        style.BLUE, style.BLUE, style.ORANGE,
    ]  # fmt: skip
    assert bars[1].get_x() + bars[1].get_width() <= bars[2].get_x()


# --- iterator age ---------------------------------------------------------------------------


def aged(*points: tuple[float, int, float], **more: Any) -> pd.DataFrame:
    """Of each: seconds, number of the shard, age in seconds."""
    return frame(
        *(
            invocation(at, 0.1, shard=kinesis_shard(shard), iterator_age=age, **more)
            for at, shard, age in points
        )
    )


def curves(ax: Any) -> dict[str, list[tuple[float, float]]]:
    """The points of each line, by its colour."""
    return {
        to_hex(line.get_color()).upper(): list(
            zip(line.get_xdata().tolist(), line.get_ydata().tolist(), strict=True)
        )
        for line in ax.lines
        if line.get_linestyle() != "None"
    }


def test_each_shard_has_a_line_with_its_name() -> None:
    ax = plots.plot_iterator_age(aged((0, 0, 3), (1, 1, 9), (2, 0, 5), (4, 1, 2)))
    assert curves(ax) == {
        style.BLUE: [(0.0, 3.0), (2.0, 5.0)],
        style.ORANGE: [(1.0, 9.0), (4.0, 2.0)],
    }
    assert sorted(words(ax)) == ["s0", "s1"]
    assert ax.get_ylabel() == "iterator age (seconds)"
    assert ax.get_xlabel() == "seconds since the first invocation"


@pytest.mark.parametrize(
    ("age", "unit", "shown"),
    [
        (0.004, "milliseconds", 4),
        (30, "seconds", 30),
        (1800, "minutes", 30),
        (86_400, "hours", 24),
    ],
)
def test_the_unit_of_the_age_suits_the_highest(age: float, unit: str, shown: float) -> None:
    ax = plots.plot_iterator_age(aged((0, 0, age / 2), (1, 0, age)))
    assert ax.get_ylabel() == f"iterator age ({unit})"
    assert curves(ax)[style.BLUE][-1][1] == pytest.approx(shown)


@pytest.mark.parametrize(("tries", "size"), [(150, 8), (151, 4)])
def test_marks_that_are_too_many_to_stand_apart_are_small(tries: int, size: int) -> None:
    ax = lu.plot_iterator_age(
        frame(*[invocation(n, 0.5, outcome="error", iterator_age=n) for n in range(tries)])
    )
    (drawn,) = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert drawn.get_markersize() == size


def test_failed_tries_are_marked_on_the_line() -> None:
    some = aged((0, 0, 1), (1, 0, 2), (2, 0, 3))
    some["outcome"] = ["ok", "error", "partial"]
    ax = plots.plot_iterator_age(some)
    assert marks(ax) == [(1.0, 2.0, "X"), (2.0, 3.0, "P")]
    assert key(ax) == ["error", "partial"]


def test_of_many_shards_those_that_stand_out_have_names() -> None:
    points = [(i, shard, 60.0 if shard == 13 else 1.0) for i in range(3) for shard in range(20)]
    ax = plots.plot_iterator_age(aged(*points))
    assert words(ax) == ["s13"]
    assert key(ax) == [" 19 more shards"]
    assert len([line for line in ax.lines if line.get_linestyle() != "None"]) == 20


def test_shards_of_several_functions_are_named_with_them() -> None:
    both = pd.concat([aged((0, 0, 1)), aged((1, 0, 2), function="Other")])
    assert sorted(words(plots.plot_iterator_age(both))) == ["MapLambda s0", "Other s0"]


def test_a_function_is_as_old_as_its_oldest_shard() -> None:
    points = [(0, 0, 4.0), (1, 1, 1.0), (2, 0, 6.0), (3, 1, 1.0), (4, 1, 2.0)]
    ax = plots.plot_iterator_age(aged(*points), by="function")
    assert curves(ax) == {style.BLUE: [(0, 4), (1, 5), (2, 6), (3, 1), (4, 2)]}
    assert words(ax) == ["MapLambda"]
    with pytest.raises(ValueError, match="not 'lane'"):
        plots.plot_iterator_age(aged(*points), by="lane")


def test_a_shard_is_as_old_as_its_oldest_lane() -> None:
    lanes = aged((0, 0, 4.0), (1, 0, 1.0), (2, 0, 6.0), (3, 0, 1.0))
    lanes["lane"] = [0, 1, 0, 1]
    ax = plots.plot_iterator_age(lanes)
    assert curves(ax) == {style.BLUE: [(0, 4), (1, 5), (2, 6), (3, 1)]}
    assert words(ax) == ["s0"]


def test_a_single_batch_of_no_age_is_drawn() -> None:
    assert png(plots.plot_iterator_age(aged((0, 0, 0.0))))


def test_direct_calls_have_no_age() -> None:
    called = invocation(5, 1, shard=None, lane=None, batch_size=None, iterator_age=np.nan)
    both = pd.concat([aged((0, 0, 2)), frame(called)])
    assert curves(plots.plot_iterator_age(both)) == {style.BLUE: [(0.0, 2.0)]}


# --- bisections -----------------------------------------------------------------------------


def tries(*parts: tuple[int, int, str]) -> pd.DataFrame:
    """Of each: the offset of the first record, how many there are, the outcome."""
    return pd.DataFrame(
        {"function": "MapLambda", "shard": kinesis_shard(0), "lane": 0, "batch": 1, "first": first,
         "size": size, "attempt": 1, "outcome": outcome,
         "started": NOON + pd.Timedelta(seconds=i)}
        for i, (first, size, outcome) in enumerate(parts)
    )  # fmt: skip


def bisected(size: int, *bad: int) -> pd.DataFrame:
    """The tries of a batch in which these records fail, halves in order."""
    parts = []

    def give(first: int, count: int) -> None:
        fails = any(first <= each < first + count for each in bad)
        parts.append((first, count, "error" if fails else "ok"))
        if fails and count > 1:
            give(first, count // 2)
            give(first + count // 2, count - count // 2)

    give(0, size)
    return tries(*parts)


def links(ax: Any) -> list[tuple[float, float, float]]:
    """Of each line: its x, the row where it begins, the row where it ends."""
    return [
        (float(segment[0, 0]), float(segment[0, 1]), float(segment[1, 1]))
        for c in ax.collections
        if isinstance(c, LineCollection)
        for segment in c.get_segments()
    ]


def test_a_bar_covers_its_records_and_lines_lead_to_the_halves() -> None:
    parts = [(0, 8, "error"), (0, 4, "ok"), (4, 4, "error"), (4, 2, "error"), (4, 1, "ok"),
             (5, 1, "error"), (6, 2, "ok")]  # fmt: skip
    ax = plots.plot_bisections(tries(*parts))
    assert spans(ax) == [(i, first, first + size) for i, (first, size, _) in enumerate(parts)]
    assert links(ax) == [(2, 0, 1), (6, 0, 2), (5, 2, 3), (4.5, 3, 4), (5.5, 3, 5), (7, 2, 6)]
    bad, good = style.VERMILLION, style.BLUE
    assert fills(ax) == [bad, good, bad, bad, good, bad, good]
    assert words(ax) == ["8 records", "4", "4", "2", "1", "1", "2"]
    assert ticks(ax) == ["1", "2", "3", "4", "5", "6", "7"]
    assert key(ax) == ["ok", "error"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first try is at the top"
    assert ax.get_ylabel() == "try"
    assert ax.get_xlabel() == "records of the batch, from its first"


@pytest.mark.parametrize("bad", [0, 617, 999])
def test_one_bad_record_of_a_thousand_can_be_seen(bad: int) -> None:
    ax = plots.plot_bisections(bisected(1000, bad))
    assert 17 <= len(spans(ax)) <= 21
    left, right = ax.get_xlim()
    assert all(left <= begin < end <= right for _, begin, end in spans(ax))
    assert min(end - begin for _, begin, end in spans(ax)) > 1000 / 120
    ax.get_figure().canvas.draw()
    paper = ax.get_figure().bbox
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == len(spans(ax))
    assert all(paper.x0 <= box.x0 and box.x1 <= paper.x1 for box in boxes)
    assert overlapping([box.shrunk(1, 0.8) for box in boxes]) == []


def test_lines_cross_no_bar_on_their_way() -> None:
    ax = plots.plot_bisections(bisected(64, 3, 17, 18, 63))
    for x, begin, end in links(ax):
        assert not [row for row, left, right in spans(ax)
                    if begin < row < end and left < x < right]  # fmt: skip


def test_tries_of_one_part_in_a_row_share_a_bar() -> None:
    parts = [(0, 2, "error")] * 3 + [(0, 2, "timeout"), (0, 1, "ok"), (1, 1, "error")]
    ax = plots.plot_bisections(tries(*parts))
    assert words(ax) == ["2 records, 3 tries", "2", "1", "1"]
    assert ticks(ax) == ["1", "4", "5", "6"]
    assert links(ax) == [(1, 0, 1), (0.5, 1, 2), (1.5, 1, 3)]


def test_what_was_partly_done_leads_to_the_rest() -> None:
    ax = plots.plot_bisections(tries((0, 100, "partial"), (37, 63, "partial"), (64, 36, "ok")))
    assert fills(ax) == [style.YELLOW, style.YELLOW, style.BLUE]
    assert links(ax) == [(68.5, 0, 1), (82, 1, 2)]
    assert [marker for *_, marker in marks(ax)] == ["P", "P"]


def test_a_hundred_tries_are_drawn_without_words() -> None:
    ax = plots.plot_bisections(bisected(1000, *range(0, 1000, 110)))
    assert len(spans(ax)) > 100
    assert words(ax) == []
    ax.get_figure().canvas.draw()
    boxes = [label.get_window_extent().shrunk(1, 0.8) for label in ax.get_yticklabels()]
    assert overlapping(boxes) == []


@pytest.mark.parametrize("column", ["function", "shard", "lane", "batch"])
def test_tries_of_two_batches_are_refused(column: str) -> None:
    one = tries((0, 2, "ok"))
    other = one.assign(**{column: 2 if column in ("lane", "batch") else "other"})
    with pytest.raises(ValueError, match="tries of 2 batches: filter them by `batch`"):
        plots.plot_bisections(pd.concat([one, other]))


# --- comparisons ----------------------------------------------------------------------------


def remedies(rows: int = 5, columns: int = 3) -> pd.DataFrame:
    measures = {
        "invocations": [10_021, 35, 21, 23, 1, 22, 9, 4, 2],
        "good records lost": [0, 999, 0, 0, 999, 0, 3, 1, 2],
        "minutes blocked": [1440, 0.53, 0.41, np.nan, 0, 0.4, 12.5, 3.25, 1e-4],
        "US$": [0.21, 0.0004, 0.1, 0.2, 0, 0.0002, 0.01, 0.5, 12_345.6],
    }
    names = ["as it is created", "retry 3 times", "bisect the batch", "report item failures",
             "catch and drop", "bisect and 3 retries", "maximum age 60 s", "stop", "go",
             ]  # fmt: skip
    return pd.DataFrame(measures, index=names).iloc[:rows, :columns]


def test_each_column_has_a_panel_with_its_name_and_all_values() -> None:
    axes = plots.plot_comparison(remedies())
    assert [ax.get_title(loc="left").replace("\n", " ") for ax in axes] == list(remedies())
    assert [words(ax) for ax in axes] == [
        ["10,021", "35", "21", "23", "1"],
        ["0", "999", "0", "0", "999"],
        ["1,440", "0.53", "0.41", "-", "0"],
    ]
    for ax, column in zip(axes, remedies(), strict=True):
        lengths = [bar.get_width() for bar in ax.patches]
        assert lengths == list(remedies()[column].fillna(0))
        assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row is at the top"


@pytest.mark.parametrize("rows", [1, 5, 9])
@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_values_stay_in_their_panels_and_names_stand_at_the_left(rows: int, columns: int) -> None:
    axes = plots.plot_comparison(remedies(rows, columns))
    assert len(axes) == columns
    figure = axes[0].get_figure()
    figure.canvas.draw()
    texts = [text for ax in axes for text in (*ax.texts, ax._left_title)]
    boxes = [text.get_window_extent() for text in texts]
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)
    assert overlapping([box.shrunk(1, 0.8) for box in boxes]) == []
    for ax in axes:
        shown = [label.label1.get_visible() for label in ax.yaxis.get_major_ticks()]
        assert set(shown) == {ax.get_subplotspec().is_first_col()}


def test_labels_give_other_words() -> None:
    labels = {"retry 3 times": "3 retries", "US$": "dollars"}
    axes = plots.plot_comparison(remedies(2, 4), labels=labels)
    assert ticks(axes[0]) == ["as it is created", "3 retries"]
    assert axes[3].get_title(loc="left") == "dollars"


def test_only_numbers_are_compared() -> None:
    told = remedies(3, 1).assign(verdict=["bad", "good", "good"])
    assert len(plots.plot_comparison(told)) == 1
    assert words(plots.plot_comparison(told[["verdict"]])[0]) == ["nothing to compare"]


def test_nothing_but_zeros_is_drawn() -> None:
    (ax,) = plots.plot_comparison(remedies(3, 1) * 0)
    assert words(ax) == ["0", "0", "0"]
    assert png(ax)


def test_there_are_as_many_axes_as_columns() -> None:
    figure, axes = plt.subplots(1, 3)
    assert plots.plot_comparison(remedies(), axes) == tuple(axes)
    with pytest.raises(ValueError, match="3 numeric columns and 1 axes"):
        plots.plot_comparison(remedies(), axes[0])
    assert plt.get_fignums() == [figure.number]
