"""The metrics: pure functions of the matrix of scores, each with its definition.

The matrix R has T + 1 rows and T columns: R[i][j] is the score of task j after fine-tuning the LM of row i. Row 0 is
the untouched LM, row i the LM after stage i, and j = 1..T numbers the tasks in the order of the stages. A missing cell
is NaN, and so is every number that needs one. Joint training has no rows 1..T-1; only F_Acc and gain are defined for it.

Examples:
    >>> import numpy as np
    >>> scores = np.array([[0.5, 0.6], [0.9, 0.5], [0.7, 0.8]])
    >>> round(METRICS["BWT"].function(scores), 3)
    -0.2
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from ctbench.errors import UnknownName
from ctbench.results.matrix import Array, as_matrix, is_joint, unseen_mask


def _mean(values: Array, partial: bool) -> float:
    kept = values[~np.isnan(values)] if partial else values
    return float(np.add.reduce(kept, axis=None)) / kept.size if kept.size else math.nan


def _minus_base(matrix: Array) -> Array:
    difference: Array = matrix - matrix[0]
    return difference


def a_acc(matrix: Array, *, partial: bool = False) -> float:
    """Return A_Acc = mean over i >= 1 of R[i][i]: the score of the domain just learned.

    Source: Jiang et al. 2023 (2310.13024) name the metric; the formula is from memory, unconfirmed.
    """
    return _mean(np.diagonal(matrix[1:]), partial)


def o_acc(matrix: Array, *, partial: bool = False) -> float:
    """Return O_Acc = mean over 1 <= i < j <= T of R[i][j]: domains not seen yet; row 0 does not enter.

    Source: Jiang et al. 2023 (2310.13024) name the metric; the formula is from memory, unconfirmed. It equals
    TiC-LM's "forward".
    """
    return _mean(matrix[unseen_mask(matrix.shape[1])], partial)


def f_acc(matrix: Array, *, partial: bool = False) -> float:
    """Return F_Acc = mean over j of R[T][j]: all domains after the last stage (ACC of Lopez-Paz and Ranzato 2017)."""
    return _mean(matrix[-1], partial)


def bwt(matrix: Array, *, partial: bool = False) -> float:
    """Return BWT = 1/(T-1) sum over j < T of (R[T][j] - R[j][j]) (Lopez-Paz and Ranzato 2017)."""
    return _mean((matrix[-1] - np.diagonal(matrix[1:]))[:-1], partial)


def fwt(matrix: Array, *, partial: bool = False) -> float:
    """Return FWT = 1/(T-1) sum over j >= 2 of (R[j-1][j] - R[0][j]).

    Source: Lopez-Paz and Ranzato 2017, whose reference is a random network; here it is the fine-tuned untouched LM.
    """
    return _mean((np.diagonal(matrix) - matrix[0])[1:], partial)


def fwt_all(matrix: Array, *, partial: bool = False) -> float:
    """Return FWT_all = mean over 1 <= i < j <= T of (R[i][j] - R[0][j]): O_Acc minus its row-0 counterpart."""
    return _mean(_minus_base(matrix)[unseen_mask(matrix.shape[1])], partial)


def forgetting(matrix: Array, *, partial: bool = False) -> float:
    """Return 1/(T-1) sum over j < T of (max over j <= l < T of R[l][j] - R[T][j]).

    Source: Chaudhry et al. 2018; the maximum runs over the stages that have seen j. (Avalanche uses first minus last.)
    """
    num_tasks = matrix.shape[1]
    highest = np.fmax if partial else np.maximum
    drops = [highest.reduce(matrix[j + 1 : num_tasks, j]) - matrix[-1, j] for j in range(num_tasks - 1)]
    return _mean(np.array(drops, dtype=np.float64), partial)


def anytime(matrix: Array, *, partial: bool = False) -> float:
    """Return the mean over i >= 1 and all j of R[i][j]: the average user, at any time, on any domain."""
    return _mean(matrix[1:], partial)


def gain(matrix: Array, *, partial: bool = False) -> float:
    """Return the mean over i >= 1 and all j of R[i][j] - R[0][j]; of the last row alone for joint training."""
    rows = _minus_base(matrix)[1:]
    return _mean(rows[-1] if is_joint(matrix) else rows, partial)


def negative_transfer(matrix: Array, *, partial: bool = False) -> float:
    """Return the share of the cells with i >= 1 below row 0 of their column, in [0, 1]."""
    differences = _minus_base(matrix)[1:]
    return _mean(np.where(np.isnan(differences), math.nan, (differences < 0).astype(np.float64)), partial)


def worst(matrix: Array, *, partial: bool = False) -> float:
    """Return the minimum over j of the mean over i >= 1 of R[i][j]: the domain with the lowest mean."""
    columns = np.array([_mean(column, partial) for column in matrix[1:].T])
    return float(columns.min())


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric: function, definition and source.

    Args:
        name: name in tables, files and options.
        function: from a matrix [T+1, T] to a number; NaN if a needed cell is missing, unless `partial`.
        definition: formula in one line of text.
        source: reference and remarks.
        better: direction of better values.
        is_difference: whether the metric is a difference of scores (shown in points).
        for_joint: whether the metric is defined for a run of one stage on the union of the domains.
        is_loss: whether the metric is in nats per predicted token: a metric of the matrix of LM losses.
    """

    name: str
    function: Callable[..., float]
    definition: str
    source: str
    better: Literal["higher", "lower"] = "higher"
    is_difference: bool = False
    for_joint: bool = False
    is_loss: bool = False

    def of(self, matrix: Array, *, partial: bool = False) -> float:
        """Return the metric of `matrix` [T+1, T]; NaN if undefined."""
        if is_joint(matrix) and not self.for_joint:
            return math.nan
        return self.function(matrix, partial=partial)


