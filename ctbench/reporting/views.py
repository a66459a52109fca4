"""A leaderboard as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ctbench.reporting import numbers
from ctbench.reporting.columns import PARTIAL_MARK, Column, leaderboard_columns
from ctbench.reporting.labels import UNREGISTERED, UNREGISTERED_MARK
from ctbench.reporting.leaderboard import Board, Contrast
from ctbench.reporting.tables import Table, text_rows

VARIANCE_NOTE = "between runs:"


def leaderboard_table(board: Board) -> Table:
    """Return the leaderboard: ranks, means ± deviations, interval of the first metric, and the columns asked for."""
    notes = tuple(leaderboard_notes(board))
    return _table(board, leaderboard_columns(board), board.group.title, notes, name="leaderboard")


def leaderboard_parts(board: Board) -> list[Table]:
    """Return the leaderboard as tables that fit on paper: scores; then the variance, costs and traits asked for."""
    columns = leaderboard_columns(board)
    notes = tuple(leaderboard_notes(board))
    about_variance = tuple(note for note in notes if note.startswith(VARIANCE_NOTE))
    rest = tuple(note for note in notes if note not in about_variance)
    scores = [column for column in columns if column.part in ("name", "score", "interval", "figures", "standing")]
    more = [column for column in columns if column not in scores]
    found = [_table(board, scores, board.group.title, rest, name="leaderboard")]
    if more:
        named = [column for column in columns if column.label in ("method", "n")]
        title = f"Variance, costs and traits · {board.group.title}"
        found.append(_table(board, [*named, *more], title, about_variance, name="costs", num_keys=1))
    return found


def _table(
    board: Board, columns: Sequence[Column], title: str, notes: tuple[str, ...], *, name: str, num_keys: int = 2
) -> Table:
    return Table(
        title=title,
        columns=tuple(column.label for column in columns),
        rows=tuple(tuple(column.cell(row) for column in columns) for row in board.rows),
        num_keys=num_keys,
        left=tuple(column.label for column in columns if column.is_text),
        notes=notes,
        optional=tuple(column.label for column in columns if column.is_optional),
        name=f"{board.group.results[0].stream.name}-{name}",
    )


def leaderboard_notes(board: Board) -> Iterator[str]:
    """Yield the notes below a leaderboard."""
    question = board.question
    first, units = board.question.metrics[0], _units(board)
    yield _unit_note(board)
    if not board.group.levels and any(score.interval.n > 1 for row in board.rows for score in row.scores.values()):
        yield "intervals are conditional on one base and one language or corpus: they hold what differs between runs, no more"
    if any(row.scores[first].rank is not None for row in board.rows):
        places = [f"{rank}-{last}" for rank, last in _places(board, first) if last > rank]
        several = f"; {places[0]}: places that the ties leave open" if places else ""
        won = ", won/tied/lost" if question.has("standing") else ""
        yield (
            f"rank{won}: {first}, by {100 * question.confidence:g} % intervals of paired differences over shared {units}, "
            f"each pair for itself (no correction for their number); an interval that covers 0 is a tie{several}"
        )
    if any(score.is_best for row in board.rows for score in row.scores.values()):
        yield "bold, *: better than every other row, each interval of the difference excluding 0"
    if question.has("variance") and any(not math.isnan(row.spread.finetuning) for row in board.rows):
        yield f"{VARIANCE_NOTE} deviation of {first} due to pre-training; between seeds: due to one fine-tuning seed"
    if any(score.is_partial for row in board.rows for score in row.scores.values()):
        yield f"{PARTIAL_MARK} partial: mean over the existing cells and runs"
    if any(math.isnan(score.mean) for row in board.rows for score in row.scores.values()):
        yield f"{numbers.DASH}: not defined for this plan, or a needed cell is missing"
    if not question.is_loss and any(question.metric(name).is_difference for name in question.metrics):
        yield "differences are in points; the reference R[0] is the fine-tuned untouched LM"
    yield from board.notes


def _units(board: Board) -> str:
    """Return what intervals and tests of a leaderboard are over."""
    return f"values of {board.group.across}" if board.group.levels else "runs"


def _unit_note(board: Board) -> str:
    """Return what a number of the leaderboard is."""
    is_in_nats = any(board.question.metric(name).is_loss for name in board.question.metrics)
    of = "LM loss on held-out text in nats per predicted token, " if is_in_nats else ""
    after = (
        "; differences are positive where the loss fell"
        if board.question.is_loss
        else "; the cells of a run are means over fine-tuning seeds"
    )
    if board.group.levels:
        key = board.group.across
        spread = f"± standard deviation between values of {key} / between runs (seed, order) of one value"
        return f"{of}mean over the values of {key} {spread}; intervals are over the values' means{after}"
    return f"{of}mean ± standard deviation over n runs (seed, order){after}"


def _places(board: Board, metric: str) -> Iterator[tuple[int, int]]:
    for score in (row.scores[metric] for row in board.rows):
        if score.rank is not None and score.last_rank is not None:
            yield score.rank, score.last_rank


def contrast_table(board: Board) -> Table:
    """Return the comparisons of `against` and `planned`; without any, a table whose notes say why."""
    level = f"{100 * board.question.confidence:g} %"
    rows = []
    for contrast in board.contrasts:
        mean, low, high = contrast.difference
        test, is_loss = contrast.test, contrast.metric.is_loss
        texts = (
            contrast.first,
            contrast.second,
            contrast.metric.name,
            str(test.difference.n),
            numbers.amount(mean, is_loss=is_loss, signed=True),
            numbers.interval(low, high, is_loss=is_loss, signed=True),
            numbers.p_value(test.p),
            "planned" if contrast.is_planned else numbers.p_value(test.adjusted),
            f"{test.wins}/{test.ties}/{test.losses}",
        )
        rows.append(texts)
    what = ("method", "compared with", "metric", "n", "difference", f"{level} interval")
    return Table(
        title=f"Differences over shared {_units(board)} · {board.group.title}",
        columns=(*what, "p", "p (Holm)", "won/tied/lost"),
        rows=text_rows(rows),
        num_keys=2,
        left=("metric",),
        notes=(*_contrast_notes(board), *(() if rows else board.notes[:1])),
        name=f"{board.group.results[0].stream.name}-differences",
        optional=("won/tied/lost",),
        elsewhere="write a file (--output)",
    )


def _contrast_notes(board: Board) -> Iterator[str]:
    if not board.contrasts:
        return
    corrected = [contrast for contrast in board.contrasts if not contrast.is_planned]
    shares = dict.fromkeys(each.metric.name for each in board.contrasts if not each.metric.is_loss)
    unit, units = "points", _units(board)
    if any(contrast.metric.is_loss for contrast in board.contrasts):
        unit = "nats (of a level, negative is better)" + (f", of {', '.join(shares)} in points" if shares else "")
    whole = f"differences in {unit}, first minus second; won/tied/lost counts {units}"
    yield f"{whole}; p: sign flips of whole {units}, two-sided"
    if corrected:
        yield f"Holm's correction covers the {len(corrected)} comparisons of this table"
    if len(corrected) < len(board.contrasts):
        yield "planned: one comparison declared beforehand, tested without correction"
    yield from sorted({_unreachable(board, contrast, len(corrected)) for contrast in board.contrasts} - {""})
    named = {label for contrast in board.contrasts for label in (contrast.first, contrast.second)}
    if any(label.endswith(UNREGISTERED_MARK) for label in named):
        yield UNREGISTERED


def _unreachable(board: Board, contrast: Contrast, factor: int) -> str:
    """Return why a comparison has no p-value; empty if it has one."""
    test = contrast.test
    if test.p is not None:
        return ""
    n = test.difference.n
    least = f"{test.least:.4g}"
    within = "" if contrast.is_planned or factor == 1 else f" among {factor} comparisons"
    level = f"{1 - board.question.confidence:.2g}"
    if n == 0:
        pair, metric = f"{contrast.first} and {contrast.second}", contrast.metric.name
        return f"{numbers.DASH} no p-value: {pair} share no run, or have no {metric} (undefined, or cells missing)"
    return f"{numbers.DASH} no p-value: {n} pairs{within} cannot go below p = {least}, so the level {level} is out of reach"
