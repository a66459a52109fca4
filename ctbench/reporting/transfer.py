"""Transfer per domain: gains of a domain by its own stage, by earlier stages (forward) and by later ones (backward)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctbench.reporting import numbers
from ctbench.reporting.columns import PARTIAL_MARK
from ctbench.reporting.entries import Entry, RunId, mean_over_runs, order_notes
from ctbench.reporting.groups import Group
from ctbench.reporting.records import group_record
from ctbench.reporting.scores import Question
from ctbench.reporting.statistics.intervals import Interval, mean_interval
from ctbench.reporting.tables import Cell, Table
from ctbench.results.matrix import Array, is_joint
from ctbench.results.metrics import compute
from ctbench.results.schema import Result


def own(matrix: Array) -> Array:
    """Return the gain of each domain [T] at its own stage: R[j][j] - R[0][j]."""
    return np.asarray(np.diagonal(matrix[1:]) - matrix[0])


def forward(matrix: Array) -> Array:
    """Return the forward transfer of each domain [T], the mean over 1 <= i < j of R[i][j] - R[0][j]; NaN for the first."""
    num_tasks = matrix.shape[1]
    means = [float((matrix[1 : j + 1, j] - matrix[0, j]).mean()) if j else math.nan for j in range(num_tasks)]
    return np.array(means)


def backward(matrix: Array) -> Array:
    """Return the change of each domain [T] after its own stage: R[T][j] - R[j][j]; NaN for the last domain."""
    changes = np.asarray(matrix[-1] - np.diagonal(matrix[1:])).copy()
    changes[-1] = math.nan
    return changes


@dataclass(frozen=True, kw_only=True)
class TransferKind:
    """One kind of transfer: name, definitions for scores and LM losses, function of the matrix, metric in the last column."""

    name: str
    definition: str
    loss_definition: str
    function: Callable[[Array], Array]
    total: str | None


TRANSFER_KINDS = (
    TransferKind(
        name="own stage",
        definition="R[j][j] - R[0][j]",
        loss_definition="L[0][j] - L[j][j]",
        function=own,
        total=None,
    ),
    TransferKind(
        name="forward transfer",
        definition="mean over 1 ≤ i < j of R[i][j] - R[0][j]",
        loss_definition="mean over 1 ≤ i < j of L[0][j] - L[i][j]",
        function=forward,
        total="FWT_all",
    ),
    TransferKind(
        name="backward transfer",
        definition="R[T][j] - R[j][j]",
        loss_definition="L[j][j] - L[T][j]",
        function=backward,
        total="BWT",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One number of a transfer table: its mean over seeds, then over orders, and its interval over runs."""

    mean: float
    interval: Interval
    is_partial: bool = False
    """Whether runs without the number are left out."""


@dataclass(frozen=True, kw_only=True)
class TransferRow:
    """One entry of a transfer table: a change for each domain, and one for the whole."""

    entry: Entry
    domains: tuple[Change, ...]
    total: Change


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One kind of transfer in one group."""

    group: Group
    kind: TransferKind
    rows: tuple[TransferRow, ...]
    is_loss: bool = False
    """Whether the changes are falls of the LM loss in nats, not gains of the scores."""


def transfers(group: Group, question: Question) -> list[Transfer]:
    """Return the transfer tables of `group`; domains are in the stream's own order for runs of every order."""
    return [
        Transfer(
            group=group,
            kind=kind,
            rows=tuple(_row(entry, group, kind, question) for entry in group.entries),
            is_loss=question.is_loss,
        )
        for kind in TRANSFER_KINDS
    ]


def _row(entry: Entry, group: Group, kind: TransferKind, question: Question) -> TransferRow:
    values: dict[str, dict[RunId, float]] = {domain: {} for domain in group.domains}
    totals: dict[RunId, float] = {}
    partial_totals: dict[RunId, float] = {}
    for run, result in entry.results.items():
        # The first domain of a run has no forward transfer, the last one no backward transfer; neither counts as missing.
        matrix = _gains(result, question)
        is_defined = ~np.isnan(kind.function(np.zeros_like(matrix)))
        if is_joint(matrix) or not is_defined.any():
            continue
        changes = kind.function(matrix)
        for domain, change in zip(np.array(result.stream.domains)[is_defined], changes[is_defined], strict=True):
            values.setdefault(str(domain), {})[run] = float(change)
        totals[run] = _total(kind, matrix, partial=False)
        partial_totals[run] = _total(kind, matrix, partial=True)
    return TransferRow(
        entry=entry,
        domains=tuple(_change(values[domain], values[domain], question) for domain in group.domains),
        total=_change(totals, partial_totals, question),
    )


def _gains(result: Result, question: Question) -> Array:
    """Return the scores, or the negated LM losses, so that a positive change is better."""
    return -result.lm_loss if question.is_loss else result.matrix


