"""How much of one text is inside another: documents compared by their content, in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ctbench.data.sources import read_texts

if TYPE_CHECKING:
    from ctbench.data.schema import Stream

MAX_KEPT: Final = 500_000
"""Documents that are remembered at most; of more, a share chosen by their content."""


class Documents:
    """Remembers the documents of a text, space and case levelled.

    Args:
        max_kept: documents that are remembered at most.

    Examples:
        >>> known = Documents()
        >>> list(known.remember(["One text.", "Another."])), known.share_of(["one  text.", "a third"])
        (['One text.', 'Another.'], 0.5)
    """

    def __init__(self, *, max_kept: int = MAX_KEPT) -> None:
        self._kept: set[int] = set()
        self._modulus = 1
        self._max = max_kept

    def remember(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield the texts, and remember them."""
        for text in texts:
            if (number := _number(text)) % self._modulus == 0:
                self._kept.add(number)
                while len(self._kept) > self._max:
                    self._modulus *= 2
                    self._kept = {each for each in self._kept if each % self._modulus == 0}
            yield text

    def share_of(self, texts: Iterable[str]) -> float:
        """Return the share of the texts that are remembered, in [0, 1]; 0 without texts."""
        counter = Share(self)
        for _ in counter.count(texts):
            pass
        return counter.share

    def looks_for(self, number: int) -> bool:
        """Return whether a document of a number would be remembered, had it been there."""
        return number % self._modulus == 0

    def __contains__(self, number: int) -> bool:
        return number in self._kept


def inside_general(stream: Stream) -> Iterator[tuple[str, float]]:
    """Yield every domain and the share of its documents, in [0, 1], that are in the stream's general text too.

    The domains of the synthetic language are drawn apart from its general text and left out.
    """
    if stream.general is None or stream.language is not None:
        return
    known = Documents()
    for _ in known.remember(read_texts(stream, stream.general, domain=None)):
        pass
    for domain in stream.domains:
        yield domain.name, known.share_of(read_texts(stream, domain.text, domain=domain.name))


class Share:
    """Counts the documents of a text that are among others, as they pass by."""

    def __init__(self, known: Documents) -> None:
        self._known = known
        self._looked = self._inside = 0

    def count(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield the texts, and count them."""
        for text in texts:
            number = _number(text)
            if self._known.looks_for(number):
                self._looked += 1
                self._inside += number in self._known
            yield text

    @property
    def share(self) -> float:
        """Share of the texts that are inside, in [0, 1]."""
        return self._inside / self._looked if self._looked else 0.0


def _number(text: str) -> int:
    levelled = " ".join(text.casefold().split())
    return int.from_bytes(hashlib.blake2b(levelled.encode("utf-8", "replace"), digest_size=8).digest(), "big")
