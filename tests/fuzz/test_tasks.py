"""Any file of examples is a task, or is refused in one line: every kind of task, workbooks, archives, lines with labels."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import CHANGES, EDITS, dump, edit, mutate, outcome

from ctbench.data.inspect import inspect_stream
from ctbench.data.stream import load_stream
from ctbench.errors import CTBenchError

STREAM = """
kind = "domain"
summary = "fuzz"
[[domains]]
name = "a"
text = {{ source = "files", path = "{text}" }}
task = {{ source = "files", {task} }}
[pretrain]
tokens = 1
"""
TASKS = {
    "classification": 'train = "a.jsonl"',
    "choice": 'train = "a.jsonl", kind = "choice", choices = ["answers"], gap = "_"',
    "zero shot": 'test = "a.jsonl", kind = "choice", choices = ["answers"], zero_shot = true',
    "fields": 'train = "a.jsonl", kind = "choice", choices = ["one", "two"]',
    "regression": 'train = "a.jsonl", kind = "regression", metric = "pearson"',
    "multilabel": 'train = "a.jsonl", kind = "multilabel", metric = "micro_f1"',
    "spans": 'train = "a.jsonl", kind = "spans", metric = "span_f1"',
    "generation": 'train = "a.jsonl", kind = "generation", metric = "exact_match"',
}
RECORDS = {
    "classification": {"text": "some words {n}", "label": "hot"},
    "choice": {"text": "some _ {n}", "answers": ["hot", "cold"], "label": "hot"},
    "zero shot": {"text": "some words {n}", "answers": ["hot", "cold"], "label": 1},
    "fields": {"text": "some words {n}", "one": "hot", "two": "cold", "label": "hot"},
    "regression": {"text": "some words {n}", "label": 1.5},
    "multilabel": {"text": "some words {n}", "label": ["hot", "wet"]},
    "spans": {"text": ["some", "words", "{n}"], "label": ["O", "B-x", "I-x"]},
    "generation": {"text": "some words {n}", "label": ["hot", "very hot"]},
}
OTHER = {
    "classification": "cold",
    "choice": "cold",
    "zero shot": 0,
    "fields": "cold",
    "regression": "-2e3",
    "multilabel": ["cold"],
    "spans": ["B-y", "O", "O"],
    "generation": "cold",
}
"""A second label of each kind."""
WORDS = st.text(alphabet=st.characters(codec="utf-8"), max_size=12)
ODD_LABELS = st.sampled_from(
    ["9" * 5000, "\u0663", "\u00b2", "-0", "nan", "Infinity", "1e999", "a\nb", "\x1b[31m", "\u202e", "", " ", "O", "B-"]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    (root / "t.txt").write_text("".join(f"one two {n}\n" for n in range(30)))
    return root


def look_at(folder, task, text="t.txt"):
    """Read a stream whole, as `ctbench check` does."""
    (folder / "s.toml").write_text(STREAM.format(text=text, task=task))
    return outcome(lambda: inspect_stream(load_stream(folder / "s.toml", registered=False)), folder=folder)


def records_of(kind):
    """Eight good records of a kind, of which every second one has its other label."""
    made = [json.loads(json.dumps(RECORDS[kind]).replace("{n}", str(n))) for n in range(8)]
    return [record | ({"label": OTHER[kind]} if n % 2 else {}) for n, record in enumerate(made)]


@given(st.sampled_from(sorted(TASKS)), EDITS, CHANGES)
def test_task_of_any_kind(folder, kind, edits, changes):
    records = edit(records_of(kind), edits)
    (folder / "a.jsonl").write_bytes(mutate(b"\n".join(dump(record) for record in records), changes))
    look_at(folder, TASKS[kind])


@given(st.sampled_from(sorted(TASKS)), st.lists(st.one_of(ODD_LABELS, WORDS), min_size=1, max_size=3), st.booleans())
def test_task_of_any_kind_with_odd_labels(folder, kind, labels, is_list):
    records = records_of(kind)
    for record, label in zip(records, labels, strict=False):
        whole = isinstance(record["label"], list) and is_list
        record["label"] = [label, *record["label"][1:]] if whole else label
    (folder / "a.jsonl").write_bytes(b"\n".join(dump(record) for record in records))
    look_at(folder, TASKS[kind])


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_the_task_that_is_changed_is_good_before(folder, kind):
    (folder / "a.jsonl").write_bytes(b"\n".join(dump(record) for record in records_of(kind)))
    found = look_at(folder, TASKS[kind])
    assert not isinstance(found, CTBenchError), found
    assert found.tasks[0].train + found.tasks[0].test == 8


CELLS = st.one_of(
    WORDS, st.integers(), st.floats(), st.booleans(), st.none(), st.dates(), st.just("=1/0"), st.just("\x07")
)


@given(
    st.lists(st.one_of(st.sampled_from(["text", "label"]), WORDS, st.none()), max_size=4),
    st.lists(st.lists(CELLS, max_size=4), max_size=6),
    CHANGES,
)
def test_workbook(folder, header, rows, changes):
    import openpyxl
    from openpyxl.utils.exceptions import IllegalCharacterError

    book = openpyxl.Workbook()
    for row in [header if header else ["text", "label"], *([f"words {n}", "hc"[n % 2]] for n in range(8)), *rows]:
        try:
            book.active.append(row)
        except (IllegalCharacterError, ValueError):  # what no workbook can hold
            book.active.append(["x"])
    content = io.BytesIO()
    book.save(content)
    (folder / "a.xlsx").write_bytes(mutate(content.getvalue(), changes))
    look_at(folder, 'train = "a.xlsx"')


MEMBERS = st.sampled_from(
    ["a.txt", "in/a.txt", "../a.txt", "/a.txt", ".a.txt", "__MACOSX/a.txt", "a.csv", "b.zip", "in/"]
)
METHODS = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
INSIDE = st.sampled_from(
    [
        "a.zip/a.txt",
        "a.zip/*.txt",
        "a.zip/*",
        "a.zip/in",
        "a.zip/../a.txt",
        "a.zip/",
        "zip://a.txt::a.zip",
        "zip://*::a.zip",
        "zip://::a.zip",
        "zip://a.txt",
        "a.zip/b.zip/a.txt",
        "a.zip",
    ]
)


@given(st.lists(st.tuples(MEMBERS, METHODS, st.binary(max_size=60)), max_size=4), INSIDE, CHANGES)
def test_files_in_an_archive(folder, members, path, changes):
    import warnings

    content = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w") as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        archive.writestr("a.txt", "".join(f"one two {n}\n" for n in range(30)))
        for name, method, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    (folder / "a.zip").write_bytes(mutate(content.getvalue(), changes))
    (folder / "a.jsonl").write_bytes(b"\n".join(dump(record) for record in records_of("classification")))
    look_at(folder, 'train = "a.jsonl"', text=path)
    assert not (folder.parent / "a.txt").exists()


LINES = st.lists(st.one_of(st.sampled_from(["hot", "cold", "", " ", "some words"]), WORDS), max_size=4)
ENDS = st.sampled_from(["\n", "\r\n", "\n\n", "\u2028"])


@given(LINES, LINES, ENDS, ENDS, CHANGES)
def test_labels_in_a_file_of_their_own(folder, texts, labels, text_ends, label_ends, changes):
    texts, labels = [f"words {n}" for n in range(8)] + texts, ["hot", "cold"] * 4 + labels
    (folder / "a.txt").write_bytes(mutate(text_ends.join(texts).encode(), changes))
    (folder / "a.labels.txt").write_bytes(mutate(label_ends.join(labels).encode(), changes))
    look_at(folder, 'train = "a.txt", train_labels = "a.labels.txt"')


@given(LINES, st.sampled_from(["@", " ", "\\t", "@@", "or"]), ENDS, CHANGES)
def test_labels_behind_their_texts(folder, lines, separator, ends, changes):
    good = [f"words {n}{separator.replace(chr(92) + 't', chr(9))}{'hc'[n % 2]}" for n in range(8)]
    (folder / "a.txt").write_bytes(mutate(ends.join([*good, *lines]).encode(), changes))
    look_at(folder, f'train = "a.txt", separator = "{separator}"')
