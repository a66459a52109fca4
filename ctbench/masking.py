"""From token blocks to LM batches: which places are predicted, and what stands there meanwhile.

The number of predicted places per row is fixed, so shapes are static, rows can be exchanged between batches, and the
LM head sees `num_places` positions instead of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ctbench.backbone import Backbone, Batch

Blocks = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Masker:
    """Turns blocks of token ids into batches for one objective.

    Args:
        objective: "mlm" predicts `mask_fraction` of the places of each row, of which 80 % show the mask token, 10 %
            a random token and 10 % the token itself (Devlin et al. 2019); "clm" predicts every next token.
        mask_fraction: share of places predicted under "mlm", in (0, 1).
        mask_id: id of the mask token under "mlm".
        vocabulary: number of ids that a random token is drawn from.
        special_ids: ids that are predicted under "mlm" only in a row that has too few others.
        random_ids: those ids, [vocabulary]; None if they are the numbers from 0 on.
    """

    objective: str
    mask_fraction: float
    mask_id: int
    vocabulary: int
    special_ids: tuple[int, ...]
    random_ids: Blocks | None = None

    @classmethod
    def of(cls, backbone: Backbone, mask_fraction: float) -> Masker:
        """Return the masker that fits a backbone; rows of its embeddings that no token stands for are never drawn."""
        ids = _token_ids(backbone.tokenizer, len(backbone.tokenizer))
        return cls(
            objective=backbone.objective,
            mask_fraction=mask_fraction,
            mask_id=backbone.mask_id if backbone.objective == "mlm" else -1,
            vocabulary=len(ids),
            special_ids=tuple(backbone.special_ids),
            random_ids=None if ids[-1] == len(ids) - 1 else ids,
        )

    def num_places(self, length: int) -> int:
        """Return how many places of a row of `length` tokens are predicted."""
        return length - 1 if self.objective == "clm" else max(1, round(self.mask_fraction * length))

    def __call__(self, blocks: Blocks, generator: np.random.Generator) -> Batch:
        """Return the batch of `blocks` [B, T]; the blocks stay as they are."""
        num_rows, length = blocks.shape
        starts = np.arange(num_rows)[:, None] * length
        if self.objective == "clm":
            positions = starts + np.arange(length - 1)[None, :]
            return _batch(blocks, positions, blocks[:, 1:])
        count = self.num_places(length)
        keys = generator.random((num_rows, length), dtype=np.float32)
        keys[np.isin(blocks, self.special_ids)] += 1.0
        columns = np.sort(np.argpartition(keys, count - 1, axis=1)[:, :count], axis=1)
        targets = np.take_along_axis(blocks, columns, axis=1)
        dice = generator.random((num_rows, count), dtype=np.float32)
        noise = generator.integers(0, self.vocabulary, (num_rows, count))
        if self.random_ids is not None:
            noise = self.random_ids[noise]
        shown = np.where(dice < 0.8, self.mask_id, np.where(dice < 0.9, noise, targets))
        masked = blocks.copy()
        np.put_along_axis(masked, columns, shown, axis=1)
        return _batch(masked, starts + columns, targets)


@lru_cache(maxsize=4)
def _token_ids(tokenizer: Any, _size: int) -> Blocks:
    """Return the ids that a tokenizer has a token for, in order; listing a large vocabulary takes a good part of an update."""
    return np.unique(np.fromiter(tokenizer.get_vocab().values(), dtype=np.int64))


def replace_rows(batch: Batch, other: Batch) -> Batch:
    """Return `batch` with its last rows replaced by all rows of `other`; both of the same length.

    Args:
        batch: B rows.
        other: n <= B rows.
    """
    num_rows, length = batch.input_ids.shape
    first = num_rows - len(other.input_ids)
    assert batch.positions is not None and batch.targets is not None
    assert other.positions is not None and other.targets is not None
    keep = first * (len(batch.positions) // num_rows)
    return Batch(
        input_ids=torch.cat([batch.input_ids[:first], other.input_ids]),
        attention_mask=None,
        positions=torch.cat([batch.positions[:keep], other.positions + first * length]),
        targets=torch.cat([batch.targets[:keep], other.targets]),
    )


def first_rows(batch: Batch, count: int) -> Batch:
    """Return the first `count` texts of a batch, to compare outputs on: places to predict, as many in every row, no targets."""
    mask, positions = batch.attention_mask, batch.positions
    return Batch(
        input_ids=batch.input_ids[:count],
        attention_mask=None if mask is None else mask[:count],
        positions=None if positions is None else positions[: count * len(positions) // len(batch.input_ids)],
    )


def _batch(ids: Blocks, positions: npt.NDArray[Any], targets: npt.NDArray[Any]) -> Batch:
    return Batch(
        input_ids=torch.from_numpy(np.ascontiguousarray(ids)),
        attention_mask=None,
        positions=torch.from_numpy(np.ascontiguousarray(positions).reshape(-1)),
        targets=torch.from_numpy(np.ascontiguousarray(targets).reshape(-1)),
    )
