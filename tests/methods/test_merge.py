from __future__ import annotations

import copy
import math

import pytest
import torch
from method_helpers import BATCH, LENGTH, make_loop, module_of, naive, same_state, train, train_stream

from ctbench.errors import BadConfig
from ctbench.plugins.find import get_method


def test_one_branch_is_naive_bit_for_bit(small):
    for num_branches, is_naive in ((1, True), (2, False)):
        method = get_method("merge", num_branches=num_branches, num_rounds=3)
        ours = train_stream(method, small.base, small.stream, small.blocks)[1:]
        theirs = train_stream(naive(), small.base, small.stream, small.blocks)[1:]
        assert [same_state(one[0], other[0]) for one, other in zip(ours, theirs, strict=True)] == [is_naive] * 2


def branch(start, blocks, steps):
    """Return the weights of a new optimiser's updates `steps` of a naive stage, from the weights `start`."""
    loop = make_loop(naive(), start, blocks)
    loop.stage.backbone.train()
    for step in steps:
        loop._update(step)
    return loop.stage.backbone


def mean(*backbones):
    states = [backbone.state() for backbone in backbones]
    return {name: sum(state[name].double() for state in states) / len(states) for name in states[0]}


def close(backbone, wanted):
    found = backbone.state()
    return all(
        torch.allclose(found[name].double(), value.double(), rtol=1e-5, atol=1e-7) for name, value in wanted.items()
    )


@pytest.mark.parametrize("num_branches", [2, 3])
def test_a_round_is_the_mean_of_branches_from_the_same_lm_with_new_optimisers(small, num_branches):
    """By hand: six updates are cut into slices of three, or of two."""
    length = 6 // num_branches
    branches = [
        branch(small.base, small.first, range(number * length, (number + 1) * length)) for number in range(num_branches)
    ]
    backbone, memory, record = train(
        get_method("merge", num_branches=num_branches, num_rounds=1), small.base, small.first
    )
    assert close(backbone, mean(*branches))
    assert not close(backbone, branches[-1].state())
    assert memory == {}
    assert record.stored_bytes == 0
    assert record.tokens == record.forward_tokens == 6 * BATCH * LENGTH


def test_a_next_round_begins_from_what_was_merged(small):
    backbone, _, _ = train(get_method("merge", num_branches=2, num_rounds=3), small.base, small.first)
    start = small.base
    for number in range(3):
        pair = [branch(start, small.first, [2 * number + which]) for which in range(2)]
        start = copy.deepcopy(pair[0])
        first, second = (each.state() for each in pair)
        start.load_state({name: torch.lerp(value, second[name], 0.5) for name, value in first.items()})
    assert same_state(backbone, start)
    assert not same_state(backbone, pair[1])


@pytest.mark.parametrize(("stop", "open_steps"), [(3, ()), (5, (3, 4))])
def test_a_trunk_that_ends_inside_a_round_merges_what_it_has(small, stop, open_steps):
    loop = make_loop(get_method("merge", num_branches=2, num_rounds=1), small.base, small.first)
    loop.stop = stop
    loop.run()
    branches = [
        branch(small.base, small.first, range(3)),
        *([branch(small.base, small.first, open_steps)] if open_steps else []),
    ]
    assert close(loop.stage.backbone, mean(*branches))
    assert loop.stage.memory == {}


def test_slerp_goes_along_the_arc_and_in_a_line_between_parallel_weights():
    slerp = module_of("merge").slerp
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    half = math.sqrt(0.5)
    torch.testing.assert_close(slerp(one, other, 0.5), torch.tensor([half, half]))
    torch.testing.assert_close(slerp(one, other, 1 / 3), torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)]))
    torch.testing.assert_close(slerp(2 * one, 2 * other, 0.5), torch.tensor([2 * half, 2 * half]))
    torch.testing.assert_close(slerp(one, 3 * one, 0.5), torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(slerp(one, 0 * one, 0.25), torch.tensor([0.75, 0.0]))


def test_slerp_of_branches_is_another_lm_than_their_mean_where_they_lie_apart(small):
    states = {}
    for merges in ("mean", "slerp"):
        method = get_method("merge", merges=merges, num_rounds=1)
        states[merges] = train(method, small.base, small.first)[0].state()
    branches = [branch(small.base, small.first, range(3 * which, 3 * which + 3)).state() for which in range(2)]
    slerp = module_of("merge").slerp
    for name, found in states["slerp"].items():
        torch.testing.assert_close(found, slerp(branches[0][name], branches[1][name], 0.5), rtol=1e-5, atol=1e-7)


def test_more_slices_than_updates_are_refused(small):
    with pytest.raises(BadConfig, match="of merge are 8 slices, and a stage has 6 updates"):
        train(get_method("merge", num_branches=2, num_rounds=4), small.base, small.first)
