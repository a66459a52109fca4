"""The leaderboard of one group: a row per method, with intervals, ranks, costs, and comparisons on request."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ctbench.errors import BadConfig, UnknownName
from ctbench.findings import find_across, known_findings
from ctbench.metrics import compute, get_metric
from ctbench.report.groups import UNREGISTERED_MARK, Entry, Group, Run, mean_over_runs, order_notes
from ctbench.report.numbers import percent
from ctbench.statistics import Interval, PairedTest, Spread, mean_interval, paired_tests, ranks, standings, tell_apart

DEFAULT_METRICS = ("anytime", "A_Acc", "O_Acc", "F_Acc", "FWT_all", "forgetting")
COSTS = ("tokens", "forward_tokens", "seconds", "cpu_seconds", "peak_memory_bytes", "added_parameters", "stored_bytes")
TRAITS = ("stores_text", "needs_domain", "grows")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a table should answer.

    Args:
        metrics: the columns; the first one orders and ranks the rows.
        against: compare every entry with this one.
        planned: one comparison (first, second) declared beforehand; tested on the first metric, without correction.
        partial: take means over incomplete sets of cells or runs, and mark them.
        confidence: of all intervals, in (0, 1); 1 - confidence is the level of the tests.
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    against: str | None = None
    planned: tuple[str, str] | None = None
    partial: bool = False
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Check names and ranges.

        Raises:
            UnknownName: no such metric.
            BadConfig: no metric, or a confidence out of range.
        """
        for name in self.metrics:
            get_metric(name)
        if not self.metrics:
            raise BadConfig("at least one metric is needed")
        if not 0.5 <= self.confidence < 1:
            raise BadConfig(f"confidence is {self.confidence}; allowed: from 0.5 to below 1, such as 0.95")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric of one entry over its runs.

    Args:
        values: by run; NaN where the metric is not defined.
        mean: mean over seeds first, then over orders; NaN where that is refused.
        interval: over the runs, with their standard deviation.
        rank: 1 + the number of entries that are better beyond the interval; None where there is nothing to compare.
        wins: entries that are worse beyond the interval.
        ties: entries whose interval of the difference covers 0.
        losses: entries that are better beyond the interval.
        is_best: better than every other entry beyond the interval.
        is_partial: a mean over an incomplete set, as `partial` allows.
    """

    values: dict[Run, float]
    mean: float
    interval: Interval
    rank: int | None = None
    wins: int = 0
    ties: int = 0
    losses: int = 0
    is_best: bool = False
    is_partial: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One entry of the leaderboard; `spread` tells pre-training from fine-tuning variance of the first metric."""

    entry: Entry
    scores: dict[str, Score]
    spread: Spread
    cost: dict[str, float]
    traits: tuple[str, ...]
    findings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One comparison of two entries in one metric; `test` is oriented so that positive means the first is better."""

    metric: str
    first: str
    second: str
    test: PairedTest
    is_planned: bool = False

    @property
    def difference(self) -> tuple[float, float, float]:
        """First minus second in the metric's own direction: mean, lower limit, upper limit."""
        found = self.test.difference
        if get_metric(self.metric).better == "higher":
            return found.mean, found.low, found.high
        return -found.mean, -found.high, -found.low


@dataclass(frozen=True, kw_only=True)
class Board:
    """The leaderboard of one group, best first by the first metric."""

    group: Group
    question: Question
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]
    notes: tuple[str, ...]


