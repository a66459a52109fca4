"""Reading one file record by record: JSONL, CSV, TSV, Parquet, Excel and plain text, with file and line in errors.

Everything streams: what is in memory at a time is a record, however long the file. Very long documents of plain text
come in pieces.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from ctbench.data.delimited import read_delimited, require_distinct
from ctbench.data.files import DataFile
from ctbench.data.lines import PIECE, read_lines, read_whole_lines, require_line_feeds
from ctbench.data.sheets import read_sheet
from ctbench.data.unpack import FREE_BYTES
from ctbench.errors import BadData, first_line, listing

MAX_PARQUET_RATIO = 5_000
"""A Parquet file may hold so many times its size in text: equal values take next to no room in it."""

Record = dict[str, Any]
Place = tuple[str, int]


def read_records(file: DataFile, fields: Sequence[str]) -> Iterator[tuple[Place, Record]]:
    """Yield ((file, line), record) of a file with fields; of Parquet and Excel files the line is the number of the row.

    Raises:
        BadData: the file is malformed, or lacks one of `fields`.
    """
    readers = {
        "jsonl": _read_jsonl,
        "csv": read_delimited,
        "tsv": read_delimited,
        "parquet": _read_parquet,
        "xlsx": read_sheet,
    }
    if file.format not in readers:
        raise BadData(
            f"{file.shown}: has no fields (format {file.format}); allowed formats: {', '.join(readers)}; of a task in plain "
            "text say where the labels are: `separator`, or `train_labels` and `test_labels`"
        )
    is_empty = True
    for place, record in readers[file.format](file, fields):
        is_empty = False
        for field in fields:
            if field not in record:
                raise BadData(f"{show(place)}: no field '{field}'; found: {listing(record)}")
        yield place, record
    if is_empty:
        raise BadData(f"{file.shown}: holds no records")


def show(place: Place) -> str:
    """Write a place as file:line."""
    return f"{place[0]}:{place[1]}"


def read_documents(file: DataFile, document: Literal["line", "paragraph", "file"]) -> Iterator[str]:
    """Yield the documents of a plain text file; empty ones are left out, very long ones come in pieces.

    Raises:
        BadData: not UTF-8, or lines that end in carriage returns alone where a line counts.
    """
    parts: list[str] = []
    size = 0
    for number, line in read_lines(file):
        if document != "file":
            require_line_feeds(file, number, line)
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


def _read_jsonl(file: DataFile, fields: Sequence[str]) -> Iterator[tuple[Place, Record]]:
    for number, line in read_whole_lines(file):
        if not line.strip():
            continue
        place = (file.shown, number)
        try:
            record = json.loads(line, object_pairs_hook=_record)
        except _Twice as error:
            require_distinct(error.names, f"{show(place)}: key")
            raise
        except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and deep nesting
            reason = f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else str(error)
            raise BadData(f"{show(place)}: not JSON: {reason}; one object per line is wanted") from None
        if not isinstance(record, dict):
            raise BadData(f'{show(place)}: not an object but {type(record).__name__}; wanted {{"{fields[0]}": ...}}')
        yield place, record


class _Twice(Exception):
    """A key is there twice."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names


def _record(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise _Twice([name for name, _ in pairs])
    return record


def _read_parquet(file: DataFile, fields: Sequence[str]) -> Iterator[tuple[Place, Record]]:
    import pyarrow.parquet

    row = size = 0
    limit = FREE_BYTES + MAX_PARQUET_RATIO * file.path.stat().st_size
    try:
        table = pyarrow.parquet.ParquetFile(file.path)
        names = _column_names(table, file)
        if missing := [field for field in fields if field not in names]:
            raise BadData(f"{file.shown}: no column '{missing[0]}'; found: {listing(names)}")
        for batch in table.iter_batches(batch_size=1000, columns=list(fields)):
            for record in _rows(batch, fields, file, row):
                row += 1
                size += 8 + sum(len(value) for value in record.values() if isinstance(value, str))
                yield (file.shown, row), record
            if size > limit:
                raise BadData(f"{file.shown}: holds more than {MAX_PARQUET_RATIO:,} times its size, as no text does")
    except BadData:
        raise
    except Exception as error:  # of the library, and of many kinds where a file is damaged
        raise BadData(f"{file.shown}: not readable as Parquet: {first_line(error)}") from None


def _column_names(table: Any, file: DataFile) -> list[str]:
    names = [str(name) for name in table.schema_arrow.names]
    require_distinct(names, f"{file.shown}: column")
    packed, unpacked = 0, 0
    for group in range(table.metadata.num_row_groups):
        for column in range(table.metadata.num_columns):
            chunk = table.metadata.row_group(group).column(column)
            packed, unpacked = packed + chunk.total_compressed_size, unpacked + chunk.total_uncompressed_size
    if unpacked > FREE_BYTES + MAX_PARQUET_RATIO * max(packed, 0):
        raise BadData(f"{file.shown}: unpacks to more than {MAX_PARQUET_RATIO:,} times its size, as no text does")
    return names


def _rows(batch: Any, fields: Sequence[str], file: DataFile, first: int) -> Iterator[Record]:
    """Yield the records of a batch; what is not UTF-8 is told with its row."""
    columns: dict[str, list[Any]] = {}
    for field in fields:
        column = batch.column(field)
        try:
            columns[field] = column.to_pylist()
        except UnicodeDecodeError:
            columns[field] = [
                _value(scalar, field, file, first + index) for index, scalar in enumerate(column, start=1)
            ]
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _value(scalar: Any, field: str, file: DataFile, row: int) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        raise BadData(f"{file.shown}:{row}: not UTF-8 (byte {error.start} of '{field}')") from None
