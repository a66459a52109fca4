"""Answers in words: reading, tokens, exact match and F1 by hand."""

from __future__ import annotations

import json

import pytest

from ctbench.data.examples import Example
from ctbench.data.generation import encode_generation, score_answers, trivial_answers
from ctbench.data.sources import read_examples, task_fingerprint
from ctbench.data.stream import load_stream
from ctbench.data.tasks import encode_task
from ctbench.errors import BadConfig, BadData

RECORDS = [{"text": "a sharp", "label": "lens"}, {"text": "phone", "label": ["rings", "good"]}]


@pytest.fixture
def asked(folder):
    """Return a function from records and keys of the task to the stream and its domain camera."""

    def get(records=RECORDS, **keys):
        for name in ("train.jsonl", "test.jsonl"):
            (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
        given = {"train": "train.jsonl", "test": "test.jsonl", "kind": "generation", "metric": "exact_match", **keys}
        table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in given.items() if value is not None)
        text = (folder / "reviews.toml").read_text()
        start = text.index('task = { source = "files"')
        (folder / "asked.toml").write_text(
            f'{text[:start]}task = {{ source = "files", {table} }}{text[text.index(chr(10), start) :]}'
        )
        stream = load_stream(folder / "asked.toml", registered=False)
        return stream, stream.domain("camera")

    return get


def test_training_shows_text_answer_and_end_and_the_test_the_text_alone(asked, tokenizer):
    task = encode_task(*asked(max_answer=3), tokenizer, max_length=10)
    assert [ids.tolist() for ids in task.train.ids] == [[2, 7, 8, 9, 3], [2, 4, 6, 3]]
    assert task.train.starts.tolist() == [3, 2]
    assert [ids.tolist() for ids in task.test.ids] == [[2, 7, 8], [2, 4]]
    assert task.test.lengths.tolist() == [6, 5], "with the room for an answer"
    assert task.test.answers == (("lens",), ("rings", "good"))
    assert task.majority is None
    assert encode_task(*asked(zero_shot=True, train=None, max_answer=3), tokenizer, max_length=10).train is None


def test_a_text_loses_its_beginning_and_an_answer_nothing(tokenizer):
    example = Example(text="phone number rings", label="good bad", labels=("good bad",))
    task = encode_generation(([example], [], [example]), tokenizer, max_length=5, max_answer=3, whose="task")
    assert (task.train.ids[0].tolist(), task.test.ids[0].tolist()) == ([5, 6, 10, 11, 3], [5, 6])
    with pytest.raises(BadConfig, match=r"max_answer is 5, and of finetune\.max_length = 5 tokens none is left"):
        encode_generation(([example], [], [example]), tokenizer, max_length=5, max_answer=5, whose="task")
    with pytest.raises(BadData, match="the answer 'good bad' has 2 tokens"):
        encode_generation(([example], [], [example]), tokenizer, max_length=3, max_answer=1, whose="task")


def test_exact_match_and_f1_are_those_counted_by_hand():
    targets = [("the blue sea", "ocean"), ("two red boats",), ("none",)]
    # "Blue sea!" is right; two of three words each way: 2 * 2 / (3 + 3); nothing in common.
    scores = score_answers(targets, ["Blue sea!", "red boats sail", ""])
    assert scores["exact_match"] == pytest.approx(1 / 3)
    assert scores["token_f1"] == pytest.approx((1 + 4 / 6 + 0) / 3)
    assert score_answers([("ocean", "sea")], ["sea"])["exact_match"] == 1.0, "the best of several"


def test_the_most_frequent_training_answer_is_the_baseline():
    def of(*answers):
        return [Example(text="x", label=answer, labels=(answer,)) for answer in answers]

    assert trivial_answers(of("b", "a", "b"), of("b", "a c"))["exact_match"] == 0.5
    assert trivial_answers([], of("b"))["token_f1"] == 0.0


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "a", "label": []}, "test.jsonl:1: field 'label' holds no answer"),
        ({"text": "a", "label": " "}, "field 'label' is empty"),
        ({"text": "a", "label": ["x", "y\nz"]}, r"field 'label\[1\]' has several lines"),
        ({"text": "a", "label": ["x", 3]}, r"field 'label\[1\]' must be text"),
    ],
)
def test_a_broken_answer_is_refused_with_its_line(asked, record, message):
    stream, domain = asked([record])
    with pytest.raises(BadData, match=message):
        read_examples(stream, domain, "test")


def test_keys_that_do_not_fit_are_refused_and_those_that_do_enter_the_fingerprint(asked):
    with pytest.raises(BadConfig, match="max_answer needs kind 'generation'"):
        asked(kind="classification", metric="accuracy", max_answer=3)
    with pytest.raises(BadConfig, match="kind 'generation' has neither pair nor labels"):
        asked(pair="x")
    with pytest.raises(BadConfig, match="allowed: exact_match, token_f1"):
        asked(metric="accuracy")
    assert task_fingerprint(*asked()) != task_fingerprint(*asked(max_answer=3))
