"""Entities: reading words with tags, the tokens of each word, F1 of spans by hand."""

from __future__ import annotations

import json
import sys

import pytest

from ctbench.data import sources
from ctbench.data.examples import Example
from ctbench.data.sources import read_examples, task_fingerprint
from ctbench.data.spans import _places, encode_spans, score_spans, trivial_spans
from ctbench.data.stream import load_stream
from ctbench.data.tasks import check_task, encode_task
from ctbench.errors import BadConfig, BadData

pytest.importorskip("nervaluate")

RECORDS = [
    {"text": ["phone", "rings"], "label": ["B-thing", "O"]},
    {"text": ["a", "sharp", "lens"], "label": ["O", "B-thing", "I-thing"]},
]


@pytest.fixture
def asked(folder):
    """Return a function from records and keys of the task to the stream and its domain camera."""

    def get(records=RECORDS, tests=RECORDS, **keys):
        for name, found in (("train.jsonl", records), ("test.jsonl", tests)):
            (folder / name).write_text("".join(json.dumps(record) + "\n" for record in found))
        given = {"train": "train.jsonl", "test": "test.jsonl", "kind": "spans", "metric": "span_f1", **keys}
        table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in given.items())
        text = (folder / "reviews.toml").read_text()
        start = text.index('task = { source = "files"')
        (folder / "spans.toml").write_text(
            f'{text[:start]}task = {{ source = "files", {table} }}{text[text.index(chr(10), start) :]}'
        )
        stream = load_stream(folder / "spans.toml", registered=False)
        return stream, stream.domain("camera")

    return get


def test_words_and_tags_become_tokens_and_places(asked, tokenizer):
    task = encode_task(*asked(), tokenizer, max_length=10)
    assert task.labels == ("B-thing", "I-thing", "O")
    assert [ids.tolist() for ids in task.test.ids] == [[2, 4, 6, 3], [2, 7, 8, 9, 3]]
    assert [places.tolist() for places in task.test.firsts] == [[1, 2], [1, 2, 3]]
    assert [tags.tolist() for tags in task.test.tags] == [[0, 2], [2, 0, 1]]
    assert (task.majority, task.baseline) == (None, {"span_f1": 0.0})


def test_a_word_that_is_cut_off_has_no_place(tokenizer):
    example = Example(text="a sharp lens", label="", words=("a", "sharp", "lens"), labels=("O", "O", "O"))
    split = encode_spans(([example], [], [example]), ("O",), tokenizer, max_length=4).test
    assert split.ids[0].tolist() == [2, 7, 8, 3]
    assert split.firsts[0].tolist() == split.lasts[0].tolist() == [1, 2, -1]


def test_first_and_last_token_of_a_word_are_found_by_their_characters():
    offsets = [(0, 0), (0, 1), (1, 2), (2, 4), (0, 0)]  # a subword tokenizer: a, b, and a space with c
    firsts, lasts = _places(("ab", "c"), offsets)
    assert (firsts.tolist(), lasts.tolist()) == ([1, 3], [2, 3])


def test_f1_of_spans_is_that_counted_by_hand():
    targets = [["B-a", "I-a", "O", "B-b"], ["O", "O", "B-a", "B-a"]]
    answers = [["B-a", "I-a", "O", "B-a"], ["B-b", "O", "B-a", "I-a"]]
    # 4 entities; 4 are named: one right, one of another type, one where none is, one over two of them.
    assert score_spans(targets, answers)["span_f1"] == pytest.approx(2 * 1 / (4 + 4))
    assert score_spans(targets, targets) == {"span_f1": 1.0}
    assert score_spans([["O"]], [["O"]]) == {"span_f1": 0.0}, "nothing to find: the score says nothing"
    assert trivial_spans([Example(text="x", label="", words=("x",), labels=("B-a",))]) == {"span_f1": 0.0}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "a phone", "label": ["O", "O"]}, r"test.jsonl:1: field 'text' must be a list of words"),
        ({"text": ["a"], "label": []}, r"field 'label' must be a list of words or of their tags"),
        ({"text": ["a", "b"], "label": ["O"]}, r"2 words in 'text' have 1 tags in 'label'"),
        ({"text": ["a"], "label": ["thing"]}, r"must be O, B-x or I-x, found 'thing'"),
        ({"text": ["a"], "label": ["B-"]}, r"must be O, B-x or I-x"),
        ({"text": ["a", " "], "label": ["O", "O"]}, r"field 'text\[1\]' is empty"),
    ],
)
def test_broken_tags_are_refused_with_their_line(asked, record, message):
    stream, domain = asked(tests=[record])
    with pytest.raises(BadData, match=message):
        read_examples(stream, domain, "test")


def test_a_tag_that_training_never_shows_and_keys_that_do_not_fit_are_refused(asked):
    stream, domain = asked(tests=[{"text": ["a"], "label": ["B-other"]}])
    with pytest.raises(BadData, match="label 'B-other' is in the test but not in the training examples"):
        check_task(stream, domain)
    with pytest.raises(BadConfig, match="metric 'accuracy' is not of kind 'spans'; allowed: span_f1"):
        asked(metric="accuracy")
    with pytest.raises(BadConfig, match="reads single texts and no pair"):
        asked(pair="x")


def test_without_nervaluate_the_task_is_refused_with_the_way_out(asked, monkeypatch):
    stream, domain = asked()
    monkeypatch.setitem(sys.modules, "nervaluate", None)
    with pytest.raises(BadConfig, match=r"pip install 'ctbench\[spans\]'"):
        check_task(stream, domain)


def test_the_version_of_tagging_enters_the_fingerprint_of_spans_alone(asked, monkeypatch):
    others = [
        asked(kind=kind, metric=metric) for kind, metric in (("classification", "accuracy"), ("generation", "token_f1"))
    ]
    before = [task_fingerprint(*each) for each in (asked(), *others)]
    monkeypatch.setattr(sources, "TAGGING_VERSION", sources.TAGGING_VERSION + 1)
    after = [task_fingerprint(*each) for each in (asked(), *others)]
    assert after[0] != before[0]
    assert after[1:] == before[1:]
