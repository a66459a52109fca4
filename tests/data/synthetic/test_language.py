from __future__ import annotations

import itertools

import numpy as np
import pytest

from ctbench.data.knobs import Language
from ctbench.data.synthetic.language import bayes_accuracy, domain_names, label_names, language_task, language_texts
from ctbench.data.synthetic.lexicon import make_world
from ctbench.errors import UnknownName

LANGUAGE = Language(num_domains=3, num_classes=5, words_per_class=20, sharing=0.5, polysemy=0.2, transfer=0.1)
KINDS = ["domain", "temporal"]


def classes_of(lexicon):
    return {word: number for number, words in enumerate(lexicon.tolist()) for word in words}


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_different_strings_and_have_one_class_in_a_lexicon(kind):
    world = make_world(LANGUAGE, kind)
    assert len(set(world.words)) == len(world.words)
    assert all(word.isalpha() and word.isascii() and word.islower() for word in world.words)
    for lexicon in (world.general, *world.lexicons):
        assert lexicon.shape == (5, 20)
        assert len(np.unique(lexicon)) == 100


def test_domain_lexicon_has_the_shares_that_the_knobs_say():
    world = make_world(LANGUAGE, "domain")
    general = classes_of(world.general)
    before: dict[int, int] = {}
    subsets = []
    for number, lexicon in enumerate(world.lexicons):
        here = classes_of(lexicon)
        shared = {word for word, of in here.items() if general.get(word) == of}
        moved = {word for word, of in here.items() if word in general and general[word] != of}
        new = here.keys() - general.keys()
        taken = {word for word in new if word in before}
        assert len(shared) == 50
        assert len(moved) == 20
        assert len(taken) == (10 if number else 0)
        assert all(here[word] == before[word] for word in taken)
        assert all(sum(here[word] == of for word in moved) == 4 for of in range(5))
        before = here
        subsets.append(frozenset(shared))
    assert len(set(subsets)) == 3


def test_periods_drift_and_turn_over_by_the_shares_that_the_knobs_say():
    world = make_world(LANGUAGE, "temporal")
    dead: set[int] = set()
    for before, after in itertools.pairwise([world.general, *world.lexicons]):
        old, new = classes_of(before), classes_of(after)
        assert len(new.keys() - old.keys()) == 15  # turnover 0.15
        assert sum(new[word] != old[word] for word in new.keys() & old.keys()) == 15  # drift 0.15
        dead |= old.keys() - new.keys()
        assert not dead & new.keys()


def test_without_drift_and_turnover_every_period_is_alike():
    world = make_world(Language(drift=0.0, turnover=0.0), "temporal")
    assert all(classes_of(lexicon) == classes_of(world.general) for lexicon in world.lexicons)


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_have_the_noise_and_the_anchors_that_the_knobs_say(kind):
    world = make_world(LANGUAGE, kind)
    number = {word: index for index, word in enumerate(world.words)}
    anchors, content = classes_of(world.anchors), classes_of(world.lexicons[1])
    functions = set(world.functions.tolist())
    num_clauses = num_anchors = num_off = 0
    for text in language_texts(LANGUAGE, kind, domain_names(LANGUAGE, kind)[1], num_documents=2000):
        words = [number[word] for word in text.split()]
        assert len(words) == 30
        assert functions.issuperset(words[::3])
        of = [content[word] for word in words[2::3]]
        topic = max(set(of), key=of.count)
        num_clauses += len(of)
        num_off += sum(one != topic for one in of)
        for second, clause in zip(words[1::3], of, strict=True):
            assert second in functions or anchors[second] == clause
            num_anchors += second in anchors
    assert num_anchors / num_clauses == pytest.approx(0.6, abs=0.02)
    assert num_off / num_clauses == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_general_text_holds_every_word_of_every_domain_and_mostly_general_ones(kind):
    world = make_world(LANGUAGE, kind)
    number = {word: index for index, word in enumerate(world.words)}
    found = [number[word] for text in language_texts(LANGUAGE, kind, None, num_documents=3000) for word in text.split()]
    assert set(found) == set(range(len(world.words)))
    content = np.array(found).reshape(-1, 3)[:, 2]
    every_word = np.unique(np.concatenate([world.general.ravel(), world.lexicons.ravel()]))
    wanted = 0.9 + 0.1 * world.general.size / len(every_word)
    assert np.isin(content, world.general).mean() == pytest.approx(wanted, abs=0.01)


