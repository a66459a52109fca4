"""A head that gives every word of a text a tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ctbench.backbone import Backbone, Batch
from ctbench.backbone.batch import move
from ctbench.data.spans import OUTSIDE, SpanSplit, score_spans
from ctbench.data.stream import FinetuneRecipe
from ctbench.kernels.dropout import drop
from ctbench.training.solver import Rows, Solver


class Tagger(Solver):
    """A backbone with a linear head on a token of each word: the first one for an encoder, the last one for a decoder.

    Args:
        backbone: the LM; what requires grad in it trains with the head.
        num_classes: number C of tags.
        recipe: head and dropout.
    """

    def __init__(self, backbone: Backbone, num_classes: int, recipe: FinetuneRecipe) -> None:
        super().__init__(backbone, recipe)
        self.output = nn.Linear(backbone.num_features(head=recipe.head), num_classes)

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits [M, C] of the words of a batch, which stand at its `positions`."""
        assert batch.positions is not None
        # A prompter leaves an encoder's predicted places out of what it reads; these words are all there to be read.
        features = self.backbone.features(replace(batch, positions=None), head=self.recipe.head)
        picked = features.flatten(0, 1)[batch.positions].float()
        if self.training and self.recipe.dropout > 0:
            picked = drop(picked, self.recipe.dropout, self.backbone.dropout_source)
        logits: Tensor = self.output(picked)
        return logits

    def take(self, examples: SpanSplit, rows: Rows) -> tuple[Batch, Tensor]:
        """Return texts with the numbers of the tags of all their words that are not cut off, [M]."""
        batch, where = self._batch(examples.ids, rows)
        width, places = batch.input_ids.shape[1], self._places(examples)
        positions = [number * width + places[row][places[row] >= 0] for number, row in enumerate(rows)]
        targets = [examples.tags[row][places[row] >= 0] for row in rows]
        asked = Batch(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            positions=move(torch.from_numpy(np.concatenate(positions)), where),
        )
        return asked, move(torch.from_numpy(np.concatenate(targets)), where)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross entropy of the tags; 0 of texts of which no word has a token."""
        return super().loss(logits, targets) if len(targets) else logits.sum()

    def read(self, logits: Tensor, targets: Tensor, examples: SpanSplit, rows: Rows) -> Sequence[list[str]]:
        """Return the likeliest tags of the words of each text; words that are cut off are no entity."""
        likeliest, answers, places = iter(logits.argmax(1).tolist()), [], self._places(examples)
        for row in rows:
            answers.append([examples.labels[next(likeliest)] if place >= 0 else OUTSIDE for place in places[row]])
        return answers

    def score(self, examples: SpanSplit, answers: Sequence[Any]) -> dict[str, float]:
        """Return the F1 of spans."""
        return score_spans([[examples.labels[tag] for tag in tags] for tags in examples.tags], answers)

    def _places(self, examples: SpanSplit) -> tuple[Rows, ...]:
        return examples.lasts if self.backbone.objective == "clm" else examples.firsts
