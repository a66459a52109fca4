"""What an end task is made of: where its examples come from, what is asked of them, and how answers are scored.

Each class is the table `task` of a domain in the stream's TOML, chosen by its key `source`. The docstring under a field is
its help text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from ctbench.data.config import MissingKey
from ctbench.data.dialect import Dialect
from ctbench.data.settings import Count, Flag, Inner, Text, Texts

TaskKind = Literal["classification", "choice", "regression", "multilabel", "spans", "generation"]
Metric = Literal[
    "accuracy", "macro_f1", "micro_f1", "accuracy_norm", "pearson", "spearman", "exact_match", "span_f1", "token_f1"
]
Format = Literal["auto", "jsonl", "text", "csv", "tsv", "parquet", "xlsx"]
Split = Literal["train", "validation", "test"]

METRICS: Final[Mapping[str, tuple[Metric, ...]]] = {
    "classification": ("accuracy", "macro_f1", "micro_f1"),
    "choice": ("accuracy", "accuracy_norm"),
    "regression": ("pearson", "spearman"),
    "generation": ("exact_match", "token_f1"),
    "spans": ("span_f1",),
    "multilabel": ("micro_f1", "macro_f1", "exact_match"),
}
"""The metrics of each kind of task."""
GENERATIVE: Final = ("choice", "generation")
"""Kinds whose answers are scored by the LM's own probabilities: they need a decoder, and can do without fine-tuning."""


def check_revision(revision: str) -> None:
    """Refuse the name of a branch; raises ValueError."""
    if revision in ("main", "master"):
        raise ValueError(f"revision '{revision}' moves: give a commit hash or a tag")


@dataclass(frozen=True, kw_only=True)
class FilesTask:
    """An end task in files."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: Literal["files"] = "files"
    """Where the examples come from."""
    kind: TaskKind = "classification"
    """What is asked: the label of a text, which of several answers the LM finds most likely (`choice`), a number
    (`regression`), a set of labels (`multilabel`), entities (`spans`) or an answer
    in words (`generation`)."""
    train: Annotated[Texts, Field(min_length=0)] = ()
    """Files with training examples, relative to `root`; required unless `zero_shot`."""
    test: Texts | None = None
    """Files with test examples; without them a share of `train` is set apart."""
    test_fraction: Inner = 0.3
    """Where there is no `test`: share of each label's examples that is set apart, chosen by the text, in (0, 1)."""
    validation: Texts | None = None
    """Files with validation examples."""
    train_labels: Texts | None = None
    """Files with the labels of plain text: those of line 1, 2, ... of `train`, one a line."""
    test_labels: Texts | None = None
    """Likewise of `test`."""
    validation_labels: Texts | None = None
    """Likewise of `validation`."""
    separator: Text | None = None
    """What stands between text and label in a line of plain text, the last one counts: "@" reads text@label."""
    format: Format = "auto"
    """Format of the files; `auto` goes by their names."""
    dialect: Dialect | None = None
    """How delimited text is written."""
    text: Text = "text"
    """Field with the text; of spans a list of words."""
    pair: Text | None = None
    """Field with a second text, for tasks on pairs (an aspect, a hypothesis)."""
    label: Text = "label"
    """Field with the label, a string or an integer; of a choice the right one or its number from 0, of a regression a
    number, of a multilabel task a list of labels, of spans a list of tags of the words, as B-x, I-x and O, of a generation
    the answer or a list of answers that are right."""
    choices: Texts | None = None
    """Kind choice: field with a list of answers, or several fields with an answer each."""
    gap: Text | None = None
    """Kind choice: what stands in the text where the answer belongs, as "___"; by default the answer follows the text."""
    max_answer: Count | None = None
    """Kind generation: longest answer in tokens; by default 32."""
    zero_shot: Flag = False
    """Kinds choice and generation: score the LM without fine-tuning; the task then needs `test` and no training examples."""
    labels: Texts | None = None
    """All labels, where the training examples do not show every one that is tested; by default those they show."""
    metric: Metric = "accuracy"
    """Score of a cell."""
    max_train: Count | None = None
    """Use at most so many training examples, a fixed random choice."""
    max_test: Count | None = None
    """Use at most so many test examples, and as many validation examples, a fixed random choice."""

    def labels_of(self, split: Split) -> tuple[str, ...] | None:
        """Return the files with the labels of a split; None if they stand with the texts."""
        return {"train": self.train_labels, "validation": self.validation_labels, "test": self.test_labels}[split]

    def label_files(self) -> tuple[str, ...]:
        """Return the files with the labels of all splits."""
        return (*(self.train_labels or ()), *(self.validation_labels or ()), *(self.test_labels or ()))

    def __post_init__(self) -> None:
        _check_kind(self)
        if not self.train and not self.zero_shot:
            raise MissingKey("train")
        if self.zero_shot and self.test is None:
            raise ValueError("zero_shot scores the examples of `test`: name their files")
        lines = self.train_labels is not None
        if self.kind in ("choice", "multilabel", "spans") and (self.separator or lines):
            raise ValueError(f"kind '{self.kind}' needs fields, and plain text with labels has none")
        if (self.separator or lines) and self.pair:
            raise ValueError("pair needs fields, and plain text with labels has none")
        if self.separator and lines:
            raise ValueError("separator or train_labels: a label stands behind its text or in a file of its own")
        for name, texts, labels in (
            ("test", self.test, self.test_labels),
            ("validation", self.validation, self.validation_labels),
        ):
            if (labels is not None) != (lines and texts is not None):
                raise ValueError(f"{name}_labels goes with {name} and train_labels: give all of them or none")


