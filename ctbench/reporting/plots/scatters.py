"""Scatter plots with one point per method: forgetting against forward transfer, score against cost."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ctbench.errors import MissingResult
from ctbench.reporting.columns import COST_MEANINGS
from ctbench.reporting.entries import Entry, mean_over_runs
from ctbench.reporting.plots.looks import looks_of
from ctbench.reporting.plots.quantity import SCORES, Quantity, get_quantity
from ctbench.reporting.plots.style import GREY, wrapped
from ctbench.results.loss_metrics import LOSS_METRICS, find_metric
from ctbench.results.metrics import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure


def metric_values(entry: Entry, metric: Metric) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a metric of every run of an entry in percent, points or nats; NaN if undefined."""
    quantity = _quantity(metric)
    values = [quantity.metrics(result)[metric.name] for result in entry.results.values()]
    return np.array([math.nan if value is None else (1.0 if metric.is_loss else 100.0) * value for value in values])


def _quantity(metric: Metric) -> Quantity:
    return get_quantity("loss" if LOSS_METRICS.get(metric.name) is metric else "score")


def draw_transfer(figure: Figure, entries: Sequence[Entry], quantity: Quantity = SCORES) -> None:
    """Draw forgetting against FWT_all, mean and standard deviation over runs."""
    figure.set_size_inches(6.4, 4.8)
    axis = figure.subplots()
    places = draw_transfer_points(axis, entries, quantity)
    axis.set_ylabel(f"FWT_all: unseen domains against the untouched LM, {quantity.difference}")
    _better(axis, "↖")
    _title(figure, entries)
    name_points(figure, axis, places)


def draw_transfer_points(
    axis: Axes, entries: Sequence[Entry], quantity: Quantity = SCORES, *, has_bars: bool = True
) -> list[Place]:
    """Draw a point for each entry at its forgetting and its FWT_all."""
    axis.axhline(0, color=GREY, linewidth=0.9)
    axis.axvline(0, color=GREY, linewidth=0.9)
    across, up = (find_metric(name, quantity.on) for name in ("forgetting", "FWT_all"))
    forgetting = [metric_values(entry, across) for entry in entries]
    places = _points(axis, entries, forgetting, up, has_bars=has_bars)
    _widen(axis.xaxis, [place.x for place in places], quantity.step)
    axis.set_xlabel(f"forgetting, {quantity.difference} (less is better)")
    axis.set_ylabel(f"FWT_all, {quantity.difference}")
    return places


def draw_cost(figure: Figure, entries: Sequence[Entry], *, metric: Metric, cost: str) -> None:
    """Draw a metric against a cost, mean and standard deviation over runs."""
    figure.set_size_inches(6.4, 4.8)
    axis = figure.subplots()
    places = draw_cost_points(axis, entries, metric=metric, cost=cost)
    _better(axis, "↖" if metric.better == "higher" else "↙")
    _title(figure, entries)
    name_points(figure, axis, places)


def draw_cost_points(
    axis: Axes, entries: Sequence[Entry], *, metric: Metric, cost: str, has_bars: bool = True
) -> list[Place]:
    """Draw a point for each entry at its cost and its score."""
    costs = []
    for entry in entries:
        found = [getattr(result.cost, cost) for result in entry.results.values()]
        costs.append(np.array([math.nan if value is None else float(value) for value in found]))
    places = _points(axis, entries, costs, metric, has_bars=has_bars)
    known = np.concatenate(costs)[~np.isnan(np.concatenate(costs))]
    if known.size and known.min() > 0 and known.max() / known.min() > 20:
        axis.set_xscale("log")
    elif known.size:
        from matplotlib.ticker import EngFormatter

        axis.set_xlim(left=0, right=max(1.0, 1.12 * known.max()))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.set_xlabel(COST_MEANINGS[cost] + (", seconds" if cost.endswith("seconds") else ""))
    unit = "nats" if metric.is_loss else "points" if metric.is_difference else "%"
    axis.set_ylabel(f"{metric.name}, {unit}")
    return places


