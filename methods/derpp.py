"""DER++: replay past text with the outputs that the LM once gave on it.

Buzzega, Boschini, Porrello, Abati, Calderara, 2020, arXiv:2004.07211 (Dark Experience Replay++). A reservoir keeps
masked rows x of past domains with their targets y and the logits z that the LM gave at the predicted places when they
were stored. From the second stage on, a share of each batch's rows is drawn from it:

    L = L_lm(theta; new rows) + alpha |f_theta(x) - z|^2 / V + beta L_lm(theta; x, y)

Differs from the paper: it stores outputs along the training and replays from the first batch on, here they are stored
at the end of each stage, by the LM of that stage without dropout, in half precision; one draw serves both terms, not
one each; replayed rows take places inside the recipe's batch, so all methods see the same number of tokens; the
squared error is a mean over the places and the V logits, the paper's images have one place each; rows are drawn with
replacement; the reservoir is offered the rows of a stage's first updates only, as many as its capacity holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ctbench import Batch, Method, Reservoir, Traits, hyper
from ctbench.errors import BadConfig
from ctbench.masking import Masker, replace_rows

if TYPE_CHECKING:
    from ctbench import Stage


class DERPP(Method):
    """Rows of past text with stored outputs take places in each batch."""

    paper: ClassVar[str] = "arXiv:2004.07211"
    traits: ClassVar[Traits] = Traits(stores_text=True)

    alpha: float = hyper(0.03, low=0.0, tune=(0.03, 0.1, 0.3))
    """Weight of the squared distance from the stored outputs; 0 leaves the replayed rows' LM loss."""
    beta: float = hyper(0.5, low=0.0, tune=(0.5, 1.0, 2.0))
    """Weight of the LM loss on replayed rows; 0 is DER."""
    replay_fraction: float = hyper(0.25, low=0.0, high=1.0, tune=(0.1, 0.25, 0.5))
    """Share of each batch's rows that are replayed, in [0, 1], rounded; 0 is naive; one row at least stays new."""
    max_blocks: int = hyper(1000, low=1)
    """Rows kept at most, of all past domains together."""
    max_stored_bytes: int = hyper(256 * 2**20, low=1)
    """Bytes kept at most; a row takes two per predicted place and entry of the vocabulary, so this is what limits."""

    @property
    def starts_as(self) -> str:
        return "naive"

    def begin(self, stage: Stage) -> None:
        if self._num_replayed(stage) and not self._capacity(stage):
            raise BadConfig(
                f"method.max_stored_bytes of derpp is {self.max_stored_bytes}; a single row of this LM and recipe "
                f"takes {_row_bytes(stage)}: raise it to that at least"
            )

    def loss(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        memory = Reservoir(stage.memory, capacity=self._capacity(stage))
        count = self._num_replayed(stage)
        if not (count and len(memory)):
            return super().loss(stage, batch)
        drawn = memory.draw(count, stage.generator("replay"))
        mixed = replace_rows(batch, unpack(drawn).to(stage.device))
        logits = stage.backbone(mixed).logits.float()
        num_old = drawn["targets"].numel()
        assert mixed.targets is not None
        stored = drawn["logits"].to(stage.device).float().flatten(0, 1)
        return {
            "lm": F.cross_entropy(logits[:-num_old], mixed.targets[:-num_old]),
            "outputs": self.alpha * F.mse_loss(logits[-num_old:], stored),
            "replay": self.beta * F.cross_entropy(logits[-num_old:], mixed.targets[-num_old:]),
        }

    @torch.no_grad()
    def end(self, stage: Stage) -> None:
        if not self._num_replayed(stage):
            return
        capacity, kept = self._capacity(stage), stage.recipe.batch - self._num_replayed(stage)
        memory = Reservoir(stage.memory, capacity=capacity)
        stage.backbone.eval()
        # Rows that were trained on; every stage offers as many, so past domains have equal shares in the reservoir.
        for step in range(min(stage.num_steps, -(-capacity // kept))):
            batch = stage.mask(stage.blocks_of(step)[:kept], "stored masks")
            memory.offer(stage.generator("reservoir"), **pack(batch, stage.backbone(batch).logits))

    def _num_replayed(self, stage: Stage) -> int:
        if not self.replay_fraction:
            return 0
        return min(max(1, round(self.replay_fraction * stage.recipe.batch)), stage.recipe.batch - 1)

    def _capacity(self, stage: Stage) -> int:
        return min(self.max_blocks, self.max_stored_bytes // _row_bytes(stage))


def pack(batch: Batch, logits: Tensor) -> dict[str, Tensor]:
    """Return the rows of a batch with their outputs as columns; positions count within their row."""
    assert batch.positions is not None and batch.targets is not None
    num_rows, length = batch.input_ids.shape
    return {
        "ids": batch.input_ids.to(torch.int32),
        "positions": (batch.positions.view(num_rows, -1) % length).to(torch.int32),
        "targets": batch.targets.view(num_rows, -1).to(torch.int32),
        "logits": logits.view(num_rows, -1, logits.shape[-1]).to(torch.float16),
    }


def unpack(columns: dict[str, Tensor]) -> Batch:
    """Return the batch of rows drawn from the memory."""
    ids = columns["ids"].long()
    starts = ids.shape[1] * torch.arange(len(ids))[:, None]
    return Batch(
        input_ids=ids,
        positions=(columns["positions"].long() + starts).flatten(),
        targets=columns["targets"].long().flatten(),
    )


def _row_bytes(stage: Stage) -> int:
    num_places = Masker.of(stage.backbone, stage.recipe.mask_fraction).num_places(stage.recipe.length)
    return 4 * (stage.recipe.length + 2 * num_places) + 2 * num_places * stage.backbone.vocab_size
