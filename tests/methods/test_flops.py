"""The FLOPs of a whole stage, four of whose updates are counted, against torch's own counter over all of it."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext

import pytest
import torch
from checkpoints import FAMILY_NAMES
from method_helpers import CORE, QUICK, RECIPE, build, make_blocks, make_loop, train
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from ctbench.backbone.loading import load_backbone
from ctbench.data.tasks import encode_task
from ctbench.plugins.find import find_plugins, get_method
from ctbench.training import pretrain
from ctbench.training.finetune import finetune, held_out_loss

NAMES = list(find_plugins("method"))
STEPS = 9


def forward(query, key, value, *_, **__):
    return sdpa_flop_count(query, key, value)


def backward(grad, query, key, value, *_, **__):
    return sdpa_backward_flop_count(grad, query, key, value)


def torch_count(function):
    """Count what a function runs, by torch; its table lacks the fused attention of CPUs."""
    aten = torch.ops.aten
    missing = {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    with FlopCounterMode(display=False, custom_mapping=missing) as counter:
        result = function()
    return result, counter.get_total_flops()


@pytest.fixture(scope="module")
def place(checkpoint, small, tmp_path_factory):
    """Return a function from a family to a random checkpoint of it and the packed text of two domains."""
    found = {}

    def get(family):
        if family not in found:
            base = load_backbone(str(checkpoint(family, 0.1)))
            found[family] = base, make_blocks(small.stream, base, tmp_path_factory.mktemp(family))
        return found[family]

    return get


@pytest.mark.parametrize(
    ("name", "family"),
    [
        *(pytest.param(name, "roberta", marks=[] if name in CORE else pytest.mark.slow) for name in NAMES),
        *(pytest.param(name, "llama", marks=pytest.mark.slow) for name in NAMES),
        *(
            pytest.param("naive", each, marks=[] if each in ("bert", "gpt2") else pytest.mark.slow)
            for each in FAMILY_NAMES
            if each != "roberta"
        ),
    ],
)
def test_flops_of_a_stage_are_those_that_torch_counts(name, family, place, small, monkeypatch):
    monkeypatch.setattr(pretrain, "looks", lambda _: frozenset())  # what is measured outside the budget
    base, blocks = place(family)
    method = get_method(name, **QUICK.get(name, {}))
    first, second = small.stream.names[:2]
    before, memory, _ = train(method, build(method, base, small.stream), {first: blocks[first]})
    loop = make_loop(method, before, {second: blocks[second]}, memory, num_steps=STEPS)
    record, wanted = torch_count(loop.run)
    assert record.flops == pytest.approx(wanted, rel=0.02)
    assert wanted > 0


@pytest.mark.parametrize("family", ["roberta", "llama"])
def test_flops_of_a_cell_and_of_a_held_out_loss_are_those_that_torch_counts(family, place, small):
    base, blocks = place(family)
    name = small.stream.names[0]
    task = encode_task(small.stream, small.stream.domain(name), base.tokenizer, max_length=32)
    recipe = dataclasses.replace(small.stream.recipe.finetune, epochs=1)
    backbone = build(get_method("naive"), base, small.stream)
    cell, wanted = torch_count(lambda: finetune(backbone, task, name=name, recipe=recipe, seed=0))
    assert cell.flops == pytest.approx(wanted, rel=0.02)
    loss, wanted = torch_count(lambda: held_out_loss(backbone, blocks[name], domain=name, recipe=RECIPE))
    assert loss.flops == pytest.approx(wanted, rel=0.02)


def test_compiled_layers_are_not_counted(place, small, monkeypatch):
    monkeypatch.setattr(pretrain, "compile_layers", lambda *_: True)
    monkeypatch.setattr(pretrain, "compiled_step", nullcontext)
    base, blocks = place("roberta")
    name = small.stream.names[0]
    recipe = dataclasses.replace(RECIPE, compiled=True)
    loop = make_loop(get_method("naive"), base, {name: blocks[name]}, num_steps=2, recipe=recipe)
    assert loop.run().flops is None
