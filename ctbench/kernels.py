"""Dropout, attention and memory settings for CPUs, where the ready-made ones are slow in bfloat16.

Legend: B batch, T tokens, H heads, E width of a head, N = B x H.

torch's CPU generator draws dropout masks one number at a time (20 ms for 3 million, against 3 ms here), its fused
attention loses to plain matrix products in bfloat16 (the backward pass above all), and freshly mapped memory costs
page faults in every step. The replacements are registered through transformers' own interfaces or take the place of
a module; no library function is patched.
"""

from __future__ import annotations

import ctypes
import math
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ATTENTION = "ctbench_plain"
"""Name under which the plain attention is registered with transformers."""

_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


class DropoutSource:
    """Draw dropout masks from one numpy SFC64 generator.

    One object serves a whole backbone. The engine reseeds it at the start of a stage or cell and keeps its state in
    checkpoints, so a resumed stage draws the masks that the uninterrupted one would have drawn.

    Example:
        >>> source = DropoutSource(3)
        >>> state = source.state()
        >>> first = source.keep((4, 8), 0.5, torch.float32)
        >>> source.load_state(state)
        >>> torch.equal(source.keep((4, 8), 0.5, torch.float32), first)
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

    def keep(self, shape: tuple[int, ...], p: float, dtype: torch.dtype) -> Tensor:
        """Return a mask of bits: all ones with probability 1 - p (in steps of 2^-16), else all zeros.

        Args:
            shape: of the tensor to be dropped from.
            p: share to drop, in [0, 1].
            dtype: of that tensor; the mask is as wide.
        """
        size = math.prod(shape)
        words = self._generator.integers(0, 1 << 64, size=(size + 3) // 4, dtype=np.uint64)
        kept = words.view(np.uint16)[:size] >= round(p * 65536)
        return torch.from_numpy(kept.view(np.int8)).to(_BITS[dtype]).neg_().view(shape)


class _Drop(torch.autograd.Function):
    """Clear the dropped numbers' bits and scale the rest."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return _masked(x, keep).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (keep,) = ctx.saved_tensors
        return _masked(grads[0], keep).mul_(ctx.scale), None, None


def drop(x: Tensor, p: float, source: DropoutSource | None) -> Tensor:
    """Zero a share `p` in [0, 1] of `x` and scale the rest by 1 / (1 - p).

    Without a source, off the CPU or in an unusual precision, torch's own dropout does it.
    """
    if p <= 0.0:
        return x
    if source is None or x.device.type != "cpu" or p >= 1.0 or x.dtype not in _BITS:
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


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, keep: Tensor | None, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend with two batched products; the softmax is in float32 whatever the operands are.

    (torch's bfloat16 softmax is slower on a CPU than a cast there and back, up to tenfold where T is no multiple of
    16.)

    Args:
        q: queries [N, T, E].
        k: keys, likewise.
        v: values, likewise.
        mask: additive, [B or 1, 1, T or 1, T], or None.
        scaling: factor of the scores.
        keep: [N, T, T] bits of attention weights that stay, or None without dropout.
        p: share that was dropped.

    Returns:
        The mixed values [N, T, E], the weights in float32 and the weights as they were used.
    """
    scores = torch.bmm(q, k.transpose(1, 2)).float().mul_(scaling)
    if mask is not None:
        scores.view(len(mask), -1, *scores.shape[1:]).add_(mask)
    weights = torch.softmax(scores, dim=-1)
    used = weights.to(v.dtype)
    if keep is not None:
        used = _masked(used, keep)
    return _product(used, v, 1.0 / (1.0 - p)), weights, used


def attend_backward(
    grad: Tensor, saved: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None], scaling: float, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v.

    Args:
        grad: of the mixed values, [N, T, E].
        saved: q, k, v, the weights, the used weights and the kept bits of `attend`.
        scaling: as in `attend`.
        p: as in `attend`.
    """
    q, k, v, weights, used, keep = saved
    factor = 1.0 / (1.0 - p)
    inner = _product(grad, v.transpose(1, 2), factor)
    if keep is not None:
        inner = _masked(inner, keep)
    inner = torch.ops.aten._softmax_backward_data(inner.float(), weights, -1, torch.float32).to(grad.dtype)
    grad_q = _product(inner, k, scaling)
    grad_k = _product(inner.transpose(1, 2), q, scaling)
    return grad_q, grad_k, _product(used.transpose(1, 2), grad, factor)


