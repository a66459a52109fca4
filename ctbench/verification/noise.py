"""How far a number that is computed again may be from the one in a result, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

EXACT: Final = 1e-12
"""Numbers that differ by less are equal: files hold them in full precision."""
SAME_WEIGHTS: Final = {"fp32": 1e-4, "bf16": 2e-2}
"""Relative tolerance of a loss of one and the same LM, read on another processor or device, by precision."""
TRAINED: Final = {"fp32": 2e-3, "rough": 2e-2}
"""Relative tolerance of a loss after training whose last bits differed: in fp32 on CPUs, and with bf16 or a GPU (an estimate).

Naive on the embedded stream `domain`, with AVX-512 and with AVX2: 1e-7 after one stage, 1.2e-4 after five.
"""
ERRORS: Final = {"fp32": 1.5, "rough": 3.0}
"""Tolerance of a score after such training, in sampling errors of its test set. In the same two runs: 0.43 at most."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The largest absolute difference that still agrees.

    Args:
        amount: in the unit of the number.
        reason: where it comes from, for a reader.
    """

    amount: float
    reason: str


def bit_for_bit() -> Tolerance:
    """Return the tolerance where the arithmetic has proved to be the same."""
    return Tolerance(amount=EXACT, reason="weights computed again are equal bit for bit, so their numbers must be too")


def of_same_weights(value: float, precision: str) -> Tolerance:
    """Return the tolerance of a loss of an LM whose weights are those of the result; nothing was trained."""
    share = SAME_WEIGHTS[precision]
    return Tolerance(
        amount=abs(value) * share, reason=f"the same weights, other arithmetic ({precision}): {share:g} of the loss"
    )


def of_trained_loss(value: float, *, rough: bool = False) -> Tolerance:
    """Return the tolerance of a loss after training whose last bits differed; `rough` with bf16 or a GPU."""
    kind = "rough" if rough else "fp32"
    share = TRAINED[kind]
    return Tolerance(amount=abs(value) * share, reason=f"{_REASONS[kind]}: {share:g} of the loss")


def of_score(score: float, num_test: int | None, *, rough: bool = False) -> Tolerance:
    """Return the tolerance of a score after training whose last bits differed.

    Such a run ends in another LM, at most as another seed would. Two equally good LMs differ on one test set by less than
    one LM does on two, and the standard error of that is sqrt(p (1 - p) / n).

    Args:
        score: p, the score that was computed again, in [0, 1].
        num_test: n, number of test texts.
        rough: whether bf16 or a GPU had a part in it.
    """
    kind = "rough" if rough else "fp32"
    share, count, errors = min(max(score, 0.0), 1.0), num_test or 1, ERRORS[kind]
    error = math.sqrt(max(share * (1 - share), 1 / count) / count)
    return Tolerance(
        amount=errors * error, reason=f"{_REASONS[kind]}: {errors:g} sampling errors of {count:,} test texts"
    )


_REASONS: Final = {
    "fp32": "training whose last bits differ",
    "rough": "training in bf16 or on a GPU, which draws other dropout than a CPU",
}
