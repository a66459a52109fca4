"""Where text and examples come from: files, the Hugging Face hub, the synthetic language; and fingerprints of both."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from ctbench.data.examples import Example, fields_of, make_example, text_of
from ctbench.data.files import DataFile, Survey, survey_files
from ctbench.data.knobs import Language
from ctbench.data.records import Place, Record, read_documents, read_records
from ctbench.data.schema import Domain, FilesText, HubText, Stream, SyntheticText
from ctbench.data.tasktables import FilesTask, HubTask, Split
from ctbench.errors import BadData
from ctbench.randomness import make_generator

FACTS_VERSION = 1
"""Raised whenever the same knobs give other facts; part of the fingerprint of their task."""
TAGGING_VERSION = 2
"""Raised whenever a head on words gives other scores for the same examples; part of the fingerprint of tasks with spans."""
LISTS_VERSION = 2
"""Raised whenever lists of labels of the hub are read in another way; part of the fingerprint of its tasks with such lists."""

Purpose = Literal["text", "held_out"]


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
            from ctbench.data.synthetic.language import language_texts

            assert stream.language is not None
            yield from language_texts(stream.language, stream.kind, domain, purpose)
        case HubText():
            from ctbench.data.hub import read_hub

            for place, record in read_hub(source, split=source.split, fields=[source.field], whose=whose):
                if text := text_of(place, record, source.field).strip():
                    yield text
        case FilesText():
            yield from _read_files(stream, source, whose)


def _read_files(stream: Stream, source: FilesText, whose: str) -> Iterator[str]:
    is_empty = True
    for file in _find(stream, source, source.path, whose):
        if file.format == "text":
            texts = read_documents(file, source.document)
        else:
            texts = (text_of(*found, source.field).strip() for found in read_records(file, [source.field]))
        for text in texts:
            if text:
                is_empty = False
                yield text
    if is_empty:
        raise BadData(f"{', '.join(source.path)}: no text in it, wanted by {whose}")


def read_examples(stream: Stream, domain: Domain, split: Split) -> list[Example]:
    """Read a split of a domain's end task, cut to the task's limits; empty where there is no such split, or it is not used.

    Raises:
        BadData: with file and line where there are some.
    """
    if split == "train" and domain.task.zero_shot:
        return []
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
        together = dataclasses.replace(task, test=task.train, test_labels=task.train_labels)
        every = list(_read_all_examples(stream, dataclasses.replace(domain, task=together), "train"))
        apart = _set_apart(every, task.test_fraction, by_label=task.kind in ("classification", "choice"))
        yield from (example for example in every if (_content(example) in apart) == (split == "test"))
        return
    if isinstance(task, FilesTask | HubTask):
        for place, record in _task_records(stream, task, split, whose):
            yield make_example(place, record, task)
        return
    assert stream.language is not None
    if task.asks_facts:
        yield from _read_facts(stream.language, domain.name) if split == "test" else ()
        return
    from ctbench.data.synthetic.language import language_task

    for text, label in language_task(stream.language, stream.kind, domain.name, split):
        yield Example(text=text, label=label)


def _read_facts(language: Language, period: str) -> Iterator[Example]:
    from ctbench.data.synthetic.facts import language_facts

    for fact in language_facts(language, period):
        yield Example(
            text=f"{fact.function} ",
            choices=fact.anchors,
            rest=f" {fact.word}",
            label=str(fact.label),
            group=fact.group,
        )


def _set_apart(examples: Sequence[Example], fraction: float, *, by_label: bool) -> set[str]:
    """Choose test inputs: a share, at least one, never all, of each label or of all; by content: copies stay together."""
    inputs: dict[str, set[str]] = {}
    for example in examples:
        inputs.setdefault(example.label if by_label else "", set()).add(_content(example))
    counts = {label: min(len(found) - 1, max(1, round(fraction * len(found)))) for label, found in inputs.items()}
    return {content for label, found in inputs.items() for content in sorted(found)[: counts[label]]}


def _content(example: Example) -> str:
    return _hash([example.text, example.pair, *([example.choices, example.rest] if example.choices else [])])


def _task_records(
    stream: Stream, task: FilesTask | HubTask, split: Split, whose: str
) -> Iterator[tuple[Place, Record]]:
    fields = fields_of(task)
    if isinstance(task, HubTask):
        from ctbench.data.hub import read_hub

        name = {"train": task.train, "validation": task.validation, "test": task.test}[split]
        if name is not None:
            yield from read_hub(task, split=name, fields=fields, whose=whose)
        return
    paths = {"train": task.train, "validation": task.validation, "test": task.test}[split]
    files = _find(stream, task, paths or (), whose)
    if labels := task.labels_of(split):
        from ctbench.data.labelled import read_parallel

        yield from read_parallel(files, _find(stream, task, labels, whose), task)
        return
    for file in files:
        if task.separator:
            from ctbench.data.labelled import read_separated

            yield from read_separated(file, task.separator, task)
        else:
            yield from read_records(file, fields)


def _find(stream: Stream, source: FilesText | FilesTask, paths: Sequence[str], whose: str) -> tuple[DataFile, ...]:
    return survey(stream, source, paths, whose).files


def survey(stream: Stream, source: FilesText | FilesTask, paths: Sequence[str], whose: str) -> Survey:
    """Return the files that paths of a source mean, and what is left out.

    Raises:
        BadData: as `survey_files`.
    """
    return survey_files(
        stream.folder(), paths, format=source.format, whose=whose, root=stream.root, dialect=source.dialect
    )


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
            files = _find(stream, source, source.path, whose)
            parts = [[file.format, file.digest()] for file in files]
            reading = {"text": source.document}
            fields = [reading.get(file.format, source.field) for file in files]
            return _hash(["files", parts, fields, *_dialect(source)])


def task_fingerprint(stream: Stream, domain: Domain) -> str:
    """Return the SHA-256 of the examples of a domain's end task, limits included; raises BadData as `fingerprint`."""
    task = domain.task
    limits = [task.max_train, task.max_test]
    if isinstance(task, HubTask):
        keys = ("id", "revision", "config", "train", "validation", "test", "text", "pair", "label")
        lists = ["lists", LISTS_VERSION] if task.kind == "multilabel" else []
        return _hash(
            ["hub task", [getattr(task, key) for key in keys], limits, *_declared(task), *_asked(task), *lists]
        )
    if isinstance(task, FilesTask):
        parts = []
        for paths in (task.train, task.validation, task.test):
            whose = f"the task of domain {domain.name}"
            files = _find(stream, task, paths or (), whose)
            parts.append([[file.format, file.digest()] for file in files])
        parts += _label_parts(stream, task)
        apart = [] if task.test else [task.test_fraction]
        return _hash(
            [
                *("files task", parts, task.text, task.pair, task.label, limits),
                *(*apart, *_declared(task), *_dialect(task), *_asked(task)),
            ]
        )
    asked = ["facts", FACTS_VERSION] if task.asks_facts else []
    return _hash([_language_key(stream, domain.name, "task"), limits, *asked])


