"""The stream topics: its two tasks are made from corpora, and no labelled sentence stays in the text."""

from __future__ import annotations

import importlib.util
import json

import pytest

from ctbench.errors import BadData
from ctbench.plugins.find import find_plugins

SPLITS = {"train": 4, "validation": 2, "test": 3}
NAMES = ("camera", "phone", "restaurant", "acl", "ai", "pubmed")


@pytest.fixture
def topics(monkeypatch):
    path = find_plugins("stream")["topics"].path.with_name("topics.py")
    specification = importlib.util.spec_from_file_location("topics_of_a_test", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "SPLITS", SPLITS)
    return module


@pytest.fixture
def source(tmp_path):
    """A collection of 30 documents a corpus: two sentences each, the second too long for an example, and some copies."""
    folder = tmp_path / "source"
    for name in NAMES:
        long = " ".join(["word"] * 30)
        texts = [f"A short sentence about {name} number {number}. And {long} {number}." for number in range(30)]
        write(folder / "domain" / name / "corpus.jsonl", [{"text": text} for text in [*texts, texts[0]]])
    for period in ("2006-2009", "2010-2011", "2012-2013", "2014-2015", "2016-2017", "2018-2019"):
        for part in ("corpus", *SPLITS):
            write(folder / "temporal" / period / f"{part}.jsonl", [{"text": f"{period} {part}", "label": "cs.LO"}])
    return folder


def write(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_sentences_are_labelled_by_their_corpus_and_leave_its_text(topics, source, tmp_path):
    topics.prepare(source, tmp_path / "made")
    for domain, names in topics.SUBJECTS.items():
        folder = tmp_path / "made" / "topics" / domain
        splits = {split: read(folder / f"{split}.jsonl") for split in SPLITS}
        for split, examples in splits.items():
            labels = [example["label"] for example in examples]
            assert {label: labels.count(label) for label in labels} == dict.fromkeys(names, SPLITS[split])
            assert all(f"about {example['label']} " in example["text"] for example in examples)
            assert all(6 <= len(example["text"].split()) <= 25 for example in examples)
        texts = [example["text"] for examples in splits.values() for example in examples]
        assert len(texts) == len(set(texts))
        corpus = [record["text"] for record in read(folder / "corpus.jsonl")]
        assert len(corpus) == len(set(corpus)) == 3 * (30 - sum(SPLITS.values()))
        assert not [document for document in corpus if any(text in document for text in texts)]
    assert (tmp_path / "made" / "temporal" / "2006-2009" / "train.jsonl").is_file()


def test_the_choice_follows_from_the_documents_and_not_from_their_order(topics, source, tmp_path):
    topics.prepare(source, tmp_path / "one")
    path = source / "domain" / "acl" / "corpus.jsonl"
    path.write_text("".join(line + "\n" for line in reversed(path.read_text().splitlines())))
    topics.prepare(source, tmp_path / "two")
    path.write_text(path.read_text().replace("number 7.", "number 77."))
    topics.prepare(source, tmp_path / "three")
    folders = [tmp_path / name / "topics" / "papers" for name in ("one", "two", "three")]
    made = [[path.read_bytes() for path in sorted(folder.iterdir())] for folder in folders]
    assert made[0] == made[1] != made[2]


def test_too_few_documents_and_broken_files_are_one_line(topics, source, tmp_path):
    path = source / "domain" / "acl" / "corpus.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:8]))
    with pytest.raises(BadData, match=r"acl/corpus\.jsonl: has too few documents for 9 examples"):
        topics.prepare(source, tmp_path / "made")
    path.write_text("no JSON\n")
    with pytest.raises(BadData, match=r"acl/corpus\.jsonl: not the file of the collection"):
        topics.prepare(source, tmp_path / "made")
    path.unlink()
    with pytest.raises(BadData, match=r"acl/corpus\.jsonl: not in 'source'"):
        topics.prepare(source, tmp_path / "made")
