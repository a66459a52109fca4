"""The fine-tuning loop and the two things measured on an LM: a cell's score and the held-out LM loss."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ctbench.backbone import Backbone
from ctbench.data.stream import FinetuneRecipe, PretrainRecipe
from ctbench.data.tasks import EndTask, buckets
from ctbench.data.tokens import Blocks
from ctbench.errors import RunFailed
from ctbench.machine.device import autocast, isolated, peak_memory_bytes, reset_peak_memory, seed_torch
from ctbench.masking import Masker
from ctbench.randomness import make_generator, seed_from
from ctbench.training.flops import FlopMeter, counted
from ctbench.training.optimizer import make_optimizer
from ctbench.training.schedules import learning_rate
from ctbench.training.solver import EVALUATION_TOKENS, Solver, by_length
from ctbench.training.solvers import Split, solver_of


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a cell measures.

    Attributes:
        metrics: scores on the test set by name; `validation`: on the validation set, None without one.
        tokens: tokens trained on.
        flops: floating-point operations of products of matrices, of training and scoring.
        seconds: wall time.
        peak_memory_bytes: peak memory of the process.
    """

    metrics: Mapping[str, float]
    validation: Mapping[str, float] | None
    tokens: int
    flops: float
    seconds: float
    peak_memory_bytes: int


def finetune(backbone: Backbone, task: EndTask, *, name: str, recipe: FinetuneRecipe, seed: int) -> Scored:
    """Fine-tune an LM on a task, unless the task is scored without, and score it; the backbone is used up.

    Args:
        backbone: as `Method.adapt` returned it, on its device.
        task: encoded texts, with labels or answers.
        name: the task's name, the scope of its generators.
        recipe: `precision` is resolved.
        seed: the fine-tuning seed: head, order and dropout.

    Returns:
        The scores and what they cost.

    Raises:
        RunFailed: a training loss or a trained weight was NaN or infinite, or the answer to a regression.
    """
    started = time.perf_counter()
    reset_peak_memory()
    with isolated(threads=recipe.threads):
        where = next(backbone.parameters()).device
        seed_torch(seed_from(seed, [name], "head") >> 1, where)
        solver = solver_of(backbone, task, recipe).to(where)
        num_tokens, flops = 0, 0.0
        if task.train is not None:
            num_tokens, flops = _train(solver, task.train, name=name, recipe=recipe, seed=seed)
        scores = {}
        for part, examples in {"test": task.test, "validation": task.validation}.items():
            if examples is not None:
                scores[part], more = _evaluate(solver, examples)
                flops += more
    return Scored(
        metrics=scores["test"],
        validation=scores.get("validation"),
        tokens=num_tokens,
        flops=flops,
        seconds=time.perf_counter() - started,
        peak_memory_bytes=peak_memory_bytes(),
    )


