"""Replay: mix text of past domains into every batch.

Ibrahim, Therien, Gupta, Richter, Anthony, Lesort, Belilovsky, Rish, 2024, arXiv:2403.08763 (re-warm and replay);
Chaudhry et al. 2019, arXiv:1902.10486 (reservoirs). A reservoir keeps a uniform sample of the token blocks that were
trained on, past domains in equal shares. From the second stage on, a share of each batch's rows is drawn from it, under
fresh masks:

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
    """Share of each batch's rows that are replayed, in [0, 1], rounded, one at least; 0 is naive, 1 is stage 1 again."""
    max_blocks: int = hyper(1000, low=1)
    """Token blocks kept at most, of all past domains together."""

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        memory = Reservoir(stage.memory, capacity=self.max_blocks)
        count = self._num_replayed(len(batch.input_ids))
        if count and len(memory):
            batch = stage.mix(batch, memory.draw(count, stage.generator("replay"))["blocks"])
        loss = stage.backbone(batch).loss
        assert loss is not None
        return {"lm": loss}

    def end(self, stage: Stage) -> None:
        count = self._num_replayed(stage.recipe.batch)
        if not count:
            return
        memory = Reservoir(stage.memory, capacity=self.max_blocks)
        # Rows that no replayed ones took the place of, and as many of the first stage, where none did.
        kept = stage.recipe.batch - (count if len(memory) or count < stage.recipe.batch else 0)
        for step in range(stage.num_steps):
            memory.offer(stage.generator("reservoir"), blocks=stage.blocks_of(step)[:kept].int())

    def _num_replayed(self, num_rows: int) -> int:
        return max(1, round(self.replay_fraction * num_rows)) if self.replay_fraction else 0
