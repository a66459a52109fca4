"""The leaderboard of a group: a row per method with scores, ranks and costs, and comparisons of two methods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ctbench.errors import BadConfig, UnknownName
from ctbench.reporting.entries import Entry, order_notes
from ctbench.reporting.figures import figures_of
from ctbench.reporting.findings import Told, finding_lines, told_of
from ctbench.reporting.groups import Group
from ctbench.reporting.labels import UNREGISTERED, without_mark
from ctbench.reporting.numbers import amount
from ctbench.reporting.scores import COSTS, Question, Score, differences, score_entries, score_entry, sign_of
from ctbench.reporting.statistics.intervals import PairedTest, Spread, paired_tests, tell_apart
from ctbench.results.figures import FIGURES
from ctbench.results.findings import find_across
from ctbench.results.metrics import Metric

TRAITS = ("stores_text", "needs_domain", "grows", "reads_general_text")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the leaderboard.

    Args:
        entry: the method with its settings, and its runs.
        scores: by metric.
        spread: variance of the first metric by pre-training and by fine-tuning; NaN for LM losses.
        cost: mean cost of the runs.
        traits: needs and side effects of the method.
        findings: anomalies of the runs.
        dates: days of the first and of the last run, as YYYY-MM-DD; the same twice for one day, empty if unknown.
    """

    entry: Entry
    scores: dict[str, Score]
    spread: Spread
    cost: dict[str, float]
    traits: tuple[str, ...]
    findings: tuple[Told, ...]
    dates: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A comparison of two entries in one metric; in `test` positive differences mean that the first is better."""

    metric: Metric
    first: str
    second: str
    test: PairedTest
    is_planned: bool = False

    @property
    def difference(self) -> tuple[float, float, float]:
        """First minus second in the unit of the metric: mean, lower limit, upper limit."""
        found = self.test.difference
        if sign_of(self.metric) > 0:
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
        UnknownName: there is no entry with the name to compare with.
        BadConfig: several entries have that name.
    """
    scores = {name: score_entries(group.entries, name, question) for name in question.metrics}
    first = question.metrics[0]
    rows = [
        Row(
            entry=entry,
            scores={name: scores[name][index] for name in question.metrics},
            spread=_spread(entry, question),
            cost={name: _cost(entry, name) for name in COSTS},
            traits=tuple(trait for trait in TRAITS if getattr(entry.first.method.traits, trait)),
            findings=tuple(told_of(entry)),
            dates=_dates(entry),
        )
        for index, entry in enumerate(group.entries)
    ]
    rows.sort(key=lambda row: _last_if_missing(_place(row, question.sort or first, group, question)))
    contrasts = tuple(_contrasts(group, question))
    notes = tuple(_notes(group, rows, question))
    return Board(group=group, question=question, rows=tuple(rows), contrasts=contrasts, notes=notes)


def _place(row: Row, name: str, group: Group, question: Question) -> float:
    """Return the number that the rows are sorted by, lower for the better ones; costs are better if they are lower."""
    if name in FIGURES:
        return figures_of(row.entry, group)[name] * (-1 if FIGURES[name].better == "higher" else 1)
    if name in COSTS:
        return row.cost[name]
    return -sign_of(question.metric(name)) * row.scores[name].mean


def _spread(entry: Entry, question: Question) -> Spread:
    tables = [result.seed_scores for result in entry.results.values()]
    shared = set.intersection(*(set(table) for table in tables))
    if question.is_loss or not shared or entry.levels:  # an LM loss is measured before fine-tuning
        return Spread(pretraining=math.nan, finetuning=math.nan)
    metric = question.metric(question.metrics[0])
    values = [[metric.of(table[seed], partial=question.partial) for seed in sorted(shared)] for table in tables]
    return tell_apart(np.array(values, dtype=np.float64).reshape(len(tables), len(shared)))


def _cost(entry: Entry, name: str) -> float:
    values = [value for result in entry.results.values() if (value := getattr(result.cost, name)) is not None]
    return float(np.mean(values)) if len(values) == len(entry.results) else math.nan


def _dates(entry: Entry) -> tuple[str, str]:
    days = [result.provenance.date[:10] for result in entry.results.values()]
    return min(days), max(days)


def _contrasts(group: Group, question: Question) -> Iterable[Contrast]:
    if question.against is not None:
        second = find_entry(group, question.against)
        pairs = [(name, entry) for name in question.metrics for entry in group.entries if entry is not second]
        tests = paired_tests(
            [_differences(entry, second, name, question) for name, entry in pairs], confidence=question.confidence
        )
        for (name, entry), test in zip(pairs, tests, strict=True):
            yield Contrast(metric=question.metric(name), first=entry.label, second=second.label, test=test)
    if question.planned is not None:
        first, second = (find_entry(group, name) for name in question.planned)
        name = question.metrics[0]
        differences = _differences(first, second, name, question)
        (test,) = paired_tests([differences], confidence=question.confidence, correct=False)
        yield Contrast(metric=question.metric(name), first=first.label, second=second.label, test=test, is_planned=True)


