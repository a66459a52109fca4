"""The last product of an LM on a GPU, whose units for half precision want a vocabulary that is a multiple of 8."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MULTIPLE: Final = 64


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
    """Return x @ weight.T + bias, computed with the number of outputs rounded up to a multiple of `MULTIPLE`.

    Args:
        x: [..., in].
        weight: [out, in].
        bias: [out] or None.
    """
    extra = -len(weight) % MULTIPLE
    padded = F.pad(weight, (0, 0, 0, extra))
    return F.linear(x, padded, None if bias is None else F.pad(bias, (0, extra)))[..., : len(weight)]


def align_outputs(decoder: nn.Module) -> None:
    """Make an LM's output embedding an `AlignedLinear` where it is a plain linear layer; its weights stay the same."""
    if type(decoder) is nn.Linear and decoder.out_features % MULTIPLE:
        decoder.__class__ = AlignedLinear
