"""Words and lexicons of the synthetic language: who has which class where.

Legend: C classes, W words per class, A anchors per class, N domains. `ctbench.data.synthetic.language` defines the language.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ctbench.data.knobs import Language
from ctbench.randomness import make_generator

Kind = Literal["domain", "temporal"]
Ids = npt.NDArray[np.int64]
Fresh = Callable[..., Ids]
"""Gives numbers of new words in the shape asked for."""

_ONSETS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_CODAS = ("", "l", "n", "r", "s")


@dataclass(frozen=True, kw_only=True)
class World:
    """A language worked out: C classes, W words per class, A anchors per class, N domains.

    Attributes:
        words: all words by their number.
        functions: numbers of the function words.
        anchors: [C, A].
        general: lexicon of general text, [C, W].
        lexicons: lexicons of the domains, [N, C, W].
    """

    words: npt.NDArray[np.object_]
    functions: Ids
    anchors: Ids
    general: Ids
    lexicons: Ids


@functools.lru_cache(maxsize=8)
def make_world(language: Language, kind: Kind) -> World:
    """Draw the words and lexicons of a language."""
    generator = make_generator(language.seed, [kind], "language lexicons")
    num_classes, width = language.num_classes, language.words_per_class
    counter = itertools.count()

    def fresh(*shape: int) -> Ids:
        return np.array([next(counter) for _ in range(int(np.prod(shape)))], dtype=np.int64).reshape(shape)

    functions = fresh(language.num_function_words)
    anchors = fresh(num_classes, language.num_anchors)
    general = fresh(num_classes, width)
    lexicons = []
    before = general if kind == "temporal" else None
    for _ in range(language.num_domains):
        if kind == "temporal":
            assert before is not None
            before = _age(language, generator, before, fresh)
            lexicons.append(before)
        else:
            lexicon, before = _settle(language, generator, general, before, fresh)
            lexicons.append(lexicon)
    num_words = next(counter)
    words = _spell(make_generator(language.seed, [kind], "language words"), len(functions), num_words)
    return World(words=words, functions=functions, anchors=anchors, general=general, lexicons=np.stack(lexicons))


def _settle(
    language: Language, generator: np.random.Generator, general: Ids, before: Ids | None, fresh: Fresh
) -> tuple[Ids, Ids]:
    """Make the lexicon [C, W] of a domain and return it with its new words [C, X], from which the next domain takes."""
    num_classes, width = general.shape
    num_shared, num_moved = round(language.sharing * width), round(language.polysemy * width)
    num_moved = min(num_moved, width - num_shared)
    num_new = width - num_shared - num_moved
    mixed = shuffle_rows(generator, general)
    shared, moved = mixed[:, :num_shared], _move(generator, mixed[:, num_shared : num_shared + num_moved])
    num_taken = 0 if before is None else min(round(language.transfer * width), num_new)
    own = fresh(num_classes, num_new - num_taken)
    new = own if before is None else np.concatenate([shuffle_rows(generator, before)[:, :num_taken], own], axis=1)
    return np.concatenate([shared, moved, new], axis=1), new


def _age(language: Language, generator: np.random.Generator, before: Ids, fresh: Fresh) -> Ids:
    """Make the lexicon [C, W] of the period that follows `before`."""
    num_classes, width = before.shape
    num_dead, num_moved = round(language.turnover * width), round(language.drift * width)
    num_moved = min(num_moved, width - num_dead)
    mixed = shuffle_rows(generator, before)
    born = fresh(num_classes, num_dead)
    moved = _move(generator, mixed[:, num_dead : num_dead + num_moved])
    return np.concatenate([born, moved, mixed[:, num_dead + num_moved :]], axis=1)


def _move(generator: np.random.Generator, words: Ids) -> Ids:
    """Give every word [C, X] another class; each class loses and gains X words."""
    num_classes, num_moved = words.shape
    shifts = 1 + pick(generator, num_classes - 1, num_moved)
    moved: Ids = words[(np.arange(num_classes)[:, None] - shifts) % num_classes, np.arange(num_moved)]
    return moved


def pick(generator: np.random.Generator, high: int, shape: int | tuple[int, ...]) -> Ids:
    """Draw whole numbers below `high`, from doubles only: numpy keeps that stream the same over its versions."""
    return (generator.random(shape) * high).astype(np.int64)


def shuffle_rows(generator: np.random.Generator, words: Ids) -> Ids:
    """Put the words of each class [C, W] in random order."""
    return np.take_along_axis(words, np.argsort(generator.random(words.shape), axis=1, kind="stable"), axis=1)


def _spell(generator: np.random.Generator, num_short: int, num_words: int) -> npt.NDArray[np.object_]:
    """Make `num_words` different words: the first `num_short` of one syllable, the others of two or more."""
    num_open = len(_ONSETS) * len(_VOWELS)
    num_syllables = 2
    while num_open**num_syllables * len(_CODAS) < 2 * num_words:
        num_syllables += 1
    spoken: list[str] = []
    for count, syllables in ((num_short, 1), (num_words - num_short, num_syllables)):
        order = np.argsort(generator.random(num_open**syllables * len(_CODAS)), kind="stable")
        spoken += [_syllables(int(code), syllables) for code in order[:count]]
    return np.array(spoken, dtype=object)


def _syllables(code: int, count: int) -> str:
    code, coda = divmod(code, len(_CODAS))
    parts = []
    for _ in range(count):
        code, vowel = divmod(code, len(_VOWELS))
        code, onset = divmod(code, len(_ONSETS))
        parts.append(_ONSETS[onset] + _VOWELS[vowel])
    return "".join(parts) + _CODAS[coda]
