"""Targets and scores of tasks whose answer is a number (regression) or a set of labels (multilabel)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ctbench.data.examples import Example
from ctbench.errors import BadData, RunFailed

Reals = npt.NDArray[np.float32]
Array = npt.NDArray[Any]


def numbers_of(examples: Sequence[Example]) -> Array:
    """Return the numbers that a regression asks for, [n]."""
    return np.array([float(example.label) for example in examples])


def standardised(examples: Sequence[Example], train: Sequence[Example]) -> Reals:
    """Return the numbers of examples, less the mean of those in training and over their standard deviation, [n]."""
    known = numbers_of(train)
    found: Reals = ((numbers_of(examples) - known.mean()) / known.std()).astype(np.float32)
    return found


def require_different_numbers(train: Sequence[Example], whose: str) -> None:
    """Refuse a regression whose training examples all have one number; raises BadData."""
    if len({float(example.label) for example in train}) < 2:
        raise BadData(f"{whose}: the training examples have no two numbers that differ")


def score_numbers(targets: Array, answers: Array) -> dict[str, float]:
    """Return Pearson's and Spearman's correlation, in [-1, 1]; 0 where either side is constant.

    Examples:
        >>> score_numbers(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0]))["spearman"]
        1.0
        >>> score_numbers(np.array([1.0, 2.0, 3.0]), np.array([5.0, 5.0, 5.0]))
        {'pearson': 0.0, 'spearman': 0.0}

    Raises:
        RunFailed: an answer is not finite.
    """
    from scipy.stats import pearsonr, spearmanr

    broken = int((~np.isfinite(answers)).sum())
    if broken:
        raise RunFailed(f"{broken} of {len(answers)} answers are NaN or infinite; lower finetune.lr")
    if np.ptp(targets) == 0 or np.ptp(answers) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    pearson, spearman = (float(each(targets, answers).statistic) for each in (pearsonr, spearmanr))
    return {"pearson": min(1.0, max(-1.0, pearson)), "spearman": min(1.0, max(-1.0, spearman))}


def indicators(examples: Sequence[Example], labels: Sequence[str]) -> Reals:
    """Return 1 where an example has a label and 0 elsewhere, [n, C]."""
    return np.array([[label in example.labels for label in labels] for example in examples], dtype=np.float32)


def score_sets(targets: Array, answers: Array) -> dict[str, float]:
    """Return micro-F1 and macro-F1 over the labels, and the share of texts whose set of labels is exactly right.

    Args:
        targets: indicators of the labels, [n, C].
        answers: likewise.
    """
    from sklearn.metrics import f1_score

    scores = {
        f"{average}_f1": float(f1_score(targets > 0.5, answers > 0.5, average=average, zero_division=0.0))
        for average in ("micro", "macro")
    }
    return scores | {"exact_match": float(np.mean(((targets > 0.5) == (answers > 0.5)).all(axis=1)))}


def trivial_numbers(test: Sequence[Example]) -> dict[str, float]:
    """Return the scores of always naming the mean of the training numbers, which correlates with nothing."""
    values = numbers_of(test)
    return score_numbers(values, np.zeros_like(values))


def trivial_sets(train: Sequence[Example], test: Sequence[Example], labels: Sequence[str]) -> dict[str, float]:
    """Return the scores of always naming the set of labels that most training examples have, the first of equal ones."""
    sets = Counter(sorted(tuple(sorted(example.labels)) for example in train))
    most = indicators([Example(text="", label="", labels=sets.most_common(1)[0][0])], labels)
    return score_sets(indicators(test, labels), np.repeat(most, len(test), axis=0))
