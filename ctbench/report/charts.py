"""Small SVG charts for the report page: drawn in milliseconds, with a title on every point, in the house colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

from ctbench.metrics import METRICS
from ctbench.report import numbers
from ctbench.report.curves import PANELS, stage_means
from ctbench.report.groups import Entry, mean_over_runs
from ctbench.report.scatters import COST_LABELS, metric_values
from ctbench.report.style import look

WIDTH, HEIGHT = 340, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 40


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A linear map from data to pixels, with round ticks."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of `value`."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Return at most `most` round values within the scale."""
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / most))
        step = next(m * power for m in (1, 2, 5, 10, 20) if span / (m * power) <= most)
        first = math.ceil(self.low / step - 1e-9)
        return [(first + index) * step for index in range(int((self.high - first * step) / step + 1e-9) + 1)]


def scale(values: Sequence[float], start: float, end: float, *, least: float = 0.0) -> Scale:
    """Return a scale that holds all finite values with some room around them, and spans `least` or more."""
    known = [value for value in values if not math.isnan(value)] or [0.0]
    span = max(known) - min(known)
    room = max(0.08 * span, (least - span) / 2) or max(abs(known[0]) * 0.1, 0.5)
    return Scale(low=min(known) - room, high=max(known) + room, start=start, end=end)


def anytime_charts(entries: Sequence[Entry]) -> list[str]:
    """Return one SVG for each panel: mean score over seen, unseen and all domains after each stage."""
    means = [
        mean_over_runs(entry.results, [stage_means(result.matrix) for result in entry.results.values()]) * 100
        for entry in entries
    ]
    vertical = scale([float(v) for mean in means for v in mean.ravel()], HEIGHT - BOTTOM, TOP)
    num_tasks = entries[0].first.num_tasks
    horizontal = Scale(low=-0.2, high=num_tasks + 0.2, start=LEFT, end=WIDTH - RIGHT)
    charts = []
    for panel, name in enumerate(PANELS):
        parts = _frame(name, "after stage", vertical, f"mean score over {name}, in percent, after each stage")
        parts += [_tick(horizontal(row), "base" if row == 0 else str(row)) for row in range(num_tasks + 1)]
        for index, (entry, mean) in enumerate(zip(entries, means, strict=True)):
            points = [(row, float(y)) for row, y in enumerate(mean[panel]) if not math.isnan(y)]
            for (row, y), (after, next_y) in pairwise(points):
                ends = f"{horizontal(row):.1f},{vertical(y):.1f} {horizontal(after):.1f},{vertical(next_y):.1f}"
                if after == row + 1:
                    parts.append(f'<polyline points="{ends}" fill="none" stroke="{look(index).colour}"{_dash(index)}/>')
            for row, y in points:
                when = f"after stage {row}" if row else "untouched LM"
                tip = f"{entry.label}, {name}, {when}: {y:.1f} %"
                parts.append(_marker(index, horizontal(row), vertical(y), tip))
        charts.append(_close(parts))
    return charts


def scatter_charts(entries: Sequence[Entry], metric: str) -> list[str]:
    """Return two SVGs: forgetting against FWT_all, and a metric against forward tokens."""
    costs = [np.array([float(result.cost.forward_tokens) for result in entry.results.values()]) for entry in entries]
    unit = "points" if METRICS[metric].is_difference else "%"
    better = "up" if METRICS[metric].better == "higher" else "down"
    forgetting = [metric_values(entry, "forgetting") for entry in entries]
    return [
        _scatter(entries, forgetting, "FWT_all", "forgetting, points", "FWT_all, points (better: up, left)", False),
        _scatter(
            entries, costs, metric, COST_LABELS["forward_tokens"], f"{metric}, {unit} (better: {better}, left)", True
        ),
    ]


