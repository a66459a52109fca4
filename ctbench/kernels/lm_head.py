"""The LM head: its last product on a GPU, where a vocabulary of an odd size is slow, and its loss on a CPU in bfloat16."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctbench.kernels.switch import uses_plain_kernels

FITTING: Final = 8
"""Numbers of outputs that are multiples of it are fast as they are, in half precision."""
MULTIPLE: Final = 64
"""Others are rounded up to a multiple of this."""


class AlignedLinear(nn.Linear):
    """A linear layer that, where that is faster, computes a few outputs too many and cuts them off.

    In half precision on a GPU a product with 50,265 outputs takes several times as long as one with 50,304. Values and
    gradients are those of `nn.Linear` but for the order of sums.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., out] for `x` [..., in]."""
        if x.device.type != "cuda" or not torch.is_autocast_enabled("cuda"):
            return super().forward(x)
        return aligned_product(x, self.weight, self.bias)


def aligned_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x @ weight.T + bias, contiguous, computed with the number of outputs rounded up.

    Args:
        x: [..., in].
        weight: [out, in].
        bias: [out] or None.
    """
    extra = -len(weight) % MULTIPLE
    padded = F.pad(weight, (0, 0, 0, extra))
    product = F.linear(x, padded, None if bias is None else F.pad(bias, (0, extra)))
    return product[..., : len(weight)].contiguous()


def align_outputs(decoder: nn.Module) -> None:
    """Make an LM's output embedding an `AlignedLinear` if it is a linear layer of an odd size; its weights stay."""
    if type(decoder) is nn.Linear and decoder.out_features % FITTING:
        decoder.__class__ = AlignedLinear


_CACHED_NUMBERS = 1 << 19
"""Number of float32 values per chunk: 2 MiB stay in the cache."""


class _LMLoss(torch.autograd.Function):
    """The mean cross-entropy and its gradient in one pass over few rows at a time, which stay in the cache."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        total, grad = logits.new_zeros((), dtype=torch.float32), torch.empty_like(logits)
        num_rows = max(1, _CACHED_NUMBERS // logits.shape[1])
        rows = [torch.split(x, num_rows) for x in (logits, targets.unsqueeze(1), grad)]
        for part, wanted, found in zip(*rows, strict=True):
            scores = part.float()
            shares = torch.softmax(scores, dim=1)
            # The log of the largest share cannot overflow, that of the wanted one can.
            total += (scores.amax(1) - scores.gather(1, wanted)[:, 0] - shares.amax(1).log()).sum()
            shares.scatter_add_(1, wanted, shares.new_full(wanted.shape, -1.0))
            found.copy_(shares.mul_(1.0 / len(logits)))
        ctx.save_for_backward(grad)
        return total / len(logits)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * grads[0], None


def lm_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats, a float32 scalar.

    A CPU in bfloat16 gets a pass of our own (three times as fast at a vocabulary of 30,522, and a quarter of the
    memory); everything else is torch's.

    Args:
        logits: [M, V].
        targets: [M], ids below V.
    """
    ours = logits.device.type == "cpu" and logits.dtype == torch.bfloat16 and logits.requires_grad
    if not ours or uses_plain_kernels():
        return F.cross_entropy(logits.float(), targets)
    loss: Tensor = _LMLoss.apply(logits, targets)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return loss
