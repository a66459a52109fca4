"""Paired statistics over runs: intervals, sign flips, Holm's correction, ranks, and where variance comes from.

The unit is the run (seed, order): the cells of one run depend on each other, so scores are averaged over them first,
and methods are compared by their differences over the runs that they share. Functions take scores, or differences of
scores, one number a run.

Example:
    >>> mean_interval([0.02, 0.03, 0.04]).excludes_zero
    True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ctbench.resampling import bca_limits, sign_flip_p, smallest_p

Array = NDArray[np.float64]

MIN_BOOTSTRAP = 20
"""From this many runs on, intervals are BCa bootstrap intervals instead of Student's."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its confidence interval; NaN limits where one run, or none, says nothing about the spread.

    Args:
        mean: over the runs.
        low: lower limit.
        high: upper limit.
        deviation: standard deviation over the runs (n - 1); NaN for n < 2.
        n: number of runs.
        kind: how the limits were found.
    """

    mean: float
    low: float
    high: float
    deviation: float
    n: int
    kind: Literal["t", "bca", "none"]

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside of the limits; False where there are none."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float] | Array, *, confidence: float = 0.95) -> Interval:
    """Return the mean of `values` with an interval: Student's t, BCa bootstrap from MIN_BOOTSTRAP values on.

    Args:
        values: one number a run; NaN is left out.
        confidence: in (0, 1).

    Example:
        >>> interval = mean_interval([0.1, 0.2, 0.3])
        >>> round(interval.low, 3), round(interval.high, 3), interval.n
        (-0.048, 0.448, 3)
    """
    sample = np.asarray(values, dtype=np.float64)
    sample = sample[~np.isnan(sample)]
    n = int(sample.size)
    if n == 0:
        return Interval(mean=math.nan, low=math.nan, high=math.nan, deviation=math.nan, n=0, kind="none")
    mean = float(sample.mean())
    if n == 1:
        return Interval(mean=mean, low=math.nan, high=math.nan, deviation=math.nan, n=1, kind="none")
    deviation = float(sample.std(ddof=1))
    if n >= MIN_BOOTSTRAP:
        low, high = bca_limits(sample, confidence)
        return Interval(mean=mean, low=low, high=high, deviation=deviation, n=n, kind="bca")
    half = _t_quantile(n - 1, confidence) * deviation / math.sqrt(n)
    return Interval(mean=mean, low=mean - half, high=mean + half, deviation=deviation, n=n, kind="t")


@lru_cache(maxsize=64)
def _t_quantile(freedom: int, confidence: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for being tested together (Holm 1979), in their order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """One comparison over shared runs.

    Args:
        difference: mean difference with its interval.
        wins: runs in which the first is better.
        ties: runs in which both are equal.
        losses: runs in which the first is worse.
        p: p-value, None where no outcome of so few runs could reach the level, Holm's factor counted.
        adjusted: Holm-corrected p-value; equal to `p` for a planned comparison.
        least: the least (adjusted) p-value that so many runs could have given.
    """

    difference: Interval
    wins: int
    ties: int
    losses: int
    p: float | None
    adjusted: float | None
    least: float


def paired_tests(
    differences: Sequence[Sequence[float] | Array], *, confidence: float = 0.95, correct: bool = True
) -> list[PairedTest]:
    """Test each set of paired differences (oriented so that positive is better), corrected for all of them together.

    Args:
        differences: per comparison, one number a shared run; NaN is left out.
        confidence: of the intervals; the level of the tests is 1 - confidence.
        correct: apply Holm's correction; False for one comparison that was planned before looking.

    Example:
        >>> test = paired_tests([[0.1] * 5])[0]
        >>> test.p is None, test.least, test.wins
        (True, 0.0625, 5)
    """
    samples = [np.asarray(values, dtype=np.float64) for values in differences]
    samples = [sample[~np.isnan(sample)] for sample in samples]
    adjust = holm if correct else list
    raw = [sign_flip_p(sample) for sample in samples]
    adjusted = adjust(raw)
    least = adjust([smallest_p(sample.size) if sample.size else 1.0 for sample in samples])
    level = 1 - confidence + 1e-12
    return [
        PairedTest(
            difference=mean_interval(sample, confidence=confidence),
            wins=int((sample > 0).sum()),
            ties=int((sample == 0).sum()),
            losses=int((sample < 0).sum()),
            p=raw[index] if least[index] <= level else None,
            adjusted=adjusted[index] if least[index] <= level else None,
            least=least[index],
        )
        for index, sample in enumerate(samples)
    ]


def standings(scores: Array, *, confidence: float = 0.95) -> NDArray[np.int_]:
    """Compare all methods with each other by the intervals of their paired differences.

    Args:
        scores: [K, N], method by run, higher is better, NaN where a method lacks the run.
        confidence: of the intervals.

    Returns:
        [K, K] of 1 (row better than column), -1 (worse), 0 (the interval covers 0: a tie; or fewer than two runs).
    """
    num_methods = len(scores)
    outcome = np.zeros((num_methods, num_methods), dtype=np.int_)
    for first in range(num_methods):
        differences = scores[first] - scores[first + 1 :]
        counts = (~np.isnan(differences)).sum(axis=1)
        for offset in np.flatnonzero(counts >= 2):
            interval = mean_interval(differences[offset], confidence=confidence)
            sign = int(interval.low > 0) - int(interval.high < 0)
            second = first + 1 + int(offset)
            outcome[first, second], outcome[second, first] = sign, -sign
    return outcome


def ranks(outcome: NDArray[np.int_]) -> list[int]:
    """Return each method's rank: 1 + the number of methods that are better; those that tie may share a rank.

    Args:
        outcome: [K, K], as `standings` returns it.

    Example:
        >>> ranks(np.array([[0, 0, 1], [0, 0, 0], [-1, 0, 0]]))
        [1, 1, 2]
    """
    return [1 + int((row < 0).sum()) for row in outcome]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Where a score's variance comes from; standard deviations in score units, NaN where they cannot be told.

    Args:
        pretraining: between runs, with the part that fine-tuning explains taken out.
        finetuning: between fine-tuning seeds of one run.
    """

    pretraining: float
    finetuning: float


def tell_apart(scores: Array) -> Spread:
    """Tell pre-training variance from fine-tuning variance (two-way analysis of variance, random effects).

    Every run is fine-tuned with the same seeds, so a seed's effect that all runs share does not spread the runs' means;
    it counts as fine-tuning variance.

    Args:
        scores: [N, F], run by fine-tuning seed; a NaN in it leaves nothing to be told.

    Example:
        >>> spread = tell_apart(np.array([[0.1, 0.1], [0.3, 0.3]]))
        >>> round(spread.pretraining, 3), spread.finetuning
        (0.141, 0.0)
    """
    num_runs, num_seeds = scores.shape
    if num_seeds < 2 or num_runs < 1 or np.isnan(scores).any():
        return Spread(pretraining=math.nan, finetuning=math.nan)
    if num_runs < 2:
        return Spread(pretraining=math.nan, finetuning=float(scores.std(ddof=1)))
    run_means, seed_means = scores.mean(axis=1, keepdims=True), scores.mean(axis=0, keepdims=True)
    rest = scores - run_means - seed_means + scores.mean()
    residual = float((rest**2).sum()) / ((num_runs - 1) * (num_seeds - 1))
    between_seeds = max(0.0, float(seed_means.var(ddof=1)) - residual / num_runs)
    between_runs = max(0.0, float(run_means.var(ddof=1)) - residual / num_seeds)
    return Spread(pretraining=math.sqrt(between_runs), finetuning=math.sqrt(between_seeds + residual))
