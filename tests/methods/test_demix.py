from __future__ import annotations

import copy

import pytest
import torch
from checkpoints import FAMILY_NAMES
from method_helpers import build, make_stream, naive, same_state, train, train_stream
from small_streams import write_stream

from ctbench.backbone.loading import load_backbone
from ctbench.engine.job import Job
from ctbench.engine.run import run
from ctbench.engine.tensors import load_changed, save_changed
from ctbench.machine.manifest import write_manifest
from ctbench.plugins.find import get_method


def of_experts(backbone):
    """Return the names of the weights of the feed-forward networks."""
    inside = {id(p) for role in ("ffn_in", "ffn_out") for _, part in backbone.parts(role) for p in part.parameters()}
    return {name for name, weight in backbone.named_parameters() if id(weight) in inside}


def test_plan_starts_every_expert_from_the_base_and_serves_each_task_from_its_own(tmp_path):
    plan = get_method("demix").plan(make_stream(tmp_path, num_domains=3))
    assert plan.parents == (0, 0, 0)
    assert plan.cells == ((0, 0, 0), (1, 0, 0), (1, 2, 0), (1, 2, 3))
    assert plan.kept == {1, 2, 3}


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_experts_are_the_feed_forward_networks_of_every_family(family, checkpoint):
    base = load_backbone(str(checkpoint(family)))
    built = build(get_method("demix"), base, None)
    assert same_state(built, base)
    names = {name for name, _ in built.trainable()}
    assert names == of_experts(base)
    assert len(names) >= 2 * base.num_layers
    assert not any("att" in name.replace("attention.output.dense", "att") for name in names)


def test_stage_is_naive_with_all_but_the_expert_frozen_bit_for_bit(small):
    method = get_method("demix")
    frozen = copy.deepcopy(small.base).requires_grad_(False)
    for name, weight in frozen.named_parameters():
        weight.requires_grad_(name in of_experts(small.base))
    stages = train_stream(method, small.base, small.stream, small.blocks)
    for (backbone, memory, record), blocks in zip(stages[1:], (small.first, small.second), strict=True):
        assert same_state(backbone, train(naive(), frozen, blocks)[0])
        assert not same_state(backbone, train(naive(), small.base, blocks)[0])
        assert memory == {}
        assert record.trained_parameters == sum(w.numel() for _, w in frozen.trainable())


def test_stage_leaves_everything_else_and_is_saved_as_its_expert_alone(small, tmp_path):
    method = get_method("demix")
    trained = train(method, build(method, small.base, small.stream), small.first)[0]
    before, after = small.base.state(), trained.state()
    assert {name for name in before if not torch.equal(before[name], after[name])} == of_experts(small.base)
    save_changed(tmp_path, "weights", after, before)
    write_manifest(tmp_path, {})
    again = build(method, small.base, small.stream)
    again.load_state(load_changed(tmp_path, "weights", before))
    assert same_state(again, trained)
    size = 4 * sum(before[name].numel() for name in of_experts(small.base))
    assert (tmp_path / "weights.safetensors").stat().st_size < size + 5_000


@pytest.mark.parametrize("trains", ["all", "expert"])
def test_cell_trains_what_it_says(small, trains):
    built = build(get_method("demix"), small.base, small.stream)
    adapted = get_method("demix", cell_trains=trains).adapt(built, small.stream, "", 1)
    everything = {name for name, _ in small.base.named_parameters()}
    assert {name for name, _ in adapted.trainable()} == (everything if trains == "all" else of_experts(small.base))


@pytest.mark.slow
def test_result_counts_one_expert_for_every_further_domain(tmp_path, monkeypatch, small):
    monkeypatch.setenv("CTBENCH_HOME", str(tmp_path / "home"))
    stream = write_stream(tmp_path, seeds="[0]", epochs="1", num_test="16")
    job = Job(method="demix", stream=stream, results=tmp_path / "results", workers=0, set={"finetune.seeds": "[0]"})
    (result,) = run(job)
    expert = sum(weight.numel() for name, weight in small.base.named_parameters() if name in of_experts(small.base))
    assert result.cost.added_parameters == expert
    assert result.cost.stored_bytes == 0
    assert result.method.traits.needs_domain
    assert result.method.traits.grows
