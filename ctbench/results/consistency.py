"""Whether the numbers of a result agree with each other: a file whose matrix contradicts its own cells is no result."""

from __future__ import annotations

import math

from ctbench.errors import listing
from ctbench.results.schema import Result

MOST_NAMED = 6
"""Number of cells that a message names; the others are counted."""
TOLERANCE = 1e-9
"""Numbers that differ by less than this count as consistent."""


def contradiction(result: Result) -> str | None:
    """Return where the matrix is not the mean of its cells, or the metrics are not those of the matrix; None if nowhere."""
    domains = result.stream.domains
    scores: dict[tuple[int, str], list[float | None]] = {}
    for cell in result.cells:
        scores.setdefault((cell.row, cell.domain), []).append(cell.score)
    matrix = result.matrix.tolist()
    wrong = [
        f"row {row} {domain}"
        for (row, domain), values in scores.items()
        if (mean := _mean(values)) is not None and not abs(mean - matrix[row][domains.index(domain)]) <= TOLERANCE
    ]
    if wrong:
        return f"the matrix contradicts its own cells: {listing(wrong, most=MOST_NAMED)}"
    computed = result.computed_metrics
    wrong = [name for name, value in result.metrics.items() if name in computed and not _near(value, computed[name])]
    return f"the metrics contradict the matrix: {listing(wrong, most=MOST_NAMED)}" if wrong else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def _near(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else abs(one - other) <= TOLERANCE
