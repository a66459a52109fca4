"""Pictures with one point per method: forgetting against forward transfer, score against cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ctbench.errors import MissingResult
from ctbench.metrics import get_metric
from ctbench.report.groups import Entry, mean_over_runs
from ctbench.report.leaderboard import COSTS
from ctbench.report.style import GREY, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COST_LABELS = {
    "tokens": "tokens of text trained on",
    "forward_tokens": "tokens passed forward, teachers included",
    "seconds": "seconds of pre-training",
    "cpu_seconds": "CPU seconds of pre-training",
    "peak_memory_bytes": "peak memory, bytes",
    "added_parameters": "added parameters",
    "stored_bytes": "stored bytes",
}


def metric_values(entry: Entry, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return metric `name` of every run of an entry, in percent; NaN where it is not defined."""
    values = [result.computed_metrics[name] for result in entry.results.values()]
    return np.array([math.nan if value is None else 100 * value for value in values])


def draw_transfer(figure: Figure, entries: Sequence[Entry]) -> None:
    """Draw forgetting against FWT_all, mean and deviation over runs."""
    figure.set_size_inches(6.4, 4.8)
    axis = figure.subplots()
    axis.axhline(0, color=GREY, linewidth=0.9)
    axis.axvline(0, color=GREY, linewidth=0.9)
    places = _points(axis, entries, [metric_values(entry, "forgetting") for entry in entries], "FWT_all")
    axis.set_xlabel("forgetting, points (less is better)")
    axis.set_ylabel("FWT_all: unseen domains against the untouched LM, points")
    axis.annotate("better ↖", (0.01, 0.985), xycoords="axes fraction", ha="left", va="top", color=GREY, fontsize=9)
    _title(figure, entries)
    _labels(figure, axis, places)


def draw_cost(figure: Figure, entries: Sequence[Entry], *, metric: str, cost: str) -> None:
    """Draw a metric against a cost, mean and deviation over runs."""
    figure.set_size_inches(6.4, 4.8)
    axis = figure.subplots()
    costs = []
    for entry in entries:
        found = [getattr(result.cost, cost) for result in entry.results.values()]
        costs.append(np.array([math.nan if value is None else float(value) for value in found]))
    places = _points(axis, entries, costs, metric)
    known = np.concatenate(costs)[~np.isnan(np.concatenate(costs))]
    if known.size and known.min() > 0 and known.max() / known.min() > 20:
        axis.set_xscale("log")
    elif known.size:
        from matplotlib.ticker import EngFormatter

        axis.set_xlim(left=0, right=max(1.0, 1.12 * known.max()))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    arrow = "↖" if get_metric(metric).better == "higher" else "↙"
    unit = "points" if get_metric(metric).is_difference else "%"
    axis.set_xlabel(COST_LABELS[cost])
    axis.set_ylabel(f"{metric}, {unit}")
    top = 0.985 if arrow == "↖" else 0.02
    va = "top" if arrow == "↖" else "bottom"
    axis.annotate(f"better {arrow}", (0.01, top), xycoords="axes fraction", ha="left", va=va, color=GREY, fontsize=9)
    _title(figure, entries)
    _labels(figure, axis, places)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A point that has been drawn, with its deviations, its label and its colour."""

    x: float
    y: float
    spread: tuple[float, float]
    label: str
    colour: str


def _points(axis: Axes, entries: Sequence[Entry], horizontal: Sequence[Any], metric: str) -> list[Place]:
    """Draw a point with error bars for each entry, and return where."""
    places = []
    for index, (entry, xs) in enumerate(zip(entries, horizontal, strict=True)):
        ys = metric_values(entry, metric)
        x, y = (float(mean_over_runs(entry.results, values)) for values in (xs, ys))
        if math.isnan(x) or math.isnan(y):
            continue
        spread = (float(xs.std(ddof=1)), float(ys.std(ddof=1))) if len(xs) > 1 else (0.0, 0.0)
        shape = look(index)
        bars: dict[str, Any] = {
            "xerr": spread[0],
            "yerr": spread[1],
            "capsize": 2.5,
            "elinewidth": 1.2,
            "linestyle": "none",
        }
        point: dict[str, Any] = {
            "marker": shape.marker,
            "markersize": 8,
            "markeredgecolor": "white",
            "markeredgewidth": 0.8,
        }
        axis.errorbar(x, y, color=shape.colour, **bars, **point)
        places.append(Place(x=x, y=y, spread=spread, label=entry.label, colour=shape.colour))
    if not places:
        raise MissingResult(f"{metric} is defined for none of these methods, so there is no picture")
    axis.margins(0.16)
    return places


_SPOTS = [
    (radius * math.cos(angle), radius * math.sin(angle), radius)
    for radius, count in ((11, 8), (26, 12), (42, 16), (60, 20))
    for angle in (2 * math.pi * (step + 0.5) / count for step in range(count))
]
"""Where a label may stand beside its point, nearest first: points to the right, points up, distance."""

DOT = 100 / 72
"""Pixels of a typographic point in the figure's own resolution."""


