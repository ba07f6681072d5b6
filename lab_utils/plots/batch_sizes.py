"""How large the batches were that functions were given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from lab_utils.plots.style import (
    INK,
    SMALL,
    TEXT,
    Frame,
    Numbers,
    function_colours,
    name_y,
    new_axes,
    say,
    size_in_inches,
    text_width,
    whole_numbers,
)
from lab_utils.plots.timeline import draw_key, swatch

MOST_BINS = 24
FEWEST_BINS = 5  #: a single size is a bar, not a wall
FAR = 10  #: sizes that differ by a larger factor are counted in steps that grow: 1, 2, 5, 10, ...


@dataclass(frozen=True)
class _Bins:
    """Ranges of sizes, drawn equally wide: bin i counts edges[i] <= size < edges[i + 1]."""

    edges: list[int]
    growing: bool

    @classmethod
    def over(cls, low: int, high: int) -> _Bins:
        """As few as show sizes from `low` to `high` well."""
        if high - low >= MOST_BINS and high > FAR * low:
            steps = list(_one_two_five())
            begin = max((i for i, step in enumerate(steps) if step <= low), default=0)
            end = next(i for i, step in enumerate(steps) if step > high)
            return cls([0] * (low == 0) + steps[begin : end + 1], growing=True)
        step = next(step for step in _one_two_five() if (high - low) / step < MOST_BINS)
        begin, end = low // step, high // step + 1
        while end - begin < FEWEST_BINS:
            begin, end = max(begin - 1, 0), end + 1
        return cls([step * i for i in range(begin, end + 1)], growing=False)

    def ticks(self, wide: float) -> tuple[Numbers, list[str]]:
        """Where to write which numbers under so many inches: in the middle if one size is meant."""
        texts = [f"{edge:,}" for edge in self.edges]
        single = self.edges[1] - self.edges[0] == 1 and not self.growing
        places = np.arange(len(texts)) + (0.5 if single else 0.0)
        chosen = list(range(len(texts) - single))
        every = 1.3 * text_width(max(texts, key=len), SMALL) / (wide / (len(texts) - 1))
        if self.growing and every > 1:
            chosen = [i for i in chosen if texts[i][0] in "01"]
        else:
            chosen = chosen[:: int(np.ceil(every))]
        return places[chosen], [texts[i] for i in chosen]


def _one_two_five() -> Iterator[int]:
    return (step * 10**power for power in range(7) for step in (1, 2, 5))


def plot_batch_sizes(invocations: Frame, ax: Axes | None = None) -> Axes:
    """Draw a histogram of the sizes of batches, functions side by side.

    `invocations` is the frame of `lab.invocations()`; each invocation with a batch counts (so a
    batch that was tried again counts again), throttled ones and direct calls do not. A bar
    begins at the number at its left edge and ends before the next; where sizes differ little,
    there is one for each, with its number below. Sizes that differ more than tenfold are counted
    in steps that grow: 1, 2, 5, 10, 20 and so on.
    """
    given = invocations[
        invocations["batch_size"].notna() & (invocations["outcome"] != "throttled")
    ]  # fmt: skip
    if not len(given):
        return say(ax or new_axes(height=2.0), "no batches yet")
    ax = ax or new_axes(height=3.4)
    sizes = given["batch_size"].to_numpy(dtype=int)
    bins = _Bins.over(int(sizes.min()), int(sizes.max()))
    colours = function_colours(invocations["function"])
    shown = {name: colours[name] for name in colours if name in set(given["function"])}
    names = []
    width = 0.84 / len(shown)
    for i, (function, colour) in enumerate(shown.items()):
        mine = (given["function"] == function).to_numpy()
        counts, _ = np.histogram(sizes[mine], [*bins.edges[:-1], bins.edges[-1] - 0.5])
        places = np.arange(len(counts)) + 0.08 + (i + 0.5) * width
        ax.bar(places, counts, width * 0.94, color=colour, linewidth=0)
        batches = int(mine.sum())
        names.append(swatch(f"{function}, {batches:,} batch" + "es" * (batches != 1), colour))
    ax.set_xlim(0, len(bins.edges) - 1)
    ax.set_xticks(*bins.ticks(size_in_inches(ax)[0]))
    ax.set_xticks(range(len(bins.edges)), minor=True)
    ax.set_xlabel("records in a batch", fontsize=TEXT, color=INK)
    whole_numbers(ax)
    name_y(ax, "invocations")
    draw_key(ax, names, columns=1)
    return ax
