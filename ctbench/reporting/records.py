"""A leaderboard as JSON data: numbers in full precision, NaN as None."""

from __future__ import annotations

import math
from typing import Any

from ctbench.reporting.figures import figures_of
from ctbench.reporting.groups import Group
from ctbench.reporting.leaderboard import Board, Contrast, Row
from ctbench.reporting.scores import COSTS, Score
from ctbench.results.schema import Result


def board_record(board: Board) -> dict[str, Any]:
    """Return a leaderboard as JSON data."""
    first = board.group.results[0]
    return {
        **group_record(first),
        "domains": list(board.group.domains),
        "why_apart": list(board.group.why),
        "on": board.question.on,
        "metrics": list(board.question.metrics),
        "confidence": board.question.confidence,
        "across": board.group.across,
        "levels": list(board.group.levels),
        "rows": [_row_record(row, board.group) for row in board.rows],
        "comparisons": [_contrast_record(contrast) for contrast in board.contrasts],
        "notes": list(board.notes),
    }


def group_record(first: Result) -> dict[str, Any]:
    """Return the fields that all runs of a table share, read from one of them."""
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


def _row_record(row: Row, group: Group) -> dict[str, Any]:
    first = row.entry.first
    return {
        "label": row.entry.label,
        "value": row.entry.value,
        "method": row.entry.name,
        "version": first.method.version,
        "registered": first.method.registered,
        "settings": first.method.settings,
        "n": len(row.entry.results),
        "runs": [
            {"seed": result.seed, "order": result.order, "key": result.key} for result in row.entry.results.values()
        ],
        "scores": {name: _score_record(score) for name, score in row.scores.items()},
        "spread": {"pretraining": _plain(row.spread.pretraining), "finetuning": _plain(row.spread.finetuning)},
        "figures": {name: _plain(value) for name, value in figures_of(row.entry, group).items()},
        "cost": {name: _plain(row.cost[name]) for name in COSTS},
        "traits": list(row.traits),
        "findings": [told.text for told in row.findings],
        "dates": list(row.dates),
    }


def _score_record(score: Score) -> dict[str, Any]:
    return {
        "mean": _plain(score.mean),
        "deviation": _plain(score.interval.deviation),
        "within": _plain(score.within),
        "low": _plain(score.interval.low),
        "high": _plain(score.interval.high),
        "interval": score.interval.kind,
        "n": score.interval.n,
        "rank": score.rank,
        "last_rank": score.last_rank,
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
        "metric": contrast.metric.name,
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
