"""MER: replay past text, and every few updates go part of the way back.

Abbes, Subbaraj, Riemer, Islah, Therien, Tabaru, Kingetsu, Chandar, Rish, 2025, arXiv:2508.01908 (replay and gradient
alignment); meta-experience replay is of Riemer et al. 2018, arXiv:1810.11910, Reptile of Nichol, Achiam, Schulman
2018, arXiv:1803.02999. Rows of past text take places in each batch, as in `replay`. Every k updates the weights go
back part of the way to where they were k updates ago, which favours directions in which the gradients of new and past
rows agree:

    L = L_lm(theta; (1 - a) new rows + a replayed rows)
    theta <- theta_before + e (theta - theta_before)   after every k updates,   e = after_fraction, k = interval

Differs from the papers, read in the released code (megatron/training_replay.py): its e = 0.01 would hardly let a
short stage learn, so e is tuned from 0.1 on; it steps back after updates 1, k + 1, 2 k + 1 and so on, ours after k, 2
k and so on, and once more at the end of a stage, so that no interval reaches into the next; it adds the replayed rows
to the batch, here they take places in it, and its buffer holds the current domain's rows too, ours those of past
domains; the moments of the optimiser are not interpolated, there neither; reservoir and draws are those of `replay`,
not of a buffer on a disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from ctbench import Method, Traits, hyper
from ctbench.memory import keep_past, mix_past

if TYPE_CHECKING:
    from torch import Tensor

    from ctbench import Batch, Stage


class MER(Method):
    """Replay, with a step back every few updates."""

    paper: ClassVar[str] = "arXiv:2508.01908"
    traits: ClassVar[Traits] = Traits(stores_text=True)

    replay_fraction: float = hyper(0.25, low=0.0, high=1.0, tune=(0.1, 0.25, 0.5))
    """Share of each batch's rows that are replayed, in [0, 1], rounded, one at least; 0 is Reptile alone."""
    after_fraction: float = hyper(0.9, low=0.0, high=1.0, tune=(0.1, 0.3, 0.5, 0.7, 0.9))
    """e, share of the way of an interval that is kept, in [0, 1]; 0 learns nothing, 1 is replay."""
    interval: int = hyper(5, low=1, tune=(5, 20, 50))
    """k, updates between two steps back; 1 scales every update."""
    max_blocks: int = hyper(1000, low=1)
    """Token blocks kept at most, of all past domains together."""

    def begin(self, stage: Stage) -> None:
        if self.after_fraction < 1.0:
            stage.memory["before"] = {name: weight.detach().clone() for name, weight in stage.backbone.trainable()}

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        return super().loss(stage, mix_past(stage, batch, fraction=self.replay_fraction, capacity=self.max_blocks))

    def after_step(self, stage: Stage) -> None:
        if (stage.step + 1) % self.interval == 0:
            self._go_back(stage)

    def end(self, stage: Stage) -> None:
        if stage.num_steps % self.interval:
            self._go_back(stage)
        stage.memory.pop("before", None)
        keep_past(stage, fraction=self.replay_fraction, capacity=self.max_blocks)

    @torch.no_grad()
    def _go_back(self, stage: Stage) -> None:
        before = stage.memory.get("before", {})
        for name, weight in stage.backbone.trainable() if before else ():
            weight.copy_(torch.lerp(before[name].to(weight.device), weight, self.after_fraction))
            before[name] = weight.detach().clone()
