"""The output embedding with a rounded number of outputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ctbench.kernels.lm_head import FITTING, MULTIPLE, AlignedLinear, align_outputs, aligned_product


@pytest.mark.parametrize("num_outputs", [MULTIPLE - 3, MULTIPLE, MULTIPLE + 1])
@pytest.mark.parametrize("has_bias", [True, False])
def test_rounded_product_has_the_values_and_gradients_of_a_linear_layer(num_outputs: int, has_bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(6, num_outputs, bias=has_bias).double()
    x = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    seen = torch.randn(2, 5, num_outputs, generator=generator, dtype=torch.float64)
    inputs = [x, *layer.parameters()]
    wanted = layer(x)
    found = aligned_product(x, layer.weight, layer.bias)
    assert found.shape == wanted.shape
    assert found.is_contiguous()
    torch.testing.assert_close(found, wanted)
    for given, expected in zip(
        torch.autograd.grad((found * seen).sum(), inputs),
        torch.autograd.grad((wanted * seen).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(given, expected)


def test_only_a_plain_linear_layer_of_an_odd_size_is_taken() -> None:
    odd, even, other = nn.Linear(2, MULTIPLE + 1), nn.Linear(2, MULTIPLE + FITTING), nn.Bilinear(2, 2, 3)
    weight, x = odd.weight, torch.ones(1, 2)
    before = odd(x)
    for layer in (odd, even, other):
        align_outputs(layer)
    assert [type(layer) for layer in (odd, even, other)] == [AlignedLinear, nn.Linear, nn.Bilinear]
    assert odd.weight is weight
    assert torch.equal(odd(x), before)  # on a CPU nothing changes
