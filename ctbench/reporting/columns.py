"""The columns of a leaderboard, defined once for tables and for the HTML page: label, explanation, cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ctbench.reporting import numbers
from ctbench.reporting.figures import figure_text, figures_of, shown_figures
from ctbench.reporting.groups import Group
from ctbench.reporting.leaderboard import Board, Row, shown_costs
from ctbench.reporting.scores import COSTS, DEFAULT_METRICS, Question, Score
from ctbench.reporting.tables import Cell
from ctbench.results.figures import FIGURES
from ctbench.results.metrics import Metric

PARTIAL_MARK = "≈"

COST_LABELS = {
    "tokens": "tokens",
    "forward_tokens": "forward tokens",
    "flops": "FLOPs",
    "seconds": "time",
    "cpu_seconds": "CPU time",
    "peak_memory_bytes": "peak memory",
    "added_parameters": "added",
    "stored_bytes": "stored",
}
COST_MEANINGS = {
    "tokens": "tokens of text trained on",
    "forward_tokens": "tokens passed forward, teachers included",
    "flops": "floating-point operations of pre-training, forward and backward, teachers included",
    "seconds": "wall time of pre-training",
    "cpu_seconds": "CPU time of pre-training",
    "peak_memory_bytes": "peak memory of pre-training",
    "added_parameters": "parameters that the method adds to the LM",
    "stored_bytes": "bytes that the method keeps between stages",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a leaderboard.

    Args:
        label: its heading.
        meaning: explanation for the HTML page.
        cell: function from a row to its cell.
        part: "name", "score", "interval", or the group of further columns that it belongs to (a name of PARTS).
        is_text: whether the cells are texts.
        is_optional: whether a narrow terminal may leave the column out: nobody asked for it.
    """

    label: str
    meaning: str
    cell: Callable[[Row], Cell]
    part: str
    is_text: bool = False
    is_optional: bool = False


def leaderboard_columns(board: Board, *, everything: bool = False) -> list[Column]:
    """Return the columns of a leaderboard from left to right.

    Args:
        board: the leaderboard.
        everything: return all columns, not only the metrics and what was asked for.
    """
    question = board.question
    first, *others = (question.metric(name) for name in question.metrics)
    found = [
        *_name_columns(first.name),
        *_across_columns(board),
        _metric_column(first, question),
        _interval_column(first, question),
        *(replace(_metric_column(metric, question), is_optional=_is_default(question)) for metric in others),
        *_figure_columns(board, everything=everything),
        _standing_column(first.name),
        *([] if question.is_loss else _variance_columns(first.name)),
        *_cost_columns(board, everything=everything),
        *_trait_columns(),
        _date_column(),
    ]
    shown = ("name", "score", "interval", "figures", "cost")
    return [column for column in found if everything or column.part in shown or question.has(column.part)]


def _is_default(question: Question) -> bool:
    defaults = Question(on=question.on, metrics=DEFAULT_METRICS).metrics
    return question.metrics == defaults


def _name_columns(first: str) -> Iterator[Column]:
    yield Column(
        label="rank",
        meaning="places that the paired comparisons leave open: better methods come before, worse ones after; pairs "
        "uncorrected",
        cell=lambda row: _rank(row.scores[first]),
        part="name",
    )
    yield Column(
        label="method",
        meaning="method and settings",
        cell=lambda row: Cell(text=row.entry.label),
        part="name",
        is_text=True,
    )
    yield Column(
        label="n",
        meaning="number of runs (seed, order)",
        cell=lambda row: Cell(text=str(len(row.entry.results)), value=len(row.entry.results)),
        part="name",
    )


def _across_columns(board: Board) -> Iterator[Column]:
    if board.group.across:
        yield Column(
            label=board.group.across,
            meaning="the key in which the runs differ; everything else is equal",
            cell=lambda row: Cell(text=row.entry.value),
            part="name",
            is_text=True,
        )


def _rank(score: Score) -> Cell:
    """Return the places of an entry: one number, or the first and the last that ties leave open."""
    if score.rank is None:
        return Cell(text=numbers.DASH)
    places = str(score.rank) if score.last_rank == score.rank else f"{score.rank}-{score.last_rank}"
    return Cell(text=places, value=score.rank)


def metric_label(metric: Metric) -> str:
    """Return the heading of a metric: name, unit, and an arrow in the better direction."""
    unit = "" if metric.is_difference or metric.is_loss else " %"
    return f"{metric.name}{unit} {'↑' if metric.better == 'higher' else '↓'}"


def _metric_column(metric: Metric, question: Question) -> Column:
    meaning = f"{metric.definition}; mean ± standard deviation, and {_level(question)} interval over runs"
    return Column(
        label=metric_label(metric),
        meaning=meaning,
        cell=lambda row: score_cell(row.scores[metric.name], metric),
        part="score",
    )


