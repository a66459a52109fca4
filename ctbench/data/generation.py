"""Answers that a decoder writes: texts with answers as token ids, and exact match and F1 of words."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ctbench.data.choices import Joiner
from ctbench.data.encode import end_of_document
from ctbench.data.examples import Example
from ctbench.errors import BadConfig

MAX_ANSWER: Final = 32
"""Tokens that an answer has at most unless the task says otherwise."""

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class GenerationSplit:
    """Examples of one split as token ids.

    Attributes:
        ids: token ids of text, answer and end where they are trained on, of the text alone elsewhere; n arrays.
        starts: number of tokens in front of the answer, at least 1, [n].
        answers: the answers that count as right, n tuples.
        room: tokens that an answer may have behind each row; 0 where the answer is part of it.
    """

    ids: tuple[Ids, ...]
    starts: Ids
    answers: tuple[tuple[str, ...], ...]
    room: int

    @property
    def lengths(self) -> Ids:
        """Number of tokens of each row with the room for an answer, [n]."""
        return np.array([len(ids) + self.room for ids in self.ids], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class GenerationData:
    """A task of kind generation ready for an LM.

    Attributes:
        train: texts with their first answers; None where the LM is scored without fine-tuning.
        validation: None where the task has none.
        majority: None: an answer is no class.
        baseline: scores of always giving the most frequent training answer, or none.
    """

    train: GenerationSplit | None
    validation: GenerationSplit | None
    test: GenerationSplit
    baseline: Mapping[str, float]
    majority: None = None


def encode_generation(
    splits: Sequence[Sequence[Example]], tokenizer: Any, *, max_length: int, max_answer: int, whose: str
) -> GenerationData:
    """Tokenise the examples of a task of kind generation.

    Args:
        splits: training, validation and test examples.
        tokenizer: a fast tokenizer of transformers.
        max_length: longest text with its answer in tokens; longer ones lose the beginning of the text.
        max_answer: longest answer in tokens.
        whose: what the task is, for messages.

    Raises:
        BadConfig: `max_answer` leaves no room for a text.
        BadData: an answer has no token, or more than `max_length` has room for.
    """
    if max_answer >= max_length:
        raise BadConfig(
            f"{whose}: max_answer is {max_answer}, and of finetune.max_length = {max_length} tokens none is left for a "
            "text; lower max_answer or raise finetune.max_length"
        )
    train, validation, test = splits
    prompts = Joiner(tokenizer, max_length - max_answer, whose)
    asked = [_prompts(examples, prompts, max_answer) if examples else None for examples in (validation, test)]
    assert asked[1] is not None
    trained = None
    if train:
        end = end_of_document(tokenizer)
        pairs = [(example.text.rstrip(), f" {example.label}") for example in train]
        rows = Joiner(tokenizer, max_length - len(end), whose).rows(pairs)
        trained = GenerationSplit(
            ids=tuple(np.append(ids, end).astype(np.int64) for ids, _ in rows),
            starts=np.array([start for _, start in rows], dtype=np.int64),
            answers=tuple(example.labels for example in train),
            room=0,
        )
    return GenerationData(train=trained, validation=asked[0], test=asked[1], baseline=trivial_answers(train, test))


def _prompts(examples: Sequence[Example], joiner: Joiner, room: int) -> GenerationSplit:
    ids = joiner.texts([example.text.rstrip() for example in examples])
    return GenerationSplit(
        ids=tuple(ids),
        starts=np.array([len(each) for each in ids], dtype=np.int64),
        answers=tuple(example.labels for example in examples),
        room=room,
    )


def normalise(answer: str) -> list[str]:
    """Return the words of an answer as SQuAD compares them: lower case, no punctuation, no articles.

    Examples:
        >>> normalise("The blue-green Sea.")
        ['bluegreen', 'sea']
    """
    plain = "".join(letter for letter in answer.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def score_answers(targets: Sequence[Sequence[str]], answers: Sequence[str]) -> dict[str, float]:
    """Return the share of answers that are right word by word, and the mean F1 of their words; the best target counts.

    Args:
        targets: the answers that count as right, of each text.
        answers: the given ones.
    """
    pairs = [
        [(normalise(target), normalise(answer)) for target in each]
        for each, answer in zip(targets, answers, strict=True)
    ]
    return {
        "exact_match": float(np.mean([max(target == answer for target, answer in each) for each in pairs])),
        "token_f1": float(np.mean([max(_f1(target, answer) for target, answer in each) for each in pairs])),
    }


def _f1(target: list[str], answer: list[str]) -> float:
    if not target or not answer:
        return float(target == answer)
    common = (Counter(target) & Counter(answer)).total()
    return 2 * common / (len(target) + len(answer))


def trivial_answers(train: Sequence[Example], test: Sequence[Example]) -> dict[str, float]:
    """Return the scores of always giving the most frequent training answer, or an empty one without training examples."""
    known = Counter(sorted(example.label for example in train)).most_common(1)
    return score_answers([example.labels for example in test], [known[0][0] if known else ""] * len(test))
