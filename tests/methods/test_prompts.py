from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from method_helpers import RECIPE, build, finished_stage, make_loop, make_stream, same_state, train, train_stream

from ctbench.backbone import Prompt
from ctbench.backbone.loading import load_backbone
from ctbench.errors import BadConfig
from ctbench.plugins.find import get_method
from ctbench.training.checkpoint import StageCheckpoint
from ctbench.training.hooks import LoopHooks


@pytest.fixture(scope="module")
def trained(small):
    return train_stream(get_method("prompts"), small.base, small.stream, small.blocks)


def vectors(backbone):
    return list(backbone.added["prompts"].vectors)


def test_plan_goes_on_from_stage_to_stage_and_serves_each_task_from_its_own(tmp_path):
    plan = get_method("prompts").plan(make_stream(tmp_path, num_domains=3))
    assert plan.parents == (0, 1, 2)
    assert plan.cells == ((0, 0, 0), (1, 0, 0), (1, 2, 0), (1, 2, 3))


def test_no_weight_of_the_lm_changes(small, trained):
    base = small.base.state()
    for backbone, memory, _ in trained:
        state = backbone.state()
        assert all(torch.equal(state[name], base[name]) for name in base)
        assert {name.split(".")[0] for name in state.keys() - base.keys()} == {"added"}
        assert memory == {}


def test_only_the_prompt_of_the_stages_domain_changes(trained):
    start, first, second = (vectors(backbone) for backbone, _, _ in trained)
    assert not torch.equal(first[0], start[0])
    assert torch.equal(first[1], start[1])
    assert torch.equal(second[0], first[0])
    assert not torch.equal(second[1], first[1])


def test_weight_decay_leaves_other_prompts_alone(small):
    method = get_method("prompts")
    backbone = build(method, small.base, small.stream)
    after = train(method, backbone, small.first, recipe=dataclasses.replace(RECIPE, weight_decay=0.5))[0]
    assert torch.equal(vectors(after)[1], vectors(backbone)[1])


def test_prompts_learn(small):
    """A random LM hardly listens to what stands in front, but what there is to gain is gained."""
    method = get_method("prompts", gain=1000)
    before = build(method, small.base, small.stream)
    after = train(method, before, small.first, num_steps=30)[0]
    batch, losses = finished_stage(small.base, small.first).sample(64), []
    for backbone in (before, after):
        own = backbone.added["prompts"].prompt_of(small.stream.names[0])
        with torch.no_grad():
            losses.append(backbone.eval()(batch, prompt=own).loss.item())
    assert losses[1] < losses[0] - 1e-3


@pytest.mark.parametrize("deep", [True, False])
def test_gain_moves_the_vectors_farther_from_the_same_start(small, deep):
    moves, starts = [], []
    for gain in (1.0, 10.0):
        method = get_method("prompts", gain=gain, deep=deep, prompt_length=8)
        before = build(method, small.base, small.stream)
        after = train(method, before, small.first, num_steps=1)[0]
        own = [backbone.added["prompts"].prompt_of(small.stream.names[0]) for backbone in (before, after)]
        starts.append(own[0].vectors.detach())
        moves.append((own[1].vectors - own[0].vectors).abs().mean().item())
    shape = (2, 8, 128) if deep else (8, 128)
    assert starts[0].shape == shape
    torch.testing.assert_close(starts[0], starts[1])
    assert moves[1] == pytest.approx(10 * moves[0], rel=0.05)


def test_cell_runs_with_the_prompt_of_its_task(small, trained):
    method, batch = (
        get_method("prompts"),
        make_loop(get_method("naive"), small.base, small.first).stage.start_step(0),
    )
    for index, name in enumerate(small.stream.names):
        backbone = method.adapt(copy.deepcopy(trained[2][0]), small.stream, name, index + 1).eval()
        own = Prompt(method.gain * vectors(trained[2][0])[index], deep=True)
        with torch.no_grad():
            assert torch.equal(backbone(batch).logits, trained[2][0].eval()(batch, prompt=own).logits)
            assert not torch.equal(backbone(batch).logits, backbone(batch, prompt=None).logits)
            assert torch.equal(backbone(batch, prompt=None).logits, small.base.eval()(batch).logits)


def test_later_stage_gives_the_same_cell(small, trained):
    method, name = get_method("prompts"), small.stream.names[0]
    batch = make_loop(get_method("naive"), small.base, small.first).stage.start_step(0)
    logits = []
    for number in (1, 2):
        backbone = method.adapt(copy.deepcopy(trained[number][0]), small.stream, name, number).eval()
        with torch.no_grad():
            logits.append(backbone(batch).logits)
    assert torch.equal(*logits)


@pytest.mark.parametrize("trains", ["all", "added"])
def test_cell_trains_what_it_says(small, trained, trains):
    method = get_method("prompts", cell_trains=trains)
    backbone = method.adapt(copy.deepcopy(trained[2][0]), small.stream, small.stream.names[1], 2)
    names = {name for name, _ in backbone.trainable()}
    prompts = {name for name in names if name.startswith("added.")}
    assert prompts == {"added.prompts.vectors.1"}
    base = {name for name, _ in small.base.named_parameters()}
    assert names - prompts == (base if trains == "all" else set())


def test_lm_without_a_selected_prompt_is_refused(small, trained):
    batch = make_loop(get_method("naive"), small.base, small.first).stage.start_step(0)
    with pytest.raises(BadConfig, match="domain-1, domain-2"):
        trained[1][0](batch)


def test_resumed_stage_equals_uninterrupted(small):
    method = get_method("prompts")
    backbone = build(method, small.base, small.stream)
    saved: list[StageCheckpoint] = []

    def trainer():
        return make_loop(method, backbone, small.second, num_steps=20)

    whole = trainer()
    whole.run(LoopHooks(save=lambda progress: saved.append(copy.deepcopy(progress)), save_seconds=0))
    resumed = trainer()
    resumed.run(checkpoint=saved[0])
    assert saved[0].step == 10
    assert same_state(resumed.stage.backbone, whole.stage.backbone)


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("family", ["roberta", "llama"])
def test_prompts_train_on_other_families(small, checkpoint, family, deep):
    method, base = get_method("prompts", deep=deep, prompt_length=2), load_backbone(str(checkpoint(family)))
    backbone = build(method, base, small.stream)
    words = torch.arange(5, 45).view(-1, 10)
    stage = make_loop(method, backbone, small.first).stage
    terms = method.loss(stage, stage.mask(words, "masks"))
    terms["lm"].backward()
    grads = [parameter.grad for parameter in vectors(stage.backbone)]
    assert grads[0].flatten(0, -2).any(dim=1).all()
    assert grads[1] is None
