"""The checks of `ctbench.results.findings`: each reads one result and yields a message for every anomaly.

Equal numbers are equal bit for bit. To exclude coincidences, a check requires more equal numbers than chance would give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, median

import numpy as np

from ctbench.errors import listing
from ctbench.results.cells import cell_means, untuned
from ctbench.results.consistency import MOST_NAMED, TOLERANCE
from ctbench.results.inert import DOMAINS, guessed, inert_components
from ctbench.results.matrix import Array
from ctbench.results.rates import unusual_rates
from ctbench.results.schema import Result, StageRecord

MIN_ODD_SEED = 0.05
"""Minimum distance of a fine-tuning seed from the median of the others, in units of the score, to be called odd."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One kind of anomaly: its code, its meaning, and the function that yields a message for each case."""

    code: str
    meaning: str
    look: Callable[[Result], Iterable[str]]


def _constant_columns(result: Result) -> Iterator[str]:
    spans: dict[tuple[int, ...], list[str]] = {}
    numbers, alone = seed_numbers(result), untuned(result)
    for column, domain in enumerate(result.stream.domains):
        different = numbers[: 1 if domain in alone else None, :, column]
        for rows in _equal_stretches(result, different, column):
            spans.setdefault(rows, []).append(f"{domain} {_percent(float(result.matrix[rows[0], column]))}")
    for rows, columns in spans.items():
        named = listing(columns, most=MOST_NAMED)
        yield f"rows {', '.join(map(str, rows))} come from different LMs but have the same scores: {named}"


