"""A world to try methods in: a stream of two domains and an LM, both as small as can be, encoder or decoder.

It needs no network and no pre-training; a stage takes a tenth of a second.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ctbench.backbone import Backbone
from ctbench.data.sources import read_texts
from ctbench.data.stream import Stream
from ctbench.data.tokens import Blocks, pack
from ctbench.loading import model_class, quiet
from ctbench.plugins import get_stream
from ctbench.pretrain import LOG_EVERY
from ctbench.tiny import build_tokenizer, tiny_settings

SEED = 0
NUM_STEPS = LOG_EVERY + 2
"""Updates of a stage: enough for one mid-stage checkpoint and some updates after it."""
LENGTH, BATCH = 16, 8
DROPOUT = 0.1
"""Of the encoder, so that generators of dropout are part of what is tried."""

_STREAM = f"""
kind = "domain"
summary = "Two domains to try methods on"
general = {{ source = "synthetic" }}

[language]
num_domains = 2
num_classes = 2
words_per_class = 8
num_documents = 60
num_general_documents = 60
num_held_out = 4
num_train = 4
num_validation = 0
num_test = 4

[base]
tokens = 1

[pretrain]
tokens = {NUM_STEPS * LENGTH * BATCH}
batch = {BATCH}
length = {LENGTH}
lr = 1e-2
weight_decay = 0.1
mask_fraction = 0.3
precision = "fp32"
"""


@dataclass(frozen=True, kw_only=True)
class World:
    """What a method is tried in.

    Attributes:
        objective: "mlm" (encoder) or "clm" (decoder).
        base: the untouched LM, to be copied and never to be trained.
        blocks: the packed text of every domain by name.
        folder: where the files of a trial go; removed with the world.
    """

    objective: str
    stream: Stream
    base: Backbone
    blocks: dict[str, Blocks]
    folder: Path


@contextmanager
def tiny_world(objective: Literal["mlm", "clm"]) -> Iterator[World]:
    """Make a world, which lasts as long as the context.

    Args:
        objective: "mlm" for an encoder of ModernBERT's shape with dropout, "clm" for a decoder of LLaMA's.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "world.toml").write_text(_STREAM, encoding="utf-8")
        stream = get_stream(str(folder / "world.toml"))
        assert stream.general is not None
        base = _build(build_tokenizer(read_texts(stream, stream.general, domain=None)), objective)
        cls_id = base.tokenizer.cls_token_id if objective == "mlm" else None
        blocks = {
            domain.name: Blocks(
                pack(read_texts(stream, domain.text, domain=domain.name), base.tokenizer, folder / domain.name),
                LENGTH,
                cls_id=cls_id,
            )
            for domain in stream.domains
        }
        yield World(objective=objective, stream=stream, base=base, blocks=blocks, folder=folder)


def _build(tokenizer: Any, objective: Literal["mlm", "clm"]) -> Backbone:
    from transformers import LlamaConfig, ModernBertConfig

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1}
    dropout = {"attention_dropout": DROPOUT, "mlp_dropout": DROPOUT}
    config = (
        ModernBertConfig(**tiny_settings(len(tokenizer)) | sizes | dropout | {"layer_types": ["full_attention"]})
        if objective == "mlm"
        else LlamaConfig(vocab_size=len(tokenizer), pad_token_id=0, num_key_value_heads=1, **sizes)
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(SEED)
        model = model_class(objective).from_config(config)
    name = "a tiny encoder" if objective == "mlm" else "a tiny decoder"
    return Backbone(model.eval(), tokenizer=tokenizer, objective=objective, name=name)
