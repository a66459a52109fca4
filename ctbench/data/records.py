"""Reading one file record by record: JSONL, CSV, Parquet and plain text, with file and line in errors.

Everything streams: what is in memory at a time is a record, however long the file. Very long documents of plain text
come in pieces.
"""

from __future__ import annotations

import csv
import json
import lzma
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from ctbench.data.files import DataFile, plain_suffix
from ctbench.errors import BadData

PIECE = 1_000_000
"""Bytes after which a document of plain text is cut, so that memory stays bounded."""

Record = dict[str, Any]
Place = tuple[str, int]


def read_records(file: DataFile, fields: Sequence[str]) -> Iterator[tuple[Place, Record]]:
    """Yield ((file, line), record) of a JSONL, CSV or Parquet file; for Parquet the line is the number of the row.

    Raises:
        BadData: the file is malformed, or lacks one of `fields`.
    """
    readers = {"jsonl": _read_jsonl, "csv": _read_csv, "parquet": _read_parquet}
    if file.format not in readers:
        raise BadData(f"{file.shown}: has no fields (format {file.format}); allowed formats: {', '.join(readers)}")
    is_empty = True
    for place, record in readers[file.format](file, fields):
        is_empty = False
        for field in fields:
            if field not in record:
                raise BadData(f"{show(place)}: no field '{field}'; found: {', '.join(map(str, record)) or 'none'}")
        yield place, record
    if is_empty:
        raise BadData(f"{file.shown}: holds no records")


def show(place: Place) -> str:
    """Write a place as file:line."""
    return f"{place[0]}:{place[1]}"


def read_lines(file: DataFile) -> Iterator[tuple[int, str]]:
    """Yield (line number, text with its line end); a very long line comes in pieces. Raises BadData if not UTF-8."""
    number, is_start, rest = 1, True, b""
    for line in _raw_lines(file):
        if is_start and number == 1 and line.startswith(b"\xef\xbb\xbf"):
            line = line[3:]
        piece, rest = rest + line, b""
        if not piece.endswith(b"\n") and len(line) == PIECE:
            piece, rest = _cut(piece)
        try:
            text = piece.decode()
        except UnicodeDecodeError as error:
            raise BadData(f"{file.shown}:{number}: not UTF-8 (byte {error.start} of the line)") from None
        if text:
            yield number, text
        is_start = line.endswith(b"\n")
        number += is_start
    if rest:
        yield number, _decode(rest, file.shown, number)


def _raw_lines(file: DataFile) -> Iterator[bytes]:
    with file.open() as stream:
        try:
            while line := stream.readline(PIECE):
                yield line
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise BadData(f"{file.shown}: cannot be unpacked: {error}") from None


def _cut(piece: bytes) -> tuple[bytes, bytes]:
    """Cut behind the last space, else behind the last whole character."""
    end = piece.rfind(b" ") + 1
    if not end:
        end = len(piece)
        while end > len(piece) - 4 and piece[end - 1] & 0xC0 == 0x80:
            end -= 1
        end -= piece[end - 1] >= 0xC0
    return piece[:end], piece[end:]


def _decode(piece: bytes, shown: str, number: int) -> str:
    try:
        return piece.decode()
    except UnicodeDecodeError as error:
        raise BadData(f"{shown}:{number}: not UTF-8 (byte {error.start} of the line)") from None


def read_documents(file: DataFile, document: Literal["line", "paragraph", "file"]) -> Iterator[str]:
    """Yield the documents of a plain text file; empty ones are left out, very long ones come in pieces."""
    parts: list[str] = []
    size = 0
    for _, line in read_lines(file):
        is_break = document == "line" or (document == "paragraph" and not line.strip()) or size > PIECE
        parts.append(line)
        size += len(line)
        if is_break:
            text = "".join(parts).strip()
            parts, size = [], 0
            if text:
                yield text
    if text := "".join(parts).strip():
        yield text


def _whole_lines(file: DataFile) -> Iterator[tuple[int, str]]:
    """Join the pieces of long lines."""
    parts: list[str] = []
    for number, text in read_lines(file):
        parts.append(text)
        if text.endswith("\n"):
            yield number, "".join(parts)
            parts = []
    if parts:
        yield number, "".join(parts)


def _read_jsonl(file: DataFile, fields: Sequence[str]) -> Iterator[tuple[Place, Record]]:
    for number, line in _whole_lines(file):
        if not line.strip():
            continue
        place = (file.shown, number)
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and deep nesting
            reason = f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else str(error)
            raise BadData(f"{show(place)}: not JSON: {reason}; one object per line is wanted") from None
        if not isinstance(record, dict):
            raise BadData(f'{show(place)}: not an object but {type(record).__name__}; wanted {{"{fields[0]}": ...}}')
        yield place, record


def _read_csv(file: DataFile, fields: Sequence[str]) -> Iterator[tuple[Place, Record]]:
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if plain_suffix(file.path) == ".tsv" else ","
    lines: Iterable[str] = (line for _, line in _whole_lines(file))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        for row in reader:
            place = (file.shown, reader.line_num)
            if not header:
                header = row
                missing = [field for field in fields if field not in header]
                if missing:
                    raise BadData(f"{show(place)}: no column '{missing[0]}' in the header; found: {', '.join(header)}")
            elif row:
                if len(row) != len(header):
                    raise BadData(f"{show(place)}: {len(row)} columns, the header has {len(header)}")
                yield place, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise BadData(f"{file.shown}:{reader.line_num}: broken CSV: {error}") from None


def _read_parquet(file: DataFile, fields: Sequence[str]) -> Iterator[tuple[Place, Record]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file.path)
        missing = [field for field in fields if field not in table.schema_arrow.names]
        if missing:
            raise BadData(f"{file.shown}: no column '{missing[0]}'; found: {', '.join(table.schema_arrow.names)}")
        row = 0
        for batch in table.iter_batches(batch_size=1000, columns=list(fields)):
            for record in batch.to_pylist():
                row += 1
                yield (file.shown, row), record
    except (pyarrow.ArrowException, OSError) as error:
        raise BadData(f"{file.shown}: not readable as Parquet: {str(error).splitlines()[0]}") from None