def _equal_stretches(result: Result, numbers: Array, column: int) -> Iterator[tuple[int, ...]]:
    """Yield the rows of each stretch of equal scores in a column that chance does not explain.

    Cells that fine-tune the same LM count once. A stretch of n rows under F fine-tuning seeds has (n - 1) F agreements: 2
    are enough if all other metrics agree too, 4 if only the scores agree.

    Args:
        result: the run.
        numbers: scores of the column [F, T+1], by fine-tuning seed; [1, T+1] where nothing is fine-tuned.
        column: index of the column.
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
    digests = {stage.stage: stage.weights_digest for stage in result.stages}
    for stage in result.stages:
        parent = result.plan.parents[stage.stage - 1] if stage.stage <= len(result.plan.parents) else 0
        before = digests.get(parent, "")
        if not stage.changed or (before and before == stage.weights_digest):
            yield f"{_stage_name(stage)} did not change the weights"


def _not_learned(result: Result) -> Iterator[str]:
    """Compare with the stage before, or with the untouched LM if no cell of the domain fine-tunes that stage."""
    loss = result.lm_loss.tolist()
    columns = {domain: column for column, domain in enumerate(result.stream.domains)}
    for number, (domains, parent) in enumerate(zip(result.plan.stages, result.plan.parents, strict=True), start=1):
        for domain in domains:
            column = columns.get(domain)
            if column is None:
                continue
            after = _row_of(result, number, column)
            before = _row_of(result, parent, column) or 0
            if after is not None and loss[after][column] >= loss[before][column]:
                change = f"{loss[before][column]:.3f} -> {loss[after][column]:.3f}"
                yield f"stage {number} did not lower the held-out LM loss of its own domain {domain} ({change})"


def _row_of(result: Result, source: int, column: int) -> int | None:
    """Return the first row with a cell in `column` that fine-tunes stage `source`, or None."""
    rows = [row for row, cells in enumerate(result.plan.cells) if cells[column] == source]
    return rows[0] if rows else None


def _unknown_words(result: Result) -> Iterator[str]:
    for stage in result.stages:
        share = stage.notes.get("unknown_share")
        if isinstance(share, float):
            yield f"{_stage_name(stage)}: {_percent(share)} % of the tokens of its text are unknown to the tokenizer"


def _inert_components(result: Result) -> Iterator[str]:
    for stage in result.stages:
        for message in inert_components(stage.notes):
            yield f"{_stage_name(stage)}: {message}"


def _blind_conditions(result: Result) -> Iterator[str]:
    num_domains = len(result.stream.domains)
    for stage in result.stages[-1:]:
        named = stage.notes.get(DOMAINS)
        if isinstance(named, float) and named < guessed(num_domains):
            guess = f"guessing: {_percent(1.0 / num_domains)} %"
            tells = f"what is generated for a text tells its domain in {_percent(named)} % of tries"
            yield f"{_stage_name(stage)}: {tells} ({guess})"


def _below_majority(result: Result) -> Iterator[str]:
    weak = []
    accuracies = _accuracies(result)
    for (row, column), accuracy in sorted(accuracies.items()):
        domain = result.stream.domains[column]
        majority = result.stream.majority.get(domain)
        if majority is not None and accuracy <= majority:
            weak.append(f"row {row} {domain} {_percent(accuracy)} (majority {_percent(majority)})")
    if weak:
        trivial = "always predicting the most frequent class" if result.stream.tasks is None else "the trivial baseline"
        yield f"cells no better than {trivial}: {listing(weak, most=MOST_NAMED)}"


def _accuracies(result: Result) -> dict[tuple[int, int], float]:
    """Return the known accuracies of cells, mean over fine-tuning seeds."""
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
    # Only cells with a large range of seeds can hold an odd one.
    for row, column in np.argwhere(np.ptp(scores, axis=0) > limit).tolist():
        for index, seed in enumerate(seeds):
            score, others = scores[index, row, column], np.delete(scores[:, row, column], index)
            if abs(score - np.median(others)) > limit:
                place = f"row {row} {result.stream.domains[column]} seed {seed}"
                odd.append(f"{place} {_percent(score)} (other seeds {_percent(float(np.median(others)))})")
    if odd:
        yield f"fine-tuning seeds far from the others: {listing(odd, most=MOST_NAMED)}"


def _missing_cells(result: Result) -> Iterator[str]:
    missing = [
        f"row {row} {domain}"
        for row, (scores, sources) in enumerate(zip(result.matrix.tolist(), result.plan.cells, strict=True))
        for domain, score, source in zip(result.stream.domains, scores, sources, strict=True)
        if source is not None and math.isnan(score)
    ]
    if missing and result.is_complete:  # an incomplete result says itself why they are missing
        yield f"cells of the plan without a score: {listing(missing, most=MOST_NAMED)}"


def _unusual_rates(result: Result) -> Iterator[str]:
    rates = {f"{table}.lr": getattr(result.recipe, table).get("lr") for table in ("pretrain", "finetune")}
    known = {key: float(rate) for key, rate in rates.items() if isinstance(rate, int | float)}
    yield from unusual_rates(result.backbone.parameters, known)


CHECKS = (
    Check(
        code="constant-column", meaning="different LMs have exactly the same score on a task", look=_constant_columns
    ),
    Check(code="constant-row", meaning="one LM has exactly the same score on every task", look=_constant_rows),
    Check(code="unchanged-weights", meaning="a stage of pre-training did not change the LM", look=_unchanged_weights),
    Check(code="not-learned", meaning="the held-out LM loss of the domain of a stage did not fall", look=_not_learned),
    Check(code="unknown-words", meaning="the tokenizer does not know many words of a domain", look=_unknown_words),
    Check(
        code="below-majority",
        meaning="a cell is no better than always predicting the most frequent class",
        look=_below_majority,
    ),
    Check(code="loss-not-finite", meaning="a training loss became NaN or infinite", look=_broken_losses),
    Check(code="diverged", meaning="the training loss rose by a fifth or more within a stage", look=_diverged),
    Check(
        code="inert-component", meaning="a loss term or an added module did nothing in a stage", look=_inert_components
    ),
    Check(
        code="blind-condition",
        meaning="after the last stage, what a method generates from the text hardly tells its domain",
        look=_blind_conditions,
    ),
    Check(code="unusual-lr", meaning="a learning rate is far from what is usual for the LM", look=_unusual_rates),
    Check(code="odd-seed", meaning="one fine-tuning seed is far from the others", look=_odd_seeds),
    Check(code="missing-cell", meaning="a cell of the plan has no score", look=_missing_cells),
)
"""Every check of one run."""

NOTE = "note"
"""Code of a remark, which is no anomaly."""

MEANINGS = {check.code: check.meaning for check in CHECKS} | {
    "identical-methods": "two methods have the same scores although their LMs differ",
    NOTE: "a remark on the backbone",
}
"""Meaning of every code of a finding: the checks, `find_across`, and notes on the backbone."""


def seed_numbers(result: Result) -> Array:
    """Return the scores [F, T+1, T] by fine-tuning seed; [1, T+1, T], the matrix, if the cells disagree with it."""
    if result.seed_scores:
        scores = np.array(list(result.seed_scores.values()))
        differences = np.abs(cell_means(result) - result.matrix)
        if not (differences > TOLERANCE).any() and (np.isnan(differences) == np.isnan(result.matrix)).all():
            return scores
    return result.matrix[None]


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _stage_name(stage: StageRecord) -> str:
    return f"stage {stage.stage} ({listing(list(stage.domains), most=MOST_NAMED)})"
