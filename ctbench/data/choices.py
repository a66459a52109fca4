"""Multiple choice as token ids: every answer behind its text, and accuracy by the log-probabilities of the answers.

Texts and answers are joined as lm-evaluation-harness joins them, so that both give the same scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctbench.data.encode import encode_batch, plain_tokenizer
from ctbench.data.examples import Example
from ctbench.data.tasktables import GENERATIVE
from ctbench.errors import BadConfig, BadData

Ids = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ChoiceSplit:
    """Examples of one split as token ids, a row for every answer; n rows of m examples.

    Attributes:
        ids: token ids of text and answer, n arrays of their own lengths.
        starts: number of tokens in front of the answer, at least 1, [n].
        sizes: characters of the answer, without the space in front of it, [n].
        owners: number of each row's example, rising, [n].
        rights: number of the right answer among those of each example, [m].
        groups: what the accuracy of each example is counted apart by, m names; empty for nothing.
    """

    ids: tuple[Ids, ...]
    starts: Ids
    sizes: Ids
    owners: Ids
    rights: Ids
    groups: tuple[str, ...] = ()

    @property
    def lengths(self) -> Ids:
        """Number of tokens of each row, [n]."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rights)

    def right_answers(self) -> ChoiceSplit:
        """Return the split with the rows of the right answers alone."""
        rows = np.searchsorted(self.owners, np.arange(len(self))) + self.rights
        return ChoiceSplit(
            ids=tuple(self.ids[row] for row in rows),
            starts=self.starts[rows],
            sizes=self.sizes[rows],
            owners=np.arange(len(self)),
            rights=np.zeros(len(self), dtype=np.int64),
        )


@dataclass(frozen=True, kw_only=True)
class ChoiceData:
    """A task of kind choice ready to be scored.

    Attributes:
        train: the right answers alone; None where the LM is scored without fine-tuning.
        validation: None where the task has none.
        majority: accuracy to expect of guessing.
        baseline: every score to expect of guessing, by name of the metric.
    """

    train: ChoiceSplit | None
    validation: ChoiceSplit | None
    test: ChoiceSplit
    majority: float
    baseline: Mapping[str, float]


def encode_choices(splits: Sequence[Sequence[Example]], tokenizer: Any, *, max_length: int, whose: str) -> ChoiceData:
    """Tokenise the examples of a task of kind choice.

    Args:
        splits: training, validation and test examples.
        tokenizer: a fast tokenizer of transformers.
        max_length: longest text with an answer in tokens; longer ones lose the beginning of the text.
        whose: what the task is, for messages.

    Raises:
        BadData: an answer has no token, or more than `max_length` has room for.
    """
    joiner = Joiner(tokenizer, max_length, whose)
    train, validation, test = (joiner.split(examples) if examples else None for examples in splits)
    assert test is not None
    baseline = guessing(splits[2])
    return ChoiceData(
        train=None if train is None else train.right_answers(),
        validation=validation,
        test=test,
        majority=baseline["accuracy"],
        baseline=baseline,
    )


def require_decoder(objective: str, *, model: str) -> None:
    """Refuse an encoder for a task of a kind in `GENERATIVE`.

    Args:
        objective: "mlm" or "clm".
        model: name of the model, for the message.

    Raises:
        BadConfig: the model is an encoder.
    """
    if objective != "clm":
        raise BadConfig(
            f"tasks of kind {' and '.join(GENERATIVE)} read the probabilities of texts, and model '{model}' is an encoder, "
            "which gives texts none; choose a decoder, or ask for the label as a classification"
        )


def guessing(examples: Sequence[Example]) -> dict[str, float]:
    """Return the scores to expect of choosing an answer by chance.

    Examples:
        >>> guessing([Example(text="", label="0", choices=("a", "b")), Example(text="", label="0", choices=tuple("abcd"))])
        {'accuracy': 0.375, 'accuracy_norm': 0.375}
    """
    chance = float(np.mean([1 / len(example.choices) for example in examples]))
    return {"accuracy": chance, "accuracy_norm": chance}


