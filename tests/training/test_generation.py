"""Decoders that write answers: greedy as transformers' own, learning, stopping."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from ctbench.backbone.loading import load_backbone
from ctbench.data.examples import Example
from ctbench.data.generation import encode_generation
from ctbench.data.stream import FinetuneRecipe
from ctbench.training.finetune import finetune
from ctbench.training.likelihood import Writer

RECIPE = FinetuneRecipe(precision="fp32", lr=5e-3, epochs=30, batch=8, dropout=0.0)


def task_of(backbone, *, is_trained):
    draw, examples = np.random.default_rng(0), []
    for number in range(24):
        words = draw.integers(10, 90, size=draw.integers(2, 6))
        answer = ("w3 w4", "w5", "w6 w7 w8")[number % 3]
        text = " ".join([*(f"w{word}" for word in words), f"w{number % 3}"])
        examples.append(Example(text=text, label=answer, labels=(answer,)))
    splits = (examples if is_trained else [], [], examples)
    return encode_generation(splits, backbone.tokenizer, max_length=20, max_answer=6, whose="task")


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_tokens_are_those_that_the_library_generates(checkpoint, model_type):
    backbone = load_backbone(str(checkpoint(model_type)))
    task, tokenizer = task_of(backbone, is_trained=False), backbone.tokenizer
    writer, rows = Writer(backbone, RECIPE).eval(), np.arange(8)
    with torch.inference_mode():
        batch, targets = writer.take(task.test, rows)
        answers = writer.read(writer(batch).float(), targets, task.test, rows)
    for row in rows:
        ids = torch.from_numpy(task.test.ids[row])[None]
        for _ in range(6):
            with torch.inference_mode():
                ids = torch.cat([ids, backbone.model(ids).logits[:, -1:].argmax(-1)], dim=1)
            if int(ids[0, -1]) == tokenizer.sep_token_id:
                break
        assert answers[row] == tokenizer.decode(ids[0, len(task.test.ids[row]) :], skip_special_tokens=True)
    assert len(set(answers)) > 1


def test_answers_and_where_they_end_are_learned(checkpoint):
    backbone = load_backbone(str(checkpoint("llama")))
    before = finetune(copy.deepcopy(backbone), task_of(backbone, is_trained=False), name="x", recipe=RECIPE, seed=0)
    after = finetune(copy.deepcopy(backbone), task_of(backbone, is_trained=True), name="x", recipe=RECIPE, seed=0)
    assert before.metrics["exact_match"] == 0.0
    assert after.metrics["exact_match"] > 0.9
    assert after.metrics["token_f1"] >= after.metrics["exact_match"]
