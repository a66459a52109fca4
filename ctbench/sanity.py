"""The checks behind `ctbench.findings`: each looks at one result and yields a message for whatever is odd.

What a check calls equal is equal bit for bit, and coincidences are kept out by asking for agreement in more numbers
than chance would give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, median

import numpy as np

from ctbench.metrics import Array
from ctbench.schema import BASE, Result, StageRecord

TOLERANCE = 1e-9
"""Numbers nearer to each other than this follow from each other."""

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
    numbers = seed_numbers(result)
    for column, domain in enumerate(result.stream.domains):
        for rows in _equal_stretches(result, numbers[:, :, column], column):
            spans.setdefault(rows, []).append(f"{domain} {_percent(float(result.matrix[rows[0], column]))}")
    for rows, columns in spans.items():
        yield (
            f"rows {', '.join(map(str, rows))} come from different LMs, yet their scores are the same: "
            f"{listing(columns)}"
        )


def _equal_stretches(result: Result, numbers: Array, column: int) -> Iterator[tuple[int, ...]]:
    """Yield the rows of each stretch of equal scores in `column` that chance does not explain.

    Cells that fine-tune the same LM count once. A stretch of n rows under F fine-tuning seeds is (n - 1) F agreements:
    2 are enough where every other metric agrees too, 4 where only the scores do.

    Args:
        result: whose column it is.
        numbers: the column's scores [F, T+1], by fine-tuning seed.
        column: its index.
    """
    rows, sources = [], set()
    keys = list(zip(*numbers.tolist(), strict=True))
    for row, cells in enumerate(result.plan.cells):
        if cells[column] not in sources and not any(math.isnan(score) for score in keys[row]):
            rows.append(row)
        sources.add(cells[column])
    for _, group in groupby(rows, key=keys.__getitem__):
        stretch = tuple(group)
        if (len(stretch) - 1) * len(numbers) >= 4:
            yield stretch
        elif (len(stretch) - 1) * len(numbers) >= 2:
            for _, part in groupby(stretch, key=lambda row: _other_metrics(result, row, column)):
                same = tuple(part)
                if (len(same) - 1) * len(numbers) >= 2:
                    yield same


def _other_metrics(result: Result, row: int, column: int) -> list[tuple[int, list[tuple[str, float | None]]]]:
    domain = result.stream.domains[column]
    cells = [cell for cell in result.cells if cell.row == row and cell.domain == domain]
    return sorted((cell.finetune_seed, sorted(cell.metrics.items())) for cell in cells)


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
    """Compare with the stage before, and with the untouched LM where no cell of the domain fine-tunes that stage."""
    loss = result.lm_loss.tolist()
    columns = {domain: column for column, domain in enumerate(result.stream.domains)}
    for number, (domains, parent) in enumerate(zip(result.plan.stages, result.plan.parents, strict=True), start=1):
        for domain in domains:
            column = columns.get(domain)
            if column is None:
                continue
            after = _row_of(result, number, column)
            before = 0 if parent == BASE else _row_of(result, int(parent) + 1, column) or 0
            if after is not None and loss[after][column] >= loss[before][column]:
                change = f"{loss[before][column]:.3f} -> {loss[after][column]:.3f}"
                yield f"stage {number} did not lower the held-out LM loss of its own domain {domain} ({change})"


def _row_of(result: Result, source: int, column: int) -> int | None:
    """Return the first row whose cell in `column` fine-tunes stage `source`; None where no row does."""
    rows = [row for row, cells in enumerate(result.plan.cells) if cells[column] == source]
    return rows[0] if rows else None


def _unknown_words(result: Result) -> Iterator[str]:
    for stage in result.stages:
        share = stage.notes.get("unknown_share")
        if isinstance(share, float):
            yield f"{_stage_name(stage)}: {_percent(share)} % of the tokens of its text are unknown to the tokenizer"


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
    columns = {domain: column for column, domain in enumerate(domains)}
    values: dict[tuple[int, int], list[float | None]] = {}
    for cell in result.cells if len(found) < int((~np.isnan(result.matrix)).sum()) else ():
        values.setdefault((cell.row, columns[cell.domain]), []).append(cell.metrics.get("accuracy"))
    for place, accuracies in values.items():
        known = [accuracy for accuracy in accuracies if accuracy is not None]
        if place not in found and len(known) == len(accuracies):
            found[place] = fmean(known)
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
    seeds = list(result.seed_scores)
    if len(seeds) < 2:
        return
    scores = np.stack([result.seed_scores[seed] for seed in seeds])
    scores = np.where(np.isnan(scores).any(axis=0), math.nan, scores)
    deviations = np.abs(scores - scores.mean(axis=0)) * math.sqrt(len(seeds) / (len(seeds) - 1))
    known = deviations[~np.isnan(deviations)]
    limit = max(MIN_ODD_SEED, 5 * 1.4826 * float(np.median(known))) if known.size else math.inf
    odd = []
    # A seed cannot be far from its siblings in a cell whose seeds are all near to each other.
    for row, column in np.argwhere(np.ptp(scores, axis=0) > limit).tolist():
        for index, seed in enumerate(seeds):
            score, siblings = scores[index, row, column], np.delete(scores[:, row, column], index)
            if abs(score - np.median(siblings)) > limit:
                place = f"row {row} {result.stream.domains[column]} seed {seed}"
                odd.append(f"{place} {_percent(score)} (siblings {_percent(float(np.median(siblings)))})")
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
    if result.seed_scores:
        means = np.mean(list(result.seed_scores.values()), axis=0)
        differs = np.abs(means - result.matrix) > TOLERANCE
        other = [f"row {row} {result.stream.domains[column]}" for row, column in np.argwhere(differs).tolist()]
        if other:
            yield f"matrix and cells disagree: {listing(other)}"
    wrong = [
        name
        for name, value in result.computed_metrics.items()
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
    Check(code="unknown-words", meaning="the tokenizer does not know the words of a domain", look=_unknown_words),
    Check(code="below-majority", meaning="no better than always naming the most frequent class", look=_below_majority),
    Check(code="loss-not-finite", meaning="a training loss became NaN or infinite", look=_broken_losses),
    Check(code="diverged", meaning="the training loss rose by a fifth or more within a stage", look=_diverged),
    Check(code="odd-seed", meaning="one fine-tuning seed lies far from its siblings", look=_odd_seeds),
    Check(code="missing-cell", meaning="a cell of the plan has no score", look=_missing_cells),
    Check(code="inconsistent", meaning="matrix, cells and metrics of the file do not agree", look=_inconsistent),
)
"""Every check of one run."""

MEANINGS = {check.code: check.meaning for check in CHECKS} | {
    "identical-methods": "two methods have the same scores where they cannot",
    "note": "something to know about the backbone",
}
"""What every code of a finding means: those of the checks, of `find_across`, and of notes on the backbone."""


def seed_numbers(result: Result) -> Array:
    """Return the scores [F, T+1, T] by fine-tuning seed; [1, T+1, T], the matrix, if the cells do not explain it."""
    if result.seed_scores:
        scores = np.array(list(result.seed_scores.values()))
        differences = np.abs(scores.mean(axis=0) - result.matrix)
        if not (differences > TOLERANCE).any() and (np.isnan(differences) == np.isnan(result.matrix)).all():
            return scores
    return result.matrix[None]


def listing(items: list[str], *, limit: int = 6) -> str:
    """Return the first items joined by commas, and how many more there are."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def _near(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else abs(one - other) <= TOLERANCE


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _stage_name(stage: StageRecord) -> str:
    return f"stage {stage.stage} ({listing(list(stage.domains))})"
