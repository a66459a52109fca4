"""Entities in texts: words with tags as token ids, and F1 of spans by nervaluate, an extra of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ctbench.data.encode import filler, plain_tokenizer
from ctbench.data.examples import Example
from ctbench.errors import BadConfig, BadData, first_line

OUTSIDE: Final = "O"
"""Tag of a word that is part of no entity."""

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SpanSplit:
    """Examples of one split as token ids.

    Attributes:
        ids: token ids of each text, special tokens included; n arrays of their own lengths.
        firsts: place of the first token of each word, -1 of a word that is cut off; n arrays [number of words].
        lasts: likewise of the last token.
        tags: number of each word's tag in `SpanData.labels`, n arrays [number of words].
        labels: the tags by their numbers.
    """

    ids: tuple[Ids, ...]
    firsts: tuple[Ids, ...]
    lasts: tuple[Ids, ...]
    tags: tuple[Ids, ...]
    labels: tuple[str, ...]

    @property
    def lengths(self) -> Ids:
        """Number of tokens of each text, [n]."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class SpanData:
    """A task of kind spans ready for fine-tuning.

    Attributes:
        labels: the tags, sorted.
        validation: None where the task has none.
        majority: None: naming no entity is no accuracy.
        baseline: score of naming no entity.
    """

    labels: tuple[str, ...]
    train: SpanSplit
    validation: SpanSplit | None
    test: SpanSplit
    baseline: Mapping[str, float]
    majority: None = None


def require_nervaluate(whose: str) -> None:
    """Refuse a task of kind spans where the package that scores it is missing; raises BadConfig."""
    if importlib.util.find_spec("nervaluate") is None:
        raise BadConfig(f"{whose}: kind 'spans' is scored by the package nervaluate: pip install 'ctbench[spans]'")


def encode_spans(
    splits: Sequence[Sequence[Example]], labels: Sequence[str], tokenizer: Any, *, max_length: int
) -> SpanData:
    """Tokenise the examples of a task of kind spans.

    Args:
        splits: training, validation and test examples.
        labels: the tags.
        tokenizer: a fast tokenizer of transformers.
        max_length: longest text in tokens; longer ones are cut at the end, and the words there count as no entity.

    Raises:
        BadData: the tokenizer fails.
    """
    backend = plain_tokenizer(tokenizer)
    backend.enable_truncation(max_length)
    spare = filler(tokenizer)
    train, validation, test = (_encode(each, tuple(labels), backend, spare) if each else None for each in splits)
    assert train is not None and test is not None
    return SpanData(
        labels=tuple(labels), train=train, validation=validation, test=test, baseline=trivial_spans(splits[2])
    )


def _encode(examples: Sequence[Example], labels: tuple[str, ...], backend: Any, spare: int) -> SpanSplit:
    try:
        encodings = backend.encode_batch([example.text for example in examples])  # the fast way knows no offsets
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise BadData(f"the tokenizer of the model cannot encode a text: {first_line(error)}") from None
    places = [_places(example.words, encoding.offsets) for example, encoding in zip(examples, encodings, strict=True)]
    numbers = {label: number for number, label in enumerate(labels)}
    return SpanSplit(
        ids=tuple(np.array(encoding.ids or [spare], dtype=np.int64) for encoding in encodings),
        firsts=tuple(first for first, _ in places),
        lasts=tuple(last for _, last in places),
        tags=tuple(np.array([numbers[tag] for tag in example.labels], dtype=np.int64) for example in examples),
        labels=labels,
    )


def _places(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> tuple[Ids, Ids]:
    """Return the places of the first and the last token of each word, -1 where it has none; words stand a space apart."""
    firsts, lasts = np.full(len(words), -1), np.full(len(words), -1)
    start = 0
    for number, word in enumerate(words):
        end = start + len(word)
        inside = [place for place, (left, right) in enumerate(offsets) if left < end and right > start and right > left]
        if inside:
            firsts[number], lasts[number] = inside[0], inside[-1]
        start = end + 1
    return firsts, lasts


def score_spans(targets: Sequence[Sequence[str]], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the micro-averaged F1 of entities whose limits and type are both right ("strict" of nervaluate).

    Args:
        targets: tags of the words of each text, as B-x, I-x and O.
        answers: likewise.
    """
    from nervaluate import Evaluator

    types = sorted({tag[2:] for tags in (*targets, *answers) for tag in tags if tag != OUTSIDE})
    texts, named = ([list(tags) for tags in side] for side in (targets, answers))
    found = Evaluator(texts, named, tags=types, loader="list").evaluate()
    return {"span_f1": float(found["overall"]["strict"].f1)}


def trivial_spans(test: Sequence[Example]) -> dict[str, float]:
    """Return the score of naming no entity."""
    return score_spans([example.labels for example in test], [[OUTSIDE] * len(example.labels) for example in test])
