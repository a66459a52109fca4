"""Turn the archive of Ke et al. 2023 (github.com/UIC-Liu-Lab/ContinualLM) into the files of the stream dapset.

The splits are theirs: development examples join the test, and of every label the first training examples go over to the
test, a fixed number per label that follows from a share of the training examples.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctbench.data.prepare import place, write_lines
from ctbench.errors import BadData

CORPORA = {
    "restaurant": "yelp_restaurant.txt",
    "acl": "acl_anthology.txt",
    "ai": "ai_corpus.txt",
    "phone": "absa/post_train/phone.txt",
    "pubmed": "format_pubmed_small.txt",
    "camera": "absa/post_train/camera.txt",
}
PAPERS = {"acl": ("citation_intent", 0.9), "ai": ("sciie", 0.7), "pubmed": ("chemprot", 0.5)}
"""Folder of the end task, and the share of training examples that stays there."""

PRODUCTS = {
    "phone": (("Bing5Domains/Nokia6610",), ("Bing9Domains/Nokia6600",), ("train", "dev", "test"), 0.7),
    "camera": (
        ("Bing5Domains/CanonG3",),
        ("Bing5Domains/NikonCoolpix4300", "Bing9Domains/CanonPowerShotSD500", "Bing9Domains/CanonS100"),
        ("train", "test", "dev"),
        0.8,
    ),
}
"""Products to train on and to test on, the order of their parts, and the share of training examples that stays."""

POLARITY = {"+": "positive", "-": "negative"}

Examples = list[dict[str, str]]


def prepare(source: Path, target: Path) -> None:
    """Write corpus.txt, train.jsonl and test.jsonl of all six domains into `target`.

    Raises:
        BadData: an original is missing or malformed.
    """
    root = source / "data" if (source / "data").is_dir() else source
    tasks = {"restaurant": (_aspects(root, "SemEval14-res/train.json"), _aspects(root, "SemEval14-res/test.json"))}
    for name, (folder, kept) in PAPERS.items():
        train, test, development = (_sentences(root, f"{folder}/{part}.jsonl") for part in ("train", "test", "dev"))
        tasks[name] = _take_out(train, test + development, kept=kept)
    for name, (trained, tested, parts, kept) in PRODUCTS.items():
        tasks[name] = _take_out(_products(root, trained, parts), _products(root, tested, parts), kept=kept)
    for name, splits in tasks.items():
        for split, examples in zip(("train", "test"), splits, strict=True):
            write_lines(target / name / f"{split}.jsonl", [json.dumps(example) for example in examples])
    for name, path in CORPORA.items():
        place(_existing(root, path), target / name / "corpus.txt")


def _take_out(train: Examples, test: Examples, *, kept: float) -> tuple[Examples, Examples]:
    """Move the first examples of every label from training to test, the same number of each."""
    labels = sorted({example["label"] for example in train})
    count = int(len(train) * (1 - kept) // len(labels))
    taken: list[int] = []
    for label in labels:
        taken += [place for place, example in enumerate(train) if example["label"] == label][:count]
    moved = set(taken)
    left = [example for place, example in enumerate(train) if place not in moved]
    return left, test + [train[place] for place in taken]


def _aspects(root: Path, path: str) -> Examples:
    """Read an object of {term, sentence, polarity}; contradictory ones are left out."""
    found = []
    for entry in _read(root, path, lines=False).values():
        polarity = POLARITY.get(entry["polarity"], entry["polarity"])
        if polarity in ("positive", "negative", "neutral"):
            found.append({"text": entry["term"], "text_pair": entry["sentence"], "label": polarity})
    return found


def _products(root: Path, folders: Sequence[str], parts: Sequence[str]) -> Examples:
    paths = [f"absa/dat/{folder}/{part}.json" for part in parts for folder in folders]
    return [example for path in paths for example in _aspects(root, path)]


def _sentences(root: Path, path: str) -> Examples:
    return [{"text": entry["text"], "label": entry["label"]} for entry in _read(root, path, lines=True)]


def _read(root: Path, path: str, *, lines: bool) -> Any:
    text = _existing(root, path).read_text(encoding="utf-8")
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    except ValueError as error:
        raise BadData(f"{path}: not the file of the archive: {error}") from None


def _existing(root: Path, path: str) -> Path:
    if not (root / path).is_file():
        raise BadData(f"{path}: not in '{root.name}'; `ctbench prepare dapset` says what the archive holds")
    return root / path
