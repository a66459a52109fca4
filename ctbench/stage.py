"""One stage as a method sees it: the LM in training, its memory, its text, its teacher and its generators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ctbench.backbone import Backbone, Batch
from ctbench.backbone.batch import move
from ctbench.data.stream import PretrainRecipe
from ctbench.data.tokens import Blocks
from ctbench.errors import BadPlugin
from ctbench.kernels.compiled import compile_layers
from ctbench.machine.device import seed_torch
from ctbench.machine.ranks import ALONE, Ranks
from ctbench.masking import Masker, replace_rows
from ctbench.memory import Tree
from ctbench.randomness import make_generator, seed_from

if TYPE_CHECKING:
    import numpy.typing as npt


class TextOrder:
    """The order of a stage's text: the blocks of its domains, drawn in equal shares.

    Every domain is read in its own order, shuffled anew each time it has been read through, so a union of domains
    neither favours the larger corpus nor changes what a single domain would give.

    Args:
        blocks: the blocks of each domain by name.
        seed: the run's seed.
        purpose: what the order is for.
    """

    def __init__(self, blocks: dict[str, Blocks], *, seed: int, purpose: str) -> None:
        self._blocks = list(blocks.values())
        self._names = list(blocks)
        self._seed = seed
        self._purpose = purpose
        self._orders: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    def rows(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Return the blocks [count, T] that come at places `first`, `first + 1`, ... of the endless order."""
        places = first + np.arange(count)
        domain = places % len(self._blocks)
        turn = places // len(self._blocks)
        parts = [self._of_domain(index, turn[domain == index]) for index in range(len(self._blocks))]
        if len(parts) == 1:
            return parts[0]
        result = np.empty((count, parts[0].shape[1]), dtype=np.int64)
        for index, part in enumerate(parts):
            result[domain == index] = part
        return result

    def _of_domain(self, index: int, turns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        size = len(self._blocks[index])
        epochs, places = turns // size, turns % size
        chosen = np.empty(len(turns), dtype=np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            chosen[here] = self._order(index, int(epoch))[places[here]]
        return self._blocks[index][chosen]

    def _order(self, index: int, epoch: int) -> npt.NDArray[np.int64]:
        if (index, epoch) not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key[1] >= epoch - 1}
            generator = make_generator(self._seed, [self._names[index]], f"{self._purpose}:{epoch}")
            self._orders[index, epoch] = generator.permutation(len(self._blocks[index]))
        return self._orders[index, epoch]


@dataclass(frozen=True, kw_only=True)
class StageInputs:
    """What a stage starts from.

    Args:
        backbone: built by the method, weights loaded, on its device.
        memory: the tree left by the stage before.
        blocks: the stage's text by domain.
        recipe: batch, length, learning rate and so on; `precision` and `compiled` are resolved.
        num_steps: number of updates to make.
        seed: the run's seed.
        load_teacher: returns the LM as it was before this stage.
        general: the stream's general text; None for a method that does not declare that it reads it.
        ranks: this process among those that train the stage together.
    """

    backbone: Backbone
    memory: Tree
    blocks: dict[str, Blocks]
    recipe: PretrainRecipe
    num_steps: int
    seed: int
    load_teacher: Callable[[], Backbone]
    general: Blocks | None = None
    ranks: Ranks = ALONE


class Stage:
    """What the hooks of a method are given.

    Attributes:
        backbone: the LM in training, as `Method.build` returned it.
        memory: a plain tree (see `ctbench.memory`) that goes with the LM from stage to stage.
        domains: names of the domains that this stage trains on.
        recipe: the pre-training recipe.
        num_steps: optimiser updates of this stage.
        step: the update under way, from 0; -1 in `Method.begin`, `num_steps` in `Method.end`.
        blocks: the unmasked token blocks of the current batch, [B, T] int64.
        device: where the LM lies.
        num_extra: blocks given out by `text` and `sample` so far.
    """

    def __init__(self, inputs: StageInputs) -> None:
        recipe = inputs.recipe
        self.backbone = inputs.backbone
        self.memory = inputs.memory
        self.domains = tuple(inputs.blocks)
        self.recipe = recipe
        self.num_steps = inputs.num_steps
        self.step = 0
        self.device = next(inputs.backbone.parameters()).device
        self.notes: dict[str, float] = {}
        self.blocks = torch.empty(0, recipe.length, dtype=torch.int64)
        self._masker = Masker.of(inputs.backbone, recipe.mask_fraction)
        self._seed = inputs.seed
        self._text = TextOrder(inputs.blocks, seed=inputs.seed, purpose="blocks")
        self._extra = TextOrder(inputs.blocks, seed=inputs.seed, purpose="extra blocks")
        self.num_extra = 0
        self._generators: dict[str, np.random.Generator] = {}
        self._general = inputs.general
        self._forgets = False
        self._load_teacher = inputs.load_teacher
        self._teacher: Backbone | None = None

    @property
    def progress(self) -> float:
        """Share of the stage's updates already made, in [0, 1]."""
        return max(self.step, 0) / self.num_steps

    @property
    def teacher(self) -> Backbone:
        """The LM as it was before this stage, frozen and without dropout; loaded on first use."""
        if self._teacher is None:
            self._teacher = self._load_teacher().requires_grad_(False).eval().to(self.device)
            self._teacher.forward_tokens = 0
            self._teacher.sharing = self.backbone.sharing
            if self.recipe.compiled:
                compile_layers(self._teacher.layers, self.device)
        return self._teacher

    @property
    def has_teacher(self) -> bool:
        """Whether the teacher was asked for; its passes count as cost."""
        return self._teacher is not None

    def generator(self, purpose: str) -> np.random.Generator:
        """Return this step's generator for `purpose`.

        It depends on the run's seed, the stage's domains, the purpose and the step, so nothing has to be saved when a
        stage is interrupted; within a step it goes on where it stopped.
        """
        if purpose not in self._generators:
            self._generators[purpose] = make_generator(self._seed, self.domains, f"{purpose}:{self.step}")
        return self._generators[purpose]

    def normal(self, shape: Sequence[int], purpose: str) -> Tensor:
        """Return standard normal noise of `shape` from this step's generator for `purpose`."""
        values = self.generator(purpose).standard_normal(tuple(shape), dtype=np.float32)
        return move(torch.from_numpy(values), self.device)

    def mask(self, blocks: Tensor, purpose: str) -> Batch:
        """Return an LM batch of unmasked `blocks` [n, T], with places drawn from this step's generator."""
        return self._masker(blocks.to("cpu", torch.int64).numpy(), self.generator(purpose)).to(self.device)

    def blocks_of(self, step: int) -> Tensor:
        """Return the unmasked blocks [B, T] that this stage reads in an update, also after it."""
        return torch.from_numpy(self._text.rows(step * self.recipe.batch, self.recipe.batch))

    def text(self, count: int) -> Tensor:
        """Return `count` fresh unmasked blocks [count, T] of this stage's text, in an order of their own."""
        first = self.num_extra
        self.num_extra += count
        return torch.from_numpy(self._extra.rows(first, count))

    def general(self, count: int) -> Tensor:
        """Return `count` unmasked blocks [count, T] of the stream's general text, drawn with replacement.

        Raises:
            BadPlugin: the method does not declare that it reads general text.
        """
        if self._general is None:
            raise BadPlugin("stage.general is for methods that declare traits = Traits(reads_general_text=True)")
        chosen = self.generator("general text").integers(0, len(self._general), count)
        return torch.from_numpy(self._general[chosen])

    def sample(self, count: int) -> Batch:
        """Return a fresh LM batch of `count` blocks of this stage's text; its passes count as cost."""
        return self.mask(self.text(count), "sample masks")

    def mix(self, batch: Batch, blocks: Tensor) -> Batch:
        """Return `batch` with its last rows replaced by freshly masked `blocks` [n, T].

        The batch keeps its size: replayed text takes places inside the recipe's budget.
        """
        if not len(blocks):
            return batch
        return replace_rows(batch, self.mask(blocks, "mix masks"))

    def note(self, **numbers: float) -> None:
        """Record numbers about this stage in the result, for example the scale of a Fisher matrix."""
        self.notes |= {name: float(value) for name, value in numbers.items()}

    def forget_moments(self) -> None:
        """Let the optimiser begin anew with the next update, for weights that do not go on from where they were.

        For `Method.begin` and `Method.after_step`. The learning rate and the number of updates stay those of the stage.
        """
        self._forgets = True

    def take_forget_request(self) -> bool:
        """Return whether moments are to be forgotten, once; called by the engine."""
        asked, self._forgets = self._forgets, False
        return asked

    def prepare(self) -> None:
        """Move before the first update, where `Method.begin` runs; called by the engine."""
        self._move_to(-1)

    def start_step(self, step: int) -> Batch:
        """Move to update `step` and return its batch; called by the engine."""
        self._move_to(step)
        self.blocks = self.blocks_of(step)
        return self._masker(self.blocks.numpy(), self.generator("masks")).to(self.device)

    def finish(self) -> None:
        """Move behind the last update, where `Method.end` runs; called by the engine."""
        self._move_to(self.num_steps)

    def _move_to(self, step: int) -> None:
        self.step = step
        self._generators = {}
        self.backbone.dropout_source.reseed(seed_from(self._seed, self.domains, f"dropout:{step}"))
        seed_torch(seed_from(self._seed, self.domains, f"torch:{step}") >> 1, self.device)
