"""What the loop of a stage does where several ranks train it together; alone, nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from ctbench.backbone.replay import checkpoint_layers
from ctbench.backbone.shared import Sharing
from ctbench.backbone.state import unique_tensors
from ctbench.errors import RunFailed
from ctbench.memory import flatten, unflatten

if TYPE_CHECKING:
    from ctbench.stage import Stage, StageInputs

CLOSE: Final = 1e-5
"""How far the loss of one rank may be from that of another, which computes the same on a GPU that rounds differently."""
_WHY: Final = (
    "a method must do the same on every rank, from the generators of its stage, and may not ask for gradients in "
    "Method.loss; train it in one process"
)


class Together:
    """Keeps the ranks of a stage together.

    Args:
        inputs: of the stage; its backbone learns who computes which rows.
    """

    def __init__(self, inputs: StageInputs) -> None:
        recipe, backbone = inputs.recipe, inputs.backbone
        self.ranks = inputs.ranks
        self.sharing: Sharing | None = None
        if self.ranks.size > 1 or recipe.accumulate > 1:
            self.sharing = backbone.sharing = Sharing(self.ranks, recipe.accumulate)
        if recipe.checkpoint_activations:
            checkpoint_layers(backbone)

    def averaging(self) -> AbstractContextManager[None]:
        """Return the context of passes whose gradients are averaged afterwards."""
        return nullcontext() if self.sharing is None else self.sharing.averaging()

    def average(self, parameters: Iterable[Tensor]) -> None:
        """Turn the gradients of this rank into those of the global batch."""
        self.ranks.average(parameter.grad for parameter in parameters if parameter.grad is not None)

    def agree(self, stage: Stage) -> None:
        """Let the weights and the memory of the first rank be those of all.

        Each has computed the same before and after the updates of a stage (importances, reservoirs), but for the last
        bits of a GPU.
        """
        if self.ranks.size == 1:
            return
        plain, tensors = flatten(stage.memory)
        kinds = {name: (list(each.shape), str(each.dtype).removeprefix("torch.")) for name, each in tensors.items()}
        plain, kinds = json.loads(self.ranks.first_of(json.dumps([plain, kinds])))
        if not self.ranks.is_first:
            tensors = {name: torch.empty(shape, dtype=getattr(torch, kind)) for name, (shape, kind) in kinds.items()}
            stage.memory.clear()
            stage.memory.update(unflatten(plain, tensors))
        self.ranks.copy_first(tensors[name] for name in kinds)
        self.ranks.copy_first(unique_tensors(stage.backbone).values())

    def heard(self, number: int) -> int:
        """Return the signal that asks a rank to stop, this one or another; 0 if none was asked."""
        return int(self.ranks.largest([number])[0])

    def check(self, step: int, loss: float, weights: Mapping[str, Tensor]) -> None:
        """Refuse ranks that have drifted apart.

        Args:
            step: number of updates made.
            loss: mean of the last updates.
            weights: that train.

        Raises:
            RunFailed: the loss or the weights differ between ranks.
        """
        if self.ranks.size == 1:
            return
        sums = torch.stack([weight.detach().double().sum() for weight in weights.values()]).nan_to_num()
        found = [step, loss, *sums.tolist()]
        most = self.ranks.largest([*found, *(-value for value in found)])
        spread = [high + low for high, low in zip(most[: len(found)], most[len(found) :], strict=True)]
        if spread[0] or spread[1] > CLOSE * max(1.0, math.fabs(loss)):
            raise RunFailed(f"the loss differs between ranks by {spread[1]:.3g} at update {step}: {_WHY}")
        if any(spread[2:]):
            apart = [name for name, value in zip(weights, spread[2:], strict=True) if value]
            raise RunFailed(f"{len(apart)} weights differ between ranks at update {step}, first {apart[0]}: {_WHY}")

    def cost(self, *, flops: float, cpu_seconds: float, memory: int) -> tuple[float, float, int]:
        """Return operations and time of the cores of all ranks, and the peak memory of the one that needed most."""
        total = self.ranks.total([flops, cpu_seconds])
        return total[0], total[1], int(self.ranks.largest([memory])[0])
