"""Floating-point operations: of products worked out by hand, and of whole stages against torch's own counter."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ctbench.training.flops import FlopMeter, counted


def flops_of(function):
    meter = FlopMeter()
    with meter.counting():
        function()
    return meter.total


def test_a_linear_layer_counts_twice_its_weights_per_row_and_three_times_that_with_its_gradients():
    layer, x = nn.Linear(3, 5), torch.randn(7, 3)
    forward = 2 * 7 * 3 * 5
    with torch.no_grad():
        assert flops_of(lambda: layer(x)) == forward
    with torch.inference_mode():
        assert flops_of(lambda: layer(x)) == forward
        assert flops_of(lambda: x @ layer.weight.T) == forward
    assert flops_of(lambda: layer(x).sum().backward()) == 2 * forward  # nothing wants the gradient of x
    x.requires_grad_(True)
    assert flops_of(lambda: layer(x).sum().backward()) == 3 * forward
    layer.requires_grad_(False)
    assert flops_of(lambda: layer(x).sum().backward()) == 2 * forward


def test_attention_counts_two_products_and_five_for_its_gradient():
    q, k, v = (torch.randn(2, 3, length, 8, requires_grad=True) for length in (4, 6, 6))
    product = 2 * (2 * 3 * 4 * 6) * 8
    with torch.inference_mode():
        assert flops_of(lambda: F.scaled_dot_product_attention(q, k, v)) == 2 * product
    assert flops_of(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward()) == 7 * product


def test_what_works_entry_by_entry_counts_nothing():
    assert flops_of(lambda: torch.randn(4, 4).softmax(-1).sum().exp()) == 0


def test_a_sample_stands_for_the_rest_by_size():
    meter, x = FlopMeter(), torch.randn(4, 4)
    for index in range(8):
        with meter.sampling(is_counted=index == 2, size=10.0):
            x @ x
        with meter.sampling(is_counted=index == 2):
            x @ x
    with meter.counting():
        x @ x
    assert meter.total == (8 * 2 + 1) * 128
    assert FlopMeter(meter.state).total == meter.total
    with meter.sampling(is_counted=False, size=10.0):
        pass
    assert meter.total == (9 * 2 + 1) * 128


def test_without_a_sample_the_total_is_unknown():
    meter = FlopMeter()
    assert meter.total == 0
    with meter.sampling(is_counted=False, size=1.0):
        pass
    assert math.isnan(meter.total)


@pytest.mark.parametrize("num_steps", [1, 4, 5, 7, 160])
def test_the_counted_updates_are_among_the_updates(num_steps):
    assert counted(num_steps) <= set(range(num_steps))
    assert len(counted(num_steps)) == min(4, num_steps)
