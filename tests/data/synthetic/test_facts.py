"""Facts of the periods of a language: right by the lexicons, and told apart by what was before."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from small_streams import write_stream

from ctbench.data.knobs import Language
from ctbench.data.sources import read_examples, task_fingerprint
from ctbench.data.stream import load_stream
from ctbench.data.synthetic.facts import language_facts
from ctbench.data.synthetic.language import language_texts
from ctbench.data.synthetic.lexicon import make_world
from ctbench.data.tasks import check_task
from ctbench.errors import BadConfig, UnknownName

LANGUAGE = Language(num_domains=3, num_classes=4, words_per_class=20, drift=0.2, turnover=0.1)


def classes_of(lexicon, world):
    return {str(world.words[word]): label for label, words in enumerate(lexicon) for word in words}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_facts_are_those_of_the_lexicons(number):
    world = make_world(LANGUAGE, "temporal")
    now = classes_of(world.lexicons[number], world)
    before = classes_of(world.general if number == 0 else world.lexicons[number - 1], world)
    anchors = classes_of(world.anchors, world)
    facts = list(language_facts(LANGUAGE, f"period-{number + 1}"))
    assert {fact.word: fact.label for fact in facts} == now
    assert Counter(fact.group for fact in facts) == {"kept": 4 * 14, "changed": 4 * 4, "new": 4 * 2}
    for fact in facts:
        assert [anchors[anchor] for anchor in fact.anchors] == [0, 1, 2, 3]
        was = before.get(fact.word)
        assert fact.group == ("new" if was is None else "kept" if was == fact.label else "changed")


def test_the_facts_repeat_and_an_unknown_period_is_refused():
    assert list(language_facts(LANGUAGE, "period-2")) == list(language_facts(LANGUAGE, "period-2"))
    with pytest.raises(UnknownName):
        next(language_facts(LANGUAGE, "period-9"))


def stream_with(tmp_path, *, kind="temporal", facts=True):
    path = write_stream(tmp_path, kind=kind)
    path.write_text(("facts = true\n" if facts else "") + path.read_text())
    return load_stream(path, registered=False)


def test_a_stream_asks_for_facts_without_training_examples(tmp_path):
    stream = stream_with(tmp_path)
    train, validation, test, labels = check_task(stream, stream.domains[1])
    assert (train, validation, labels, len(test)) == ([], [], (), 3 * 8)
    assert {example.group for example in test} <= {"kept", "changed", "new"}
    example = read_examples(stream, stream.domains[1], "test")[0]
    assert example.text.endswith(" ")
    assert example.rest.startswith(" ")
    plain = stream_with(tmp_path, facts=False)
    assert task_fingerprint(stream, stream.domains[1]) != task_fingerprint(plain, plain.domains[1])


def test_facts_of_a_stream_that_is_not_temporal_are_refused(tmp_path):
    with pytest.raises(BadConfig, match=r"facts need a \[language\] of kind 'temporal'"):
        stream_with(tmp_path, kind="domain")


def accuracies(text_of, facts_of):
    """Return the accuracies of who has counted which anchor stands in front of which word in the text of a period."""
    world = make_world(LANGUAGE, "temporal")
    anchors = classes_of(world.anchors, world)
    counts = Counter()
    for text in language_texts(LANGUAGE, "temporal", text_of, num_documents=1500):
        words = text.split()
        counts.update((anchors[first], word) for first, word in pairwise(words) if first in anchors)
    groups = {}
    for fact in language_facts(LANGUAGE, facts_of):
        best = max(range(4), key=lambda label: counts[label, fact.word])
        groups.setdefault(fact.group, []).append(best == fact.label)
    return {group: np.mean(found) for group, found in groups.items()}


def test_text_of_the_period_tells_all_facts_and_that_of_the_period_before_the_kept_ones_alone():
    now = accuracies("period-2", "period-2")
    assert now == {"kept": 1.0, "changed": 1.0, "new": 1.0}
    before = accuracies("period-1", "period-2")
    assert (before["kept"], before["changed"]) == (1.0, 0.0)
    assert before["new"] <= 0.5, "they are not in that text"
