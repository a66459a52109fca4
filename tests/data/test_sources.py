from __future__ import annotations

import dataclasses
import json

import pytest

from ctbench.data.examples import Example
from ctbench.data.sources import fingerprint, read_examples, read_texts, task_fingerprint
from ctbench.data.stream import load_stream
from ctbench.errors import BadData


def with_task(stream, **changed):
    domain = stream.domain("phone")
    return dataclasses.replace(domain, task=dataclasses.replace(domain.task, **changed))


def test_texts_of_a_stream_are_read_in_order(stream):
    assert list(read_texts(stream, stream.general, domain=None)) == ["the sea is blue", "the sky is grey"]
    camera = stream.domain("camera")
    assert list(read_texts(stream, camera.text, domain="camera")) == [
        "a sharp lens",
        "a slow shutter",
        "a blurred picture",
    ]
    phone = list(read_texts(stream, stream.domain("phone").text, domain="phone"))
    assert (len(phone), phone[3]) == (200, "phone number 3 rings")


def test_examples_of_a_task_are_read(stream):
    assert read_examples(stream, stream.domain("phone"), "test")[:2] == [
        Example(text="good 0", label="+"),
        Example(text="bad 0", label="-"),
    ]
    assert read_examples(stream, stream.domain("phone"), "validation") == []
    assert len(read_examples(stream, stream.domain("camera"), "validation")) == 12


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        (
            {"text": "x", "label": 1.5},
            "test.jsonl:1: field 'label' must be a label, a string or a whole number, found 1.5",
        ),
        ({"text": "x", "label": True}, "test.jsonl:1: field 'label' must be a label"),
        ({"text": "x", "label": None}, "test.jsonl:1: field 'label' must be a label"),
        ({"text": "x", "label": ""}, "test.jsonl:1: field 'label' must be a label"),
        ({"text": 3, "label": "a"}, "test.jsonl:1: field 'text' must be text, found int"),
        ({"text": " ", "label": "a"}, "test.jsonl:1: field 'text' is empty"),
        ({"text": "\ud800", "label": "a"}, "test.jsonl:1: field 'text' holds half a character"),
        ({"text": "x"}, "test.jsonl:1: no field 'label'; found: text"),
    ],
)
def test_bad_example_is_refused_with_its_line(folder, stream, record, wanted):
    (folder / "test.jsonl").write_text(json.dumps(record))
    with pytest.raises(BadData) as caught:
        read_examples(stream, stream.domain("phone"), "test")
    assert str(caught.value).startswith(wanted)


def test_whole_number_is_a_label_and_a_pair_is_read(folder, stream):
    (folder / "test.jsonl").write_text(json.dumps({"text": "x", "aspect": "y", "label": 2}))
    assert read_examples(stream, with_task(stream, pair="aspect"), "test") == [Example(text="x", pair="y", label="2")]


def test_limits_take_a_fixed_choice_that_keeps_every_label(folder, stream):
    lines = [json.dumps({"text": f"t{n}", "label": "common"}) for n in range(300)]
    lines[250] = json.dumps({"text": "t250", "label": "rare"})
    (folder / "train.jsonl").write_text("\n".join(lines))
    few = read_examples(stream, with_task(stream, max_train=5), "train")
    assert len(few) == 5
    assert {example.label for example in few} == {"common", "rare"}
    assert few == read_examples(stream, with_task(stream, max_train=5), "train")
    assert [example.text for example in few] != ["t0", "t1", "t2", "t3", "t250"]
    assert len(read_examples(stream, with_task(stream, max_test=3), "test")) == 3
    assert len(read_examples(stream, with_task(stream, max_test=99), "test")) == 4


def test_text_without_documents_is_refused(folder, stream):
    (folder / "general.txt").write_text("\n  \n")
    with pytest.raises(BadData, match=r"general.txt: no text in it, wanted by the general text of stream reviews"):
        list(read_texts(stream, stream.general, domain=None))
    (folder / "phone.jsonl").unlink()
    with pytest.raises(BadData, match=r"phone.jsonl: no such file, wanted by domain phone of stream reviews"):
        list(read_texts(stream, stream.domain("phone").text, domain="phone"))


def fingerprints(stream):
    texts = [fingerprint(stream, domain.text, domain=domain.name) for domain in stream.domains]
    return [*texts, *(task_fingerprint(stream, domain) for domain in stream.domains)]


def test_fingerprints_follow_contents_and_not_names(folder, stream):
    before = fingerprints(stream)
    (folder / "renamed").mkdir()
    for name in ("phone.jsonl", "train.jsonl", "test.jsonl", "camera", "general.txt"):
        (folder / name).rename(folder / "renamed" / name)
    text = (folder / "reviews.toml").read_text().replace('"phone"', '"telephone"')
    (folder / "other.toml").write_text('root = "renamed"\n' + text)
    moved = load_stream(folder / "other.toml", registered=False)
    assert fingerprints(moved) == before
    assert len(set(before)) == 4


def test_fingerprints_change_with_contents_fields_and_limits(folder, stream):
    before, phone = fingerprints(stream), stream.domain("phone")
    (folder / "test.jsonl").write_text(json.dumps({"text": "x", "label": "+"}))
    (folder / "phone.jsonl").write_text(json.dumps({"text": "x"}))
    assert not set(before) & {*fingerprints(stream)[::2], fingerprints(stream)[3]}
    assert fingerprints(stream)[1] == before[1]
    other = dataclasses.replace(phone.text, field="body")
    assert fingerprint(stream, other, domain="phone") != fingerprint(stream, phone.text, domain="phone")
    assert task_fingerprint(stream, with_task(stream, max_train=3)) != task_fingerprint(stream, phone)


def test_fingerprint_of_the_language_follows_its_knobs_domain_and_purpose():
    from pathlib import Path

    path = Path(__file__).parents[2] / "benchmarks/domain.toml"
    stream = load_stream(path, registered=True)
    again = load_stream(path, registered=True, settings={"language.seed": "7"})
    first, second = stream.domains[:2]
    found = [
        fingerprint(stream, first.text, domain=first.name),
        fingerprint(stream, first.text, domain=first.name, purpose="held_out"),
        fingerprint(stream, second.text, domain=second.name),
        fingerprint(again, first.text, domain=first.name),
        task_fingerprint(stream, first),
        task_fingerprint(again, first),
    ]
    assert len(set(found)) == 6
