"""DAS: soft-mask the gradients of units that past knowledge needs.

Ke, Shao, Lin, Konishi, Kim, Liu: "Continual Pre-training of Language Models", ICLR 2023, arXiv:2302.03241. A gate g = 1
on every attention head and feed-forward neuron tells by its gradient how much a loss depends on the unit. General
knowledge has no text of its own: before stage 1 the loss is the KL divergence between two passes under dropout, for
robustness stands for it. After each stage it is the LM loss of the domain. A contrast makes the LM (h,
and h+ under other dropout) differ from the one that keeps its units as far as they were important (h-):

    I = max over domains of |tanh(z(mean |dL / dg|))|,  z per layer       gradient of a unit's weights *= 1 - I
    L = L_lm(theta) + contrast_weight * mean_n -log( e(h_n, h+_n) / sum_j (e(h_n, h+_j) + e(h_n, h-_j)) )

with e(a, b) = exp(cos(a, b) / temperature) and h the mean over a text's last hidden states.

Differs from the paper, whose released code was read beside its abstract: |dL / dg| is taken per batch (the code sums
signed gradients); the proxy compares predictions at masked places (the code: softmax over last hidden states); an LM
may have no dropout (tiny has none), so both the proxy and h+ use one of our own on the outputs of attention and
feed-forward network, on top of the LM's; the contrast reads the masked text, so that the LM's own pass serves as h; a
neuron's column of the second projection is masked too, and what has I = 1 is put back after weight decay; the code also
has gates on the outputs of the second projection, masks one more bias, and reads unmasked text after a stage; it masks
the input columns of the query, key and value projections where we mask the rows that make a head (the transpose), gates
a neuron before its activation and not after it (both importances correlate 0.87), and divides by the n - 1 deviation.
With noise = 0 an LM without dropout has no general knowledge to guard. AdamW, the optimiser of that code and ours,
divides a gradient by its own size, so a constant factor hardly matters until it is nearly 0 (I = 0.9 shortened a
stage's path by 3 %); `damps=update` scales the step instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ctbench import Method, drop, hyper
from ctbench.units import (
    Units,
    gates,
    gradient_scales,
    normalise,
    restore_weights,
    scale_gradients,
    sharing_first_reads,
    take_importance,
)

if TYPE_CHECKING:
    from ctbench import Backbone, Batch, Stage


class DAS(Method):
    """Gradients of important units are damped, and new knowledge is set apart from old."""

    paper: ClassVar[str] = "arXiv:2302.03241"
    needs_parts: ClassVar[bool] = True

    contrast_weight: float = hyper(0.1, low=0.0, tune=(0.03, 0.1, 0.3, 1.0, 3.0))
    """Weight of the contrast with the important units' network; 0 is the ablation without it, two passes cheaper."""
    temperature: float = hyper(0.05, low=1e-3)
    """Temperature of the contrast; small values look at the hardest negatives only."""
    noise: float = hyper(0.2, low=0.0, high=0.9, tune=(0.1, 0.2))
    """Share of the outputs dropped in the proxy and for h+, in [0, 0.9]; 0 leaves it to the LM's own dropout."""
    damps: str = hyper("gradient", choices=("gradient", "update"), tune=("gradient", "update"))
    """What 1 - importance multiplies: the gradient, as published, or the optimiser's update (see above)."""
    importance_blocks: int = hyper(1000, low=1)
    """Token blocks that importance is estimated on, before stage 1 and after each stage."""

    def begin(self, stage: Stage) -> None:
        if not stage.memory:
            stage.backbone.train()  # the proxy lives on dropout
            self._measure(stage, self._robustness)

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        if not self.contrast_weight:
            return super().loss(stage, batch)
        with nullcontext() if stage.recipe.compiled else sharing_first_reads(stage.backbone):
            output = stage.backbone(batch)
            with noisy(stage.backbone, self.noise):
                other = stage.backbone(batch, lm=False).hidden
            with gates(stage.backbone, _importance(stage)):
                old = stage.backbone(batch, lm=False).hidden
        assert output.loss is not None
        distance = contrast(output.hidden, other, old, self.temperature)
        return {"lm": output.loss, "contrast": self.contrast_weight * distance}

    def after_backward(self, stage: Stage) -> None:
        scales = _scales(stage)
        if self.damps == "gradient":
            scale_gradients(stage.backbone, scales)
            scales = {name: scales[name] for name in stage.memory["fixed"]}
        weights = dict(stage.backbone.named_parameters()) if scales else {}
        stage.memory["before"] = {name: weights[name].detach().clone() for name in scales}

    @torch.no_grad()
    def after_step(self, stage: Stage) -> None:
        before, scales = stage.memory.pop("before"), _scales(stage)
        if self.damps == "gradient":
            restore_weights(stage.backbone, {name: scales[name] for name in before}, before)
            return
        weights = dict(stage.backbone.named_parameters())
        for name, factor in scales.items():
            weights[name].copy_(torch.lerp(before[name], weights[name], factor.expand_as(weights[name])))

    def end(self, stage: Stage) -> None:
        stage.backbone.eval()
        for name in ("scales", "fixed"):
            stage.memory.pop(name, None)
        self._measure(stage, lambda backbone, batch: backbone(batch).loss)

    def _robustness(self, backbone: Backbone, batch: Batch) -> Tensor:
        """Return the divergence of two passes under dropout."""
        with noisy(backbone, self.noise):
            one, two = (F.log_softmax(backbone(batch).logits.float(), dim=-1) for _ in range(2))
        return F.kl_div(two, one, log_target=True, reduction="batchmean")

    def _measure(self, stage: Stage, loss_of: Callable[[Backbone, Batch], Tensor]) -> None:
        """Let the importance of units for a loss enter the memory."""
        total: Units | None = None
        with gates(stage.backbone) as values:
            for first in range(0, self.importance_blocks, stage.recipe.batch):
                batch = stage.sample(min(stage.recipe.batch, self.importance_blocks - first))
                loss = loss_of(stage.backbone, batch)
                loss.backward(inputs=[values.heads, values.neurons])  # type: ignore[no-untyped-call]  # untyped upstream
                total = take_importance(total, values)
        assert total is not None
        importance = normalise(total)
        if stage.memory:
            importance = importance.maximum(_importance(stage))
        stage.memory.update(importance.map(lambda table: table.cpu()).to_dict())
        stage.note(head_importance=float(importance.heads.mean()), neuron_importance=float(importance.neurons.mean()))


