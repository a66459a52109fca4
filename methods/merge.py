"""Branch-and-merge: train branches on slices of the text and merge them, again and again.

Alexandrov, Raychev, Mueller, Zhang, Vechev, Toutanova, 2024, arXiv:2407.08699. The text of a stage is cut into R
rounds of K slices. In a round every slice trains a branch of its own, all from the same LM; then the branches are
merged, and the next round begins from there. Changes that the branches share stay, those that cancel out do not, so a
merged LM moves less far from the old one than a single LM that learned as much:

    theta_k = train(theta, slice k),  k = 1..K;   theta <- mean of theta_k, or slerp(theta_1, theta_2; 1/2)

Here the branches are trained one after the other in the updates that the stage has, K R slices of equal length, so
the method costs what `naive` costs; every branch begins with a new optimiser.

Differs from the paper, of which the abstract and a summary of the algorithm were read (K = 2 there): a branch has the
learning rate that the stage's schedule gives to its updates, so the later branches of a round have lower ones, and
none is warmed up anew; slerp is mergekit's: per tensor, in a line where the weights are nearly parallel (cosine above
0.9995), as those of branches of one LM mostly are, and with more than two branches one after the other, each by its
share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ctbench import Method, hyper
from ctbench.errors import BadConfig

if TYPE_CHECKING:
    from ctbench import Stage

PARALLEL = 0.9995
"""From this cosine on weights are interpolated in a line, as mergekit does."""


class Merge(Method):
    """Branches of the LM learn from slices of the text and are merged."""

    paper: ClassVar[str] = "arXiv:2407.08699"

    num_branches: int = hyper(2, low=1, tune=(2, 3, 4))
    """K, branches that are merged; 1 is naive."""
    num_rounds: int = hyper(2, low=1, tune=(1, 2, 4))
    """R, merges in a stage."""
    merges: str = hyper("mean", choices=("mean", "slerp"))
    """How branches are merged."""

    def begin(self, stage: Stage) -> None:
        if self.num_branches == 1:
            return
        slices = self.num_branches * self.num_rounds
        if slices > stage.num_steps:
            raise BadConfig(
                f"method.num_branches times method.num_rounds of merge are {slices} slices, and a stage has "
                f"{stage.num_steps} updates; lower them"
            )
        ends = [(number + 1) * stage.num_steps // slices for number in range(slices)]
        stage.memory.update(start=_weights(stage), ends=ends, num_merged=0)

    def after_step(self, stage: Stage) -> None:
        memory, done = stage.memory, stage.step + 1
        if done not in memory.get("ends", ()):
            return
        self._add_branch(stage)
        if memory["num_merged"] == self.num_branches:
            memory.update(start=memory.pop("merged"), num_merged=0)
        _set_weights(stage, memory["start"])
        stage.forget_moments()

    def end(self, stage: Stage) -> None:
        memory = stage.memory
        if memory.get("num_merged"):  # a trunk may end inside a round
            if stage.num_steps not in memory["ends"]:
                self._add_branch(stage)
            _set_weights(stage, memory["merged"])
        memory.clear()

    @torch.no_grad()
    def _add_branch(self, stage: Stage) -> None:
        """Let the weights as they are enter the merged ones, by their share."""
        memory, branch = stage.memory, _weights(stage)
        memory["num_merged"] += 1
        if memory["num_merged"] > 1:
            share, mix = 1.0 / memory["num_merged"], slerp if self.merges == "slerp" else torch.lerp
            merged = memory["merged"]
            branch = {name: mix(merged[name].to(weight.device), weight, share) for name, weight in branch.items()}
        memory["merged"] = branch


def slerp(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Return weights on the arc between two tensors, in a line where they are nearly parallel or one of them is 0.

    Args:
        one: weights at share 0.
        other: weights at share 1.
        share: in [0, 1].
    """
    norms = one.norm() * other.norm()
    cosine = float((one * other).sum() / norms) if norms > 0 else 1.0
    if abs(cosine) > PARALLEL:
        return torch.lerp(one, other, share)
    angle = torch.tensor(cosine, dtype=torch.float64).acos()
    first, second = (((1 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin())
    return float(first) * one + float(second) * other


def _weights(stage: Stage) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in stage.backbone.trainable()}


@torch.no_grad()
def _set_weights(stage: Stage, wanted: dict[str, Tensor]) -> None:
    for name, weight in stage.backbone.trainable():
        weight.copy_(wanted[name])
