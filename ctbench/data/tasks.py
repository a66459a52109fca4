"""End tasks as token ids: encoding, batches of similar length, scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctbench.data.schema import Domain, Stream, SyntheticTask
from ctbench.data.sources import Example, read_examples
from ctbench.errors import BadData

_POOL_BATCHES = 16

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class EncodedSplit:
    """Examples of one split as token ids.

    Attributes:
        ids: token ids of each example, special tokens included; n arrays of their own lengths.
        targets: number of each example's label in `TaskData.labels`, [n].
    """

    ids: tuple[Ids, ...]
    targets: Ids

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
        labels: names of the classes: the declared labels, or those of the training examples, sorted.
        validation: None where the task has none.
        majority: accuracy on the test examples of the most frequent training label.
    """

    labels: tuple[str, ...]
    train: EncodedSplit
    validation: EncodedSplit | None
    test: EncodedSplit
    majority: float


def encode_task(stream: Stream, domain: Domain, tokenizer: Any, *, max_length: int) -> TaskData:
    """Read and tokenise an end task.

    Args:
        stream: the stream.
        domain: one of its domains.
        tokenizer: a fast tokenizer of transformers.
        max_length: longest example in tokens; longer ones are cut at the end (of pairs, the longer part first).

    Raises:
        BadData: an unreadable file, a label that no training example has, fewer than two labels.
    """
    train, validation, test, labels = check_task(stream, domain)
    encoder = _Encoder(tokenizer, max_length)
    most_frequent = Counter(sorted(example.label for example in train)).most_common(1)[0][0]
    return TaskData(
        labels=labels,
        train=encoder.split(train, labels),
        validation=encoder.split(validation, labels) if validation else None,
        test=encoder.split(test, labels),
        majority=sum(example.label == most_frequent for example in test) / len(test),
    )


def check_task(stream: Stream, domain: Domain) -> tuple[list[Example], list[Example], list[Example], tuple[str, ...]]:
    """Read an end task and make sure that it can be learned and scored.

    Returns:
        Training, validation and test examples, and the labels.

    Raises:
        BadData: as `encode_task`.
    """
    train = read_examples(stream, domain, "train")
    validation = read_examples(stream, domain, "validation")
    test = read_examples(stream, domain, "test")
    shown = {example.label for example in train}
    declared = None if isinstance(domain.task, SyntheticTask) else domain.task.labels
    labels = tuple(sorted(set(declared or shown)))
    whose = f"task of domain {domain.name} of stream {stream.name}"
    if len(shown) < 2:
        raise BadData(f"{whose}: the training examples have {len(shown)} label, at least 2 are wanted")
    for split, examples in (("test", test), ("validation", validation), ("training", train)):
        unknown = sorted({example.label for example in examples} - set(labels))
        if unknown and declared:
            raise BadData(
                f"{whose}: label '{unknown[0]}' of the {split} examples is not in `labels`: {', '.join(labels)}"
            )
        if unknown:
            raise BadData(
                f"{whose}: label '{unknown[0]}' is in the {split} but not in the training examples; training labels: "
                f"{', '.join(labels)}; if that is meant, name all labels under `labels`"
            )
    if not test:
        told = (
            ""
            if isinstance(domain.task, SyntheticTask) or domain.task.test
            else ": `test_fraction` left none to set apart"
        )
        raise BadData(f"{whose}: no test examples{told}")
    return train, validation, test, labels


class _Encoder:
    """Tokenises examples with the tokenizer's own special tokens."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        from tokenizers import Tokenizer

        self._backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_padding()
        self._backend.enable_truncation(max_length, strategy="longest_first")
        self._joins_pairs = tokenizer.sep_token_id is not None
        self._filler = next(token for token in (tokenizer.eos_token_id, tokenizer.sep_token_id, 0) if token is not None)

    def split(self, examples: Sequence[Example], labels: Sequence[str]) -> EncodedSplit:
        numbers = {label: index for index, label in enumerate(labels)}
        encoded = self._backend.encode_batch_fast([self._input(example) for example in examples])
        ids = tuple(np.array(encoding.ids or [self._filler], dtype=np.int64) for encoding in encoded)
        return EncodedSplit(ids=ids, targets=np.array([numbers[example.label] for example in examples], dtype=np.int64))

    def _input(self, example: Example) -> str | tuple[str, str]:
        if example.pair is None:
            return example.text
        # A tokenizer without a separator would glue the second text to the first.
        return (example.text, example.pair) if self._joins_pairs else f"{example.text}\n{example.pair}"


def buckets(lengths: Ids, batch: int, generator: np.random.Generator) -> list[Ids]:
    """Split examples into shuffled batches of similar length.

    Args:
        lengths: tokens of each example, [n].
        batch: examples per batch; the last one may be smaller.
        generator: decides the order.

    Returns:
        Numbers of the examples of each batch; every example is in exactly one.

    Example:
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
