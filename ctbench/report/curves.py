"""Curves over the stages: scores at any time, held-out LM loss, training loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ctbench.metrics import Array, seen_mask
from ctbench.report.groups import Entry, mean_over_runs
from ctbench.report.heatmaps import order_of, same_order
from ctbench.report.style import GREY, look
from ctbench.schema import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = ("domains seen", "domains not seen yet", "all domains")


def stage_means(matrix: Array) -> Array:
    """Return the mean score [3, T+1] over the domains seen, not seen yet, and all, after each stage; NaN for none."""
    seen = seen_mask(matrix.shape[1])
    masks = (seen, ~seen, np.ones_like(seen))
    return np.array([[_mean(row[kept]) for row, kept in zip(matrix, mask, strict=True)] for mask in masks])


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else math.nan


def draw_anytime(figure: Figure, entries: Sequence[Entry]) -> None:
    """Draw the mean score over seen, unseen and all domains after each stage, with bands of ± 1 deviation over runs."""
    figure.set_size_inches(10.2, 3.9)
    axes = figure.subplots(1, 3, sharey=True)
    num_tasks = entries[0].first.num_tasks
    base = np.mean([stage_means(_base_only(result)) for e in entries for result in e.results.values()], axis=0) * 100
    for panel, (axis, name) in enumerate(zip(axes, PANELS, strict=True)):
        _line(axis, base[panel], "untouched LM, same tasks")
        for index, entry in enumerate(entries):
            curves = np.array([stage_means(result.matrix)[panel] for result in entry.results.values()]) * 100
            _curve(axis, curves, mean_over_runs(entry.results, curves), index, entry.label)
        axis.set_title(name)
        _stages(axis, num_tasks)
    axes[0].set_ylabel("mean score, %")
    _finish(figure, axes[2], entries, "band: ± 1 standard deviation over runs")


def _base_only(result: Result) -> Array:
    return np.tile(result.matrix[0], (result.num_tasks + 1, 1))


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
        for index, entry in enumerate(entries):
            curves = np.array([result.lm_loss[:, column] for result in runs[entry.label]])
            _curve(axis, curves, curves.mean(axis=0), index, entry.label)
        axis.set_title(first.stream.domains[column])
        _stages(axis, num_tasks)
    for axis in axes[:, 0]:
        axis.set_ylabel("held-out LM loss, nats")
    note = "dashed line: the domain's own stage · band: ± 1 standard deviation over runs"
    counts = sorted({len(each) for each in runs.values()})
    _finish(figure, axes.flat[0], entries, note, counts=counts, order=order_of(first, entries))


def draw_training(figure: Figure, entries: Sequence[Entry]) -> None:
    """Draw the LM loss on the training text over all stages, mean over runs; lines mark where stages begin."""
    figure.set_size_inches(9.0, 3.9)
    axis = figure.subplots()
    starts: list[float] = []
    for index, entry in enumerate(entries):
        curves = [training_curve(result) for result in entry.results.values()]
        length = min(len(losses) for _, losses, _ in curves)
        steps, _, own = curves[0]
        starts = max(starts, own, key=len)
        mean = mean_over_runs(entry.results, [losses[:length] for _, losses, _ in curves])
        shape = look(index)
        every = max(1, length // 12)
        marks: dict[str, Any] = {"marker": shape.marker, "markersize": 5, "markevery": (index % every, every)}
        line: dict[str, Any] = {"color": shape.colour, "linestyle": shape.dash, "linewidth": 1.4}
        axis.plot(steps[:length], mean, label=entry.label, **line, **marks)
    for start in starts:
        axis.axvline(start, color=GREY, linewidth=0.8)
    above = axis.secondary_xaxis("top")
    numbers = range(1, len(starts) + 1)
    above.set_xticks(starts, [f"stage {number}" if len(starts) <= 9 else str(number) for number in numbers])
    above.tick_params(length=0, labelcolor=GREY, labelsize=8.5)
    above.spines["top"].set_visible(False)
    axis.set(xlabel="update", ylabel="LM loss on the training text, nats")
    axis.margins(x=0.01)
    _finish(figure, axis, entries, "mean over runs")


def training_curve(result: Result) -> tuple[list[float], list[float], list[float]]:
    """Return updates, LM losses and the updates at which stages begin, counted on over the stages."""
    steps: list[float] = []
    losses: list[float] = []
    starts: list[float] = []
    offset = 0.0
    for stage in result.stages:
        curve = stage.losses.get("lm", stage.losses.get("loss", ()))
        if starts:  # a gap, so that stages are not joined by a line
            steps.append(offset)
            losses.append(math.nan)
        starts.append(offset)
        steps += [offset + step for step in stage.steps[: len(curve)]]
        losses += [math.nan if value is None else value for value in curve[: len(stage.steps)]]
        offset += max(stage.steps, default=0)
    return steps, losses, starts


def _curve(axis: Axes, curves: Array, mean: Array, index: int, label: str) -> None:
    """Draw the mean [T+1] of `curves` [N, T+1] with its band."""
    shape, places = look(index), np.arange(curves.shape[1])
    axis.plot(places, mean, color=shape.colour, linestyle=shape.dash, marker=shape.marker, label=label)
    if len(curves) > 1:
        spread = curves.std(axis=0, ddof=1)
        axis.fill_between(places, mean - spread, mean + spread, color=shape.colour, alpha=0.16, linewidth=0)


def _line(axis: Axes, values: Array, label: str) -> None:
    axis.plot(np.arange(len(values)), values, color=GREY, linewidth=1.2, label=label, zorder=1.5)


def _stages(axis: Axes, num_tasks: int) -> None:
    axis.set_xticks(range(num_tasks + 1), ["base", *map(str, range(1, num_tasks + 1))])
    axis.set_xlim(-0.3, num_tasks + 0.3)
    axis.set_xlabel("after stage")


def _finish(
    figure: Figure,
    axis: Axes,
    entries: Sequence[Entry],
    note: str,
    *,
    counts: Sequence[int] | None = None,
    order: str = "",
) -> None:
    """Put one legend below all panels, and say whose results they are."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), handlelength=3.2)
    first = entries[0].first
    counts = counts or sorted({len(entry.results) for entry in entries})
    runs = (f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}") + order
    shown = [part for part in note.split(" · ") if counts[-1] > 1 or "over runs" not in part]
    title = " · ".join([f"{first.stream.name} v{first.stream.version}", first.backbone.name, runs, *shown])
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=GREY)
