"""OSF: learn in the weak directions of every linear map, the strong ones are frozen.

Nayak, Killamsetty, Han, Bhandwaldar, Chanda, Xu, Wang, Pareja, Silkin, Eyceoz, Srivastava, 2025, arXiv:2504.07097
(orthogonal subspace fine-tuning, OSF or OSFT). Before a stage every linear map of the layers is decomposed; the k
directions with the largest singular values hold what the LM knows and stay as they are, and a stage learns in what is
orthogonal to them. k grows from stage to stage:

    W = U_h S_h V_h^T + U_l S_l V_l^T,   k = round((frozen_fraction + growth (stage - 1)) min(O, I))
    dW <- (1 - U_h U_h^T) dW (1 - V_h V_h^T)

Differs from the paper, told from memory: it trains U_l, S_l and V_l and projects their gradients, off U_h and V_h; we
train W, and project its gradient and its update, as AdamW's is none: first-order changes of W are the same set, the
steps inside it are not, and here U_h, S_h and V_h hold to rounding where weight decay and Adam make the paper's
drift; it chooses a layer's share by how alike the layer's input and output are, here all maps have the same share;
the share is peft's, how it grows is ours; biases, norms, embeddings and the LM head learn as in `naive`, in peft they
do not; a fused query, key and value map is decomposed as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ctbench import Method, hyper
from ctbench.linear import LinearMap, linear_maps

if TYPE_CHECKING:
    from ctbench import Stage


class OSF(Method):
    """The strongest directions of every linear map are frozen, the others learn."""

    paper: ClassVar[str] = "arXiv:2504.07097"

    frozen_fraction: float = hyper(0.5, low=0.0, high=1.0, tune=(0.3, 0.5, 0.7))
    """Share of the directions of a map that are frozen in the first stage, in [0, 1]; 0 is naive, 1 learns no map."""
    growth: float = hyper(0.1, low=0.0, high=1.0, tune=(0.0, 0.1))
    """Share of the directions that every later stage freezes on top, in [0, 1]."""

    def begin(self, stage: Stage) -> None:
        number = stage.memory.get("stages", 0)
        share = min(1.0, self.frozen_fraction + self.growth * number) if self.frozen_fraction else 0.0
        found = {each.weight_name: strongest(_weight(each), share) for each in linear_maps(stage.backbone)}
        stage.memory.update(
            stages=number + 1,
            left={name: left for name, (left, _) in found.items() if left.numel()},
            right={name: right for name, (_, right) in found.items() if right.numel()},
        )

    @torch.no_grad()
    def after_backward(self, stage: Stage) -> None:
        before = {}
        for each in _frozen(stage):
            weight = each.module.weight
            before[each.weight_name] = weight.detach().clone()
            if weight.grad is not None:
                gradient = each.oriented(weight.grad)
                gradient.copy_(_project(stage, each, gradient))
        stage.memory["before"] = before

    @torch.no_grad()
    def after_step(self, stage: Stage) -> None:
        before = stage.memory.pop("before")
        for each in _frozen(stage):
            start, weight = each.oriented(before[each.weight_name]), _weight(each)
            weight.copy_(start + _project(stage, each, weight - start))

    def end(self, stage: Stage) -> None:
        for name in ("left", "right"):
            stage.memory.pop(name)  # made anew before the next stage


def strongest(weight: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return the singular vectors [O, k] and [I, k] of the largest singular values of a weight [O, I].

    Args:
        weight: of a linear map.
        share: share of the min(O, I) directions that are returned, in [0, 1], rounded.
    """
    count = round(share * min(weight.shape))
    if not count:
        return weight.new_empty(len(weight), 0), weight.new_empty(weight.shape[1], 0)
    left, _, right = torch.linalg.svd(weight.detach().float(), full_matrices=False)
    return left[:, :count].contiguous(), right[:count].T.contiguous()


def project(change: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return the part of a change [O, I] that is orthogonal to the columns of `left` [O, k] and of `right` [I, k]."""
    change = change - left @ (left.T @ change)
    return change - (change @ right) @ right.T


def _weight(each: LinearMap) -> Tensor:
    return each.oriented(each.module.weight)


def _frozen(stage: Stage) -> list[LinearMap]:
    """Return the linear maps of which some directions are frozen."""
    return [each for each in linear_maps(stage.backbone) if each.weight_name in stage.memory["left"]]


def _project(stage: Stage, each: LinearMap, change: Tensor) -> Tensor:
    memory, name = stage.memory, each.weight_name
    for side in ("left", "right"):
        memory[side][name] = memory[side][name].to(stage.device)  # once: a resumed stage finds them on the CPU
    return project(change, memory["left"][name], memory["right"][name])
