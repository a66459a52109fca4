"""Where text and examples come from: files, the Hugging Face hub, the synthetic language; and fingerprints of both."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ctbench.data.files import DataFile, find_files
from ctbench.data.records import Place, Record, read_documents, read_records, show
from ctbench.data.schema import Domain, FilesTask, FilesText, HubTask, HubText, Split, Stream, SyntheticText
from ctbench.errors import BadData
from ctbench.randomness import make_generator

Purpose = Literal["text", "held_out"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A labelled text of an end task."""

    text: str
    pair: str | None = None
    label: str


def read_texts(
    stream: Stream, source: FilesText | HubText | SyntheticText, *, domain: str | None, purpose: Purpose = "text"
) -> Iterator[str]:
    """Yield the documents of a source, one at a time.

    Args:
        stream: the stream it belongs to.
        source: one of the stream's text sources.
        domain: name of the domain, None for general text.
        purpose: whether the text is trained on or held out; the synthetic language draws the two apart.

    Raises:
        BadData: with file and line where there are some.
    """
    whose = f"domain {domain} of stream {stream.name}" if domain else f"the general text of stream {stream.name}"
    match source:
        case SyntheticText():
            from ctbench.data.language import language_texts

            assert stream.language is not None
            yield from language_texts(stream.language, stream.kind, domain, purpose)
        case HubText():
            from ctbench.data.hub import read_hub

            for place, record in read_hub(source, split=source.split, fields=[source.field], whose=whose):
                if text := _text(place, record, source.field).strip():
                    yield text
        case FilesText():
            yield from _read_files(stream, source, whose)


def _read_files(stream: Stream, source: FilesText, whose: str) -> Iterator[str]:
    is_empty = True
    for file in _find(stream, source.path, source.format, whose):
        if file.format == "text":
            texts = read_documents(file, source.document)
        else:
            texts = (_text(*found, source.field).strip() for found in read_records(file, [source.field]))
        for text in texts:
            if text:
                is_empty = False
                yield text
    if is_empty:
        raise BadData(f"{', '.join(source.path)}: no text in it, wanted by {whose}")


def single_document(name: str | None) -> str:
    """Say that a text cannot be split into a part to train on and one to measure on; no name for general text."""
    whose = f"text of domain {name}" if name else "general text"
    return (
        f"{whose} is a single document; at least two are wanted, because some are held out: add text, "
        "declare a held_out source, or choose smaller documents"
    )


def read_examples(stream: Stream, domain: Domain, split: Split) -> list[Example]:
    """Read a split of a domain's end task, cut to the task's limits; empty where there is no validation split.

    Raises:
        BadData: with file and line where there are some.
    """
    examples = list(_read_all_examples(stream, domain, split))
    limit = domain.task.max_train if split == "train" else domain.task.max_test
    if limit is None or len(examples) <= limit:
        return examples
    order = make_generator(0, [split], "limit").permutation(len(examples)).tolist()
    if split == "train":  # the first of each label goes first: no label is lost while there is room
        first = {examples[index].label: index for index in reversed(order)}
        order.sort(key=lambda index: first[examples[index].label] != index)
    return [examples[index] for index in sorted(order[:limit])]


def _read_all_examples(stream: Stream, domain: Domain, split: Split) -> Iterator[Example]:
    task, whose = domain.task, f"the {split} examples of domain {domain.name} of stream {stream.name}"
    if isinstance(task, FilesTask) and task.test is None and split != "validation":
        together = dataclasses.replace(task, test=task.train)
        every = list(_read_all_examples(stream, dataclasses.replace(domain, task=together), "train"))
        apart = _set_apart(every, task.test_fraction)
        yield from (example for example in every if (_content(example) in apart) == (split == "test"))
        return
    if isinstance(task, FilesTask | HubTask):
        for place, record in _task_records(stream, task, split, whose):
            pair = _filled(place, record, task.pair) if task.pair else None
            yield Example(text=_filled(place, record, task.text), pair=pair, label=_label(place, record, task.label))
        return
    from ctbench.data.language import language_task

    assert stream.language is not None
    for text, label in language_task(stream.language, stream.kind, domain.name, split):
        yield Example(text=text, label=label)


