"""Curves over the stages: mean scores and held-out LM loss."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ctbench.reporting.entries import Entry, mean_over_runs
from ctbench.reporting.plots.heatmaps import order_of, same_order
from ctbench.reporting.plots.looks import Look, looks_of
from ctbench.reporting.plots.quantity import SCORES, Quantity
from ctbench.reporting.plots.style import GREY, wrapped
from ctbench.results.matrix import Array, seen_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import FillBetweenPolyCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MAX_LABELLED = 4
"""Number of lines up to which each is named at its end."""

MAX_BANDS = 5
"""Number of lines up to which their bands can be told apart."""

BAND_ID = "band"
"""Begins the id of a band in a picture."""

UNNAMED = re.compile(r"_child\d+")
"""What matplotlib calls a line without a label. Its own look-up of labels takes each that begins with "_" for one."""

BAND = "band: ± 1 standard deviation over runs"
UNTOUCHED = "untouched LM, same tasks"
PANELS = ("domains seen", "domains not seen yet", "all domains")


def stage_means(matrix: Array) -> Array:
    """Return the mean score [3, T+1] over the domains of each of PANELS after each stage; NaN without domains."""
    seen = seen_mask(matrix.shape[1])
    masks = (seen, ~seen, np.ones_like(seen))
    return np.array([[_mean(row[kept]) for row, kept in zip(matrix, mask, strict=True)] for mask in masks])


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else math.nan


def draw_anytime(figure: Figure, entries: Sequence[Entry], quantity: Quantity = SCORES) -> None:
    """Draw the mean score over seen, unseen and all domains after each stage, with bands of ± 1 deviation over runs."""
    figure.set_size_inches(10.2, 3.9)
    axes = figure.subplots(1, 3, sharey=True)
    bases = [quantity.matrix(result) for entry in entries for result in entry.results.values()]
    base = np.mean([stage_means(np.tile(matrix[0], (len(matrix), 1))) for matrix in bases], axis=0)
    for panel, axis in enumerate(axes):
        _line(axis, base[panel], UNTOUCHED)
        draw_anytime_panel(axis, entries, panel, quantity=quantity, has_bands=has_bands(entries))
    axes[0].set_ylabel(f"mean {quantity.name}, {quantity.unit}")
    name_lines(figure, axes[2], len(entries))
    add_title(figure, entries, BAND if has_bands(entries) else "")


def draw_anytime_panel(
    axis: Axes, entries: Sequence[Entry], panel: int, *, quantity: Quantity = SCORES, has_bands: bool = True
) -> None:
    """Draw one panel of PANELS: the mean of each entry after each stage."""
    for index, (entry, shape) in enumerate(zip(entries, looks_of(entries), strict=True)):
        curves = np.array([stage_means(quantity.matrix(result))[panel] for result in entry.results.values()])
        mean = mean_over_runs(entry.results, curves)
        line, band = draw_curve(axis, curves, mean, shape, entry.label, has_band=has_bands)
        line.set_gid(f"panel{panel}-entry{index}")
        if band is not None:
            band.set_gid(f"{BAND_ID}{panel}-entry{index}")
    axis.set_title(PANELS[panel])
    mark_stages(axis, entries[0].first.num_tasks)


def draw_loss(figure: Figure, entries: Sequence[Entry]) -> None:
    """Draw the held-out LM loss of every domain after each stage; a line marks the domain's own stage."""
    runs = same_order(entries)
    first = next(iter(runs.values()))[0]
    num_tasks = first.num_tasks
    num_columns = num_tasks if num_tasks <= 5 else min(5, math.ceil(num_tasks / 2))
    num_rows = math.ceil(num_tasks / num_columns)
    figure.set_size_inches(max(5.0, 2.2 * num_columns), 2.6 * num_rows + 0.9)
    axes = np.array(figure.subplots(num_rows, num_columns, sharey=True, squeeze=False))
    for axis in axes.flat[num_tasks:]:
        axis.set_visible(False)
    for column, axis in enumerate(axes.flat[:num_tasks]):
        axis.axvline(column + 1, color=GREY, linewidth=1, linestyle=(0, (2, 2)))
        for entry, shape in zip(entries, looks_of(entries), strict=True):
            curves = np.array([result.lm_loss[:, column] for result in runs[entry.label]])
            draw_curve(axis, curves, curves.mean(axis=0), shape, entry.label, has_band=has_bands(entries))
        axis.set_title(wrapped(first.stream.domains[column], 1.6, size=10.5))
        mark_stages(axis, num_tasks)
    for axis in axes[:, 0]:
        axis.set_ylabel("held-out LM loss, nats")
    note = f"dashed line: the domain's own stage{f' · {BAND}' if has_bands(entries) else ''}"
    counts = sorted({len(each) for each in runs.values()})
    name_lines(figure, axes.flat[0], len(entries), at_ends=False)
    add_title(figure, entries, note, counts=counts, order=order_of(first, entries))


