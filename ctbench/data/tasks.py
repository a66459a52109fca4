"""End tasks as token ids: encoding, batches of similar length, scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctbench.data.answers import (
    indicators,
    require_different_numbers,
    standardised,
    trivial_numbers,
    trivial_sets,
)
from ctbench.data.choices import ChoiceData, encode_choices, guessing
from ctbench.data.encode import encode_batch, filler, plain_tokenizer, separates_pairs
from ctbench.data.examples import Example
from ctbench.data.generation import MAX_ANSWER, GenerationData, encode_generation, trivial_answers
from ctbench.data.schema import Domain, Stream
from ctbench.data.sources import read_examples
from ctbench.data.spans import SpanData, encode_spans, require_nervaluate, trivial_spans
from ctbench.data.tasktables import FilesTask, SyntheticTask, TaskKind
from ctbench.errors import BadData

_POOL_BATCHES = 16

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class EncodedSplit:
    """Examples of one split as token ids.

    Attributes:
        ids: token ids of each example, special tokens included; n arrays of their own lengths.
        targets: number of each example's label in `TaskData.labels`, [n]; of a regression standardised numbers, of a
            multilabel task indicators [n, C].
        segments: of pairs, which text each token belongs to by the tokenizer; n arrays as `ids`, none without pairs.
    """

    ids: tuple[Ids, ...]
    targets: npt.NDArray[Any]
    segments: tuple[Ids, ...] = ()

    @property
    def lengths(self) -> Ids:
        """Number of tokens of each example, [n]."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """An end task ready for fine-tuning.

    Attributes:
        labels: names of the classes: the declared labels, or those of the training examples, sorted; none of a regression.
        validation: None where the task has none.
        majority: accuracy on the test examples of the most frequent training label; None of another kind of task.
        baseline: every score of the trivial baseline, by name of the metric; see `trivial_scores`.
    """

    kind: TaskKind = "classification"
    labels: tuple[str, ...]
    train: EncodedSplit
    validation: EncodedSplit | None
    test: EncodedSplit
    majority: float | None
    baseline: Mapping[str, float]


EndTask = TaskData | ChoiceData | SpanData | GenerationData


def encode_task(stream: Stream, domain: Domain, tokenizer: Any, *, max_length: int) -> EndTask:
    """Read and tokenise an end task.

    Args:
        stream: the stream.
        domain: one of its domains.
        tokenizer: a fast tokenizer of transformers.
        max_length: longest example in tokens; longer ones are cut at the end (of pairs, the longer part first).

    Raises:
        BadData: an unreadable file, a label that no training example has, fewer than two labels, an answer that is too
            long.
    """
    train, validation, test, labels = check_task(stream, domain)
    splits, whose = (train, validation, test), _whose(stream, domain)
    if domain.task.kind == "choice":
        return encode_choices(splits, tokenizer, max_length=max_length, whose=whose)
    if domain.task.kind == "spans":
        return encode_spans(splits, labels, tokenizer, max_length=max_length)
    if domain.task.kind == "generation":
        room = domain.task.max_answer or MAX_ANSWER
        return encode_generation(splits, tokenizer, max_length=max_length, max_answer=room, whose=whose)
    encoder = _Encoder(tokenizer, max_length)
    baseline = trivial_scores(domain.task.kind, train, test, labels)

    def encoded(examples: Sequence[Example]) -> EncodedSplit:
        return encoder.split(examples, _targets(domain.task.kind, examples, train, labels))

    return TaskData(
        kind=domain.task.kind,
        labels=labels,
        train=encoded(train),
        validation=encoded(validation) if validation else None,
        test=encoded(test),
        baseline=baseline,
        majority=baseline.get("accuracy"),
    )


def _targets(
    kind: TaskKind, examples: Sequence[Example], train: Sequence[Example], labels: Sequence[str]
) -> npt.NDArray[Any]:
    if kind == "regression":
        return standardised(examples, train)
    if kind == "multilabel":
        return indicators(examples, labels)
    numbers = {label: index for index, label in enumerate(labels)}
    return np.array([numbers[example.label] for example in examples], dtype=np.int64)


def trivial_scores(
    kind: TaskKind, train: Sequence[Example], test: Sequence[Example], labels: Sequence[str]
) -> dict[str, float]:
    """Return the scores of the trivial baseline.

    That is the most frequent training label, set of labels or answer, the mean of the training numbers, no entity, or guessing
    where there are choices.
    """
    if kind == "choice":
        return guessing(test)
    if kind == "regression":
        return trivial_numbers(test)
    if kind == "generation":
        return trivial_answers(train, test)
    if kind == "spans":
        return trivial_spans(test)
    if kind == "multilabel":
        return trivial_sets(train, test, labels)
    most_frequent = Counter(sorted(example.label for example in train)).most_common(1)[0][0]
    targets = _targets(kind, test, train, labels)
    return score(targets, np.full_like(targets, labels.index(most_frequent)), len(labels))


def check_task(stream: Stream, domain: Domain) -> tuple[list[Example], list[Example], list[Example], tuple[str, ...]]:
    """Read an end task and make sure that it can be learned and scored.

    Returns:
        Training, validation and test examples, and the labels; none of a task of kind choice.

    Raises:
        BadData: as `encode_task`.
    """
    train = read_examples(stream, domain, "train")
    validation = read_examples(stream, domain, "validation")
    test = read_examples(stream, domain, "test")
    task, whose = domain.task, _whose(stream, domain)
    if task.kind == "spans":
        require_nervaluate(whose)
    is_named = task.kind in ("classification", "multilabel", "spans")
    labels = _check_labels(domain, whose, (train, validation, test)) if is_named else ()
    if task.kind == "regression":
        require_different_numbers(train, whose)
    if not train and not task.zero_shot:
        raise BadData(f"{whose}: no training examples; set zero_shot = true to score the LM without fine-tuning")
    if not test:
        is_split = isinstance(task, FilesTask) and not task.test
        raise BadData(f"{whose}: no test examples{': `test_fraction` left none to set apart' if is_split else ''}")
    return train, validation, test, labels


def _whose(stream: Stream, domain: Domain) -> str:
    return f"task of domain {domain.name} of stream {stream.name}"


def _check_labels(
    domain: Domain, whose: str, splits: tuple[Sequence[Example], Sequence[Example], Sequence[Example]]
) -> tuple[str, ...]:
    """Return the labels of a task, of which training shows two or more, and no other split others."""
    is_one = domain.task.kind == "classification"
    named = [{name for each in split for name in (each.labels or (each.label,) * is_one)} for split in splits]
    shown = named[0]
    declared = None if isinstance(domain.task, SyntheticTask) else domain.task.labels
    labels = tuple(sorted(set(declared or shown)))
    if len(shown) < 2:
        raise BadData(f"{whose}: the training examples have {len(shown)} label, at least 2 are wanted")
    for split, found in zip(("test", "validation", "training"), (named[2], named[1], named[0]), strict=True):
        unknown = sorted(found - set(labels))
        if unknown and declared:
            raise BadData(
                f"{whose}: label '{unknown[0]}' of the {split} examples is not in `labels`: {', '.join(labels)}"
            )
        if unknown:
            raise BadData(
                f"{whose}: label '{unknown[0]}' is in the {split} but not in the training examples; training labels: "
                f"{', '.join(labels)}; if that is meant, name all labels under `labels`"
            )
    return labels


class _Encoder:
    """Tokenises examples with the tokenizer's own special tokens."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self._backend = plain_tokenizer(tokenizer)
        self._seam = "" if separates_pairs(self._backend) else "\n"
        self._backend.enable_truncation(max_length, strategy="longest_first")
        self._filler = filler(tokenizer)

    def split(self, examples: Sequence[Example], targets: npt.NDArray[Any]) -> EncodedSplit:
        encoded = encode_batch(self._backend, [self._input(example) for example in examples])
        ids = tuple(np.array(encoding.ids or [self._filler], dtype=np.int64) for encoding in encoded)
        has_pairs = any(example.pair is not None for example in examples)
        types = [np.array(encoding.type_ids or [0], dtype=np.int64) for encoding in encoded] if has_pairs else []
        return EncodedSplit(ids=ids, targets=targets, segments=tuple(types))

    def _input(self, example: Example) -> str | tuple[str, str]:
        if example.pair is None:
            return example.text
        # A tokenizer without a separator would glue the second text to the first. Two texts in any case: the longer is cut.
        return example.text, f"{self._seam}{example.pair}"


