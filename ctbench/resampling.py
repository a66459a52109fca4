"""What resamples runs: BCa bootstrap limits of a mean, and p-values by flipping signs. Both are deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_EXACT = 16
"""Up to this many pairs, all sign flips are counted; beyond it, NUM_FLIPS random ones."""

NUM_FLIPS = 19_999
NUM_RESAMPLES = 4_999


def bca_limits(sample: Array, confidence: float) -> tuple[float, float]:
    """Return the limits of the bias-corrected and accelerated bootstrap of the mean (Efron 1987).

    As `scipy.stats.bootstrap(method="BCa")` does; written out because importing scipy.stats takes longer than a whole
    leaderboard may, and because all comparisons of one size can share their resamples.
    """
    from scipy.special import ndtr, ndtri

    centred = sample - sample.mean()
    spread = float((centred**2).sum())
    if spread == 0.0:
        return float(sample.mean()), float(sample.mean())
    means = np.sort(_resamples(sample.size) @ centred)
    below = (means < 0).mean() / 2 + (means <= 0).mean() / 2
    bias = float(ndtri(below))
    # The mean's jackknife values are linear in the sample, which leaves this closed form of the acceleration.
    acceleration = float((centred**3).sum()) / (6 * spread**1.5)
    tail = ndtri(np.array([0.5 - confidence / 2, 0.5 + confidence / 2]))
    shifted = ndtr(bias + (bias + tail) / (1 - acceleration * (bias + tail)))
    places = shifted * (means.size - 1)  # as np.quantile interpolates, which would sort them again
    low, high = np.interp(places, np.arange(means.size), means) + sample.mean()
    return float(low), float(high)


@lru_cache(maxsize=8)
def _resamples(n: int) -> Array:
    """Return NUM_RESAMPLES rows [R, n] of the weights that draws with replacement give to each of n runs."""
    generator = np.random.default_rng(n)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=NUM_RESAMPLES)
    return np.asarray(counts / n, dtype=np.float64)


def sign_flip_p(differences: Sequence[float] | Array) -> float:
    """Return the two-sided p-value of "the differences are symmetric around 0", by flipping the signs of whole runs.

    Exact up to MAX_EXACT pairs, from NUM_FLIPS random flips beyond (deterministic: they depend on n alone).

    Example:
        >>> sign_flip_p([0.1, 0.2, 0.3, 0.4, 0.5])
        0.0625
    """
    sample = np.asarray(differences, dtype=np.float64)
    if sample.size == 0:
        return 1.0
    sums = np.abs(_flips(sample.size) @ sample)
    observed = abs(float(sample.sum()))
    tolerance = 1e-12 * float(np.abs(sample).sum())
    extreme = int((sums >= observed - tolerance).sum())
    if sample.size <= MAX_EXACT:
        return extreme / len(sums)
    return (1 + extreme) / (1 + len(sums))


@lru_cache(maxsize=8)
def _flips(n: int) -> Array:
    """Return rows [F, n] of signs: every pattern that keeps the last sign (the rest mirror them), or random ones."""
    if n > MAX_EXACT:
        ones = np.random.default_rng(n).integers(0, 2, size=(NUM_FLIPS, n))
    else:
        ones = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1
    return np.asarray(1.0 - 2.0 * ones, dtype=np.float64)


def smallest_p(n: int) -> float:
    """Return the least p-value that `sign_flip_p` can give for n pairs.

    Example:
        >>> smallest_p(5)
        0.0625
    """
    return 2.0 ** (1 - n) if n <= MAX_EXACT else 1 / (1 + NUM_FLIPS)