def _train(solver: Solver, examples: Split, *, name: str, recipe: FinetuneRecipe, seed: int) -> tuple[int, float]:
    """Train on the examples; return how many tokens were trained on, and the floating-point operations."""
    where = next(solver.backbone.parameters()).device
    parameters = [parameter for parameter in solver.parameters() if parameter.requires_grad]
    if not parameters:
        raise RunFailed("fine-tuning has nothing to train: the method froze the whole LM, and the task adds no head")
    optimizer = make_optimizer(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    order = make_generator(seed, [name], "order")
    solver.backbone.dropout_source.reseed(seed_from(seed, [name], "dropout"))
    seed_torch(seed_from(seed, [name], "torch") >> 1, where)
    per_epoch = -(-len(examples.ids) // recipe.batch)
    num_steps, step, num_tokens = recipe.epochs * per_epoch, 0, 0
    meter, sample = FlopMeter(), counted(num_steps)
    lengths = examples.lengths
    solver.train()
    for epoch in range(recipe.epochs):
        total = torch.zeros((), device=where)
        for rows in buckets(lengths, recipe.batch, order):
            batch, targets = solver.take(examples, rows)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step, num_steps)
            with meter.sampling(is_counted=step in sample, size=batch.input_ids.numel()):
                with autocast(recipe.precision, where):
                    logits = solver(batch)
                loss = solver.loss(logits.float(), targets)
                total += loss.detach()
                loss.backward()  # type: ignore[no-untyped-call]  # untyped upstream
            if recipe.clip > 0:
                torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            num_tokens += int(lengths[rows].sum())  # of the host's: a sum on a GPU would be waited for
            step += 1
        if not bool(total.isfinite()):
            raise _diverged(epoch, "the loss became")
    if not bool(torch.stack([parameter.isfinite().all() for parameter in parameters]).all()):
        raise _diverged(recipe.epochs - 1, "weights became")  # those of the last update enter no training loss
    return num_tokens, meter.total


def _diverged(epoch: int, what: str) -> RunFailed:
    return RunFailed(
        f"fine-tuning diverged in epoch {epoch + 1}: {what} NaN or infinite; lower finetune.lr or raise "
        "finetune.warmup_fraction"
    )


def _evaluate(solver: Solver, examples: Split) -> tuple[dict[str, float], float]:
    """Return the scores on the examples, and the floating-point operations."""
    where, meter = next(solver.backbone.parameters()).device, FlopMeter()
    solver.eval()
    answers: list[Any] = [None] * len(examples.ids)
    with torch.inference_mode(), autocast(solver.recipe.precision, where), solver.scoring():
        batches = by_length(examples.lengths)
        sample = counted(len(batches))
        for index, rows in enumerate(batches):
            batch, targets = solver.take(examples, rows)
            with meter.sampling(is_counted=index in sample, size=batch.input_ids.numel()):
                found = solver.read(solver(batch).float(), targets, examples, rows)
            for row, answer in zip(rows, found, strict=True):
                answers[row] = answer
    return solver.score(examples, answers), meter.total


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The LM loss on a domain's held-out text.

    Args:
        loss: mean, in nats per predicted token.
        error: standard error of `loss`, as if the predicted tokens were drawn independently of each other.
        num_predicted: number of tokens predicted.
        tokens: number of tokens read.
        flops: floating-point operations of products of matrices.
    """

    loss: float
    error: float
    num_predicted: int
    tokens: int
    flops: float


def held_out_loss(backbone: Backbone, blocks: Blocks, *, domain: str, recipe: PretrainRecipe) -> HeldOut:
    """Return the mean LM loss of a domain's held-out text.

    The masks depend on the domain alone, so they are the same for all rows, methods and seeds. Logits of a decoder are computed
    in float32; those of an encoder are small.

    Args:
        backbone: the LM, on its device.
        blocks: the held-out blocks.
        domain: its name.
        recipe: share of places predicted by an encoder, precision (resolved), and the number of tokens to read at most.
    """
    where = next(backbone.parameters()).device
    masker = Masker.of(backbone, recipe.mask_fraction)
    generator = make_generator(0, [domain], "held-out masks")
    length = blocks.length
    count = min(len(blocks), max(1, recipe.held_out_tokens // length))
    per_batch = max(1, EVALUATION_TOKENS // length)
    total, squares, places = 0.0, 0.0, 0
    meter = FlopMeter()
    backbone.eval()
    exactly = backbone.tap.exact_logits() if backbone.objective == "clm" else contextlib.nullcontext()
    with torch.inference_mode(), autocast(recipe.precision, where), exactly:
        for first in range(0, count, per_batch):
            rows = np.arange(first, min(first + per_batch, count))
            batch = masker(blocks[rows], generator).to(where)
            with meter.sampling(is_counted=not first, size=len(rows)):
                output = backbone(batch)
            loss = output.loss
            assert loss is not None and batch.targets is not None
            total += float(loss) * len(batch.targets)
            places += len(batch.targets)
            each = F.cross_entropy(output.logits.float(), batch.targets, reduction="none")
            squares += float(each.square().sum())
    mean = total / places
    error = math.sqrt(max(0.0, squares / places - mean**2) / places)
    return HeldOut(loss=mean, error=error, num_predicted=places, tokens=count * length, flops=meter.total)