_ALL = (
    Metric(
        name="A_Acc",
        function=a_acc,
        definition="mean over i ≥ 1 of R[i][i]",
        source="adaptability: the domain just learned (Jiang et al. 2023; formula from memory)",
    ),
    Metric(
        name="O_Acc",
        function=o_acc,
        definition="mean over 1 ≤ i < j ≤ T of R[i][j]",
        source="domains not seen yet, without row 0 (Jiang et al. 2023; formula from memory); TiC-LM's forward",
    ),
    Metric(
        name="F_Acc",
        function=f_acc,
        definition="mean over j of R[T][j]",
        source="after the last stage (ACC of Lopez-Paz and Ranzato 2017)",
        for_joint=True,
    ),
    Metric(
        name="BWT",
        function=bwt,
        definition="1/(T-1) Σ over j < T of (R[T][j] - R[j][j])",
        source="backward transfer (Lopez-Paz and Ranzato 2017)",
        is_difference=True,
    ),
    Metric(
        name="FWT",
        function=fwt,
        definition="1/(T-1) Σ over j ≥ 2 of (R[j-1][j] - R[0][j])",
        source="forward transfer (Lopez-Paz and Ranzato 2017); the reference R[0] is the fine-tuned untouched LM here, "
        "a random network there",
        is_difference=True,
    ),
    Metric(
        name="FWT_all",
        function=fwt_all,
        definition="mean over 1 ≤ i < j ≤ T of (R[i][j] - R[0][j])",
        source="O_Acc minus its row-0 counterpart: gain or loss of unseen domains; R[0]: the fine-tuned untouched LM",
        is_difference=True,
    ),
    Metric(
        name="forgetting",
        function=forgetting,
        definition="1/(T-1) Σ over j < T of (max over j ≤ l < T of R[l][j] - R[T][j])",
        source="Chaudhry et al. 2018; the maximum runs over the stages that have seen j",
        better="lower",
        is_difference=True,
    ),
    Metric(
        name="anytime",
        function=anytime,
        definition="mean over i ≥ 1 and all j of R[i][j]",
        source="the average user, at any time, on any domain",
    ),
    Metric(
        name="gain",
        function=gain,
        definition="mean over i ≥ 1 and all j of (R[i][j] - R[0][j]); of row T alone for joint training",
        source="mean improvement over the untouched LM",
        is_difference=True,
        for_joint=True,
    ),
    Metric(
        name="negative_transfer",
        function=negative_transfer,
        definition="share of the cells with i ≥ 1 that lie below R[0][j]",
        source="how often pre-training made a domain worse",
        better="lower",
    ),
    Metric(
        name="worst",
        function=worst,
        definition="min over j of the mean over i ≥ 1 of R[i][j]",
        source="the least-served domain",
    ),
)

METRICS = MappingProxyType({metric.name: metric for metric in _ALL})
"""Every metric by name, in the order of the tables."""


def get_metric(name: str) -> Metric:
    """Return the metric called `name`.

    Raises:
        UnknownName: there is none.

    Examples:
        >>> get_metric("forgetting").better
        'lower'
    """
    if name not in METRICS:
        raise UnknownName("metric", name, METRICS)
    return METRICS[name]


def compute(name: str, matrix: Array, *, partial: bool = False) -> float:
    """Return metric `name` of `matrix`; NaN if undefined.

    Args:
        name: a key of METRICS.
        matrix: [T+1, T], scores in [0, 1], NaN where missing.
        partial: take means over the existing cells; a metric that is undefined for joint training stays undefined.

    Examples:
        >>> import numpy as np
        >>> compute("F_Acc", np.array([[0.5], [0.75]]))
        0.75
    """
    return get_metric(name).of(matrix, partial=partial)


def all_metrics(matrix: Array, *, partial: bool = False, num_stages: int | None = None) -> dict[str, float | None]:
    """Return every metric of `matrix` [T+1, T] by name; None if undefined.

    Args:
        matrix: scores, NaN for missing cells.
        partial: take means over incomplete sets of cells.
        num_stages: of the run's plan, if known. A run of several stages is no joint one, even if all of its rows in
            between are missing.

    Examples:
        >>> import numpy as np
        >>> all_metrics(np.array([[0.5], [0.75]]))["BWT"] is None
        True
    """
    matrix = as_matrix(matrix)
    values = {name: compute(name, matrix, partial=partial) for name in METRICS}
    if is_joint(matrix) and (num_stages or 1) > 1:
        values["gain"] = math.nan
    return {name: None if math.isnan(value) else value for name, value in values.items()}
