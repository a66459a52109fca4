"""The matrices of the HTML page: a coloured table with an explanation of every cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ctbench.errors import MissingResult
from ctbench.reporting import numbers
from ctbench.reporting.entries import Entry
from ctbench.reporting.plots.heatmaps import order_of, same_order
from ctbench.reporting.plots.style import ink_on
from ctbench.reporting.summary import row_names
from ctbench.results.matrix import Array
from ctbench.results.schema import Result

_SHADES = ((244, 247, 251), (195, 216, 236), (127, 176, 216), (59, 127, 184), (18, 63, 115))
"""Colours from low to high scores (red, green, blue)."""


def matrices_of(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """Yield the mean matrix of each entry for the template, all on one scale of colours."""
    shown = averaged_runs(entries)
    means = {label: np.array([result.matrix for result in runs]) for label, runs in shown.items()}
    low = min(float(np.nanmin(each.mean(axis=0))) for each in means.values())
    high = max(float(np.nanmax(each.mean(axis=0))) for each in means.values())
    for entry in entries:
        matrices = means[entry.label]
        result = shown[entry.label][0]
        rows = []
        for row, name in enumerate(row_names(result)):
            cells = [_matrix_cell(result, matrices, row, column, (low, high)) for column in range(result.num_tasks)]
            rows.append({"name": name, "cells": cells})
        yield {
            "label": entry.label,
            "domains": result.stream.domains,
            "rows": rows,
            "n": len(matrices),
            "order": order_of(result, entries),
        }


def averaged_runs(entries: Sequence[Entry]) -> dict[str, list[Result]]:
    """Return the runs whose matrices are averaged: those of one order of domains that all entries share, if there is one."""
    try:
        return same_order(entries)
    except MissingResult:
        return {label: runs for entry in entries for label, runs in same_order([entry]).items()}


def _matrix_cell(result: Result, matrices: Array, row: int, column: int, limits: tuple[float, float]) -> dict[str, Any]:
    values = matrices[:, row, column]
    value, base, domain = float(values.mean()), float(matrices[:, 0, column].mean()), result.stream.domains[column]
    has_stages = len(result.plan.stages) == result.num_tasks
    kind = "" if row == 0 else "unseen" if row <= column else "own" if row == column + 1 and has_stages else "seen"
    if math.isnan(value):
        return {"text": numbers.DASH, "style": "", "kind": "missing", "tip": f"{domain}: the plan has no such cell"}
    shade = _shade((value - limits[0]) / ((limits[1] - limits[0]) or 1.0))
    place = f"after stage {row}" if row else "untouched LM"
    status = {"unseen": "not seen yet", "own": "just learned", "seen": "seen before"}.get(kind, "")
    spread = f" ± {numbers.percent(float(values.std(ddof=1)))}" if len(values) > 1 else ""
    change = f"; against row 0: {numbers.points(value - base)}" if row else ""
    tip = f"{domain}, {place}{f', {status}' if status else ''}: {numbers.percent(value)} %{spread} (n = {len(values)}){change}"
    background = "#" + "".join(f"{part:02x}" for part in shade)
    kind += " dark" if ink_on([part / 255 for part in shade]) == "white" else ""
    return {"text": numbers.percent(value), "style": f"background:{background}", "kind": kind.strip(), "tip": tip}


def _shade(place: float) -> tuple[int, ...]:
    position = min(max(place, 0.0), 1.0) * (len(_SHADES) - 1)
    index = min(int(position), len(_SHADES) - 2)
    share = position - index
    return tuple(round(a + (b - a) * share) for a, b in zip(_SHADES[index], _SHADES[index + 1], strict=True))
