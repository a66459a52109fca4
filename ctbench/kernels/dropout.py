"""Dropout whose masks come from numpy: torch's CPU generator takes 20 ms for 3 million numbers, this takes 3."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench.kernels.switch import uses_plain_kernels

_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


class DropoutSource:
    """Draw dropout masks from one numpy SFC64 generator.

    One object serves a whole backbone. The engine reseeds it at the start of every update and of every cell, so a
    resumed stage draws the masks that the uninterrupted one would have drawn.

    Examples:
        >>> source = DropoutSource(3)
        >>> first = source.keep((4, 8), 0.5, torch.float32)
        >>> source.reseed(3)
        >>> torch.equal(source.keep((4, 8), 0.5, torch.float32), first)
        True
    """

    def __init__(self, seed: int = 0) -> None:
        self._generator = np.random.Generator(np.random.SFC64(seed))
        self._rows: tuple[int, int, int] | None = None

    def reseed(self, seed: int) -> None:
        """Start again from `seed` (any non-negative integer)."""
        self._generator = np.random.Generator(np.random.SFC64(seed))

    def keep(self, shape: tuple[int, ...], p: float, dtype: torch.dtype) -> Tensor:
        """Return a mask of bits: all ones with probability 1 - p (in steps of 2^-16), else all zeros.

        Args:
            shape: of the tensor to be dropped from.
            p: share to drop, in [0, 1].
            dtype: of that tensor; the mask is as wide.
        """
        wanted, shape = slice(None), tuple(shape)
        if self._rows is not None and shape[0] % self._rows[1] == 0:
            first, count, total = self._rows
            each = shape[0] // count  # attention has a row for every head
            wanted, whole = slice(first * each, (first + count) * each), (total * each, *shape[1:])
        else:
            whole = shape
        size = math.prod(whole)
        words = self._generator.integers(0, 1 << 64, size=(size + 3) // 4, dtype=np.uint64)
        kept = words.view(np.uint16)[:size] >= round(p * 65536)
        kept = kept.reshape(whole)[wanted]
        return torch.from_numpy(kept.view(np.int8)).to(_BITS[dtype]).neg_().view(shape)

    @property
    def place(self) -> tuple[Any, Any]:
        """Where the next mask begins, and of which rows it is."""
        return self._generator.bit_generator.state, self._rows

    @place.setter
    def place(self, place: tuple[Any, Any]) -> None:
        self._generator.bit_generator.state, self._rows = place

    @contextmanager
    def sharing(self) -> Iterator[Callable[[int, int, int], None]]:
        """Yield a function to call before each part of a pass; whatever the parts, rows get the masks of the whole batch.

        It takes the number of the first row of the part, how many rows the part has, and how many the batch has.
        """
        start = self._generator.bit_generator.state

        def take(first: int, count: int, total: int) -> None:
            self.place = start, (first, count, total)

        try:
            yield take
        finally:
            self._rows = None


class _Drop(torch.autograd.Function):
    """Clear the dropped numbers' bits and scale the rest."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return masked(x, keep).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (keep,) = ctx.saved_tensors
        return masked(grads[0], keep).mul_(ctx.scale), None, None


def drop(x: Tensor, p: float, source: DropoutSource | None) -> Tensor:
    """Zero a share `p` in [0, 1] of `x` and scale the rest by 1 / (1 - p).

    Without a source, off the CPU, in an unusual precision or with `CTBENCH_PLAIN_KERNELS=1`, torch's own dropout does it.
    """
    if p <= 0.0:
        return x
    if source is None or x.device.type != "cpu" or p >= 1.0 or x.dtype not in _BITS or uses_plain_kernels():
        return F.dropout(x, p, training=True)
    result: Tensor = _Drop.apply(x, source.keep(tuple(x.shape), p, x.dtype), 1.0 / (1.0 - p))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return result


class CheapDropout(nn.Module):
    """Dropout whose masks come from a `DropoutSource`; takes the place of `nn.Dropout`.

    Args:
        p: share of numbers set to 0, in [0, 1].
        source: where masks come from, shared by the whole backbone.
    """

    def __init__(self, p: float, source: DropoutSource) -> None:
        super().__init__()
        self.p = p
        self.source = source

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training mode, return `x` itself otherwise."""
        return drop(x, self.p, self.source) if self.training else x

    def extra_repr(self) -> str:
        """Show the share."""
        return f"p={self.p}"


def use_cheap_dropout(model: nn.Module, source: DropoutSource) -> None:
    """Replace every `nn.Dropout` in `model` by a `CheapDropout` and give attention modules the source."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                cheap = CheapDropout(child.p, source)
                cheap.train(child.training)
                setattr(module, name, cheap)
        module.dropout_source = source  # type: ignore[assignment]  # read by plain_attention, whatever the class


def masked(x: Tensor, keep: Tensor) -> Tensor:
    """Return `x` with 0 where the bits of `keep` are 0."""
    return x.view(keep.dtype).bitwise_and(keep).view(x.dtype)