def make_board(group: Group, question: Question) -> Board:
    """Return the leaderboard of `group`.

    Raises:
        BadConfig: if a method to compare with is not one entry of it.
    """
    scores = {name: _scores(group.entries, name, question) for name in question.metrics}
    first = question.metrics[0]
    rows = [
        Row(
            entry=entry,
            scores={name: scores[name][index] for name in question.metrics},
            spread=_spread(entry, first, question.partial),
            cost={name: _cost(entry, name) for name in COSTS},
            traits=tuple(trait for trait in TRAITS if getattr(entry.first.method.traits, trait)),
            findings=tuple(_findings(entry)),
        )
        for index, entry in enumerate(group.entries)
    ]
    sign = _sign(first)
    rows.sort(key=lambda row: _last_if_missing(-sign * row.scores[first].mean))
    contrasts = tuple(_contrasts(group, question))
    return Board(
        group=group, question=question, rows=tuple(rows), contrasts=contrasts, notes=tuple(_notes(group, rows))
    )


def _scores(entries: Sequence[Entry], metric: str, question: Question) -> list[Score]:
    found = [_score(entry, metric, question) for entry in entries]
    runs = sorted({run for score in found for run in score.values})
    table = np.array([[score.values.get(run, math.nan) for run in runs] for score in found])
    refused = np.array([math.isnan(score.mean) for score in found])
    table[refused] = math.nan
    outcome = standings(_sign(metric) * table, confidence=question.confidence)
    has_pair = [(~np.isnan(table - row)).sum(axis=1) >= 2 for row in table]
    return [
        Score(
            values=score.values,
            mean=score.mean,
            interval=score.interval,
            rank=rank if has_pair[index].sum() > 1 else None,
            wins=int((outcome[index] > 0).sum()),
            ties=int(((outcome[index] == 0) & has_pair[index]).sum()) - int(has_pair[index][index]),
            losses=int((outcome[index] < 0).sum()),
            is_best=bool((~refused).sum() > 1 and (outcome[index] > 0).sum() == (~refused).sum() - 1),
            is_partial=score.is_partial,
        )
        for index, (score, rank) in enumerate(zip(found, ranks(outcome), strict=True))
    ]


def _score(entry: Entry, metric: str, question: Question) -> Score:
    plain = {run: result.computed_metrics[metric] for run, result in entry.results.items()}
    values = {run: math.nan if value is None else value for run, value in plain.items()}
    is_partial = question.partial and any(math.isnan(value) for value in values.values())
    if is_partial:
        values = {run: compute(metric, result.matrix, partial=True) for run, result in entry.results.items()}
        values = {run: value for run, value in values.items() if not math.isnan(value)}
    mean = float(mean_over_runs(values, values.values()))
    usable = [] if math.isnan(mean) else list(values.values())
    interval = mean_interval(usable, confidence=question.confidence)
    return Score(values=values, mean=mean, interval=interval, is_partial=is_partial and bool(values))


def _spread(entry: Entry, metric: str, partial: bool) -> Spread:
    tables = [result.seed_scores for result in entry.results.values()]
    shared = set.intersection(*(set(table) for table in tables))
    values = [[compute(metric, table[seed], partial=partial) for seed in sorted(shared)] for table in tables]
    scores = np.array(values, dtype=np.float64).reshape(len(tables), len(shared))
    return tell_apart(scores) if shared else Spread(pretraining=math.nan, finetuning=math.nan)


def _cost(entry: Entry, name: str) -> float:
    values = [value for result in entry.results.values() if (value := getattr(result.cost, name)) is not None]
    return float(np.mean(values)) if len(values) == len(entry.results) else math.nan


def _findings(entry: Entry) -> Iterable[str]:
    runs: dict[tuple[str, str], list[str]] = {}
    for (order, seed), result in entry.results.items():
        for finding in known_findings(result):
            place = f"seed {seed}" + (f" order {order}" if order else "")
            runs.setdefault((finding.code, finding.message), []).append(place)
    for (code, message), places in runs.items():
        yield f"{code}: {entry.label}, {', '.join(places)}: {message}"