def _total(kind: TransferKind, matrix: Array, *, partial: bool) -> float:
    if kind.total:
        return compute(kind.total, matrix, partial=partial)
    changes = kind.function(matrix)
    kept = changes[~np.isnan(changes)] if partial else changes
    return float(kept.mean()) if kept.size else math.nan


def _change(values: Mapping[RunId, float], partial_values: Mapping[RunId, float], question: Question) -> Change:
    """Return the mean over runs; if a run lacks the number, it is undefined unless `partial` is set."""
    is_missing = any(math.isnan(value) for value in values.values())
    usable = values if not is_missing else partial_values if question.partial else {}
    usable = {run: value for run, value in usable.items() if not math.isnan(value)}
    interval = mean_interval(list(usable.values()), confidence=question.confidence)
    mean = float(mean_over_runs(usable, usable.values()))
    return Change(mean=mean, interval=interval, is_partial=is_missing and interval.n > 0)


def transfer_table(transfer: Transfer) -> Table:
    """Return one kind of transfer as a table for people."""
    kind = transfer.kind
    rows = []
    for line in transfer.rows:
        n = len(line.entry.results)
        cells = [_cell(change, n, is_loss=transfer.is_loss) for change in (*line.domains, line.total)]
        rows.append((Cell(text=line.entry.label), Cell(text=str(n)), *cells))
    is_partial = any(change.is_partial for line in transfer.rows for change in (*line.domains, line.total))
    marked = (f"{PARTIAL_MARK} partial: mean over the runs that have all cells",) if is_partial else ()
    return Table(
        title=f"{kind.name}: {_definition(transfer)} · {transfer.group.title}",
        name=f"{transfer.group.results[0].stream.name}-{kind.name.replace(' ', '-')}",
        columns=("method", "n", *transfer.group.domains, kind.total or "mean"),
        rows=tuple(rows),
        notes=(
            f"{_unit(transfer)}, mean ± standard deviation over n runs; "
            f"{numbers.DASH}: not defined for this domain or plan, or a cell is missing",
            *marked,
            *order_notes(line.entry for line in transfer.rows),
        ),
    )


def _unit(transfer: Transfer) -> str:
    if transfer.is_loss:
        return "fall of the LM loss in nats (positive: lower loss); L[0] is the untouched LM"
    return "points; R[0] is the fine-tuned untouched LM"


def _definition(transfer: Transfer) -> str:
    """Return the definition of the changes; R is the matrix of scores, L that of LM losses."""
    return transfer.kind.loss_definition if transfer.is_loss else transfer.kind.definition


def _cell(change: Change, n: int, *, is_loss: bool) -> Cell:
    found = change.interval
    if not found.n:
        return Cell(text=numbers.DASH)
    spread = "" if math.isnan(found.deviation) else f" ± {numbers.amount(found.deviation, is_loss=is_loss)}"
    fewer = "" if found.n == n else f" (n = {found.n})"
    return Cell(
        text=(PARTIAL_MARK if change.is_partial else "")
        + numbers.amount(change.mean, is_loss=is_loss, signed=True)
        + spread
        + fewer
    )


def transfer_record(transfer: Transfer) -> dict[str, Any]:
    """Return one kind of transfer as JSON data: numbers in full precision, NaN as None."""
    return {
        **group_record(transfer.group.results[0]),
        "transfer": transfer.kind.name,
        "on": "loss" if transfer.is_loss else "score",
        "definition": _definition(transfer),
        "total": transfer.kind.total or "mean",
        "rows": [
            {
                "label": line.entry.label,
                "n": len(line.entry.results),
                "domains": {d: _record(i) for d, i in zip(transfer.group.domains, line.domains, strict=True)},
                "total": _record(line.total),
            }
            for line in transfer.rows
        ],
    }


def _record(change: Change) -> dict[str, Any]:
    found = change.interval
    limits = {"mean": change.mean, "deviation": found.deviation, "low": found.low, "high": found.high}
    limits_or_none = {name: None if math.isnan(value) else value for name, value in limits.items()}
    return {**limits_or_none, "n": found.n, "is_partial": change.is_partial}


def transfer_rows(found: list[Transfer]) -> list[list[object]]:
    """Return the rows of a CSV file, one number with its spread per row."""
    rows: list[list[object]] = [
        ["stream", "protocol", "transfer", "method", "domain", "mean", "deviation", "low", "high", "n", "partial"]
    ]
    for each in found:
        first = each.group.results[0]
        for line in each.rows:
            named = [*zip(each.group.domains, line.domains, strict=True), (each.kind.total or "mean", line.total)]
            for name, change in named:
                i = change.interval
                head = [first.stream.name, first.protocol, each.kind.name, line.entry.label, name]
                rows.append([*head, change.mean, i.deviation, i.low, i.high, i.n, change.is_partial])
    return rows
