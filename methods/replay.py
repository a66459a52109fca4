"""Replay: mix text of past domains into every batch.

Ibrahim, Therien, Gupta, Richter, Anthony, Lesort, Belilovsky, Rish, 2024, arXiv:2403.08763 (re-warm and replay);
Chaudhry et al. 2019, arXiv:1902.10486 (reservoirs). A reservoir keeps a uniform sample of the token blocks of all past
domains. From the second stage on, a share of each batch's rows is drawn from it, under fresh masks:

    L = L_lm(theta; (1 - a) new rows + a replayed rows)

Differs from the paper: replayed rows take places inside the recipe's batch, so the budget of tokens and updates is the
same for all methods; the learning rate is warmed up anew at every stage by the recipe, whatever the method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctbench.memory import Reservoir
from ctbench.method import Method, Traits, hyper

if TYPE_CHECKING:
    from torch import Tensor

    from ctbench.backbone import Batch
    from ctbench.stage import Stage


class Replay(Method):
    """Rows of past text take places in each batch."""

    paper: ClassVar[str] = "arXiv:2403.08763"
    traits: ClassVar[Traits] = Traits(stores_text=True)

    replay_fraction: float = hyper(0.35, low=0.0, high=1.0, tune=(0.03, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5))
    """Share of each batch's rows that are replayed, in [0, 1], rounded; 0 is naive, 1 sees no new text after stage 1."""
    max_blocks: int = hyper(1000, low=1)
    """Token blocks kept at most, of all past domains together."""

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        memory = Reservoir(stage.memory, capacity=self.max_blocks)
        count = round(self.replay_fraction * len(batch.input_ids))
        if count and len(memory):
            batch = stage.mix(batch, memory.draw(count, stage.generator("replay"))["blocks"])
        loss = stage.backbone(batch).loss
        assert loss is not None
        return {"lm": loss}

    def end(self, stage: Stage) -> None:
        import torch

        if round(self.replay_fraction * stage.recipe.batch):
            blocks = stage.text(stage.num_steps * stage.recipe.batch).to(torch.int32)
            Reservoir(stage.memory, capacity=self.max_blocks).offer(stage.generator("reservoir"), blocks=blocks)
