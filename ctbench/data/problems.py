"""What a careful user would look at in the data of a stream, in words; none of it stops a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ctbench.data.walk import Skipped

if TYPE_CHECKING:
    from ctbench.data.inspect import TaskInspection, TextInspection

_FEW_EXAMPLES = 5
_INSIDE = 0.01
"""From this share on, documents of a domain inside the general text are named."""


def show_source(text: TextInspection) -> str:
    """Name a text in words."""
    if text.name is None:
        return "the general text"
    return f"the {'text' if text.purpose == 'text' else 'held-out text'} of {text.name}"


def text_problems(texts: Sequence[TextInspection]) -> Iterator[str]:
    """Yield what is odd about texts."""
    for text in texts:
        yield from _lost(text.skipped, show_source(text))
        yield from text.folded
        yield from overlap_problem(text.in_general, show_source(text))
        for owner, count in text.leaked.items():
            first = next((f": '{shown}'" for name, shown in text.leaks if name == owner), "")
            yield f"{count} test texts of {owner} are inside {show_source(text)}{first}"


def overlap_problem(share: float, whose: str) -> Iterator[str]:
    """Say that so large a share of a text's documents, in [0, 1], is in the general text too."""
    if share >= _INSIDE:
        yield (
            f"{100 * share:.0f} % of the documents of {whose} are in the general text too, so the base and row 0 know them: "
            "leave them out of [general]"
        )


def _lost(skipped: Sequence[Skipped], whose: str) -> Iterator[str]:
    """Name what was not read although it may hold text."""
    for each in skipped:
        if each.may_hold_text:
            yield f"{whose}: {each.shown} was skipped, because it is {each.reason}"


def task_problems(tasks: Sequence[TaskInspection]) -> Iterator[str]:
    """Yield what is odd about end tasks."""
    for task in tasks:
        yield from _lost(task.skipped, f"task of {task.domain}")
        yield from task.folded
        if task.contradictions:
            text, labels = task.contradictions[0]
            count = len(task.contradictions)
            yield f"task of {task.domain}: {count} texts have two labels, such as '{text}' ({', '.join(labels)})"
        for split, count in (("training", task.train_in_test), ("validation", task.validation_in_test)):
            if count:
                yield f"task of {task.domain}: {count} of {task.test} test inputs are also {split} inputs"
        if unseen := [label.name for label in task.labels if label.test == 0]:
            yield f"task of {task.domain}: no test example of {', '.join(unseen)}"
        if never := [label.name for label in task.labels if label.train == 0]:
            yield f"task of {task.domain}: no training example of {', '.join(never)}"
        if all(len(label.name) > 1 and label.name[0] == label.name[-1] == '"' for label in task.labels) and task.labels:
            yield (
                f"task of {task.domain}: every label stands in quotes, such as {task.labels[0].name}; if that is how the file "
                "writes fields, set dialect.quoting to 'double'"
            )
        if few := [f"{label.name} ({label.train})" for label in task.labels if 0 < label.train < _FEW_EXAMPLES]:
            yield f"task of {task.domain}: fewer than {_FEW_EXAMPLES} training examples of {', '.join(few)}"
