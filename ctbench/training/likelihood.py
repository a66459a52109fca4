"""Decoders that answer with their own LM head: they compare given answers, or write one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ctbench.backbone import Backbone, Batch
from ctbench.backbone.batch import move
from ctbench.data.choices import ChoiceSplit, require_decoder, score_choices
from ctbench.data.encode import end_of_document
from ctbench.data.generation import GenerationSplit, score_answers
from ctbench.data.stream import FinetuneRecipe
from ctbench.training.solver import Rows, Solver


class Chooser(Solver):
    """A decoder that prefers the answer with the highest log-probability behind the text; it trains on the right answers.

    Raises:
        BadConfig: the LM is an encoder, which gives a text no probability.
    """

    def __init__(self, backbone: Backbone, recipe: FinetuneRecipe) -> None:
        super().__init__(backbone, recipe)
        require_decoder(backbone.objective, model=backbone.name)

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits [M, V] of the tokens of all answers of a batch."""
        logits = self.backbone(batch).logits
        assert isinstance(logits, Tensor)
        return logits

    def take(self, examples: ChoiceSplit, rows: Rows) -> tuple[Batch, Tensor]:
        """Return texts with answers, and the tokens of the answers [M], which `positions` predict."""
        return self._answers(examples.ids, examples.starts, rows)

    def scoring(self) -> AbstractContextManager[None]:
        """Return the context in which logits tell any two answers apart."""
        return self.backbone.tap.exact_logits()

    def read(self, logits: Tensor, targets: Tensor, examples: ChoiceSplit, rows: Rows) -> Sequence[float]:
        """Return the log-probability of each answer in nats, summed over its tokens."""
        each = -F.cross_entropy(logits, targets, reduction="none")
        counts = examples.lengths[rows] - examples.starts[rows]
        return [float(part.sum()) for part in np.split(each.double().cpu().numpy(), np.cumsum(counts)[:-1])]

    def score(self, examples: ChoiceSplit, answers: Sequence[Any]) -> dict[str, float]:
        """Return accuracy by log-probabilities, and by those per character."""
        return score_choices(examples, np.array(answers))

    def _answers(self, ids: Sequence[Rows], starts: Rows, rows: Rows) -> tuple[Batch, Tensor]:
        batch, where = self._batch(ids, rows)
        width = batch.input_ids.shape[1]
        places = [place * width + np.arange(starts[row], len(ids[row])) - 1 for place, row in enumerate(rows)]
        targets = np.concatenate([ids[row][starts[row] :] for row in rows])
        positions = torch.from_numpy(np.concatenate(places))
        asked = Batch(input_ids=batch.input_ids, attention_mask=batch.attention_mask, positions=move(positions, where))
        return asked, move(torch.from_numpy(targets), where)


class Writer(Chooser):
    """A decoder that writes the likeliest next token behind the text, and so on, until the end of a document or a line."""

    def take(self, examples: GenerationSplit, rows: Rows) -> tuple[Batch, Tensor]:  # type: ignore[override]  # other examples
        """Return texts with answers and the tokens of these, as `Chooser`; of texts alone their last places."""
        if examples.room:
            return self._behind([examples.ids[row] for row in rows]), torch.empty(0)
        return self._answers(examples.ids, examples.starts, rows)

    def read(self, logits: Tensor, targets: Tensor, examples: GenerationSplit, rows: Rows) -> Sequence[str]:  # type: ignore[override]  # other examples
        """Return the answer to each text; the first token is read off the logits [B, V]."""
        tokenizer = self.backbone.tokenizer
        ends = {*end_of_document(tokenizer), tokenizer.eos_token_id}
        written: list[list[int]] = [[] for _ in rows]
        open_rows = list(range(len(rows)))
        for step in range(examples.room):
            if step:
                texts = [np.append(examples.ids[rows[number]], written[number]) for number in open_rows]
                logits = self(self._behind(texts)).float()
            chosen = logits.argmax(1).tolist()
            for number, token in zip(open_rows, chosen, strict=True):
                written[number].append(token)
            open_rows = [number for number in open_rows if written[number][-1] not in ends]
            if not open_rows:
                break
        return [_first_line(tokenizer.decode(tokens, skip_special_tokens=True)) for tokens in written]

    def score(self, examples: GenerationSplit, answers: Sequence[Any]) -> dict[str, float]:  # type: ignore[override]  # other examples
        """Return exact match and F1 of words."""
        return score_answers(examples.answers, answers)

    def _behind(self, texts: Sequence[Rows]) -> Batch:
        """Return texts as a batch that asks for the next token of each."""
        batch, where = self._batch(texts, np.arange(len(texts)))
        width = batch.input_ids.shape[1]
        places = [number * width + len(text) - 1 for number, text in enumerate(texts)]
        positions = move(torch.tensor(places), where)
        return Batch(input_ids=batch.input_ids, attention_mask=batch.attention_mask, positions=positions)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
