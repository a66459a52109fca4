"""The synthetic language: text whose meaning has to be learned from raw text, with known Bayes accuracy.

Words
    A word is a pronounceable string of syllables, unique in the language. There are *function words*, which say nothing,
    and for each of C latent classes *anchor words* and *content words*. Anchors keep their class everywhere. The class of
    a content word is a matter of the *lexicon*: a table of W words for each class, one table for general text and one
    for each domain. Within a lexicon a word has one class.

Lexicons
    Kind "domain": a share `sharing` of each class are words of the general lexicon in their general class, another
    choice in every domain; a share `polysemy` are general words that have another class in this domain (and are not in
    it in their general class); a share `transfer` are new words of the domain before, in the class they had there; the
    others are new words of the domain itself (in the first domain also in place of the transferred ones).
    Kind "temporal": the lexicon of a period is that of the period before (of the first one: the general lexicon), in
    which a share `turnover` of each class has died and given way to new-born words and a share `drift` has moved on
    to other classes, evenly.

Sentences
    A document of raw text is one sentence. It has a class c, all classes equally likely, and a number of clauses. The
    class of a clause is c, or with probability `noise` any other class, evenly. A clause is three words: a function
    word; with probability `anchor_fraction` an anchor of the clause's class, otherwise a function word; a content word
    of the clause's class. Words of a kind are equally likely. In general text a share `background` of the content words
    is drawn from all content words of all domains instead, without regard to class: no word is entirely new to a base.

End task
    The label of a text is the class c of its sentence, under the same names in all domains. Its sentences are shorter
    and have no anchors: what a word means has to come from raw text, or from the training examples, which show only a
    share 1 - `scarcity` of each class's words. Labels are balanced.

Bayes accuracy
    Whoever knows the domain's lexicon does best by naming the class of most content words: given c, a content word is
    of class c with probability 1 - noise and of each other class with noise / (C - 1), and uniform within it, so the
    likelihood grows with the number of words of class c as long as noise < (C - 1) / C. Ties are broken at random.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ctbench.data.settings import Language
from ctbench.errors import UnknownName
from ctbench.randomness import make_generator

__all__ = [
    "GENERATOR_VERSION",
    "Language",
    "bayes_accuracy",
    "domain_names",
    "label_names",
    "language_task",
    "language_texts",
]

GENERATOR_VERSION = 1
"""Raised whenever the same knobs give other texts; part of every fingerprint."""

Kind = Literal["domain", "temporal"]
Ids = npt.NDArray[np.int64]

_CHUNK = 1000
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


def domain_names(language: Language, kind: Kind) -> tuple[str, ...]:
    """Return the names of the domains or periods.

    Example:
        >>> domain_names(Language(num_domains=2), "temporal")
        ('period-1', 'period-2')
    """
    prefix = "period" if kind == "temporal" else "domain"
    return _number(prefix, language.num_domains)


def label_names(language: Language) -> tuple[str, ...]:
    """Return the labels, the same in all domains."""
    return _number("class", language.num_classes)


def language_texts(
    language: Language,
    kind: Kind,
    domain: str | None,
    purpose: Literal["text", "held_out"] = "text",
    num_documents: int | None = None,
) -> Iterator[str]:
    """Yield documents of raw text; the first n are the same however many are asked for.

    Args:
        language: the knobs.
        kind: kind of the stream.
        domain: a name of `domain_names`, None for general text.
        purpose: "text" to train on, "held_out" for text drawn apart from it.
        num_documents: how many, by default as many as the knobs say.

    Raises:
        UnknownName: no such domain.
    """
    lexicon = _lexicon(language, kind, domain)
    if num_documents is None:
        size = language.num_general_documents if domain is None else language.num_documents
        num_documents = language.num_held_out if purpose == "held_out" else size
    world = make_world(language, kind)
    generator = make_generator(language.seed, [kind, domain or "general"], f"language {purpose}")
    for start in range(0, num_documents, _CHUNK):
        labels = _pick(generator, language.num_classes, _CHUNK)
        classes = _clause_classes(language, generator, labels, language.clauses)
        content = _draw(generator, lexicon, classes)
        if domain is None:
            every_word = np.unique(np.concatenate([world.general.ravel(), world.lexicons.ravel()]))
            strays = every_word[_pick(generator, len(every_word), content.shape)]
            content = np.where(generator.random(content.shape) < language.background, strays, content)
        anchors = _draw(generator, world.anchors, classes)
        fillers = world.functions[_pick(generator, len(world.functions), content.shape)]
        second = np.where(generator.random(content.shape) < language.anchor_fraction, anchors, fillers)
        texts = _write(world, generator, second, content)
        yield from itertools.islice(texts, num_documents - start)


def language_task(
    language: Language, kind: Kind, domain: str, split: Literal["train", "validation", "test"]
) -> list[tuple[str, str]]:
    """Return the (text, label) pairs of a split of a domain's end task; raises UnknownName."""
    world = make_world(language, kind)
    labels, content, generator = _draw_task(language, kind, domain, split)
    fillers = world.functions[_pick(generator, len(world.functions), content.shape)]
    names = label_names(language)
    texts = _write(world, generator, fillers, content)
    return [(text, names[label]) for text, label in zip(texts, labels, strict=True)]


