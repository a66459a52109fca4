"""Transfer per domain: what a domain gains by its own stage, before it (forward) and after it (backward)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctbench.metrics import Array, compute, is_joint
from ctbench.report import numbers
from ctbench.report.groups import Entry, Group, Run, mean_over_runs, order_notes
from ctbench.report.leaderboard import Question
from ctbench.report.tables import Cell, Table
from ctbench.report.views import PARTIAL_MARK, group_record
from ctbench.statistics import Interval, mean_interval


def own(matrix: Array) -> Array:
    """Return per domain [T] what its own stage has brought: R[j][j] - R[0][j]."""
    return np.asarray(np.diagonal(matrix[1:]) - matrix[0])


def forward(matrix: Array) -> Array:
    """Return per domain [T] the mean over 1 <= i < j of R[i][j] - R[0][j]; NaN for the first domain."""
    num_tasks = matrix.shape[1]
    means = [float((matrix[1 : j + 1, j] - matrix[0, j]).mean()) if j else math.nan for j in range(num_tasks)]
    return np.array(means)


def backward(matrix: Array) -> Array:
    """Return per domain [T] what the stages after its own have changed: R[T][j] - R[j][j]; NaN for the last domain."""
    changes = np.asarray(matrix[-1] - np.diagonal(matrix[1:])).copy()
    changes[-1] = math.nan
    return changes


@dataclass(frozen=True, kw_only=True)
class Block:
    """One kind of transfer: its name, its definition, the function of the matrix, and the metric in its last column."""

    name: str
    definition: str
    function: Callable[[Array], Array]
    total: str | None


BLOCKS = (
    Block(name="own stage", definition="R[j][j] - R[0][j]", function=own, total=None),
    Block(
        name="forward transfer",
        definition="mean over 1 ≤ i < j of R[i][j] - R[0][j]",
        function=forward,
        total="FWT_all",
    ),
    Block(name="backward transfer", definition="R[T][j] - R[j][j]", function=backward, total="BWT"),
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One number of a transfer table: its mean over seeds, then over orders, and its interval over runs."""

    mean: float
    interval: Interval
    is_partial: bool = False
    """Whether runs without the number were left out."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One entry of a transfer table: a change for each domain, and one for the whole."""

    entry: Entry
    domains: tuple[Change, ...]
    total: Change


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One kind of transfer in one group."""

    group: Group
    block: Block
    lines: tuple[Line, ...]


def transfers(group: Group, question: Question) -> list[Transfer]:
    """Return the transfer tables of `group`, domains in the stream's own order whatever the order of a run."""
    return [
        Transfer(group=group, block=block, lines=tuple(_line(entry, group, block, question) for entry in group.entries))
        for block in BLOCKS
    ]


def _line(entry: Entry, group: Group, block: Block, question: Question) -> Line:
    values: dict[str, dict[Run, float]] = {domain: {} for domain in group.domains}
    totals: dict[Run, float] = {}
    partial_totals: dict[Run, float] = {}
    for run, result in entry.results.items():
        # The first domain of a run has no forward transfer, the last one no backward transfer: nothing is missing there.
        is_defined = ~np.isnan(block.function(np.zeros_like(result.matrix)))
        if is_joint(result.matrix) or not is_defined.any():
            continue
        changes = block.function(result.matrix)
        for domain, change in zip(np.array(result.stream.domains)[is_defined], changes[is_defined], strict=True):
            values.setdefault(str(domain), {})[run] = float(change)
        totals[run] = _total(block, result.matrix, partial=False)
        partial_totals[run] = _total(block, result.matrix, partial=True)
    return Line(
        entry=entry,
        domains=tuple(_change(values[domain], values[domain], question) for domain in group.domains),
        total=_change(totals, partial_totals, question),
    )


def _total(block: Block, matrix: Array, *, partial: bool) -> float:
    if block.total:
        return compute(block.total, matrix, partial=partial)
    changes = block.function(matrix)
    kept = changes[~np.isnan(changes)] if partial else changes
    return float(kept.mean()) if kept.size else math.nan