def _contrasts(group: Group, question: Question) -> Iterable[Contrast]:
    if question.against is not None:
        second = find_entry(group, question.against)
        pairs = [(name, entry) for name in question.metrics for entry in group.entries if entry is not second]
        tests = paired_tests(
            [_differences(entry, second, name, question) for name, entry in pairs], confidence=question.confidence
        )
        for (name, entry), test in zip(pairs, tests, strict=True):
            yield Contrast(metric=name, first=entry.label, second=second.label, test=test)
    if question.planned is not None:
        first, second = (find_entry(group, name) for name in question.planned)
        name = question.metrics[0]
        differences = _differences(first, second, name, question)
        (test,) = paired_tests([differences], confidence=question.confidence, correct=False)
        yield Contrast(metric=name, first=first.label, second=second.label, test=test, is_planned=True)


def shown_costs(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the costs that people see: CPU time where every row has it, else wall time, which other work stretches."""
    hidden = "cpu_seconds" if any(math.isnan(row.cost["cpu_seconds"]) for row in rows) else "seconds"
    return tuple(name for name in COSTS if name != hidden)


def find_entry(group: Group, name: str) -> Entry:
    """Return the entry that `name` means: a label, or the name of a method that has one entry.

    Raises:
        UnknownName: there is none.
        BadConfig: there are several.
    """
    exact = [entry for entry in group.entries if entry.label == name]
    found = exact or [entry for entry in group.entries if entry.name == name]
    if len(found) > 1:
        labels = ", ".join(f"'{entry.label}'" for entry in found)
        raise BadConfig(f"'{name}' means several entries; name one of them in full: {labels}")
    if not found:
        raise UnknownName("entry", name, [entry.label for entry in group.entries], hint=group.title)
    return found[0]


def _differences(first: Entry, second: Entry, metric: str, question: Question) -> list[float]:
    found = differences(_score(first, metric, question), _score(second, metric, question))
    return [_sign(metric) * value for value in found]


def differences(first: Score, second: Score) -> list[float]:
    """Return first minus second over the runs they share; nothing where one of the means is refused or undefined."""
    if math.isnan(first.mean) or math.isnan(second.mean):
        return []
    return [first.values[run] - second.values[run] for run in sorted(first.values) if run in second.values]


def _notes(group: Group, rows: Sequence[Row]) -> Iterable[str]:
    yield from group.notes
    yield from order_notes(row.entry for row in rows)
    runs = {row.entry.label: set(row.entry.results) for row in rows}
    if len({frozenset(each) for each in runs.values()}) > 1:
        most = set.union(*runs.values())
        for size in sorted({len(each) for each in runs.values() if each != most}):
            few = ", ".join(label for label, each in runs.items() if len(each) == size and each != most)
            yield f"{size} of {len(most)} runs: {few}; methods are compared over the runs they share"
    tokens = {row.entry.label: row.cost["tokens"] for row in rows}
    if tokens and max(tokens.values()) > 1.01 * min(tokens.values()):
        yield "the methods were not pre-trained on equally many tokens (see the column tokens)"
    if any(not row.entry.first.method.registered for row in rows):
        yield f"{UNREGISTERED_MARK} a method of a file of its own, not registered"
    yield from _references(group)
    yield from (f"finding {text}" for row in rows for text in row.findings)
    yield from (f"finding {finding.code}: {finding.message}" for finding in find_across(group.results))


def _references(group: Group) -> Iterable[str]:
    base = np.array([result.matrix[0].mean() for result in group.results])
    apart = f"; from {percent(base.min())} to {percent(base.max())}: the runs have different bases"
    yield f"row 0 (untouched LM), mean over tasks: {percent(base.mean())}{apart if np.ptp(base) > 1e-9 else ''}"
    scores = [result.control.scores for result in group.results if result.control is not None]
    known = [float(np.mean([s for s in each if s is not None])) for each in scores if None not in each]
    if known:
        text = "control (the base trained on as many tokens of general text)"
        yield f"{text}, mean over tasks: {percent(float(np.mean(known)))} (n = {len(known)})"


def _sign(metric: str) -> int:
    return 1 if get_metric(metric).better == "higher" else -1


def _last_if_missing(value: float) -> float:
    return math.inf if math.isnan(value) else value
