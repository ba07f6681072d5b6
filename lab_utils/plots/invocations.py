"""When which function ran, for which shard or on which instance, and how many ran at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from matplotlib.axes import Axes

from lab_utils.plots.style import (
    MUTED,
    Frame,
    Numbers,
    function_colours,
    label_points,
    name_y,
    new_axes,
    say,
    shard_names,
    tint,
    whole_numbers,
)
from lab_utils.plots.timeline import FIRST, SHADES, Row, Timeline, draw_timeline, ended, time_axis

NO_SHARD = "no shard"
GREY = tint(MUTED, 0.5)  #: of what has no shard, where colours stand for shards


def plot_invocations(
    invocations: Frame,
    ax: Axes | None = None,
    function: str | None = None,
    *,
    origin: datetime | None = None,
    since: str = FIRST,
    by: str = "function",
) -> Axes:
    """Draw a timeline: one row per shard (and lane), one bar per invocation, functions apart.

    `invocations` is the frame of `lab.invocations()`: function, instance, shard (None for a direct
    call, or if nobody knows), lane, batch_size, started and ended (UTC), outcome, attempt,
    iterator_age (seconds). Good bars have their function's colour, or with `by="instance"` one per
    instance (ten colours, which repeat); bars that went wrong have their own colour and a mark. A
    bar's number is its batch size, or with `by="instance"` that of the instance, in the order of
    their first use, as in `plot_instances`. It is there where it fits and the function ran at most
    200 times. A bar is at least 1/400 of the axis wide, however short the run was.

    `function` shows one function alone. The x axis counts from `origin` (UTC; the first start
    by default), and is named after it by `since`.
    """
    if by not in ("function", "instance"):
        raise ValueError(f"by is 'function' or 'instance', not {by!r}.")
    colours = function_colours(invocations["function"]) if len(invocations) else {}
    if function is not None:
        invocations = invocations[invocations["function"] == function]
    if not len(invocations):
        return say(ax or new_axes(height=2.0), "no invocations")
    rows = _lanes(invocations)
    if by == "instance":
        numbers = _instance_numbers(invocations)
        bars = [SHADES[(number - 1) % len(SHADES)] for number in numbers]
        words = [f"{number}" if number else "" for number in numbers]
        colours = {}
    else:
        bars = [colours[name] for name in invocations["function"]]
        sizes = invocations["batch_size"].astype("Int64").fillna(0)
        words = [f"{size:,}" if size > 0 else "" for size in sizes]
    line = Timeline(invocations, rows, bars, words, 9, _lane_names(rows), "shard", colours)
    return draw_timeline(line, ax, origin, since)


def plot_instances(
    invocations: Frame,
    ax: Axes | None = None,
    *,
    origin: datetime | None = None,
    since: str = FIRST,
) -> Axes:
    """Draw a timeline: one row per instance, one bar per invocation that ran on it.

    `invocations` is the frame of `lab.invocations()`, as for `plot_invocations`. An instance (an
    execution environment) is numbered in the order of first use within its function; its first
    run, which waited for the cold start, has a dark edge at the left. Good bars have the colour
    of the shard whose batch it was (ten colours, which repeat), and its name where it fits;
    what has no shard is grey. Throttled invocations reached no instance and are left out.
    """
    ran = invocations[invocations["instance"].notna()] if len(invocations) else invocations
    if not len(ran):
        return say(ax or new_axes(height=2.0), "no instances yet")
    numbers = _instance_numbers(ran)
    rows = [Row(name, None, number) for name, number in zip(ran["function"], numbers, strict=True)]
    words = _shard_words(_lanes(ran))
    shades = _shades(words)
    many = len(shades) > len(SHADES)
    line = Timeline(
        ran,
        rows,
        [shades.get(word, GREY) for word in words],
        words,
        10,
        {row: f"{row.number}" for row in rows},
        f"instance (coloured by {len(shades)} shards)" if many else "instance",
        key={} if many else shades | ({NO_SHARD: GREY} if NO_SHARD in words else {}),
        firsts=[rows.index(row) for row in dict.fromkeys(rows)],
    )
    return draw_timeline(line, ax, origin, since)


def _lanes(invocations: Frame) -> list[Row]:
    """The row of each invocation: its lane, or without a shard one for its instance."""
    direct: dict[tuple[str, str], int] = {}
    rows = []
    columns = zip(
        invocations["function"],
        invocations["shard"],
        invocations["lane"].astype("Int64").fillna(0),
        invocations["instance"],
        strict=True,
    )
    for function, shard, lane, instance in columns:
        if isinstance(shard, str):
            rows.append(Row(function, shard, int(lane)))
        else:
            number = direct.setdefault((function, str(instance)), len(direct))
            rows.append(Row(function, None, number))
    return rows


def _lane_names(rows: Sequence[Row]) -> dict[Row, str]:
    """A shard's short name, with the number of the lane where the function has several."""
    laned = {row.function for row in rows if row.shard and row.number}
    return {
        row: f"{word}.{row.number}" if row.shard and row.function in laned else word
        for row, word in zip(rows, _shard_words(rows), strict=True)
    }


