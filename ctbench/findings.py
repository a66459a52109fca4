"""Sanity findings: what is odd about a result. Pure functions of it; a finding never changes a number.

`find` looks at one run, `find_across` at several. The checks themselves are in `ctbench.sanity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from ctbench.sanity import CHECKS, cell_signatures, listing
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
        for row in range(2, result.num_tasks + 1):
            signature = _row_signature(result, row)
            if signature is not None:
                rows.setdefault((result.protocol, result.seed, result.order, row, signature), []).append((result, row))
    pairs: dict[tuple[str, str], list[str]] = {}
    for group in rows.values():
        for (first, row), (second, _) in combinations(group, 2):
            if _are_different_methods(first, second) and not _shares_sources(first, second, row):
                place = f"seed {first.seed}, order {first.order}, row {row}"
                pairs.setdefault((_title(first), _title(second)), []).append(place)
    for (one, other), places in pairs.items():
        text = f"{one} and {other} have identical scores in every cell of {listing(places)}"
        found.append(Finding(code="identical-methods", message=text))
    return tuple(found)


def _row_signature(result: Result, row: int) -> tuple[float, ...] | None:
    """Return every number scored in `row`; None where a cell is missing, is the base's, or the numbers are too few."""
    if any(not isinstance(source, int) for source in result.plan.cells[row]):
        return None
    signatures = cell_signatures(result)
    scores = result.matrix[row].tolist()
    if any(score != score for score in scores):
        return None
    numbers = [value for column, score in enumerate(scores) for value in signatures.get((row, column), (score,))]
    return tuple(numbers) if len(numbers) >= 3 else None


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
