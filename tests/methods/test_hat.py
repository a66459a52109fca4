from __future__ import annotations

import copy
import dataclasses
import itertools
import math

import pytest
import torch
from checkpoints import FAMILY_NAMES, make_batch
from method_helpers import RECIPE, build, make_loop, make_stream, module_of, train, train_stream

from ctbench.backbone.loading import load_backbone
from ctbench.plugins.find import get_method

HARSH = dataclasses.replace(RECIPE, weight_decay=0.5, lr=1e-2)


@pytest.fixture(scope="module")
def method():
    return get_method("hat")


@pytest.fixture(scope="module")
def trained(small, method):
    return train_stream(method, small.base, small.stream, small.blocks, recipe=HARSH)


def units(backbone):
    return list(backbone.added["hat"])


def adapted(method, backbone, small, number):
    return method.adapt(copy.deepcopy(backbone), small.stream, small.stream.names[number], number + 1).eval()


def test_plan_serves_known_domains_from_the_row_and_others_from_the_base(tmp_path, method):
    plan = method.plan(make_stream(tmp_path, num_domains=3))
    assert plan.parents == (0, 1, 2)
    assert plan.cells == ((0, 0, 0), (1, 0, 0), (2, 2, 0), (3, 3, 3))
    assert plan.kept == {3}


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_fresh_bottlenecks_are_the_identity_under_every_mask(family, checkpoint, small, method):
    base = load_backbone(str(checkpoint(family)))
    built, batch = build(method, base, small.stream), make_batch()
    assert len(units(built)) == 2 * base.num_layers
    assert torch.equal(built(batch).logits, base(batch).logits)
    for name in small.stream.names:
        assert torch.equal(method.adapt(built, small.stream, name, 1)(batch).logits, base(batch).logits)


def test_no_weight_of_the_lm_changes_and_masks_of_other_domains_stay(small, trained):
    base, states = small.base.state(), [backbone.state() for backbone, _, _ in trained]
    assert all(torch.equal(state[name], base[name]) for state in states for name in base)
    for number, (before, after) in enumerate(itertools.pairwise(states)):
        for name in before:
            if ".embeddings." in name:
                assert torch.equal(before[name], after[name]) == (not name.endswith(f".{number}")), name
    assert [memory for _, memory, _ in trained[1:]] == [{}, {}]


def test_a_known_domain_is_not_forgotten_and_naive_bottlenecks_would_be(small, method, trained):
    """Even under weight decay; where a mask is soft at its end a unit moves by what is left."""
    batch = make_batch()
    first, second = (adapted(method, trained[number][0], small, 0)(batch).logits for number in (1, 2))
    learned = (first - small.base.eval()(batch).logits).abs().max()
    assert 0 < (second - first).abs().max() < 1e-2 * learned
    own = adapted(method, trained[2][0], small, 1)(batch).logits
    assert (own - first).abs().max() > 0.1 * learned
    free = copy.deepcopy(trained[1][0])
    for unit in units(free):
        unit.embeddings[0].data.fill_(-1.0)  # the first domain is made to use nothing, so nothing is protected
    moved = train(method, free, small.second, recipe=HARSH)[0]
    for unit, before in zip(units(moved), units(trained[1][0]), strict=True):
        unit.embeddings[0].data.copy_(before.embeddings[0])
    assert (adapted(method, moved, small, 0)(batch).logits - first).abs().max() > 0.1 * learned


def test_a_domain_with_a_hard_mask_keeps_its_bits(small, method, trained):
    first, batch = copy.deepcopy(trained[1][0]), make_batch()
    for unit in units(first):
        unit.embeddings[0].data = unit.embeddings[0].data.sign() / method.gain
    second = train(method, first, small.second, recipe=HARSH)[0]
    before, after = (adapted(method, backbone, small, 0)(batch).logits for backbone in (first, second))
    assert torch.equal(before, after)
    assert not torch.equal(before, adapted(method, second, small, 1)(batch).logits)


def test_used_units_keep_their_bits_and_free_ones_move(trained):
    for before, after in zip(units(trained[1][0]), units(trained[2][0]), strict=True):
        used = before.used(1)
        held, free = used == 1.0, used == 0.0
        assert held.any()
        assert free.any()
        for one, other in ((before.down.weight, after.down.weight), (before.up.weight.T, after.up.weight.T)):
            assert torch.equal(one[held], other[held])
            assert not torch.equal(one[free], other[free])
        assert torch.equal(before.down.bias[held], after.down.bias[held])


def test_mask_is_a_sigmoid_with_the_gradient_of_a_soft_one():
    hard_sigmoid = module_of("hat").hard_sigmoid
    embedding = torch.tensor([0.5, -0.2, 0.0], requires_grad=True)
    mask = hard_sigmoid(embedding, 100.0)
    torch.testing.assert_close(mask, torch.tensor([1.0, math.exp(-20.0), 0.5]), atol=1e-12, rtol=1e-5)
    mask.sum().backward()
    soft = torch.sigmoid(embedding.detach())
    torch.testing.assert_close(embedding.grad, soft * (1 - soft))
    assert hard_sigmoid(torch.tensor([-1.0]), 400.0).item() == 0.0


def test_sparsity_is_the_share_of_the_free_units_that_a_mask_takes():
    sparsity = module_of("hat").sparsity
    mask = torch.tensor([1.0, 1.0, 0.0, 0.5])
    assert sparsity(mask, torch.zeros(4)).item() == pytest.approx(2.5 / 4)
    assert sparsity(mask, torch.tensor([1.0, 0.0, 0.0, 0.5])).item() == pytest.approx(1.25 / 2.5)
    assert sparsity(mask, torch.ones(4)).item() == 0.0


def test_sharpness_grows_along_the_stage(small):
    method = get_method("hat", sharpness=10.0)
    loop = make_loop(method, build(method, small.base, small.stream), small.first)
    seen = []
    for step in range(6):
        method.loss(loop.stage, loop.stage.start_step(step))
        seen.append(units(loop.stage.backbone)[0].selected[1])
    assert seen == pytest.approx([0.1 + 9.9 * step / 5 for step in range(6)])


def test_sparsity_weight_makes_a_domain_take_fewer_units(small):
    means = []
    for weight in (0.0, 2.0):
        method = get_method("hat", sparsity_weight=weight)
        _, _, record = train(method, build(method, small.base, small.stream), small.first, num_steps=20)
        assert ("sparsity" in record.losses) == bool(weight)
        means.append(record.notes["mask_mean"])
    assert means[1] < means[0] - 0.05


def test_embeddings_stay_within_their_limit(small):
    method = get_method("hat", gain=1000.0, sparsity_weight=0.1)
    backbone, _, _ = train(method, build(method, small.base, small.stream), small.first, recipe=HARSH)
    largest = max((method.gain * unit.embeddings[0]).abs().max().item() for unit in units(backbone))
    assert largest == pytest.approx(6.0, rel=1e-4)


@pytest.mark.parametrize("trains", ["all", "added"])
def test_cell_trains_what_it_says_and_no_mask(small, trained, trains):
    cell = get_method("hat", cell_trains=trains).adapt(
        copy.deepcopy(trained[2][0]), small.stream, small.stream.names[0], 2
    )
    names = {name for name, _ in cell.trainable()}
    own = {name for name in trained[2][0].state() if name.startswith("added.hat.") and ".embeddings." not in name}
    assert names == own | ({name for name, _ in small.base.named_parameters()} if trains == "all" else set())
