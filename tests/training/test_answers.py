"""A pooled head learns numbers and sets of labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ctbench.backbone.loading import load_backbone
from ctbench.data.answers import score_numbers
from ctbench.data.stream import FinetuneRecipe
from ctbench.data.tasks import EncodedSplit, TaskData
from ctbench.errors import RunFailed
from ctbench.training.finetune import finetune
from ctbench.training.solvers import ANSWERING

RECIPE = FinetuneRecipe(precision="fp32", lr=3e-3, epochs=15, batch=8, dropout=0.0)


def task_of(kind, targets_of, labels):
    draw = np.random.default_rng(0)
    ids = [np.array([2, *draw.integers(5, 95, size=4), 3]) for _ in range(40)]
    for number, row in enumerate(ids):
        row[1:3] = 10 + number % 2, 20 + number // 2 % 2  # two words that say everything
    split = EncodedSplit(ids=tuple(ids), targets=targets_of(np.array([row[1:3] for row in ids])))
    return TaskData(kind=kind, labels=labels, train=split, validation=None, test=split, majority=None, baseline={})


def test_a_regression_learns_a_number(checkpoint):
    task = task_of("regression", lambda words: (words[:, 0] - 10.5 + 2 * words[:, 1] - 41).astype(np.float32), ())
    found = finetune(load_backbone(str(checkpoint("bert"))), task, name="x", recipe=RECIPE, seed=0)
    assert set(found.metrics) == {"pearson", "spearman"}
    assert found.metrics["pearson"] > 0.8


def test_several_labels_are_learned(checkpoint):
    task = task_of("multilabel", lambda words: (words % 2 == 1).astype(np.float32), ("a", "b"))
    found = finetune(load_backbone(str(checkpoint("llama"))), task, name="x", recipe=RECIPE, seed=0)
    assert set(found.metrics) == {"micro_f1", "macro_f1", "exact_match"}
    assert found.metrics["micro_f1"] > 0.9


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_cell_whose_last_update_breaks_the_weights_fails_and_has_no_score(checkpoint, kind):
    kinds = {"regression": ((), np.float32), "classification": (("a", "b"), np.int64)}
    labels, number = kinds[kind]
    task = task_of(kind, lambda words: (words[:, 0] - 10).astype(number), labels)
    recipe = FinetuneRecipe(precision="fp32", lr=1e39, epochs=1, batch=40, warmup_fraction=0.0)  # of no float32
    with pytest.raises(RunFailed, match=r"diverged in epoch 1: weights became NaN or infinite; lower finetune\.lr"):
        finetune(load_backbone(str(checkpoint("bert"))), task, name="x", recipe=recipe, seed=0)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_answers_that_are_not_finite_are_refused(broken):
    with pytest.raises(RunFailed, match="1 of 3 answers are NaN or infinite"):
        score_numbers(np.array([1.0, 2.0, 3.0]), np.array([1.0, broken, 2.0]))


def test_losses_and_answers_are_those_by_hand():
    logits = torch.tensor([[0.5, -1.0], [2.0, 3.0]])
    sets = ANSWERING["multilabel"]
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    wanted = F.softplus(torch.tensor([-0.5, -1.0, 2.0, -3.0])).mean()
    assert float(sets.loss(logits, targets)) == pytest.approx(float(wanted))
    assert sets.read(logits).tolist() == [[True, False], [True, True]]
    numbers = ANSWERING["regression"]
    assert float(numbers.loss(torch.tensor([[1.0], [4.0]]), torch.tensor([2.0, 2.0]))) == 2.5
    assert ANSWERING["classification"].read(logits).tolist() == [0, 1]