def _scatter(
    entries: Sequence[Entry], xs: Sequence[np.ndarray], metric: str, label: str, title: str, is_count: bool
) -> str:
    ys = [float(mean_over_runs(entry.results, metric_values(entry, metric))) for entry in entries]
    means = [float(mean_over_runs(entry.results, values)) for entry, values in zip(entries, xs, strict=True)]
    show = numbers.count if is_count else (lambda value: f"{value:g}")
    horizontal = scale([*means, *([0.0] if is_count else [])], LEFT, WIDTH - RIGHT, least=0.0 if is_count else 2.0)
    vertical = scale(ys, HEIGHT - BOTTOM, TOP, least=2.0)  # points: a hair's breadth must not look like a gulf
    parts = _frame(title, label, vertical, f"{title} against {label}, one point for each method")
    parts += [_tick(horizontal(tick), show(tick)) for tick in horizontal.ticks(5)]
    for index, (entry, x, y) in enumerate(zip(entries, means, ys, strict=True)):
        if not (math.isnan(x) or math.isnan(y)):
            tip = f"{entry.label}: {metric} {y:.1f}, {label} {numbers.count(x) if is_count else f'{x:.1f}'}"
            parts.append(_marker(index, horizontal(x), vertical(y), tip))
    return _close(parts)


def swatch(index: int) -> str:
    """Return a small SVG of the line and marker of an entry, for the legend."""
    line = f'<line x1="1" x2="33" y1="7" y2="7" stroke="{look(index).colour}"{_dash(index)}/>'
    size = 'viewBox="0 0 34 14" width="34" height="14"'
    return f'<svg class="swatch" {size} aria-hidden="true">{line}{_marker(index, 17, 7)}</svg>'


def _frame(title: str, below: str, vertical: Scale, description: str) -> list[str]:
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">',
        f'<text class="title" x="{LEFT}" y="15">{escape(title)}</text>',
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(below)}</text>',
    ]
    for tick in vertical.ticks():
        y = vertical(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{tick:g}</text>')
    return parts


def _tick(x: float, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{escape(text)}</text>'


def _dash(index: int) -> str:
    dash = look(index).dash
    if isinstance(dash, str):
        return ""
    return f' stroke-dasharray="{",".join(f"{2 * length:g}" for length in dash[1])}"'


def _close(parts: list[str]) -> str:
    return "".join([*parts, "</svg>"])


_SHAPES = {
    "o": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z",
    "s": "M-3.6,-3.6H3.6V3.6H-3.6Z",
    "^": "M0,-4.6L4.4,3.4H-4.4Z",
    "D": "M0,-5L5,0L0,5L-5,0Z",
    "v": "M0,4.6L4.4,-3.4H-4.4Z",
    "P": "M-1.6,-4.6H1.6V-1.6H4.6V1.6H1.6V4.6H-1.6V1.6H-4.6V-1.6H-1.6Z",
    "X": "M-4.4,-2.4L-2.4,-4.4L0,-2L2.4,-4.4L4.4,-2.4L2,0L4.4,2.4L2.4,4.4L0,2L-2.4,4.4L-4.4,2.4L-2,0Z",
    "*": "M0,-5.4L1.5,-1.7L5.2,-1.7L2.3,0.8L3.3,4.6L0,2.4L-3.3,4.6L-2.3,0.8L-5.2,-1.7L-1.5,-1.7Z",
    "<": "M-4.6,0L3.4,-4.4V4.4Z",
    ">": "M4.6,0L-3.4,-4.4V4.4Z",
    "p": "M0,-4.8L4.6,-1.5L2.8,3.9H-2.8L-4.6,-1.5Z",
}


def _marker(index: int, x: float, y: float, tip: str = "") -> str:
    """Return the marker of an entry, which says `tip` when it is pointed at."""
    shape = look(index)
    title = f"<title>{escape(tip)}</title>" if tip else ""
    place = f'transform="translate({x:.1f},{y:.1f})"'
    return f'<path class="point" d="{_SHAPES[shape.marker]}" {place} fill="{shape.colour}">{title}</path>'
