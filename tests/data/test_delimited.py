"""Dialects of delimited text: no row is lost, and no line end is swallowed without a word."""

from __future__ import annotations

import json

import pytest

from ctbench.data.dialect import Dialect
from ctbench.data.files import DataFile
from ctbench.data.records import read_records
from ctbench.data.stream import load_stream
from ctbench.errors import BadConfig, BadData


def read(folder, name, content, *, fields=("text", "label"), **dialect):
    (folder / name).write_bytes(content.encode())
    file = DataFile(folder / name, name, format="auto", dialect=Dialect(**dialect))
    return [tuple(record[field] for field in fields) for _, record in read_records(file, fields)]


STRAY = ['"Hello there', "plain words", 'and "so" on"', 'she said "no"']


def test_tsv_is_not_quoted(tmp_path):
    content = "text\tlabel\n" + "".join(f"{text}\thot\n" for text in STRAY)
    assert read(tmp_path, "a.tsv", content) == [(text, "hot") for text in STRAY]
    quoted = 'text\tlabel\n"one\ttwo\nthree"\thot\n'
    assert read(tmp_path, "a.tsv", quoted, quoting="double") == [("one\ttwo\nthree", "hot")]
    assert read(tmp_path, "a.tsv", quoted) == [('"one', "two"), ('three"', "hot")]


@pytest.mark.parametrize("gap", [0, 1, 5])
def test_quote_in_csv_that_may_be_a_letter_is_refused_before_it_swallows_a_row(tmp_path, gap):
    rows = ['"Hello there,cold', *["nothing special,hot"] * gap, 'good bye",hot']
    content = "\n".join(["text,label", "first,hot", *rows]) + "\n"
    with pytest.raises(BadData, match=rf"a.csv:3: .*(swallows the line end, up to line {gap + 4}|broken CSV)"):
        read(tmp_path, "a.csv", content)
    assert len(read(tmp_path, "a.csv", content, quoting="none")) == gap + 3


def test_pair_of_quotes_at_the_ends_of_rows_is_refused_or_read_as_it_is_said(tmp_path):
    content = 'text,label\n"Hello there,cold\nfine day,"\n'
    with pytest.raises(BadData, match=r"a.csv:2: .*"):
        read(tmp_path, "a.csv", content)
    content = 'label,text\ncold,"Hello there\nhot,fine day"\n'
    with pytest.raises(BadData, match=r"say which is meant with dialect.quoting, 'none' or 'double'"):
        read(tmp_path, "a.csv", content)
    assert read(tmp_path, "a.csv", content, quoting="double") == [("Hello there\nhot,fine day", "cold")]
    assert read(tmp_path, "a.csv", content, quoting="none") == [('"Hello there', "cold"), ('fine day"', "hot")]


def test_quoted_field_whose_lines_cannot_be_rows_is_read(tmp_path):
    content = 'text,label\n"First line.\nSecond, with, commas.\n\nLast.",hot\nplain,cold\n'
    assert [label for _, label in read(tmp_path, "a.csv", content)] == ["hot", "cold"]


def test_delimiter_and_header_are_those_of_the_dialect(tmp_path):
    assert read(tmp_path, "a.csv", "text;label\none, two;hot\n", delimiter=";") == [("one, two", "hot")]
    assert read(tmp_path, "a.csv", "one,hot\ntwo,cold\n", fields=("1", "2"), header=False) == [
        ("one", "hot"),
        ("two", "cold"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "\ntext,label\nx,y\n", "a.csv:1: is blank where the header with the column 'text' is wanted"),
        ("a.csv", " , \nx,y\n", "a.csv:1: is blank"),
        ("a.tsv", "\r\ntext\tlabel\r\nx\ty\r\n", "a.tsv:1: is blank"),
        ("a.csv", "text,label,label\nx,y,z\n", "a.csv:1: column 'label' is there twice"),
        ("a.csv", "text,label,id,id\nx,y,1,2\n", "a.csv:1: column 'id' is there twice"),
        ("a.tsv", "text\tlabel\ttext\nx\ty\tz\n", "a.tsv:1: column 'text' is there twice"),
        ("a.jsonl", '{"text": "x", "label": "y", "label": "z"}\n', "a.jsonl:1: key 'label' is there twice"),
        ("a.csv", "text,label\nx,y\nz\n", "a.csv:3: 1 columns, the header has 2"),
        ("a.tsv", "text\tlabel\nx\ty\tz\n", "a.tsv:2: 3 columns, the header has 2; .* set dialect.quoting to 'double'"),
        (
            "a.csv",
            "text,label\rx,y\r",
            "a.csv:1: a carriage return stands in the middle of a line; save the file with line",
        ),
        ("a.csv", "text,label\nx,y\ntext,label\nz,y\n", "a.csv:3: is the header once more"),
        ("a.csv", "text;label\nx;y\n", "if the columns are separated by ';', set dialect.delimiter = \";\""),
        ("a.csv", "text\tlabel\nx\ty\n", r"if the columns are separated by '\\t', set dialect.delimiter = \"\\t\""),
        ("a.csv", "x,y\nz,y\n", "found: x, y; if the first line is a row, set dialect.header = false"),
    ],
)
def test_malformed_table_is_refused_with_its_line(tmp_path, name, content, words):
    with pytest.raises(BadData, match=words):
        read(tmp_path, name, content)


