"""ModernBERT's attention with rotation, softmax and both products in one step on a CPU.

Imported only where a model of this family is loaded: it is the family of the embedded backbone, whose steps are so
short that rotating queries and keys one small operation at a time shows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.modernbert.modeling_modernbert import ModernBertAttention

from ctbench.kernels import ATTENTION, attend, attend_backward


class RotaryAttention(ModernBertAttention):  # type: ignore[misc]  # the library is not typed
    """The same module with the same weights; off the CPU it does what the library's does."""

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; arguments and result are the library's."""
        if hidden_states.device.type != "cpu" or self.config._attn_implementation != ATTENTION:
            return super().forward(hidden_states, position_embeddings, attention_mask, **options)  # type: ignore[no-any-return]  # see above
        assert position_embeddings is not None
        mixed = self.Wqkv(hidden_states)
        p, keep = self.attention_dropout if self.training else 0.0, None
        num_batch, num_tokens = mixed.shape[:2]
        num_heads = self.config.num_attention_heads
        if p > 0.0:
            keep = self.dropout_source.keep((num_batch * num_heads, num_tokens, num_tokens), p, mixed.dtype)
        mixed = mixed.view(num_batch, num_tokens, 3, num_heads, self.head_dim)
        mixed = _RotateAndAttend.apply(mixed, *position_embeddings, attention_mask, self.head_dim**-0.5, keep, p)
        return self.out_drop(self.Wo(mixed)), None


class _RotateAndAttend(torch.autograd.Function):
    """From fused queries, keys and values [B, T, 3, H, E] to mixed values [B, T, H x E]."""

    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        scaling: float,
        keep: Tensor | None,
        p: float,
    ) -> Tensor:
        num_batch, num_tokens, _, num_heads, width = qkv.shape
        flat = num_batch * num_heads, num_tokens, width
        turned = _rotate(_heads_first(qkv[:, :, :2]), cos, sin).to(qkv.dtype)
        q, k = turned[0].reshape(flat), turned[1].reshape(flat)
        v = qkv[:, :, 2].transpose(1, 2).reshape(flat)
        mixed, weights, used = attend(q, k, v, mask, scaling, keep, p)
        ctx.save_for_backward(q, k, v, weights, used, keep, cos, sin)
        ctx.constants = qkv.shape, scaling, p
        mixed = mixed.view(num_batch, num_heads, num_tokens, width)
        return mixed.transpose(1, 2).reshape(num_batch, num_tokens, num_heads * width)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *saved, cos, sin = ctx.saved_tensors
        shape, scaling, p = ctx.constants
        num_batch, num_tokens, _, num_heads, width = shape
        grad = grads[0].view(num_batch, num_tokens, num_heads, width).transpose(1, 2).reshape(-1, num_tokens, width)
        grad_q, grad_k, grad_v = attend_backward(grad, tuple(saved), scaling, p)
        by_head = num_batch, num_heads, num_tokens, width
        turned = torch.stack([grad_q.view(by_head), grad_k.view(by_head)]).float()
        result = grad.new_empty(shape)
        result[:, :, 2].copy_(grad_v.view(by_head).transpose(1, 2))
        # A rotation's transpose is the rotation back.
        result[:, :, :2].copy_(_rotate(turned, cos, -sin).permute(1, 3, 0, 2, 4))
        return result, None, None, None, None, None, None


def fuse_attention(model: nn.Module) -> None:
    """Let every ModernBERT attention in `model` compute as `RotaryAttention`."""
    for module in model.modules():
        if type(module) is ModernBertAttention:
            module.__class__ = RotaryAttention


def _heads_first(pair: Tensor) -> Tensor:
    """Return [B, T, 2, H, E] as [2, B, H, T, E] in float32, in one pass over the memory."""
    num_batch, num_tokens, _, num_heads, width = pair.shape
    result = pair.new_empty((2, num_batch, num_heads, num_tokens, width), dtype=torch.float32)
    return result.copy_(pair.permute(2, 0, 3, 1, 4))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the halves of [2, B, H, T, E] against each other by angles [B or 1, T, E]."""
    half = x.shape[-1] // 2
    cos, sin = cos[:, None], sin[:, None, :, :half]
    result = x * cos
    result[..., :half].addcmul_(x[..., half:], sin, value=-1.0)
    result[..., half:].addcmul_(x[..., :half], sin)
    return result
