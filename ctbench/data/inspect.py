"""What a stream's data is: sizes, labels, balance, overlap and leaks, found before anything is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctbench.data.leaks import LeakIndex, normalise
from ctbench.data.schema import Domain, Metric, Stream, TextSource
from ctbench.data.sources import Example, Purpose, read_texts, single_document
from ctbench.data.tasks import check_task, score

MAX_SHOWN_LEAKS = 3
_FEW_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class TextInspection:
    """Raw text of one source.

    Attributes:
        name: the domain it belongs to, None for general text.
        purpose: "text" is trained on, "held_out" is measured on.
        leaked: numbers of test texts found in it by the domain of their task; those without any are left out.
        leaks: (domain of the task, beginning of the text) of the first ones.
    """

    name: str | None
    purpose: Purpose
    documents: int
    words: int
    characters: int
    leaked: Mapping[str, int]
    leaks: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class LabelInspection:
    """A label with its numbers of examples."""

    name: str
    train: int
    validation: int
    test: int


@dataclass(frozen=True, kw_only=True)
class TaskInspection:
    """End task of a domain, as a run sees it: limits applied.

    Attributes:
        majority: score of naming the most frequent training label, by name of the metric.
        train_in_test: test examples whose input (text and pair) is also among the training examples.
        validation_in_test: test examples whose input is also among the validation examples.
    """

    domain: str
    metric: Metric
    labels: tuple[LabelInspection, ...]
    train: int
    validation: int
    test: int
    words: float
    majority: Mapping[str, float]
    train_in_test: int
    validation_in_test: int

    @property
    def majority_score(self) -> float:
        """Score of naming the most frequent training label, in the task's own metric."""
        return self.majority[self.metric]


@dataclass(frozen=True, kw_only=True)
class StreamInspection:
    """What `inspect_stream` found.

    Attributes:
        texts: general text first, then every domain's text and declared held-out text.
        short_tests: test texts of fewer than `ctbench.data.leaks.SHORT` words, found as whole documents only.
        problems: what a careful user would look at, in words; empty is clean.
    """

    name: str
    version: int
    kind: str
    recipe: str
    texts: tuple[TextInspection, ...]
    tasks: tuple[TaskInspection, ...]
    short_tests: int
    problems: tuple[str, ...]


def inspect_stream(stream: Stream) -> StreamInspection:
    """Read all data of a stream once and say what it is.

    Text is streamed: memory grows with the labelled examples, not with the text.

    Raises:
        BadData: a source or a task that no run could use.
    """
    tasks, texts_of = [], {}
    for domain in stream.domains:
        train, validation, test, labels = check_task(stream, domain)
        tasks.append(_inspect_task(domain, train, validation, test, labels))
        texts_of[domain.name] = [_longer(example) for example in test]
    owners = [name for name, texts in texts_of.items() for _ in texts]
    tests = [text for texts in texts_of.values() for text in texts]
    index = LeakIndex(tests)
    texts = tuple(_inspect_text(stream, *source, index, tests, owners) for source in _sources(stream))
    return StreamInspection(
        name=stream.name,
        version=stream.version,
        kind=stream.kind,
        recipe=stream.recipe.name,
        texts=texts,
        tasks=tuple(tasks),
        short_tests=index.num_short,
        problems=(*_base_problems(stream), *_text_problems(stream, texts), *_task_problems(tasks)),
    )


def _sources(stream: Stream) -> Iterator[tuple[str | None, Purpose, TextSource]]:
    if stream.general is not None:
        yield None, "text", stream.general
    for domain in stream.domains:
        yield domain.name, "text", domain.text
        if domain.held_out is not None:
            yield domain.name, "held_out", domain.held_out


