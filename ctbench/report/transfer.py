"""Transfer per domain: what a domain gains by its own stage, before it (forward) and after it (backward)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctbench.metrics import Array, compute, is_joint
from ctbench.report import numbers
from ctbench.report.groups import Entry, Group
from ctbench.report.leaderboard import Question
from ctbench.report.tables import Cell, Table
from ctbench.report.views import group_record
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
class Transfer:
    """One kind of transfer in one group: per entry an interval for each domain, and one for the whole."""

    group: Group
    block: Block
    rows: tuple[tuple[str, tuple[Interval, ...], Interval], ...]


def transfers(group: Group, question: Question) -> list[Transfer]:
    """Return the transfer tables of `group`, domains in the stream's own order whatever the order of a run."""
    found = []
    for block in BLOCKS:
        rows = tuple((entry.label, *_intervals(entry, group, block, question)) for entry in group.entries)
        found.append(Transfer(group=group, block=block, rows=rows))
    return found


def _intervals(entry: Entry, group: Group, block: Block, question: Question) -> tuple[tuple[Interval, ...], Interval]:
    values: dict[str, list[float]] = {domain: [] for domain in group.domains}
    totals = []
    for result in entry.results.values():
        is_undefined = is_joint(result.matrix)
        each = np.full(result.num_tasks, math.nan) if is_undefined else block.function(result.matrix)
        for domain, value in zip(result.stream.domains, each.tolist(), strict=True):
            values.setdefault(domain, []).append(value)
        totals.append(compute(block.total, result.matrix) if block.total else float(each.mean()))
    domains = tuple(mean_interval(values[domain], confidence=question.confidence) for domain in group.domains)
    return domains, mean_interval(totals, confidence=question.confidence)


def transfer_table(transfer: Transfer) -> Table:
    """Return one kind of transfer as a table for people."""
    block = transfer.block
    rows = [
        (Cell(text=label), *(_cell(found) for found in (*domains, total))) for label, domains, total in transfer.rows
    ]
    return Table(
        title=f"{block.name}: {block.definition} · {transfer.group.title}",
        columns=("method", *transfer.group.domains, block.total or "mean"),
        rows=tuple(rows),
        notes=(
            "points, mean ± standard deviation over runs; R[0] is the fine-tuned untouched LM; "
            f"{numbers.DASH}: not defined for this domain or plan",
        ),
    )


def _cell(found: Interval) -> Cell:
    spread = "" if math.isnan(found.deviation) else f" ± {numbers.percent(found.deviation)}"
    return Cell(text=numbers.points(found.mean) + spread if found.n else numbers.DASH)


def transfer_record(transfer: Transfer) -> dict[str, Any]:
    """Return one kind of transfer as plain JSON data in full precision, NaN as None."""
    return {
        **group_record(transfer.group.results[0]),
        "transfer": transfer.block.name,
        "definition": transfer.block.definition,
        "total": transfer.block.total or "mean",
        "rows": [
            {
                "label": label,
                "domains": {d: _record(i) for d, i in zip(transfer.group.domains, domains, strict=True)},
                "total": _record(total),
            }
            for label, domains, total in transfer.rows
        ],
    }


def _record(found: Interval) -> dict[str, Any]:
    limits = {"mean": found.mean, "deviation": found.deviation, "low": found.low, "high": found.high}
    return {name: None if math.isnan(value) else value for name, value in limits.items()} | {"n": found.n}


def transfer_rows(found: list[Transfer]) -> list[list[object]]:
    """Return the rows of a CSV file, one number with its spread a row."""
    rows: list[list[object]] = [
        ["stream", "protocol", "transfer", "method", "domain", "mean", "deviation", "low", "high", "n"]
    ]
    for each in found:
        first = each.group.results[0]
        for label, domains, total in each.rows:
            named = [*zip(each.group.domains, domains, strict=True), (each.block.total or "mean", total)]
            for name, i in named:
                head = [first.stream.name, first.protocol, each.block.name, label, name]
                rows.append([*head, i.mean, i.deviation, i.low, i.high, i.n])
    return rows
