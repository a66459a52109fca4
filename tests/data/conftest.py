"""A small stream of files and a tokenizer of words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ctbench.data.stream import Stream, load_stream

STREAM = """\
kind = "domain"
summary = "Two kinds of reviews"
general = { source = "files", path = "general.txt" }

[[domains]]
name = "phone"
[domains.text]
source = "files"
path = "phone.jsonl"
[domains.task]
source = "files"
train = "train.jsonl"
test = "test.jsonl"

[[domains]]
name = "camera"
text = { source = "files", path = "camera/*.txt" }
task = { source = "files", train = "train.jsonl", validation = "train.jsonl", test = "test.jsonl" }

[pretrain]
tokens = 1000
lr = 1e-3

[recipes.small.pretrain]
tokens = 10
"""

Write = Callable[..., Path]


def jsonl(records: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with `reviews.toml` and its data."""
    (tmp_path / "reviews.toml").write_text(STREAM)
    (tmp_path / "general.txt").write_text("the sea is blue\n\nthe sky is grey\n")
    (tmp_path / "phone.jsonl").write_text(jsonl({"text": f"phone number {n} rings"} for n in range(200)))
    (tmp_path / "camera").mkdir()
    (tmp_path / "camera/a.txt").write_text("a sharp lens\na slow shutter\n")
    (tmp_path / "camera/b.txt").write_text("a blurred picture\n")
    examples = [
        {"text": f"{word} {n}", "label": label} for n in range(6) for word, label in (("good", "+"), ("bad", "-"))
    ]
    (tmp_path / "train.jsonl").write_text(jsonl(examples))
    (tmp_path / "test.jsonl").write_text(jsonl(examples[:4]))
    return tmp_path


@pytest.fixture
def stream(folder: Path) -> Stream:
    return load_stream(folder / "reviews.toml", registered=False)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Return a fast tokenizer of 8 words with the usual special tokens, which cuts and pads as real ones may."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = [*special, "phone", "number", "rings", "a", "sharp", "lens", "good", "bad"]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.enable_truncation(3)
    backend.enable_padding(length=9)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
