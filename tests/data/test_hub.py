from __future__ import annotations

import dataclasses
import time

import pytest

from ctbench.data import sources
from ctbench.data.examples import Example
from ctbench.data.hub import _is_streamed
from ctbench.data.sources import read_examples, read_texts, task_fingerprint
from ctbench.data.stream import HubTask, HubText
from ctbench.errors import BadData


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Return a folder that `datasets` reads as it reads a repository of the hub, class labels included."""
    import datasets

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    for split, texts in (("train", ["a", "b", "c"]), ("test", ["d"])):
        data = datasets.Dataset.from_dict({"text": texts, "label": [1] * len(texts)}, features=features)
        data.to_parquet(tmp_path / "data" / f"{split}.parquet")
    return tmp_path / "data"


def test_hub_source_is_read_with_its_limit_and_label_names(stream, saved):
    source = HubText(id=str(saved), revision="v1", max_documents=2)
    assert list(read_texts(stream, source, domain=None)) == ["a", "b"]
    streamed = dataclasses.replace(source, streaming=True, max_documents=None)
    assert list(read_texts(stream, streamed, domain=None)) == ["a", "b", "c"]
    domain = dataclasses.replace(stream.domain("phone"), task=HubTask(id=str(saved), revision="v1"))
    assert read_examples(stream, domain, "test") == [Example(text="d", label="yes")]
    assert read_examples(stream, domain, "validation") == []


@pytest.mark.parametrize("make", ["List", "LargeList", "Sequence"])
def test_class_labels_in_a_list_are_read_by_their_names(stream, tmp_path, saved, make):
    import datasets

    classes = datasets.ClassLabel(names=["O", "B-place", "I-place"])
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "tags": getattr(datasets, make)(classes)}
    )
    for split in ("train", "test"):
        data = datasets.Dataset.from_dict({"tokens": [["in", "New", "York"]], "tags": [[0, 1, 2]]}, features=features)
        data.to_parquet(tmp_path / "tagged" / f"{split}.parquet")
    asked = {"id": str(tmp_path / "tagged"), "revision": "v1", "label": "tags"}
    spans = HubTask(**asked, kind="spans", text="tokens", metric="span_f1")
    (example,) = read_examples(stream, dataclasses.replace(stream.domain("phone"), task=spans), "test")
    assert (example.words, example.labels) == (("in", "New", "York"), ("O", "B-place", "I-place"))


def test_sets_of_class_labels_are_read_by_their_names(stream, tmp_path, saved):
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "emotions": datasets.List(datasets.ClassLabel(names=["joy", "anger"]))}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "emotions": [[0, 1], [], [0]]}, features=features)
    data.to_parquet(tmp_path / "many" / "test.parquet")
    task = HubTask(id=str(tmp_path / "many"), revision="v1", kind="multilabel", label="emotions", metric="micro_f1")
    found = read_examples(stream, dataclasses.replace(stream.domain("phone"), task=task), "test")
    assert [example.labels for example in found] == [("anger", "joy"), (), ("joy",)]


def test_how_lists_of_labels_are_read_enters_the_fingerprint_of_tasks_that_have_them(stream, monkeypatch):
    tasks = [HubTask(id="x", revision="v1", kind="multilabel", metric="micro_f1"), HubTask(id="x", revision="v1")]
    domains = [dataclasses.replace(stream.domain("phone"), task=task) for task in tasks]
    before = [task_fingerprint(stream, domain) for domain in domains]
    monkeypatch.setattr(sources, "LISTS_VERSION", sources.LISTS_VERSION + 1)
    after = [task_fingerprint(stream, domain) for domain in domains]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True]


def test_hub_source_without_the_field_is_refused(stream, saved):
    source = HubText(id=str(saved), revision="v1", field="body")
    with pytest.raises(
        BadData, match=r"no field 'body' in split train, wanted by the general text .* found: text, label"
    ):
        list(read_texts(stream, source, domain=None))


def test_hub_source_offline_fails_at_once_and_says_what_to_do(stream, monkeypatch):
    import datasets
    import huggingface_hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # what --online leaves out; the libraries read it when they are imported
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    started = time.monotonic()
    with pytest.raises(BadData) as caught:
        list(read_texts(stream, HubText(id="nobody/nothing", revision="v1"), domain="phone"))
    message = str(caught.value)
    assert message.startswith(
        "hub nobody/nothing@v1: cannot be loaded for domain phone of stream reviews; this run is offline"
    )
    assert "--online" in message
    assert "\n" not in message
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("size", "streamed"), [(2_000_000_000, True), (10, False)])
def test_hub_source_is_streamed_where_its_download_is_large(saved, size, streamed):
    (saved / "README.md").write_text(f"---\ndataset_info:\n  download_size: {size}\n---\n")
    source = HubText(id=str(saved), revision="v1")
    assert _is_streamed(source, is_offline=False) is streamed
    assert _is_streamed(dataclasses.replace(source, streaming=not streamed), is_offline=False) is not streamed
    assert not _is_streamed(source, is_offline=True)
