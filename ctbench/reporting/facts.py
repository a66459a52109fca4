"""What an LM knows of words that kept their class, changed it or are new: numbers and the table of a result with facts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from ctbench.reporting import numbers
from ctbench.reporting.tables import Table, text_rows
from ctbench.results.matrix import Array
from ctbench.results.schema import Result

GROUPS: Final = ("kept", "changed", "new")
"""What a fact may be in its period; cells of facts hold `accuracy_kept`, `accuracy_changed` and `accuracy_new`."""
PLACES: Final = ("row 0", "own row", "last row")
"""Where facts are averaged over periods: in the untouched LM, each period after its own stage, all after the last stage."""


def facts_of(result: Result) -> dict[str, Array]:
    """Return the accuracy [T+1, T] on the facts of each group, NaN where a period has none; empty without facts."""
    columns = {domain: column for column, domain in enumerate(result.stream.domains)}
    found: dict[str, Array] = {}
    for group in GROUPS:
        scores: dict[tuple[int, int], list[float]] = {}
        for cell in result.cells:
            value = cell.metrics.get(f"accuracy_{group}")
            if value is not None:
                scores.setdefault((cell.row, columns[cell.domain]), []).append(value)
        if scores:
            found[group] = np.full((result.num_tasks + 1, result.num_tasks), math.nan)
            for place, values in scores.items():
                found[group][place] = np.mean(values)
    return found


def facts_table(result: Result, rows: Sequence[str]) -> Table | None:
    """Return the table of a result's facts, in each cell one accuracy for each group; None without facts.

    Args:
        result: the run.
        rows: names of the T+1 rows.
    """
    facts = facts_of(result)
    if not facts:
        return None
    texts = [
        (name, *(" / ".join(numbers.percent(value) for value in cell) for cell in zip(*values, strict=True)))
        for name, *values in zip(rows, *(table.tolist() for table in facts.values()), strict=True)
    ]
    return Table(
        title=f"Facts known, %: words {' / '.join(facts)}",
        columns=("row", *result.stream.domains),
        rows=text_rows(texts),
        notes=("kept, changed: the word's class since the period before (of the first period: since general text)",),
    )


def fact_means(result: Result) -> Mapping[tuple[str, str], float]:
    """Return the mean accuracy on facts by place and group; a period without facts of a group is left out of its mean."""
    found = {}
    for group, table in facts_of(result).items():
        for place, values in zip(PLACES, (table[0], np.diag(table[1:]), table[-1]), strict=True):
            known = values[~np.isnan(values)]
            found[place, group] = float(known.mean()) if known.size else math.nan
    return found
