"""Attention and dropout for CPUs, where the ready-made ones are slow in bfloat16.

Legend: B batch, T tokens, H heads, E width of a head.

torch's fused attention loses to two plain matrix products on a CPU in bfloat16 (its backward pass is the larger part
of a small model's step), and torch's CPU generator makes dropout masks one number at a time. Both replacements are
registered through transformers' own interfaces or take the place of a module; no library function is patched.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ATTENTION = "ctbench_plain"
"""Name under which the plain attention is registered with transformers."""


class DropoutSource:
    """Draw dropout masks from one numpy SFC64 generator.

    One object serves a whole backbone. The engine reseeds it at the start of a stage or cell and keeps its state in
    checkpoints, so a resumed stage draws the masks that the uninterrupted one would have drawn.

    Example:
        >>> source = DropoutSource(3)
        >>> state = source.state()
        >>> first = source.keep((4, 8), 0.5)
        >>> source.load_state(state)
        >>> bool((source.keep((4, 8), 0.5) == first).all())
        True
    """

    def __init__(self, seed: int = 0) -> None:
        self._generator = np.random.Generator(np.random.SFC64(seed))

    def reseed(self, seed: int) -> None:
        """Start again from `seed` (any non-negative integer)."""
        self._generator = np.random.Generator(np.random.SFC64(seed))

    def state(self) -> dict[str, Any]:
        """Return the generator's state as plain integers, ready for JSON."""
        state = dict(self._generator.bit_generator.state)
        words = [int(word) for word in state["state"]["state"]]
        return {"words": words, "has_uint32": int(state["has_uint32"]), "uinteger": int(state["uinteger"])}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._generator.bit_generator.state = {
            "bit_generator": "SFC64",
            "state": {"state": np.array(state["words"], dtype=np.uint64)},
            "has_uint32": state["has_uint32"],
            "uinteger": state["uinteger"],
        }

    def keep(self, shape: tuple[int, ...], p: float) -> Tensor:
        """Return a boolean mask of `shape`, True with probability 1 - p (in steps of 2^-16)."""
        size = math.prod(shape)
        words = self._generator.integers(0, 1 << 64, size=(size + 3) // 4, dtype=np.uint64)
        numbers = words.view(np.uint16)[:size]
        return torch.from_numpy((numbers >= round(p * 65536)).reshape(shape))


class _Drop(torch.autograd.Function):
    """Multiply by a kept mask and a scale; the backward pass keeps one byte per number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (x * keep).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (keep,) = ctx.saved_tensors
        return (grads[0] * keep).mul_(ctx.scale), None, None


def drop(x: Tensor, p: float, source: DropoutSource | None) -> Tensor:
    """Zero a share `p` in [0, 1] of `x` and scale the rest by 1 / (1 - p).

    Without a source, or off the CPU, torch's own dropout does it.
    """
    if p <= 0.0:
        return x
    if source is None or x.device.type != "cpu" or p >= 1.0:
        return F.dropout(x, p, training=True)
    result: Tensor = _Drop.apply(x, source.keep(tuple(x.shape), p), 1.0 / (1.0 - p))  # type: ignore[no-untyped-call]  # torch leaves it untyped
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


def plain_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend with two batched matrix products.

    Args:
        module: the attention module; its `dropout_source` (set by `use_plain_attention`) gives dropout masks.
        query: [B, H, T, E].
        key: [B, H or fewer (grouped queries), T, E].
        value: like `key`.
        attention_mask: additive, [B or 1, 1, T, T], or None for all to all.
        scaling: factor of the scores; None stands for E ** -0.5.
        dropout: share of attention weights dropped, in [0, 1); 0 outside training.

    Returns:
        [B, T, H, E] and None (weights are not returned).
    """
    num_batch, num_heads, num_queries, width = query.shape
    num_groups = num_heads // key.shape[1]
    if num_groups > 1:
        key = key.repeat_interleave(num_groups, dim=1)
        value = value.repeat_interleave(num_groups, dim=1)
    num_keys = key.shape[2]
    scores = torch.matmul(query * (width**-0.5 if scaling is None else scaling), key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + attention_mask[..., :num_keys]
    weights = torch.softmax(scores, dim=-1, dtype=scores.dtype)
    if dropout > 0.0:
        weights = drop(weights, dropout, getattr(module, "dropout_source", None))
    mixed = torch.matmul(weights.to(value.dtype), value)
    return mixed.transpose(1, 2).reshape(num_batch, num_queries, num_heads, width), None


def register_attention() -> None:
    """Make `plain_attention` known to transformers under the name `ATTENTION` (again is harmless)."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(ATTENTION, plain_attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)


def use_cheap_dropout(model: nn.Module, source: DropoutSource) -> None:
    """Replace every `nn.Dropout` in `model` by a `CheapDropout` and give attention modules the source."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                cheap = CheapDropout(child.p, source)
                cheap.train(child.training)
                setattr(module, name, cheap)
        module.dropout_source = source  # type: ignore[assignment]  # read by plain_attention, whatever the class