def bayes_accuracy(language: Language, kind: Kind, domain: str) -> float:
    """Return the accuracy on the test texts of the best classifier, which knows the domain's lexicon; raises UnknownName."""
    lexicon = _lexicon(language, kind, domain)
    labels, content, _ = _draw_task(language, kind, domain, "test")
    class_of = np.full(lexicon.max() + 1, -1)
    class_of[lexicon] = np.arange(language.num_classes)[:, None]
    votes = (class_of[content][:, :, None] == np.arange(language.num_classes)).sum(axis=1)
    is_best = votes == votes.max(axis=1, keepdims=True)
    hits = is_best[np.arange(len(labels)), labels] / is_best.sum(axis=1)
    return float(hits.mean())


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
    language: Language, generator: np.random.Generator, general: Ids, before: Ids | None, fresh: Any
) -> tuple[Ids, Ids]:
    """Make the lexicon [C, W] of a domain and return it with its new words [C, X], from which the next domain takes."""
    num_classes, width = general.shape
    num_shared, num_moved = round(language.sharing * width), round(language.polysemy * width)
    num_moved = min(num_moved, width - num_shared)
    num_new = width - num_shared - num_moved
    mixed = _shuffle_rows(generator, general)
    shared, moved = mixed[:, :num_shared], _move(generator, mixed[:, num_shared : num_shared + num_moved])
    num_taken = 0 if before is None else min(round(language.transfer * width), num_new)
    own = fresh(num_classes, num_new - num_taken)
    new = own if before is None else np.concatenate([_shuffle_rows(generator, before)[:, :num_taken], own], axis=1)
    return np.concatenate([shared, moved, new], axis=1), new


def _age(language: Language, generator: np.random.Generator, before: Ids, fresh: Any) -> Ids:
    """Make the lexicon [C, W] of the period that follows `before`."""
    num_classes, width = before.shape
    num_dead, num_moved = round(language.turnover * width), round(language.drift * width)
    num_moved = min(num_moved, width - num_dead)
    mixed = _shuffle_rows(generator, before)
    born = fresh(num_classes, num_dead)
    moved = _move(generator, mixed[:, num_dead : num_dead + num_moved])
    return np.concatenate([born, moved, mixed[:, num_dead + num_moved :]], axis=1)


def _move(generator: np.random.Generator, words: Ids) -> Ids:
    """Give every word [C, X] another class; each class loses and gains X words."""
    num_classes, num_moved = words.shape
    shifts = 1 + _pick(generator, num_classes - 1, num_moved)
    moved: Ids = words[(np.arange(num_classes)[:, None] - shifts) % num_classes, np.arange(num_moved)]
    return moved


def _draw_task(language: Language, kind: Kind, domain: str, split: str) -> tuple[Ids, Ids, np.random.Generator]:
    """Draw labels [n] and content words [n, clauses] of a split; the generator goes on to the words that do not matter."""
    lexicon = _lexicon(language, kind, domain)
    sizes = {"train": language.num_train, "validation": language.num_validation, "test": language.num_test}
    generator = make_generator(language.seed, [kind, domain], f"language {split}")
    labels = np.arange(sizes[split]) % language.num_classes
    labels = labels[np.argsort(generator.random(len(labels)), kind="stable")]
    if split == "train":
        num_shown = max(1, round((1 - language.scarcity) * lexicon.shape[1]))
        lexicon = _shuffle_rows(generator, lexicon)[:, :num_shown]
    classes = _clause_classes(language, generator, labels, language.task_clauses)
    return labels, _draw(generator, lexicon, classes), generator


def _lexicon(language: Language, kind: Kind, domain: str | None) -> Ids:
    world, names = make_world(language, kind), domain_names(language, kind)
    if domain is None:
        return world.general
    if domain not in names:
        raise UnknownName("domain", domain, names)
    lexicon: Ids = world.lexicons[names.index(domain)]
    return lexicon


def _clause_classes(language: Language, generator: np.random.Generator, labels: Ids, num_clauses: int) -> Ids:
    """Return the class of each clause, [n, clauses]."""
    shape = (len(labels), num_clauses)
    others = (labels[:, None] + 1 + _pick(generator, language.num_classes - 1, shape)) % language.num_classes
    return np.where(generator.random(shape) < language.noise, others, labels[:, None])


def _draw(generator: np.random.Generator, lexicon: Ids, classes: Ids) -> Ids:
    """Draw a word of `lexicon` [C, W] for each class of `classes`."""
    drawn: Ids = lexicon[classes, _pick(generator, lexicon.shape[1], classes.shape)]
    return drawn


def _write(world: World, generator: np.random.Generator, second: Ids, content: Ids) -> Iterator[str]:
    """Write sentences from the second and third words of their clauses, both [n, clauses]."""
    first = world.functions[_pick(generator, len(world.functions), content.shape)]
    clauses = np.stack([first, second, content], axis=2).reshape(len(content), -1)
    return (" ".join(row) for row in world.words[clauses])


def _pick(generator: np.random.Generator, high: int, shape: int | tuple[int, ...]) -> Ids:
    """Draw whole numbers below `high`, from doubles only: numpy keeps that stream the same over its versions."""
    return (generator.random(shape) * high).astype(np.int64)


def _shuffle_rows(generator: np.random.Generator, words: Ids) -> Ids:
    return np.take_along_axis(words, np.argsort(generator.random(words.shape), axis=1, kind="stable"), axis=1)


def _number(prefix: str, count: int) -> tuple[str, ...]:
    digits = len(str(count))
    return tuple(f"{prefix}-{index:0{digits}d}" for index in range(1, count + 1))


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
