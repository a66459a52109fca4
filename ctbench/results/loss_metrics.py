"""The metrics of the matrix of LM losses: those of the scores, with the signs of a loss.

The matrix L has the shape of the matrix of scores: L[i][j] is the held-out LM loss of domain j under the LM of row i, in
nats per predicted token; lower is better. A level (anytime, learned, unseen, final, worst) is a mean of losses. A transfer
(BWT, FWT, FWT_all, gain) is the metric of the negated losses: how far the loss fell, so that positive is better, as for
scores. Forgetting is how far the loss rose from its minimum. Each is the metric of the same name on -L, but for the sign of
the levels; for A_Acc, O_Acc and F_Acc the field says learned, unseen and final loss.

Examples:
    >>> import numpy as np
    >>> losses = np.array([[4.0, 4.0], [2.0, 4.5], [3.0, 1.0]])
    >>> found = all_loss_metrics(losses)
    >>> found["learned"], found["final"], found["forgetting"], found["BWT"], found["FWT"]
    (1.5, 2.0, 1.0, -1.0, -0.5)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from ctbench.errors import UnknownName
from ctbench.results.matrix import Array, as_matrix, is_joint
from ctbench.results.metrics import METRICS, Metric

On = Literal["score", "loss"]
"""The matrix that metrics are of: scores of the end tasks, or held-out LM losses."""


def _metric(name: str, of: str, definition: str, source: str) -> Metric:
    """Return metric `of` of the negated losses as a metric of losses."""
    score = METRICS[of]
    is_level = not score.is_difference and score.better == "higher"
    sign = -1.0 if is_level else 1.0

    def function(losses: Array, *, partial: bool = False) -> float:
        return sign * score.function(-losses, partial=partial)

    return Metric(
        name=name,
        function=function,
        definition=definition,
        source=source,
        better="lower" if is_level else score.better,
        is_difference=score.is_difference,
        for_joint=score.for_joint,
        is_loss=of != "negative_transfer",
    )


_ALL = (
    _metric("anytime", "anytime", "mean over i ≥ 1 and all j of L[i][j]", "the average domain at any time"),
    _metric("learned", "A_Acc", "mean over i ≥ 1 of L[i][i]", "the domain just learned; A_Acc of losses"),
    _metric("unseen", "O_Acc", "mean over 1 ≤ i < j ≤ T of L[i][j]", "domains not seen yet; O_Acc of losses"),
    _metric("final", "F_Acc", "mean over j of L[T][j]", "after the last stage; F_Acc of losses"),
    _metric("BWT", "BWT", "1/(T-1) Σ over j < T of (L[j][j] - L[T][j])", "backward transfer; positive: the loss fell"),
    _metric(
        "FWT", "FWT", "1/(T-1) Σ over j ≥ 2 of (L[0][j] - L[j-1][j])", "forward transfer from the untouched LM, L[0]"
    ),
    _metric(
        "FWT_all",
        "FWT_all",
        "mean over 1 ≤ i < j ≤ T of (L[0][j] - L[i][j])",
        "how far the loss of unseen domains fell below the untouched LM's",
    ),
    _metric(
        "forgetting",
        "forgetting",
        "1/(T-1) Σ over j < T of (L[T][j] - min over j ≤ l < T of L[l][j])",
        "how far the loss rose again (Chaudhry et al. 2018, on losses)",
    ),
    _metric(
        "gain",
        "gain",
        "mean over i ≥ 1 and all j of (L[0][j] - L[i][j]); of row T alone for joint training",
        "mean fall of the loss below the untouched LM's",
    ),
    _metric(
        "negative_transfer",
        "negative_transfer",
        "share of the cells with i ≥ 1 that lie above L[0][j]",
        "how often pre-training made a domain's loss worse",
    ),
    _metric("worst", "worst", "max over j of the mean over i ≥ 1 of L[i][j]", "the domain with the highest loss"),
)

LOSS_METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
"""Every metric of LM losses by name, in the order of the tables."""

_SAME = {"A_Acc": "learned", "O_Acc": "unseen", "F_Acc": "final"}
"""What a metric of scores is called as a metric of losses, where its name says accuracy."""

_BY_MATRIX: Mapping[str, Mapping[str, Metric]] = {"score": METRICS, "loss": LOSS_METRICS}


def find_metric(name: str, on: str = "score") -> Metric:
    """Return the metric called `name` of a matrix; a metric of losses may be asked for by its name on scores.

    Args:
        name: a key of METRICS or LOSS_METRICS.
        on: "score" or "loss".

    Raises:
        UnknownName: no such metric or matrix.

    Examples:
        >>> find_metric("A_Acc", "loss").name, find_metric("A_Acc", "loss").better
        ('learned', 'lower')
    """
    known = metrics_on(on)
    name = _SAME.get(name, name) if on == "loss" else name
    if name not in known:
        raise UnknownName("metric" if on == "score" else "metric of losses", name, known)
    return known[name]


def metrics_on(on: str) -> Mapping[str, Metric]:
    """Return every metric of a matrix by name.

    Raises:
        UnknownName: the matrix is neither "score" nor "loss".
    """
    if on not in _BY_MATRIX:
        raise UnknownName("matrix", on, _BY_MATRIX)
    return _BY_MATRIX[on]


def all_loss_metrics(losses: Array, *, num_stages: int | None = None) -> dict[str, float | None]:
    """Return every metric of `losses` [T+1, T] in nats by name; None if undefined. As `ctbench.results.metrics.all_metrics`."""
    matrix = as_matrix(losses)
    found = {name: metric.of(matrix) for name, metric in LOSS_METRICS.items()}
    if is_joint(matrix) and (num_stages or 1) > 1:
        found["gain"] = math.nan
    return {name: None if math.isnan(value) else value for name, value in found.items()}