def _set_apart(examples: Sequence[Example], fraction: float) -> set[str]:
    """Choose test inputs: of each label a share, at least one, never all; by content, so that copies stay together."""
    inputs: dict[str, set[str]] = {}
    for example in examples:
        inputs.setdefault(example.label, set()).add(_content(example))
    counts = {label: min(len(found) - 1, max(1, round(fraction * len(found)))) for label, found in inputs.items()}
    return {content for label, found in inputs.items() for content in sorted(found)[: counts[label]]}


def _content(example: Example) -> str:
    return _hash([example.text, example.pair])


def _task_records(
    stream: Stream, task: FilesTask | HubTask, split: Split, whose: str
) -> Iterator[tuple[Place, Record]]:
    fields = [task.text, *([task.pair] if task.pair else []), task.label]
    if isinstance(task, HubTask):
        from ctbench.data.hub import read_hub

        name = {"train": task.train, "validation": task.validation, "test": task.test}[split]
        if name is not None:
            yield from read_hub(task, split=name, fields=fields, whose=whose)
        return
    paths = {"train": task.train, "validation": task.validation, "test": task.test}[split]
    for file in _find(stream, paths or (), task.format, whose):
        yield from read_records(file, fields)


def _find(stream: Stream, paths: Sequence[str], format: str, whose: str) -> list[DataFile]:
    return find_files(stream.folder(), paths, format=format, whose=whose, root=stream.root)


def _text(place: Place, record: Record, field: str) -> str:
    value = record[field]
    if not isinstance(value, str):
        raise BadData(f"{show(place)}: field '{field}' must be text, found {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadData(f"{show(place)}: field '{field}' holds half a character (a lone surrogate)") from None
    return value


def _filled(place: Place, record: Record, field: str) -> str:
    text = _text(place, record, field)
    if not text.strip():
        raise BadData(f"{show(place)}: field '{field}' is empty")
    return text


def _label(place: Place, record: Record, field: str) -> str:
    value = record[field]
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise BadData(f"{show(place)}: field '{field}' must be a label, a string or a whole number, found {value!r}")
    return str(value)


def fingerprint(
    stream: Stream, source: FilesText | HubText | SyntheticText, *, domain: str | None, purpose: Purpose = "text"
) -> str:
    """Return the SHA-256 of what `read_texts` reads with the same arguments; where files lie and their names do not enter.

    Raises:
        BadData: a file is missing or empty.
    """
    match source:
        case SyntheticText():
            return _hash(_language_key(stream, domain, purpose))
        case HubText():
            keys = ("id", "revision", "config", "split", "field", "max_documents")
            return _hash(["hub", *(getattr(source, key) for key in keys)])
        case FilesText():
            whose = f"domain {domain}" if domain else "the general text"
            files = _find(stream, source.path, source.format, whose)
            parts = [[file.format, file.digest()] for file in files]
            reading = {"text": source.document}
            fields = [reading.get(file.format, source.field) for file in files]
            return _hash(["files", parts, fields])


def task_fingerprint(stream: Stream, domain: Domain) -> str:
    """Return the SHA-256 of the examples of a domain's end task, limits included; raises BadData as `fingerprint`."""
    task = domain.task
    limits = [task.max_train, task.max_test]
    if isinstance(task, HubTask):
        keys = ("id", "revision", "config", "train", "validation", "test", "text", "pair", "label")
        return _hash(["hub task", [getattr(task, key) for key in keys], limits, *_declared(task)])
    if isinstance(task, FilesTask):
        parts = []
        for paths in (task.train, task.validation, task.test):
            whose = f"the task of domain {domain.name}"
            files = _find(stream, paths or (), task.format, whose)
            parts.append([[file.format, file.digest()] for file in files])
        apart = [] if task.test else [task.test_fraction]
        return _hash(["files task", parts, task.text, task.pair, task.label, limits, *apart, *_declared(task)])
    return _hash([_language_key(stream, domain.name, "task"), limits])


def _declared(task: FilesTask | HubTask) -> list[Any]:
    return [["labels", sorted(task.labels)]] if task.labels else []


def _language_key(stream: Stream, domain: str | None, purpose: str) -> list[Any]:
    from ctbench.data.language import GENERATOR_VERSION

    assert stream.language is not None
    return ["language", GENERATOR_VERSION, dataclasses.asdict(stream.language), stream.kind, domain, purpose]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
