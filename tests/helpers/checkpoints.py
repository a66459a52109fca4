"""Tiny random checkpoints of every family, saved to disk as a user would have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctbench.backbone import Batch

ENCODERS = ("bert", "roberta", "distilbert", "modernbert", "electra", "deberta-v2")
DECODERS = ("gpt2", "gpt_neox", "llama", "qwen2", "qwen3")
FAMILY_NAMES = ENCODERS + DECODERS
NUM_WORDS = 90
VOCABULARY = 96  # 5 special tokens, the words, and one more than the tokenizer knows
LENGTH = 40

_SMALL = {"vocab_size": VOCABULARY, "pad_token_id": 1}
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_SETTINGS: dict[str, dict[str, Any]] = {
    "bert": {**_SIZES, "max_position_embeddings": LENGTH},
    "roberta": {**_SIZES, "max_position_embeddings": LENGTH + 2, "type_vocab_size": 1},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": LENGTH},
    "modernbert": {**_SIZES, "layer_types": ["full_attention", "full_attention"], "cls_token_id": 2, "sep_token_id": 3},
    "electra": {**_SIZES, "embedding_size": 16, "max_position_embeddings": LENGTH},
    "deberta-v2": {
        **_SIZES,
        "max_position_embeddings": LENGTH,
        "relative_attention": True,
        "position_buckets": 8,
        "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": LENGTH, "n_inner": 48},
    "gpt_neox": {**_SIZES, "max_position_embeddings": LENGTH},
    "llama": {**_SIZES, "num_key_value_heads": 2, "max_position_embeddings": LENGTH},
    "qwen2": {**_SIZES, "num_key_value_heads": 2, "max_position_embeddings": LENGTH},
    "qwen3": {**_SIZES, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": LENGTH},
}
_SPECIAL = {"unk_token": "<unk>", "pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}


def save_checkpoint(model_type: str, folder: Path, *, dropout: float = 0.0) -> Path:
    """Write a random checkpoint of `model_type` with a word-level tokenizer and return its folder."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    from ctbench.backbone.loading import quiet

    shares = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if model_type in ("distilbert", "modernbert", *DECODERS):
        shares = {"attention_dropout": dropout}
    if model_type == "distilbert":
        shares["dropout"] = dropout
    if model_type == "modernbert":
        shares |= {"mlp_dropout": dropout, "embedding_dropout": dropout}
    if model_type == "gpt2":
        shares = {"attn_pdrop": dropout, "resid_pdrop": dropout, "embd_pdrop": dropout}
    if model_type == "gpt_neox":
        shares["hidden_dropout"] = dropout
    config = AutoConfig.for_model(model_type, **_SMALL, **_SETTINGS[model_type], **shares)
    automatic = AutoModelForMaskedLM if model_type in ENCODERS else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(7)
        model = automatic.from_config(config)
        for parameter in model.parameters():  # far from the usual start, so that every part matters
            torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
    return folder


def make_tokenizer() -> Any:
    """Return a word-level tokenizer of words w0, w1, ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<pad>", "<s>", "</s>", "<mask>", *(f"w{number}" for number in range(NUM_WORDS))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL)


def make_batch(*, num_rows: int = 3, num_tokens: int = 12, is_padded: bool = False, seed: int = 0) -> Batch:
    """Return random text with predicted positions; padded, row r ends in r places of padding."""
    generator = np.random.default_rng(seed)
    ids = torch.from_numpy(generator.integers(5, 5 + NUM_WORDS, size=(num_rows, num_tokens)))
    mask = None
    if is_padded:
        mask = (torch.arange(num_tokens)[None, :] < num_tokens - torch.arange(num_rows)[:, None]).long()
        ids = torch.where(mask == 1, ids, torch.ones_like(ids))
    places = torch.arange(0, num_rows * num_tokens, 5)
    places = places[places % num_tokens < num_tokens - num_rows - 1]
    targets = torch.from_numpy(generator.integers(5, 5 + NUM_WORDS, size=len(places)))
    return Batch(input_ids=ids, attention_mask=mask, positions=places, targets=targets)
