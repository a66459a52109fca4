"""Regression and several labels: reading, targets, scores by hand, trivial baselines."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ctbench.data.answers import score_numbers, score_sets
from ctbench.data.sources import read_examples
from ctbench.data.stream import load_stream
from ctbench.data.tasks import check_task, encode_task
from ctbench.errors import BadConfig, BadData


@pytest.fixture
def asked(folder):
    """Return a function from labels of training and test, and keys of the task, to the stream and its domain camera."""

    def get(train, test, *, apart=False, **keys):
        for name, labels in (("train.jsonl", train), ("test.jsonl", test)):
            records = [{"text": f"a {number}", "label": label} for number, label in enumerate(labels)]
            (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
        found = {"train": "train.jsonl", "test": None if apart else "test.jsonl", **keys}
        table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in found.items() if value is not None)
        text = (folder / "reviews.toml").read_text()
        start = text.index('task = { source = "files"')
        end = text.index("\n", start)
        (folder / "asked.toml").write_text(f'{text[:start]}task = {{ source = "files", {table} }}{text[end:]}')
        stream = load_stream(folder / "asked.toml", registered=False)
        return stream, stream.domain("camera")

    return get


NUMBERS = {"kind": "regression", "metric": "pearson"}
SETS = {"kind": "multilabel", "metric": "micro_f1"}


def test_correlations_are_those_computed_by_hand():
    targets, answers = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 10.0])
    # Deviations (-1.5, -0.5, 0.5, 1.5) and (-3, -1, -2, 6): 13 / sqrt(5 * 50); ranks differ by 0, 1, 1, 0.
    found = score_numbers(targets, answers)
    assert found["pearson"] == pytest.approx(13 / 250**0.5)
    assert found["spearman"] == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert score_numbers(targets, -answers)["pearson"] == pytest.approx(-found["pearson"])
    assert score_numbers(targets, np.ones(4)) == {"pearson": 0.0, "spearman": 0.0}


def test_f1_of_sets_is_that_counted_by_hand():
    targets = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]])
    answers = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]])
    # Right 2, 1, 0; wrongly named 0, 1, 0; missed 0, 1, 1.
    found = score_sets(targets, answers)
    assert found["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    assert found["macro_f1"] == pytest.approx((1 + 2 / 4 + 0) / 3)
    assert found["exact_match"] == 0.25


def test_numbers_are_standardised_by_the_training_examples(asked, tokenizer):
    task = encode_task(*asked([1, "3", 2.0], [2, 5], **NUMBERS), tokenizer, max_length=10)
    deviation = np.std([1, 3, 2])
    assert task.train.targets.tolist() == pytest.approx([-1 / deviation, 1 / deviation, 0])
    assert task.test.targets.tolist() == pytest.approx([0, 3 / deviation])
    assert (task.kind, task.labels, task.majority) == ("regression", (), None)
    assert task.baseline == {"pearson": 0.0, "spearman": 0.0}


def test_sets_become_indicators_and_the_most_frequent_set_is_the_baseline(asked, tokenizer):
    task = encode_task(
        *asked([["b", "a"], ["a", "b"], ["a"], []], [["a"], ["a", "b"]], **SETS), tokenizer, max_length=10
    )
    assert task.labels == ("a", "b")
    assert task.train.targets.tolist() == [[1, 1], [1, 1], [1, 0], [0, 0]]
    assert task.majority is None
    assert task.baseline["exact_match"] == 0.5
    assert task.baseline["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 1))


@pytest.mark.parametrize(
    ("train", "test", "keys", "message"),
    [
        ([1, "x"], [1], NUMBERS, r"train.jsonl:2: field 'label' must be a number, found 'x'"),
        ([1, True], [1], NUMBERS, r"must be a number, found True"),
        ([1, "inf"], [1], NUMBERS, r"must be a number, found 'inf'"),
        ([1, 1.0], [1], NUMBERS, r"no two numbers that differ"),
        (["a"], [["a"]], SETS, r"must be a list of labels, found 'a'"),
        ([["a", ""]], [["a"]], SETS, r"field 'label\[1\]' must be a label"),
        ([["a"], ["b"]], [["c"]], SETS, r"label 'c' is in the test but not in the training examples"),
        ([["a"], []], [["a"]], SETS, r"have 1 label, at least 2"),
    ],
)
def test_a_broken_answer_is_refused(asked, train, test, keys, message):
    stream, domain = asked(train, test, **keys)
    with pytest.raises(BadData, match=message):
        check_task(stream, domain)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "regression"}, "metric 'accuracy' is not of kind 'regression'; allowed: pearson, spearman"),
        ({**NUMBERS, "labels": ["a"]}, "kind 'regression' has numbers and no labels"),
        ({**SETS, "separator": "@"}, "kind 'multilabel' needs fields"),
        ({**SETS, "zero_shot": True}, "zero_shot needs kind choice"),
        ({"metric": "pearson"}, "metric 'pearson' is not of kind 'classification'"),
    ],
)
def test_keys_that_do_not_fit_are_refused(asked, keys, message):
    with pytest.raises(BadConfig, match=message):
        asked([1, 2], [1], **keys)


@pytest.mark.parametrize("keys", [NUMBERS, SETS])
def test_a_share_of_all_examples_is_set_apart(asked, keys):
    labels = list(range(10)) if keys is NUMBERS else [[f"{number}", "x"] for number in range(10)]
    stream, domain = asked(labels, [], **keys, apart=True)
    assert [len(read_examples(stream, domain, split)) for split in ("train", "test")] == [7, 3]
