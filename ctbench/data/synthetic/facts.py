"""Facts of a period of the synthetic language: which class a word has, and whether that is new, changed or as before.

A fact is a word of the period's lexicon in a clause whose anchor is missing: a function word, a gap, the word. Anchors keep
their class everywhere, so whoever knows the class of the word fills the gap with an anchor of that class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ctbench.data.knobs import Language
from ctbench.data.synthetic.language import domain_names
from ctbench.data.synthetic.lexicon import make_world, pick
from ctbench.errors import UnknownName
from ctbench.randomness import make_generator

Group = Literal["kept", "changed", "new"]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A word with its class.

    Attributes:
        function: the function word in front of the gap.
        anchors: an anchor of each class, C of them.
        word: the word behind the gap.
        label: number of the word's class in this period.
        group: "kept" if the word had this class in the period before (or in general text, of the first period), "changed"
            if it had another one, "new" if it was not there.
    """

    function: str
    anchors: tuple[str, ...]
    word: str
    label: int
    group: Group


def language_facts(language: Language, period: str) -> Iterator[Fact]:
    """Yield a fact for every word of a period of a temporal language; raises UnknownName.

    Examples:
        >>> small = Language(num_domains=2, num_classes=2, words_per_class=4, drift=0.25, turnover=0.25)
        >>> sorted({(fact.group, fact.label) for fact in language_facts(small, "period-2")})
        [('changed', 0), ('changed', 1), ('kept', 0), ('kept', 1), ('new', 0), ('new', 1)]
    """
    world, names = make_world(language, "temporal"), domain_names(language, "temporal")
    if period not in names:
        raise UnknownName("domain", period, names)
    number = names.index(period)
    before = world.general if number == 0 else world.lexicons[number - 1]
    known = {int(word): label for label, words in enumerate(before) for word in words}
    generator = make_generator(language.seed, ["temporal", period], "language facts")
    for label, words in enumerate(world.lexicons[number]):
        for word in words:
            places = pick(generator, world.anchors.shape[1], len(world.anchors))
            function = world.functions[pick(generator, len(world.functions), 1)[0]]
            group: Group = "new" if int(word) not in known else "kept" if known[int(word)] == label else "changed"
            yield Fact(
                function=str(world.words[function]),
                anchors=tuple(str(word) for word in world.words[world.anchors[np.arange(len(places)), places]]),
                word=str(world.words[word]),
                label=label,
                group=group,
            )
