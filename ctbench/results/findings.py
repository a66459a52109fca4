"""Findings: anomalies of results. They are pure functions of results, and never change a number.

`find` reads one run, `find_across` several. The checks are in `ctbench.results.checks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ctbench.errors import listing
from ctbench.results.cells import untuned
from ctbench.results.checks import CHECKS, seed_numbers
from ctbench.results.consistency import MOST_NAMED
from ctbench.results.schema import Finding, Result


def find(result: Result) -> tuple[Finding, ...]:
    """Return the findings of one run, in the order of CHECKS.

    Examples:
        >>> from ctbench.results.files import read_results
        >>> find(read_results("results").results[0])
        ()
    """
    return tuple(Finding(code=check.code, message=text) for check in CHECKS for text in check.look(result))


def known_findings(result: Result) -> tuple[Finding, ...]:
    """Return the stored findings of `result` that no check makes, such as notes, and those of the current checks.

    Stored findings of a check are left out, as their words may be those of an older version.
    """
    codes = {check.code for check in CHECKS}
    stored = (finding for finding in result.findings if finding.code not in codes)
    return tuple(dict.fromkeys((*stored, *find(result))))


def find_across(results: Sequence[Result]) -> tuple[Finding, ...]:
    """Return pairs of different methods with scores that are equal bit for bit although their LMs differ.

    Row 0 is shared, and the first stage may be the same for several methods (with a memory that is still empty). From row
    2 on, a whole row of equal scores from different LMs means that the settings of a method had no effect, or that the LM
    of one method was scored under the name of the other.
    """
    found = []
    rows: dict[object, list[tuple[Result, int]]] = {}
    for result in results:
        for row, signature in _row_signatures(result).items():
            rows.setdefault((result.protocol, result.seed, result.order, row, signature), []).append((result, row))
    pairs: dict[tuple[str, str], dict[str, list[str]]] = {}
    for group in rows.values():
        for (first, row), (second, _) in combinations(group, 2):
            if _are_different_methods(first, second) and not _shares_sources(first, second, row):
                run = f"seed {first.seed}" + (f" order {first.order}" if first.order else "")
                pairs.setdefault((_title(first), _title(second)), {}).setdefault(run, []).append(str(row))
    for (one, other), runs in pairs.items():
        places = [f"{run} (rows {', '.join(numbers)})" for run, numbers in runs.items()]
        text = f"{one} and {other} have identical scores: {listing(places, most=MOST_NAMED)}"
        found.append(Finding(code="identical-methods", message=text))
    return tuple(found)


def _row_signatures(result: Result) -> dict[int, bytes]:
    """Return the scores of each row >= 2, except rows with a missing cell, a cell of the base, or fewer than 3 cells."""
    numbers = seed_numbers(result)
    is_own = [all(cells) for cells in result.plan.cells]  # neither the untouched LM (0) nor missing (None)
    alone = untuned(result)
    num_cells = sum(1 if domain in alone else len(numbers) for domain in result.stream.domains)
    if num_cells < 3:
        return {}
    is_full = np.asarray(~np.isnan(numbers).any(axis=(0, 2)))
    return {row: numbers[:, row].tobytes() for row in range(2, len(is_own)) if is_own[row] and is_full[row]}


def _are_different_methods(one: Result, other: Result) -> bool:
    return _identity(one) != _identity(other)


def _identity(result: Result) -> tuple[object, ...]:
    method = result.method
    return method.name, method.version, method.digest, repr(sorted(method.settings.items()))


def _shares_sources(one: Result, other: Result, row: int) -> bool:
    """Return whether the cells of `row` fine-tuned the same LMs in both runs."""
    keys = [{cell.source for cell in result.cells if cell.row == row} for result in (one, other)]
    return bool(keys[0]) and keys[0] == keys[1]


def _title(result: Result) -> str:
    prefix = "method."
    changed = [f"{key.removeprefix(prefix)}={value}" for key, value in result.changed.items() if key.startswith(prefix)]
    return result.method.name + (f" ({', '.join(changed)})" if changed else "")