@dataclass(frozen=True, kw_only=True)
class HubTask:
    """An end task from the Hugging Face hub."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: Literal["hub"] = "hub"
    """Where the examples come from."""
    kind: TaskKind = "classification"
    """What is asked: the label of a text, which of several answers the LM finds most likely (`choice`), a number
    (`regression`), a set of labels (`multilabel`), entities (`spans`) or an answer
    in words (`generation`)."""
    id: Text
    """Data set on the hub, as owner/name."""
    revision: Text
    """Commit hash or tag of the data set; a branch would move."""
    config: Text | None = None
    """Configuration of the data set."""
    train: Text = "train"
    """Split with training examples."""
    test: Text = "test"
    """Split with test examples."""
    validation: Text | None = None
    """Split with validation examples."""
    text: Text = "text"
    """Field with the text; of spans a list of words."""
    pair: Text | None = None
    """Field with a second text, for tasks on pairs."""
    label: Text = "label"
    """Field with the label, a string or an integer; of a choice the right one or its number from 0, of a regression a
    number, of a multilabel task a list of labels, of spans a list of tags of the words, as B-x, I-x and O, of a generation
    the answer or a list of answers that are right."""
    choices: Texts | None = None
    """Kind choice: field with a list of answers, or several fields with an answer each."""
    gap: Text | None = None
    """Kind choice: what stands in the text where the answer belongs, as "___"; by default the answer follows the text."""
    max_answer: Count | None = None
    """Kind generation: longest answer in tokens; by default 32."""
    zero_shot: Flag = False
    """Kinds choice and generation: score the LM without fine-tuning; the task then needs `test` and no training examples."""
    labels: Texts | None = None
    """All labels, where the training examples do not show every one that is tested; by default those they show."""
    metric: Metric = "accuracy"
    """Score of a cell."""
    max_train: Count | None = None
    """Use at most so many training examples, a fixed random choice."""
    max_test: Count | None = None
    """Use at most so many test examples, and as many validation examples, a fixed random choice."""

    def __post_init__(self) -> None:
        _check_kind(self)
        check_revision(self.revision)


@dataclass(frozen=True, kw_only=True)
class SyntheticTask:
    """The end task of the stream's `[language]`: name the class of a short text, or know the facts of a period."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    max_answer: ClassVar[None] = None

    source: Literal["synthetic"] = "synthetic"
    """Where the examples come from."""
    metric: Metric = "accuracy"
    """Score of a cell."""
    max_train: Count | None = None
    """Use at most so many training examples, a fixed random choice."""
    max_test: Count | None = None
    """Use at most so many test examples, and as many validation examples, a fixed random choice."""

    asks_facts: bool = False

    @property
    def kind(self) -> TaskKind:
        """A choice of facts, or a classification."""
        return "choice" if self.asks_facts else "classification"

    @property
    def zero_shot(self) -> bool:
        """Whether the LM is scored without fine-tuning, as on facts."""
        return self.asks_facts

    def __post_init__(self) -> None:
        if self.metric not in METRICS[self.kind]:
            raise ValueError(_wrong_metric(self.metric, self.kind))


def _wrong_metric(metric: str, kind: str) -> str:
    return f"metric '{metric}' is not of kind '{kind}'; allowed: {', '.join(METRICS[kind])}"


def _check_kind(task: FilesTask | HubTask) -> None:
    """Refuse keys that do not belong to the kind of a task; raises ValueError."""
    if task.metric not in METRICS[task.kind]:
        raise ValueError(_wrong_metric(task.metric, task.kind))
    if task.zero_shot and task.kind not in GENERATIVE:
        raise ValueError(
            f"zero_shot needs kind {' or '.join(GENERATIVE)}: a new classifier knows nothing before fine-tuning"
        )
    if task.kind == "choice":
        if task.choices is None:
            raise MissingKey("choices")
        if task.pair or task.labels:
            raise ValueError("kind 'choice' has neither pair nor labels")
    elif task.choices or task.gap:
        raise ValueError(f"choices and gap need kind 'choice', found kind '{task.kind}'")
    if task.kind == "generation":
        if task.pair or task.labels:
            raise ValueError("kind 'generation' has neither pair nor labels")
    elif task.max_answer is not None:
        raise ValueError(f"max_answer needs kind 'generation', found kind '{task.kind}'")
    if task.kind == "spans" and task.pair:
        raise ValueError("kind 'spans' reads single texts and no pair")
    if task.kind == "regression" and task.labels:
        raise ValueError("kind 'regression' has numbers and no labels")
