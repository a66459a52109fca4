"""Reading delimited text, CSV and TSV, in the dialect that its stream says.

A quote that was meant as a letter must not swallow the line end behind it, and with it a row and a label: unless the
stream says `quoting = "double"`, a quoted field over several lines is refused where these lines would be rows as well.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Any

from ctbench.data.files import DataFile
from ctbench.data.lines import MAX_RECORD, read_whole_lines
from ctbench.errors import BadData, first_line, listing

Row = tuple[int, list[str]]

_DELIMITERS = (";", "\t", "|", ",")


def read_delimited(file: DataFile, fields: Sequence[str]) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    """Yield ((file, line), record) of every row.

    Raises:
        BadData: with file and line: a malformed row, a column that is missing or there twice, a header that is blank or
            stands among the rows as well.
    """
    rows = _Rows(file)
    header: list[str] = []
    for number, row in rows:
        place = f"{file.shown}:{number}"
        if not header:
            header = _header(file, number, row, fields)
            if file.dialect.header:
                continue
        if not row:
            continue
        if row == header and file.dialect.header:
            raise BadData(f"{place}: is the header once more, as where files were put together; remove the line")
        if len(row) != len(header):
            what = "the header" if file.dialect.header else "the first row"
            raise BadData(f"{place}: {len(row)} columns, {what} has {len(header)}{rows.advice(len(row))}")
        yield (file.shown, number), dict(zip(header, row, strict=True))


def _header(file: DataFile, number: int, row: Sequence[str], fields: Sequence[str]) -> list[str]:
    place = f"{file.shown}:{number}"
    if not any(cell.strip() for cell in row):
        what = f"the header with the column '{fields[0]}'" if file.dialect.header else "the first row"
        raise BadData(f"{place}: is blank where {what} is wanted; remove the line")
    names = list(row) if file.dialect.header else [str(index) for index in range(1, len(row) + 1)]
    require_distinct(names, f"{place}: column")
    if missing := [field for field in fields if field not in names]:
        raise BadData(
            f"{place}: no column '{missing[0]}' in the header; found: {listing(names)}{_other_dialect(file, names)}"
        )
    return names


def _other_dialect(file: DataFile, names: Sequence[str]) -> str:
    """Return the advice that fits a header whose columns are not those that are wanted."""
    if not file.dialect.header:
        return "; without a header the columns are called by their numbers, as in text = '1'"
    others = [mark for mark in _DELIMITERS if len(names) == 1 and mark in names[0]]
    shown = "\\t" if others == ["\t"] else next(iter(others), "")
    if shown:
        return f"; if the columns are separated by '{shown}', set dialect.delimiter = \"{shown}\""
    return "; if the first line is a row, set dialect.header = false"


def require_distinct(names: Sequence[str], what: str) -> None:
    """Refuse names that are given twice: the one of two that wins would be a matter of chance.

    Raises:
        BadData: beginning with `what`.
    """
    if len(set(names)) < len(names):
        double = next(name for index, name in enumerate(names) if name in names[:index])
        raise BadData(f"{what} '{double}' is there twice; rename or remove one of them")


def folded_rows(file: DataFile) -> list[int]:
    """Return the lines where rows start that go over line ends in quotes, unless the stream says that this is meant."""
    if file.format not in ("csv", "tsv") or file.dialect.quoting != "auto":
        return []
    rows = _Rows(file)
    return [number for number, _ in rows if rows.is_folded]


class _Rows:
    """Rows of a file with the lines that they start in.

    Attributes:
        width: number of columns, 0 as long as it is unknown.
        is_folded: whether the last row goes over several lines.
    """

    def __init__(self, file: DataFile) -> None:
        dialect = file.dialect
        self._file = file
        self._is_tsv = file.format == "tsv"
        self._delimiter = dialect.delimiter or ("\t" if self._is_tsv else ",")
        self._is_quoted = dialect.quoting == "double" or (dialect.quoting == "auto" and not self._is_tsv)
        self._is_sure = dialect.quoting == "double"
        self._span: list[tuple[int, str]] = []
        self.width = 0
        self.is_folded = False

    def __iter__(self) -> Iterator[Row]:
        csv.field_size_limit(2**31 - 1)
        reader = csv.reader(
            self._lines(),
            delimiter=self._delimiter,
            quoting=csv.QUOTE_MINIMAL if self._is_quoted else csv.QUOTE_NONE,
            strict=True,
        )
        try:
            for row in reader:
                span, self._span = self._span, []
                self.width = self.width or len(row)
                self.is_folded = len(span) > 1
                if self.is_folded:
                    self._require_meant(span)
                yield span[0][0], row
        except csv.Error as error:
            number = self._span[0][0] if self._span else reader.line_num
            if "new-line character" in str(error):
                raise BadData(
                    f"{self._file.shown}:{number}: a carriage return stands in the middle of a line; save the file with line "
                    "feeds as line ends, or put the field in quotes"
                ) from None
            raise BadData(
                f"{self._file.shown}:{number}: broken {self._name}: {_reason(error)}{self.advice(0)}"
            ) from None

    @property
    def _name(self) -> str:
        return "TSV" if self._is_tsv else "CSV"

    def _lines(self) -> Iterator[str]:
        size = 0
        for number, line in read_whole_lines(self._file):
            size = len(line) if not self._span else size + len(line)
            self._span.append((number, line))
            if size > MAX_RECORD:
                raise BadData(
                    f"{self._file.shown}:{self._span[0][0]}: a quoted field that starts here has not ended after "
                    f"{MAX_RECORD:,} characters{self.advice(0)}"
                )
            yield line

    def _require_meant(self, span: Sequence[tuple[int, str]]) -> None:
        """Refuse a row over several lines that are rows of their own if quotes are letters."""
        if self._is_sure or any(line.rstrip("\r\n").count(self._delimiter) + 1 != self.width for _, line in span):
            return
        raise BadData(
            f"{self._file.shown}:{span[0][0]}: a quote that starts here swallows the line end, up to line {span[-1][0]}, "
            "and each of these lines may be a row; say which is meant with dialect.quoting, 'none' or 'double'"
        )

    def advice(self, num_columns: int) -> str:
        """Say which key of the dialect may help with a row that does not fit."""
        if self._is_quoted:
            return "; if quotes are letters in this file, set dialect.quoting to 'none'"
        return "; if fields of this file stand in quotes, set dialect.quoting to 'double'" if num_columns else ""


def _reason(error: csv.Error) -> str:
    reason = first_line(error)
    return (
        "a quoted field does not end" if "unexpected end of data" in reason else reason.partition(" - do you need")[0]
    )
