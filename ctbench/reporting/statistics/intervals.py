"""Paired statistics over runs: intervals, tests, Holm's correction, ranks, components of variance.

The unit is the run (seed, order): the cells of a run depend on each other, so scores are averaged over them first, and
methods are compared by their differences over shared runs. Functions take scores, or differences of scores, one number
per run.

Examples:
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

from ctbench.reporting.statistics.sign_flips import sign_flip_p, smallest_p
from ctbench.results.matrix import Array


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its confidence interval; the limits are NaN for fewer than two runs.

    Args:
        mean: over the runs.
        low: lower limit.
        high: upper limit.
        deviation: standard deviation over the runs (n - 1); NaN for n < 2.
        n: number of runs.
        kind: "t" for Student's t, "none" for fewer than two runs.
    """

    mean: float
    low: float
    high: float
    deviation: float
    n: int
    kind: Literal["t", "none"]

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the limits; False without limits."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float] | Array, *, confidence: float = 0.95) -> Interval:
    """Return the mean of `values` with Student's t interval.

    Args:
        values: one number per run; NaN is left out.
        confidence: confidence of the interval, in (0, 1).

    Examples:
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
    half = t_quantile(n - 1, confidence) * deviation / math.sqrt(n)
    return Interval(mean=mean, low=mean - half, high=mean + half, deviation=deviation, n=n, kind="t")


@lru_cache(maxsize=64)
def t_quantile(freedom: int, confidence: float) -> float:
    """Return the limit that the absolute value of Student's t stays below with probability `confidence`.

    By bisection of the distribution's closed form for whole degrees of freedom (Abramowitz and Stegun 1964, 26.7.3 and
    26.7.4): importing SciPy would take longer than a leaderboard of a hundred runs.

    Args:
        freedom: degrees of freedom, at least 1.
        confidence: in (0, 1).

    Examples:
        >>> round(t_quantile(2, 0.95), 3)
        4.303
    """
    low, high = 0.0, math.pi / 2  # of atan(t / sqrt(freedom))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_share(freedom, middle) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _t_share(freedom: int, angle: float) -> float:
    """Return the probability that |t| is below sqrt(freedom) tan(angle)."""
    term = total = math.cos(angle) if freedom % 2 else 1.0
    for power in range(2 + freedom % 2, freedom, 2):
        term *= math.cos(angle) ** 2 * (power - 1) / power
        total += term
    if freedom % 2 == 0:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + (math.sin(angle) * total if freedom > 1 else 0.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values after Holm's correction for multiple tests (Holm 1979), in their order.

    Examples:
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
        wins: number of runs in which the first is better.
        ties: number of runs in which both are equal.
        losses: number of runs in which the first is worse.
        p: p-value; None if no outcome of this number of runs could reach the corrected level.
        adjusted: Holm-corrected p-value; equal to `p` for a planned comparison.
        least: smallest (adjusted) p-value that this number of runs can give.
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
    """Test each set of paired differences, with Holm's correction for all of them together.

    Args:
        differences: per comparison, one number per shared run; positive is better, NaN is left out.
        confidence: confidence of the intervals; the level of the tests is 1 - confidence.
        correct: apply Holm's correction; False for one comparison planned before looking at the results.

    Examples:
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


def unit_differences(one: Array, others: Array, levels: Sequence[int] | None = None) -> Array:
    """Return how far a method is above others, by run or as means over the shared runs of each level.

    Args:
        one: [N] scores by run; NaN if the method lacks the run.
        others: [K, N] likewise.
        levels: [N] the level of every run; None where runs are the units.

    Returns:
        [K, N], or [K, L] for L levels; NaN without a shared run.

    Examples:
        >>> unit_differences(np.array([3.0, 4.0, 5.0]), np.array([[1.0, 0.0, 2.0]]), [0, 0, 1]).tolist()
        [[3.0, 3.0]]
    """
    differences = one - others
    if levels is None:
        return differences
    known = ~np.isnan(differences)
    # [L, N], as numbers: a product of two boolean arrays would be a logical or, and no count.
    places = (np.asarray(levels) == np.unique(levels)[:, None]).astype(np.float64)
    counts, sums = known @ places.T, np.where(known, differences, 0.0) @ places.T
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def standings(scores: Array, *, confidence: float = 0.95, levels: Sequence[int] | None = None) -> NDArray[np.int_]:
    """Compare all methods with each other by the intervals of their paired differences.

    Args:
        scores: [K, N], method by run; higher is better, NaN if a method lacks the run.
        confidence: confidence of the intervals.
        levels: [N] the level of every run, if the units are levels and not runs.

    Returns:
        [K, K] of 1 (row better than column), -1 (worse), 0 (the interval covers 0, or fewer than two shared units).
    """
    num_methods = len(scores)
    outcome = np.zeros((num_methods, num_methods), dtype=np.int_)
    for first in range(num_methods):
        differences = unit_differences(scores[first], scores[first + 1 :], levels)
        counts = (~np.isnan(differences)).sum(axis=1)
        for offset in np.flatnonzero(counts >= 2):
            interval = mean_interval(differences[offset], confidence=confidence)
            sign = int(interval.low > 0) - int(interval.high < 0)
            second = first + 1 + int(offset)
            outcome[first, second], outcome[second, first] = sign, -sign
    return outcome


def ranks(outcome: NDArray[np.int_]) -> list[int]:
    """Return the rank of each method: 1 + the number of better methods; methods that tie may share a rank.

    Args:
        outcome: [K, K], as `standings` returns it.

    Examples:
        >>> ranks(np.array([[0, 0, 1], [0, 0, 0], [-1, 0, 0]]))
        [1, 1, 2]
    """
    return [1 + int((row < 0).sum()) for row in outcome]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Components of the variance of a score, as standard deviations in units of the score; NaN if unknown.

    Args:
        pretraining: between runs, without the part that fine-tuning explains.
        finetuning: between fine-tuning seeds of one run.
    """

    pretraining: float
    finetuning: float


def tell_apart(scores: Array) -> Spread:
    """Separate pre-training from fine-tuning variance (two-way analysis of variance, random effects).

    Every run is fine-tuned with the same seeds. An effect of a seed that all runs share does not spread the means of runs;
    it counts as fine-tuning variance.

    Args:
        scores: [N, F], run by fine-tuning seed; with a NaN both components are NaN.

    Examples:
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
