"""A leaderboard as tables for people, and as plain records for machines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ctbench.metrics import METRICS
from ctbench.report import numbers
from ctbench.report.leaderboard import COSTS, Board, Contrast, Row, Score, shown_costs
from ctbench.report.tables import Cell, Table
from ctbench.schema import Result

PARTIAL_MARK = "≈"

COST_HEADS = {
    "tokens": "tokens",
    "forward_tokens": "forward tokens",
    "seconds": "time",
    "cpu_seconds": "CPU time",
    "peak_memory_bytes": "peak memory",
    "added_parameters": "added",
    "stored_bytes": "stored",
}


def leaderboard_table(board: Board) -> Table:
    """Return the leaderboard: ranks, means ± deviations, the interval of the first metric, costs, traits."""
    first, *others = board.question.metrics
    level = f"{100 * board.question.confidence:g} %"
    columns = (
        "rank",
        "method",
        "n",
        metric_head(first),
        f"{level} interval",
        "between runs",
        "between seeds",
        "won/tied/lost",
    )
    costs = shown_costs(board.rows)
    return Table(
        title=board.group.title,
        columns=(*columns, *map(metric_head, others), *(COST_HEADS[name] for name in costs), "traits", "findings"),
        rows=tuple(_row(row, first, others, costs) for row in board.rows),
        num_keys=2,
        left=("traits", "findings"),
        notes=tuple(_leaderboard_notes(board)),
    )


def leaderboard_parts(board: Board) -> list[Table]:
    """Return the leaderboard as two tables that fit onto paper: scores; then variance, costs, traits and findings."""
    whole = leaderboard_table(board)
    costs = [COST_HEADS[name] for name in shown_costs(board.rows)]
    second = ("between runs", "between seeds", *costs, "traits", "findings")
    told = tuple(note for note in whole.notes if note.startswith("between runs:"))
    scores = _narrowed(whole, [name for name in whole.columns if name not in second])
    rest = _narrowed(whole, ["method", "n", *second])
    title = f"Variance, costs and traits · {whole.title}"
    notes = tuple(note for note in whole.notes if note not in told)
    return [replace(scores, notes=notes), replace(rest, title=title, num_keys=1, notes=told)]


def _narrowed(table: Table, names: Sequence[str]) -> Table:
    places = [table.columns.index(name) for name in names]
    return replace(table, columns=tuple(names), rows=tuple(tuple(row[place] for place in places) for row in table.rows))


def _row(row: Row, first: str, others: Sequence[str], costs: Sequence[str]) -> tuple[Cell, ...]:
    main = row.scores[first]
    signed = METRICS[first].is_difference
    cells = [
        Cell(text=numbers.DASH if main.rank is None else str(main.rank)),
        Cell(text=row.entry.label, bold=False),
        Cell(text=str(len(row.entry.results))),
        _score(main, first),
        Cell(text=numbers.interval(main.interval.low, main.interval.high, signed=signed)),
        Cell(text=_deviation(row.spread.pretraining)),
        Cell(text=_deviation(row.spread.finetuning)),
        Cell(text=numbers.DASH if main.rank is None else f"{main.wins}/{main.ties}/{main.losses}"),
        *(_score(row.scores[name], name) for name in others),
    ]
    texts = [
        *(numbers.cost(name, row.cost[name]) for name in costs),
        ", ".join(trait.replace("_", " ") for trait in row.traits) or numbers.DASH,
        ", ".join(sorted({text.partition(":")[0] for text in row.findings})) or numbers.DASH,
    ]
    return (*cells, *(Cell(text=text) for text in texts))


def metric_head(metric: str) -> str:
    """Return how a column of a metric is headed: its name, its unit and which way is better."""
    unit = "" if METRICS[metric].is_difference else " %"
    return f"{metric}{unit} {'↑' if METRICS[metric].better == 'higher' else '↓'}"


def _score(score: Score, metric: str) -> Cell:
    if math.isnan(score.mean):
        return Cell(text=numbers.DASH)
    text = (PARTIAL_MARK if score.is_partial else "") + numbers.metric_number(metric, score.mean)
    spread = score.interval.deviation
    return Cell(text=text + ("" if math.isnan(spread) else f" ± {numbers.percent(spread)}"), bold=score.is_best)


def _deviation(value: float) -> str:
    return numbers.DASH if math.isnan(value) else f"± {numbers.percent(value)}"


def _leaderboard_notes(board: Board) -> Iterator[str]:
    first = board.question.metrics[0]
    yield "mean ± standard deviation over n runs (seed, order); the cells of a run are means over fine-tuning seeds"
    if any(row.scores[first].rank is not None for row in board.rows):
        yield (
            f"rank, won/tied/lost: {first}, by intervals of paired differences over shared runs; "
            "the interval covers 0: a tie"
        )
    if any(score.is_best for row in board.rows for score in row.scores.values()):
        yield "bold, *: better than every other row, each interval of the difference excluding 0"
    if any(not math.isnan(row.spread.finetuning) for row in board.rows):
        yield f"between runs: deviation of {first} due to pre-training; between seeds: due to one fine-tuning seed"
    if any(score.is_partial for row in board.rows for score in row.scores.values()):
        yield f"{PARTIAL_MARK} partial: a mean over those cells and runs that are there"
    if any(math.isnan(score.mean) for row in board.rows for score in row.scores.values()):
        yield f"{numbers.DASH}: not defined for this plan, or refused because a cell that it needs is missing"
    if any(METRICS[name].is_difference for name in board.question.metrics):
        yield "differences are in points; the reference R[0] is the fine-tuned untouched LM"
    yield from board.notes


def contrast_table(board: Board) -> Table | None:
    """Return the comparisons that were asked for, or None."""
    if not board.contrasts:
        return None
    level = f"{100 * board.question.confidence:g} %"
    rows = []
    for contrast in board.contrasts:
        mean, low, high = contrast.difference
        test = contrast.test
        texts = [
            contrast.first,
            contrast.second,
            contrast.metric,
            str(test.difference.n),
            numbers.points(mean),
            numbers.interval(low, high, signed=True),
            numbers.p_value(test.p),
            "planned" if contrast.is_planned else numbers.p_value(test.adjusted),
            f"{test.wins}/{test.ties}/{test.losses}",
        ]
        rows.append(tuple(Cell(text=text) for text in texts))
    names = (
        "method",
        "compared with",
        "metric",
        "n",
        "difference",
        f"{level} interval",
        "p",
        "p (Holm)",
        "won/tied/lost",
    )
    return Table(
        title=f"Differences over shared runs · {board.group.title}",
        columns=names,
        rows=tuple(rows),
        num_keys=2,
        left=("metric",),
        notes=tuple(_contrast_notes(board)),
    )


def _contrast_notes(board: Board) -> Iterator[str]:
    corrected = [contrast for contrast in board.contrasts if not contrast.is_planned]
    yield "differences in points, first minus second; won/tied/lost counts runs; p: sign flips of whole runs, two-sided"
    if corrected:
        yield f"Holm's correction covers the {len(corrected)} comparisons of this table"
    if len(corrected) < len(board.contrasts):
        yield "planned: one comparison declared beforehand, tested without correction"
    yield from sorted({_unreachable(board, contrast, len(corrected)) for contrast in board.contrasts} - {""})


def _unreachable(board: Board, contrast: Contrast, factor: int) -> str:
    """Say why there is no p-value, where there is none."""
    test = contrast.test
    if test.p is not None:
        return ""
    n = test.difference.n
    least = f"{test.least:.4g}"
    within = "" if contrast.is_planned or factor == 1 else f" among {factor} comparisons"
    level = f"{1 - board.question.confidence:.2g}"
    if n == 0:
        pair = f"{contrast.first} and {contrast.second}"
        return f"{numbers.DASH} no p-value: {pair} share no run, or have no {contrast.metric} (undefined, or cells missing)"
    return f"{numbers.DASH} no p-value: {n} pairs{within} cannot go below p = {least}, so the level {level} is out of reach"


def board_record(board: Board) -> dict[str, Any]:
    """Return the leaderboard as plain JSON data in full precision, NaN as None."""
    first = board.group.results[0]
    return {
        **group_record(first),
        "domains": list(board.group.domains),
        "why_apart": list(board.group.why),
        "metrics": list(board.question.metrics),
        "confidence": board.question.confidence,
        "rows": [_row_record(row) for row in board.rows],
        "comparisons": [_contrast_record(contrast) for contrast in board.contrasts],
        "notes": list(board.notes),
    }


def group_record(first: Result) -> dict[str, Any]:
    """Return what the runs of a table share, given one of them."""
    return {
        "stream": first.stream.name,
        "stream_version": first.stream.version,
        "stream_registered": first.stream.registered,
        "backbone": first.backbone.name,
        "recipe": first.recipe.name,
        "precision": first.precision,
        "protocol": first.protocol,
        "not_comparable": list(first.not_comparable),
    }


def _row_record(row: Row) -> dict[str, Any]:
    first = row.entry.first
    return {
        "label": row.entry.label,
        "method": row.entry.name,
        "version": first.method.version,
        "registered": first.method.registered,
        "settings": first.method.settings,
        "n": len(row.entry.results),
        "runs": [
            {"seed": seed, "order": order, "key": result.key} for (order, seed), result in row.entry.results.items()
        ],
        "scores": {name: _score_record(score) for name, score in row.scores.items()},
        "spread": {"pretraining": _plain(row.spread.pretraining), "finetuning": _plain(row.spread.finetuning)},
        "cost": {name: _plain(row.cost[name]) for name in COSTS},
        "traits": list(row.traits),
        "findings": list(row.findings),
    }


def _score_record(score: Score) -> dict[str, Any]:
    return {
        "mean": _plain(score.mean),
        "deviation": _plain(score.interval.deviation),
        "low": _plain(score.interval.low),
        "high": _plain(score.interval.high),
        "interval": score.interval.kind,
        "n": score.interval.n,
        "rank": score.rank,
        "wins": score.wins,
        "ties": score.ties,
        "losses": score.losses,
        "is_best": score.is_best,
        "is_partial": score.is_partial,
    }


def _contrast_record(contrast: Contrast) -> dict[str, Any]:
    mean, low, high = contrast.difference
    test = contrast.test
    return {
        "metric": contrast.metric,
        "first": contrast.first,
        "second": contrast.second,
        "difference": _plain(mean),
        "low": _plain(low),
        "high": _plain(high),
        "n": test.difference.n,
        "p": test.p,
        "p_holm": None if contrast.is_planned else test.adjusted,
        "least_p": test.least,
        "is_planned": contrast.is_planned,
        "wins": test.wins,
        "ties": test.ties,
        "losses": test.losses,
    }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
