"""Multiple choice and cloze: reading, joining texts with answers, accuracy by log-probabilities."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from ctbench.data.choices import ChoiceSplit, encode_choices, score_choices
from ctbench.data.examples import Example
from ctbench.data.sources import read_examples, task_fingerprint
from ctbench.data.stream import load_stream
from ctbench.data.tasks import encode_task
from ctbench.errors import BadConfig, BadData

RECORDS = [
    {"text": "a sharp", "answers": ["lens", "phone rings"], "label": 1},
    {"text": "phone", "answers": ["rings", "lens", "good"], "label": "lens"},
]
OLD = 'task = { source = "files", train = "train.jsonl", validation = "train.jsonl", test = "test.jsonl" }'


@pytest.fixture
def asked(folder):
    """Return a function from keys of the task, and records, to the stream whose domain camera asks for a choice."""

    def get(records=RECORDS, **keys):
        for name in ("train.jsonl", "test.jsonl"):
            (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
        found = {"train": "train.jsonl", "test": "test.jsonl", "kind": "choice", "choices": "answers", **keys}
        found = {key: value for key, value in found.items() if value is not None}
        text = (folder / "reviews.toml").read_text()
        table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in found.items())
        (folder / "choice.toml").write_text(text.replace(OLD, f'task = {{ source = "files", {table} }}'))
        return load_stream(folder / "choice.toml", registered=False)

    return get


def of(stream):
    return stream, stream.domain("camera")


def test_the_label_is_the_right_answer_or_its_number(asked):
    first, second = read_examples(*of(asked()), "test")
    assert first == Example(text="a sharp", label="1", choices=("lens", "phone rings"))
    assert second.label == "1"
    assert read_examples(*of(asked([{"text": "", "answers": ["3", "0"], "label": "0"}])), "test")[0].label == "1"


def test_answers_may_stand_in_fields_of_their_own(asked):
    records = [{"text": "a", "one": "good", "two": "bad", "label": 0}]
    (example,) = read_examples(*of(asked(records, choices=["one", "two"])), "test")
    assert example.choices == ("good", "bad")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "a", "answers": ["x", "y"], "label": 2}, r"test.jsonl:1: .*its number, 0 to 1, found '2'"),
        ({"text": "a", "answers": ["x", "y"], "label": "z"}, r"must be one of the choices or its number"),
        ({"text": "a", "answers": ["x", "y"], "label": "9" * 5000}, r"its number, 0 to 1, found '9{59}$"),
        ({"text": "a", "answers": ["x"], "label": 0}, r"field 'answers' must be a list of at least two texts"),
        ({"text": "a", "answers": "xy", "label": 0}, r"field 'answers' must be a list of at least two texts"),
        ({"text": "a", "answers": ["x", " "], "label": 0}, r"field 'answers\[1\]' is empty"),
        ({"text": "a", "label": 0}, r"no field 'answers'"),
    ],
)
def test_a_broken_choice_is_refused_with_its_line(asked, record, message):
    stream = asked([record])
    with pytest.raises(BadData, match=message):
        read_examples(*of(stream), "test")


def test_a_gap_is_filled_once(asked):
    records = [{"text": "a ___ lens", "answers": ["sharp", "good"], "label": 0}]
    (example,) = read_examples(*of(asked(records, gap="___")), "test")
    assert (example.text, example.rest) == ("a ", " lens")
    stream = asked([{**records[0], "text": "a lens"}], gap="___")
    with pytest.raises(BadData, match="holds the gap '___' 0 times, wanted once"):
        read_examples(*of(stream), "test")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"metric": "macro_f1"}, "metric 'macro_f1' is not of kind 'choice'; allowed: accuracy, accuracy_norm"),
        ({"kind": "classification"}, "choices and gap need kind 'choice'"),
        ({"choices": None}, r"missing key 'domains\[1\].task.choices'"),
        ({"kind": "classification", "choices": None, "zero_shot": True}, "zero_shot needs kind choice"),
        ({"zero_shot": True, "test": None}, "zero_shot scores the examples of `test`"),
        ({"train": None}, r"missing key 'domains\[1\].task.train'"),
        ({"pair": "aspect"}, "kind 'choice' has neither pair nor labels"),
        ({"separator": "@"}, "kind 'choice' needs fields"),
        ({"kind": "ranking"}, "must be one of 'classification'"),
    ],
)
def test_keys_that_do_not_fit_the_kind_are_refused(asked, keys, message):
    with pytest.raises(BadConfig, match=message):
        asked(**keys)


def test_zero_shot_needs_no_training_examples(asked, tokenizer):
    stream = asked(zero_shot=True, train=None)
    task = encode_task(*of(stream), tokenizer, max_length=10)
    assert task.train is None
    assert len(task.test) == 2
    trained = encode_task(*of(asked()), tokenizer, max_length=10)
    assert (len(trained.train), trained.train.ids[0].tolist()) == (2, [2, 7, 8, 4, 6]), "the right answers alone"


def test_every_key_of_a_choice_enters_the_fingerprint(asked):
    records = [{"text": "a ___", "answers": ["x", "y"], "label": 0}]
    streams = [
        asked(records, **keys) for keys in ({}, {"gap": "___"}, {"zero_shot": True}, {"choices": ["text", "label"]})
    ]
    assert len({task_fingerprint(*of(stream)) for stream in streams}) == len(streams)
    stream, domain = of(asked(records))
    plain = dataclasses.replace(domain.task, kind="classification", choices=None)
    assert task_fingerprint(stream, dataclasses.replace(domain, task=plain)) != task_fingerprint(stream, domain)


def encode(examples, tokenizer, max_length=10):
    return encode_choices(([], [], examples), tokenizer, max_length=max_length, whose="task of x").test


def test_answers_follow_the_text_without_an_end_behind_them(tokenizer):
    example = Example(text="a sharp", label="1", choices=("lens", "phone rings"))
    split = encode([example], tokenizer)
    assert [ids.tolist() for ids in split.ids] == [[2, 7, 8, 9], [2, 7, 8, 4, 6]]
    assert (split.starts.tolist(), split.sizes.tolist(), split.rights.tolist()) == ([3, 3], [4, 11], [1])


def test_what_follows_a_gap_is_scored_with_the_answer(tokenizer):
    split = encode([Example(text="a ", label="0", choices=("sharp", "good"), rest=" lens")], tokenizer)
    assert [ids.tolist() for ids in split.ids] == [[2, 7, 8, 9], [2, 7, 10, 9]]
    assert (split.starts.tolist(), split.sizes.tolist()) == ([2, 2], [10, 9])


def test_a_text_loses_its_beginning_and_an_answer_nothing(tokenizer):
    example = Example(text="phone number rings a sharp", label="0", choices=("lens", "good bad"))
    split = encode([example], tokenizer, max_length=4)
    assert [ids.tolist() for ids in split.ids] == [[6, 7, 8, 9], [7, 8, 10, 11]]
    assert split.starts.tolist() == [3, 2]
    with pytest.raises(BadData, match="the answer 'good bad' has 2 tokens"):
        encode([example], tokenizer, max_length=2)


def test_without_a_text_an_answer_follows_the_token_in_front(tokenizer):
    split = encode([Example(text="", label="0", choices=("lens", "good"))], tokenizer)
    assert [ids.tolist() for ids in split.ids] == [[2, 9], [2, 10]]


def test_accuracies_are_those_counted_by_hand():
    split = ChoiceSplit(
        ids=tuple(np.arange(3) for _ in range(5)),
        starts=np.ones(5, dtype=np.int64),
        sizes=np.array([2, 10, 1, 1, 1]),
        owners=np.array([0, 0, 1, 1, 1]),
        rights=np.array([1, 2]),
    )
    # Example 0: -4 beats -5, per character -0.5 beats -2. Example 1: the right answer ties, and the first counts.
    scores = score_choices(split, np.array([-4.0, -5.0, -3.0, -1.0, -1.0]))
    assert scores == {"accuracy": 0.0, "accuracy_norm": 0.5}
    assert [rows.tolist() for rows in split.right_answers().ids] == [[0, 1, 2]] * 2
    assert split.right_answers().starts.tolist() == [1, 1]


def test_guessing_is_the_baseline(asked, tokenizer):
    task = encode_task(*of(asked()), tokenizer, max_length=10)
    assert task.majority == task.baseline["accuracy_norm"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_a_tokenizer_without_a_beginning_lends_another_token():
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ids = {"bos_token_id": None, "eos_token_id": 2, "sep_token_id": None, "pad_token_id": None}
    tokenizer = SimpleNamespace(backend_tokenizer=backend, **ids)
    split = encode(
        [Example(text="", label="0", choices=("a", "b")), Example(text="b", label="0", choices=("a", "b"))], tokenizer
    )
    assert [rows.tolist() for rows in split.ids] == [[2, 0], [2, 1], [1, 0], [1, 1]]


def test_groups_are_counted_apart_by_hand(tokenizer):
    def of(label, group):
        return Example(text="a ", label=label, choices=("lens", "good"), rest="", group=group)

    split = encode([of("0", "kept"), of("1", "kept"), of("1", "new")], tokenizer)
    scores = score_choices(split, np.array([-1.0, -2.0, -1.0, -2.0, -2.0, -1.0]))  # chosen: 0, 0, 1
    assert (scores["accuracy_kept"], scores["accuracy_new"], scores["accuracy"]) == (0.5, 1.0, pytest.approx(2 / 3))
    assert split.right_answers().groups == ()
    plain = score_choices(encode([of("0", "")], tokenizer), np.zeros(2))
    assert set(plain) == {"accuracy", "accuracy_norm"}
