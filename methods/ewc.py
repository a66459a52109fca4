"""EWC: hold back the weights that past domains depend on.

Kirkpatrick et al. 2016, arXiv:1612.00796 (elastic weight consolidation), in the online form of Schwarz et al. 2018,
arXiv:1805.06370 (Progress & Compress). After a stage the Fisher information says how much the LM loss depends on each
weight; in the next stages every weight is pulled back to where it was, as strongly as its Fisher is large. One anchor
and one running Fisher serve all past domains:

    L = L_lm(theta; x) + weight / 2 * sum_i F_i (theta_i - theta*_i)^2
    F <- decay F + G / mean(G),   G_i = mean over examples of (d L_lm(theta*; example) / d theta_i)^2

An example is one row of fresh text; its loss is the mean over its predicted places. The raw mean(G) is noted in the
result as `fisher_scale`: weights of papers that do not normalise are to be multiplied by it.

Differs from the papers: G uses the text's own tokens as labels (the empirical Fisher) and not samples of the LM; it is
normalised to mean 1, so that the weight means the same for every LM and row length; the rule of `fisher_scale` is exact
for one past domain only, as each domain is normalised by itself; the untouched LM has no Fisher, so stage 1 is naive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ctbench import Method, hyper

if TYPE_CHECKING:
    from ctbench import Batch, Stage


class EWC(Method):
    """A quadratic penalty keeps important weights near where they were."""

    paper: ClassVar[str] = "arXiv:1612.00796"

    weight: float = hyper(0.03, low=0.0, tune=(0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0))
    """Weight of the penalty, over a Fisher of mean 1; 0 is naive."""
    decay: float = hyper(1.0, low=0.0, high=1.0)
    """Share of the old Fisher kept after a stage, in [0, 1]; 0 forgets it, 1 sums over all past domains."""
    num_examples: int = hyper(256, low=1)
    """Rows of fresh text that the Fisher is estimated from after each stage, one backward pass each."""

    @property
    def starts_as(self) -> str:
        return "naive"

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        terms = super().loss(stage, batch)
        if self.weight and "fisher" in stage.memory:
            terms["ewc"] = self.weight / 2 * _distance(stage)
        return terms

    def end(self, stage: Stage) -> None:
        if not self.weight:
            return
        backbone = stage.backbone.eval()
        parameters = dict(backbone.trainable())
        fisher = mean_squares(_losses(stage, self.num_examples), parameters)
        scale = mean_value(fisher)
        stage.note(fisher_scale=scale)
        old = stage.memory.get("fisher", {})
        for name, values in fisher.items():
            values /= max(scale, torch.finfo(torch.float32).tiny)
            if name in old:
                values += self.decay * old[name].to(stage.device)
        stage.memory["fisher"] = fisher
        stage.memory["anchor"] = {name: parameter.detach().clone() for name, parameter in parameters.items()}


def mean_squares(losses: Iterable[Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean over `losses` (one per example) of the squared gradient of each parameter, in float32."""
    total = {name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in parameters.items()}
    count = 0
    for count, loss in enumerate(losses, start=1):  # noqa: B007  # read after the loop
        gradients = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        for values, gradient in zip(total.values(), gradients, strict=True):
            values.addcmul_(gradient.float(), gradient.float())
    return {name: values / count for name, values in total.items()}


def mean_value(tensors: Mapping[str, Tensor]) -> float:
    """Return the mean over all entries of all tensors."""
    total = sum(values.double().sum().item() for values in tensors.values())
    return total / sum(values.numel() for values in tensors.values())


def _losses(stage: Stage, count: int) -> Iterable[Tensor]:
    for _ in range(count):
        loss = stage.backbone(stage.sample(1)).loss
        assert loss is not None
        yield loss


def _distance(stage: Stage) -> Tensor:
    """Return the sum of F (theta - theta*)^2 in float32."""
    fisher, anchor = stage.memory["fisher"], stage.memory["anchor"]
    total = torch.zeros((), device=stage.device)
    for name, parameter in stage.backbone.trainable():
        for tree in (fisher, anchor):
            tree[name] = tree[name].to(stage.device)  # once: a resumed stage finds them on the CPU
        total = total + (fisher[name] * (parameter.float() - anchor[name].float()).square()).sum()
    return total
