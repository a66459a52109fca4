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

import itertools
from collections.abc import Iterator
from typing import Literal

import numpy as np

from ctbench.data.knobs import Language
from ctbench.data.synthetic.lexicon import Ids, Kind, World, make_world, pick, shuffle_rows
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

_CHUNK = 1000


def domain_names(language: Language, kind: Kind) -> tuple[str, ...]:
    """Return the names of the domains or periods.

    Examples:
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
        labels = pick(generator, language.num_classes, _CHUNK)
        classes = _clause_classes(language, generator, labels, language.clauses)
        content = _draw(generator, lexicon, classes)
        if domain is None:
            every_word = np.unique(np.concatenate([world.general.ravel(), world.lexicons.ravel()]))
            strays = every_word[pick(generator, len(every_word), content.shape)]
            content = np.where(generator.random(content.shape) < language.background, strays, content)
        anchors = _draw(generator, world.anchors, classes)
        fillers = world.functions[pick(generator, len(world.functions), content.shape)]
        second = np.where(generator.random(content.shape) < language.anchor_fraction, anchors, fillers)
        texts = _write(world, generator, second, content)
        yield from itertools.islice(texts, num_documents - start)


def language_task(
    language: Language, kind: Kind, domain: str, split: Literal["train", "validation", "test"]
) -> list[tuple[str, str]]:
    """Return the (text, label) pairs of a split of a domain's end task; raises UnknownName."""
    world = make_world(language, kind)
    labels, content, generator = _draw_task(language, kind, domain, split)
    fillers = world.functions[pick(generator, len(world.functions), content.shape)]
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


def _draw_task(language: Language, kind: Kind, domain: str, split: str) -> tuple[Ids, Ids, np.random.Generator]:
    """Draw labels [n] and content words [n, clauses] of a split; the generator goes on to the words that do not matter."""
    lexicon = _lexicon(language, kind, domain)
    sizes = {"train": language.num_train, "validation": language.num_validation, "test": language.num_test}
    generator = make_generator(language.seed, [kind, domain], f"language {split}")
    labels = np.arange(sizes[split]) % language.num_classes
    labels = labels[np.argsort(generator.random(len(labels)), kind="stable")]
    if split == "train":
        num_shown = max(1, round((1 - language.scarcity) * lexicon.shape[1]))
        lexicon = shuffle_rows(generator, lexicon)[:, :num_shown]
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
    others = (labels[:, None] + 1 + pick(generator, language.num_classes - 1, shape)) % language.num_classes
    return np.where(generator.random(shape) < language.noise, others, labels[:, None])


def _draw(generator: np.random.Generator, lexicon: Ids, classes: Ids) -> Ids:
    """Draw a word of `lexicon` [C, W] for each class of `classes`."""
    drawn: Ids = lexicon[classes, pick(generator, lexicon.shape[1], classes.shape)]
    return drawn


def _write(world: World, generator: np.random.Generator, second: Ids, content: Ids) -> Iterator[str]:
    """Write sentences from the second and third words of their clauses, both [n, clauses]."""
    first = world.functions[pick(generator, len(world.functions), content.shape)]
    clauses = np.stack([first, second, content], axis=2).reshape(len(content), 3 * content.shape[1])
    return (" ".join(row) for row in world.words[clauses])


def _number(prefix: str, count: int) -> tuple[str, ...]:
    digits = len(str(count))
    return tuple(f"{prefix}-{index:0{digits}d}" for index in range(1, count + 1))
