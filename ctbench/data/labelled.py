"""Labelled examples in plain text: a line of text with a line of another file as its label, or `text@label`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from ctbench.data.files import DataFile
from ctbench.data.lines import read_whole_lines, require_line_feeds
from ctbench.data.records import Place, Record, show
from ctbench.data.tasktables import FilesTask
from ctbench.errors import BadData


def read_parallel(
    files: Sequence[DataFile], labels: Sequence[DataFile], task: FilesTask
) -> Iterator[tuple[Place, Record]]:
    """Yield ((file, line), record) of files with a text a line and files with its label in the same line.

    Raises:
        BadData: different numbers of files or lines, or files that are not plain text.
    """
    if len(files) != len(labels):
        raise BadData(f"{files[0].shown}: {len(files)} files of texts have {len(labels)} files of labels")
    for file, label_file in zip(files, labels, strict=True):
        for each in (file, label_file):
            _require_text(each)
        texts, named = _full_lines(file), _full_lines(label_file)
        for number, (text, label) in enumerate(zip_longest(texts, named), start=1):
            if text is None or label is None:
                longer, shorter = (label_file, file) if text is None else (file, label_file)
                ends = f"{longer.shown} has more lines than the other, which ends in line {number - 1}"
                raise BadData(f"{show((longer.shown, number))}: nothing in {shorter.shown} goes with it; {ends}")
            yield (file.shown, text[0]), {task.text: text[1], task.label: label[1]}


def read_separated(file: DataFile, separator: str, task: FilesTask) -> Iterator[tuple[Place, Record]]:
    """Yield ((file, line), record) of a file with a text and, behind the last separator, its label in every line.

    Raises:
        BadData: a line without separator, or a file that is not plain text.
    """
    _require_text(file)
    for number, line in _full_lines(file):
        text, found, label = line.rpartition(separator)
        if not found:
            raise BadData(f"{show((file.shown, number))}: no separator '{separator}' between text and label")
        yield (file.shown, number), {task.text: text.strip(), task.label: label.strip()}


def _require_text(file: DataFile) -> None:
    if file.format != "text":
        raise BadData(f"{file.shown}: lines with labels are plain text, and this is {file.format}; set format = 'text'")


def _full_lines(file: DataFile) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers; empty ones at the end are left out."""
    waiting: list[tuple[int, str]] = []
    for number, line in read_whole_lines(file):
        require_line_feeds(file, number, line)
        waiting.append((number, line.strip()))
        if line.strip():
            yield from waiting
            waiting = []
