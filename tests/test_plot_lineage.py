"""Pictures of lineages large and small: lanes, forks, ghosts, and what one sees from far away."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_hex

import lab_utils as lu
from lab_utils import LabError, plots
from lab_utils.plots.lanes import KINDS, LINKS, SHARDS, lay_out

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@dataclass(frozen=True)
class Family:
    graph: nx.DiGraph


def name(number: int, hours: float) -> str:
    millis = int((START + timedelta(hours=hours)).timestamp() * 1000)
    return f"shardId-{millis:020d}-{number:08x}"


def shard(graph: nx.DiGraph, number: int, began: float, state: str, *parents: str) -> str:
    """Add a shard that began so many hours after the start; its parents end then."""
    born = name(number, began)
    graph.add_node(born, started=START + timedelta(hours=began), ended=None, state=state)
    for parent in parents:
        graph.add_edge(parent, born)
        graph.nodes[parent]["ended"] = graph.nodes[born]["started"]
    return born


def chains(lanes: int, length: int = 6, split: int | None = None) -> Family:
    """Lanes that roll over every four hours; at hour 6 one of them splits."""
    graph = nx.DiGraph()
    for lane in range(lanes):
        last = shard(graph, lane, lane / 1e4, "open")
        for age in range(1, length):
            graph.nodes[last]["state"] = "closed"
            last = shard(graph, lane + age * lanes, 4 * age + lane / 1e4, "open", last)
            if lane == split and age == 1:
                graph.nodes[last]["state"] = "closed"
                shard(graph, 10**6, 6, "open", last)
                shard(graph, 10**6 + 1, 6, "open", last)
                break
    return Family(graph)


def bars(ax: Any, state: str | None = None) -> list[np.ndarray]:
    found = []
    for drawn in ax.collections:
        if isinstance(drawn, PolyCollection) and len(drawn.get_paths()):
            fill = to_hex(drawn.get_facecolor()[0])
            if state is None or fill.lower() == SHARDS[state][0].lower():
                found += [np.asarray(path.vertices) for path in drawn.get_paths()]
    return found


def links(ax: Any) -> LineCollection:
    (found,) = [each for each in ax.collections if isinstance(each, LineCollection)]
    return found


def legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def words(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


def png(ax: Any) -> bytes:
    picture = io.BytesIO()
    ax.get_figure().savefig(picture, format="png", bbox_inches="tight")
    return picture.getvalue()


# --- bars -----------------------------------------------------------------------------------


def test_roll_overs_stay_in_their_lane_and_a_split_opens_one_beside() -> None:
    ax = plots.plot_lineage(chains(4, split=1))
    lines = links(ax)
    kinds = [to_hex(colour).upper() for colour in lines.get_colors()]
    assert kinds.count(LINKS["split"].upper()) == 2
    assert kinds.count(LINKS["roll-over"].upper()) == 16
    for colour, line in zip(kinds, lines.get_segments(), strict=True):
        bent = line[0, 1] != line[-1, 1]
        assert bent == (colour == LINKS["split"].upper())
    assert len({float(bar[:, 1].mean()) for bar in bars(ax, "open")}) == 5
    assert legend(ax) == ["closed", "open", "roll-over", "split"]
    assert "22 shards in 5 lanes, 5 open" in words(ax)


def test_bars_of_one_time_never_overlap() -> None:
    lanes = lay_out(chains(5, split=2).graph)
    for hour in np.linspace(0.1, 23, 60):
        alive = (lanes.starts <= hour) & (hour < lanes.ends)
        rows = np.sort(lanes.rows[alive])
        assert (np.diff(rows) >= 1).all()


def test_a_trimmed_parent_whose_birth_is_known_is_a_ghost_of_its_true_length() -> None:
    graph = nx.DiGraph()
    gone = shard(graph, 1, -4.2, "trimmed")
    shard(graph, 2, 0, "open", gone)
    shard(graph, 3, 1, "open")
    ax = plots.plot_lineage(Family(graph))
    (ghost,) = bars(ax, "trimmed")
    gap = 0.02 * np.ptp(ax.get_xlim())
    assert ghost[:, 0].min() == pytest.approx(-4.2 * 60, abs=gap)  # minutes
    assert ghost[:, 0].max() == pytest.approx(0, abs=gap)
    assert ax.get_xlabel() == "minutes since the oldest listed shard opened"


def test_a_disabled_stream_has_no_open_shards_and_does_not_guess_when_they_ended() -> None:
    family = chains(3)
    for _, node in family.graph.nodes(data=True):
        node["state"] = "closed"
    ax = plots.plot_lineage(family)
    assert len(bars(ax, "ended")) == 3
    assert len(bars(ax, "open")) == 0
    assert legend(ax) == ["closed", "closed, nothing tells when", "roll-over"]
    assert "18 shards in 3 lanes, none open" in words(ax)


def test_ids_are_written_into_bars_and_stay_inside_them() -> None:
    ax = plots.plot_lineage(chains(4))
    ax.get_figure().canvas.draw()
    ids = [text for text in ax.texts if len(text.get_text()) == 4]
    assert len(ids) == 24
    boxes = [
        bar.transformed(ax.transData)
        for drawn in ax.collections
        if isinstance(drawn, PolyCollection)
        for bar in drawn.get_paths()
    ]
    for text in ids:
        box = text.get_window_extent()
        assert any(
            shape.get_extents().x0 < box.x0 and box.x1 < shape.get_extents().x1
            for shape in boxes
            if shape.get_extents().y0 < box.y0 and box.y1 < shape.get_extents().y1
        )


@pytest.mark.parametrize("lanes", [1, 4, 16, 100, 300, 301, 900])
def test_a_picture_is_never_higher_than_eight_inches(lanes: int) -> None:
    ax = plots.plot_lineage(chains(lanes, 2))
    assert ax.get_figure().get_size_inches()[1] <= 8.0
    assert ax.get_figure().get_size_inches()[0] == 7.0


def test_the_words_above_overlap_neither_each_other_nor_the_bars() -> None:
    for family in (chains(4, split=1), chains(400, 3, split=7)):
        ax = plots.plot_lineage(family)
        ax.get_figure().canvas.draw()
        boxes = [text.get_window_extent() for text in ax.texts if len(text.get_text()) > 4]
        boxes += [ax.get_legend().get_window_extent(), ax.yaxis.label.get_window_extent()]
        boxes = [box.shrunk(0.98, 0.8) for box in boxes if box.width > 1]
        assert not any(boxes[i].overlaps(boxes[j]) for i in range(len(boxes)) for j in range(i))


# --- from far away --------------------------------------------------------------------------


def picture_of(ax: Any) -> np.ndarray:
    (image,) = ax.images
    return np.asarray(image.get_array())


def test_many_lanes_become_a_picture_whose_label_says_what_a_row_stands_for() -> None:
    ax = plots.plot_lineage(chains(1000, 4))
    picture = picture_of(ax)
    assert picture.shape[0] == 334
    assert ax.get_ylabel().strip() == "lanes: a row of pixels is 3 of them, about 12 shards"
    assert len(ax.collections) <= 6, "no artist for each shard"


def test_roll_overs_darken_the_picture_where_they_happen() -> None:
    picture = picture_of(plots.plot_lineage(chains(1000, 4)))
    left, right = plots.plot_lineage(chains(1000, 4)).get_xlim()
    dark = picture.sum(axis=2).mean(axis=0)
    hours = left + (np.arange(len(dark)) + 0.5) * (right - left) / len(dark)
    quiet = dark[(hours > 1) & (hours < 3)]
    for wave in (4.05, 8.05, 12.05):
        assert dark[abs(hours - wave) < 0.1].min() < quiet.min() - 0.3
    assert quiet.std() == pytest.approx(0, abs=1e-9)


def test_open_closed_and_trimmed_have_their_colours_in_the_picture() -> None:
    family = chains(400, 3)
    for shard_id, node in family.graph.nodes(data=True):
        if not family.graph.pred[shard_id]:
            node["state"] = "trimmed"
    picture = picture_of(plots.plot_lineage(family))
    for column, state in ((20, "trimmed"), (350, "closed"), (-10, "open")):
        assert to_hex(picture[100, column]).lower() == SHARDS[state][0].lower()


def test_one_split_among_thousands_of_shards_has_a_mark() -> None:
    ax = plots.plot_lineage(chains(2000, 3, split=1500))
    (marks,) = [each for each in ax.collections if isinstance(each, PathCollection)]
    ((hours, lane),) = marks.get_offsets()
    assert hours == pytest.approx(6)
    assert 1499 <= lane <= 1503
    assert to_hex(marks.get_facecolor()[0]).upper() == LINKS["split"]
    assert "split" in legend(ax)


def test_the_strip_counts_the_shards_that_follow_another() -> None:
    ax = plots.plot_lineage(chains(1000, 2))
    assert any("shards that follow another, in each minute" in word for word in words(ax))
    ticks = {text.get_text() for text in ax.get_yticklabels()}
    assert {"0", "250", "500", "750", "1,000"} & ticks
    most = max(int(tick.replace(",", "")) for place, tick in zip(
        ax.get_yticks(), (t.get_text() for t in ax.get_yticklabels()), strict=True) if place < 0
    )  # fmt: skip
    minutes = np.floor([(4 + lane / 1e4) * 60 + 1e-9 for lane in range(1000)])
    assert most == np.unique(minutes, return_counts=True)[1].max()


def test_many_shards_without_times_are_counted_by_generation() -> None:
    family = chains(500, 3)
    for _, node in family.graph.nodes(data=True):
        node.update(started=None, ended=None)
    ax = plots.plot_lineage(family)
    assert ax.get_xlabel() == "generation"
    assert any("in each generation" in word for word in words(ax))
    assert picture_of(ax).shape[0] == 250


@pytest.mark.parametrize("family", [lambda: chains(4, split=1), lambda: chains(400, 3, split=7)])
def test_the_same_lineage_gives_the_same_bytes_whatever_order_its_graph_has(family: Any) -> None:
    graph = family().graph
    other = nx.DiGraph()
    other.add_nodes_from(reversed(list(graph.nodes(data=True))))
    other.add_edges_from(reversed(list(graph.edges)))
    assert png(plots.plot_lineage(Family(other))) == png(plots.plot_lineage(Family(graph)))


@pytest.mark.parametrize("lanes", [4, 400])
def test_axes_that_are_given_are_used_and_returned(lanes: int) -> None:
    _, ax = plt.subplots()
    assert plots.plot_lineage(chains(lanes, 2), ax) is ax
    assert len(plt.get_fignums()) == 1


def test_a_shard_that_lived_no_time_is_drawn() -> None:
    graph = nx.DiGraph()
    graph.add_node(name(1, 0), started=START, ended=START, state="closed")
    ax = plots.plot_lineage(Family(graph))
    assert len(bars(ax, "closed")) == 1
    assert np.ptp(ax.get_xlim()) > 0


# --- any forest -----------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=30))
def test_lanes_suit_any_graph_without_cycles(pairs: list[tuple[int, int]]) -> None:
    graph = nx.DiGraph()
    for i in range(31):
        graph.add_node(f"shardId-{i:012d}", state="closed", started=None, ended=None)
    seen: dict[int, int] = {}
    for a, b in pairs:
        if a < b and seen.get(b, 0) < 2:
            graph.add_edge(f"shardId-{a:012d}", f"shardId-{b:012d}")
            seen[b] = graph.in_degree(f"shardId-{b:012d}")
    lanes = lay_out(graph)
    assert len(lanes.links) == graph.number_of_edges()
    assert (lanes.first <= lanes.last).all()
    for parent, child, kind in lanes.links:
        assert lanes.ends[parent] < lanes.starts[child]
        merged = graph.in_degree(lanes.shards[child]) > 1
        assert (KINDS[kind] == "merge") == merged
    places = {(start, row) for start, row in zip(lanes.starts, lanes.rows, strict=True)}
    assert len(places) == len(lanes.shards)


# --- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mistake", ["arn:aws:dynamodb:...", None, [{"ShardId": "x"}], nx.DiGraph(), object()]
)
def test_what_is_no_lineage_is_refused_with_the_remedy(mistake: Any) -> None:
    with pytest.raises(LabError, match="give it what read_lineage"):
        lu.plot_lineage(mistake)
    assert plt.get_fignums() == []


def test_a_graph_without_states_or_with_a_cycle_is_refused() -> None:
    plain = nx.DiGraph([("a", "b")])
    with pytest.raises(LabError, match="Shard a has no state"):
        plots.plot_lineage(Family(plain))
    knot = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "b")])
    for node in knot:
        knot.nodes[node]["state"] = "open"
    with pytest.raises(LabError, match="Shard b descends from itself"):
        plots.plot_lineage(Family(knot))


# --- a real one -----------------------------------------------------------------------------


def test_a_table_of_four_partitions_after_a_day_and_two() -> None:
    lab = lu.open_lab("embedded")
    arn = lab.client("dynamodb").create_table(
        TableName="Orders",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )["TableDescription"]["LatestStreamArn"]
    lab.clock.advance(hours=6)
    lab.split_partition("Orders", 2)
    lab.clock.advance(hours=18)
    ax = plots.plot_lineage(lu.read_lineage(lab.client("dynamodbstreams"), arn))
    assert {"open", "split"} <= set(legend(ax))
    assert len(bars(ax, "open")) == 5
    lab.clock.advance(hours=24)
    ax = plots.plot_lineage(lu.read_lineage(lab.client("dynamodbstreams"), arn))
    assert legend(ax)[0] == "trimmed"
    assert len(bars(ax, "trimmed")) == 5
