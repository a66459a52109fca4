"""Passes that several processes, or several parts of one, compute together: each its own rows of the batch.

What a pass gives is that of the whole batch, whoever computed it: the loss is the mean over all its predicted places, and
hidden states and logits are put together when somebody asks for them. So a method need not know how many there are.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ctbench.backbone.batch import Batch, Output, Prompt
from ctbench.backbone.replay import contexts
from ctbench.backbone.wordmap import Condition, WordMap
from ctbench.machine.ranks import ALONE, Ranks, gather, summed
from ctbench.randomness import seed_from

if TYPE_CHECKING:
    from ctbench.backbone import Backbone


class Sharing:
    """Divides the rows of passes among ranks, and those of a rank into parts that are computed one after the other.

    Of a pass with a gradient, a part keeps no activations: they are computed again when its gradient is due. Ranks share
    passes whose gradients the loop of a stage averages, those of `Method.loss`, and passes without gradients; any other
    is computed by every rank as a whole.

    Args:
        ranks: this process among the ranks.
        num_parts: parts of the rows of a rank; 1 divides nothing.

    Attributes:
        in_loss: whether gradients will be averaged over the ranks.
    """

    def __init__(self, ranks: Ranks, num_parts: int = 1) -> None:
        self.ranks = ranks
        self.num_parts = num_parts
        self.in_loss = False
        self._num_passes = 0

    @contextlib.contextmanager
    def averaging(self) -> Iterator[None]:
        """Let ranks share passes with gradients while the block runs: the caller averages the gradients."""
        self.in_loss = True
        self._num_passes = 0  # within an update: a resumed stage draws the dropout of one that was not interrupted
        try:
            yield
        finally:
            self.in_loss = False

    def read(self, backbone: Backbone, batch: Batch, given: Condition | None, *, lm: bool) -> Output:
        """Run the text as `Backbone.forward` does, with the condition that is `given`."""
        num_rows, before = len(batch.input_ids), backbone.forward_tokens
        is_shared = 1 < self.ranks.size <= num_rows and (self.in_loss or not torch.is_grad_enabled())
        ranks = self.ranks if is_shared else ALONE
        ends = [*_ends(num_rows, ranks.share(num_rows))]
        asks, parts = lm and batch.positions is not None, [_divided(*rows, self.num_parts) for rows in ends]
        places = [torch.cat([_places(batch, *rows) for rows in each]) if asks else None for each in parts]
        found = []
        self._num_passes += 1
        with backbone.dropout_source.sharing() as take, _own_noise(backbone.device, ranks, self._num_passes):
            for first, last in parts[ranks.number]:
                take(first, last - first, num_rows)
                found.append(self._part(backbone, batch, given, (first, last), lm=lm))
        backbone.forward_tokens = before + num_rows * (batch.input_ids.shape[1] + (given.length if given else 0))
        return SharedOutput(found, ranks, [last - first for first, last in ends], places)

    def _part(
        self, backbone: Backbone, batch: Batch, given: Condition | None, rows: tuple[int, int], *, lm: bool
    ) -> _Part:
        """Compute some rows."""
        places = _places(batch, *rows) if lm and batch.positions is not None else None
        part = Batch(
            input_ids=batch.input_ids[slice(*rows)],
            attention_mask=None if batch.attention_mask is None else batch.attention_mask[slice(*rows)],
            positions=None if places is None else _of(batch.positions)[places] - rows[0] * batch.input_ids.shape[1],
            targets=None if batch.targets is None or places is None else batch.targets[places],
            segments=None if batch.segments is None else batch.segments[slice(*rows)],
        )
        share = 0.0 if places is None else len(places) / max(1, len(_of(batch.positions)))
        run: Callable[[], Any] = partial(_run, backbone, part, _rows_of(given, *rows), lm, share)
        if self.num_parts == 1 or not torch.is_grad_enabled():
            return _Part(*run())
        return _Part(*checkpoint(run, use_reentrant=False, context_fn=partial(contexts, backbone)))


@dataclasses.dataclass(frozen=True)
class _Part:
    """What a pass over some rows gives; `loss` is its share of the loss of the whole batch."""

    hidden: Tensor
    logits: Tensor | None
    loss: Tensor | None


class SharedOutput(Output):
    """An output whose parts are put together when they are first asked for, by all ranks alike.

    Args:
        parts: those of this rank.
        ranks: this rank among those that share the pass.
        counts: number of rows of each rank.
        places: which of the predicted places are those of each rank; None where none are asked for.
    """

    def __init__(self, parts: list[_Part], ranks: Ranks, counts: list[int], places: list[Tensor | None]) -> None:
        self._parts = parts
        self._ranks = ranks
        self._counts = counts
        self._places = places

    @cached_property
    def hidden(self) -> Tensor:  # type: ignore[override]  # a field of the parent
        """[B, T, D] of the whole batch."""
        return self._whole([part.hidden for part in self._parts], self._counts)

    @cached_property
    def logits(self) -> Tensor | None:  # type: ignore[override]  # a field of the parent
        """[M, V] of the whole batch."""
        found = [part.logits for part in self._parts if part.logits is not None]
        if not found:
            return None
        places = [_of(each) for each in self._places]
        whole, order = self._whole(found, [len(each) for each in places]), torch.cat(places)
        if bool((order.diff() < 0).any()):  # rows of the batch stand in another order among its places
            whole = whole[order.argsort()]
        return whole

    @cached_property
    def loss(self) -> Tensor | None:  # type: ignore[override]  # a field of the parent
        """Mean over the predicted places of the whole batch."""
        found = [part.loss for part in self._parts if part.loss is not None]
        if not found:
            return None
        own = found[0] if len(found) == 1 else torch.stack(found).sum()
        return own if self._ranks.size == 1 else summed(own, self._ranks)

    def _whole(self, parts: list[Tensor], counts: list[int]) -> Tensor:
        own = parts[0] if len(parts) == 1 else torch.cat(parts)
        return own if self._ranks.size == 1 else gather(own, self._ranks, counts)


def _run(
    backbone: Backbone, part: Batch, given: Condition | None, lm: bool, share: float
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    is_empty = part.targets is not None and not len(part.targets)  # there is no mean over no places
    asked = dataclasses.replace(part, targets=None) if is_empty else part
    output = backbone.read(asked, given, lm=lm)
    loss = output.loss
    if is_empty and output.logits is not None:
        loss = output.logits.float().sum()
    return output.hidden, output.logits, None if loss is None else loss * share


@contextlib.contextmanager
def _own_noise(device: torch.device, ranks: Ranks, number: int) -> Iterator[None]:
    """Let torch's generator, which draws dropout on a GPU, differ between ranks while a pass runs.

    On a CPU, families of the table draw nothing from it: their masks are cut from those of the whole batch. Others may, such
    as dropout inside of torch's attention.

    Args:
        device: where the LM lies.
        ranks: this rank among those that share the pass.
        number: differs from pass to pass of an update.
    """
    if ranks.size == 1:
        yield
        return
    # torch.manual_seed would seed every device; the CPU's own generator is asked for its state alike.
    module: Any = torch.default_generator if device.type == "cpu" else torch.get_device_module(device)
    initial = seed_from(module.initial_seed(), [str(ranks.number)], f"pass:{number}") >> 1
    state = module.get_state() if device.type == "cpu" else module.get_rng_state(device)
    module.manual_seed(initial)
    try:
        yield
    finally:
        if device.type == "cpu":
            module.set_state(state)
        else:
            module.set_rng_state(state, device)


def _rows_of(given: Condition | None, first: int, last: int) -> Condition | None:
    """Return the condition of some rows; one that all texts share is that of any."""
    if isinstance(given, WordMap):
        return dataclasses.replace(given, shares=given.shares[first:last]) if given.shares.dim() > 1 else given
    if isinstance(given, Prompt) and given.vectors.dim() == (4 if given.deep else 3):
        return dataclasses.replace(given, vectors=given.vectors[first:last])
    return given


def _places(batch: Batch, first: int, last: int) -> Tensor:
    """Return which of the predicted places lie in some rows, as indices."""
    positions, length = _of(batch.positions), batch.input_ids.shape[1]
    return ((positions >= first * length) & (positions < last * length)).nonzero().flatten()


def _ends(num_rows: int, counts: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first row of each rank and the one behind its last."""
    if len(counts) == 1:
        counts = [num_rows]
    first = 0
    for count in counts:
        yield first, first + count
        first += count


def _divided(first: int, last: int, num_parts: int) -> list[tuple[int, int]]:
    """Return the ends of parts of some rows, none of them empty."""
    count = min(num_parts, last - first)
    ends = [first + number * (last - first) // count for number in range(count + 1)]
    return list(pairwise(ends))


def _of(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor
