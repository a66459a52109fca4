"""What a stream's data is: sizes, labels, balance, overlap and leaks, found before anything is computed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ctbench.data.delimited import folded_rows
from ctbench.data.examples import Example
from ctbench.data.files import Survey
from ctbench.data.leaks import LeakIndex, normalise
from ctbench.data.overlap import Documents, Share
from ctbench.data.problems import task_problems, text_problems
from ctbench.data.schema import Domain, FilesText, Stream, TextSource
from ctbench.data.sources import Purpose, read_texts, survey
from ctbench.data.split import CorpusSize
from ctbench.data.tasks import check_task, trivial_scores
from ctbench.data.tasktables import FilesTask, Metric
from ctbench.data.walk import Skipped

MAX_SHOWN_LEAKS = 3


@dataclass(frozen=True, kw_only=True)
class TextInspection:
    """Raw text of one source.

    Attributes:
        name: the domain it belongs to, None for general text.
        purpose: "text" is trained on, "held_out" is measured on.
        files: number of files that were read, None where it does not come from files.
        skipped: what the paths of the source cover and what was not read.
        folded: files with rows over several lines, in words.
        leaked: numbers of test texts found in it by the domain of their task; those without any are left out.
        in_general: share of its documents that are in the general text too, in [0, 1].
        leaks: (domain of the task, beginning of the text) of the first ones.
    """

    name: str | None
    purpose: Purpose
    files: int | None
    skipped: tuple[Skipped, ...]
    folded: tuple[str, ...]
    documents: int
    words: int
    characters: int
    leaked: Mapping[str, int]
    leaks: tuple[tuple[str, str], ...]
    in_general: float = 0.0


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
        files: number of files that were read, None where it does not come from files.
        skipped: what the paths of the task cover and what was not read.
        folded: files with rows over several lines, in words.
        contradictions: inputs with more than one label, whichever split they are in, with those labels.
    """

    domain: str
    files: int | None
    skipped: tuple[Skipped, ...]
    folded: tuple[str, ...]
    contradictions: tuple[tuple[str, tuple[str, ...]], ...]
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
        corpora: how much of every text in files is trained on and held out, in tokens of the model.
        short_tests: test texts of fewer than `ctbench.data.leaks.SHORT` words, found as whole documents only.
        problems: what a careful user would look at, in words; empty is clean.
        passes: how many times a stage goes over the text of a domain, by its name, where that is known.
    """

    name: str
    version: int
    kind: str
    recipe: str
    texts: tuple[TextInspection, ...]
    corpora: tuple[CorpusSize, ...]
    tasks: tuple[TaskInspection, ...]
    short_tests: int
    problems: tuple[str, ...]
    passes: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"StreamInspection({self.name}: {len(self.problems)} problems)"


def inspect_stream(stream: Stream, *, corpora: Sequence[CorpusSize] = ()) -> StreamInspection:
    """Read all data of a stream once and say what it is.

    Text is streamed: memory grows with the labelled examples, not with the text.

    Args:
        stream: the stream.
        corpora: how its texts are split, as `ctbench.engine.preflight` found.

    Raises:
        BadData: a source or a task that no run could use.
    """
    tasks, texts_of = [], {}
    for domain in stream.domains:
        train, validation, test, labels = check_task(stream, domain)
        files = _survey_task(stream, domain.task)
        tasks.append(_inspect_task(domain, (train, validation, test), labels, files))
        texts_of[domain.name] = [_longer(example) for example in test]
    owners = [name for name, texts in texts_of.items() for _ in texts]
    tests = [text for texts in texts_of.values() for text in texts]
    owned = _TestTexts(index=LeakIndex(tests), texts=tests, owners=owners)
    general = Documents()
    texts = tuple(_inspect_text(stream, source, owned, general) for source in _sources(stream))
    return StreamInspection(
        name=stream.name,
        version=stream.version,
        kind=stream.kind,
        recipe=stream.recipe.name,
        texts=texts,
        corpora=tuple(corpora),
        tasks=tuple(tasks),
        short_tests=owned.index.num_short,
        problems=(*text_problems(texts), *task_problems(tasks)),
    )


def _sources(stream: Stream) -> Iterator[tuple[str | None, Purpose, TextSource]]:
    if stream.general is not None:
        yield None, "text", stream.general
    for domain in stream.domains:
        yield domain.name, "text", domain.text
        if domain.held_out is not None:
            yield domain.name, "held_out", domain.held_out


def _survey_task(stream: Stream, task: object) -> Survey | None:
    if not isinstance(task, FilesTask):
        return None
    paths = dict.fromkeys([*task.train, *(task.validation or ()), *(task.test or ()), *task.label_files()])
    return survey(stream, task, tuple(paths), "the task")


def _folded(files: Survey | None) -> Iterator[str]:
    """Name the files of which rows go over line ends in quotes, although the stream does not say that they do."""
    for file in files.files if files else ():
        if lines := folded_rows(file):
            yield (
                f"{file.shown}: {len(lines)} rows go over line ends in quotes, the first from line {lines[0]} on; "
                "if that is meant, set dialect.quoting to 'double'"
            )


def _num_files(files: Survey | None) -> int | None:
    return None if files is None else len(files.files)


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


@dataclass(frozen=True, kw_only=True)
class _TestTexts:
    """The test texts of all tasks, the domains that they are of, and an index to find them in a corpus."""

    index: LeakIndex
    texts: Sequence[str]
    owners: Sequence[str]


def _inspect_text(
    stream: Stream, place: tuple[str | None, Purpose, TextSource], tests: _TestTexts, general: Documents
) -> TextInspection:
    name, purpose, source = place
    inside = Share(general)
    read = read_texts(stream, source, domain=name, purpose=purpose)
    counts = _Counts(general.remember(read) if name is None else inside.count(read))
    files = survey(stream, source, source.path, "the text") if isinstance(source, FilesText) else None
    found = sorted({hit.text for hit in tests.index.find(counts)})
    return TextInspection(
        name=name,
        purpose=purpose,
        files=_num_files(files),
        skipped=files.skipped if files else (),
        folded=tuple(_folded(files)),
        documents=counts.documents,
        words=counts.words,
        characters=counts.characters,
        leaked=dict(Counter(tests.owners[number] for number in found)),
        in_general=inside.share,
        leaks=tuple((tests.owners[number], _beginning(tests.texts[number])) for number in found[:MAX_SHOWN_LEAKS]),
    )


def _inspect_task(
    domain: Domain,
    splits: tuple[Sequence[Example], Sequence[Example], Sequence[Example]],
    labels: Sequence[str],
    files: Survey | None,
) -> TaskInspection:
    train, validation, test = splits
    counts = [Counter(name for each in split for name in set(each.labels) or [each.label]) for split in splits]
    inputs = [_input(example) for example in test]
    return TaskInspection(
        domain=domain.name,
        files=_num_files(files),
        skipped=files.skipped if files else (),
        folded=tuple(_folded(files)),
        contradictions=_contradictions([*train, *validation, *test]),
        metric=domain.task.metric,
        labels=tuple(
            LabelInspection(name=label, train=counts[0][label], validation=counts[1][label], test=counts[2][label])
            for label in labels
        ),
        train=len(train),
        validation=len(validation),
        test=len(test),
        words=sum(len(f"{example.text} {example.pair or ''}".split()) for example in test) / len(test),
        majority=trivial_scores(domain.task.kind, train, test, labels),
        train_in_test=_overlap(inputs, train),
        validation_in_test=_overlap(inputs, validation),
    )


def _input(example: Example) -> tuple[str, str]:
    # Marks such as << >> say which entities are meant, so only space and case are levelled here.
    more = " ".join([example.pair or "", *example.choices, example.rest or ""])
    return " ".join(example.text.casefold().split()), " ".join(normalise(more))


def _contradictions(examples: Sequence[Example]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the inputs with more than one label."""
    labels: dict[tuple[str, str], dict[str, None]] = {}
    texts: dict[tuple[str, str], str] = {}
    for example in examples:
        labels.setdefault(_input(example), {})[example.label] = None
        texts.setdefault(_input(example), example.text)
    return tuple((_beginning(texts[given]), tuple(found)) for given, found in labels.items() if len(found) > 1)


def _longer(example: Example) -> str:
    """Return the sentence of a pair of aspect and sentence, whichever stands first; with choices the text with the answer."""
    if example.choices:
        return f"{example.text} {example.choices[int(example.label)]} {example.rest or ''}"
    return max(example.text, example.pair or "", key=len)


def _overlap(inputs: Sequence[tuple[str, str]], others: Sequence[Example]) -> int:
    known = {_input(example) for example in others}
    return sum(given in known for given in inputs)


def _beginning(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= 60 else shown[:57] + "..."