def _shard_words(rows: Sequence[Row]) -> list[str]:
    """The short name of each row's shard, or that it has none."""
    shards: dict[str, set[str]] = {row.function: set() for row in rows}
    for row in rows:
        shards[row.function] |= {row.shard} if row.shard else set()
    short = {function: shard_names(each) for function, each in shards.items()}
    return [short[row.function][row.shard] if row.shard else NO_SHARD for row in rows]


def _shades(words: Sequence[str]) -> dict[str, str]:
    """A colour for each short name of a shard, in the order of their numbers."""
    names = sorted(set(words) - {NO_SHARD}, key=lambda name: int(name[1:]))
    return {name: SHADES[i % len(SHADES)] for i, name in enumerate(names)}


def _instance_numbers(invocations: Frame) -> list[int]:
    """Which instance of its function each ran on, by first use from 1; 0 if it reached none."""
    numbers: dict[tuple[str, str], int] = {}
    count: dict[str, int] = {}
    used = invocations[invocations["instance"].notna()].sort_values("started", kind="stable")
    for key in zip(used["function"], used["instance"], strict=True):
        if key not in numbers:
            numbers[key] = count[key[0]] = count.get(key[0], 0) + 1
    keys = zip(invocations["function"], invocations["instance"], strict=True)
    return [numbers.get(key, 0) for key in keys]


# --- how many at once -----------------------------------------------------------------------


def plot_concurrency(
    invocations: Frame,
    ax: Axes | None = None,
    *,
    origin: datetime | None = None,
    since: str = FIRST,
) -> Axes:
    """Draw how many instances of each function ran at once, over time.

    `invocations` is the frame of `lab.invocations()`; throttled ones did not run and do not
    count. The x axis counts from `origin` (UTC; the first start by default).
    """
    ran = invocations[invocations["outcome"] != "throttled"] if len(invocations) else invocations
    if not len(ran):
        return say(ax or new_axes(height=2.0), "no invocations")
    ax = ax or new_axes(height=3.2)
    time = time_axis(ran, origin)
    colours = function_colours(invocations["function"])
    points = []
    for function, colour in colours.items():
        mine = ran[ran["function"] == function]
        if not len(mine):
            continue
        times, running = _running(time.of(mine["started"]), time.of(ended(mine)))
        ax.fill_between(times, running, step="post", color=colour, alpha=0.14, linewidth=0)
        ax.step(times, running, where="post", color=colour, linewidth=1.8)
        top = int(running.max())
        points.append((float(times[running.argmax()]), top, f"{function}, at most {top:,}", colour))
    ax.set_xlim(right=time.at(ended(ran).max()), left=min(0.0, time.at(ran["started"].min())))
    ax.set_ylim(0, max(point[1] for point in points) * 1.1)
    whole_numbers(ax)
    time.label(ax, since)
    name_y(ax, "instances running")
    label_points(ax, points)
    return ax


def _running(starts: Numbers, ends: Numbers) -> tuple[Numbers, Numbers]:
    """Times at which the number of running instances changes, and the number from then on."""
    times = np.concatenate([starts, ends])
    steps = np.concatenate([np.ones(len(starts)), -np.ones(len(ends))])
    moments, which = np.unique(times, return_inverse=True)
    changes = np.bincount(which.ravel(), weights=steps)
    return (
        np.concatenate([moments[:1], moments]),
        np.concatenate([[0.0], np.cumsum(changes)]),
    )
