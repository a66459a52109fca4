"""What `ctbench check STREAM` prints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctbench.cli.answer import print_answer
from ctbench.data.inspect import show_source
from ctbench.data.leaks import SHORT
from ctbench.report.numbers import DASH
from ctbench.report.tables import Cell, Table

if TYPE_CHECKING:
    from ctbench.data.inspect import StreamInspection, TaskInspection, TextInspection

MAX_SHOWN_LABELS = 6


def show_inspection(inspection: StreamInspection, *, as_json: bool) -> None:
    """Print what was found in a stream's data: one JSON document, or tables and the list of problems."""
    if as_json:
        print_answer(json.dumps(dataclasses.asdict(inspection), allow_nan=False))
        return
    from ctbench.report.console import print_tables

    title = f"{inspection.name} v{inspection.version} · {inspection.kind} · recipe {inspection.recipe}"
    print_tables([_texts(title, inspection.texts), _tasks(inspection.tasks)])
    print()
    for problem in inspection.problems:
        print(f"- {problem}")
    if not inspection.problems:
        print("no overlap between training and test texts, no test text in any corpus, every label has its examples")
    if inspection.short_tests:
        print(
            f"{inspection.short_tests} test texts of fewer than {SHORT} words were looked for as whole documents only"
        )


def _texts(title: str, texts: Sequence[TextInspection]) -> Table:
    rows = []
    for text in texts:
        numbers = (text.documents, text.words, text.characters, sum(text.leaked.values()))
        rows.append((Cell(text=show_source(text).removeprefix("the ")), *(Cell(text=f"{n:,}") for n in numbers)))
    columns = ("text", "documents", "words", "characters", "test texts inside")
    return Table(title=title, columns=columns, rows=tuple(rows), left=("text",))


def _tasks(tasks: Sequence[TaskInspection]) -> Table:
    rows = []
    for task in tasks:
        texts = [
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
    columns = ("task", "train", "validation", "test", "words a text", "metric", "majority %", "test in train", "labels")
    notes = ("majority: score of naming the most frequent training label", "labels: share of the training examples")
    return Table(title="End tasks", columns=columns, rows=tuple(rows), left=("task", "metric", "labels"), notes=notes)


def _balance(task: TaskInspection) -> str:
    """Write the labels with their shares, the most frequent first."""
    labels = sorted(task.labels, key=lambda label: (-label.train, label.name))
    shown = [f"{label.name} {label.train / task.train:.0%}" for label in labels[:MAX_SHOWN_LABELS]]
    rest = len(labels) - len(shown)
    return f"{len(labels)}: {', '.join(shown)}" + (f" and {rest} more" if rest else "")
