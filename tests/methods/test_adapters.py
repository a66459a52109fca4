from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from checkpoints import FAMILY_NAMES, make_batch
from method_helpers import build, make_blocks, same_state, train, train_stream

from ctbench.backbone import Backbone
from ctbench.backbone.loading import load_backbone
from ctbench.data.tasks import encode_task
from ctbench.engine.tensors import load_changed, save_changed
from ctbench.errors import BadConfig
from ctbench.machine.manifest import write_manifest
from ctbench.plugins.find import get_method
from ctbench.training.finetune import finetune, held_out_loss


@pytest.fixture
def world(small):
    return small.stream, small.base, small.blocks


def moved(before: Backbone, after: Backbone) -> set[str]:
    old, new = before.state(), after.state()
    return {name for name in old if not torch.equal(old[name], new[name])}


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_fresh_adapters_are_the_identity(family, checkpoint):
    base = load_backbone(str(checkpoint(family)))
    built = build(get_method("adapters"), base, None)
    batch = make_batch()
    assert len(built.added["adapters"]) == 2 * base.num_layers
    assert torch.equal(built(batch).logits, base(batch).logits)
    assert torch.equal(built.features(batch), base.features(batch))


def test_training_leaves_every_weight_of_the_backbone(world):
    stream, base, blocks = world
    stages = train_stream(get_method("adapters"), base, stream, blocks)
    before, after = base.state(), stages[-1][0].state()
    assert all(torch.equal(before[name], after[name]) for name in before)
    fresh, first, second = (backbone for backbone, _, _ in stages)
    assert moved(fresh, first) == moved(first, second) == {n for n in after if n.startswith("added.adapters.")}


@pytest.mark.parametrize("family", ["roberta", "gpt2"])
def test_adapters_train_on_encoder_and_decoder(family, world, checkpoint, tmp_path):
    stream, base = world[0], load_backbone(str(checkpoint(family)))
    blocks = make_blocks(stream, base, tmp_path)
    built = build(get_method("adapters"), base, stream)
    after = train(get_method("adapters"), built, blocks)[0]
    assert moved(built, after)
    assert not moved(base, after)


def test_only_adapters_require_grad_and_adapt_decides_in_cells(world):
    stream, base, _ = world
    built = build(get_method("adapters"), base, stream)
    added = {name for name, _ in built.named_parameters() if name.startswith("added.")}
    assert {name for name, _ in built.trainable()} == added
    only = get_method("adapters", cell_trains="added").adapt(copy.deepcopy(built), stream, "", 1)
    assert {name for name, _ in only.trainable()} == added
    whole = get_method("adapters").adapt(copy.deepcopy(built), stream, "", 1)
    assert all(parameter.requires_grad for parameter in whole.parameters())


def test_saved_stage_holds_the_adapters_alone(world, tmp_path):
    stream, base, blocks = world
    method = get_method("adapters", reduction=16)
    trained = train(method, build(method, base, stream), blocks)[0]
    save_changed(tmp_path, "weights", trained.state(), base.state())
    write_manifest(tmp_path, {})
    weights = load_changed(tmp_path, "weights", base.state())
    again = build(method, base, stream)
    again.load_state(weights)
    assert same_state(again, trained)
    assert (tmp_path / "weights.safetensors").stat().st_size < 40_000  # base: 128 x 128 and more in every layer


def test_copy_of_a_backbone_uses_its_own_adapters(world):
    stream, base, _ = world
    built = build(get_method("adapters"), base, stream)
    clone, batch = copy.deepcopy(built), make_batch()
    torch.nn.init.ones_(clone.added["adapters"][0].up.bias)
    assert torch.equal(built(batch).logits, base(batch).logits)
    assert not torch.equal(clone(batch).logits, base(batch).logits)


@pytest.mark.parametrize("name", ["adapters", "lora"])
def test_one_set_per_domain_starts_each_from_the_base(name, world):
    plan = get_method(name, per_domain=True).plan(world[0])
    assert plan.parents == (0, 0)
    assert plan.cells == ((0, 0), (1, 0), (1, 2))


def test_adapters_add_what_they_say(world):
    stream, base, _ = world
    built = build(get_method("adapters", reduction=8), base, stream)
    assert sum(p.numel() for p in built.added.parameters()) == 4 * (2 * 128 * 16 + 128 + 16)
    with pytest.raises(BadConfig, match="reduction"):
        get_method("adapters", reduction=0)


@pytest.mark.parametrize("name", ["adapters", "lora"])
def test_fresh_model_scores_as_the_base(name, world):
    """The held-out LM loss and a cell that trains its head alone: equal to the last bit."""
    stream, base, blocks = world
    domain = stream.names[0]
    task = encode_task(stream, stream.domain(domain), base.tokenizer, max_length=32)
    recipe = dataclasses.replace(stream.recipe.finetune, epochs=1)
    scores = []
    for backbone in (copy.deepcopy(base), build(get_method(name), base, stream)):
        loss = held_out_loss(backbone, blocks[domain], domain=domain, recipe=stream.recipe.pretrain).loss
        backbone.requires_grad_(False)
        cell = finetune(backbone, task, name=domain, recipe=recipe, seed=0)
        scores.append((loss, cell.metrics, cell.validation))
    assert scores[0] == scores[1]