def score_cell(score: Score, metric: Metric) -> Cell:
    """Return mean ± standard deviation (over values of a key: / that between runs), with the interval as second line."""
    if math.isnan(score.mean):
        return Cell(text=numbers.DASH)
    text = (PARTIAL_MARK if score.is_partial else "") + numbers.metric_number(metric, score.mean)
    deviation = score.interval.deviation
    text += "" if math.isnan(deviation) else f" ± {numbers.amount(deviation, is_loss=metric.is_loss)}"
    text += "" if math.isnan(score.within) else f" / {numbers.amount(score.within, is_loss=metric.is_loss)}"
    limits = _limits(score, metric)
    below = "" if limits == numbers.DASH else limits
    return Cell(text=text, bold=score.is_best, value=score.mean, below=below)


def _interval_column(metric: Metric, question: Question) -> Column:
    return Column(
        label=f"{_level(question)} interval",
        meaning=f"interval of {metric.name} over runs",
        cell=lambda row: Cell(text=_limits(row.scores[metric.name], metric)),
        part="interval",
        is_optional=True,
    )


def _limits(score: Score, metric: Metric) -> str:
    low, high = score.interval.low, score.interval.high
    return numbers.interval(low, high, is_loss=metric.is_loss, signed=metric.is_difference)


def _level(question: Question) -> str:
    return f"{100 * question.confidence:g} %"


def _variance_columns(first: str) -> Iterator[Column]:
    yield Column(
        label="between runs",
        meaning=f"standard deviation of {first} due to pre-training",
        cell=lambda row: _deviation(row.spread.pretraining),
        part="variance",
    )
    yield Column(
        label="between seeds",
        meaning=f"standard deviation of {first} due to one fine-tuning seed",
        cell=lambda row: _deviation(row.spread.finetuning),
        part="variance",
    )


def _deviation(value: float) -> Cell:
    return Cell(text=numbers.DASH if math.isnan(value) else f"± {numbers.percent(value)}", value=value)


def _standing_column(first: str) -> Column:
    return Column(
        label="won/tied/lost",
        meaning=f"against the other methods in {first}, by the intervals of paired differences",
        cell=lambda row: _standing(row.scores[first]),
        part="standing",
    )


def _standing(score: Score) -> Cell:
    if score.rank is None:
        return Cell(text=numbers.DASH)
    return Cell(text=f"{score.wins}/{score.ties}/{score.losses}", value=score.wins)


def _figure_columns(board: Board, *, everything: bool) -> Iterator[Column]:
    """Yield the figures that are asked for: one by its own name, or all that some row has."""
    usual = shown_figures(board.group) if everything or board.question.has("figures") else ()
    for name in (name for name in FIGURES if name in usual or name in (*board.question.columns, board.question.sort)):
        figure = FIGURES[name]
        yield Column(
            label=f"{name} {'↑' if figure.better == 'higher' else '↓'}",
            meaning=f"{figure.definition}; {figure.unit}, mean ± standard deviation over runs",
            cell=_figure_cell(name, board.group),
            part="figures",
        )


def _figure_cell(name: str, group: Group) -> Callable[[Row], Cell]:
    return lambda row: Cell(text=figure_text(row.entry, name, group), value=figures_of(row.entry, group)[name])


def _cost_columns(board: Board, *, everything: bool) -> Iterator[Column]:
    """Yield the costs that are asked for, by their own names or all of them."""
    usual = shown_costs(board.rows) if everything or board.question.has("cost") else ()
    for name in (name for name in COSTS if name in usual or name in (*board.question.columns, board.question.sort)):
        meaning = f"{COST_MEANINGS[name]}, mean over runs"
        yield Column(label=COST_LABELS[name], meaning=meaning, cell=_cost_cell(name), part="cost")


def _cost_cell(name: str) -> Callable[[Row], Cell]:
    return lambda row: Cell(text=numbers.cost(name, row.cost[name]), value=row.cost[name])


def _trait_columns() -> Iterator[Column]:
    yield Column(
        label="traits",
        meaning="needs and side effects of the method",
        cell=lambda row: _words(trait.replace("_", " ") for trait in row.traits),
        part="traits",
        is_text=True,
    )
    yield Column(
        label="findings",
        meaning="codes of findings; the notes below the table explain them",
        cell=lambda row: _words(sorted({told.code for told in row.findings})),
        part="findings",
        is_text=True,
    )


def _date_column() -> Column:
    return Column(
        label="dates",
        meaning="days on which the first and the last of the runs were computed",
        cell=lambda row: _words(list(dict.fromkeys(day for day in row.dates if day))),
        part="dates",
        is_text=True,
    )


def _words(words: Iterator[str] | list[str]) -> Cell:
    return Cell(text=", ".join(words) or numbers.DASH)