def test_without_a_header_a_row_may_be_there_twice_and_columns_are_numbers(tmp_path):
    rows = "text,label\nx,y\ntext,label\n"
    assert len(read(tmp_path, "a.csv", rows, fields=("1", "2"), header=False)) == 3
    with pytest.raises(BadData, match=r"found: 1, 2; without a header the columns are called by their numbers"):
        read(tmp_path, "a.csv", rows, header=False)


def test_column_that_is_there_twice_in_parquet_is_refused_and_bad_utf8_has_its_row(tmp_path):
    import pyarrow
    import pyarrow.parquet

    def write(names, arrays):
        pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names=names), tmp_path / "a.parquet")
        return list(read_records(DataFile(tmp_path / "a.parquet", "a.parquet", format="auto"), ["text"]))

    good = pyarrow.array(["x", "é", "z"])
    assert [record["text"] for _, record in write(["text", "label"], [good, good])] == ["x", "é", "z"]
    with pytest.raises(BadData, match=r"a.parquet: column 'text' is there twice"):
        write(["text", "text"], [good, good])
    raw = pyarrow.array([b"x", b"y", b"\xff"])
    bad = pyarrow.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    with pytest.raises(BadData, match=r"a.parquet:3: not UTF-8 \(byte 0 of 'text'\)"):
        write(["text"], [bad])


@pytest.mark.parametrize(
    "key", ['delimiter = "ab"', 'delimiter = "\\""', 'quoting = "some"', "header = 1", "quote = 1"]
)
def test_wrong_dialect_is_refused(folder, key):
    text = (
        (folder / "reviews.toml").read_text().replace('path = "phone.jsonl"', f'path = "a.csv"\ndialect = {{ {key} }}')
    )
    (folder / "other.toml").write_text(text)
    with pytest.raises(BadConfig, match=r"other.toml:\d+: .*dialect"):
        load_stream(folder / "other.toml", registered=False)


def test_dialect_of_a_stream_reaches_its_files_and_its_fingerprint(folder):
    from ctbench.data.sources import fingerprint, read_texts

    (folder / "a.csv").write_text("text|id\none, two|1\n")
    keys = ('path = "a.csv"', 'path = "a.csv"\ndialect = { delimiter = "|" }')
    found = []
    for key in keys:
        text = (folder / "reviews.toml").read_text().replace('path = "phone.jsonl"', key)
        (folder / "other.toml").write_text(text)
        stream = load_stream(folder / "other.toml", registered=False)
        found.append((stream, stream.domain("phone").text))
    assert fingerprint(*found[0], domain="phone") != fingerprint(*found[1], domain="phone")
    assert list(read_texts(*found[1], domain="phone")) == ["one, two"]
    with pytest.raises(BadData, match="no column 'text'"):
        list(read_texts(*found[0], domain="phone"))


def test_record_of_json_given_as_more_than_64_million_characters_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ctbench.data.lines.MAX_RECORD", 2_000_000)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x" * 3_000_000}))
    with pytest.raises(BadData, match=r"a.jsonl:1: the line has more than 2,000,000 characters"):
        list(read_records(DataFile(tmp_path / "a.jsonl", "a.jsonl", format="auto"), ["text"]))
