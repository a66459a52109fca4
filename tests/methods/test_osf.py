from __future__ import annotations

import dataclasses

import pytest
import torch
from method_helpers import RECIPE, make_blocks, module_of, naive, same_state, train, train_stream
from torch import nn

from ctbench.backbone.loading import load_backbone
from ctbench.linear import linear_maps
from ctbench.plugins.find import get_method

HARSH = dataclasses.replace(RECIPE, weight_decay=0.5, lr=1e-2)


def weights(backbone):
    return {each.weight_name: each.oriented(each.module.weight).detach() for each in linear_maps(backbone)}


def kept(before, after, share):
    """Tell of every linear map whether its strongest directions map as they did: W V_h = U_h S_h and U_h' W = S_h V_h'."""
    strongest = module_of("osf").strongest
    found = []
    for name, start in weights(before).items():
        left, right = strongest(start, share)
        end = weights(after)[name]
        found.append(
            torch.allclose(end @ right, start @ right, atol=1e-4)
            and torch.allclose(left.T @ end, left.T @ start, atol=1e-4)
        )
    return found


def test_share_0_is_naive_bit_for_bit(small):
    for share, is_naive in ((0.0, True), (0.5, False)):
        ours = train_stream(get_method("osf", frozen_fraction=share), small.base, small.stream, small.blocks)[1:]
        theirs = train_stream(naive(), small.base, small.stream, small.blocks)[1:]
        assert [same_state(one[0], other[0]) for one, other in zip(ours, theirs, strict=True)] == [is_naive] * 2


def test_share_1_learns_no_map_and_everything_else(small):
    backbone, _, _ = train(get_method("osf", frozen_fraction=1), small.base, small.first)
    before, after = small.base.state(), backbone.state()
    maps = weights(small.base).keys()
    for name in before:
        is_same = torch.allclose(before[name], after[name], atol=1e-6)
        assert is_same == (name in maps), name


@pytest.mark.parametrize("family", ["roberta", "gpt2"])
def test_strong_directions_stay_under_adam_and_weight_decay_and_weak_ones_learn(family, small, checkpoint, tmp_path):
    base = load_backbone(str(checkpoint(family)))
    blocks = {small.stream.names[0]: make_blocks(small.stream, base, tmp_path)[small.stream.names[0]]}
    method = get_method("osf", frozen_fraction=0.4)
    backbone, _, _ = train(method, base, blocks, recipe=HARSH)
    assert all(kept(base, backbone, 0.4))
    assert not any(kept(base, backbone, 0.6))
    assert not any(kept(base, train(naive(), base, blocks, recipe=HARSH)[0], 0.4))


def test_every_stage_freezes_more_directions_of_the_lm_that_it_starts_from(small):
    method = get_method("osf", frozen_fraction=0.3, growth=0.4)
    stages = train_stream(method, small.base, small.stream, small.blocks, recipe=HARSH)
    assert all(kept(stages[1][0], stages[2][0], 0.7))
    assert not any(kept(stages[0][0], stages[1][0], 0.7))
    assert [memory for _, memory, _ in stages[1:]] == [{"stages": 1}, {"stages": 2}]
    assert stages[2][2].stored_bytes < 50


def test_growth_stops_at_all_directions(small):
    stages = train_stream(get_method("osf", frozen_fraction=0.5, growth=1.0), small.base, small.stream, small.blocks)
    maps = zip(weights(stages[1][0]).values(), weights(stages[2][0]).values(), strict=True)
    assert all(torch.allclose(before, after, atol=1e-6) for before, after in maps)


def test_projection_by_hand():
    osf = module_of("osf")
    left, right = osf.strongest(torch.diag(torch.tensor([1.0, 3.0, 2.0])), 1 / 3)
    wanted = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    torch.testing.assert_close(osf.project(torch.ones(3, 3), left, right), wanted)
    assert osf.strongest(torch.eye(3), 0.1)[0].shape == (3, 0)
    assert [each.shape for each in osf.strongest(torch.randn(4, 6), 0.5)] == [(4, 2), (6, 2)]


def test_changes_are_those_that_peft_allows():
    """To first order: what peft's projected gradients of U, S and V change of W, and all of it."""
    from peft.tuners.osf.utils import decompose_weight_matrix, project_gradient_to_orthogonal_space

    osf, weight, rank = module_of("osf"), torch.randn(5, 7, dtype=torch.float32), 2
    left, right = osf.strongest(weight, rank / 5)
    changes = []
    for _ in range(40):
        svd = decompose_weight_matrix(weight, rank)
        torch.testing.assert_close(svd["U_high"] @ svd["U_high"].T, left @ left.T)
        low = [svd[name] for name in ("U_low", "S_low", "V_low")]
        for part in low:
            assert isinstance(part, nn.Parameter)
            part.grad = torch.randn_like(part)
        project_gradient_to_orthogonal_space(svd)
        u, s, v = (part.detach() for part in low)
        du, ds, dv = (part.grad for part in low)
        change = du @ torch.diag(s) @ v + u @ torch.diag(ds) @ v + u @ torch.diag(s) @ dv
        torch.testing.assert_close(osf.project(change, left, right), change, atol=1e-4, rtol=1e-4)
        changes.append(change.flatten())
    assert torch.linalg.matrix_rank(torch.stack(changes), atol=1e-3) == (5 - rank) * (7 - rank)
    free = torch.randn(5, 7)
    assert not torch.allclose(osf.project(free, left, right), free, atol=1e-2)