def score_choices(split: ChoiceSplit, log_probabilities: Reals) -> dict[str, float]:
    """Return the share of examples whose right answer has the highest log-probability; of equal ones the first counts.

    Args:
        split: the examples.
        log_probabilities: sums over the tokens of each answer in nats, [n].

    Returns:
        `accuracy`, and `accuracy_norm` with sums over the number of characters: "acc" and "acc_norm" of
        lm-evaluation-harness. With groups also `accuracy_GROUP` of each.
    """
    found = {}
    for name, values in (("accuracy", log_probabilities), ("accuracy_norm", log_probabilities / split.sizes)):
        chosen = [int(np.argmax(values[split.owners == owner])) for owner in range(len(split))]
        is_right = np.array(chosen) == split.rights
        found[name] = float(np.mean(is_right))
        for group in sorted(set(split.groups)) if name == "accuracy" else ():
            found[f"accuracy_{group}"] = float(np.mean(is_right[np.array(split.groups) == group]))
    return found


class Joiner:
    """Tokenises texts with answers: no special token but those that the tokenizer puts in front of a text.

    Args:
        tokenizer: a fast tokenizer of transformers.
        max_length: longest text with an answer in tokens; longer ones lose the beginning of the text.
        whose: what the task is, for messages.
    """

    def __init__(self, tokenizer: Any, max_length: int, whose: str) -> None:
        self._backend = plain_tokenizer(tokenizer)
        self._front = _tokens_in_front(self._backend)
        ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id, 0)
        self._first = self._front or [next(token for token in ends if token is not None)]
        self._max_length = max_length
        self._whose = whose

    def split(self, examples: Sequence[Example]) -> ChoiceSplit:
        """Return examples with their choices."""
        pairs = [pair for example in examples for pair in _join(example)]
        rows = self.rows(pairs)
        counts = [len(example.choices) for example in examples]
        sizes = [len(choice + (example.rest or "")) for example in examples for choice in example.choices]
        return ChoiceSplit(
            ids=tuple(ids for ids, _ in rows),
            starts=np.array([start for _, start in rows], dtype=np.int64),
            sizes=np.array(sizes, dtype=np.int64),
            owners=np.repeat(np.arange(len(examples)), counts),
            rights=np.array([int(example.label) for example in examples], dtype=np.int64),
            groups=tuple(example.group for example in examples) if any(each.group for each in examples) else (),
        )

    def rows(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[Ids, int]]:
        """Return the ids of texts with answers, and where each answer begins; raises BadData."""
        contexts = self._encode([context for context, _ in pairs])
        whole = self._encode([context + answer for context, answer in pairs])
        return [self._row(*row) for row in zip(contexts, whole, pairs, strict=True)]

    def texts(self, texts: Sequence[str]) -> list[Ids]:
        """Return the ids of texts alone; raises BadData."""
        rows = [[*(self._front if ids else self._first), *ids] for ids in self._encode(list(texts))]
        return [np.array(ids[-self._max_length :], dtype=np.int64) for ids in rows]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in encode_batch(self._backend, texts, add_special_tokens=False)]

    def _row(self, context: list[int], whole: list[int], pair: tuple[str, str]) -> tuple[Ids, int]:
        """Return the ids of a text with an answer, cut to the room there is, and where the answer begins."""
        front, count = self._front if context else self._first, len(whole) - len(context)
        if count < 1:
            raise BadData(
                f"{self._whose}: the answer '{pair[1].strip():.60}' has no token of its own; choose another model"
            )
        if count >= self._max_length:
            raise BadData(
                f"{self._whose}: the answer '{pair[1].strip():.60}' has {count} tokens, and with a token in front of it at "
                f"most {self._max_length} are read; raise finetune.max_length"
            )
        ids = np.array([*front, *whole][-self._max_length :], dtype=np.int64)
        return ids, len(ids) - count


def _join(example: Example) -> Iterator[tuple[str, str]]:
    """Yield (text in front, answer and what follows) of every answer; spaces at the seam belong to the answer."""
    context = example.text.rstrip()
    seam = example.text[len(context) :] + (" " if example.rest is None else "")
    for choice in example.choices:
        yield context, f"{seam}{choice}{example.rest or ''}"


def _tokens_in_front(backend: Any) -> list[int]:
    """Return the special tokens that a tokenizer puts in front of a text."""
    (encoding,) = backend.encode_batch(["a"])
    marks = encoding.special_tokens_mask
    count = marks.index(0) if 0 in marks else 0
    return list(encoding.ids[:count])
