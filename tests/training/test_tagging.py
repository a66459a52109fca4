"""A head on words learns tags, for encoders and decoders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ctbench.backbone import Prompt
from ctbench.backbone.loading import load_backbone
from ctbench.contexts import Contexts
from ctbench.data.examples import Example
from ctbench.data.spans import encode_spans
from ctbench.data.stream import FinetuneRecipe
from ctbench.training.finetune import finetune
from ctbench.training.tagging import Tagger

pytest.importorskip("nervaluate")
RECIPE = FinetuneRecipe(precision="fp32", lr=3e-3, epochs=30, batch=8, dropout=0.0)


def task_of(backbone, max_length=20):
    draw, examples = np.random.default_rng(0), []
    for _ in range(40):
        words = [int(word) for word in draw.integers(0, 90, size=6)]
        tags = ["B-low" if word < 20 else "O" for word in words]
        examples.append(
            Example(
                text=" ".join(f"w{w}" for w in words), label="", words=tuple(f"w{w}" for w in words), labels=tuple(tags)
            )
        )
    return encode_spans((examples, examples[:8], examples), ("B-low", "O"), backbone.tokenizer, max_length=max_length)


@pytest.mark.parametrize("model_type", ["modernbert", "llama"])
def test_tags_are_learned(checkpoint, model_type):
    backbone = load_backbone(str(checkpoint(model_type)))
    found = finetune(backbone, task_of(backbone), name="x", recipe=RECIPE, seed=0)
    assert found.metrics["span_f1"] > 0.8
    assert found.validation is not None


def test_words_that_are_cut_off_are_no_entity_and_not_trained_on(checkpoint):
    backbone = load_backbone(str(checkpoint("bert")))
    task = task_of(backbone, max_length=5)  # two special tokens and three of six words
    tagger = Tagger(backbone, 2, RECIPE).eval()
    rows = np.arange(3)
    batch, targets = tagger.take(task.test, rows)
    assert targets.tolist() == [int(tag) for tags in task.test.tags[:3] for tag in tags[:3]]
    logits = torch.zeros(9, 2)
    logits[:, 0] = 1.0
    assert tagger.read(logits, targets, task.test, rows) == [["B-low"] * 3 + ["O"] * 3] * 3
    assert batch.positions.tolist() == [1, 2, 3, 6, 7, 8, 11, 12, 13]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("model_type", ["bert", "llama"])
def test_a_text_of_which_no_word_has_a_token_is_trained_on_and_scored(checkpoint, model_type, batch):
    from tokenizers import normalizers, processors

    backbone = load_backbone(str(checkpoint(model_type)))
    backbone.tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer()  # drops what nobody sees
    if model_type == "llama":
        backbone.tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()  # no special tokens

    def example(*words):
        return Example(text=" ".join(words), label="", words=words, labels=("B-x",) * len(words))

    examples = [example("w1", "w2"), example("w3"), example("\u200b")]
    task = encode_spans((examples, [], examples), ("B-x", "O"), backbone.tokenizer, max_length=8)
    assert [len(places) for places in task.train.firsts] == [2, 1, 1]
    assert task.train.firsts[2].tolist() == [-1]
    assert len(task.train.ids[2]) == (2 if model_type == "bert" else 1)
    recipe = replace(RECIPE, epochs=2, batch=batch)
    assert finetune(backbone, task, name="x", recipe=recipe, seed=0).metrics["span_f1"] >= 0


class Reader(nn.Module):
    """A prompter that puts the sum of what `Contexts` reads in front of a text."""

    def __init__(self, backbone):
        super().__init__()
        self.contexts = Contexts(backbone)

    def forward(self, backbone, batch):
        return Prompt(self.contexts.read(batch)[0].sum(1, keepdim=True))


@pytest.mark.parametrize("model_type", ["bert", "llama"])
def test_a_prompter_reads_the_words_that_are_tagged(checkpoint, model_type):
    """They are all words of the text: without them its context would be 0."""
    backbone = load_backbone(str(checkpoint(model_type)))
    backbone.added["reader"], backbone.prompter = Reader(backbone), "reader"
    task = task_of(backbone)
    tagger = Tagger(backbone, 2, RECIPE).eval()
    batch, _ = tagger.take(task.test, np.arange(3))
    features = backbone.features(replace(batch, positions=None), head=RECIPE.head).flatten(0, 1)
    assert torch.equal(tagger(batch), tagger.output(features[batch.positions]))