def _labels(figure: Figure, axis: Axes, places: Sequence[Place]) -> None:
    """Write names beside their points, each at the spot that covers the least; far ones get a line to their point."""
    from matplotlib.patheffects import withStroke

    figure.draw_without_rendering()  # spots are chosen in pixels, which need a layout
    pixels = [axis.transData.transform([(p.x, p.y), (p.x + p.spread[0], p.y + p.spread[1])]) for p in places]
    taken = [box for centre, end in pixels for box in _obstacles(centre, end - centre)]
    window = axis.get_window_extent()
    for place, (centre, _) in zip(places, pixels, strict=True):
        width = 7.6 * len(place.label) + 6
        boxes = [(spot, _box(centre, spot, width)) for spot in _SPOTS]
        costs = [
            sum(_overlap(box, other) for other in taken)
            + 1000 * (max(0.0, window.x0 - box[0]) + max(0.0, box[2] - window.x1))
            + 1000 * (max(0.0, window.y0 - box[1]) + max(0.0, box[3] - window.y1))
            + 1.5 * spot[2]
            for spot, box in boxes
        ]
        spot, box = boxes[costs.index(min(costs))]
        taken.append(box)
        line = {"arrowstyle": "-", "color": place.colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3}
        axis.annotate(
            place.label,
            (place.x, place.y),
            xytext=spot[:2],
            textcoords="offset points",
            ha="left" if spot[0] > 3 else "right" if spot[0] < -3 else "center",
            va="center",
            arrowprops=line if spot[2] > 15 else None,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _obstacles(centre: Any, spread: Any) -> list[tuple[float, float, float, float]]:
    """Return the pixels that a point and its error bars cover."""
    (x, y), (dx, dy) = centre, np.abs(spread)
    return [(x - 7, y - 7, x + 7, y + 7), (x - dx, y - 2, x + dx, y + 2), (x - 2, y - dy, x + 2, y + dy)]


def _box(pixel: Any, spot: tuple[float, float, float], width: float) -> tuple[float, float, float, float]:
    """Return the pixels that a label of this width covers at a spot."""
    x, y = pixel[0] + DOT * spot[0], pixel[1] + DOT * spot[1]
    left = x if spot[0] > 3 else x - width if spot[0] < -3 else x - width / 2
    return left, y - 8, left + width, y + 8


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _title(figure: Figure, entries: Sequence[Entry]) -> None:
    first = entries[0].first
    counts = sorted({len(entry.results) for entry in entries})
    runs = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    text = (
        f"{first.stream.name} v{first.stream.version} · {first.backbone.name} · {runs} · bars: ± 1 standard deviation"
    )
    figure.suptitle(text, x=0.01, ha="left", fontsize=9, color=GREY)


assert set(COST_LABELS) == set(COSTS)
