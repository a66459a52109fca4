from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from ctbench.data.files import DataFile, find_files
from ctbench.data.records import PIECE, read_documents, read_records
from ctbench.errors import BadData


def file_with(folder: Path, name: str, content: str | bytes) -> DataFile:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return DataFile(path, name, format="auto")


def records(file: DataFile, *fields: str) -> list[dict[str, object]]:
    return [record for _, record in read_records(file, fields)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "x", "label": 1}\n\n{"text": "y", "label": 2}'),
        ("a.json", '\ufeff{"text": "x", "label": 1}\r\n{"text": "y", "label": 2}\r\n'),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x", "label": 1}\n{"text": "y", "label": 2}\n', mtime=0)),
        ("a.jsonl.bz2", bz2.compress(b'{"text": "x", "label": 1}\n{"text": "y", "label": 2}\n')),
        ("a.jsonl.xz", lzma.compress(b'{"text": "x", "label": 1}\n{"text": "y", "label": 2}\n')),
    ],
)
def test_jsonl_is_read_however_it_is_compressed(tmp_path, name, content):
    assert records(file_with(tmp_path, name, content), "text") == [{"text": "x", "label": 1}, {"text": "y", "label": 2}]


def test_csv_and_tsv_are_read_with_quotes_and_line_ends_in_fields(tmp_path):
    csv = file_with(tmp_path, "a.csv", 'text,label\n"one, two,\nthree",a\nfour,b\n')
    assert records(csv, "text", "label") == [
        {"text": "one, two,\nthree", "label": "a"},
        {"text": "four", "label": "b"},
    ]
    assert records(file_with(tmp_path, "a.tsv", "text\tlabel\nx, y\ta\n"), "text") == [{"text": "x, y", "label": "a"}]


def test_parquet_is_read_column_by_column(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["x", "y"], "other": [1, 2]}), tmp_path / "a.parquet")
    file = DataFile(tmp_path / "a.parquet", "a.parquet", format="auto")
    assert records(file, "text") == [{"text": "x"}, {"text": "y"}]
    with pytest.raises(BadData, match=r"a.parquet: no column 'label'; found: text, other"):
        records(file, "label")
    with pytest.raises(BadData, match="not readable as Parquet"):
        records(file_with(tmp_path, "b.parquet", "text"), "text")


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.jsonl", '{"text": "x"}\n{"txt": "y"}\n', "a.jsonl:2: no field 'text'; found: txt"),
        ("a.jsonl", '{"text": "x"}\n\n["y"]\n', "a.jsonl:3: not an object but list"),
        ("a.jsonl", '{"text": "x"}\n{"text": \n', "a.jsonl:2: not JSON"),
        ("a.jsonl", f'{{"text": {"1" * 5000}}}', "a.jsonl:1: not JSON: Exceeds the limit"),
        ("a.jsonl", f'{{"text": {"[" * 100_000}', "a.jsonl:1: not JSON"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', "a.jsonl:2: not UTF-8"),
        ("a.jsonl", "\n\n", "a.jsonl: holds no records"),
        ("a.jsonl.gz", b"no gzip at all", "a.jsonl.gz: cannot be unpacked"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 99, mtime=0)[:-20], "a.jsonl.gz: cannot be unpacked"),
        ("a.jsonl.xz", b"no xz at all", "a.jsonl.xz: cannot be unpacked"),
        ("a.csv", "txt,label\nx,y\n", "a.csv:1: no column 'text' in the header; found: txt, label"),
        ("a.csv", "text,label\nx\n", "a.csv:2: 1 columns, the header has 2"),
        ("a.csv", 'text,label\n"x,y\n', "a.csv:2: broken CSV"),
        ("a.csv", "text,label\n", "a.csv: holds no records"),
        ("a.txt", "x\n", "a.txt: has no fields"),
    ],
)
def test_malformed_file_is_refused_with_its_line(tmp_path, name, content, wanted):
    with pytest.raises(BadData) as caught:
        records(file_with(tmp_path, name, content), "text")
    assert str(caught.value).startswith(wanted)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "wanted"),
    [("line", ["a b", "c", "d"]), ("paragraph", ["a b\nc", "d"]), ("file", ["a b\nc\n\n  d"])],
)
def test_documents_of_plain_text_are_lines_paragraphs_or_files(tmp_path, document, wanted):
    assert list(read_documents(file_with(tmp_path, "a.txt", "a b\nc\n\n  d \n\n\n"), document)) == wanted


