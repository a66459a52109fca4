"""Training curves: the LM loss on the training text over all stages, and below it the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ctbench.reporting.entries import Entry, mean_over_runs
from ctbench.reporting.plots.curves import add_title, name_lines
from ctbench.reporting.plots.looks import looks_of
from ctbench.reporting.plots.style import GREY
from ctbench.results.schema import Result, StageRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = Callable[[StageRecord], Sequence[float | None]]


def draw_training(figure: Figure, entries: Sequence[Entry]) -> None:
    """Draw loss and learning rate over all updates, mean over runs; lines mark the starts of stages.

    The panel of the rate is left out if no result holds one.
    """
    from matplotlib.ticker import MaxNLocator

    has_rates = any(stage.rates for entry in entries for result in entry.results.values() for stage in result.stages)
    figure.set_size_inches(9.0, 5.0 if has_rates else 3.9)
    axes: list[Axes] = [figure.subplots()]
    if has_rates:
        figure.clear()
        axes = list(figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)))
    starts = _draw(axes[0], entries, _loss, has_marks=True)
    axes[0].set_ylabel("LM loss on the training text, nats")
    for axis in axes[1:]:
        _draw(axis, entries, lambda stage: stage.rates, has_marks=_is_short(entries))
        axis.set_ylabel("learning rate")
        axis.set_ylim(bottom=0)
    for axis in axes:
        for start in starts:
            axis.axvline(start, color=GREY, linewidth=0.8)
        axis.margins(x=0.01)
    above = axes[0].secondary_xaxis("top")
    numbers = range(1, len(starts) + 1)
    above.set_xticks(starts, [f"stage {number}" if len(starts) <= 9 else str(number) for number in numbers])
    above.tick_params(length=0, labelcolor=GREY, labelsize=8.5)
    above.spines["top"].set_visible(False)
    axes[-1].set_xlabel("update")
    axes[-1].xaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    name_lines(figure, axes[0], len(entries))
    add_title(figure, entries, "mean over runs")


def _draw(axis: Axes, entries: Sequence[Entry], values: Values, *, has_marks: bool) -> list[float]:
    """Draw the mean over runs of a curve of every entry; return the first updates of the stages."""
    starts: list[float] = []
    for index, (entry, shape) in enumerate(zip(entries, looks_of(entries), strict=True)):
        curves = [training_curve(result, values) for result in entry.results.values()]
        length = min(len(found) for _, found, _ in curves)
        steps, _, own = curves[0]
        starts = max(starts, own, key=len)
        mean = mean_over_runs(entry.results, [found[:length] for _, found, _ in curves])
        every = max(1, length // 12)
        line: dict[str, Any] = {"color": shape.colour, "linestyle": shape.dash, "linewidth": 1.4}
        if has_marks:
            line |= {"marker": shape.marker, "markersize": 5, "markevery": (index % every, every)}
        axis.plot(steps[:length], mean, label=entry.label, **line)
    return starts


def _is_short(entries: Sequence[Entry]) -> bool:
    """Return whether a stage has a single point, which no line shows."""
    return any(len(stage.steps) == 1 for entry in entries for each in entry.results.values() for stage in each.stages)


def _loss(stage: StageRecord) -> Sequence[float | None]:
    return stage.losses.get("lm", stage.losses.get("loss", ()))


def training_curve(result: Result, values: Values = _loss) -> tuple[list[float], list[float], list[float]]:
    """Return updates, values there and first updates of the stages; updates are counted over all stages."""
    steps: list[float] = []
    found: list[float] = []
    starts: list[float] = []
    offset = 0.0
    for stage in result.stages:
        curve = values(stage)
        if starts:  # a gap, so that no line joins two stages
            steps.append(offset)
            found.append(math.nan)
        starts.append(offset)
        steps += [offset + step for step in stage.steps[: len(curve)]]
        found += [math.nan if value is None else value for value in curve[: len(stage.steps)]]
        offset += max(stage.steps, default=0)
    return steps, found, starts
