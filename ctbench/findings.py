"""Sanity findings: what is odd about a result. Pure functions of it; a finding never changes a number.

`find` looks at one run, `find_across` at several. The checks themselves are in `ctbench.sanity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ctbench.sanity import CHECKS, listing, seed_numbers
from ctbench.schema import Finding, Result


def find(result: Result) -> tuple[Finding, ...]:
    """Return what is odd about one run, in the order of CHECKS.

    Example:
        >>> from ctbench.results import read_results
        >>> find(read_results("results").results[0])
        ()
    """
    return tuple(Finding(code=check.code, message=text) for check in CHECKS for text in check.look(result))


def known_findings(result: Result) -> tuple[Finding, ...]:
    """Return the findings stored in `result` and whatever today's checks add to them."""
    return tuple(dict.fromkeys((*result.findings, *find(result))))


def find_across(results: Sequence[Result]) -> tuple[Finding, ...]:
    """Return pairs of different methods whose scores agree bit for bit where they cannot.

    Row 0 is shared, and the first stage may be the same under several methods (a memory is still empty then). From row
    2 on, a whole row of equal scores from different LMs means that one method's settings had no effect, or that one
    method's LM was scored under the other's name.
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
        text = f"{one} and {other} have identical scores: {listing(places)}"
        found.append(Finding(code="identical-methods", message=text))
    return tuple(found)


def _row_signatures(result: Result) -> dict[int, bytes]:
    """Return every number scored in each row >= 2; not where a cell is missing, is the base's, or numbers are few."""
    numbers = seed_numbers(result)
    is_own = [all(isinstance(source, int) for source in cells) for cells in result.plan.cells]
    is_full = ~np.isnan(numbers).any(axis=(0, 2)) & (numbers.shape[0] * numbers.shape[2] >= 3)
    return {row: numbers[:, row].tobytes() for row in range(2, len(is_own)) if is_own[row] and is_full[row]}


def _are_different_methods(one: Result, other: Result) -> bool:
    return _identity(one) != _identity(other)


def _identity(result: Result) -> tuple[object, ...]:
    method = result.method
    return method.name, method.version, method.digest, repr(sorted(method.settings.items()))


def _shares_sources(one: Result, other: Result, row: int) -> bool:
    """Tell whether the cells of `row` fine-tuned the very same computed LMs in both runs."""
    keys = [{cell.source for cell in result.cells if cell.row == row} for result in (one, other)]
    return bool(keys[0]) and keys[0] == keys[1]


def _title(result: Result) -> str:
    prefix = "method."
    changed = [f"{key.removeprefix(prefix)}={value}" for key, value in result.changed.items() if key.startswith(prefix)]
    return result.method.name + (f" ({', '.join(changed)})" if changed else "")
