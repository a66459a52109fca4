"""Pairs of texts: which text a token belongs to."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from checkpoints import ENCODERS

from ctbench.backbone import Batch, Prompt
from ctbench.backbone.loading import load_backbone
from ctbench.backbone.shared import Sharing
from ctbench.data.examples import Example
from ctbench.data.stream import FinetuneRecipe
from ctbench.data.tasks import _Encoder
from ctbench.machine.ranks import ALONE
from ctbench.training.solvers import Classifier

WITH_SEGMENTS = ("bert", "electra")
PAIRS = [Example(text="w1 w2 w3", pair="w4 w5", label=""), Example(text="w6", pair="w7", label="")]


def encoded(backbone, examples):
    """The examples as a split; the template of the tokenizer gives the second text type 1, as BERT's does."""
    from tokenizers import processors

    tokenizer = copy.deepcopy(backbone.tokenizer)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return _Encoder(tokenizer, 20).split(examples, np.zeros(len(examples), dtype=np.int64))


def taken(backbone, examples):
    """The examples as the batch that a cell gives the LM."""
    split = encoded(backbone, examples)
    return Classifier(backbone, 2, FinetuneRecipe()).take(split, np.arange(len(split)))[0]


def test_segments_of_pairs_are_those_of_the_tokenizer_and_single_texts_have_none(checkpoint):
    backbone = load_backbone(str(checkpoint("bert")))
    batch = taken(backbone, PAIRS)
    assert batch.segments.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0, 0]]
    assert taken(backbone, [Example(text="w1 w2", label="")]).segments is None


@pytest.mark.parametrize("model_type", ENCODERS)
def test_an_encoder_with_embeddings_of_segments_reads_pairs_as_the_library_does(checkpoint, model_type):
    backbone = load_backbone(str(checkpoint(model_type)))
    batch = taken(backbone, PAIRS)
    found = backbone.features(batch, head="plain")
    given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    segments = {"token_type_ids": batch.segments} if model_type in WITH_SEGMENTS else {}
    wanted = backbone.model.base_model(**given, **segments).last_hidden_state
    real = batch.attention_mask.bool()
    torch.testing.assert_close(found[real], wanted[real], rtol=1e-4, atol=1e-5)
    blind = Batch(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    is_told = not torch.allclose(found, backbone.features(blind, head="plain"), atol=1e-3)
    assert is_told == (model_type in WITH_SEGMENTS)


def test_a_prompt_in_front_of_a_pair_is_of_the_first_segment(checkpoint):
    backbone = load_backbone(str(checkpoint("bert")))
    batch = taken(backbone, PAIRS)
    inputs = backbone._inputs(batch, Prompt(torch.zeros(2, backbone.width)))
    assert inputs["token_type_ids"].tolist() == [[0, 0, *row] for row in batch.segments.tolist()]
    assert backbone(batch, prompt=torch.zeros(2, backbone.width)).hidden.shape[1] == batch.input_ids.shape[1]


def test_parts_of_a_batch_take_their_segments_along(checkpoint):
    backbone = load_backbone(str(checkpoint("bert")))
    batch = taken(backbone, PAIRS)
    whole = backbone(batch).hidden
    backbone.sharing = Sharing(ALONE, num_parts=2)
    torch.testing.assert_close(backbone(batch).hidden, whole)