@pytest.mark.parametrize("document", ["line", "paragraph", "file"])
@pytest.mark.parametrize("text", ["né " * (PIECE // 2), "né\n" * (PIECE // 2), "é" * PIECE])
def test_very_long_document_comes_in_pieces_and_whole(tmp_path, document, text):
    pieces = list(read_documents(file_with(tmp_path, "a.txt", text), document))
    assert max(len(piece.encode()) for piece in pieces) < 2.5 * PIECE
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path):
    with pytest.raises(BadData, match=r"a.txt:2: not UTF-8 \(byte 1 of the line\)"):
        list(read_documents(file_with(tmp_path, "a.txt", b"x\ny\xff\n"), "line"))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_utf16_without_its_mark_is_refused_and_single_zero_bytes_are_read(tmp_path, encoding):
    with pytest.raises(BadData, match=r"a.txt:1: \d+ of the line's \d+ bytes are zero: the file is UTF-16"):
        list(read_documents(file_with(tmp_path, "a.txt", "some words\nmore\n".encode(encoding)), "line"))
    with pytest.raises(BadData, match=r"a.txt:2: 9 of the line's 9 bytes are zero: .* its end was never written"):
        list(read_documents(file_with(tmp_path, "a.txt", b"some words\n" + b"\0" * 9), "line"))
    assert list(read_documents(file_with(tmp_path, "a.txt", b"some\0words\n"), "line")) == ["some\0words"]


def test_lines_that_end_in_carriage_returns_alone_are_refused_where_lines_count(tmp_path):
    file = file_with(tmp_path, "a.txt", "one\rtwo\r")
    for document in ("line", "paragraph"):
        with pytest.raises(BadData, match=r"a.txt: its lines end in carriage returns; save the file with line feeds"):
            list(read_documents(file, document))
    assert list(read_documents(file, "file")) == ["one\rtwo"]
    for content in ("one\r\ntwo\r\n", "one\r\n", "one\r", "stray\rreturn\ntwo\n"):
        assert len(list(read_documents(file_with(tmp_path, "a.txt", content), "line"))) == max(content.count("\n"), 1)


def found(folder: Path, *paths: str, format: str = "auto") -> list[str]:
    return [file.shown for file in find_files(folder, paths, format=format, whose="a test", root="$DATA")]


def test_files_folders_and_globs_are_found_in_the_order_of_their_names(tmp_path):
    for name in ("b.txt", "a.txt", "sub/c.txt.gz", "sub/.hidden.txt", "sub/notes.bin", "x.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert found(tmp_path, "*.txt") == ["a.txt", "b.txt"]
    assert found(tmp_path, "sub", "b.txt") == ["sub/c.txt.gz", "b.txt"]
    assert found(tmp_path, "**/*.txt*", "a.txt") == ["a.txt", "b.txt", "sub/c.txt.gz"]
    assert found(tmp_path, str(tmp_path / "a.txt")) == [str(tmp_path / "a.txt")]
    with pytest.raises(BadData, match=r"mixes formats \(jsonl, text\)"):
        found(tmp_path, ".")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("no.txt", r"no.txt: no such file under root '\$DATA', wanted by a test"),
        ("*.csv", r"\*.csv: no such file"),
        ("sub", "sub: no readable file in this folder"),
        ("empty.txt", "empty.txt: the file is empty"),
        ("a.doc", "a.doc: unknown format '.doc'; known: .jsonl"),
        ("a.parquet.gz", "a.parquet.gz: Parquet files are compressed inside"),
    ],
)
def test_missing_or_unusable_file_is_refused(tmp_path, path, wanted):
    (tmp_path / "sub").mkdir()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "a.doc").write_text("x")
    (tmp_path / "a.parquet.gz").write_text("x")
    with pytest.raises(BadData, match=wanted):
        found(tmp_path, path)
