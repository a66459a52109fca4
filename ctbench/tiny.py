"""The embedded default backbone: a small encoder with a vocabulary of its own, which needs no network.

Two ModernBERT layers (rotary positions, pre-norm) of width 128. The stream's general text gives the vocabulary and
pre-trains the weights, so nothing about the domains is built in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch

from ctbench.backbone import Backbone
from ctbench.errors import BadData
from ctbench.loading import quiet

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_WORDS = 4_000
"""With more distinct words than this the vocabulary is made of subwords."""
NUM_SUBWORDS = 8_000
SAMPLE_CHARACTERS = 20_000_000
"""Subwords are learned from at most this much of the text, its beginning."""


def build_tiny(texts: Iterable[str], *, seed: int) -> Backbone:
    """Build the tiny backbone, not yet pre-trained.

    Args:
        texts: general text, read once; words are what stands between white space, in lower case.
        seed: of the weights.

    Raises:
        BadData: there is no word in `texts`.

    Example:
        >>> build_tiny(["the sea is blue", "the sky is blue"], seed=0).hidden_size
        128
    """
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    tokenizer = build_tokenizer(texts)
    config = ModernBertConfig(**tiny_settings(len(tokenizer)))
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        model = ModernBertForMaskedLM(config)
    return Backbone(model.eval(), tokenizer=tokenizer, objective="mlm", name="tiny")


def tiny_settings(vocab_size: int) -> dict[str, Any]:
    """Return the configuration of the tiny model as transformers' ModernBertConfig takes it."""
    return {
        "vocab_size": vocab_size,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 1024,
        "layer_types": ["full_attention", "full_attention"],
        "attention_dropout": 0.0,
        "mlp_dropout": 0.0,
        "embedding_dropout": 0.0,
        "pad_token_id": 0,
        "cls_token_id": 2,
        "bos_token_id": 2,
        "sep_token_id": 3,
        "eos_token_id": 3,
    }


def build_tokenizer(texts: Iterable[str]) -> Any:
    """Return a fast tokenizer for `texts`: whole words if there are at most `MAX_WORDS`, else subwords.

    Texts become "[CLS] text [SEP]", pairs "[CLS] text [SEP] pair [SEP]".

    Raises:
        BadData: there is no word in `texts`.
    """
    from transformers import PreTrainedTokenizerFast

    counts, sample, is_wordy = _read(texts)
    if not counts:
        raise BadData("the general text holds no word, so tiny has no vocabulary; check the stream's [general]")
    tokenizer = _word_tokenizer(counts) if is_wordy else _subword_tokenizer(sample)
    _add_template(tokenizer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _read(texts: Iterable[str]) -> tuple[Counter[str], list[str], bool]:
    counts: Counter[str] = Counter()
    sample: list[str] = []
    room = SAMPLE_CHARACTERS
    for text in texts:
        if room > 0:
            sample.append(text[:room])
            room -= len(text)
        if len(counts) <= MAX_WORDS:
            counts.update(text.lower().split())
        elif room <= 0:
            break
    return counts, sample, len(counts) <= MAX_WORDS


def _word_tokenizer(counts: Counter[str]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    words = sorted(counts, key=lambda word: (-counts[word], word))
    vocabulary = {word: number for number, word in enumerate([*SPECIAL_TOKENS, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def _subword_tokenizer(sample: list[str]) -> Any:
    """Learn byte-level pairs: no text is unknown, and (unlike WordPiece's) their training repeats exactly."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_SUBWORDS,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample, trainer)
    return tokenizer


def _add_template(tokenizer: Any) -> None:
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
