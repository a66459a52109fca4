"""P-values by flipping the signs of paired differences; deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ctbench.results.matrix import Array

MAX_EXACT = 16
"""Maximum number of pairs for which all sign flips are enumerated; above, NUM_FLIPS random ones are drawn."""

NUM_FLIPS = 19_999


def sign_flip_p(differences: Sequence[float] | Array) -> float:
    """Return the two-sided p-value of the hypothesis that the differences are symmetric around 0, by flipping signs of runs.

    Exact for up to MAX_EXACT pairs; above, NUM_FLIPS random flips are drawn from a generator seeded with n.

    Examples:
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
    """Return rows [F, n] of signs: every pattern with the last sign fixed (the others mirror them), or random ones."""
    if n > MAX_EXACT:
        ones = np.random.default_rng(n).integers(0, 2, size=(NUM_FLIPS, n))
    else:
        ones = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1
    return np.asarray(1.0 - 2.0 * ones, dtype=np.float64)


def smallest_p(n: int) -> float:
    """Return the smallest p-value that `sign_flip_p` can give for n pairs.

    Examples:
        >>> smallest_p(5)
        0.0625
    """
    return 2.0 ** (1 - n) if n <= MAX_EXACT else 1 / (1 + NUM_FLIPS)
