"""Floating-point operations, counted from the shapes of the products of matrices while they run.

A product of [n, k] and [k, m] counts 2 n k m, as in torch's own counter; everything that works entry by entry counts
nothing. Counting slows an update down, and the updates of a stage are alike, so a few stand for all.

Legend: B batch, T tokens, H heads, E width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

NUM_COUNTED: Final = 4
"""Updates of a stage, or batches of a cell, that are counted."""


def counted(num_steps: int) -> frozenset[int]:
    """Return the updates that are counted, evenly spread; all of them if there are few.

    Example:
        >>> sorted(counted(16)), sorted(counted(3))
        ([2, 6, 10, 14], [0, 1, 2])
    """
    if num_steps <= NUM_COUNTED:
        return frozenset(range(num_steps))
    return frozenset((2 * index + 1) * num_steps // (2 * NUM_COUNTED) for index in range(NUM_COUNTED))


class FlopMeter:
    """Adds up the operations of what is counted whole, and of a sample that stands for many things of its kind.

    Attributes:
        whole: operations that were counted one by one.
        sampled: operations of the sample, and `sampled_size` its size, say in tokens.
        size: size of all that the sample stands for.
    """

    def __init__(self, state: Mapping[str, float] | None = None) -> None:
        self.whole = self.sampled = self.sampled_size = self.size = 0.0
        self.__dict__.update(state or {})

    @property
    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return dict(self.__dict__)

    @property
    def total(self) -> float:
        """Operations of everything; NaN if there was something that no sample stands for."""
        if not self.size:
            return self.whole
        return self.whole + self.size * (self.sampled / self.sampled_size if self.sampled_size else math.nan)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count all that runs in the block."""
        with _Counter() as counter:
            yield
        self.whole += counter.total

    @contextmanager
    def sampling(self, *, is_counted: bool, size: float = 0.0) -> Iterator[None]:
        """Let a block of some size enter what the sample stands for; its operations are counted only if it is in the sample.

        A block in several pieces gives its size with one of them.
        """
        self.size += size
        if not is_counted:
            yield
            return
        with _Counter() as counter:
            yield
        self.sampled += counter.total
        self.sampled_size += size


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped upstream
    """Runs every operation as it is, and adds up those of products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped upstream
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = getattr(func, "_overloadpacket", None)
        if (ours := _FORMULAS.get(str(packet))) is not None:
            self.total += ours(result, *args)
        elif packet in flop_registry:
            self.total += flop_registry[packet](*args, **kwargs, out_val=result)
        return result


def _linear(result: Tensor, x: Tensor, *_: Any) -> int:
    return 2 * result.numel() * x.shape[-1]


def _attention(_result: Any, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> int:
    """Two products: of [B, H, T, E] queries with keys, and of the weights with values."""
    pairs = math.prod(q.shape[:-1]) * k.shape[-2]
    return 2 * pairs * (q.shape[-1] + v.shape[-1])


def _attention_backward(_result: Any, _grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> int:
    """Five products: the scores again, and the gradients of weights, values, queries and keys."""
    pairs = math.prod(q.shape[:-1]) * k.shape[-2]
    return 2 * pairs * (3 * q.shape[-1] + 2 * v.shape[-1])


_FORMULAS: Final[Mapping[str, Callable[..., int]]] = {
    # Whole only where no gradient is kept; elsewhere they arrive as the products that they consist of.
    "aten.linear": _linear,
    "aten.matmul": _linear,
    "aten.scaled_dot_product_attention": _attention,
    # torch's table lacks the kernels of CPUs.
    "aten._scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
}
