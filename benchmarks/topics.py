"""Make the two tasks of the stream topics that the collection of dapset-mini does not have: name the subject of a sentence.

Of each corpus some documents are set apart, and one sentence of each is an example; its label is the corpus that it comes
from. The rest of the corpora is the text of the domain. Which documents are set apart follows from their content alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from ctbench.data.prepare import place, write_lines
from ctbench.errors import BadData

SUBJECTS = {"reviews": ("camera", "phone", "restaurant"), "papers": ("acl", "ai", "pubmed")}
"""Corpora of the collection whose sentences are told apart, by domain."""
PERIODS = ("2006-2009", "2010-2011", "2012-2013", "2014-2015", "2016-2017", "2018-2019")
SPLITS = {"train": 200, "validation": 100, "test": 400}
"""Examples of every label."""
WORDS = (6, 25)
"""Least and most words of an example."""


def prepare(source: Path, target: Path) -> None:
    """Write topics/reviews and topics/papers, and put the files of the periods in their place.

    Raises:
        BadData: an original is missing, or has too few documents.
    """
    for domain, names in SUBJECTS.items():
        corpus: list[str] = []
        seen: set[str] = set()
        splits: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS}
        for name in names:
            documents = sorted(_texts(source, f"domain/{name}/corpus.jsonl"), key=_digest)
            rest = iter(documents)
            for split, wanted in SPLITS.items():
                splits[split] += [(sentence, name) for sentence in _examples(rest, wanted, name, seen)]
            corpus += rest
        folder = target / "topics" / domain
        kept = [text for text in sorted(corpus, key=_digest) if seen.isdisjoint((text, *_sentences(text)))]
        write_lines(folder / "corpus.jsonl", [json.dumps({"text": text}) for text in kept])
        for split, examples in splits.items():
            ordered = sorted(examples, key=lambda example: _digest(f"order of {example[0]}"))
            lines = [json.dumps({"text": sentence, "label": label}) for sentence, label in ordered]
            write_lines(folder / f"{split}.jsonl", lines)
    for period in PERIODS:
        for part in ("corpus", *SPLITS):
            path = f"temporal/{period}/{part}.jsonl"
            place(_existing(source, path), target / path)


def _examples(documents: Iterator[str], wanted: int, name: str, seen: set[str]) -> list[str]:
    """Take documents until `wanted` of them have given a sentence that none gave before."""
    found: list[str] = []
    for document in documents:
        fitting = [sentence for sentence in _sentences(document) if WORDS[0] <= len(sentence.split()) <= WORDS[1]]
        if fitting and (sentence := fitting[len(fitting) // 2]) not in seen:
            seen.add(sentence)
            found.append(sentence)
        if len(found) == wanted:
            return found
    raise BadData(f"domain/{name}/corpus.jsonl: has too few documents for {sum(SPLITS.values())} examples")


def _sentences(document: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", document)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _texts(root: Path, path: str) -> list[str]:
    lines = _existing(root, path).read_text(encoding="utf-8").splitlines()
    try:
        return list(dict.fromkeys(json.loads(line)["text"] for line in lines if line.strip()))
    except (ValueError, LookupError, TypeError) as error:
        raise BadData(f"{path}: not the file of the collection: {error}") from None


def _existing(root: Path, path: str) -> Path:
    if not (root / path).is_file():
        raise BadData(f"{path}: not in '{root.name}'; `ctbench prepare topics` says what the collection holds")
    return root / path
