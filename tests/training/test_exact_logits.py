"""Logits that are read off: in float32 although the LM runs in bf16."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from checkpoints import make_batch

from ctbench.backbone.loading import load_backbone
from ctbench.data.choices import encode_choices
from ctbench.data.examples import Example
from ctbench.data.generation import encode_generation
from ctbench.data.stream import FinetuneRecipe, PretrainRecipe
from ctbench.machine.device import autocast
from ctbench.training.finetune import finetune, held_out_loss

RECIPE = FinetuneRecipe(precision="bf16", epochs=1, batch=8)
LOSSES = PretrainRecipe(tokens=1, batch=4, length=8, precision="bf16", held_out_tokens=640)


class Text:
    """Held-out text: 80 rows of 8 random words."""

    length = 8

    def __len__(self):
        return 80

    def __getitem__(self, rows):
        return np.random.default_rng(0).integers(5, 95, (80, 8))[rows]


def far_from_zero(backbone, offset=100.0):
    """The LM with logits that are all lower by about `offset`, which no probability notices."""
    head = backbone.model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.full((head.out_features,), -offset))
    return backbone


def dtypes_of(backbone, run):
    """The precisions of the logits while `run` lasts, by whether the LM was in training."""
    seen = set()
    head = backbone.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, _, logits: seen.add((module.training, logits.dtype)))
    try:
        run()
    finally:
        handle.remove()
    return seen


def choices(number=40):
    draw = np.random.default_rng(0)
    words = [tuple(f"w{word}" for word in draw.choice(90, 4, replace=False)) for _ in range(number)]
    return [Example(text=each[0], choices=each, label=str(index % 4)) for index, each in enumerate(words)]


def test_answers_are_read_off_logits_in_float32_and_trained_on_those_of_autocast(checkpoint):
    backbone = load_backbone(str(checkpoint("llama")))
    asked = choices()
    written = [Example(text=each.text, label=each.choices[0], labels=each.choices[:1]) for each in asked]
    tasks = [
        encode_choices((asked, [], asked), backbone.tokenizer, max_length=20, whose="task"),
        encode_generation((written, [], written), backbone.tokenizer, max_length=20, max_answer=2, whose="task"),
    ]
    for task in tasks:
        clone = copy.deepcopy(backbone)
        seen = dtypes_of(clone, lambda clone=clone, task=task: finetune(clone, task, name="x", recipe=RECIPE, seed=0))
        assert seen == {(True, torch.bfloat16), (False, torch.float32)}


def test_answers_in_bf16_are_those_in_fp32_however_far_from_zero_the_logits_lie(checkpoint):
    backbone, asked = load_backbone(str(checkpoint("llama"))), choices(200)
    task = encode_choices(([], [], asked), backbone.tokenizer, max_length=20, whose="task")
    found = [
        finetune(copy.deepcopy(each), task, name="x", recipe=RECIPE, seed=0).metrics
        for each in (backbone, far_from_zero(copy.deepcopy(backbone)))
    ]
    assert found[0] == found[1]
    fp32 = dataclasses.replace(RECIPE, precision="fp32")
    plain = finetune(copy.deepcopy(backbone), task, name="x", recipe=fp32, seed=0).metrics
    assert found[0]["accuracy"] == pytest.approx(plain["accuracy"], abs=0.03)


@pytest.mark.parametrize(("model_type", "dtype"), [("llama", torch.float32), ("bert", torch.bfloat16)])
def test_held_out_losses_of_decoders_are_of_logits_in_float32(checkpoint, model_type, dtype):
    backbone = load_backbone(str(checkpoint(model_type)))
    seen = dtypes_of(backbone, lambda: held_out_loss(backbone, Text(), domain="x", recipe=LOSSES))
    assert seen == {(False, dtype)}


def test_a_held_out_loss_does_not_depend_on_how_far_from_zero_logits_lie(checkpoint):
    backbone = load_backbone(str(checkpoint("llama")))
    losses = [
        held_out_loss(each, Text(), domain="x", recipe=LOSSES).loss
        for each in (backbone, far_from_zero(copy.deepcopy(backbone)))
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_a_pass_that_breaks_off_leaves_autocast_as_it_was(checkpoint):
    backbone = load_backbone(str(checkpoint("llama")))
    head = backbone.model.get_output_embeddings()

    def fail(*_):
        raise KeyError("broke off")

    with autocast("bf16", backbone.device), backbone.tap.exact_logits():
        handle = head.register_forward_pre_hook(fail)
        with pytest.raises(KeyError, match="broke off"):
            backbone(make_batch())
        handle.remove()
        assert torch.is_autocast_enabled("cpu")
        assert backbone(make_batch()).logits.dtype == torch.float32
    with autocast("bf16", backbone.device):
        assert backbone(make_batch()).logits.dtype == torch.bfloat16
