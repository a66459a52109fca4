"""The table of facts of the HTML page: one row per method."""

from __future__ import annotations

import math

from ctbench.reporting import numbers
from ctbench.reporting.columns import Column
from ctbench.reporting.entries import mean_over_runs
from ctbench.reporting.facts import GROUPS, PLACES, fact_means
from ctbench.reporting.leaderboard import Board, Row
from ctbench.reporting.tables import Cell

_MEANINGS = {
    "row 0": "of the untouched LM",
    "own row": "of each period after its own stage",
    "last row": "of all periods after the last stage",
}


def fact_columns(board: Board) -> list[Column]:
    """Return the columns of facts that some run of a leaderboard has; none without facts."""
    known = {key for row in board.rows for result in row.entry.results.values() for key in fact_means(result)}
    return [_column(place, group) for place in PLACES for group in GROUPS if (place, group) in known]


def _column(place: str, group: str) -> Column:
    words = "that are new" if group == "new" else f"whose class was {group}"
    return Column(
        label=f"{place}: {group} % ↑",
        meaning=f"accuracy on words {words}, {_MEANINGS[place]}; means over periods and runs",
        cell=lambda row: _cell(row, place, group),
        part="facts",
    )


def _cell(row: Row, place: str, group: str) -> Cell:
    runs = row.entry.results
    values = [fact_means(result).get((place, group), math.nan) for result in runs.values()]
    mean = float(mean_over_runs(runs, values))
    return Cell(text=numbers.percent(mean), value=mean)
