"""The question that a leaderboard answers, and one metric of every entry: mean, interval, rank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ctbench.errors import BadConfig, UnknownName
from ctbench.reporting.entries import Entry, RunId, mean_over_runs, means_of_levels
from ctbench.reporting.statistics.intervals import Interval, mean_interval, ranks, standings, unit_differences
from ctbench.results.figures import FIGURES
from ctbench.results.loss_metrics import find_metric, metrics_on
from ctbench.results.matrix import Array
from ctbench.results.metrics import Metric
from ctbench.results.schema import Result

DEFAULT_METRICS = ("anytime", "A_Acc", "O_Acc", "F_Acc", "FWT_all", "forgetting")
COSTS = (
    "tokens",
    "forward_tokens",
    "flops",
    "seconds",
    "cpu_seconds",
    "peak_memory_bytes",
    "added_parameters",
    "stored_bytes",
)
PARTS = ("figures", "standing", "variance", "cost", "traits", "findings", "dates")
"""Groups of columns that a leaderboard can have beside its metrics; a figure or a cost has a name of its own too."""
ALL_PARTS = "all"


@dataclass(frozen=True, kw_only=True)
class Question:
    """The options of a leaderboard.

    Args:
        metrics: the columns; the first metric orders and ranks the rows. Default: six metrics of the matrix.
        on: the matrix that the metrics are of, "score" or "loss".
        columns: further columns: names of PARTS, FIGURES and COSTS, or "all".
        sort: metric, figure or cost that orders the rows, best first; empty for the first metric. Ranks stay those of it.
        against: test every entry against this one.
        planned: one comparison (first, second) declared beforehand; tested on the first metric, without correction.
        partial: take means over incomplete sets of cells or runs, and mark them.
        confidence: confidence of all intervals, in [0.5, 1); 1 - confidence is the level of the tests.
    """

    metrics: tuple[str, ...] = ()
    on: str = "score"
    columns: tuple[str, ...] = ()
    sort: str = ""
    against: str | None = None
    planned: tuple[str, str] | None = None
    partial: bool = False
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Check names and ranges.

        Raises:
            UnknownName: a metric, matrix or column does not exist.
            BadConfig: a confidence out of range.
        """
        names = tuple(dict.fromkeys(find_metric(name, self.on).name for name in self.metrics or DEFAULT_METRICS))
        if self.sort and self.sort not in (*FIGURES, *COSTS):
            try:
                sort = find_metric(self.sort, self.on).name
            except UnknownName:
                known = (*metrics_on(self.on), *FIGURES, *COSTS)
                raise UnknownName("column to sort by", self.sort, known) from None
            object.__setattr__(self, "sort", sort)
            names = tuple(dict.fromkeys([*names, sort]))
        object.__setattr__(self, "metrics", names)
        for name in self.columns:
            if name not in (known := (*PARTS, *FIGURES, *COSTS, ALL_PARTS)):
                raise UnknownName("column", name, known)
        if not 0.5 <= self.confidence < 1:
            raise BadConfig(f"confidence is {self.confidence}; allowed: from 0.5 to below 1, such as 0.95")

    @property
    def is_loss(self) -> bool:
        """Whether the metrics are of the LM losses."""
        return self.on == "loss"

    @property
    def compares(self) -> bool:
        """Whether two methods are to be compared."""
        return self.against is not None or self.planned is not None

    def metric(self, name: str) -> Metric:
        """Return a metric of this question's matrix."""
        return find_metric(name, self.on)

    def matrix(self, result: Result) -> Array:
        """Return the matrix [T+1, T] of a run that the question is about."""
        return result.lm_loss if self.is_loss else result.matrix

    def has(self, *names: str) -> bool:
        """Return whether one of these further columns is asked for, or the rows are sorted by it."""
        return not {ALL_PARTS, *names}.isdisjoint((*self.columns, self.sort))


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric of one entry over its runs.

    Args:
        values: value of each run; NaN if undefined.
        is_over_levels: whether units of intervals and tests are the values of a key, and not runs.
        mean: mean over seeds, then over orders; NaN if a run lacks the value, unless `partial` is set.
        interval: interval and standard deviation over the runs, or over the values of a key.
        within: in a table over the values of a key, the pooled standard deviation between the runs of one value.
        rank: 1 + `losses`; None if there is no other entry to compare with.
        wins: number of entries that are worse; the interval of the paired difference excludes 0.
        ties: number of entries with an interval of the difference that covers 0.
        losses: number of entries that are better.
        is_best: whether the entry is better than every other one.
        is_partial: whether the mean is over an incomplete set of cells or runs.
    """

    values: dict[RunId, float]
    mean: float
    interval: Interval
    is_over_levels: bool = False
    within: float = math.nan
    rank: int | None = None
    wins: int = 0
    ties: int = 0
    losses: int = 0
    is_best: bool = False
    is_partial: bool = False

    @property
    def last_rank(self) -> int | None:
        """The last place that the comparisons leave open: the rank if no other entry ties."""
        return None if self.rank is None else self.rank + self.ties


def score_entries(entries: Sequence[Entry], metric: str, question: Question) -> list[Score]:
    """Return the scores of entries in one metric, with ranks among them."""
    found = [score_entry(entry, metric, question) for entry in entries]
    runs = sorted({run for score in found for run in score.values})
    table = np.array([[score.values.get(run, math.nan) for run in runs] for score in found])
    undefined = np.array([math.isnan(score.mean) for score in found])
    table[undefined] = math.nan
    levels = [level for level, _ in runs] if any(score.is_over_levels for score in found) else None
    sign = sign_of(question.metric(metric))
    outcome = standings(sign * table, confidence=question.confidence, levels=levels)
    has_pair = [(~np.isnan(unit_differences(row, table, levels))).sum(axis=1) >= 2 for row in table]
    num_others = int((~undefined).sum()) - 1
    return [
        replace(
            score,
            rank=rank if has_pair[index].sum() > 1 else None,
            wins=int((outcome[index] > 0).sum()),
            ties=int(((outcome[index] == 0) & has_pair[index]).sum()) - int(has_pair[index][index]),
            losses=int((outcome[index] < 0).sum()),
            is_best=num_others > 0 and int((outcome[index] > 0).sum()) == num_others,
        )
        for index, (score, rank) in enumerate(zip(found, ranks(outcome), strict=True))
    ]


def score_entry(entry: Entry, metric: str, question: Question) -> Score:
    """Return the score of one entry in one metric, without a rank."""
    of, asked = question.metric(metric), question.partial
    plain = {
        run: (r.loss_metrics if question.is_loss else r.computed_metrics)[of.name] for run, r in entry.results.items()
    }
    values = {run: math.nan if value is None else value for run, value in plain.items()}
    is_partial = asked and any(math.isnan(value) for value in values.values())
    if is_partial:
        values = {run: of.of(question.matrix(result), partial=True) for run, result in entry.results.items()}
        values = {run: value for run, value in values.items() if not math.isnan(value)}
    units = entry.units(values)
    mean = float(mean_over_runs(units, units.values()))
    usable = [] if math.isnan(mean) else list(units.values())
    return Score(
        values=values,
        mean=mean,
        interval=mean_interval(usable, confidence=question.confidence),
        is_over_levels=bool(entry.levels),
        within=_within(values) if entry.levels and usable else math.nan,
        is_partial=is_partial and bool(values),
    )


def _within(values: Mapping[RunId, float]) -> float:
    """Return the pooled standard deviation between the runs of one value of a key; NaN if no value has two runs."""
    groups = [[value for (own, _), value in values.items() if own == level] for level in {level for level, _ in values}]
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(float(np.var(group)) * len(group) for group in groups)
    return math.sqrt(squares / freedom) if freedom else math.nan


def differences(first: Score, second: Score) -> list[float]:
    """Return first minus second for every shared run, or its mean over the shared runs of each value of a key.

    The list is empty if one of the means is undefined.
    """
    if math.isnan(first.mean) or math.isnan(second.mean):
        return []
    found = {run: first.values[run] - second.values[run] for run in sorted(first.values) if run in second.values}
    return list((means_of_levels(found) if first.is_over_levels else found).values())


def sign_of(metric: Metric) -> int:
    """Return 1 if higher values of a metric are better, else -1."""
    return 1 if metric.better == "higher" else -1


def read_planned(given: object) -> tuple[str, str]:
    """Read the two methods of "A:B", or of a pair.

    Raises:
        BadConfig: not two different methods.
    """
    names = given.split(":") if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
    if len({*map(str, names)} - {""}) != 2 or len(names) != 2:
        raise BadConfig(f"--planned is '{given}'; two methods are needed, as in --planned A:B")
    first, second = map(str, names)
    return first, second
