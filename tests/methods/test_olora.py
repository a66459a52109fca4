from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from checkpoints import FAMILY_NAMES, make_batch
from method_helpers import RECIPE, build, module_of, same_state, train, train_stream

from ctbench.backbone.loading import load_backbone
from ctbench.engine.tensors import load_changed, save_changed
from ctbench.linear import linear_maps
from ctbench.machine.manifest import write_manifest
from ctbench.plugins.find import get_method


@pytest.fixture(scope="module")
def trained(small):
    recipe = dataclasses.replace(RECIPE, weight_decay=0.5)
    return train_stream(get_method("olora", rank=4), small.base, small.stream, small.blocks, recipe=recipe)


def pairs(backbone, number):
    return {
        name: value for name, value in backbone.state().items() if name.endswith((f".down.{number}", f".up.{number}"))
    }


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_fresh_updates_are_the_identity_and_names_stay(family, checkpoint, small):
    base = load_backbone(str(checkpoint(family)))
    built = build(get_method("olora"), base, small.stream)
    batch = make_batch()
    assert torch.equal(built(batch).logits, base(batch).logits)
    assert base.state().keys() < built.state().keys()
    assert all(name.startswith("added.updates.") for name, _ in built.trainable())
    assert len(built.added["updates"]) == len(linear_maps(base)) >= 4 * base.num_layers


def test_alpha_0_leaves_the_lm_untouched(small):
    for alpha, is_untouched in ((0.0, True), (64.0, False)):
        backbone, _, _ = train_stream(get_method("olora", alpha=alpha), small.base, small.stream, small.blocks)[-1]
        batch = make_batch()
        assert torch.equal(backbone.eval()(batch).logits, small.base.eval()(batch).logits) == is_untouched


def test_only_the_pairs_of_the_stage_move_even_under_weight_decay(small, trained):
    start, first, second = (backbone for backbone, _, _ in trained)
    base = small.base.state()
    assert all(torch.equal(second.state()[name], base[name]) for name in base)
    for number, (before, after) in enumerate(((start, first), (first, second))):
        other = 1 - number
        assert all(torch.equal(pairs(before, other)[name], value) for name, value in pairs(after, other).items())
        assert all(not torch.equal(pairs(before, number)[name], value) for name, value in pairs(after, number).items())


@pytest.mark.parametrize("family", ["roberta", "gpt2"])
def test_updates_equal_merged_weights_to_rounding(family, checkpoint, small):
    """W + (alpha / r) sum of B A, also for GPT-2 whose weights lie the other way round."""
    base = load_backbone(str(checkpoint(family)))
    built = build(get_method("olora", rank=2, alpha=6.0), base, small.stream)
    merged = copy.deepcopy(base)
    with torch.no_grad():
        for update, linear in zip(built.added["updates"], linear_maps(merged), strict=True):
            for up in update.up:
                up.normal_(std=0.05)
            change = sum(up @ down for up, down in zip(update.up, update.down, strict=True))
            linear.oriented(linear.module.weight).add_(3.0 * change)
        batch = make_batch()
        torch.testing.assert_close(built(batch).logits, merged(batch).logits, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(built(batch).logits, base(batch).logits, atol=1e-2)


def test_overlap_is_the_mean_cosine_of_rows():
    overlap = module_of("olora").overlap
    past, new = torch.tensor([[3.0, 0.0], [0.0, 5.0]]), torch.tensor([[2.0, 0.0], [1.0, -1.0]])
    assert overlap(past, new).item() == pytest.approx((1 + 0 + 2 / math.sqrt(2)) / 4)
    assert overlap(100 * past, 0.01 * new).item() == pytest.approx(overlap(past, new).item())
    assert overlap(past[:1], torch.tensor([[0.0, 7.0]])).item() == 0.0


def test_penalty_pushes_the_new_updates_away_from_the_old_ones(small, trained):
    first, memory, _ = trained[1]
    found = {}
    for weight in (0.0, 10.0):
        method = get_method("olora", rank=4, weight=weight)
        _, _, record = train(method, first, small.second, memory, num_steps=30)
        assert ("overlap" in record.losses) == bool(weight)
        found[weight] = record.notes["overlap"]
    assert found[10.0] < 0.7 * found[0.0]
    assert "overlap" not in trained[1][2].losses  # there is no past in stage 1
    assert "overlap" not in trained[1][2].notes


def test_weight_0_is_the_same_method_without_the_penalty(small):
    stages = [
        train_stream(get_method("olora", weight=weight), small.base, small.stream, small.blocks)
        for weight in (0.0, 10.0)
    ]
    assert same_state(stages[0][1][0], stages[1][1][0])
    assert not same_state(stages[0][2][0], stages[1][2][0])
    assert stages[0][2][2].losses.keys() == {"loss", "lm"}


@pytest.mark.parametrize("trains", ["all", "added"])
def test_cell_trains_what_was_learned_and_no_pair_of_a_stage_to_come(small, trained, trains):
    method = get_method("olora", rank=4, cell_trains=trains)
    base = {name for name, _ in small.base.named_parameters()}
    for number, (backbone, _, _) in enumerate(trained):
        adapted = method.adapt(copy.deepcopy(backbone), small.stream, "", number)
        names = {name for name, _ in adapted.trainable()}
        added = {name for name in names if name.startswith("added.")}
        assert names - added == (base if trains == "all" else set())
        assert added == {name for past in range(number) for name in pairs(backbone, past)}


def test_saved_stage_holds_the_pairs_alone(small, trained, tmp_path):
    backbone = trained[2][0]
    save_changed(tmp_path, "weights", backbone.state(), small.base.state())
    write_manifest(tmp_path, {})
    weights = load_changed(tmp_path, "weights", small.base.state())
    again = build(get_method("olora", rank=4), small.base, small.stream)
    again.load_state(weights)
    assert same_state(again, backbone)
    held = sum(value.numel() for name, value in weights.items() if name.startswith("added."))
    assert (tmp_path / "weights.safetensors").stat().st_size < 4 * held + 20_000


def test_added_parameters_grow_with_the_domains(small):
    counts = [
        sum(p.numel() for p in build(get_method("olora", rank=4), small.base, stream).added.parameters())
        for stream in (small.stream, dataclasses.replace(small.stream, domains=small.stream.domains[:1]))
    ]
    per_domain = sum(4 * sum(linear.shape) for linear in linear_maps(small.base))
    assert counts == [2 * per_domain, per_domain]
