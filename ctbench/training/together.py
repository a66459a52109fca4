"""What the loop of a stage does where several ranks train it together; alone, nothing."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from ctbench.backbone import Backbone
from ctbench.backbone.replay import checkpoint_layers
from ctbench.backbone.shards import put_together, split, unite_outer
from ctbench.backbone.shared import Sharing
from ctbench.backbone.state import unique_tensors
from ctbench.errors import BadConfig, BadPlugin, RunFailed
from ctbench.memory import flatten, unflatten
from ctbench.method import Method
from ctbench.training.effects import gradients_of

if TYPE_CHECKING:
    from ctbench.stage import Stage, StageInputs
    from ctbench.training.pretrain import StageLoop

CLOSE: Final = 1e-5
"""How far the loss of one rank may be from that of another, which computes the same on a GPU that rounds differently."""
_WHY: Final = (
    "a method must do the same on every rank, from the generators of its stage, and may not ask for gradients in "
    "Method.loss; train it in one process"
)
_WITHOUT: Final = "train it with whole weights: pretrain.shard_weights=false"
_READS_SHARDS: Final = (
    "pretrain.shard_weights: the loss of the method reads weights of which this rank holds a part; use "
    f"stage.backbone.trainable(), which puts them together, or {_WITHOUT}"
)


def require_shardable(method: Method, built: Backbone) -> None:
    """Refuse a method that cannot be trained with weights in shards.

    Args:
        method: the method.
        built: what its `build` has returned.

    Raises:
        BadConfig: what the method needs.
    """
    name, kind = type(method).__name__.lower(), type(method)
    own = [hook for hook in ("after_backward", "after_step") if getattr(kind, hook) is not getattr(Method, hook)]
    if own:
        raise BadConfig(
            f"pretrain.shard_weights: method {name} edits gradients or weights between updates ({', '.join(own)}) and needs "
            f"them whole on every rank; {_WITHOUT}"
        )
    if built.added:
        raise BadConfig(
            f"pretrain.shard_weights: method {name} adds modules beside the LM ({', '.join(built.added)}), and only what lies "
            f"inside its layers is held in shards; {_WITHOUT}"
        )
    _ = built.layers  # refused if they cannot be found


class Together:
    """Keeps the ranks of a stage together.

    Args:
        method: the method.
        inputs: of the stage; its backbone learns who computes which rows.

    Attributes:
        shards: whether weights, gradients and moments are held in shards while updates are made.
    """

    def __init__(self, method: Method, inputs: StageInputs) -> None:
        recipe, backbone = inputs.recipe, inputs.backbone
        self.ranks = inputs.ranks
        self.shards = recipe.shard_weights and self.ranks.size > 1
        self._parts: Backbone | None = None
        if self.shards:
            require_shardable(method, backbone)
        self.sharing: Sharing | None = None
        if self.ranks.size > 1 or recipe.accumulate > 1:
            self.sharing = backbone.sharing = Sharing(self.ranks, recipe.accumulate)
        if recipe.checkpoint_activations:
            checkpoint_layers(backbone)

    @contextmanager
    def sharded(self, loop: StageLoop) -> Iterator[None]:
        """Hold the LM of a loop, its gradients and moments in shards while the block runs, if they are to be.

        Before and after it, where a method may read and write weights, they are whole.
        """
        if not self.shards:
            yield
            return
        backbone = loop.stage.backbone
        parts = self._parts = loop.stage.backbone = split(backbone, self.ranks)
        loop.train({name: each for name, each in parts.shards.items() if each.requires_grad})
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")  # nobody writes into it
            yield
        self._parts = None
        put_together(parts, backbone)
        loop.stage.backbone = backbone
        loop.train(dict(backbone.trainable()))

    @contextmanager
    def averaging(self) -> Iterator[None]:
        """Let ranks share passes whose gradients are averaged afterwards.

        Raises:
            BadPlugin: a method reads weights in shards.
        """
        with nullcontext() if self.sharing is None else self.sharing.averaging():
            try:
                yield
            except RuntimeError as error:
                if self.shards and "DTensor" in str(error):
                    raise BadPlugin(_READS_SHARDS) from error
                raise

    def require_plain(self, terms: Mapping[str, Tensor]) -> None:
        """Refuse terms of a loss that are in shards themselves.

        Raises:
            BadPlugin: a method reads weights in shards.
        """
        if self.shards and any(type(term) is not Tensor for term in terms.values()):
            raise BadPlugin(_READS_SHARDS)

    def average(self, parameters: Iterable[Tensor]) -> None:
        """Turn the gradients of this rank into those of the global batch; those in shards are."""
        if not self.shards:
            self.ranks.average(parameter.grad for parameter in parameters if parameter.grad is not None)

    def gradients(self, term: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients of a term with the global batch, in shards or whole; its graph is kept."""
        if self._parts is None:
            every = gradients_of(term, parameters)
            self.ranks.average(every)
            return every
        unite_outer(self._parts)
        term.backward(retain_graph=True)  # type: ignore[no-untyped-call]  # only a backward pass puts weights together
        every = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            parameter.grad = None
        return every

    def any(self, flag: bool) -> bool:
        """Return whether something is so on any rank that holds shards; without shards, whether it is so here."""
        return bool(self.ranks.largest([flag])[0]) if self.shards else flag

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
        held = {} if self.shards else weights  # each rank holds others
        sums = [weight.detach().double().sum() for weight in held.values()]
        found = [step, loss, *(torch.stack(sums).nan_to_num().tolist() if sums else [])]
        most = self.ranks.largest([*found, *(-value for value in found)])
        spread = [high + low for high, low in zip(most[: len(found)], most[len(found) :], strict=True)]
        if spread[0] or spread[1] > CLOSE * max(1.0, math.fabs(loss)):
            raise RunFailed(f"the loss differs between ranks by {spread[1]:.3g} at update {step}: {_WHY}")
        if any(spread[2:]):
            apart = [name for name, value in zip(held, spread[2:], strict=True) if value]
            raise RunFailed(f"{len(apart)} weights differ between ranks at update {step}, first {apart[0]}: {_WHY}")

    def cost(self, *, flops: float, cpu_seconds: float, memory: int) -> tuple[float, float, int]:
        """Return operations and time of the cores of all ranks, and the peak memory of the one that needed most."""
        total = self.ranks.total([flops, cpu_seconds])
        return total[0], total[1], int(self.ranks.largest([memory])[0])
