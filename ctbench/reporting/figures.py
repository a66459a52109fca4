"""Figures beside the scores on a leaderboard: means over runs of what `ctbench.results.figures` reads off a result."""

from __future__ import annotations

import math

import numpy as np

from ctbench.reporting.entries import Entry, mean_over_runs
from ctbench.reporting.groups import Group
from ctbench.reporting.numbers import DASH
from ctbench.results.figures import FIGURES
from ctbench.results.joint import joint_of


def figure_values(entry: Entry, name: str, group: Group) -> list[float]:
    """Return a figure of every run of an entry; NaN where undefined."""
    return [FIGURES[name].function(result, joint_of(result, group.joints)) for result in entry.results.values()]


def figures_of(entry: Entry, group: Group) -> dict[str, float]:
    """Return every figure of an entry, mean over seeds and then over orders; NaN if a run lacks it."""
    return {name: float(mean_over_runs(entry.results, figure_values(entry, name, group))) for name in FIGURES}


def shown_figures(group: Group) -> tuple[str, ...]:
    """Return the names of the figures that some entry has."""
    found = [figures_of(entry, group) for entry in group.entries]
    return tuple(name for name in FIGURES if any(not math.isnan(each[name]) for each in found))


def figure_text(entry: Entry, name: str, group: Group) -> str:
    """Return a figure with its standard deviation over runs (or values of a key), or a dash; shares in points or percent."""
    figure, each = FIGURES[name], figure_values(entry, name, group)
    units = entry.units(dict(zip(entry.results, each, strict=True)))
    values = np.array(list(units.values()))
    digits, scale = (1, 100) if figure.unit in ("points", "%") else (3, 1)
    mean = scale * float(mean_over_runs(units, values))
    if math.isnan(mean):
        return DASH
    sign = "+" if figure.is_difference and round(mean, digits) > 0 else ""
    spread = f" ± {scale * values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{sign}{mean:.{digits}f}{spread}"