def contrast(hidden: Tensor, other: Tensor, old: Tensor, temperature: float) -> Tensor:
    """Return the contrast of `hidden` with `old`, where `other` is the same LM under other dropout; all [B, T, D]."""
    with torch.autocast(hidden.device.type, enabled=False):  # the temperature enlarges rounding twentyfold
        anchor, same, far = (F.normalize(x.float().mean(1), dim=-1) for x in (hidden, other, old))
        scores = anchor @ torch.cat([same, far]).T / temperature
        return F.cross_entropy(scores, torch.arange(len(anchor), device=scores.device))


@contextmanager
def noisy(backbone: Backbone, share: float) -> Iterator[None]:
    """Drop a share of the outputs of attention and feed-forward network while the context lasts."""
    handles = [
        module.register_forward_hook(lambda _module, _args, output: drop(output, share, backbone.dropout_source))
        for _, module in backbone.parts("attention_out") + backbone.parts("ffn_out")
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _scales(stage: Stage) -> dict[str, Tensor]:
    """Return the factors of the weights that belong to units; they, and which hold a 0, are found once in a stage."""
    memory = stage.memory
    if "scales" not in memory:
        memory["scales"] = gradient_scales(stage.backbone, _importance(stage))
        memory["fixed"] = [name for name, factor in memory["scales"].items() if bool((factor == 0).any())]
    return {name: factor.to(stage.device) for name, factor in memory["scales"].items()}


def _importance(stage: Stage) -> Units:
    return Units.from_dict(stage.memory).map(lambda table: table.to(stage.device))
