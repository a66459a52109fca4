"""Formats met in the wild: labels beside plain text, files inside a zip archive, Excel workbooks."""

from __future__ import annotations

import zipfile

import openpyxl
import pytest

from ctbench.data.files import survey_files
from ctbench.data.inspect import inspect_stream
from ctbench.data.sources import read_examples, read_texts, task_fingerprint
from ctbench.data.zipped import names_in
from ctbench.errors import BadConfig, BadData
from ctbench.plugins.find import get_stream

STREAM = """
version = 1
kind = "domain"
summary = "one domain"
model = "a/b"

[[domains]]
name = "mine"
text = {{ source = "files", {text} }}
task = {{ source = "files", {task} }}

[pretrain]
tokens = 1000
"""


def stream_of(folder, task, text='path = "corpus.txt"'):
    (folder / "corpus.txt").write_text("some text\n", encoding="utf-8")
    path = folder / "mine.toml"
    path.write_text(STREAM.format(task=task, text=text), encoding="utf-8")
    return get_stream(str(path))


def examples(stream, split="train"):
    return [(example.text, example.label) for example in read_examples(stream, stream.domains[0], split)]


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


PARALLEL = 'train = "a.txt", train_labels = "b.txt", test = "c.txt", test_labels = "d.txt"'


def test_labels_stand_in_a_file_of_their_own(tmp_path):
    write(tmp_path, a="one\ntwo\n\n", b="x\ny\n", c="three\n", d="x")
    stream = stream_of(tmp_path, PARALLEL)
    assert examples(stream) == [("one", "x"), ("two", "y")]
    assert examples(stream, "test") == [("three", "x")]
    before = task_fingerprint(stream, stream.domains[0])
    write(tmp_path, b="x\nx\n")
    assert task_fingerprint(stream, stream.domains[0]) != before


def test_a_share_is_set_apart_where_only_training_texts_and_labels_are_named(tmp_path):
    write(tmp_path, a="".join(f"text {number}\n" for number in range(20)), b="x\ny\n" * 10)
    stream = stream_of(tmp_path, 'train = "a.txt", train_labels = "b.txt", test_fraction = 0.3')
    assert (len(examples(stream)), len(examples(stream, "test"))) == (14, 6)
    assert set(examples(stream)).isdisjoint(examples(stream, "test"))
    assert inspect_stream(stream).tasks[0].test == 6


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"b": "x\n"}, "a.txt has more lines than the other"),
        ({"b": "x\ny\nz\n"}, "b.txt has more lines than the other"),
        ({"a": "one\rtwo\r", "b": "x\ry\r"}, "a.txt: its lines end in carriage returns"),
        ({"a": "one\n\nthree\n", "b": "x\ny\nz\n"}, "a.txt:2: field 'text' is empty"),
        ({"b": "x\n\nz\n", "a": "one\ntwo\nthree\n"}, "a.txt:2: field 'label' must be a label"),
    ],
)
def test_parallel_files_that_do_not_fit_are_refused(files, said, tmp_path):
    write(tmp_path, **({"a": "one\ntwo\n", "b": "x\ny\n", "c": "three\n", "d": "x"} | files))
    with pytest.raises(BadData, match=said):
        examples(stream_of(tmp_path, PARALLEL))


def test_the_label_stands_behind_the_last_separator(tmp_path):
    write(tmp_path, a="Sales rose. @positive\nmail a@b.c @ neutral\n")
    stream = stream_of(tmp_path, 'train = "a.txt", test = "a.txt", separator = "@"')
    assert examples(stream) == [("Sales rose.", "positive"), ("mail a@b.c", "neutral")]
    write(tmp_path, a="x@y\nno label here\n")
    with pytest.raises(BadData, match=r"a\.txt:2: no separator '@'"):
        examples(stream)


