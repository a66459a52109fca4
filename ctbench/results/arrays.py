"""Tables of numbers in a result file: null in the file is NaN in memory."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from ctbench.results.matrix import Array


def _to_array(rows: object) -> Array:
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ValueError("a list of lists of numbers or null is needed")
    values = [value for row in rows for value in row]
    if any(isinstance(v, bool | str | list | dict) for v in values) or len({len(row) for row in rows}) > 1:
        raise ValueError("rows of equal length that hold only numbers or null are needed")
    try:
        array = np.array(rows, dtype=np.float64)
    except OverflowError:
        raise ValueError("a whole number is too large") from None
    array.setflags(write=False)
    return array


def _to_lists(array: NDArray[np.float64]) -> list[list[float | None]]:
    return [[None if math.isnan(value) else value for value in row] for row in array.tolist()]


_TABLE = {"type": "array", "items": {"type": "array", "items": {"type": ["number", "null"]}}}

JsonArray = Annotated[
    NDArray[np.float64], PlainValidator(_to_array), PlainSerializer(_to_lists), WithJsonSchema(_TABLE)
]
"""A table of numbers: null in the file is NaN in memory."""
