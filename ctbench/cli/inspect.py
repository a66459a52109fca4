"""What `ctbench check STREAM` prints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ctbench.cli.answer import print_answer
from ctbench.data.leaks import SHORT
from ctbench.data.problems import show_source
from ctbench.data.schema import GENERAL
from ctbench.reporting.numbers import DASH
from ctbench.reporting.tables import Cell, Table

if TYPE_CHECKING:
    from ctbench.data.inspect import StreamInspection, TaskInspection, TextInspection
    from ctbench.data.split import CorpusSize

MAX_SHOWN_LABELS = 6
MAX_SHOWN_SKIPPED = 10


def show_inspection(inspection: StreamInspection, *, as_json: bool) -> None:
    """Print what was found in a stream's data: one JSON document, or tables and the list of problems."""
    if as_json:
        print_answer(json.dumps(dataclasses.asdict(inspection), allow_nan=False))
        return
    from ctbench.reporting.console import print_tables

    title = f"{inspection.name} v{inspection.version} · {inspection.kind} · recipe {inspection.recipe}"
    corpora = [_corpora(inspection.corpora, inspection.passes)] if inspection.corpora else []
    print_tables([_texts(title, inspection.texts), *corpora, _tasks(inspection.tasks)])
    print()
    for problem in inspection.problems:
        print(f"- {problem}")
    if not inspection.problems:
        print("no overlap between training and test texts, no test text in any corpus, every label has its examples")
    _print_skipped(inspection)
    if inspection.short_tests:
        print(
            f"{inspection.short_tests} test texts of fewer than {SHORT} words were looked for as whole documents only"
        )


def _texts(title: str, texts: Sequence[TextInspection]) -> Table:
    rows = []
    for text in texts:
        numbers = (text.documents, text.words, text.characters, sum(text.leaked.values()))
        cells = [show_source(text).removeprefix("the "), _count(text.files), *(f"{number:,}" for number in numbers)]
        rows.append(tuple(Cell(text=cell) for cell in cells))
    columns = ("text", "files", "documents", "words", "characters", "test texts inside")
    return Table(title=title, columns=columns, rows=tuple(rows), left=("text",))


def _count(number: int | None) -> str:
    return DASH if number is None else f"{number:,}"


def _corpora(corpora: Sequence[CorpusSize], passes: Mapping[str, float]) -> Table:
    rows = []
    for corpus in corpora:
        numbers = (corpus.train_documents, corpus.train_tokens, corpus.held_out_documents, corpus.held_out_tokens)
        cells = [
            corpus.name or GENERAL,
            *(f"{number:,}" for number in numbers),
            f"{100 * corpus.held_out_fraction:.1f}",
            f"{passes[corpus.name or GENERAL]:.1f}" if corpus.name in passes else DASH,
        ]
        rows.append(tuple(Cell(text=cell) for cell in cells))
    columns = (
        "text",
        "train documents",
        "train tokens",
        "held-out documents",
        "held-out tokens",
        "held out %",
        "passes",
    )
    notes = (
        "held out: share of the tokens that is never trained on, for the LM loss",
        "passes: how many times a stage on the domain goes over its text",
    )
    return Table(title="Trained on and held out", columns=columns, rows=tuple(rows), left=("text",), notes=notes)


def _print_skipped(inspection: StreamInspection) -> None:
    """Name what was not read, source by source."""
    sources = [(show_source(text), text.skipped) for text in inspection.texts]
    sources += [(f"the task of {task.domain}", task.skipped) for task in inspection.tasks]
    for whose, skipped in sources:
        names = [f"{each.shown} ({each.reason})" for each in skipped[:MAX_SHOWN_SKIPPED]]
        more = f" and {len(skipped) - len(names)} more" if len(skipped) > len(names) else ""
        if names:
            print(f"skipped in {whose}: {', '.join(names)}{more}")


def _tasks(tasks: Sequence[TaskInspection]) -> Table:
    rows = []
    for task in tasks:
        texts = [
            _count(task.files),
            f"{task.train:,}",
            f"{task.validation:,}" if task.validation else DASH,
            f"{task.test:,}",
            f"{task.words:.1f}",
            task.metric,
            f"{100 * task.majority_score:.1f}",
            f"{task.train_in_test}",
            _balance(task),
        ]
        rows.append((Cell(text=task.domain), *(Cell(text=text) for text in texts)))
    columns = ("task", "files", "train", "validation", "test", "words a text", "metric", "majority %", "test in train")
    notes = (
        "majority: score of the trivial baseline: the most frequent training label, set or answer, the mean of training "
        "numbers, no entity, or the score to expect of guessing a choice",
        "labels: share of the training examples",
    )
    return Table(
        title="End tasks",
        columns=(*columns, "labels"),
        rows=tuple(rows),
        left=("task", "metric", "labels"),
        notes=notes,
    )


def _balance(task: TaskInspection) -> str:
    """Write the labels with their shares, the most frequent first; a dash where answers are no labels."""
    if not task.labels:
        return DASH
    labels = sorted(task.labels, key=lambda label: (-label.train, label.name))
    shown = [f"{label.name} {label.train / task.train:.0%}" for label in labels[:MAX_SHOWN_LABELS]]
    rest = len(labels) - len(shown)
    return f"{len(labels)}: {', '.join(shown)}" + (f" and {rest} more" if rest else "")
