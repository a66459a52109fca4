"""The embedded backbones: a small encoder and a small decoder with a vocabulary of their own, which need no network.

`tiny` has two ModernBERT layers (rotary positions, pre-norm) of width 128, `tiny-causal` two Llama layers of that width;
`tiny-64` and `tiny-256` are `tiny` with another width and as many heads as keep theirs at 32.
The stream's general text gives the vocabulary and pre-trains the weights, so nothing about the domains is built in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

import torch

from ctbench.backbone.checkpoint import MADE, MADE_WIDTHS
from ctbench.backbone.loading import model_class, quiet
from ctbench.backbone.wrapper import Backbone
from ctbench.errors import BadData

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_WORDS = 4_000
"""With more distinct words than this the vocabulary is made of subwords."""
NUM_SUBWORDS = 8_000
SAMPLE_CHARACTERS = 20_000_000
"""Subwords are learned from at most this much of the text, its beginning."""


def build_tiny(texts: Iterable[str], *, seed: int, name: str = "tiny") -> Backbone:
    """Build an embedded backbone, not yet pre-trained.

    Args:
        texts: general text, read once; words are what stands between white space, in lower case.
        seed: of the weights.
        name: "tiny", an encoder, "tiny-causal", a decoder, or one of another width.

    Raises:
        BadData: there is no word in `texts`.

    Examples:
        >>> build_tiny(["the sea is blue", "the sky is blue"], seed=0).hidden_size
        128
    """
    from transformers import LlamaConfig, ModernBertConfig

    objective, family = MADE[name]
    tokenizer = build_tokenizer(texts, objective=objective)
    config_class = {"modernbert": ModernBertConfig, "llama": LlamaConfig}[family]
    config = config_class(**tiny_settings(len(tokenizer), family=family, width=MADE_WIDTHS[name]))
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        model = model_class(objective).from_config(config)
    return Backbone(model.eval(), tokenizer=tokenizer, objective=objective, name=name)


def tiny_settings(vocab_size: int, *, family: str = "modernbert", width: int = 128) -> dict[str, Any]:
    """Return the configuration of an embedded model as transformers' configuration of its family takes it."""
    own: dict[str, dict[str, Any]] = {
        "modernbert": {
            "layer_types": ["full_attention", "full_attention"],
            "mlp_dropout": 0.0,
            "embedding_dropout": 0.0,
            "cls_token_id": 2,
            "sep_token_id": 3,
        },
        "llama": {"tie_word_embeddings": True},
    }
    return {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": width // 32,
        "max_position_embeddings": 1024,
        "attention_dropout": 0.0,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        **own[family],
    }


def build_tokenizer(texts: Iterable[str], *, objective: Literal["mlm", "clm"] = "mlm") -> Any:
    """Return a fast tokenizer for `texts`: whole words if there are at most `MAX_WORDS`, else subwords.

    Texts become "[CLS] text [SEP]" and pairs "[CLS] text [SEP] pair [SEP]" for an encoder. For a decoder, whose last token
    is read, they become "[SEP] text" and "[SEP] text [SEP] pair", as a document stands in packed text.

    Raises:
        BadData: there is no word in `texts`.
    """
    from transformers import PreTrainedTokenizerFast

    counts, sample, is_wordy = _read(texts)
    if not counts:
        raise BadData("the general text holds no word, so the model has no vocabulary; check the stream's [general]")
    tokenizer = _word_tokenizer(counts) if is_wordy else _subword_tokenizer(sample)
    _add_template(tokenizer, *_TEMPLATES[objective])
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


_TEMPLATES = {
    "mlm": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
    "clm": ("[SEP] $A", "[SEP] $A [SEP] $B:1"),
}
"""How a text and a pair of texts are put, by objective."""


def _add_template(tokenizer: Any, single: str, pair: str) -> None:
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
