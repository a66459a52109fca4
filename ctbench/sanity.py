"""The checks behind `ctbench.findings`: each looks at one result and yields a message for whatever is odd.

What a check calls equal is equal bit for bit, and coincidences are kept out by asking for agreement in more numbers
than chance would give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from statistics import fmean, median

from ctbench.metrics import all_metrics
from ctbench.schema import BASE, CellRecord, Result, StageRecord

Signatures = dict[tuple[int, int], tuple[float, ...]]
"""By (row, column): every number scored in a cell."""

MIN_ODD_SEED = 0.05
"""A fine-tuning seed nearer to its siblings than this many score units is never called odd."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One kind of oddity: its code, what it means, and the function that yields a message for each one found."""

    code: str
    meaning: str
    look: Callable[[Result], Iterable[str]]


def _constant_columns(result: Result) -> Iterator[str]:
    spans: dict[tuple[int, ...], list[str]] = {}
    matrix, signatures = result.matrix.tolist(), cell_signatures(result)
    for column, domain in enumerate(result.stream.domains):
        for rows in _equal_stretches(result, signatures, column):
            spans.setdefault(rows, []).append(f"{domain} {_percent(matrix[rows[0]][column])}")
    for rows, columns in spans.items():
        numbers = ", ".join(map(str, rows))
        yield f"rows {numbers} come from different LMs, yet their scores are the same: {listing(columns)}"


def _equal_stretches(result: Result, signatures: Signatures, column: int) -> Iterator[tuple[int, ...]]:
    """Yield the rows of each stretch of equal scores in `column` that chance does not explain.

    Cells that fine-tune the same LM count once. A stretch of n rows under F fine-tuning seeds is (n - 1) F agreements:
    2 are enough where every other metric agrees too, 4 where only the scores do.
    """
    matrix = result.matrix[:, column].tolist()
    scores: dict[int, list[float | None]] = {}
    for cell in sorted(result.cells, key=lambda cell: cell.finetune_seed):
        if cell.domain == result.stream.domains[column] and (cell.row, column) in signatures:
            scores.setdefault(cell.row, []).append(cell.score)
    rows, sources = [], set()
    for row, cells in enumerate(result.plan.cells):
        if cells[column] not in sources and not math.isnan(matrix[row]):
            rows.append(row)
        sources.add(cells[column])
    for _, group in groupby(rows, key=lambda row: (matrix[row], scores.get(row))):
        stretch = tuple(group)
        if (len(stretch) - 1) * len(scores.get(stretch[0], [0])) >= 4:
            yield stretch
            continue
        for _, part in groupby(stretch, key=lambda row: signatures.get((row, column))):
            same = tuple(part)
            if (len(same) - 1) * len(scores.get(same[0], [0])) >= 2:
                yield same


def _constant_rows(result: Result) -> Iterator[str]:
    for row, scores in enumerate(result.matrix.tolist()):
        if len(scores) >= 3 and len(set(scores)) == 1:
            yield f"row {row}: every task has the same score {_percent(scores[0])}"


def _unchanged_weights(result: Result) -> Iterator[str]:
    digests = [stage.weights_digest for stage in result.stages]
    for stage in result.stages:
        parent = result.plan.parents[stage.stage - 1] if stage.stage <= len(result.plan.parents) else BASE
        before = digests[parent] if isinstance(parent, int) and 0 <= parent < len(digests) else ""
        if not stage.changed or (before and before == stage.weights_digest):
            yield f"{_stage_name(stage)} left the weights as they were"


def _not_learned(result: Result) -> Iterator[str]:
    loss = result.lm_loss.tolist()
    columns = {domain: column for column, domain in enumerate(result.stream.domains)}
    for number, (domains, parent) in enumerate(zip(result.plan.stages, result.plan.parents, strict=True), start=1):
        for domain in domains:
            column = columns.get(domain)
            if column is None:
                continue
            after = _row_of(result, number, column)
            before = 0 if parent == BASE else _row_of(result, int(parent) + 1, column)
            if after is not None and before is not None and loss[after][column] >= loss[before][column]:
                change = f"{loss[before][column]:.3f} -> {loss[after][column]:.3f}"
                yield f"stage {number} did not lower the held-out LM loss of its own domain {domain} ({change})"


def _row_of(result: Result, source: int, column: int) -> int | None:
    """Return the first row whose cell in `column` fine-tunes stage `source`, else the row after that stage."""
    rows = [row for row, cells in enumerate(result.plan.cells) if cells[column] == source]
    return rows[0] if rows else None


def _below_majority(result: Result) -> Iterator[str]:
    weak = []
    accuracies = _accuracies(result)
    for (row, column), accuracy in sorted(accuracies.items()):
        domain = result.stream.domains[column]
        majority = result.stream.majority.get(domain)
        if majority is not None and accuracy <= majority:
            weak.append(f"row {row} {domain} {_percent(accuracy)} (majority {_percent(majority)})")
    if weak:
        yield f"cells no better than always naming the most frequent class: {listing(weak)}"


def _accuracies(result: Result) -> dict[tuple[int, int], float]:
    """Return the accuracy of each cell, mean over fine-tuning seeds, where it is known."""
    domains, kinds = result.stream.domains, result.stream.metric
    found: dict[tuple[int, int], float] = {}
    for row, scores in enumerate(result.matrix.tolist()):
        for column, score in enumerate(scores):
            if not math.isnan(score) and kinds.get(domains[column]) in ("accuracy", "micro_f1"):
                found[row, column] = score
    for place, cells in _by_place(result).items():
        if place not in found:
            values = [value for cell in cells if (value := cell.metrics.get("accuracy")) is not None]
            if values and len(values) == len(cells):
                found[place] = fmean(values)
    return found