def _better(axis: Axes, arrow: str) -> None:
    """Write which corner holds the better methods."""
    height, va = (0.985, "top") if arrow == "↖" else (0.02, "bottom")
    axis.annotate(f"better {arrow}", (0.01, height), xycoords="axes fraction", ha="left", va=va, color=GREY, fontsize=9)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A drawn point with its standard deviations, its label and its colour."""

    x: float
    y: float
    spread: tuple[float, float]
    label: str
    colour: str


def _points(
    axis: Axes, entries: Sequence[Entry], horizontal: Sequence[Any], metric: Metric, *, has_bars: bool
) -> list[Place]:
    """Draw a point for each entry, with error bars if asked for, and return the places of the points."""
    places = []
    for index, (entry, xs, shape) in enumerate(zip(entries, horizontal, looks_of(entries), strict=True)):
        ys = metric_values(entry, metric)
        x, y = (float(mean_over_runs(entry.results, values)) for values in (xs, ys))
        if math.isnan(x) or math.isnan(y):
            continue
        spread = (float(xs.std(ddof=1)), float(ys.std(ddof=1))) if len(xs) > 1 else (0.0, 0.0)
        bars: dict[str, Any] = {"capsize": 2.5, "elinewidth": 1.2, "linestyle": "none"}
        bars |= {"xerr": spread[0], "yerr": spread[1]} if has_bars else {}
        point: dict[str, Any] = {
            "marker": shape.marker,
            "markersize": 12 if shape.marker == "*" else 8,
            "markeredgecolor": "white",
            "markeredgewidth": 0.8,
        }
        drawn = axis.errorbar(x, y, color=shape.colour, label=entry.label, **bars, **point)
        drawn.lines[0].set(gid=f"entry{index}", label=entry.label)
        places.append(Place(x=x, y=y, spread=spread, label=entry.label, colour=shape.colour))
    if not places:
        raise MissingResult(f"{metric.name} is not defined for any of these methods")
    axis.margins(0.16)
    reach = [place.y + sign * place.spread[1] * has_bars for place in places for sign in (-1, 1)]
    _widen(axis.yaxis, reach, _quantity(metric).step)
    return places


def _widen(axis: YAxis | XAxis, values: Sequence[float], span: float) -> None:
    """Let an axis span at least `span`, so that a tiny difference does not look large."""
    if max(values) - min(values) < span:
        middle = (max(values) + min(values)) / 2
        axis.set_view_interval(middle - span / 2, middle + span / 2, ignore=True)


_SPOTS = [
    (radius * math.cos(angle), radius * math.sin(angle), radius)
    for radius, count in ((11, 8), (26, 12), (42, 16), (60, 20))
    for angle in (2 * math.pi * (step + 0.5) / count for step in range(count))
]
"""Candidate places of a label, nearest first: typographic points to the right, up, and distance."""

MAX_NAME = 24
"""Letters in a line of a label; a longer name is broken."""

DOT = 100 / 72
"""Pixels per typographic point at the resolution of the figure."""


def name_points(
    figure: Figure, axis: Axes, places: Sequence[Place], *, size: float = 9.5, has_halo: bool = True
) -> None:
    """Label the points, each at the candidate place with the least overlap; distant labels get a line to their point.

    Args:
        figure: the picture.
        axis: its axes.
        places: the points.
        size: of the letters, in typographic points.
        has_halo: draw a white edge around letters, as outlines; without it names stay text in an SVG.
    """
    from matplotlib.patheffects import withStroke

    figure.draw_without_rendering()  # pixel coordinates need a layout
    pixels = [axis.transData.transform([(p.x, p.y), (p.x + p.spread[0], p.y + p.spread[1])]) for p in places]
    taken = [box for centre, end in pixels for box in _obstacles(centre, end - centre)]
    window = axis.get_window_extent()
    for place, (centre, _) in zip(places, pixels, strict=True):
        lines = textwrap.wrap(place.label, MAX_NAME) or [place.label]
        extent = (0.8 * size * max(map(len, lines)) + 6, 1.7 * size * len(lines))
        boxes = [(spot, _box(centre, spot, extent)) for spot in _SPOTS]
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
            "\n".join(lines),
            (place.x, place.y),
            xytext=spot[:2],
            textcoords="offset points",
            ha="left" if spot[0] > 3 else "right" if spot[0] < -3 else "center",
            va="center",
            fontsize=size,
            arrowprops=line if spot[2] > 15 else None,
            path_effects=[withStroke(linewidth=2.5, foreground="white")] if has_halo else None,
        )


def _obstacles(centre: Any, spread: Any) -> list[tuple[float, float, float, float]]:
    """Return the boxes in pixels that a point and its error bars cover."""
    (x, y), (dx, dy) = centre, np.abs(spread)
    return [(x - 7, y - 7, x + 7, y + 7), (x - dx, y - 2, x + dx, y + 2), (x - 2, y - dy, x + 2, y + dy)]


def _box(
    pixel: Any, spot: tuple[float, float, float], extent: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Return the box in pixels of a label of this width and height at a candidate place."""
    width, height = extent
    x, y = pixel[0] + DOT * spot[0], pixel[1] + DOT * spot[1]
    left = x if spot[0] > 3 else x - width if spot[0] < -3 else x - width / 2
    return left, y - height / 2, left + width, y + height / 2


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
    text = wrapped(text, figure.get_size_inches()[0] - 0.2)
    figure.suptitle(text, x=0.01, ha="left", fontsize=9, color=GREY)
