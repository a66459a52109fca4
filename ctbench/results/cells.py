"""From the cells of a result to matrices: one per fine-tuning seed, and their mean."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ctbench.results.matrix import Array

if TYPE_CHECKING:
    from ctbench.results.schema import Result


def scores_by_seed(result: Result) -> dict[int, Array]:
    """Return the matrix [T+1, T] of each fine-tuning seed; NaN for missing cells.

    Seeds that only the untouched LM was fine-tuned with (`finetune.base_seeds`) are left out: no other cell has them.
    """
    columns = {domain: column for column, domain in enumerate(result.stream.domains)}
    sources = result.plan.cells
    shared = {cell.finetune_seed for cell in result.cells if sources[cell.row][columns[cell.domain]]}
    tables: dict[int, list[list[float]]] = {}
    for cell in result.cells:
        if shared and cell.finetune_seed not in shared:
            continue
        table = tables.get(cell.finetune_seed)
        if table is None:
            table = tables[cell.finetune_seed] = [[math.nan] * len(columns) for _ in range(len(columns) + 1)]
        if cell.score is not None:
            table[cell.row][columns[cell.domain]] = cell.score
    return {seed: np.array(tables[seed]) for seed in sorted(tables)}


def cell_means(result: Result) -> Array:
    """Return the matrix [T+1, T] as the cells give it: the mean over all fine-tuning seeds; NaN for missing cells."""
    columns = {domain: column for column, domain in enumerate(result.stream.domains)}
    scores: dict[tuple[int, int], list[float]] = {}
    for cell in result.cells:
        score = math.nan if cell.score is None else cell.score
        scores.setdefault((cell.row, columns[cell.domain]), []).append(score)
    means: Array = np.full((len(columns) + 1, len(columns)), math.nan)
    for place, values in scores.items():
        means[place] = np.mean(values)
    return means


def untuned(result: Result) -> frozenset[str]:
    """Return the domains on which nothing is fine-tuned: one cell stands under several fine-tuning seeds."""
    places = Counter((cell.row, cell.domain, cell.key) for cell in result.cells)
    return frozenset(domain for (_, domain, _), count in places.items() if count > 1)