def has_bands(entries: Sequence[Entry]) -> bool:
    """Return whether bands can be told apart."""
    return len(entries) <= MAX_BANDS


def draw_curve(
    axis: Axes, curves: Array, mean: Array, shape: Look, label: str, *, has_band: bool = True
) -> tuple[Line2D, FillBetweenPolyCollection | None]:
    """Draw the mean [T+1] of `curves` [N, T+1], and a band of ± 1 standard deviation; return both."""
    places = np.arange(curves.shape[1])
    (line,) = axis.plot(places, mean, color=shape.colour, linestyle=shape.dash, marker=shape.marker, label=label)
    if has_band and len(curves) > 1:
        spread = curves.std(axis=0, ddof=1)
        return line, axis.fill_between(
            places, mean - spread, mean + spread, color=shape.colour, alpha=0.16, linewidth=0
        )
    return line, None


def _line(axis: Axes, values: Array, label: str) -> None:
    axis.plot(np.arange(len(values)), values, color=GREY, linewidth=1.2, label=label, zorder=1.5)


def mark_stages(axis: Axes, num_tasks: int) -> None:
    """Name the stages on the horizontal axis."""
    axis.set_xticks(range(num_tasks + 1), ["base", *map(str, range(1, num_tasks + 1))])
    axis.set_xlim(-0.3, num_tasks + 0.3)
    axis.set_xlabel("after stage")


def name_lines(figure: Figure, axis: Axes, num_entries: int, *, at_ends: bool = True) -> None:
    """Name the lines of a panel: a few at their ends, many in one legend below all panels.

    Args:
        figure: the picture.
        axis: the panel whose lines are named; the rightmost one if they are named at their ends.
        num_entries: number of methods.
        at_ends: whether the ends of the lines have room for names.
    """
    lines = [line for line in axis.lines if not UNNAMED.fullmatch(str(line.get_label()))]
    if at_ends and num_entries <= MAX_LABELLED:
        _label_ends(axis, lines)
        return
    labels = [str(line.get_label()) for line in lines]
    width, longest = figure.get_size_inches()[0], max(map(len, labels))
    columns = max(1, min(7, len(labels), int(width / (0.075 * longest + 0.75))))
    places = [f"line {number}" for number in range(len(lines))]
    legend = figure.legend(lines, places, loc="outside lower center", ncols=columns, handlelength=3.2)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)  # some versions of matplotlib leave labels out that begin with "_"


def add_title(
    figure: Figure, entries: Sequence[Entry], note: str, *, counts: Sequence[int] | None = None, order: str = ""
) -> None:
    """Add a title with stream, backbone and number of runs.

    Args:
        figure: the picture.
        entries: what is drawn.
        note: what the marks mean.
        counts: numbers of runs; those of the entries by default.
        order: which order of the domains is shown.
    """
    first = entries[0].first
    counts = counts or sorted({len(entry.results) for entry in entries})
    runs = (f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}") + order
    shown = [part for part in note.split(" · ") if part and (counts[-1] > 1 or "over runs" not in part)]
    title = " · ".join([f"{first.stream.name} v{first.stream.version}", first.backbone.name, runs, *shown])
    title = wrapped(title, figure.get_size_inches()[0] - 0.2)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=GREY)


def _label_ends(axis: Axes, lines: Sequence[Any]) -> None:
    """Write the name of each line to the right of its end, moved up or down so that names do not overlap."""
    low, high = axis.get_ylim()
    axis.set_ylim(low, high)
    gap = 0.062 * (high - low)
    right = axis.get_xlim()[1]
    ends = []
    for line in lines:
        ys = np.asarray(line.get_ydata(), dtype=float)
        ends.append((float(ys[~np.isnan(ys)][-1]) if not np.isnan(ys).all() else low, line))
    ends.sort(key=lambda end: end[0])
    places = [end for end, _ in ends]
    for _ in range(100):  # neighbours push each other apart
        for below in range(len(places) - 1):
            lack = gap - (places[below + 1] - places[below])
            if lack > 1e-9 * gap:
                places[below] -= lack / 2
                places[below + 1] += lack / 2
    for place, (_, line) in zip(places, ends, strict=True):
        name = "\n".join(textwrap.wrap(str(line.get_label()), 24))
        axis.annotate(
            name,
            (right, place),
            xytext=(4, 0),
            textcoords="offset points",
            color=line.get_color(),
            va="center",
            fontsize=9,
        )
