"""Pictures of matrices: scores of methods side by side, and the difference of two of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ctbench.errors import MissingResult
from ctbench.metrics import Array, unseen_mask
from ctbench.report import numbers
from ctbench.report.groups import Entry
from ctbench.report.style import FAINT, GREY, INK, diverging, ink_on, sequential
from ctbench.report.summary import row_names
from ctbench.schema import Result
from ctbench.statistics import mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP = 0.18
"""Space between row 0 and the stages, in rows."""


def same_order(entries: Sequence[Entry]) -> dict[str, list[Result]]:
    """Return by label the runs in the one order of domains that all entries have: the stream's own, if they do.

    Raises:
        MissingResult: if they share none.
    """
    shared = set.intersection(*({order for order, _ in entry.results} for entry in entries))
    if not shared:
        raise MissingResult(f"{' and '.join(entry.label for entry in entries)} have no order of domains in common")
    order = min(shared)
    return {entry.label: [result for (o, _), result in entry.results.items() if o == order] for entry in entries}


def draw_matrices(figure: Figure, entries: Sequence[Entry]) -> None:
    """Draw the mean matrix of each entry, all on one scale."""
    runs = same_order(entries)
    means = {label: np.mean([result.matrix for result in each], axis=0) * 100 for label, each in runs.items()}
    low = min(float(np.nanmin(mean)) for mean in means.values())
    high = max(float(np.nanmax(mean)) for mean in means.values())
    num_columns = _num_columns(len(entries))
    num_rows = math.ceil(len(entries) / num_columns)
    size = means[entries[0].label].shape
    figure.set_size_inches(1.6 + num_columns * (0.85 + 0.78 * size[1]), num_rows * (1.15 + 0.5 * size[0]) + 0.5)
    axes = np.array(figure.subplots(num_rows, num_columns, squeeze=False))
    for axis in axes.flat[len(entries) :]:
        axis.set_visible(False)
    for index, (axis, (label, mean)) in enumerate(zip(axes.flat, means.items(), strict=False)):
        first = runs[label][0]
        mesh = _draw(axis, mean, sequential(), (low, high if high > low else low + 1), first, index % num_columns == 0)
        for row, column in np.ndindex(*mean.shape):
            text = numbers.DASH if math.isnan(mean[row, column]) else f"{mean[row, column]:.1f}"
            _write(axis, mesh, row, column, text, mean[row, column])
        axis.set_title(label, fontweight="bold")
    _bar(figure, mesh, list(axes.flat), "score, %")
    note = "framed: domain just learned · hatched: domain not seen yet"
    _title(figure, entries[0], {len(each) for each in runs.values()}, note)


def draw_difference(figure: Figure, first: Entry, second: Entry) -> None:
    """Draw the mean difference of two entries over their shared runs; a dot where its 95 % interval excludes 0."""
    runs = same_order([first, second])
    ours = {result.seed: result for result in runs[first.label]}
    theirs = {result.seed: result for result in runs[second.label]}
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        raise MissingResult(f"{first.label} and {second.label} share no run seed")
    differences = np.array([ours[seed].matrix - theirs[seed].matrix for seed in seeds]) * 100
    mean = differences.mean(axis=0)
    limit = max(0.5, float(np.nanmax(np.abs(mean)))) if not np.isnan(mean).all() else 1.0
    figure.set_size_inches(2.6 + 0.86 * mean.shape[1], 1.75 + 0.52 * mean.shape[0])
    axis = figure.subplots()
    mesh = _draw(axis, mean, diverging(), (-limit, limit), ours[seeds[0]], True)
    for row, column in np.ndindex(*mean.shape):
        sure = mean_interval(differences[:, row, column]).excludes_zero
        text = numbers.points(mean[row, column] / 100).replace("-", "−") + (" •" if sure else "")
        _write(axis, mesh, row, column, text, mean[row, column])
    axis.set_title(f"{first.label} minus {second.label}", fontweight="bold")
    _bar(figure, mesh, [axis], "difference, points")
    note = "framed: domain just learned · hatched: not seen yet"
    note += "\n•: the 95 % interval of the paired difference excludes 0" if len(seeds) > 1 else ""
    _title(figure, first, {len(seeds)}, note)


def _bar(figure: Figure, mesh: Any, axes: list[Axes], label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    bar = figure.colorbar(mesh, ax=axes, aspect=30, pad=0.015, shrink=0.9, ticks=MaxNLocator(6, steps=[1, 2, 5, 10]))
    bar.outline.set_visible(False)
    bar.set_label(label)


def _num_columns(count: int) -> int:
    return count if count <= 3 else 2 if count == 4 else 3


def _draw(axis: Axes, mean: Array, colours: Any, limits: tuple[float, float], result: Result, has_names: bool) -> Any:
    """Draw the cells of one matrix with their frames and hatches; row 0 stands a little apart."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    num_rows, num_tasks = mean.shape
    places = [(row, column) for row in range(num_rows) for column in range(num_tasks)]
    boxes = [Rectangle((column, _top(row)), 1, 1) for row, column in places]
    mesh = PatchCollection(boxes, cmap=colours, edgecolor="white", linewidth=1.2)
    mesh.set_array(np.ma.masked_invalid(mean.ravel()))
    mesh.set_clim(*limits)
    mesh.cmap.set_bad("#eef0f3")
    axis.add_collection(mesh)
    blocks = [Rectangle((0, 0), num_tasks, 1), Rectangle((0, _top(1)), num_tasks, num_rows - 1)]
    axis.add_collection(PatchCollection(blocks, facecolor="none", edgecolor=FAINT, linewidth=1.0, clip_on=False))
    unseen = unseen_mask(num_tasks) & ~np.isnan(mean)
    for ink, colour in (("white", "#ffffff59"), (INK, "#1d243326")):
        cells = [(r, c) for r, c in np.argwhere(unseen) if ink_on(mesh.cmap(mesh.norm(mean[r, c]))) == ink]
        hatched = [Rectangle((column, _top(row)), 1, 1) for row, column in cells]
        axis.add_collection(PatchCollection(hatched, facecolor="none", hatch="////", edgecolor=colour, linewidth=0))
    if len(result.plan.stages) == num_tasks:
        for inset, colour, width in ((0.03, INK, 2.4), (0.065, "white", 1.0)):
            side = 1 - 2 * inset
            frames = [Rectangle((row - 1 + inset, _top(row) + inset), side, side) for row in range(1, num_rows)]
            axis.add_collection(PatchCollection(frames, facecolor="none", edgecolor=colour, linewidth=width))
    for collection in axis.collections:
        collection.set_in_layout(False)
    axis.set(xlim=(0, num_tasks), ylim=(num_rows + GAP, 0), aspect="auto")
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.set_xticks(np.arange(num_tasks) + 0.5, result.stream.domains)
    if max(map(len, result.stream.domains)) > 9:
        axis.tick_params("x", labelrotation=25)
        for label in axis.get_xticklabels():
            label.set(horizontalalignment="right", rotation_mode="anchor")
    axis.set_xlabel("task")
    axis.set_yticks([_top(row) + 0.5 for row in range(num_rows)], row_names(result) if has_names else [""] * num_rows)
    return mesh


def _top(row: int) -> float:
    return row + (GAP if row else 0.0)


def _write(axis: Axes, mesh: Any, row: int, column: int, text: str, value: float) -> None:
    ink = GREY if math.isnan(value) else ink_on(mesh.cmap(mesh.norm(value)))
    cell = axis.text(column + 0.5, _top(row) + 0.52, text, ha="center", va="center", color=ink, fontsize=10)
    cell.set_in_layout(False)  # the layout need not look at what lies inside


def _title(figure: Figure, entry: Entry, counts: set[int], note: str) -> None:
    first = entry.first
    count = " to ".join(map(str, sorted({min(counts), max(counts)})))
    runs = f"mean of {count} runs" if max(counts) > 1 else f"seed {first.seed}"
    title = f"{first.stream.name} v{first.stream.version} · {first.backbone.name} · {runs}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=GREY)
    figure.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color=GREY)
