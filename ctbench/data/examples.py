"""A labelled example of an end task, read from a record of a file or of the hub."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ctbench.data.records import Place, Record, show
from ctbench.data.tasktables import FilesTask, HubTask
from ctbench.errors import BadData

MAX_DIGITS: Final = 18
"""A number with more digits is none of a choice's; Python refuses to read some thousands of them."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A labelled text of an end task.

    Attributes:
        text: the text, or of a choice what stands in front of the answer.
        pair: a second text, for tasks on pairs.
        label: the label; of a choice the number of the right one from 0, in digits; of a regression a number; of a
            multilabel task all labels in a row.
        labels: of a multilabel task the labels, sorted; of spans the tags of the words; of a generation
            the right answers; empty otherwise.
        words: of spans the words that make up the text, with a space between them; empty otherwise.
        choices: of a choice the answers to choose from; empty otherwise.
        group: of a choice what its accuracy is counted apart by; empty for nothing.
        rest: of a choice what follows the answer where the text has a gap; None if the answer stands at the end.
    """

    text: str
    pair: str | None = None
    label: str
    labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    rest: str | None = None
    group: str = ""


def fields_of(task: FilesTask | HubTask) -> list[str]:
    """Return the fields of a record that an example is made of."""
    return list(dict.fromkeys([task.text, *([task.pair] if task.pair else []), task.label, *(task.choices or ())]))


def make_example(place: Place, record: Record, task: FilesTask | HubTask) -> Example:
    """Read an example from a record that has the task's fields.

    Raises:
        BadData: a value is empty or of the wrong kind, with file and line.
    """
    if task.kind == "choice":
        return _make_choice(place, record, task)
    if task.kind == "spans":
        return _make_spans(place, record, task)
    pair = filled(place, record, task.pair) if task.pair else None
    text = filled(place, record, task.text)
    if task.kind == "multilabel":
        labels = _labels(place, record, task.label)
        return Example(text=text, pair=pair, label=", ".join(labels), labels=labels)
    if task.kind == "generation":
        answers = _answers(place, record, task.label)
        return Example(text=text, label=answers[0], labels=answers)
    read = _number if task.kind == "regression" else _label
    return Example(text=text, pair=pair, label=read(place, record, task.label))


def _make_choice(place: Place, record: Record, task: FilesTask | HubTask) -> Example:
    choices = _choices(place, record, task.choices or ())
    label = str(_right(place, record, task.label, choices))
    if task.gap is None:
        return Example(text=text_of(place, record, task.text), label=label, choices=choices)
    before, *behind = text_of(place, record, task.text).split(task.gap)
    if len(behind) != 1:
        raise BadData(f"{show(place)}: field '{task.text}' holds the gap '{task.gap}' {len(behind)} times, wanted once")
    return Example(text=before, label=label, choices=choices, rest=behind[0])


def _make_spans(place: Place, record: Record, task: FilesTask | HubTask) -> Example:
    sides = []
    for field in (task.text, task.label):
        values = record[field]
        if not isinstance(values, list | tuple) or not values:
            raise BadData(
                f"{show(place)}: field '{field}' must be a list of words or of their tags, found {values!r:.60}"
            )
        numbered = {f"{field}[{number}]": value for number, value in enumerate(values)}
        sides.append(tuple(filled(place, numbered, name) for name in numbered))
    words, tags = sides
    if len(words) != len(tags):
        raise BadData(f"{show(place)}: {len(words)} words in '{task.text}' have {len(tags)} tags in '{task.label}'")
    for tag in tags:
        if tag != "O" and not (tag[:2] in ("B-", "I-") and tag[2:]):
            raise BadData(f"{show(place)}: a tag in '{task.label}' must be O, B-x or I-x, found '{tag:.60}'")
    return Example(text=" ".join(words), label=", ".join(tags), labels=tags, words=words)


def _choices(place: Place, record: Record, fields: tuple[str, ...]) -> tuple[str, ...]:
    """Read a field with a list of texts, or several fields with a text each."""
    if len(fields) > 1:
        return tuple(filled(place, record, field) for field in fields)
    values = record[fields[0]]
    if not isinstance(values, list | tuple) or len(values) < 2:
        raise BadData(f"{show(place)}: field '{fields[0]}' must be a list of at least two texts, found {values!r:.60}")
    numbered = {f"{fields[0]}[{number}]": value for number, value in enumerate(values)}
    return tuple(filled(place, numbered, name) for name in numbered)


def _right(place: Place, record: Record, field: str, choices: tuple[str, ...]) -> int:
    """Read the number of the right choice: its text, or its number from 0."""
    label = _label(place, record, field)
    if isinstance(record[field], str) and label in choices:
        return choices.index(label)
    if label.isdecimal() and len(label) <= MAX_DIGITS and int(label) < len(choices):
        return int(label)
    raise BadData(
        f"{show(place)}: field '{field}' must be one of the choices or its number, 0 to {len(choices) - 1}, "
        f"found {label!r:.60}"
    )


def text_of(place: Place, record: Record, field: str) -> str:
    """Return the text in a field of a record; raises BadData."""
    value = record[field]
    if not isinstance(value, str):
        raise BadData(f"{show(place)}: field '{field}' must be text, found {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadData(f"{show(place)}: field '{field}' holds half a character (a lone surrogate)") from None
    return value


def filled(place: Place, record: Record, field: str) -> str:
    """Return the text in a field of a record, more than white space; raises BadData."""
    text = text_of(place, record, field)
    if not text.strip():
        raise BadData(f"{show(place)}: field '{field}' is empty")
    return text


def _number(place: Place, record: Record, field: str) -> str:
    value = record[field]
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise BadData(f"{show(place)}: field '{field}' must be a number, found {value!r:.60}")
    return repr(number)


def _answers(place: Place, record: Record, field: str) -> tuple[str, ...]:
    """Read an answer, or a list of answers that are right."""
    values = record[field]
    if not isinstance(values, list | tuple):
        return (_one_line(place, record, field),)
    if not values:
        raise BadData(f"{show(place)}: field '{field}' holds no answer")
    numbered = {f"{field}[{number}]": value for number, value in enumerate(values)}
    return tuple(_one_line(place, numbered, name) for name in numbered)


def _one_line(place: Place, record: Record, field: str) -> str:
    answer = filled(place, record, field)
    if "\n" in answer.strip():
        raise BadData(f"{show(place)}: field '{field}' has several lines; the first line that an LM writes is compared")
    return answer


def _labels(place: Place, record: Record, field: str) -> tuple[str, ...]:
    values = record[field]
    if not isinstance(values, list | tuple):
        raise BadData(f"{show(place)}: field '{field}' must be a list of labels, found {values!r:.60}")
    numbered = {f"{field}[{number}]": value for number, value in enumerate(values)}
    return tuple(sorted({_label(place, numbered, name) for name in numbered}))


def _label(place: Place, record: Record, field: str) -> str:
    value = record[field]
    if isinstance(value, bool) or not isinstance(value, str | int) or (isinstance(value, str) and not value.strip()):
        raise BadData(
            f"{show(place)}: field '{field}' must be a label, a string or a whole number, found {value!r:.60}"
        )
    return text_of(place, record, field) if isinstance(value, str) else str(value)
