"""Compare weights and memories bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ctbench.memory import Tree, flatten


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str | None:
    """Return the first name whose tensors are not equal bit for bit, or None."""
    for name in [*one, *(name for name in other if name not in one)]:
        if name not in one or name not in other or not _same_bits(one[name], other[name]):
            return name
    return None


def tree_difference(one: Tree, other: Tree) -> str | None:
    """Return the name of the first difference between two plain trees, or None."""
    (plain, tensors), (other_plain, other_tensors) = flatten(one), flatten(other)
    if name := difference(tensors, other_tensors):
        return name
    return None if plain == other_plain else "memory"


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    left, right = (tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(left, right)
