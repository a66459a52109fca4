"""What all solvers of end tasks share: an LM that is fine-tuned on examples, in batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench.backbone import Backbone, Batch
from ctbench.data.stream import FinetuneRecipe
from ctbench.data.tasks import pad

EVALUATION_TOKENS = 8_192
"""Padded tokens per batch when nothing is trained. A limit on memory, and the text whose mean a running context begins with:
whoever changes it raises `NODE_SCHEMA`."""

Rows = npt.NDArray[np.int64]


class Solver(nn.Module):
    """An LM that is fine-tuned on the examples of a task and answers them.

    Args:
        backbone: the LM; what requires grad in it trains.
        recipe: how it is fine-tuned.
    """

    def __init__(self, backbone: Backbone, recipe: FinetuneRecipe) -> None:
        super().__init__()
        self.backbone = backbone
        self.recipe = recipe

    def take(self, examples: Any, rows: Rows) -> tuple[Batch, Tensor]:
        """Return examples as a batch with targets, on the device of the LM."""
        raise NotImplementedError

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the training loss of what `forward` returned, in float32."""
        return F.cross_entropy(logits, targets)

    def scoring(self) -> AbstractContextManager[None]:
        """Return the context in which examples are answered."""
        return nullcontext()

    def read(self, logits: Tensor, targets: Tensor, examples: Any, rows: Rows) -> Sequence[Any]:
        """Return the answer to each of the examples `rows`."""
        raise NotImplementedError

    def score(self, examples: Any, answers: Sequence[Any]) -> dict[str, float]:
        """Return the scores of the answers to all examples, by name of the metric."""
        raise NotImplementedError

    def _batch(self, ids: Sequence[Rows], rows: Rows, segments: Sequence[Rows] = ()) -> tuple[Batch, torch.device]:
        input_ids, mask = pad(ids, rows, self.backbone.pad_id)
        batch = Batch(
            input_ids=torch.from_numpy(input_ids),
            attention_mask=None if mask.all() else torch.from_numpy(mask),
            segments=torch.from_numpy(pad(segments, rows, 0)[0]) if segments else None,
        )
        where = next(self.backbone.parameters()).device
        return batch.to(where), where


def by_length(lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Return the rows of batches of at most `EVALUATION_TOKENS` padded tokens, or of one text.

    Args:
        lengths: tokens of each text, [n].
    """
    batches: list[npt.NDArray[np.int64]] = []
    order = np.argsort(lengths, kind="stable")
    first = 0
    while first < len(order):
        count = 1
        while first + count < len(order) and (count + 1) * lengths[order[first + count]] <= EVALUATION_TOKENS:
            count += 1
        batches.append(order[first : first + count])
        first += count
    return batches
