"""Heads and neurons: gates, importance, and the weights that a unit owns, in every layout."""

from __future__ import annotations

import copy

import pytest
import torch
from checkpoints import FAMILY_NAMES, make_batch
from torch import nn

from ctbench.backbone import Backbone
from ctbench.backbone.loading import load_backbone
from ctbench.errors import BadConfig
from ctbench.units import (
    Units,
    full_units,
    gates,
    gradient_scales,
    normalise,
    restore_weights,
    scale_gradients,
    take_importance,
    unit_shape,
)

HEAD, NEURON = 2, 17


@pytest.fixture
def backbone(request, checkpoint) -> Backbone:
    return load_backbone(str(checkpoint(request.param)))


every_family = pytest.mark.parametrize("backbone", FAMILY_NAMES, indirect=True)


def one_unit(backbone: Backbone, *, layer: int, value: float, rest: float) -> Units:
    """Return units that are all `rest`, one head and one neuron of `layer` excepted."""
    units = full_units(backbone, rest)
    units.heads[layer, HEAD] = value
    units.neurons[layer, NEURON] = value
    return units


def columns(backbone: Backbone, module: nn.Module) -> torch.Tensor:
    """Return a view of an output projection's weight as [inputs, outputs]."""
    return module.weight if backbone.family.is_transposed else module.weight.T


def cut_off(backbone: Backbone, layer: int) -> None:
    """Zero what the output projections make of one head and one neuron."""
    attention, ffn = (backbone.parts(role)[layer][1] for role in ("attention_out", "ffn_out"))
    with torch.no_grad():
        columns(backbone, attention).view(4, -1, 32)[HEAD] = 0.0
        columns(backbone, ffn)[NEURON] = 0.0


@every_family
def test_gate_of_zero_equals_a_unit_cut_off_and_gates_of_one_nothing(backbone):
    batch = make_batch(is_padded=True)
    plain = backbone(batch).logits
    with gates(backbone) as ones:
        assert torch.equal(backbone(batch).logits, plain)
    assert unit_shape(backbone) == (2, 4, 48)
    assert (ones.heads.shape, ones.neurons.shape) == ((2, 4), (2, 48))
    with gates(backbone, one_unit(backbone, layer=1, value=0.0, rest=1.0)):
        gated = backbone(batch).logits
    assert not torch.equal(gated, plain)
    assert torch.equal(backbone(batch).logits, plain)  # the gates are gone
    cut_off(backbone, 1)
    torch.testing.assert_close(backbone(batch).logits, gated, rtol=1e-4, atol=1e-5)


@every_family
def test_importance_reaches_every_unit_and_is_zero_where_cut_off(backbone):
    cut_off(backbone, 0)
    total = None
    with gates(backbone) as values:
        for seed in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=seed == 1):
                loss = backbone(make_batch(seed=seed)).loss
            loss.backward()
            total = take_importance(total, values)
            assert values.heads.grad is None
    assert (total.heads[0, HEAD], total.neurons[0, NEURON]) == (0.0, 0.0)
    assert (total.heads > 0).sum() == 2 * 4 - 1
    assert (total.neurons > 0).float().mean() > 0.9  # an activation may be zero everywhere
    squashed = normalise(total)
    assert (squashed.heads[0, HEAD], squashed.neurons[0, NEURON]) == (0.0, 0.0)
    assert 0 <= squashed.neurons.min() <= squashed.neurons.max() <= 1


@every_family
def test_gradient_of_a_gate_is_the_slope_of_the_loss(backbone):
    batch, step = make_batch(), 1e-2
    with gates(backbone) as values:
        backbone(batch).loss.backward()
    for table, index in (("heads", (1, HEAD)), ("neurons", (1, NEURON))):
        losses = []
        for sign in (1, -1):
            moved = full_units(backbone, 1.0)
            getattr(moved, table)[index] += sign * step
            with gates(backbone, moved), torch.no_grad():
                losses.append(backbone(batch).loss.item())
        slope = (losses[0] - losses[1]) / (2 * step)
        assert getattr(values, table).grad[index].item() == pytest.approx(slope, rel=0.05, abs=2e-4)


@every_family
@pytest.mark.parametrize("kind", ["attention", "ffn"])
def test_weights_of_a_unit_are_exactly_those_that_feed_it(backbone, kind):
    """The gradient of what a unit hands on is non-zero in its own rows and nowhere else."""
    caught = []
    _, out = backbone.parts(f"{kind}_out")[0]
    out.register_forward_pre_hook(lambda _module, args: caught.append(args[0]))
    backbone(make_batch(), lm=False)
    handed = caught[0].unflatten(-1, (4, -1))[..., HEAD, :] if kind == "attention" else caught[0][..., NEURON]
    handed.pow(2).sum().backward()
    scales = gradient_scales(backbone, one_unit(backbone, layer=0, value=1.0, rest=0.0))
    names = [name for name, _ in backbone.parts(f"{kind}_in")]
    names = [name for name in names if ".0." in name]
    assert names
    for name in names:
        module = backbone.get_submodule(name)
        owned = (scales[f"{name}.weight"] == 0).flatten()
        by_row = module.weight.grad if not backbone.family.is_transposed else module.weight.grad.T
        fed = by_row.abs().amax(1) > 0
        assert torch.equal(owned, fed)
        if module.bias is not None:
            assert torch.equal(scales[f"{name}.bias"] == 0, owned)


