"""Replay: mix text of past domains, or general text, into every batch.

Ibrahim, Therien, Gupta, Richter, Anthony, Lesort, Belilovsky, Rish, 2024, arXiv:2403.08763 (re-warm and replay);
Chaudhry et al. 2019, arXiv:1902.10486 (reservoirs). A reservoir keeps a uniform sample of the token blocks that were
trained on, past domains in equal shares. From the second stage on, a share of each batch's rows is drawn from it, under
fresh masks:

    L = L_lm(theta; (1 - a) new rows + a replayed rows)

With `source=general` the rows are drawn from the stream's general text, from the first stage on, and nothing is stored.
So replays who has the text that the LM was first trained on, or one like it, and no text of past domains: it guards
what the untouched LM knew and none of what the stages taught.

Differs from the papers: rows are drawn with replacement, mammoth draws without; replayed rows take places inside the
recipe's batch, so the budget of tokens and updates is the same for all methods; the learning rate is warmed up anew at
every stage by the recipe, whatever the method. The first paper replays the text of the earlier pre-training, all of it;
a stream's general text stands for it, and is exactly it only for a base that ctbench made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctbench import Method, Traits, hyper
from ctbench.memory import keep_past, mix_past, num_replayed

if TYPE_CHECKING:
    from torch import Tensor

    from ctbench import Batch, Stage


class Replay(Method):
    """Rows of past or general text take places in each batch."""

    paper: ClassVar[str] = "arXiv:2403.08763"
    traits: ClassVar[Traits] = Traits(stores_text=True)

    replay_fraction: float = hyper(0.35, low=0.0, high=1.0, tune=(0.03, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5))
    """Share of each batch's rows that are replayed, in [0, 1], rounded, one at least; 0 is naive, 1 is stage 1 again."""
    max_blocks: int = hyper(1000, low=1)
    """Token blocks kept at most, of all past domains together."""
    source: str = hyper("past", choices=("past", "general"))
    """What is replayed: text of past domains, which is stored, or the stream's general text, which is read again."""

    @property
    def configured_traits(self) -> Traits:
        return Traits(reads_general_text=True) if self.source == "general" else self.traits

    @property
    def starts_as(self) -> str:
        return "naive" if self.source == "past" else ""

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        if self.source == "past":
            batch = mix_past(stage, batch, fraction=self.replay_fraction, capacity=self.max_blocks)
        elif self.replay_fraction:
            batch = stage.mix(batch, stage.general(num_replayed(self.replay_fraction, len(batch.input_ids))))
        return super().loss(stage, batch)

    def end(self, stage: Stage) -> None:
        if self.source == "past":
            keep_past(stage, fraction=self.replay_fraction, capacity=self.max_blocks)