def shown_costs(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the costs to show: CPU time if every row has it, else wall time, which depends on the load of the machine.

    FLOPs are left out where no row has them.
    """
    hidden = {"cpu_seconds" if any(math.isnan(row.cost["cpu_seconds"]) for row in rows) else "seconds"}
    if all(math.isnan(row.cost["flops"]) for row in rows):
        hidden.add("flops")
    return tuple(name for name in COSTS if name not in hidden)


def find_entry(group: Group, name: str) -> Entry:
    """Return the entry with a label, whose mark may be left out, or the only entry of a method.

    Raises:
        UnknownName: there is no such entry.
        BadConfig: the method has several entries.
    """
    exact = [entry for entry in group.entries if name in (entry.label, without_mark(entry.label))]
    found = exact or [entry for entry in group.entries if entry.name == name]
    if len(found) > 1:
        labels = ", ".join(f"'{entry.label}'" for entry in found)
        raise BadConfig(f"'{name}' has several entries; give the full label of one: {labels}")
    if not found:
        raise UnknownName("entry", name, [entry.label for entry in group.entries], hint=group.title)
    return found[0]


def _differences(first: Entry, second: Entry, metric: str, question: Question) -> list[float]:
    found = differences(score_entry(first, metric, question), score_entry(second, metric, question))
    return [sign_of(question.metric(metric)) * value for value in found]


def _notes(group: Group, rows: Sequence[Row], question: Question) -> Iterable[str]:
    yield from group.notes
    if question.sort:
        yield f"rows sorted by {question.sort}; ranks are those of {question.metrics[0]}"
    yield from _unequal_runs(group, rows)
    tokens = {row.entry.label: row.cost["tokens"] for row in rows}
    if tokens and max(tokens.values()) > 1.01 * min(tokens.values()):
        yield "the methods were pre-trained on different numbers of tokens (--columns tokens)"
    if any(not row.entry.first.method.registered for row in rows):
        yield UNREGISTERED
    yield from _references(group, question)
    yield from finding_lines([told for row in rows for told in row.findings], find_across(group.results))


def _unequal_runs(group: Group, rows: Sequence[Row]) -> Iterable[str]:
    """Yield a line for each number of runs, or of values of a key, that is below that of others."""
    yield from () if group.levels else order_notes(row.entry for row in rows)
    what = f"values of {group.across}" if group.levels else "runs"
    units = {row.entry.label: set(row.entry.units(dict.fromkeys(row.entry.results, 0.0))) for row in rows}
    if len({frozenset(each) for each in units.values()}) > 1:
        most = set.union(*units.values())
        for size in sorted({len(each) for each in units.values() if each != most}):
            few = ", ".join(label for label, each in units.items() if len(each) == size and each != most)
            yield f"{size} of {len(most)} {what}: {few}; methods are compared over shared {what}"
    if group.levels and _have_unequal_runs(group.entries):
        yield f"unequal runs: under one of the {what} methods are compared over the runs that both have"


def _have_unequal_runs(entries: Sequence[Entry]) -> bool:
    """Return whether two entries have other runs under a value of a key that both have."""
    by_level: dict[int, set[frozenset[int]]] = {}
    for entry in entries:
        for level in {level for level, _ in entry.results}:
            runs = frozenset(number for own, number in entry.results if own == level)
            by_level.setdefault(level, set()).add(runs)
    return any(len(kinds) > 1 for kinds in by_level.values())


def _references(group: Group, question: Question) -> Iterable[str]:
    is_loss, over = question.is_loss, "domains" if question.is_loss else "tasks"
    base = np.array([question.matrix(result)[0].mean() for result in group.results])
    ends = [amount(end, is_loss=is_loss) for end in (base.min(), base.max())]
    num_bases = len({result.backbone.weights_digest for result in group.results})
    why = "the runs have different bases" if num_bases > 1 else "of one base on other machines or under other settings"
    apart = f"; from {' to '.join(ends)}: {why}" if ends[0] != ends[1] else ""  # the last bits are a processor's
    yield f"row 0 (untouched LM), mean over {over}: {amount(base.mean(), is_loss=is_loss)}{apart}"
    controls = [result.control for result in group.results if result.control is not None]
    rows = [control.lm_loss if is_loss else control.scores for control in controls]
    known = [float(np.mean([value for value in each if value is not None])) for each in rows if None not in each]
    if known:
        text = "control (the base pre-trained on as many tokens of general text)"
        yield f"{text}, mean over {over}: {amount(float(np.mean(known)), is_loss=is_loss)} (n = {len(known)})"


def _last_if_missing(value: float) -> float:
    return math.inf if math.isnan(value) else value