@every_family
def test_full_importance_leaves_a_units_weights_untouched_and_none_changes_nothing(backbone):
    free = copy.deepcopy(backbone)
    before = backbone.state()
    kept = gradient_scales(backbone, one_unit(backbone, layer=1, value=1.0, rest=0.0))
    nothing = gradient_scales(free, full_units(free, 0.0))
    for model, scales in ((backbone, kept), (free, nothing)):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
        for seed in range(3):
            optimizer.zero_grad()
            model(make_batch(seed=seed)).loss.backward()
            gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            scale_gradients(model, scales)
            if model is free:
                assert all(torch.equal(p.grad, gradients[n]) for n, p in model.named_parameters() if n in gradients)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            restore_weights(model, scales, before)
    after = backbone.state()
    for name, factor in kept.items():
        held = (factor == 0).expand_as(before[name])
        if ".1." in name:
            assert held.any()
            assert not held.all()
        assert torch.equal(after[name][held], before[name][held])
        assert (after[name][~held] != before[name][~held]).float().mean() > 0.9


def test_shared_heads_take_the_largest_importance_of_their_queries(checkpoint):
    backbone = load_backbone(str(checkpoint("llama")))
    units = full_units(backbone, 0.0)
    units.heads[0] = torch.tensor([0.25, 1.0, 0.5, 0.0])
    scales = gradient_scales(backbone, units)
    query, key, value = (f"{name}.weight" for name, _ in backbone.parts("attention_in")[:3])
    assert scales[query].flatten().view(4, -1).amax(1).tolist() == [0.75, 0.0, 0.5, 1.0]
    for shared in (key, value):
        assert scales[shared].flatten().view(2, -1).amax(1).tolist() == [0.0, 0.5]


def test_partial_importance_scales_gradients(checkpoint):
    backbone = load_backbone(str(checkpoint("bert")))
    backbone(make_batch()).loss.backward()
    name = backbone.parts("ffn_out")[0][0] + ".weight"
    before = dict(backbone.named_parameters())[name].grad.clone()
    scale_gradients(backbone, gradient_scales(backbone, full_units(backbone, 0.75)))
    torch.testing.assert_close(dict(backbone.named_parameters())[name].grad, 0.25 * before)


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_units_see_what_wraps_a_part(checkpoint, model_type):
    class Wrapper(nn.Module):
        def __init__(self, base_layer: nn.Module) -> None:
            super().__init__()
            self.base_layer = base_layer
            self.extra = nn.Linear(_inputs(base_layer), 32, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base_layer(x) + self.extra(x)

    torch.manual_seed(0)
    backbone, batch = load_backbone(str(checkpoint(model_type))), make_batch()
    for name, module in backbone.parts("ffn_out"):
        backbone.replace(name, Wrapper(module))
    assert unit_shape(backbone) == (2, 4, 48)
    with gates(backbone, one_unit(backbone, layer=0, value=0.0, rest=1.0)):
        gated = backbone(batch).logits
    cut_off_wrapped = backbone.parts("ffn_out")[0][1]
    with torch.no_grad():
        columns(backbone, cut_off_wrapped.base_layer)[NEURON] = 0.0
        cut_off_wrapped.extra.weight[:, NEURON] = 0.0
        columns(backbone, backbone.parts("attention_out")[0][1]).view(4, -1, 32)[HEAD] = 0.0
    torch.testing.assert_close(backbone(batch).logits, gated, rtol=1e-4, atol=1e-5)
    scales = gradient_scales(backbone, full_units(backbone, 0.5))
    assert set(scales) <= set(dict(backbone.named_parameters()))
    assert any("base_layer.weight" in name for name in scales)


def test_plain_tensors_go_out_and_in():
    units = Units(heads=torch.rand(2, 4), neurons=torch.rand(2, 5))
    again = Units.from_dict(units.to_dict())
    assert torch.equal(again.heads, units.heads)
    larger = units.maximum(units.map(lambda table: table + 1))
    assert torch.equal(larger.neurons, units.neurons + 1)


def test_equal_importances_normalise_to_zero_and_not_to_nan():
    units = normalise(Units(heads=torch.ones(2, 4), neurons=torch.zeros(2, 5)))
    assert not units.heads.any()
    assert not units.neurons.any()


def test_unknown_family_is_refused_in_one_line():
    from transformers import AlbertConfig, AlbertForMaskedLM

    config = AlbertConfig(vocab_size=96, embedding_size=16, hidden_size=32, num_attention_heads=4, intermediate_size=48)
    backbone = Backbone(AlbertForMaskedLM(config), tokenizer=None, objective="mlm", name="albert")
    for refused in (lambda: unit_shape(backbone), lambda: gates(backbone).__enter__()):
        with pytest.raises(BadConfig, match=r"units .*'albert'") as error:
            refused()
        assert "\n" not in str(error.value)


def _inputs(module: nn.Module) -> int:
    return 48 if 48 in module.weight.shape else 32
