"""Some ways to do a thing, side by side: what each costs, in a panel for every measure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from lab_utils.plots.style import (
    DPI,
    FUNCTION_COLOURS,
    INK,
    MUTED,
    PAPER,
    SMALL,
    TEXT,
    WIDTH,
    Frame,
    dress,
    new_axes,
    say,
    size_in_inches,
    text_width,
    tint,
)

NARROWEST = 1.45  #: inches that a panel needs
LONGEST = 24  #: characters of a name in one line


def plot_comparison(
    frame: Frame,
    ax: Axes | Sequence[Axes] | None = None,
    *,
    labels: Mapping[str, str] | None = None,
) -> tuple[Axes, ...]:
    """Draw a panel of horizontal bars for each numeric column; the rows share their names.

    `frame` is indexed by the names of what is compared, from the top, and a column's name, with
    its unit, is the title of its panel. `labels` gives other words for rows or columns. Values are
    written at the ends of their bars; one that is missing is a dash. `ax` holds as many axes as
    there are numeric columns. Returns the axes, one per column.
    """
    words = labels or {}
    numbers = frame.select_dtypes("number", exclude="timedelta")
    names = [textwrap.fill(str(words.get(name, name)), LONGEST) for name in frame.index]
    titles = [str(words.get(column, column)) for column in numbers.columns]
    if not names or not titles:
        return (say(_given(ax, 1)[0] if ax is not None else new_axes(height=2.0),
                    "nothing to compare"),)  # fmt: skip
    axes = _given(ax, len(titles)) if ax is not None else _panels(names, len(titles))
    for i, (panel, column) in enumerate(zip(axes, numbers.columns, strict=True)):
        colour = FUNCTION_COLOURS[i % len(FUNCTION_COLOURS)]
        _draw_panel(panel, numbers[column].to_numpy(dtype=float), colour)
        panel.set_yticks(range(len(names)), names)
        panel.tick_params(axis="y", length=0, labelleft=_begins_row(panel))
    for panel, title in zip(axes, titles, strict=True):
        _entitle(panel, title)
    return axes


def _given(ax: Axes | Sequence[Axes], count: int) -> tuple[Axes, ...]:
    axes = (ax,) if isinstance(ax, Axes) else tuple(ax)
    if len(axes) != count:
        raise ValueError(
            f"There are {count} numeric columns and {len(axes)} axes: give one for each, for "
            f"instance those of plt.subplots(1, {count}, sharey=True)."
        )
    return axes


def _panels(names: Sequence[str], count: int) -> tuple[Axes, ...]:
    """As many panels side by side as can be read, the others below."""
    lines = [line for name in names for line in name.split("\n")]
    room = WIDTH - max(text_width(line, SMALL) for line in lines)
    across = max(1, min(count, int(room / NARROWEST)))
    down = -(-count // across)
    across = -(-count // down)
    high = down * (0.75 + 0.3 * max(len(names), 0.62 * len(lines)))
    figure = plt.figure(figsize=(WIDTH, high), dpi=DPI, facecolor=PAPER, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, gridspec_kw={"hspace": 0.08})
    panels = [dress(panel) for panel in grid.flat]
    for spare in panels[count:]:
        spare.remove()
    return tuple(panels[:count])


def _begins_row(panel: Axes) -> bool:
    place = panel.get_subplotspec()
    return place is None or place.is_first_col()


def _draw_panel(panel: Axes, values: Any, colour: str) -> None:
    """The bars, from the top, and their values."""
    known = np.nan_to_num(values)
    panel.barh(np.arange(len(values)), known, 0.66, color=colour, linewidth=0)
    panel.set_ylim(len(values) - 0.4, -0.6)
    texts = [_short(value) for value in values]
    room = max(text_width(text, SMALL) for text in texts) + 0.1
    span = (max(known.max(), 0.0) - min(known.min(), 0.0)) or 1.0
    share = min(0.6, room / max(size_in_inches(panel)[0], 0.1))
    panel.set_xlim(min(known.min(), 0.0), max(known.max(), 0.0) + span * share / (1 - share))
    for row, (value, text) in enumerate(zip(known, texts, strict=True)):
        panel.annotate(text, (max(value, 0.0), row), (4, 0), textcoords="offset points",
                       fontsize=SMALL, color=INK, ha="left", va="center")  # fmt: skip
    panel.set_xticks([])
    panel.grid(visible=False)
    panel.spines["bottom"].set_visible(False)
    panel.spines["left"].set_color(tint(MUTED, 0.6))


def _entitle(panel: Axes, title: str) -> None:
    """The title in as many lines as the panel is narrow."""
    letters = int(size_in_inches(panel)[0] / text_width("x", TEXT))
    panel.set_title(textwrap.fill(title, max(letters, 8)), loc="left", fontsize=TEXT, color=INK)


def _short(value: float) -> str:
    """Three figures, or all of a whole number."""
    if np.isnan(value):
        return "-"
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
