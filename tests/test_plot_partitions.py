"""Pictures of the ring: ranges in order, heat as colour and number, splits as forks in time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex, to_rgb

import lab_utils as lu
from lab_utils import LabError, plots
from lab_utils.plots import style
from lab_utils.plots.partitions import GONE
from lab_utils.plots.ring import HEAT, RING, Ring

NOON = pd.Timestamp("2026-01-01T12:00:00Z")
KEY = RING * 5 // 8


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def partition(number: int, low: float, high: float, **more: Any) -> dict[str, Any]:
    usual = {
        "partition": number, "low": low, "high": high, "items": 100, "bytes": 5000,
        "write_rate": 0.0, "read_rate": 0.0, "open_shard": f"shard-{number}",
        "sort_from": None, "sort_to": None,
    }  # fmt: skip
    return usual | more


def frame(*rows: dict[str, Any], scale: int = 1) -> pd.DataFrame:
    made = pd.DataFrame(list(rows), columns=list(partition(0, 0, 1))).set_index("partition")
    made.attrs = {"scale": scale, "write_ceiling": 1000 / scale, "read_ceiling": 3000 / scale}
    return made


def even(count: int, **more: Any) -> pd.DataFrame:
    bounds = [RING * i // count for i in range(count + 1)]
    return frame(*(partition(i, bounds[i], bounds[i + 1], **more) for i in range(count)))


def splits(*rows: tuple[float, int, str, tuple[int, ...], str]) -> pd.DataFrame:
    at = [NOON + pd.Timedelta(minutes=row[0]) for row in rows]
    return pd.DataFrame(
        [(moment, *row[1:]) for moment, row in zip(at, rows, strict=True)],
        columns=["at", "partition", "cause", "parts", "reason"],
    )


def hot_key() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two partitions; the right one was cut on either side of a hot key, and then no further."""
    now = frame(
        partition(0, 0, RING // 2, write_rate=80.0),
        partition(2, RING // 2, KEY, write_rate=200.0),
        partition(4, KEY, KEY + 1, write_rate=1000.0, items=7),
        partition(5, KEY + 1, RING, read_rate=1500.0),
    )
    past = splits(
        (0, 1, "heat", (2, 3), "one key: isolated"),
        (3, 3, "heat", (4, 5), "one key: isolated"),
        (10, 4, "heat", (), "one key: isolated already, and split no further"),
    )
    return now, past


def boxes(ax: Any) -> list[np.ndarray]:
    shapes = [each for each in ax.collections if type(each) is PolyCollection]
    return [np.asarray(path.vertices)[:4] for each in shapes for path in each.get_paths()]


def fills(ax: Any) -> list[str]:
    found = []
    for each in ax.collections:
        if type(each) is PolyCollection:
            colours = [to_hex(colour) for colour in np.asarray(each.get_facecolor())]
            found += [colours[i % len(colours)] for i in range(len(each.get_paths()))]
    return found


def cells(ax: Any, count: int) -> list[np.ndarray]:
    """The living partitions' cells: those before the bars, which there are as many of."""
    return boxes(ax)[-2 * count : -count]


def words(ax: Any) -> str:
    return "\n".join(text.get_text() for text in ax.texts)


def legends(ax: Any) -> list[str]:
    found = [each for each in ax.get_children() if isinstance(each, mpl.legend.Legend)]
    return [text.get_text() for each in found for text in each.get_texts()]


def png(ax: Any) -> bytes:
    picture = io.BytesIO()
    ax.get_figure().savefig(picture, format="png", bbox_inches="tight")
    return picture.getvalue()


# --- the ring -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 4, 16, 64, 1000])
def test_even_partitions_tile_the_ring_in_order(count: int) -> None:
    ax = plots.plot_partitions(even(count))
    drawn = cells(ax, count)
    assert len(boxes(ax)) == 2 * count, "a cell and a bar for each"
    edges = [0.0, *(cell[:, 0].max() for cell in drawn)]
    assert edges == pytest.approx(np.linspace(0, 1, count + 1))
    assert [cell[:, 0].min() for cell in drawn] == pytest.approx(edges[:-1])
    assert len(ax.collections) == 3, "no artist for each partition"


def test_a_single_key_is_wide_enough_to_be_seen_and_the_picture_says_so() -> None:
    now, _ = hot_key()
    ax = plots.plot_partitions(now)
    widths = [np.ptp(cell[:, 0]) for cell in cells(ax, 4)]
    assert widths[2] > 0.04
    assert widths[0] > widths[3] > widths[2]
    assert "narrow ranges are drawn wider" in ax.get_xlabel()
    half = dict(zip([t.get_text() for t in ax.get_xticklabels()], ax.get_xticks(), strict=True))
    assert half["½"] == pytest.approx(cells(ax, 4)[0][:, 0].max())
    assert "drawn wider" not in plots.plot_partitions(even(4)).get_xlabel()


@given(st.lists(st.integers(1, RING - 1), max_size=40, unique=True))
def test_any_ranges_keep_their_order_and_fill_the_axis(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), RING]
    rows = [partition(i, bounds[i], bounds[i + 1]) for i in range(len(bounds) - 1)]
    edges = Ring(frame(*rows)).edges
    assert len(edges) == len(rows) + 1
    assert (edges[0], edges[-1]) == (0.0, pytest.approx(1.0))
    assert np.diff(edges).min() >= min(0.03, 0.3 / len(rows))


def test_rows_in_any_order_are_drawn_in_the_order_of_the_ring() -> None:
    now = even(6, write_rate=200.0)
    assert png(plots.plot_partitions(now.iloc[[3, 1, 5, 0, 4, 2]])) == png(
        plots.plot_partitions(now)
    )


def test_a_collection_cut_by_sort_key_shows_its_parts() -> None:
    now = frame(
        partition(0, 0, KEY),
        partition(1, KEY, KEY + 1, sort_to="order#5"),
        partition(2, KEY, RING, sort_from="order#5"),
    )
    ax = plots.plot_partitions(now)
    assert len(cells(ax, 3)) == 3
    assert "partition 1 has sort keys to order#5" in words(ax)
    assert "partition 2 has sort keys from order#5" in words(ax)


# --- items and heat -------------------------------------------------------------------------


def test_bars_are_as_high_as_their_items() -> None:
    now = even(4)
    now["items"] = [0, 100, 200, 50]
    ax = plots.plot_partitions(now)
    heights = [np.ptp(box[:, 1]) for box in boxes(ax)[-4:]]
    assert heights == pytest.approx([0, heights[2] / 2, heights[2], heights[2] / 4])
    assert {"0", "100", "200", "50"} <= set(words(ax).split("\n"))


def test_a_table_that_only_traffic_filled_shows_its_bytes() -> None:
    now = even(2, items=0, bytes=3 * 1024**3 // 2)
    ax = plots.plot_partitions(now)
    assert {"GB", "1.5"} <= set(words(ax).split("\n"))
    assert np.ptp(boxes(ax)[-1][:, 1]) > 0


def test_an_empty_table_has_no_bars() -> None:
    ax = plots.plot_partitions(even(4, items=0, bytes=0))
    assert len(boxes(ax)) == 4
    assert "items" not in words(ax)
    assert list(ax.get_yticks()) == []


def test_heat_is_the_busier_of_writes_and_reads_as_colour_and_as_number() -> None:
    now = even(4)
    now["write_rate"] = [0.0, 500.0, 100.0, 1200.0]
    now["read_rate"] = [0.0, 0.0, 2400.0, 0.0]
    ax = plots.plot_partitions(now)
    assert fills(ax)[:4] == [to_hex(HEAT(part)) for part in (0.0, 0.5, 0.8, 1.0)]
    for text in ("partition 1\n50 % of writes", "80 % of reads", "120 % of writes"):
        assert text in words(ax)
    assert "4 partitions, hottest is 3: 120 % of its writes" in words(ax)


def test_the_hottest_is_named_where_no_number_fits() -> None:
    now = even(200)
    now["read_rate"] = [3000.0 if i == 77 else 300.0 for i in range(200)]
    assert "hottest is 77: 100 % of its reads" in words(plots.plot_partitions(now))


def test_the_heat_scale_darkens_evenly_so_that_any_colour_vision_can_read_it() -> None:
    light = [style._luminance(to_hex(HEAT(part))) for part in np.linspace(0, 1, 20)]
    assert (np.diff(light) < 0).all()
    for part in np.linspace(0, 1, 20):
        fill = to_hex(HEAT(part))
        one, other = style._luminance(fill), style._luminance(style.text_on(fill))
        assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5
    assert max(to_rgb(GONE)) - min(to_rgb(GONE)) < 0.05, "what is gone has no colour of heat"


def test_a_scale_model_says_that_it_is_one() -> None:
    now = frame(partition(0, 0, RING, write_rate=5.0), scale=100)
    assert "a model 1 : 100" in words(plots.plot_partitions(now))
    assert "50 % of writes" in words(plots.plot_partitions(now))
    assert "model" not in words(plots.plot_partitions(even(1)))


# --- splits ---------------------------------------------------------------------------------


def test_splits_are_forks_in_time_and_what_was_split_spans_its_parts() -> None:
    now, past = hot_key()
    ax = plots.plot_partitions(now, splits=past)
    gone, living = boxes(ax)[:2], cells(ax, 4)
    third, first = gone
    assert third[:, 0].min() == living[2][:, 0].min()
    assert first[:, 0].min() == living[1][:, 0].min()
    assert first[:, 0].max() == third[:, 0].max() == living[3][:, 0].max()
    assert first[:, 1].max() == third[:, 1].min() == living[1][:, 1].min()
    assert third[:, 1].max() == living[2][:, 1].min() == living[3][:, 1].min()
    assert len({cell[:, 1].max() for cell in living}) == 1, "the living reach the present"
    assert living[0][:, 1].min() == 0, "and one was never split"
    assert fills(ax)[:2] == [GONE, GONE]


def test_the_time_axis_has_a_tick_for_each_split_and_the_present() -> None:
    now, past = hot_key()
    ax = plots.plot_partitions(now, splits=past)
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels[:4] == ["0", "3", "10", "now"]
    assert "minutes since the first split" in words(ax)
    began = (NOON - pd.Timedelta(hours=4)).to_pydatetime()
    ax = plots.plot_partitions(now, splits=past, origin=began, since="the table was made")
    assert ax.get_yticklabels()[0].get_text() == "4"
    assert "hours since the table was made" in words(ax)


def test_time_counts_from_the_creation_of_the_table_if_that_is_known() -> None:
    now, past = hot_key()
    now.attrs |= {"created": NOON - pd.Timedelta(minutes=7), "now": NOON + pd.Timedelta(hours=1)}
    ax = plots.plot_partitions(now, splits=past)
    assert "minutes since the table was created" in words(ax)
    assert [text.get_text() for text in ax.get_yticklabels()][:5] == ["0", "7", "10", "17", "now"]
    assert ax.get_yticks()[0] == 0
    *_, last, present = ax.get_yticks()[:5]
    assert present - last > 0.4 * present, "most of the time came after the last split"


def test_a_refused_split_has_a_mark_of_its_own_and_its_reason_below() -> None:
    now, past = hot_key()
    ax = plots.plot_partitions(now, splits=past)
    assert sorted(legends(ax)) == [
        "100 % of its ceiling", "50 %", "idle", "not split", "split for heat", "was split",
    ]  # fmt: skip
    note = "partition 4 was not split for heat (one key: isolated already, and split no"
    assert note in words(ax)
    marks: dict[Any, Any] = {
        line.get_marker(): line for line in ax.lines if line.get_marker() in ("X", "^")
    }
    (place,), (level,) = marks["X"].get_data()
    cell = cells(ax, 4)[2]
    assert cell[:, 0].min() < place < cell[:, 0].max()
    assert cell[:, 1].min() < level < cell[:, 1].max()
    assert len(marks["^"].get_xdata()) == 2


def test_a_split_into_many_at_once_is_drawn_without_what_lived_no_time() -> None:
    now = even(4)
    now.index = pd.Index([3, 4, 5, 6], name="partition")
    past = splits(
        (0, 0, "throughput", (1, 2), "raised"),
        (0, 1, "throughput", (3, 4), "raised"),
        (0, 2, "throughput", (5, 6), "raised"),
    )
    ax = plots.plot_partitions(now, splits=past)
    assert len(boxes(ax)) == 1 + 4 + 4
    assert np.ptp(boxes(ax)[0][:, 0]) == pytest.approx(1)


def test_no_splits_yet_look_like_none_given() -> None:
    assert png(plots.plot_partitions(even(4), splits=splits())) == png(
        plots.plot_partitions(even(4))
    )


def test_only_the_first_notes_are_told_and_the_others_counted() -> None:
    past = splits(*((i, 0, f"cause{i}", (), "because") for i in range(9)))
    assert "and 4 more" in words(plots.plot_partitions(even(1), splits=past))


# --- all of it ------------------------------------------------------------------------------

PICTURES: dict[str, Any] = {
    "one": lambda: plots.plot_partitions(even(1)),
    "four": lambda: plots.plot_partitions(even(4, write_rate=300.0)),
    "sixty-four": lambda: plots.plot_partitions(even(64, write_rate=300.0)),
    "a hot key": lambda: plots.plot_partitions(hot_key()[0], splits=hot_key()[1]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_no_words_overlap_or_leave_the_paper(name: str) -> None:
    ax = PICTURES[name]()
    figure = ax.get_figure()
    figure.canvas.draw()
    texts = [*ax.texts, ax.xaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
    found = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    tight = [(text, box.shrunk(0.98, 0.8)) for text, box in found]
    touching = [
        (tight[i][0], tight[j][0])
        for i in range(len(tight))
        for j in range(i)
        if tight[i][1].overlaps(tight[j][1])
    ]
    assert touching == []
    for text, box in found:
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text


@pytest.mark.parametrize("name", PICTURES)
def test_words_in_cells_stay_inside_their_cell(name: str) -> None:
    ax = PICTURES[name]()
    ax.get_figure().canvas.draw()
    shapes = [mpl.path.Path(box).transformed(ax.transData).get_extents() for box in boxes(ax)]
    inside = [text for text in ax.texts if "%" in text.get_text() and text.get_ha() == "center"]
    assert inside or name == "sixty-four"
    for text in inside:
        box = text.get_window_extent()
        assert any(
            shape.x0 <= box.x0 and box.x1 <= shape.x1 and shape.y0 <= box.y0 and box.y1 <= shape.y1
            for shape in shapes
        ), text.get_text()


@pytest.mark.parametrize("name", PICTURES)
def test_text_is_large_enough_for_a_phone(name: str) -> None:
    ax = PICTURES[name]()
    texts = [*ax.texts, ax.xaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
    width = ax.get_figure().get_size_inches()[0]
    assert min(text.get_fontsize() / 72 / width * 360 for text in texts) > 7.0


@pytest.mark.parametrize("name", PICTURES)
def test_the_same_data_gives_the_same_bytes_in_any_style(name: str) -> None:
    first = png(PICTURES[name]())
    assert png(PICTURES[name]()) == first
    with plt.style.context("dark_background"):
        ax = PICTURES[name]()
        assert to_hex(ax.get_figure().get_facecolor()).upper() == style.PAPER
        inks = {to_hex(text.get_color()).upper() for text in ax.texts} - {style.PAPER}
        assert all(style._luminance(ink) < 0.2 for ink in inks)


def test_axes_that_are_given_are_used_and_returned() -> None:
    _, ax = plt.subplots()
    now, past = hot_key()
    assert plots.plot_partitions(now, ax, splits=past) is ax
    assert len(plt.get_fignums()) == 1


def test_no_partitions_are_said_in_words() -> None:
    assert words(lu.plot_partitions(even(4).head(0))) == "no partitions"


# --- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize("mistake", ["Orders", None, pd.DataFrame({"a": [1]}), {"low": 1}])
def test_what_is_no_frame_of_partitions_is_refused(mistake: Any) -> None:
    with pytest.raises(LabError, match=r"give it what lab\.partitions"):
        plots.plot_partitions(mistake)
    assert plt.get_fignums() == []


def test_a_frame_without_ceilings_is_refused() -> None:
    bare = even(4)
    bare.attrs = {}
    with pytest.raises(LabError, match="write_ceiling and read_ceiling"):
        plots.plot_partitions(bare)


@pytest.mark.parametrize("mistake", ["heat", pd.DataFrame({"at": []}), [(1, 2)]])
def test_what_is_no_frame_of_splits_is_refused(mistake: Any) -> None:
    with pytest.raises(LabError, match=r"give it what lab\.splits"):
        plots.plot_partitions(even(4), splits=mistake)


def test_frames_that_do_not_belong_together_are_refused() -> None:
    past = splits((0, 1, "asked", (8, 9), "asked"))
    with pytest.raises(LabError, match="speak of partition 8"):
        plots.plot_partitions(even(4), splits=past)
    assert plt.get_fignums() == []


# --- a real one -----------------------------------------------------------------------------


def test_a_hot_key_in_the_lab_is_drawn_as_it_split() -> None:
    lab = lu.open_lab("embedded", physics=lu.Physics.scaled(100))
    lab.client("dynamodb").create_table(
        TableName="Orders",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for i in range(20):
        lab.client("dynamodb").put_item(TableName="Orders", Item={"id": {"S": f"{i}"}})
    lab.traffic("Orders", ["one hot key"], rate=30, minutes=30)
    now, past = lab.partitions("Orders"), lab.splits("Orders")
    ax = plots.plot_partitions(now, splits=past)
    assert len(cells(ax, len(now))) == len(now) == 4 + sum(past["parts"].str.len() > 0)
    assert "a model 1 : 100" in words(ax)
    assert "not split" in legends(ax)
    assert "since the table was created" in words(ax)
