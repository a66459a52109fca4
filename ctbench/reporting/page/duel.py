"""The data with which the script of the HTML page compares two methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from ctbench.reporting.entries import Entry
from ctbench.reporting.leaderboard import Board, Row
from ctbench.reporting.page.matrices import averaged_runs
from ctbench.reporting.scores import differences
from ctbench.reporting.statistics.intervals import mean_interval
from ctbench.reporting.summary import row_names
from ctbench.results.matrix import Array

MAX_PAIRED = 16
"""Maximum number of methods for which the page holds the intervals of all pairwise differences."""


def duel_data(board: Board, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the data for the comparison of two methods: matrices by run, and paired differences of all pairs."""
    runs = averaged_runs(entries)
    rows = [row_names(runs[entry.label][0]) for entry in entries]
    pairs = {}
    if len(board.rows) <= MAX_PAIRED:
        for (i, one), (j, other) in combinations(enumerate(board.rows), 2):
            pairs[f"{i}-{j}"] = [_pair(one, other, name, board.question.confidence) for name in board.question.metrics]
    return {
        "labels": [entry.label for entry in entries],
        "domains": [list(runs[entry.label][0].stream.domains) for entry in entries],
        "rows": rows,
        "matrices": [
            {f"{result.order}:{result.seed}": _plain(result.matrix) for result in runs[entry.label]}
            for entry in entries
        ],
        "metrics": list(board.question.metrics),
        "better": [board.question.metric(name).better for name in board.question.metrics],
        "pairs": pairs,
    }


def _plain(matrix: Array) -> list[list[float | None]]:
    return [[None if math.isnan(value) else round(value, 5) for value in row] for row in matrix.tolist()]


def _pair(one: Row, other: Row, metric: str, confidence: float) -> list[float | None]:
    """Return mean, limits and number of the paired differences of two rows."""
    found = mean_interval(differences(one.scores[metric], other.scores[metric]), confidence=confidence)
    return [None if math.isnan(value) else value for value in (found.mean, found.low, found.high)] + [found.n]
