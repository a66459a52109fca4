"""The bare loop: the least code that does the work of a stage, without method, log or hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from ctbench.machine.allocator import return_freed_memory
from ctbench.machine.device import autocast, device, isolated, peak_memory_bytes, reset_peak_memory
from ctbench.masking import Masker
from ctbench.speed.shapes import MASK_FRACTION, make_backbone, make_recipe
from ctbench.speed.work import Work, make_blocks, now, reading
from ctbench.training.optimizer import make_optimizer
from ctbench.training.schedules import learning_rate

if TYPE_CHECKING:
    from ctbench.backbone import Backbone, Batch


def run_bare(work: Work) -> dict[str, Any]:
    """Time the bare loop, with the kernels and the masks of the engine."""
    return_freed_memory()
    reset_peak_memory()
    shape, where = work.shape, device()
    with isolated(threads=work.threads):
        backbone = make_backbone(shape).to(where)
        model = backbone.model.train()
        recipe = make_recipe(shape, num_steps=work.num_steps, precision=work.precision, threads=work.threads)
        optimizer = make_optimizer(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        masker, generator = Masker.of(backbone, MASK_FRACTION), np.random.Generator(np.random.SFC64(0))
        blocks = make_blocks(shape, seed=0)
        order = generator.permutation(len(blocks))
        backbone.train()
        total, started, num_predicted = torch.zeros((), device=where), 0.0, 0
        for step in range(work.num_steps):
            if step == work.warmup:
                started = now()
            rows = order.take(np.arange(shape.batch) + step * shape.batch, mode="wrap")
            batch = masker(blocks[rows], generator).to(where)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step, work.num_steps)
            loss = _loss(backbone, batch, work)
            loss.backward()  # type: ignore[no-untyped-call]  # untyped upstream
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
            num_predicted = 0 if batch.targets is None else len(batch.targets)
        seconds = now() - started
    tokens, predicted = work.steps * shape.tokens_per_step, num_predicted / shape.tokens_per_step
    return reading(
        seconds=seconds,
        steps=work.steps,
        tokens=tokens,
        predicted_fraction=predicted,
        loss=float(total) / work.num_steps,
        peak=peak_memory_bytes(),
    )


def _loss(backbone: Backbone, batch: Batch, work: Work) -> torch.Tensor:
    """Return the masked LM loss, with the LM head on predicted places only."""
    model = backbone.model
    head = model.cls if work.shape.family == "bert" else model.lm_head
    assert batch.positions is not None and batch.targets is not None
    with autocast(work.precision, device()):
        hidden = model.base_model(batch.input_ids).last_hidden_state
        logits = head(hidden.flatten(0, 1)[batch.positions])
        return F.cross_entropy(logits.float(), batch.targets)
