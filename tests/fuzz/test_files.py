"""Any file is read, or refused in one line: mostly valid JSONL, CSV, TSV, Parquet and text, changed in some bytes."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import CHANGES, mutate, outcome
from packing import pack_zst

from ctbench.data.sources import read_examples, read_texts
from ctbench.data.stream import load_stream
from ctbench.errors import BadData, CTBenchError

STREAM = """
kind = "domain"
summary = "fuzz"
[[domains]]
name = "a"
text = {{ source = "files", path = "{path}"{text} }}
task = {{ source = "files", train = "{path}"{task} }}
[pretrain]
tokens = 1
"""
WORDS = st.text(alphabet=st.characters(codec="utf-8"), max_size=12)
PLAIN = st.text(alphabet="ab ,\"'\té\u2028", min_size=1, max_size=12).filter(str.strip)
LABELS = st.one_of(st.sampled_from(["hot", "cold"]), WORDS, st.integers(), st.none(), st.floats(), st.booleans())
KEYS = st.one_of(st.sampled_from(["text", "label", "text", "label", "other"]), WORDS)


def compressors():
    return {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": pack_zst}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read(folder: Path, name: str, content: bytes, *, text: str = "", task: str = ""):
    """Read a file as text and as examples, the way a run does; return what comes of each."""
    (folder / name).write_bytes(content)
    (folder / "s.toml").write_text(STREAM.format(path=name, text=text, task=task))
    stream = load_stream(folder / "s.toml", registered=False)
    domain = stream.domains[0]
    texts = outcome(lambda: list(read_texts(stream, domain.text, domain="a")))
    if name.startswith("a.txt"):
        return texts, None
    return texts, outcome(lambda: read_examples(stream, domain, "train") + read_examples(stream, domain, "test"))


def lines_of(records, ends, *, is_ascii):
    return ends.join(json.dumps(record, ensure_ascii=is_ascii) for record in records).encode("utf-8", "surrogatepass")


@given(
    st.lists(st.dictionaries(KEYS, LABELS, max_size=4), max_size=6),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.booleans(),
    CHANGES,
)
def test_jsonl(folder, records, ends, is_ascii, changes):
    read(folder, "a.jsonl", mutate(lines_of(records, ends, is_ascii=is_ascii), changes))


@given(st.lists(st.tuples(PLAIN, st.sampled_from(["hot", "cold"])), min_size=1, max_size=6))
def test_jsonl_loses_no_record(folder, rows):
    records = [{"text": text, "label": label} for text, label in rows]
    texts, examples = read(folder, "a.jsonl", lines_of(records, "\n", is_ascii=False))
    assert texts == [text.strip() for text, _ in rows]
    assert sorted((example.text, example.label) for example in examples) == sorted(rows)


def table(rows, *, delimiter, quoting, ends):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=ends, escapechar="\\").writerows(rows)
    return stream.getvalue().encode()


@given(
    st.lists(KEYS, min_size=1, max_size=4),
    st.lists(st.lists(WORDS, min_size=1, max_size=4), max_size=5),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    CHANGES,
)
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t")])
def test_delimited(folder, name, delimiter, header, rows, quoting, ends, changes):
    read(folder, name, mutate(table([header, *rows], delimiter=delimiter, quoting=quoting, ends=ends), changes))


@given(st.text(alphabet='ab,\t"\n\r', max_size=40), st.sampled_from(["auto", "double", "none"]), st.booleans())
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_delimited_of_few_letters_in_every_dialect(folder, name, content, quoting, has_header):
    dialect = f', dialect = {{ quoting = "{quoting}", header = {str(has_header).lower()} }}'
    named = ', field = "1"' + dialect, ', text = "1", label = "2"' + dialect
    start = "1\t2\n" if name == "a.tsv" else "1,2\n"
    read(folder, name, (start + content).encode(), text=named[0], task=named[1])


@given(st.lists(st.tuples(PLAIN, st.sampled_from(["hot", "cold"])), min_size=1, max_size=6), st.booleans())
def test_delimited_loses_no_row(folder, rows, is_tsv):
    if is_tsv:
        content = "".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *rows])
        expected = [row for row in rows if "\t" not in row[0]]
    else:
        content = table([("text", "label"), *rows], delimiter=",", quoting=csv.QUOTE_MINIMAL, ends="\n").decode()
        expected = rows
    texts, examples = read(folder, "a.tsv" if is_tsv else "a.csv", content.encode())
    if len(expected) < len(rows):  # a tab inside is a column too many
        assert isinstance(texts, BadData)
        return
    assert texts == [text.strip() for text, _ in rows]
    assert sorted((example.text, example.label) for example in examples) == sorted(rows)


@given(st.lists(st.text(alphabet='ab"', min_size=1, max_size=5), min_size=2, max_size=6))
def test_no_quote_swallows_a_row_of_csv_in_silence(folder, texts):
    content = "text,label\n" + "".join(f"{text},hot\n" for text in texts)
    found, _ = read(folder, "a.csv", content.encode())
    alone = [next(csv.reader([f"{text},hot"]))[0] for text in texts]
    assert isinstance(found, CTBenchError) or found == [text.strip() for text in alone if text.strip()]


@given(st.binary(max_size=60), st.sampled_from(["line", "paragraph", "file"]), CHANGES)
@pytest.mark.parametrize("ending", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_text(folder, ending, content, document, changes):
    packed = mutate(compressors()[ending](content), changes)
    read(folder, f"a.txt{ending}", packed or b"x", text=f', document = "{document}"')


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=3), st.integers(1, 400))
@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_packed_text_is_read_whole_in_any_number_of_frames_and_refused_when_cut(folder, ending, parts, cut):
    parts = [b"w" + part.hex().encode() + b"\n" for part in parts]
    pack = compressors()[ending]
    packed = b"".join(pack(part) for part in parts)
    texts, _ = read(folder, f"a.txt{ending}", packed)
    assert texts == [part.decode().strip() for part in parts]
    starts = {sum(len(pack(part)) for part in parts[:count]) for count in range(len(parts) + 1)}
    if len(packed) - cut > 0 and len(packed) - cut not in starts:
        texts, _ = read(folder, f"a.txt{ending}", packed[:-cut])
        assert isinstance(texts, BadData)


COLUMNS = st.one_of(
    st.lists(WORDS, min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), WORDS), min_size=3, max_size=3),
    st.lists(st.integers(-(2**40), 2**40), min_size=3, max_size=3),
    st.lists(st.binary(max_size=5), min_size=3, max_size=3),
    st.lists(st.lists(st.integers(0, 3), max_size=2), min_size=3, max_size=3),
)


@given(st.lists(st.tuples(KEYS, COLUMNS), min_size=1, max_size=3), st.booleans(), CHANGES)
def test_parquet(folder, columns, is_raw, changes):
    import pyarrow
    import pyarrow.parquet

    arrays = [pyarrow.array(values) for _, values in columns]
    if is_raw:  # text that is no text: bytes under the type of strings
        arrays = [
            pyarrow.StringArray.from_buffers(3, array.buffers()[1], array.buffers()[2])
            if pyarrow.types.is_binary(array.type)
            else array
            for array in arrays
        ]
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names=[name for name, _ in columns]), stream)
    read(folder, "a.parquet", mutate(stream.getvalue(), changes))