def buckets(lengths: Ids, batch: int, generator: np.random.Generator) -> list[Ids]:
    """Split examples into shuffled batches of similar length.

    Args:
        lengths: tokens of each example, [n].
        batch: examples per batch; the last one may be smaller.
        generator: decides the order.

    Returns:
        Numbers of the examples of each batch; every example is in exactly one.

    Examples:
        >>> batches = buckets(np.array([3, 9, 3]), 2, np.random.default_rng(0))
        >>> sorted(np.concatenate(batches).tolist())
        [0, 1, 2]
    """
    order = generator.permutation(len(lengths))
    batches: list[Ids] = []
    for start in range(0, len(order), batch * _POOL_BATCHES):
        pool = order[start : start + batch * _POOL_BATCHES]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[first : first + batch] for first in range(0, len(pool), batch)]
    return [batches[index] for index in generator.permutation(len(batches))]


def pad(ids: Sequence[Ids], rows: Ids, pad_id: int) -> tuple[Ids, Ids]:
    """Put examples of different lengths into one array, padded at the end.

    Returns:
        Token ids [n, T] and attention mask [n, T], 1 for real tokens.
    """
    width = max(len(ids[row]) for row in rows)
    input_ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(rows), width), dtype=np.int64)
    for place, row in enumerate(rows):
        input_ids[place, : len(ids[row])] = ids[row]
        attention_mask[place, : len(ids[row])] = 1
    return input_ids, attention_mask


def score(targets: Ids, predictions: Ids, num_labels: int) -> dict[str, float]:
    """Return accuracy, macro-F1 and micro-F1 over all labels, those absent from targets and predictions included."""
    from sklearn.metrics import accuracy_score, f1_score

    labels = list(range(num_labels))
    scores = {"accuracy": float(accuracy_score(targets, predictions))}
    for average in ("macro", "micro"):
        f1 = f1_score(targets, predictions, labels=labels, average=average, zero_division=0.0)
        scores[f"{average}_f1"] = float(f1)
    return scores
