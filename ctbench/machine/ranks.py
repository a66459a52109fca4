"""The ranks: processes that train a stage together, and all that they tell each other.

Every rank runs the whole program of an update on the same numbers, but for the passes through the LM, of which each
computes its own rows. What a pass gives is gathered, so from there on all ranks hold the same again. Backward, the gradient
of what was gathered is the same on every rank; a rank takes its rows of it, `size` times, and the mean over the ranks of a
weight's gradient is then the gradient of the global batch: that of a pass is the sum of its parts, and that of anything
computed outside of passes (a penalty on weights) is the mean of equal numbers.
"""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from ctbench.errors import RunFailed
from ctbench.machine.launched import num_ranks

PATIENCE: Final = timedelta(days=7)
"""Ranks wait so long for one that computes something alone, such as a cell; a dead one is noticed at once."""
GRACE: Final = timedelta(seconds=20)
"""Time that ranks have to hear the last word."""
BUCKET: Final = 1 << 25
"""Numbers that are averaged at a time."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Args:
        number: from 0.
        size: number of ranks.
        control: the group by which the first rank tells the others what to do; None alone.
    """

    number: int = 0
    size: int = 1
    control: Any = field(default=None, repr=False, compare=False)

    @property
    def is_first(self) -> bool:
        """Whether this rank writes and prints."""
        return self.number == 0

    def __deepcopy__(self, _memo: dict[int, Any]) -> Ranks:
        return self

    def share(self, count: int) -> list[int]:
        """Return how many of `count` rows each rank takes; the first ones take one more.

        Examples:
            >>> Ranks(0, 3).share(8)
            [3, 3, 2]
        """
        return [count // self.size + (number < count % self.size) for number in range(self.size)]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Set tensors to their means over the ranks, in place."""
        bucket: list[Tensor] = []
        for tensor in tensors if self.size > 1 else ():
            if bucket and (tensor.dtype != bucket[0].dtype or sum(map(torch.numel, bucket)) > BUCKET):
                self._average(bucket)
                bucket = []
            bucket.append(tensor)
        if bucket:
            self._average(bucket)

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the largest of every number over the ranks."""
        if self.size == 1:
            return list(values)
        found = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return [float(value) for value in found]

    def total(self, values: Sequence[float]) -> list[float]:
        """Return the sum of every number over the ranks."""
        if self.size == 1:
            return list(values)
        found = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(found)
        return [float(value) for value in found]

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Set tensors to those of the first rank, in place."""
        for tensor in tensors if self.size > 1 else ():
            held = tensor.detach()
            whole = held.contiguous()
            if whole.numel():
                dist.broadcast(whole.view(-1).view(torch.uint8), src=0)  # gloo does not know every type
            if whole is not held:
                held.copy_(whole)

    def first_of(self, text: str) -> str:
        """Return the text of the first rank."""
        if self.size == 1:
            return text
        if not self.is_first:
            return self.listen()
        self.tell_all(text)
        return text

    def tell_all(self, text: str) -> None:
        """Tell the other ranks, which `listen`, a text."""
        data = _bytes(text)
        dist.broadcast(torch.tensor([len(data)]), src=0, group=self.control)
        dist.broadcast(data, src=0, group=self.control)

    def listen(self) -> str:
        """Return what the first rank tells; an empty text is its last word.

        Raises:
            RunFailed: the first rank is gone.
        """
        size = torch.zeros(1, dtype=torch.int64)
        try:
            dist.broadcast(size, src=0, group=self.control)
            data = torch.empty(int(size), dtype=torch.uint8)
            if len(data):
                dist.broadcast(data, src=0, group=self.control)
        except RuntimeError as error:
            raise RunFailed("the first rank is gone") from error
        return _text(data)

    def dismiss(self) -> None:
        """Tell the other ranks that there is nothing more to do; those that do not listen are not waited for long."""
        if self.size > 1:
            with contextlib.suppress(RuntimeError):
                last = dist.broadcast(torch.zeros(1, dtype=torch.int64), src=0, group=self.control, async_op=True)
                last.wait(GRACE)

    def collect(self, text: str) -> list[str]:
        """Return the texts of all ranks."""
        own = _bytes(text)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(own)]), group=self.control)
        sent = own.new_zeros(max(int(size) for size in sizes))
        sent[: len(own)] = own
        found = [torch.empty_like(sent) for _ in sizes]
        dist.all_gather(found, sent, group=self.control)
        return [_text(part[: int(size)]) for part, size in zip(found, sizes, strict=True)]

    def _average(self, tensors: list[Tensor]) -> None:
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(part.view_as(tensor))


ALONE: Final = Ranks()


def _bytes(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def _text(data: Tensor) -> str:
    return bytes(data.tolist()).decode()


class _Gather(torch.autograd.Function):
    """Rows of all ranks, one behind the other; backward, the own rows, times the number of ranks."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks, counts: list[int]) -> Tensor:
        ctx.ranks, ctx.counts = ranks, counts
        sent = rows.new_zeros(max(counts), *rows.shape[1:])
        sent[: len(rows)] = rows
        received = [torch.empty_like(sent) for _ in counts]
        dist.all_gather(received, sent)
        return torch.cat([part[:count] for part, count in zip(received, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.ranks.size * torch.split(grads[0], ctx.counts)[ctx.ranks.number], None, None


class _Total(torch.autograd.Function):
    """The sum over the ranks; backward, the gradient times the number of ranks."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        whole = part.clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.ranks.size * grads[0], None


def gather(rows: Tensor, ranks: Ranks, counts: list[int]) -> Tensor:
    """Return the rows [n, ...] of all ranks, in their order.

    Args:
        rows: those of this rank.
        ranks: this rank among the others.
        counts: number of rows of each rank.
    """
    whole: Tensor = _Gather.apply(rows, ranks, counts)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return whole


def summed(part: Tensor, ranks: Ranks) -> Tensor:
    """Return the sum over the ranks of a tensor of the same shape on each."""
    whole: Tensor = _Total.apply(part, ranks)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return whole


def join() -> Ranks:
    """Meet the other ranks, if there are any; they stay together until the process ends."""
    if num_ranks() == 1:
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)
    control = dist.new_group(backend="gloo", timeout=PATIENCE)
    return Ranks(dist.get_rank(), dist.get_world_size(), control)
