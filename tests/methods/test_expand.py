from __future__ import annotations

import copy

import pytest
import torch
from checkpoints import ENCODERS, FAMILY_NAMES, make_batch
from method_helpers import build, make_blocks, module_of, same_state, train, train_stream

from ctbench.backbone import Backbone
from ctbench.backbone.loading import load_backbone
from ctbench.engine.tensors import load_changed, save_changed
from ctbench.machine.manifest import write_manifest
from ctbench.plugins.find import get_method

POST_NORM = {"bert", "roberta", "distilbert", "electra", "deberta-v2"}


def moved(before, after):
    old, new = before.state(), after.state()
    return {name for name in old if not torch.equal(old[name], new[name])}


def scramble(built):
    """Move the new blocks away from their start."""
    with torch.no_grad():
        for parameter in built.added.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_fresh_blocks_are_the_identity_and_change_the_lm_once_they_are_not(family, checkpoint):
    base = load_backbone(str(checkpoint(family)))
    built = build(get_method("expand", num_blocks=2), base, None)
    batch = make_batch()
    assert torch.equal(built(batch).logits, base(batch).logits)
    assert torch.equal(built.features(batch), base.features(batch))
    assert base.family.is_post_norm == (family in POST_NORM)
    scramble(built)
    assert not torch.allclose(built(batch).logits, base(batch).logits, atol=1e-3)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_all_of_a_block_gets_a_gradient_once_it_is_let_in(family, checkpoint):
    built = build(get_method("expand"), load_backbone(str(checkpoint(family))), None)
    at_start = gradients(built)
    assert at_start  # otherwise nothing would ever move
    scramble(built)
    silent = {name for name, _ in built.trainable()} - gradients(built)
    assert all("key" in name or "k_" in name for name in silent)  # a bias of keys shifts all scores alike


def gradients(backbone):
    backbone.zero_grad()
    backbone(make_batch()).loss.backward()
    return {name for name, weight in backbone.trainable() if weight.grad is not None and bool(weight.grad.any())}


