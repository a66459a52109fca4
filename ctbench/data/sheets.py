"""Reading the first sheet of an Excel workbook; the package openpyxl is an extra of its own."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from ctbench.data.delimited import require_distinct
from ctbench.data.files import DataFile
from ctbench.data.unpack import FREE_BYTES, MAX_RATIO
from ctbench.errors import BadData, first_line, listing


def read_sheet(file: DataFile, fields: Sequence[str]) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    """Yield ((file, row), record) of the first sheet, whose first row names the columns; empty rows are left out.

    Numbers become text as they are shown: 3 and 3.0 are "3".

    Raises:
        BadData: openpyxl is missing, the file is no workbook, or it lacks one of `fields`.
    """
    try:
        import openpyxl
    except ImportError:
        raise BadData(
            f"{file.shown}: Excel files need the package openpyxl (pip install 'ctbench[xlsx]'); or save it as CSV"
        ) from None
    _require_proportion(file)
    with file.open() as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles and the like, which no text depends on
        try:
            book = openpyxl.load_workbook(opened, read_only=True, data_only=True)
            rows = book.worksheets[0].iter_rows(values_only=True)
            names = [_text(value) for value in next(rows, ())]
            while names and not names[-1]:
                names.pop()
            require_distinct(names, f"{file.shown}: column")
            if missing := [field for field in fields if field not in names]:
                raise BadData(f"{file.shown}: no column '{missing[0]}' in its first row; found: {listing(names)}")
            for number, row in enumerate(rows, start=2):
                if any(value is not None for value in row):
                    yield (file.shown, number), dict(zip(names, map(_text, row), strict=False))
        except BadData:
            raise
        except Exception as error:  # of the library, and of many kinds where a file is damaged
            raise BadData(f"{file.shown}: not readable as an Excel workbook: {first_line(error)}") from None


def _require_proportion(file: DataFile) -> None:
    """Refuse a workbook, which is a zip archive, that unpacks out of proportion."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            size = sum(info.file_size for info in archive.infolist())
    except Exception as error:  # zipfile raises errors of several kinds where an archive is damaged
        raise BadData(f"{file.shown}: not readable as an Excel workbook: {first_line(error)}") from None
    if size > FREE_BYTES + MAX_RATIO * file.path.stat().st_size:
        raise BadData(f"{file.shown}: unpacks to more than {MAX_RATIO} times its size, as no text does")


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
