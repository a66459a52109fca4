from __future__ import annotations

import dataclasses
import itertools
import sys
from contextlib import nullcontext

import pytest
import torch
from method_helpers import (
    RECIPE,
    make_blocks,
    make_loop,
    module_of,
    naive,
    same_state,
    train,
    train_stream,
)

from ctbench.backbone.loading import load_backbone
from ctbench.plugins.find import get_method
from ctbench.units import full_units, gradient_scales


@pytest.fixture
def world(small):
    return small.stream, small.base, small.blocks


HARSH = dataclasses.replace(RECIPE, weight_decay=0.5, clip=0.1)


@pytest.mark.parametrize("damps", ["gradient", "update"])
def test_without_contrast_and_importance_it_is_naive(damps, world):
    _, base, blocks = world
    method = get_method("das", contrast_weight=0.0, importance_blocks=4, damps=damps)
    ours, _, _ = train(method, base, blocks, full_units(base, 0.0).to_dict(), recipe=HARSH)
    theirs, _, _ = train(naive(), base, blocks, recipe=HARSH)
    assert same_state(ours, theirs)


@pytest.mark.parametrize("damps", ["gradient", "update"])
@pytest.mark.parametrize("family", ["tiny", "roberta", "gpt2", "llama"])
def test_unit_of_importance_1_stays_untouched(family, damps, world, checkpoint, tmp_path):
    stream, base, blocks = world
    if family != "tiny":
        base = load_backbone(str(checkpoint(family)))
        blocks = make_blocks(stream, base, tmp_path)
    units = full_units(base, 0.0)
    units.heads[0, :2] = units.neurons[1, 5] = 1.0
    method = get_method("das", importance_blocks=4, damps=damps)
    after, _, record = train(method, base, blocks, units.to_dict(), recipe=HARSH)
    scales, before, now = gradient_scales(base, units), base.state(), after.state()
    num_kept = 0
    for name, factor in scales.items():
        kept = (factor == 0).expand_as(before[name])
        num_kept += int(kept.sum())
        assert torch.equal(before[name][kept], now[name][kept])
        assert not torch.equal(before[name], now[name])
    assert num_kept > 0
    assert record.losses.keys() == {"loss", "lm", "contrast"}


def test_gradients_shrink_by_importance(world):
    _, base, blocks = world
    method = get_method("das", contrast_weight=0.0)
    gradients = []
    for value in (0.0, 0.75):
        stage = make_loop(method, base, blocks, full_units(base, value).to_dict()).stage
        sum(method.loss(stage, stage.start_step(0)).values()).backward()
        method.after_backward(stage)
        gradients.append({name: parameter.grad for name, parameter in stage.backbone.named_parameters()})
    owned = gradient_scales(base, full_units(base, 0.0))
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient * (0.25 if name in owned else 1.0))


def test_damped_update_is_shortened_and_a_damped_gradient_hardly(world):
    _, base, blocks = world
    before, length = base.state(), {}
    for damps, value in (("gradient", 0.0), ("gradient", 0.9), ("update", 0.9)):
        method = get_method("das", contrast_weight=0.0, importance_blocks=4, damps=damps)
        after, _, _ = train(method, base, blocks, full_units(base, value).to_dict(), num_steps=1)
        name = next(iter(gradient_scales(base, full_units(base, value))))
        length[damps, value] = float((after.state()[name] - before[name]).norm())
    naive_length = length["gradient", 0.0]
    assert length["update", 0.9] == pytest.approx(0.1 * naive_length, rel=1e-3)
    assert length["gradient", 0.9] > 0.7 * naive_length  # AdamW divides a gradient by its own size


def test_importance_begins_with_general_knowledge_and_never_falls(world):
    stream, base, blocks = world
    method = get_method("das", importance_blocks=12)
    stages = train_stream(method, base, stream, blocks)
    trainer = make_loop(method, base, {stream.names[0]: blocks[stream.names[0]]})
    trainer.stage.prepare()
    method.begin(trainer.stage)
    tables = [trainer.stage.memory, stages[1][1], stages[2][1]]
    for memory in tables:
        assert memory.keys() == {"heads", "neurons"}
        assert all(bool(((table >= 0) & (table <= 1)).all()) and table.mean() > 0.1 for table in memory.values())
    for earlier, later in itertools.pairwise(tables):
        assert all(bool((earlier[name] <= later[name]).all()) for name in earlier)
        assert not torch.equal(earlier["neurons"], later["neurons"])
    assert all(parameter.grad is None for parameter in trainer.stage.backbone.parameters())


def test_passes_are_counted(world):
    stream, base, blocks = world
    one = {stream.names[0]: blocks[stream.names[0]]}
    batch = RECIPE.batch * RECIPE.length
    _, memory, record = train(get_method("das", importance_blocks=RECIPE.batch), base, one)
    assert record.forward_tokens == (2 + 3 * 6 + 1) * batch
    _, _, record = train(get_method("das", importance_blocks=RECIPE.batch, contrast_weight=0.0), base, one, memory)
    assert record.forward_tokens == (6 + 1) * batch


def test_contrast_is_the_formula():
    module = sys.modules[type(get_method("das")).__module__]
    torch.manual_seed(0)
    h, same, far = (torch.randn(3, 5, 8) for _ in range(3))
    cosine = torch.nn.functional.cosine_similarity
    wanted = 0.0
    for n in range(3):
        e = [torch.exp(cosine(h[n].mean(0), other[j].mean(0), dim=0) / 0.5) for other in (same, far) for j in range(3)]
        wanted -= torch.log(e[n] / sum(e)) / 3
    torch.testing.assert_close(module.contrast(h, same, far, 0.5), wanted)


def test_contrast_moves_the_lm_away_from_the_important_units_network(world):
    _, base, blocks = world
    memory = full_units(base, 0.5).to_dict()
    losses = []
    for weight in (1e-6, 1.0):
        method = get_method("das", contrast_weight=weight, importance_blocks=4)
        _, _, record = train(method, base, blocks, memory, num_steps=20)
        losses.append(record.losses["contrast"][-1] / weight)
    assert losses[1] < losses[0]


def test_sharing_the_first_projections_leaves_losses_and_gradients(world, monkeypatch):
    _, base, blocks = world
    found = []
    for shares in (True, False):
        if not shares:
            monkeypatch.setattr(module_of("das"), "sharing_first_reads", nullcontext)
        loop = make_loop(get_method("das"), base, blocks, full_units(base, 0.5).to_dict())
        terms = loop.method.loss(loop.stage, loop.stage.start_step(0))
        sum(terms.values()).backward()
        gradients = {name: weights.grad for name, weights in loop.trained.items() if weights.grad is not None}
        found.append((terms, gradients))
    (terms, gradients), (old_terms, old_gradients) = found
    assert terms.keys() == old_terms.keys()
    assert all(abs(terms[name].item() - old_terms[name].item()) < 1e-6 for name in terms)
    assert gradients.keys() == old_gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, old_gradients[name], rtol=1e-4, atol=1e-7), name
