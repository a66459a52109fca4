"""A tiny world to check methods in: a stream of two domains and a tiny LM, encoder or decoder.

No network and no pre-training are needed; a stage takes a tenth of a second.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ctbench.backbone import Backbone
from ctbench.backbone.loading import model_class, quiet
from ctbench.backbone.tiny import build_tokenizer, tiny_settings
from ctbench.data.schema import GENERAL
from ctbench.data.sources import read_texts
from ctbench.data.stream import Stream
from ctbench.data.tokens import Blocks, pack
from ctbench.plugins.find import get_stream
from ctbench.training.log import LOG_EVERY

SEED = 0
NUM_STEPS = LOG_EVERY + 2
"""Updates of a stage: enough for one mid-stage checkpoint and some updates after it."""
LENGTH, BATCH = 16, 8
DROPOUT = 0.1
"""Dropout of the encoder, so that the laws cover its random numbers too."""

_STREAM = f"""
kind = "domain"
summary = "Two domains to check methods with"
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
class TinyWorld:
    """Stream, text and LM to check methods with.

    Attributes:
        objective: "mlm" (encoder) or "clm" (decoder).
        base: the untouched LM; copy it, never train it.
        blocks: the packed text of every domain by name.
        general: the packed general text.
        folder: files of a dry run; removed with the world.
    """

    objective: str
    stream: Stream
    base: Backbone
    blocks: dict[str, Blocks]
    general: Blocks
    folder: Path


@contextmanager
def tiny_world(objective: Literal["mlm", "clm"], settings: Mapping[str, Any] | None = None) -> Iterator[TinyWorld]:
    """Make a tiny world; its files are removed when the block ends.

    Args:
        objective: "mlm" for a ModernBERT encoder with dropout, "clm" for a LLaMA decoder.
        settings: settings of the stream to override, by key, such as {"pretrain.schedule": "infinite"}.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "world.toml").write_text(_STREAM, encoding="utf-8")
        stream = get_stream(str(folder / "world.toml"), settings=settings or {})
        assert stream.general is not None
        base = _build(build_tokenizer(read_texts(stream, stream.general, domain=None)), objective)
        cls_id = base.tokenizer.cls_token_id if objective == "mlm" else None
        texts = {domain.name: read_texts(stream, domain.text, domain=domain.name) for domain in stream.domains}
        texts[GENERAL] = read_texts(stream, stream.general, domain=None)
        blocks = {
            name: Blocks(pack(text, base.tokenizer, folder / name), LENGTH, cls_id=cls_id)
            for name, text in texts.items()
        }
        general = blocks.pop(GENERAL)
        yield TinyWorld(objective=objective, stream=stream, base=base, blocks=blocks, general=general, folder=folder)


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
