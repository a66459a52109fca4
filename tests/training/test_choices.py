"""Choosing answers by their probability: log-probabilities by hand, learning, refusals."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from ctbench.backbone.loading import load_backbone
from ctbench.data.choices import encode_choices
from ctbench.data.examples import Example
from ctbench.data.stream import FinetuneRecipe
from ctbench.errors import BadConfig, RunFailed
from ctbench.training.finetune import finetune
from ctbench.training.solvers import Chooser

RECIPE = FinetuneRecipe(precision="fp32", lr=1e-2, epochs=20, batch=4)


def examples(number):
    draw = np.random.default_rng(0)

    def words(count):
        return " ".join(f"w{word}" for word in draw.integers(0, 90, size=count))

    made = []
    for _ in range(number):
        choices = tuple(words(draw.integers(1, 5)) for _ in range(draw.integers(2, 5)))
        made.append(Example(text=words(draw.integers(1, 8)), choices=choices, label=str(draw.integers(len(choices)))))
    return made


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_scores_equal_those_of_one_text_at_a_time(checkpoint, model_type):
    backbone, asked = load_backbone(str(checkpoint(model_type))), examples(30)
    task = encode_choices(([], [], asked), backbone.tokenizer, max_length=40, whose="task")
    found = finetune(copy.deepcopy(backbone), task, name="x", recipe=RECIPE, seed=0)
    plain, per_character = [], []
    for example in asked:
        sums = []
        for choice in example.choices:
            ids = [backbone.tokenizer.convert_tokens_to_ids(word) for word in f"<s> {example.text} {choice}".split()]
            with torch.inference_mode():
                each = backbone.model(torch.tensor([ids])).logits[0].log_softmax(-1)
            count = len(choice.split())
            sums.append(sum(float(each[place - 1, ids[place]]) for place in range(len(ids) - count, len(ids))))
        plain.append(np.argmax(sums) == int(example.label))
        per_character.append(
            np.argmax([s / len(c) for s, c in zip(sums, example.choices, strict=True)]) == int(example.label)
        )
    assert found.metrics == {"accuracy": np.mean(plain), "accuracy_norm": np.mean(per_character)}
    assert plain != per_character
    assert (found.tokens, found.validation) == (0, None)


def test_fine_tuning_learns_the_right_answers(checkpoint):
    backbone, asked = load_backbone(str(checkpoint("llama"))), examples(12)
    task = encode_choices((asked, asked[:4], asked), backbone.tokenizer, max_length=40, whose="task")
    untrained = encode_choices(([], [], asked), backbone.tokenizer, max_length=40, whose="task")
    before = finetune(copy.deepcopy(backbone), untrained, name="x", recipe=RECIPE, seed=0)
    after = finetune(backbone, task, name="x", recipe=RECIPE, seed=0)
    assert after.metrics["accuracy"] > before.metrics["accuracy"] + 0.2
    assert after.validation is not None
    assert after.tokens == 20 * int(task.train.lengths.sum())
    assert after.flops > before.flops > 0


def test_the_fine_tuning_seed_changes_no_score_of_an_lm_that_is_not_fine_tuned(checkpoint):
    backbone, asked = load_backbone(str(checkpoint("llama"))), examples(30)
    recipe = dataclasses.replace(RECIPE, epochs=2, dropout=0.1)

    def scores(train):
        task = encode_choices((train, [], asked), backbone.tokenizer, max_length=40, whose="task")
        found = (finetune(copy.deepcopy(backbone), task, name="x", recipe=recipe, seed=seed) for seed in range(3))
        return {tuple(each.metrics.values()) for each in found}

    assert len(scores([])) == 1
    assert len(scores(asked)) > 1


def test_an_encoder_and_a_frozen_lm_are_refused(checkpoint):
    with pytest.raises(BadConfig, match="is an encoder, which gives texts none"):
        Chooser(load_backbone(str(checkpoint("bert"))), RECIPE)
    backbone, asked = load_backbone(str(checkpoint("gpt2"))).requires_grad_(False), examples(3)
    task = encode_choices((asked, [], asked), backbone.tokenizer, max_length=40, whose="task")
    with pytest.raises(RunFailed, match="nothing to train"):
        finetune(backbone, task, name="x", recipe=RECIPE, seed=0)
