"""The fine-tuning loop and the two things measured on an LM: a cell's score and the held-out LM loss."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench.backbone import Backbone, Batch
from ctbench.batch import move
from ctbench.data.stream import FinetuneRecipe
from ctbench.data.tasks import EncodedSplit, TaskData, buckets, pad, score
from ctbench.data.tokens import Blocks
from ctbench.device import autocast, isolated, peak_memory_bytes, reset_peak_memory, seed_torch
from ctbench.kernels import drop
from ctbench.masking import Masker
from ctbench.pretrain import make_optimizer, schedule_scale
from ctbench.randomness import make_generator, seed_from

EVALUATION_TOKENS = 8_192
"""Padded tokens per batch when nothing is trained; a limit on memory, without influence on the numbers of a row."""


class Classifier(nn.Module):
    """A backbone with a pooled, linear head.

    Args:
        backbone: the LM; what requires grad in it trains with the head.
        num_classes: C.
        recipe: pooling, head and dropout.
    """

    def __init__(self, backbone: Backbone, num_classes: int, recipe: FinetuneRecipe) -> None:
        super().__init__()
        self.backbone = backbone
        self.recipe = recipe
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


def finetune(
    backbone: Backbone, task: TaskData, *, name: str, recipe: FinetuneRecipe, seed: int, pad_id: int
) -> dict[str, Any]:
    """Fine-tune an LM on a task and score it; the backbone is used up.

    Args:
        backbone: as `Method.adapt` returned it, on its device.
        task: encoded texts and labels.
        name: the task's name, the scope of its generators.
        recipe: `precision` is resolved.
        seed: the fine-tuning seed: head, order and dropout.
        pad_id: id that fills up short texts.

    Returns:
        The record of the cell: `metrics` and `validation` (scores by name), `seconds`, `peak_memory_bytes`, `tokens`.
    """
    started = time.perf_counter()
    reset_peak_memory()
    with isolated(threads=recipe.threads):
        where = next(backbone.parameters()).device
        seed_torch(seed_from(seed, [name], "head") >> 1, where)
        classifier = Classifier(backbone, len(task.labels), recipe).to(where)
        num_tokens = _train(classifier, task.train, name=name, recipe=recipe, seed=seed, pad_id=pad_id)
        test = _evaluate(classifier, task.test, labels=len(task.labels), pad_id=pad_id)
        validation = None
        if task.validation is not None:
            validation = _evaluate(classifier, task.validation, labels=len(task.labels), pad_id=pad_id)
    return {
        "metrics": test,
        "validation": validation,
        "tokens": num_tokens,
        "seconds": time.perf_counter() - started,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _train(
    classifier: Classifier, examples: EncodedSplit, *, name: str, recipe: FinetuneRecipe, seed: int, pad_id: int
) -> int:
    where = classifier.output.weight.device
    parameters = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    order = make_generator(seed, [name], "order")
    classifier.backbone.dropout_source.reseed(seed_from(seed, [name], "dropout"))
    seed_torch(seed_from(seed, [name], "torch") >> 1, where)
    per_epoch = -(-len(examples.ids) // recipe.batch)
    num_steps, step, num_tokens = recipe.epochs * per_epoch, 0, 0
    lengths = examples.lengths
    classifier.train()
    for _ in range(recipe.epochs):
        for rows in buckets(lengths, recipe.batch, order):
            batch = _batch(examples, rows, pad_id).to(where)
            targets = move(torch.from_numpy(examples.targets[rows]), where)
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * schedule_scale(recipe.schedule, recipe.warmup_fraction, step, num_steps)
            with autocast(recipe.precision, where):
                logits = classifier(batch)
            loss = F.cross_entropy(logits.float(), targets)
            loss.backward()  # type: ignore[no-untyped-call]  # untyped upstream
            if recipe.clip > 0:
                torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            num_tokens += int(lengths[rows].sum())  # of the host's: a sum on a GPU would be waited for
            step += 1
    return num_tokens


def _evaluate(classifier: Classifier, examples: EncodedSplit, *, labels: int, pad_id: int) -> dict[str, float]:
    where = classifier.output.weight.device
    classifier.eval()
    predictions = np.empty(len(examples.ids), dtype=np.int64)
    with torch.inference_mode(), autocast(classifier.recipe.precision, where):
        for rows in _by_length(examples.lengths):
            logits = classifier(_batch(examples, rows, pad_id).to(where))
            predictions[rows] = logits.float().argmax(1).cpu().numpy()
    return score(examples.targets, predictions, labels)


def _by_length(lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
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


def _batch(examples: EncodedSplit, rows: npt.NDArray[np.int64], pad_id: int) -> Batch:
    input_ids, mask = pad(examples.ids, rows, pad_id)
    full = bool(mask.all())
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=None if full else torch.from_numpy(mask),
    )


def held_out_loss(
    backbone: Backbone, blocks: Blocks, *, domain: str, mask_fraction: float, max_tokens: int, precision: str
) -> tuple[float, int]:
    """Return the mean LM loss of a domain's held-out text, in nats per predicted token, and the tokens read.

    The masks depend on the domain alone, so they are the same for all rows, methods and seeds.

    Args:
        backbone: the LM, on its device.
        blocks: the held-out blocks.
        domain: its name.
        mask_fraction: share of places predicted by an encoder.
        max_tokens: read at most so many.
        precision: "fp32" or "bf16".
    """
    where = next(backbone.parameters()).device
    masker = Masker.of(backbone, mask_fraction)
    generator = make_generator(0, [domain], "held-out masks")
    length = blocks.length
    count = min(len(blocks), max(1, max_tokens // length))
    per_batch = max(1, EVALUATION_TOKENS // length)
    total, places = 0.0, 0
    backbone.eval()
    with torch.inference_mode(), autocast(precision, where):
        for first in range(0, count, per_batch):
            rows = np.arange(first, min(first + per_batch, count))
            batch = masker(blocks[rows], generator).to(where)
            loss = backbone(batch).loss
            assert loss is not None and batch.targets is not None
            total += float(loss) * len(batch.targets)
            places += len(batch.targets)
    return total / places, count * length
