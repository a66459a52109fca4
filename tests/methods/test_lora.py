from __future__ import annotations

import copy
import itertools

import pytest
import torch
from checkpoints import FAMILY_NAMES, make_batch
from method_helpers import build, make_blocks, same_state, train, train_stream

from ctbench.backbone.loading import load_backbone
from ctbench.engine.tensors import load_changed, save_changed
from ctbench.errors import BadConfig
from ctbench.machine.manifest import write_manifest
from ctbench.plugins.find import get_method


@pytest.fixture
def world(small):
    return small.stream, small.base, small.blocks


def is_added(name: str) -> bool:
    return ".lora_" in name


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_fresh_updates_are_the_identity_and_names_stay(family, checkpoint):
    base = load_backbone(str(checkpoint(family)))
    built = build(get_method("lora"), base, None)
    batch = make_batch()
    assert torch.equal(built(batch).logits, base(batch).logits)
    assert torch.equal(built.features(batch), base.features(batch))
    assert {name for name in built.state() if not is_added(name)} == set(base.state())
    inside = f"model.{base.model.base_model_prefix}."
    assert all(is_added(name) and name.startswith(inside) for name, _ in built.trainable())
    assert len(built.trainable()) >= 2 * 4 * base.num_layers


def test_training_leaves_every_weight_of_the_backbone(world):
    stream, base, blocks = world
    stages = train_stream(get_method("lora"), base, stream, blocks)
    states = [backbone.state() for backbone, _, _ in stages]
    before = base.state()
    for state in states:
        assert all(torch.equal(before[name], state[name]) for name in before)
    for earlier, later in itertools.pairwise(states):
        assert all(not torch.equal(earlier[name], later[name]) for name in later if is_added(name))


@pytest.mark.parametrize("family", ["roberta", "gpt2"])
def test_merged_updates_equal_unmerged_ones_to_rounding(family, world, checkpoint, tmp_path):
    stream, base = world[0], load_backbone(str(checkpoint(family)))
    method = get_method("lora")
    built = build(method, base, stream)
    trained = train(method, built, make_blocks(stream, base, tmp_path))[0].eval()
    batch = make_batch()
    unmerged = trained(batch).logits
    assert not torch.allclose(unmerged, base(batch).logits, atol=1e-4)
    merged = copy.deepcopy(trained)
    for module in merged.modules():
        if type(module).__module__.startswith("peft.") and type(module).__name__ == "Linear":
            module.merge()
    assert not all(
        torch.equal(value, base.state()[name]) for name, value in merged.state().items() if name in base.state()
    )
    torch.testing.assert_close(merged(batch).logits, unmerged, atol=2e-5, rtol=1e-5)


def test_adapt_decides_what_trains_in_cells(world):
    stream, base, _ = world
    built = build(get_method("lora"), base, stream)
    only = get_method("lora", cell_trains="added").adapt(copy.deepcopy(built), stream, "", 1)
    assert all(is_added(name) for name, _ in only.trainable())
    whole = get_method("lora").adapt(copy.deepcopy(built), stream, "", 1)
    assert all(parameter.requires_grad for parameter in whole.parameters())


def test_saved_stage_holds_the_updates_alone(world, tmp_path):
    stream, base, blocks = world
    method = get_method("lora", rank=2)
    trained = train(method, build(method, base, stream), blocks)[0]
    save_changed(tmp_path, "weights", trained.state(), base.state())
    write_manifest(tmp_path, {})
    weights = load_changed(tmp_path, "weights", base.state())
    assert all(is_added(name) for name in weights.keys() - base.state().keys())
    again = build(method, base, stream)
    again.load_state(weights)
    assert same_state(again, trained)
    clone = copy.deepcopy(trained)
    assert clone.state().keys() == trained.state().keys()
    assert (tmp_path / "weights.safetensors").stat().st_size < 50_000


def test_bad_rank_is_refused():
    with pytest.raises(BadConfig, match="rank"):
        get_method("lora", rank=0)
    with pytest.raises(BadConfig, match="alpha"):
        get_method("lora", alpha=float("nan"))