def test_task_is_balanced_without_anchors_and_training_shows_half_of_the_lexicon():
    world = make_world(LANGUAGE, "domain")
    number = {word: index for index, word in enumerate(world.words)}
    shown = {}
    for split, size in (("train", 200), ("validation", 300), ("test", 1000)):
        examples = language_task(LANGUAGE, "domain", "domain-2", split)
        labels = [label for _, label in examples]
        assert {label: labels.count(label) for label in label_names(LANGUAGE)} == dict.fromkeys(
            label_names(LANGUAGE), size // 5
        )
        words = {number[word] for text, _ in examples for word in text.split()}
        assert not words & set(world.anchors.ravel().tolist())
        shown[split] = words & set(world.lexicons[1].ravel().tolist())
        assert all(len(text.split()) == 12 for text, _ in examples)
    assert len(shown["train"]) == 50
    assert len(shown["test"]) == 100


def test_splits_and_held_out_text_are_drawn_apart():
    test = language_task(LANGUAGE, "domain", "domain-1", "test")
    train = language_task(LANGUAGE, "domain", "domain-1", "train")
    assert not {text for text, _ in test} & {text for text, _ in train}
    text = set(language_texts(LANGUAGE, "domain", "domain-1", "text", 3000))
    held_out = set(language_texts(LANGUAGE, "domain", "domain-1", "held_out", 3000))
    assert len(text) == 3000
    assert not text & held_out


def test_texts_depend_on_the_seed_alone_and_not_on_how_many_are_asked_for():
    first = list(language_texts(LANGUAGE, "domain", "domain-1", num_documents=10))
    assert list(language_texts(LANGUAGE, "domain", "domain-1", num_documents=1500))[:10] == first
    other = Language(num_domains=3, num_classes=5, words_per_class=20, sharing=0.5, polysemy=0.2, transfer=0.1, seed=1)
    assert list(language_texts(other, "domain", "domain-1", num_documents=10)) != first
    assert sum(1 for _ in language_texts(LANGUAGE, "domain", None)) == LANGUAGE.num_general_documents


def test_texts_are_the_published_ones():
    """A change here changes every number: raise GENERATOR_VERSION and the versions of the embedded streams."""
    assert next(language_texts(Language(), "domain", None)) == (
        "les gemus gikul tar gokel sesar kis nagar kivar nar lapal gunu ga pokis getil "
        "lir mal lunin pes nul fisor pin fizos fipir kor pes razer tis zubis lilil"
    )


def test_bayes_accuracy_agrees_with_the_full_posterior():
    lexicon = make_world(LANGUAGE, "domain").lexicons[0]
    number = {word: index for index, word in enumerate(make_world(LANGUAGE, "domain").words)}
    content = classes_of(lexicon)
    likelihood = np.full((5, 5), np.log(0.2 / 4 / 20))
    np.fill_diagonal(likelihood, np.log(0.8 / 20))
    hits = 0.0
    examples = language_task(LANGUAGE, "domain", "domain-1", "test")
    for text, label in examples:
        posterior = sum(likelihood[:, content[number[word]]] for word in text.split()[2::3])
        best = np.flatnonzero(np.isclose(posterior, np.max(posterior)))
        hits += (label_names(LANGUAGE).index(label) in best) / len(best)
    assert bayes_accuracy(LANGUAGE, "domain", "domain-1") == pytest.approx(hits / len(examples))


def test_bayes_accuracy_is_perfect_without_noise_and_falls_with_it():
    clean, noisy = Language(noise=0.0), Language(noise=0.5)
    assert bayes_accuracy(clean, "domain", "domain-1") == 1.0
    assert 0.3 < bayes_accuracy(noisy, "domain", "domain-1") < bayes_accuracy(Language(), "domain", "domain-1") < 1.0


def test_unknown_domain_is_refused():
    with pytest.raises(UnknownName, match="did you mean 'domain-1'"):
        next(language_texts(LANGUAGE, "domain", "domain1"))


@pytest.mark.parametrize(
    ("knobs", "wanted"),
    [
        ({"sharing": 0.8, "polysemy": 0.3}, "at most 1"),
        ({"drift": 0.8, "turnover": 0.3}, "at most 1"),
        ({"noise": 0.5, "num_classes": 2}, "noise"),
    ],
)
def test_knobs_that_contradict_each_other_are_refused(knobs, wanted):
    with pytest.raises(ValueError, match=wanted):
        Language(**knobs)


def test_no_validation_examples_leave_the_split_out():
    language = Language(num_validation=0)
    assert language_task(language, "domain", "domain-1", "validation") == []
    assert len(language_task(language, "domain", "domain-1", "train")) == language.num_train
