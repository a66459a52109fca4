from __future__ import annotations

import pytest
import torch
from method_helpers import BATCH, LENGTH, make_loop, naive, same_state, train, train_stream

from ctbench.plugins.find import get_method


def both(small, one, other):
    """Return whether two methods leave the same LM after every stage."""
    stages = (train_stream(method, small.base, small.stream, small.blocks)[1:] for method in (one, other))
    return [same_state(mine[0], theirs[0]) for mine, theirs in zip(*stages, strict=True)]


def test_share_0_and_whole_steps_are_naive_bit_for_bit(small):
    assert both(small, get_method("mer", replay_fraction=0, after_fraction=1), naive()) == [True, True]
    assert both(small, get_method("mer", replay_fraction=0, after_fraction=0.9, interval=2), naive()) == [False, False]


def test_whole_steps_are_replay_bit_for_bit(small):
    replay = get_method("replay", replay_fraction=0.25)
    assert both(small, get_method("mer", replay_fraction=0.25, after_fraction=1), replay) == [True, True]
    assert both(small, get_method("mer", replay_fraction=0.5, after_fraction=1), replay) == [True, False]


@pytest.mark.parametrize("interval", [1, 4, 6, 50])
def test_fraction_0_gives_the_lm_before_bit_for_bit(small, interval):
    backbone, _, _ = train(get_method("mer", after_fraction=0, interval=interval), small.base, small.first)
    assert same_state(backbone, small.base)


def test_weights_go_back_to_where_they_were_an_interval_ago(small):
    """By hand: six updates in intervals of four, so the second is cut short by the end of the stage."""
    share, interval = 0.25, 4
    loop = make_loop(
        get_method("mer", replay_fraction=0, after_fraction=share, interval=interval), small.base, small.first
    )
    weights = dict(loop.stage.backbone.named_parameters())
    seen = [{name: weight.detach().clone() for name, weight in weights.items()}]
    step = loop.optimizer.step

    def watched(*args):
        step(*args)
        seen.append({name: weight.detach().clone() for name, weight in weights.items()})

    loop.optimizer.step = watched
    loop.run()
    wanted = {}
    for name, start in seen[0].items():
        middle = start.double() + share * (seen[4][name].double() - start.double())
        wanted[name] = middle + share * (seen[6][name].double() - middle)
        torch.testing.assert_close(weights[name].double(), wanted[name], rtol=1e-5, atol=1e-7)
    assert any(not torch.allclose(seen[6][name].double(), value, atol=1e-5) for name, value in wanted.items())


def test_only_past_text_outlives_the_stage(small):
    stages = train_stream(get_method("mer", max_blocks=10, interval=4), small.base, small.stream, small.blocks)
    _, memory, record = stages[-1]
    assert memory.keys() == {"seen", "columns"}
    assert len(memory["columns"]["blocks"]) == 10
    assert record.stored_bytes < 10 * LENGTH * 4 + 300
    assert record.forward_tokens == 6 * BATCH * LENGTH
