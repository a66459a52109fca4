"""The last product of an LM on a GPU, where a vocabulary of an odd size is slow."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
