"""The shape of a matrix R [T+1, T], and which of its cells are what.

R[i][j] is of domain j under the LM of row i; row 0 is the untouched LM. Domain j is seen from row j + 1 on, counted from 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def as_matrix(rows: object) -> Array:
    """Return `rows` (lists with None, or an array) as a float matrix [T+1, T] with NaN for missing cells.

    Raises:
        ValueError: the shape is not [T+1, T] with T >= 1.
    """
    matrix = np.array(rows, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] < 1 or matrix.shape[0] != matrix.shape[1] + 1:
        raise ValueError(f"a matrix needs T + 1 rows and T columns, found the shape {matrix.shape}")
    return matrix


def is_joint(matrix: Array) -> bool:
    """Return whether rows 1..T-1 are empty, as in a run of one stage on the union of the domains."""
    num_tasks = matrix.shape[1]
    return bool(num_tasks > 1 and np.isnan(matrix[1:-1]).all() and not np.isnan(matrix[-1]).all())


def seen_mask(num_tasks: int) -> NDArray[np.bool_]:
    """Return the mask [T+1, T] of the cells whose domain was trained on before or in their row (j <= i)."""
    return np.arange(num_tasks + 1)[:, None] > np.arange(num_tasks)[None, :]


def unseen_mask(num_tasks: int) -> NDArray[np.bool_]:
    """Return the mask [T+1, T] of the cells with 1 <= i < j: after some stage, before the domain's own."""
    mask: NDArray[np.bool_] = ~seen_mask(num_tasks)
    mask[0] = False
    return mask
