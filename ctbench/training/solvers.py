"""What a cell trains and scores: an LM with a head that names classes, or the LM itself that finds answers likely or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench.backbone import Backbone, Batch
from ctbench.backbone.batch import move
from ctbench.data.answers import score_numbers, score_sets
from ctbench.data.choices import ChoiceData, ChoiceSplit
from ctbench.data.generation import GenerationData, GenerationSplit
from ctbench.data.spans import SpanData, SpanSplit
from ctbench.data.stream import FinetuneRecipe
from ctbench.data.tasks import EncodedSplit, EndTask, score
from ctbench.data.tasktables import TaskKind
from ctbench.kernels.dropout import drop
from ctbench.training.likelihood import Chooser, Writer
from ctbench.training.solver import Rows, Solver
from ctbench.training.tagging import Tagger

Split = EncodedSplit | ChoiceSplit | SpanSplit | GenerationSplit


@dataclass(frozen=True, kw_only=True)
class Answering:
    """How a pooled head is trained, read and scored, by kind of task.

    Args:
        loss: from logits [B, C] and targets to the training loss.
        read: from logits [B, C] to the answers of B texts.
        score: from targets, answers and the number C of classes to the scores by name.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    read: Callable[[Tensor], Tensor]
    score: Callable[[npt.NDArray[Any], npt.NDArray[Any], int], dict[str, float]]


ANSWERING: Final[Mapping[TaskKind, Answering]] = {
    "classification": Answering(loss=F.cross_entropy, read=lambda logits: logits.argmax(1), score=score),
    "regression": Answering(
        loss=lambda logits, targets: F.mse_loss(logits.squeeze(1), targets),
        read=lambda logits: logits.squeeze(1),
        score=lambda targets, answers, _: score_numbers(targets, answers),
    ),
    "multilabel": Answering(
        loss=F.binary_cross_entropy_with_logits,
        read=lambda logits: logits > 0,
        score=lambda targets, answers, _: score_sets(targets, answers),
    ),
}
"""Cross entropy and the likeliest label; squared error of a standardised number; labels that are likelier than not."""


class Classifier(Solver):
    """A backbone with a pooled, linear head.

    Args:
        backbone: the LM; what requires grad in it trains with the head.
        num_classes: C; 1 of a regression.
        recipe: pooling, head and dropout.
        kind: what is asked, a key of `ANSWERING`.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, recipe: FinetuneRecipe, *, kind: TaskKind = "classification"
    ) -> None:
        super().__init__(backbone, recipe)
        self.answering = ANSWERING[kind]
        self.pooling = recipe.pooling
        if self.pooling == "auto":
            self.pooling = "last" if backbone.objective == "clm" else "mean"
        self.output = nn.Linear(backbone.num_features(head=recipe.head), num_classes)

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits [B, C] of a batch."""
        features = self.backbone.features(batch, head=self.recipe.head)
        mask = torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask
        pooled = pool(features, mask, self.pooling)
        if self.training and self.recipe.dropout > 0:
            pooled = drop(pooled, self.recipe.dropout, self.backbone.dropout_source)
        logits: Tensor = self.output(pooled)
        return logits

    def take(self, examples: EncodedSplit, rows: Rows) -> tuple[Batch, Tensor]:
        """Return texts with the numbers of their labels [B], or what else is asked of them."""
        batch, where = self._batch(examples.ids, rows, examples.segments)
        return batch, move(torch.from_numpy(examples.targets[rows]), where)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of the kind of task."""
        return self.answering.loss(logits, targets)

    def read(self, logits: Tensor, targets: Tensor, examples: EncodedSplit, rows: Rows) -> Sequence[Any]:
        """Return the number of the likeliest label of each text, or what else is asked of it."""
        answers: list[Any] = self.answering.read(logits).tolist()
        return answers

    def score(self, examples: EncodedSplit, answers: Sequence[Any]) -> dict[str, float]:
        """Return the scores of the kind of task."""
        return self.answering.score(examples.targets, np.array(answers), self.output.out_features)


def pool(features: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Return one vector per text.

    Args:
        features: [B, T, F].
        mask: [B, T], 1 on real tokens; padding is on the right.
        pooling: "mean" over real tokens, the "first" one, or the "last" real one.

    Returns:
        [B, F].
    """
    features = features.float()
    if pooling == "first":
        return features[:, 0]
    if pooling == "last":
        return features[torch.arange(len(features), device=features.device), mask.sum(1) - 1]
    weights = mask.to(features.dtype).unsqueeze(-1)
    return (features * weights).sum(1) / weights.sum(1)


def solver_of(backbone: Backbone, task: EndTask, recipe: FinetuneRecipe) -> Solver:
    """Return what solves a task."""
    if isinstance(task, ChoiceData):
        return Chooser(backbone, recipe)
    if isinstance(task, GenerationData):
        return Writer(backbone, recipe)
    if isinstance(task, SpanData):
        return Tagger(backbone, len(task.labels), recipe)
    return Classifier(backbone, len(task.labels) or 1, recipe, kind=task.kind)
