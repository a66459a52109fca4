from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from ctbench.data.examples import Example
from ctbench.data.sources import task_fingerprint
from ctbench.data.tasks import _Encoder, buckets, encode_task, pad, score
from ctbench.errors import BadData
from ctbench.randomness import make_generator


def test_task_is_encoded_with_special_tokens_and_sorted_labels(stream, tokenizer):
    task = encode_task(stream, stream.domain("camera"), tokenizer, max_length=10)
    assert task.labels == ("+", "-")
    assert task.train.ids[0].tolist() == [2, 10, 1, 3]
    assert task.train.targets[:3].tolist() == [0, 1, 0]
    assert (len(task.train), len(task.test), len(task.validation)) == (12, 4, 12)
    assert task.train.lengths.tolist() == [4] * 12
    assert encode_task(stream, stream.domain("phone"), tokenizer, max_length=10).validation is None


def test_long_text_is_cut_and_pairs_are_joined_by_the_separator(stream, folder, tokenizer):
    record = {"text": "a sharp lens a sharp lens", "aspect": "good", "label": "+"}
    (folder / "test.jsonl").write_text(json.dumps(record))
    (folder / "train.jsonl").write_text("\n".join(json.dumps(record | {"label": label}) for label in "+-"))
    phone = stream.domain("phone")
    assert encode_task(stream, phone, tokenizer, max_length=5).test.ids[0].tolist() == [2, 7, 8, 9, 3]
    paired = dataclasses.replace(phone, task=dataclasses.replace(phone.task, pair="aspect"))
    assert encode_task(stream, paired, tokenizer, max_length=20).test.ids[0].tolist() == [2, *[7, 8, 9] * 2, 3, 10, 3]
    assert encode_task(stream, paired, tokenizer, max_length=7).test.ids[0].tolist() == [2, 7, 8, 9, 3, 10, 3]


def word_tokenizer(template=None, **named):
    """A tokenizer of a few letters, as a decoder's: without a separator unless a template has one."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "</s>", "\n", *"abcdefgh"]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("[a-z]|\\n"), behavior="isolated")
    if template:
        backend.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair=template, special_tokens=[("</s>", 1)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **named)


def tokens_of(tokenizer, text, pair, max_length):
    (ids,) = _Encoder(tokenizer, max_length).split([Example(text=text, pair=pair, label="")], np.zeros(1)).ids
    return "".join(tokenizer.convert_ids_to_tokens(ids.tolist()))


@pytest.mark.parametrize("named", [{}, {"eos_token": "</s>"}, {"sep_token": "</s>"}])
def test_a_line_break_parts_a_pair_whose_tokenizer_puts_nothing_in_between(named):
    assert tokens_of(word_tokenizer(**named), "abc", "de", 8) == "abc\nde"
    assert tokens_of(word_tokenizer("$A $B </s>", **named), "abc", "de", 8) == "abc\nde</s>"
    assert tokens_of(word_tokenizer("$A </s> $B </s>", **named), "abc", "de", 8) == "abc</s>de</s>"


def test_the_longer_text_of_a_pair_is_cut_first_without_a_separator_too():
    tokenizer = word_tokenizer()
    assert tokens_of(tokenizer, "abcdefgh", "de", 6) == "abc\nde"
    assert tokens_of(tokenizer, "ab", "cdefgh", 6) == "ab\ncde"


def test_label_that_training_never_shows_is_refused(stream, folder, tokenizer):
    (folder / "test.jsonl").write_text(json.dumps({"text": "x", "label": "?"}))
    with pytest.raises(
        BadData, match=r"task of domain phone .*label '\?' is in the test but not in the training examples"
    ):
        encode_task(stream, stream.domain("phone"), tokenizer, max_length=10)
    (folder / "train.jsonl").write_text(json.dumps({"text": "x", "label": "?"}))
    with pytest.raises(BadData, match="have 1 label, at least 2"):
        encode_task(stream, stream.domain("phone"), tokenizer, max_length=10)


def test_a_fraction_that_sets_nothing_apart_is_named(stream, folder, tokenizer):
    (folder / "train.jsonl").write_text("\n".join(json.dumps({"text": "x", "label": label}) for label in "+-"))
    phone = stream.domain("phone")
    together = dataclasses.replace(phone, task=dataclasses.replace(phone.task, test=None))
    with pytest.raises(BadData, match=r"no test examples: `test_fraction` left none to set apart"):
        encode_task(stream, together, tokenizer, max_length=10)
    assert encode_task(stream, phone, tokenizer, max_length=10).test.targets.size  # with a file of its own it is fine


def test_majority_is_the_score_of_the_most_frequent_training_label(stream, folder, tokenizer):
    def write(name, labels):
        (folder / name).write_text("\n".join(json.dumps({"text": "x", "label": label}) for label in labels))

    write("train.jsonl", "aabbbc")
    write("test.jsonl", "aaaabccc")
    assert encode_task(stream, stream.domain("phone"), tokenizer, max_length=10).majority == 1 / 8


def test_buckets_hold_every_example_once_in_batches_of_similar_length():
    lengths = make_generator(0, [], "lengths").integers(1, 100, 1000)
    batches = buckets(lengths, 16, make_generator(0, [], "order"))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    assert sorted(map(len, batches)) == [8, *[16] * 62]
    shuffled = np.random.default_rng(0).permutation(1000)
    plain = [shuffled[start : start + 16] for start in range(0, 1000, 16)]

    def waste(parts):
        return sum(len(part) * lengths[part].max() for part in parts) / lengths.sum()

    assert waste(batches) < 1.15 < waste(plain)
    again = buckets(lengths, 16, make_generator(0, [], "order"))
    other = buckets(lengths, 16, make_generator(1, [], "order"))
    assert all((one == two).all() for one, two in zip(batches, again, strict=True))
    assert any(len(one) != len(two) or (one != two).any() for one, two in zip(batches, other, strict=True))


def test_padding_is_at_the_end_and_masked():
    ids, mask = pad([np.array([5]), np.array([6, 7, 8]), np.array([9, 9])], np.array([2, 0]), 1)
    assert ids.tolist() == [[9, 9], [5, 1]]
    assert mask.tolist() == [[1, 1], [1, 0]]


def test_scores_equal_those_made_by_hand():
    scores = score(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 3)
    assert scores["accuracy"] == 0.75
    assert scores["micro_f1"] == 0.75
    assert scores["macro_f1"] == pytest.approx((0.8 + 2 / 3 + 0.0) / 3)  # the label that nobody has counts


def test_declared_labels_may_be_tested_without_being_trained(stream, folder, tokenizer):
    (folder / "test.jsonl").write_text(json.dumps({"text": "x", "label": "?"}))
    phone = stream.domain("phone")

    def declare(*labels):
        return dataclasses.replace(phone, task=dataclasses.replace(phone.task, labels=labels))

    task = encode_task(stream, declare("?", "-", "+"), tokenizer, max_length=10)
    assert (task.labels, task.test.targets.tolist(), task.majority) == (("+", "-", "?"), [2], 0.0)
    assert task_fingerprint(stream, declare("?", "-", "+")) != task_fingerprint(stream, phone)
    with pytest.raises(BadData, match=r"label '\+' of the training examples is not in `labels`: -, \?"):
        encode_task(stream, declare("?", "-"), tokenizer, max_length=10)
