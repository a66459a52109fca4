"""Finding labelled texts inside raw text, with memory that grows with the labelled texts only.

Texts are compared as sequences of lower-case words (characters, in scripts without spaces), so that spacing, punctuation
and entity marks do not hide a copy. A text counts as found where a document shares `WINDOW` words in a row with it, or
holds all of a shorter one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WINDOW = 13
"""Words in a row that two texts do not share by chance."""

SHORT = 6
"""Texts of fewer words are only found as a whole document: phrases of that length recur by chance."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Thai to Khmer, kana, Han: written without spaces, so every character counts as a word."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MASK = 2**64 - 1

Hashes = npt.NDArray[np.uint64]


def normalise(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation.

    Examples:
        >>> normalise("The << lens >> isn't sharp.")
        ['the', 'lens', 'isn', 't', 'sharp']
    """
    return _WORD.findall(text.casefold())


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A labelled text that a document holds.

    Attributes:
        text: number of the text, in the order in which the index was given them.
        document: number of the document, from 0.
    """

    text: int
    document: int


class LeakIndex:
    """An index of labelled texts, to be looked for in any amount of raw text.

    Examples:
        >>> index = LeakIndex(["the lens of this camera is sharp"])
        >>> [hit.document for hit in index.find(["a phone", "I say: the lens of this camera is sharp!"])]
        [1]
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._words = [normalise(text) for text in texts]
        self._whole: dict[tuple[str, ...], list[int]] = {}
        long: list[tuple[int, int]] = []
        short: list[tuple[int, int]] = []
        for number, words in enumerate(self._words):
            if len(words) >= WINDOW:
                long += [(value, number) for value in _windows(words, WINDOW).tolist()]
            elif len(words) >= SHORT:
                short.append((int(_windows(words, SHORT)[0]), number))
            elif words:
                self._whole.setdefault(tuple(words), []).append(number)
        self._long, self._short = _Table(long), _Table(short)
        self.num_short = sum(len(words) < SHORT for words in self._words)
        """Texts that are found as whole documents only."""

    def find(self, documents: Iterable[str]) -> Iterator[Hit]:
        """Yield what the documents hold, every text of a document once."""
        for number, document in enumerate(documents):
            words = normalise(document)
            found = set(self._long.owners(_windows(words, WINDOW)))
            if len(words) < SHORT:
                found.update(self._whole.get(tuple(words), ()))
            for place, text in self._short.matches(_windows(words, SHORT)):
                wanted = self._words[text]
                if words[place : place + len(wanted)] == wanted:
                    found.add(text)
            for text in sorted(found):
                yield Hit(text=text, document=number)


class _Table:
    """Hashes with the texts that they belong to, sorted for look-up."""

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        hashes = np.array([value for value, _ in pairs], dtype=np.uint64)
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._texts = np.array([text for _, text in pairs], dtype=np.int64)[order]

    def matches(self, hashes: Hashes) -> Iterator[tuple[int, int]]:
        """Yield (place in `hashes`, text) of every agreement."""
        if not len(self._hashes) or not len(hashes):
            return
        first = np.searchsorted(self._hashes, hashes, side="left")
        hit = self._hashes[np.minimum(first, len(self._hashes) - 1)] == hashes
        for place in np.flatnonzero(hit).tolist():
            last = np.searchsorted(self._hashes, hashes[place], side="right")
            for entry in range(int(first[place]), int(last)):
                yield place, int(self._texts[entry])

    def owners(self, hashes: Hashes) -> Iterator[int]:
        return (text for _, text in self.matches(hashes))


def _windows(words: Sequence[str], length: int) -> Hashes:
    """Return a 64-bit hash of every run of `length` words, [len(words) - length + 1]."""
    count = len(words) - length + 1
    if count < 1:
        return np.empty(0, dtype=np.uint64)
    each = np.array([hash(word) & _MASK for word in words], dtype=np.uint64)
    total = np.zeros(count, dtype=np.uint64)
    for offset in range(length):
        total = total * _FACTOR + each[offset : offset + count]
    return total
