"""The leaderboard: one row per method and settings, means over runs, one table per stream and protocol."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctbench.errors import UnknownName
from ctbench.metrics import METRICS
from ctbench.schema import Result

DEFAULT_METRICS = ("A_Acc", "O_Acc", "F_Acc", "FWT_all", "forgetting", "anytime")
COSTS = ("tokens", "forward_tokens", "seconds", "peak_memory_bytes", "added_parameters", "stored_bytes")


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric over the runs of a row; `mean` is None where a run lacks it, `deviation` where there is one run."""

    mean: float | None
    deviation: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method with its settings.

    Args:
        method: its name.
        changed: settings that were given by hand.
        seeds: the run seeds behind it.
        scores: by metric.
        cost: means over runs.
        traits: those that hold.
        num_findings: of all its runs.
    """

    method: str
    changed: dict[str, Any]
    seeds: tuple[int, ...]
    scores: dict[str, Score]
    cost: dict[str, float | None]
    traits: tuple[str, ...]
    num_findings: int


@dataclass(frozen=True, kw_only=True)
class Board:
    """The rows that may be compared with each other.

    Args:
        stream: its name and version.
        backbone: name of the backbone.
        precision: of the pre-training loop.
        protocol: what all rows share.
        reasons: why these runs stand off the main leaderboard; empty for the main one.
        rows: best first by the first metric.
    """

    stream: str
    backbone: str
    precision: str
    protocol: str
    reasons: tuple[str, ...]
    rows: tuple[Row, ...]


def leaderboards(
    results: Iterable[Result], *, metrics: Sequence[str] = DEFAULT_METRICS, everything: bool = False
) -> list[Board]:
    """Return a board per stream and protocol.

    Args:
        results: runs.
        metrics: names of the columns; the first one orders the rows.
        everything: whether runs that are not comparable get boards of their own, or are left out.

    Raises:
        UnknownName: no such metric.
    """
    for name in metrics:
        if name not in METRICS:
            raise UnknownName("metric", name, METRICS, hint="ctbench compare --explain")
    groups: dict[tuple[str, str, tuple[str, ...]], list[Result]] = {}
    for result in results:
        if everything or not result.not_comparable:
            groups.setdefault((result.stream.name, result.protocol, result.not_comparable), []).append(result)
    return [_board(group, metrics) for _, group in sorted(groups.items(), key=lambda item: (bool(item[0][2]), item[0]))]


def _board(results: list[Result], metrics: Sequence[str]) -> Board:
    groups: dict[tuple[str, str, int, str], list[Result]] = {}
    for result in results:
        settings = json.dumps(result.method.settings, sort_keys=True)
        groups.setdefault((result.method.name, settings, result.method.version, result.method.digest), []).append(
            result
        )
    rows = [_row(group, metrics) for group in groups.values()]
    sign = 1 if METRICS[metrics[0]].better == "higher" else -1
    rows.sort(key=lambda row: (-sign * _or_least(row.scores[metrics[0]].mean, sign), row.method))
    first = results[0]
    return Board(
        stream=f"{first.stream.name} v{first.stream.version}",
        backbone=first.backbone.name,
        precision=first.precision,
        protocol=first.protocol,
        reasons=first.not_comparable,
        rows=tuple(rows),
    )


def _or_least(value: float | None, sign: int) -> float:
    return -sign * math.inf if value is None else value


def _row(results: list[Result], metrics: Sequence[str]) -> Row:
    newest = {(result.seed, result.order): result for result in results}
    runs = list(newest.values())
    traits = runs[0].method.traits
    return Row(
        method=runs[0].method.name,
        changed=dict(runs[0].changed),
        seeds=tuple(sorted({result.seed for result in runs})),
        scores={name: _score([result.metrics.get(name) for result in runs]) for name in metrics},
        cost={name: _mean([getattr(result.cost, name) for result in runs]) for name in COSTS},
        traits=tuple(name for name in ("stores_text", "needs_domain", "grows") if getattr(traits, name)),
        num_findings=sum(len(result.findings) for result in runs),
    )


def _score(values: Sequence[float | None]) -> Score:
    """A mean over an incomplete set is refused: it is None."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return Score(mean=None, deviation=None, n=len(known))
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Score(mean=float(np.mean(known)), deviation=deviation, n=len(known))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