def _change(values: Mapping[Run, float], partial_values: Mapping[Run, float], question: Question) -> Change:
    """Return the mean over runs; where a run lacks the number it is refused, unless partial means are asked for."""
    is_missing = any(math.isnan(value) for value in values.values())
    usable = values if not is_missing else partial_values if question.partial else {}
    usable = {run: value for run, value in usable.items() if not math.isnan(value)}
    interval = mean_interval(list(usable.values()), confidence=question.confidence)
    mean = float(mean_over_runs(usable, usable.values()))
    return Change(mean=mean, interval=interval, is_partial=is_missing and interval.n > 0)


def transfer_table(transfer: Transfer) -> Table:
    """Return one kind of transfer as a table for people."""
    block = transfer.block
    rows = []
    for line in transfer.lines:
        n = len(line.entry.results)
        cells = [_cell(change, n) for change in (*line.domains, line.total)]
        rows.append((Cell(text=line.entry.label), Cell(text=str(n)), *cells))
    is_partial = any(change.is_partial for line in transfer.lines for change in (*line.domains, line.total))
    marked = (f"{PARTIAL_MARK} partial: a mean over those runs that have all cells",) if is_partial else ()
    return Table(
        title=f"{block.name}: {block.definition} · {transfer.group.title}",
        columns=("method", "n", *transfer.group.domains, block.total or "mean"),
        rows=tuple(rows),
        notes=(
            "points, mean ± standard deviation over n runs; R[0] is the fine-tuned untouched LM; "
            f"{numbers.DASH}: not defined for this domain or plan, or refused because a cell is missing",
            *marked,
            *order_notes(line.entry for line in transfer.lines),
        ),
    )


def _cell(change: Change, n: int) -> Cell:
    found = change.interval
    if not found.n:
        return Cell(text=numbers.DASH)
    spread = "" if math.isnan(found.deviation) else f" ± {numbers.percent(found.deviation)}"
    fewer = "" if found.n == n else f" (n = {found.n})"
    return Cell(text=(PARTIAL_MARK if change.is_partial else "") + numbers.points(change.mean) + spread + fewer)


def transfer_record(transfer: Transfer) -> dict[str, Any]:
    """Return one kind of transfer as plain JSON data in full precision, NaN as None."""
    return {
        **group_record(transfer.group.results[0]),
        "transfer": transfer.block.name,
        "definition": transfer.block.definition,
        "total": transfer.block.total or "mean",
        "rows": [
            {
                "label": line.entry.label,
                "n": len(line.entry.results),
                "domains": {d: _record(i) for d, i in zip(transfer.group.domains, line.domains, strict=True)},
                "total": _record(line.total),
            }
            for line in transfer.lines
        ],
    }


def _record(change: Change) -> dict[str, Any]:
    found = change.interval
    limits = {"mean": change.mean, "deviation": found.deviation, "low": found.low, "high": found.high}
    limits_or_none = {name: None if math.isnan(value) else value for name, value in limits.items()}
    return {**limits_or_none, "n": found.n, "is_partial": change.is_partial}


def transfer_rows(found: list[Transfer]) -> list[list[object]]:
    """Return the rows of a CSV file, one number with its spread a row."""
    rows: list[list[object]] = [
        ["stream", "protocol", "transfer", "method", "domain", "mean", "deviation", "low", "high", "n", "partial"]
    ]
    for each in found:
        first = each.group.results[0]
        for line in each.lines:
            named = [*zip(each.group.domains, line.domains, strict=True), (each.block.total or "mean", line.total)]
            for name, change in named:
                i = change.interval
                head = [first.stream.name, first.protocol, each.block.name, line.entry.label, name]
                rows.append([*head, change.mean, i.deviation, i.low, i.high, i.n, change.is_partial])
    return rows