def _label_parts(stream: Stream, task: FilesTask) -> list[Any]:
    """Return what a task in plain text adds to its fingerprint."""
    found: list[Any] = [["separator", task.separator]] if task.separator else []
    for split in ("train", "validation", "test"):
        if paths := task.labels_of(split):
            found.append([split, [file.digest() for file in _find(stream, task, paths, "the labels")]])
    return found


def _dialect(source: FilesText | FilesTask) -> list[Any]:
    return [["dialect", dataclasses.asdict(source.dialect)]] if source.dialect else []


def _declared(task: FilesTask | HubTask) -> list[Any]:
    return [["labels", sorted(task.labels)]] if task.labels else []


def _asked(task: FilesTask | HubTask) -> list[Any]:
    """Return what a task of another kind than classification adds to its fingerprint."""
    if task.kind == "classification":
        return []
    tagging = [TAGGING_VERSION] if task.kind == "spans" else []
    return [["kind", task.kind, task.choices, task.gap, task.zero_shot, task.max_answer, *tagging]]


def _language_key(stream: Stream, domain: str | None, purpose: str) -> list[Any]:
    from ctbench.data.synthetic.language import GENERATOR_VERSION

    assert stream.language is not None
    return ["language", GENERATOR_VERSION, dataclasses.asdict(stream.language), stream.kind, domain, purpose]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
