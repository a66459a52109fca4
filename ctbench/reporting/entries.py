"""The rows of a table: a method with its settings, and its runs.

Runs are numbered (order, seed), or (value, run) in a table over the values of a key; runs of two entries with one number
are a pair.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctbench.reporting.labels import labels_of
from ctbench.results.schema import Result

RunId = tuple[int, int]
"""(order, seed), so that runs sort by order first."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of a table: a method with its settings, and its runs.

    Args:
        label: name of the method, followed by settings, version or digest if another entry has the same name.
        results: the runs by (order, seed).
        value: in a table across a key, the runs' value of it.
        levels: in a table over the values of a key, these values; the runs are then numbered (value, run) and not
            (order, seed). A run has the same number under every value and in every row.
    """

    label: str
    results: Mapping[RunId, Result]
    value: str = ""
    levels: tuple[str, ...] = ()

    @property
    def first(self) -> Result:
        """The first run, to read fields that all runs share."""
        return next(iter(self.results.values()))

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.first.method.name

    def place(self, run: RunId) -> str:
        """Return what names a run of this entry: seed, order, and the value of the key of a table over its values."""
        result = self.results[run]
        order = f" order {result.order}" if result.order else ""
        return (f"{self.levels[run[0]]} " if self.levels else "") + f"seed {result.seed}{order}"

    def units(self, values: Mapping[RunId, float]) -> dict[RunId, float]:
        """Return the units of intervals and tests: the runs, or the mean over the runs of each value of a key."""
        return means_of_levels(values) if self.levels else dict(values)


def means_of_levels(values: Mapping[RunId, float]) -> dict[RunId, float]:
    """Return the mean over the runs of each value of a key, of numbers by (value, run).

    Examples:
        >>> means_of_levels({(0, 0): 1.0, (0, 1): 3.0, (1, 1): 5.0})
        {(0, 0): 2.0, (1, 0): 5.0}
    """
    by_level: dict[int, list[float]] = {}
    for (level, _), value in values.items():
        by_level.setdefault(level, []).append(value)
    return {(level, 0): float(np.mean(each)) for level, each in by_level.items()}


def mean_over_runs(runs: Iterable[RunId], values: Iterable[Any]) -> Any:
    """Return the mean over seeds, then over orders, of one number or array per run; NaN without runs.

    Examples:
        >>> float(mean_over_runs([(0, 0), (0, 1), (3, 0)], [1.0, 3.0, 6.0]))
        4.0
    """
    by_order: dict[int, list[Any]] = {}
    for (order, _), value in zip(runs, values, strict=True):
        by_order.setdefault(order, []).append(value)
    return np.mean([np.mean(each, axis=0) for each in by_order.values()], axis=0) if by_order else np.nan


def order_notes(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield notes on the means of runs with several orders of the domains."""
    runs = [list(entry.results) for entry in entries]
    if len({order for each in runs for order, _ in each}) > 1:
        yield "several orders of the domains: means over seeds first, then over orders"
        if any(len(set(Counter(order for order, _ in each).values())) > 1 for each in runs):
            yield "orders with unequal numbers of seeds: deviations and intervals give every run the same weight"


def entries_of(members: Iterable[Result]) -> tuple[list[Entry], list[str]]:
    """Return the entries of some runs, sorted by label, and a note for each run that has several different results."""
    runs: dict[str, dict[RunId, Result]] = {}
    notes: list[str] = []
    for result in sorted(members, key=lambda result: (result.provenance.date, str(result.path)), reverse=True):
        mine = runs.setdefault(entry_key(result), {})
        run = (result.order, result.seed)
        if run not in mine:
            mine[run] = result
        elif not np.array_equal(result.matrix, mine[run].matrix, equal_nan=True):
            notes.append(
                f"{result.method.name}, seed {result.seed}, order {result.order}: several results with different "
                f"numbers; the table shows the newest, {mine[run].key[:12]}"
            )
    groups = [dict(sorted(each.items())) for each in runs.values()]
    labels = labels_of([next(iter(each.values())) for each in groups])
    entries = [Entry(label=label, results=each) for label, each in zip(labels, groups, strict=True)]
    return sorted(entries, key=lambda entry: entry.label), sorted(set(notes))


def entry_key(result: Result) -> str:
    """Return what the runs of one entry share: the method, its settings, version and digest."""
    method = result.method
    return json.dumps([method.name, method.version, method.digest, method.registered, method.settings], sort_keys=True)
