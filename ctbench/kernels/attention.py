"""Attention for CPUs, where the ready-made one is slow in bfloat16.

Legend: B batch, T tokens, H heads, E width of a head, N = B x H.

torch's fused attention loses to plain matrix products on a CPU in bfloat16 (the backward pass above all). The attention
is registered through transformers' own interface; no library function is patched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ctbench.kernels.dropout import DropoutSource, masked
from ctbench.kernels.switch import uses_plain_kernels

ATTENTION = "ctbench_plain"
"""Name under which the plain attention is registered with transformers."""


def attend(
    inputs: Sequence[Tensor], mask: Tensor | None, scaling: float, keep: Tensor | None, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend with two batched products; the softmax is in float32 whatever the operands are.

    (torch's bfloat16 softmax is slower on a CPU than a cast there and back, up to tenfold where T is no multiple of
    16.)

    Args:
        inputs: queries, keys and values, [N, T, E] each.
        mask: additive, [B or 1, 1, T or 1, T], or None.
        scaling: factor of the scores.
        keep: [N, T, T] bits of attention weights that stay, or None without dropout.
        p: share that was dropped.

    Returns:
        The mixed values [N, T, E], the weights in float32 and the weights as they were used.
    """
    q, k, v = inputs
    scores = torch.bmm(q, k.transpose(1, 2)).float().mul_(scaling)
    if mask is not None:
        scores.view(len(mask), -1, *scores.shape[1:]).add_(mask)
    weights = torch.softmax(scores, dim=-1)
    used = weights.to(v.dtype)
    if keep is not None:
        used = masked(used, keep)
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
        inner = masked(inner, keep)
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
        mixed, weights, used = attend(flat, mask, scaling, keep, p)
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


def choose_attention(model: Any, device: torch.device) -> None:
    """Let a model attend with `plain_attention` on a CPU and with torch's fused attention elsewhere.

    With `CTBENCH_PLAIN_KERNELS=1` it is the fused attention everywhere.
    """
    register_attention()
    model.set_attn_implementation(ATTENTION if device.type == "cpu" and not uses_plain_kernels() else "sdpa")


def register_attention() -> None:
    """Make `plain_attention` known to transformers under the name `ATTENTION`. Safe to call more than once."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, plain_attention)
    AttentionMaskInterface.register(ATTENTION, plain_mask)


def _product(a: Tensor, b: Tensor, factor: float) -> Tensor:
    """Return factor * a @ b; inside the product the factor costs nothing."""
    return torch.bmm(a, b) if factor == 1.0 else torch.baddbmm(a.new_zeros(1), a, b, beta=0.0, alpha=factor)