def _broken_losses(result: Result) -> Iterator[str]:
    for stage in result.stages:
        for name, values in stage.losses.items():
            if None in values:
                yield f"{_stage_name(stage)}: the loss '{name}' was not finite at {values.count(None)} logged steps"


def _diverged(result: Result) -> Iterator[str]:
    for stage in result.stages:
        curve = stage.losses.get("lm", stage.losses.get("loss", ()))
        values = [value for value in curve if value is not None]
        width = max(1, len(values) // 10)
        if len(values) < 2:
            continue
        start, end = median(values[:width]), median(values[-width:])
        if end > start + 0.2 * abs(start):
            yield f"{_stage_name(stage)}: the training loss rose from {start:.3f} to {end:.3f}"


def _odd_seeds(result: Result) -> Iterator[str]:
    groups = {place: cells for place, cells in _by_place(result).items() if len(cells) >= 2}
    deviations: list[float] = []
    for cells in groups.values():
        scores = _scores(cells)
        centre, scale = sum(scores) / max(1, len(scores)), math.sqrt(len(cells) / (len(cells) - 1))
        deviations += [abs(score - centre) * scale for score in scores]
    limit = max(MIN_ODD_SEED, 5 * 1.4826 * median(deviations)) if deviations else math.inf
    odd = []
    for (row, column), cells in groups.items():
        for cell in cells:
            others = _scores(sibling for sibling in cells if sibling is not cell)
            if cell.score is not None and others and abs(cell.score - median(others)) > limit:
                place = f"row {row} {result.stream.domains[column]} seed {cell.finetune_seed}"
                odd.append(f"{place} {_percent(cell.score)} (siblings {_percent(median(others))})")
    if odd:
        yield f"fine-tuning seeds far from their siblings: {listing(odd)}"


def _missing_cells(result: Result) -> Iterator[str]:
    missing = [
        f"row {row} {domain}"
        for row, (scores, sources) in enumerate(zip(result.matrix.tolist(), result.plan.cells, strict=True))
        for domain, score, source in zip(result.stream.domains, scores, sources, strict=True)
        if source is not None and math.isnan(score)
    ]
    if missing:
        yield f"cells of the plan without a score: {listing(missing)}"


def _inconsistent(result: Result) -> Iterator[str]:
    matrix = result.matrix.tolist()
    other = [
        f"row {row} {result.stream.domains[column]}"
        for (row, column), cells in _by_place(result).items()
        if (scores := _scores(cells)) and not _near(matrix[row][column], fmean(scores))
    ]
    if other:
        yield f"matrix and cells disagree: {listing(other)}"
    wrong = [
        name
        for name, value in all_metrics(result.matrix).items()
        if name in result.metrics and not _near(result.metrics[name], value)
    ]
    if wrong:
        yield f"the stored metrics do not follow from the matrix: {listing(wrong)}"


CHECKS = (
    Check(
        code="constant-column", meaning="different LMs have exactly the same score on a task", look=_constant_columns
    ),
    Check(code="constant-row", meaning="one LM has exactly the same score on every task", look=_constant_rows),
    Check(code="unchanged-weights", meaning="a stage of pre-training did not change the LM", look=_unchanged_weights),
    Check(code="not-learned", meaning="the LM loss of the domain trained on did not fall", look=_not_learned),
    Check(code="below-majority", meaning="no better than always naming the most frequent class", look=_below_majority),
    Check(code="loss-not-finite", meaning="a training loss became NaN or infinite", look=_broken_losses),
    Check(code="diverged", meaning="the training loss rose by a fifth or more within a stage", look=_diverged),
    Check(code="odd-seed", meaning="one fine-tuning seed lies far from its siblings", look=_odd_seeds),
    Check(code="missing-cell", meaning="a cell of the plan has no score", look=_missing_cells),
    Check(code="inconsistent", meaning="matrix, cells and metrics of the file do not agree", look=_inconsistent),
)
"""Every check of one run; `find_across` adds "identical-methods"."""


@lru_cache(maxsize=2)  # several checks of one result in a row ask for the same
def _by_place(result: Result) -> dict[tuple[int, int], list[CellRecord]]:
    columns = {domain: column for column, domain in enumerate(result.stream.domains)}
    places: dict[tuple[int, int], list[CellRecord]] = {}
    for cell in result.cells:
        places.setdefault((cell.row, columns[cell.domain]), []).append(cell)
    return places


@lru_cache(maxsize=2)
def cell_signatures(result: Result) -> Signatures:
    """Return, by (row, column), every number scored in a cell; only for cells that agree with the matrix."""
    matrix = result.matrix.tolist()
    found: Signatures = {}
    for (row, column), cells in _by_place(result).items():
        scores = _scores(cells)
        if len(scores) == len(cells) and _near(matrix[row][column], fmean(scores)):
            ordered = sorted(cells, key=lambda cell: cell.finetune_seed)
            numbers = [(cell.score, *(cell.metrics[name] for name in sorted(cell.metrics))) for cell in ordered]
            found[row, column] = tuple(value for group in numbers for value in group if value is not None)
    return found


def listing(items: list[str], *, limit: int = 6) -> str:
    """Return the first items joined by commas, and how many more there are."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def _scores(cells: Iterable[CellRecord]) -> list[float]:
    return [cell.score for cell in cells if cell.score is not None]


def _near(one: float | None, other: float | None) -> bool:
    if one is None or other is None or math.isnan(one) or math.isnan(other):
        return (one is None or math.isnan(one)) and (other is None or math.isnan(other))
    return abs(one - other) <= 1e-9


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _stage_name(stage: StageRecord) -> str:
    return f"stage {stage.stage} ({listing(list(stage.domains))})"
