from __future__ import annotations

import pytest
import torch
from method_helpers import naive, same_state, train, train_stream

from ctbench.plugins.find import get_method


def test_fraction_1_is_naive_bit_for_bit(small):
    averaged = train_stream(get_method("averaging", after_fraction=1), small.base, small.stream, small.blocks)
    sequential = train_stream(naive(), small.base, small.stream, small.blocks)
    assert all(same_state(one[0], other[0]) for one, other in zip(averaged, sequential, strict=True))


def test_fraction_0_gives_the_lm_before_bit_for_bit(small):
    backbone, memory, _ = train(get_method("averaging", after_fraction=0), small.base, small.first)
    assert same_state(backbone, small.base)
    assert memory == {}


@pytest.mark.parametrize("share", [0.3, 0.75])
def test_weights_lie_between_before_and_after(small, share):
    after = train(naive(), small.base, small.first)[0].state()
    found = train(get_method("averaging", after_fraction=share), small.base, small.first)[0].state()
    before = small.base.state()
    for name in found:
        wanted = (1 - share) * before[name].double() + share * after[name].double()
        torch.testing.assert_close(found[name].double(), wanted, rtol=1e-6, atol=1e-8)


def test_next_stage_averages_with_its_own_start(small):
    method = get_method("averaging", after_fraction=0.5)
    first, second = (entry[0] for entry in train_stream(method, small.base, small.stream, small.blocks)[1:])
    after = train(naive(), first, small.second)[0].state()
    for name, value in second.state().items():
        torch.testing.assert_close(value, (first.state()[name] + after[name]) / 2, rtol=1e-5, atol=1e-7)
