"""Effects: figures of what conditions an LM, and notes on what does nothing."""

from __future__ import annotations

import copy
from typing import ClassVar

import pytest
import torch
from method_helpers import build, make_base, make_blocks, make_loop, make_stream, naive, same_state, train
from torch import nn

from ctbench import Method, Traits, hyper
from ctbench.plugins.find import get_method
from ctbench.results.inert import inert_components
from ctbench.training.effects import added_names, gradient_notes, lm_effects, looks, mean_effects


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("effects")
    stream = make_stream(folder)
    base = make_base(stream)
    return stream, base, make_blocks(stream, base, folder)


class Idle(Method):
    """A loss term of 0 and an added module that nobody uses."""

    traits: ClassVar[Traits] = Traits()
    weight: float = hyper(0.0, low=0.0)

    def build(self, backbone, stream):
        backbone.added["idle"] = nn.Linear(2, 2)
        return backbone

    def loss(self, stage, batch):
        lm = super().loss(stage, batch)["lm"]
        return {"lm": lm, "idle": 1e-5 * lm + self.weight * lm}


def effects_of(method, small, backbone, number=0):
    stream, base, blocks = small
    name = stream.names[number]
    adapted = method.adapt(copy.deepcopy(backbone), stream, name, 1).eval()
    added = added_names(copy.deepcopy(base), lambda untouched: method.build(untouched, stream))
    options = {"domains": stream.names, "mask_fraction": stream.recipe.pretrain.mask_fraction}
    return mean_effects([lm_effects(adapted, name, added, held_out=blocks.__getitem__, **options)])


def test_an_effect_that_is_not_finite_is_none_and_breaks_nothing():
    means = mean_effects(
        [{"prompt_effect": float("nan"), "change_maps": 1.0}, {"prompt_effect": 1.0, "change_maps": 3.0}]
    )
    assert means == {"prompt_effect": None, "change_maps": 2.0}
    assert list(inert_components({"gradient_kd": None, "change_maps": None})) == []


def test_looks_are_spread_over_the_stage():
    assert sorted(looks(160)) == [10, 30, 50, 70, 90, 110, 130, 150]
    assert looks(3) == {0, 1, 2}


def test_gradient_note_is_the_ratio_of_the_norms():
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    terms = {"lm": weight.square().sum(), "other": weight.sum(), "constant": torch.tensor(1.0)}
    notes = gradient_notes(terms, [weight], {"gradient_other": 0.1})
    assert notes["gradient_other"] == pytest.approx(2**0.5 / 10.0)
    assert notes["gradient_constant"] == 0.0
    assert gradient_notes(terms, [weight], {"gradient_other": 5.0})["gradient_other"] == 5.0
    assert gradient_notes({"lm": terms["lm"]}, [weight], {}) == {}


def test_looking_at_gradients_changes_no_weight(small, monkeypatch):
    stream, base, blocks = small
    method, first = get_method("lwf", weight=1.0), {stream.names[0]: blocks[stream.names[0]]}
    looked, _, record = train(method, build(method, base, stream), first)
    assert record.notes["gradient_kd"] > 1e-3
    trainer = make_loop(method, build(method, base, stream), first)
    trainer._looks = frozenset()
    assert "gradient_kd" not in trainer.run().notes
    assert same_state(looked, trainer.stage.backbone)


def test_idle_loss_term_and_idle_module_are_named(small):
    stream, base, blocks = small
    method, first = Idle(), {stream.names[0]: blocks[stream.names[0]]}
    after, _, record = train(method, build(method, base, stream), first)
    notes = {**record.notes, **effects_of(method, small, after)}
    lines = list(inert_components(notes))
    assert len(lines) == 2
    assert "loss term idle" in lines[0]
    assert "without the added module idle" in lines[1]
    busy, _, record = train(Idle(weight=1.0), build(method, base, stream), first)
    assert len(list(inert_components({**record.notes, **effects_of(method, small, busy)}))) == 1


@pytest.mark.parametrize("name", ["adapters", "lora", "prompts"])
def test_what_a_method_adds_is_found_to_act(small, name):
    stream, base, blocks = small
    method = get_method(name)
    after, _, _ = train(method, build(method, base, stream), {stream.names[0]: blocks[stream.names[0]]})
    notes = effects_of(method, small, after)
    assert notes
    assert not list(inert_components(notes))
    assert ("prompt_effect" in notes) == (name == "prompts")


def test_lm_without_additions_has_no_effects(small):
    _, base, _ = small
    assert effects_of(naive(), small, base) == {}
    assert added_names(copy.deepcopy(base), lambda backbone: backbone) == frozenset()


@pytest.mark.parametrize("name", ["hypermap", "hyperprompt"])
def test_figures_of_a_conditional_lm(small, name):
    stream, base, blocks = small
    method = get_method(name)
    built = build(method, base, stream)
    before = effects_of(method, small, built)
    after, _, _ = train(method, built, {stream.names[0]: blocks[stream.names[0]]}, num_steps=20)
    notes = effects_of(method, small, after)
    assert {"prompt_effect", "prompt_contrast", "prompt_domains"} <= notes.keys()
    assert notes["prompt_effect"] > 0.0
    assert notes["prompt_contrast"] > 0.0
    assert 0.0 <= notes["prompt_domains"] <= 1.0
    assert notes == effects_of(method, small, after)
    if name == "hypermap":  # maps of 0 are the identity
        assert before["prompt_effect"] == before["prompt_contrast"] == 0.0
        assert any("module maps" in line for line in inert_components(before))