def test_a_task_in_lines_is_split_and_inspected_as_any_other(tmp_path):
    write(tmp_path, a="".join(f"text {number}@{'xy'[number % 2]}\n" for number in range(20)))
    stream = stream_of(tmp_path, 'train = "a.txt", separator = "@", test_fraction = 0.3')
    assert (len(examples(stream)), len(examples(stream, "test"))) == (14, 6)
    (task,) = inspect_stream(stream).tasks
    assert (task.files, [label.name for label in task.labels]) == (1, ["x", "y"])


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ('train = "a.txt", train_labels = "b.txt", separator = "@"', "separator or train_labels"),
        ('train = "a.txt", separator = "@", pair = "p"', "pair needs fields"),
        ('train = "a.txt", train_labels = "b.txt", test = "c.txt"', "test_labels goes with test"),
        ('train = "a.txt", test = "c.txt", test_labels = "d.txt"', "test_labels goes with test"),
        ('train = "a.txt", train_labels = "b.txt", validation_labels = "d.txt"', "validation_labels goes with"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(task, said, tmp_path):
    with pytest.raises(BadConfig, match=said):
        stream_of(tmp_path, task)


def test_plain_text_without_labels_says_where_they_could_be(tmp_path):
    write(tmp_path, a="one\n")
    with pytest.raises(BadData, match="`separator`, or `train_labels`"):
        examples(stream_of(tmp_path, 'train = "a.txt", test = "a.txt"'))


@pytest.fixture
def archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("data/train.csv", "text,label\none,x\ntwo,y\n")
        opened.writestr("data/test.csv", "text,label\nthree,x\n")
        opened.writestr("corpus/1.txt", "first\n")
        opened.writestr("corpus/2.txt", "second\n")
        opened.writestr("__MACOSX/._1.txt", "junk")
    return tmp_path


@pytest.mark.parametrize("written", ["all.zip/corpus", "all.zip/corpus/*.txt", "zip://corpus/*::all.zip"])
def test_files_inside_a_zip_archive_are_read_where_the_path_names_them(written, archive):
    task = 'train = "all.zip/data/train.csv", test = "zip://data/test.csv::all.zip"'
    stream = stream_of(archive, task, text=f'path = "{written}"')
    assert examples(stream) == [("one", "x"), ("two", "y")]
    assert examples(stream, "test") == [("three", "x")]
    assert list(read_texts(stream, stream.domains[0].text, domain="mine")) == ["first", "second"]
    found = survey_files(archive, [written], format="auto", whose="a test")
    assert [file.shown for file in found.files] == ["all.zip/corpus/1.txt", "all.zip/corpus/2.txt"]


def test_a_file_in_a_zip_archive_has_the_digest_of_the_file_alone(archive):
    (archive / "1.txt").write_text("first\n")
    digests = [
        survey_files(archive, [path], format="auto", whose="a test").files[0].digest()
        for path in ("all.zip/corpus/1.txt", "1.txt", "all.zip/corpus/2.txt")
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("all.zip/data/trian.csv", r"no such file in all\.zip; it holds data/train\.csv"),
        ("all.zip", r"name the files in it, such as 'all\.zip/data/train\.csv'"),
        ("zip://data/train.csv", "zip://FILE::ARCHIVE.zip is expected"),
        ("zip://data/train.csv::gone.zip", r"gone\.zip cannot be read as a zip archive"),
        ("all.zip/*", "mixes formats"),
        ("torn.zip/x.csv", r"torn\.zip cannot be read as a zip archive"),
        ("bomb.zip/x.txt", "unpacks to more than"),
    ],
)
def test_archives_that_cannot_be_read_are_refused_in_one_line(written, said, archive, monkeypatch):
    (archive / "torn.zip").write_bytes((archive / "all.zip").read_bytes()[:80])
    with zipfile.ZipFile(archive / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("x.txt", "a" * 2_000_000)
    monkeypatch.setattr("ctbench.data.zipped.FREE_BYTES", 1000)
    with pytest.raises(BadData, match=said) as caught:
        survey_files(archive, [written], format="auto", whose="a test")
    assert "\n" not in str(caught.value)


def test_the_first_sheet_of_a_workbook_is_read(tmp_path):
    book = openpyxl.Workbook()
    for row in (["text", "label", None], ["one", 3], [None, None], ["two", 3.0], ["three", True]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    stream = stream_of(tmp_path, 'train = "a.xlsx", test = "a.xlsx"')
    assert examples(stream) == [("one", "3"), ("two", "3"), ("three", "TRUE")]
    with pytest.raises(BadData, match="no column 'gold' in its first row; found: text, label"):
        examples(stream_of(tmp_path, 'train = "a.xlsx", test = "a.xlsx", label = "gold"'))
    (tmp_path / "a.xlsx").write_bytes(b"no workbook")
    with pytest.raises(BadData, match="not readable as an Excel workbook"):
        examples(stream)


def test_an_archive_of_a_later_version_of_zip_is_one_line(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["text", "label"])
    book.save(tmp_path / "a.xlsx")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "some text")
    for name in ("a.xlsx", "a.zip"):
        before = (tmp_path / name).read_bytes()
        place = before.index(b"PK\x01\x02") + 6  # the version that is needed to read the first member
        (tmp_path / name).write_bytes(before[:place] + bytes([74]) + before[place + 1 :])
    with pytest.raises(BadData, match=r"not readable as an Excel workbook: zip file version 7\.4"):
        examples(stream_of(tmp_path, 'train = "a.xlsx", test = "a.xlsx"'))
    stream = stream_of(tmp_path, 'train = "a.xlsx", test = "a.xlsx"', 'path = "a.zip/*"')
    with pytest.raises(BadData, match=r"cannot be read as a zip archive: zip file version 7\.4"):
        list(read_texts(stream, stream.domains[0].text, domain="mine"))
    assert names_in(tmp_path / "a.zip") == []


def test_a_missing_openpyxl_is_one_line_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(BadData, match=r"pip install 'ctbench\[xlsx\]'"):
        examples(stream_of(tmp_path, 'train = "a.xlsx", test = "a.xlsx"'))


@pytest.mark.parametrize("quoting", ["auto", "double"])
def test_tsv_whose_labels_all_stand_in_quotes_is_named_unless_they_are_read_as_quotes(tmp_path, quoting):
    rows = [f'"text {number}"\t"{"xy"[number % 2]}"' for number in range(40)]
    (tmp_path / "a.tsv").write_text("\n".join(['"text"\t"label"' if quoting == "double" else "text\tlabel", *rows]))
    stream = stream_of(tmp_path, f'train = "a.tsv", dialect = {{ quoting = "{quoting}" }}')
    found = [problem for problem in inspect_stream(stream).problems if "stands in quotes" in problem]
    assert len(found) == (quoting == "auto")
    assert all("set dialect.quoting to 'double'" in problem for problem in found)
