"""Figures of a run beside its score metrics: pure functions of one result, or of a result and its joint run.

Losses are in nats, shares and scores in [0, 1]; what is missing is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import numpy as np

from ctbench.results.joint import last_row
from ctbench.results.matrix import Array
from ctbench.results.schema import Result


def as_numbers(values: tuple[float | None, ...]) -> Array:
    """Return numbers as an array, NaN for None."""
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def general(result: Result, _joint: Result | None = None) -> float:
    """Return the change of the held-out loss of general text from row 0 to row T, in nats; above 0 is forgotten."""
    rows = as_numbers(result.general_loss)
    return float(rows[-1] - rows[0]) if rows.size else math.nan


def general_bits(result: Result, _joint: Result | None = None) -> float:
    """Return the held-out loss of general text in row T, in bits per byte."""
    rows = as_numbers(result.general_bits)
    return float(rows[-1]) if rows.size else math.nan


def gap_to_joint(result: Result, joint: Result | None = None) -> float:
    """Return the mean over domains of joint_j - R[T][j]: how far a run stays below joint training; below 0 it is better."""
    if joint is None:
        return math.nan
    return float((last_row(joint, result.stream.domains) - result.matrix[-1]).mean())


def recovered(result: Result, joint: Result | None = None) -> float:
    """Return what a run gained over row 0 as a share of what joint training gained, means over domains; 1 is all of it.

    A ratio of means and not a mean of ratios: where joint training gains little on a domain, that domain's ratio says
    nothing. NaN where joint training gains nothing at all.
    """
    if joint is None:
        return math.nan
    base = result.matrix[0]
    possible = float((last_row(joint, result.stream.domains) - base).mean())
    return float((result.matrix[-1] - base).mean()) / possible if possible > 0 else math.nan


def stability_gap(result: Result, _joint: Result | None = None) -> float:
    """Return the mean, over stages and their past domains, of the worst held-out loss inside the stage minus the first.

    In nats, 0 at least. It needs `pretrain.probes`; general text does not enter.
    """
    gaps = [
        values.max() - values[0]
        for stage in result.stages
        for name, losses in stage.probes.items()
        if name in result.stream.domains and (values := as_numbers(losses)).size
    ]
    return float(np.mean(gaps)) if gaps else math.nan


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of a run.

    Args:
        name: name in tables, files and options.
        function: from a result and the joint run of its seed (None: there is none) to a number; NaN if undefined.
        definition: formula in one line of text.
        better: direction of better values.
        unit: "nats", "bits per byte", "points" or "%"; values of the last two are shares.
        is_difference: whether the figure is a change, which is shown with its sign.
    """

    name: str
    function: Callable[[Result, Result | None], float]
    definition: str
    better: Literal["higher", "lower"]
    unit: str
    is_difference: bool = False


_ALL = (
    Figure(
        name="general",
        function=general,
        definition="G[T] - G[0], G[i] the held-out LM loss of the stream's general text in row i",
        better="lower",
        unit="nats",
        is_difference=True,
    ),
    Figure(
        name="general_bits",
        function=general_bits,
        definition="G[T] in bits per byte",
        better="lower",
        unit="bits per byte",
    ),
    Figure(
        name="gap_to_joint",
        function=gap_to_joint,
        definition="mean over j of (joint_j - R[T][j]), joint_j the last row of the joint run of the same seed",
        better="lower",
        unit="points",
        is_difference=True,
    ),
    Figure(
        name="recovered",
        function=recovered,
        definition="mean over j of (R[T][j] - R[0][j]) / mean over j of (joint_j - R[0][j])",
        better="higher",
        unit="%",
    ),
    Figure(
        name="stability_gap",
        function=stability_gap,
        definition="mean over stages and their past domains of (max over probes of the held-out loss - that at the start)",
        better="lower",
        unit="nats",
        is_difference=True,
    ),
)

FIGURES: Final = MappingProxyType({figure.name: figure for figure in _ALL})
"""Every figure by name."""