def test_expanded_lm_equals_a_deeper_one_with_the_same_weights(checkpoint):
    """By hand: three LLaMA layers of which the second is the block."""
    from transformers import AutoModelForCausalLM

    base = load_backbone(str(checkpoint("llama")))
    built = build(get_method("expand", num_blocks=2), base, None)
    scramble(built)
    config = copy.deepcopy(base.model.config)
    config.num_hidden_layers = 4
    deeper = AutoModelForCausalLM.from_config(config)
    state = {name: value for name, value in base.model.state_dict().items() if ".layers." not in name}
    for number in range(2):
        mine = base.model.model.layers[number].state_dict(), built.added["blocks"][number].layer.state_dict()
        for place, values in zip((2 * number, 2 * number + 1), mine, strict=True):
            state |= {f"model.layers.{place}.{name}": value for name, value in values.items()}
    deeper.load_state_dict(state)
    wrapped = Backbone(deeper.eval(), tokenizer=base.tokenizer, objective="clm", name="deeper")
    batch = make_batch(is_padded=True)
    torch.testing.assert_close(built(batch).logits, wrapped(batch).logits, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(built(batch).logits, base(batch).logits, atol=1e-2)


def test_a_gate_lets_in_as_much_as_it_is_open(checkpoint):
    base = load_backbone(str(checkpoint("roberta")))
    built = build(get_method("expand", num_blocks=1), base, None)
    block, hidden = built.added["blocks"][0], torch.randn(2, 5, base.hidden_size)
    with torch.no_grad():
        whole = block.layer(hidden)
        for share in (0.0, 0.25, 1.0):
            block.gate.fill_(share)
            torch.testing.assert_close(block(hidden), (1 - share) * hidden + share * whole)


def test_new_blocks_stand_behind_each_group_of_layers():
    places = module_of("expand").places
    assert places(12, 4) == [2, 5, 8, 11]
    assert places(32, 8) == [3, 7, 11, 15, 19, 23, 27, 31]
    assert places(5, 2) == [1, 4]
    assert places(3, 3) == [0, 1, 2]


def test_an_lm_of_fewer_layers_gets_a_block_for_each(small):
    most, more = (build(get_method("expand", num_blocks=count), small.base, small.stream) for count in (2, 3))
    assert [name for name, _ in most.trainable()] == [name for name, _ in more.trainable()]
    assert module_of("expand").places(1, 2) == [0]


@pytest.mark.parametrize("family", ["roberta", "llama"])
def test_training_leaves_every_weight_of_the_backbone(family, small, checkpoint, tmp_path):
    base = load_backbone(str(checkpoint(family)))
    stages = train_stream(get_method("expand"), base, small.stream, make_blocks(small.stream, base, tmp_path))
    fresh, first, second = (backbone for backbone, _, _ in stages)
    assert not moved(base, second)
    for before, after in ((fresh, first), (first, second)):
        assert moved(before, after)
        assert all(name.startswith("added.blocks.") for name in moved(before, after))


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_control_trains_as_many_existing_layers_and_adds_nothing(num_blocks, small):
    method = get_method("expand", blocks="existing", num_blocks=num_blocks)
    built = build(method, small.base, small.stream)
    assert same_state(built, small.base)
    layers = small.base.layers[2 - num_blocks :]
    assert {name for name, _ in built.trainable()} == {
        name
        for name, weight in small.base.named_parameters()
        if any(weight is mine for layer in layers for mine in layer.parameters())
    }
    new = build(get_method("expand", num_blocks=num_blocks), small.base, small.stream)
    counts = [sum(weight.numel() for _, weight in each.trainable()) for each in (built, new)]
    assert counts[0] == counts[1]
    after, _, record = train(method, built, small.first)
    assert moved(built, after) == {name for name, _ in built.trainable()}
    assert record.trained_parameters == counts[0]


@pytest.mark.parametrize("blocks", ["new", "existing"])
def test_adapt_decides_what_trains_in_cells(blocks, small):
    built = build(get_method("expand", blocks=blocks), small.base, small.stream)
    own = {name for name, _ in built.trainable()}
    only = get_method("expand", blocks=blocks, cell_trains="blocks").adapt(copy.deepcopy(built), small.stream, "", 1)
    assert {name for name, _ in only.trainable()} == own
    whole = get_method("expand", blocks=blocks).adapt(copy.deepcopy(built), small.stream, "", 1)
    assert all(parameter.requires_grad for parameter in whole.parameters())


def test_saved_stage_holds_the_blocks_alone(small, tmp_path):
    method = get_method("expand", num_blocks=1)
    trained = train(method, build(method, small.base, small.stream), small.first)[0]
    save_changed(tmp_path, "weights", trained.state(), small.base.state())
    write_manifest(tmp_path, {})
    weights = load_changed(tmp_path, "weights", small.base.state())
    again = build(method, small.base, small.stream)
    again.load_state(weights)
    assert same_state(again, trained)
    own = sum(weight.numel() for weight in small.base.layers[1].parameters())
    assert (tmp_path / "weights.safetensors").stat().st_size < 4 * own + 10_000


def test_dropout_of_a_block_is_reseeded_with_that_of_the_lm(checkpoint):
    """Otherwise a resumed stage would draw other masks."""
    for family in ENCODERS[:4]:
        built = build(get_method("expand"), load_backbone(str(checkpoint(family, 0.3))), None).train()
        scramble(built)
        batch, logits = make_batch(), []
        for seed in (1, 1, 2):
            built.dropout_source.reseed(seed)
            logits.append(built(batch).logits)
        assert torch.equal(logits[0], logits[1])
        assert not torch.equal(logits[0], logits[2])


def test_copy_of_a_backbone_uses_its_own_blocks(small):
    built = build(get_method("expand"), small.base, small.stream)
    clone, batch = copy.deepcopy(built), make_batch()
    scramble(clone)
    assert torch.equal(built(batch).logits, small.base(batch).logits)
    assert not torch.equal(clone(batch).logits, small.base(batch).logits)