class _Counts:
    """Counts documents as they pass by."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.documents = self.words = self.characters = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.documents += 1
            self.words += len(text.split())
            self.characters += len(text)
            yield text


def _inspect_text(
    stream: Stream,
    name: str | None,
    purpose: Purpose,
    source: TextSource,
    index: LeakIndex,
    tests: Sequence[str],
    owners: Sequence[str],
) -> TextInspection:
    counts = _Counts(read_texts(stream, source, domain=name, purpose=purpose))
    found = sorted({hit.text for hit in index.find(counts)})
    return TextInspection(
        name=name,
        purpose=purpose,
        documents=counts.documents,
        words=counts.words,
        characters=counts.characters,
        leaked=dict(Counter(owners[number] for number in found)),
        leaks=tuple((owners[number], _beginning(tests[number])) for number in found[:MAX_SHOWN_LEAKS]),
    )


def _inspect_task(
    domain: Domain,
    train: Sequence[Example],
    validation: Sequence[Example],
    test: Sequence[Example],
    labels: Sequence[str],
) -> TaskInspection:
    counts = [Counter(example.label for example in split) for split in (train, validation, test)]
    majority = min(labels, key=lambda label: (-counts[0][label], label))
    numbers = {label: number for number, label in enumerate(labels)}
    targets = np.array([numbers[example.label] for example in test], dtype=np.int64)
    inputs = [_input(example) for example in test]
    return TaskInspection(
        domain=domain.name,
        metric=domain.task.metric,
        labels=tuple(
            LabelInspection(name=label, train=counts[0][label], validation=counts[1][label], test=counts[2][label])
            for label in labels
        ),
        train=len(train),
        validation=len(validation),
        test=len(test),
        words=sum(len(f"{example.text} {example.pair or ''}".split()) for example in test) / len(test),
        majority=score(targets, np.full_like(targets, numbers[majority]), len(labels)),
        train_in_test=_overlap(inputs, train),
        validation_in_test=_overlap(inputs, validation),
    )


def _input(example: Example) -> tuple[str, str]:
    # Marks such as << >> say which entities are meant, so only space and case are levelled here.
    return " ".join(example.text.casefold().split()), " ".join(normalise(example.pair or ""))


def _longer(example: Example) -> str:
    """Return the sentence of a pair of aspect and sentence, whichever stands first."""
    return max(example.text, example.pair or "", key=len)


def _overlap(inputs: Sequence[tuple[str, str]], others: Sequence[Example]) -> int:
    known = {_input(example) for example in others}
    return sum(given in known for given in inputs)


def _beginning(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= 60 else shown[:57] + "..."


def show_source(text: TextInspection) -> str:
    """Name a text in words."""
    if text.name is None:
        return "the general text"
    return f"the {'text' if text.purpose == 'text' else 'held-out text'} of {text.name}"


def _base_problems(stream: Stream) -> Iterator[str]:
    if stream.recipe.model == "tiny" and (stream.general is None or stream.recipe.base is None):
        yield "model tiny is pre-trained on general text, and [general] or [base] is missing: name another with --model"


def _text_problems(stream: Stream, texts: Sequence[TextInspection]) -> Iterator[str]:
    for text in texts:
        is_measured_apart = text.name is not None and stream.domain(text.name).held_out is not None
        if text.documents < 2 and text.purpose == "text" and not is_measured_apart:
            yield single_document(text.name)
        for owner, count in text.leaked.items():
            first = next((f": '{shown}'" for name, shown in text.leaks if name == owner), "")
            yield f"{count} test texts of {owner} are inside {show_source(text)}{first}"


def _task_problems(tasks: Sequence[TaskInspection]) -> Iterator[str]:
    for task in tasks:
        for split, count in (("training", task.train_in_test), ("validation", task.validation_in_test)):
            if count:
                yield f"task of {task.domain}: {count} of {task.test} test inputs are also {split} inputs"
        if unseen := [label.name for label in task.labels if label.test == 0]:
            yield f"task of {task.domain}: no test example of {', '.join(unseen)}"
        if never := [label.name for label in task.labels if label.train == 0]:
            yield f"task of {task.domain}: no training example of {', '.join(never)}"
        if few := [f"{label.name} ({label.train})" for label in task.labels if 0 < label.train < _FEW_EXAMPLES]:
            yield f"task of {task.domain}: fewer than {_FEW_EXAMPLES} training examples of {', '.join(few)}"