class _Attend(torch.autograd.Function):
    """`attend` on [B, H, T, E], giving [B, T, H, E]."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, keep: Tensor | None, p: float
    ) -> Tensor:
        num_batch, num_heads, num_tokens, width = q.shape
        flat = [x.reshape(num_batch * num_heads, x.shape[2], width) for x in (q, k, v)]
        mixed, weights, used = attend(flat[0], flat[1], flat[2], mask, scaling, keep, p)
        ctx.save_for_backward(*flat, weights, used, keep)
        ctx.constants = num_batch, scaling, p
        return mixed.view(num_batch, num_heads, num_tokens, width).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        num_batch, scaling, p = ctx.constants
        grad = grads[0].transpose(1, 2)
        grad = grad.reshape(-1, *grad.shape[2:])
        found = attend_backward(grad, ctx.saved_tensors, scaling, p)
        return *(x.view(num_batch, -1, *x.shape[1:]) for x in found), None, None, None, None


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
    """Attend as transformers' AttentionInterface asks for.

    Args:
        module: the attention module; its `dropout_source` (see `use_cheap_dropout`) gives dropout masks.
        query: [B, H, T, E].
        key: [B, H or fewer (grouped queries), T, E].
        value: like `key`.
        attention_mask: additive, [B or 1, 1, T or 1, T], or None for all to all.
        scaling: factor of the scores; None stands for E ** -0.5.
        dropout: share of attention weights dropped, in [0, 1); 0 outside training.

    Returns:
        [B, T, H, E] and None (weights are not returned).
    """
    num_batch, num_heads, num_tokens, width = query.shape
    if num_heads != key.shape[1]:
        key = key.repeat_interleave(num_heads // key.shape[1], dim=1)
        value = value.repeat_interleave(num_heads // value.shape[1], dim=1)
    if torch.is_autocast_enabled("cpu"):
        wanted = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(wanted), key.to(wanted), value.to(wanted)
    keep = None
    if dropout > 0.0:
        source: DropoutSource = module.dropout_source  # type: ignore[assignment]  # typed as tensor or module by torch
        keep = source.keep((num_batch * num_heads, num_tokens, key.shape[2]), dropout, query.dtype)
    scaling = width**-0.5 if scaling is None else scaling
    return _Attend.apply(query, key, value, attention_mask, scaling, keep, dropout), None  # type: ignore[no-untyped-call]  # torch leaves it untyped


def plain_mask(*, mask_function: Any, attention_mask: Tensor | None, dtype: torch.dtype, **sizes: Any) -> Any:
    """Make the additive mask of `plain_attention`, as small as it can be.

    Args:
        mask_function: transformers' rule of who sees whom.
        attention_mask: [B, T], true for text, or None.
        dtype: of the mask.
        sizes: the further arguments of transformers' mask functions.
    """
    from transformers import masking_utils

    is_plain = sizes.get("q_offset", 0) == 0 and sizes.get("kv_offset", 0) == 0
    if is_plain and mask_function is masking_utils.bidirectional_mask_function:
        if attention_mask is None:
            return None
        return torch.where(attention_mask[:, None, None, :], 0.0, torch.finfo(dtype).min).to(dtype)
    if is_plain and attention_mask is None and mask_function is masking_utils.causal_mask_function:
        sizes["batch_size"] = 1  # the same for every row
    return masking_utils.eager_mask(mask_function=mask_function, attention_mask=attention_mask, dtype=dtype, **sizes)


def register_attention() -> None:
    """Make `plain_attention` known to transformers under the name `ATTENTION` (again is harmless)."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, plain_attention)
    AttentionMaskInterface.register(ATTENTION, plain_mask)


def use_cheap_dropout(model: nn.Module, source: DropoutSource) -> None:
    """Replace every `nn.Dropout` in `model` by a `CheapDropout` and give attention modules the source."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                cheap = CheapDropout(child.p, source)
                cheap.train(child.training)
                setattr(module, name, cheap)
        module.dropout_source = source  # type: ignore[assignment]  # read by plain_attention, whatever the class


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next step instead of mapping fresh pages; elsewhere do nothing.

    Returns:
        Whether the allocator took the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False  # another libc
    trim_threshold, mmap_threshold = -1, -3
    # 32 MiB is the largest threshold that glibc accepts.
    return bool(mallopt(mmap_threshold, 1 << 25)) and bool(mallopt(trim_threshold, 1 << 30))


def _masked(x: Tensor, keep: Tensor) -> Tensor:
    return x.view(keep.dtype).bitwise_and(keep).view(x.dtype)


def _product(a: Tensor, b: Tensor, factor: float) -> Tensor:
    """Return factor * a @ b; inside the product the factor costs nothing."""
    return torch.bmm(a, b) if factor == 1.0 else torch.baddbmm(a.new_zeros(1), a, b, beta=0.0, alpha=factor)
