"""What a method keeps between steps: plain trees, their size, a reservoir of token blocks, and replay from it.

A tree is a dict of strings to tensors, numbers, strings, booleans, None, lists and further trees. It is stored as
JSON beside a safetensors file, so nothing is ever unpickled.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ctbench.errors import BadPlugin

if TYPE_CHECKING:
    from ctbench.backbone import Batch
    from ctbench.stage import Stage

Tree = dict[str, Any]

_MARK = "$tensor"


def flatten(tree: Any, path: str = "memory") -> tuple[Any, dict[str, Tensor]]:
    """Split a tree into its JSON part and its tensors.

    Returns:
        The tree with every tensor replaced by `{"$tensor": name}`, and the tensors by name, on the CPU.

    Raises:
        BadPlugin: anything that is not plain, with the path to it.
    """
    if isinstance(tree, Tensor):
        return {_MARK: path}, {path: tree.detach().to("cpu").contiguous()}
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree, {}
    if isinstance(tree, (list, tuple)):
        pairs = [(str(index), value) for index, value in enumerate(tree)]
        parts = [flatten(value, f"{path}/{key}") for key, value in pairs]
        return [plain for plain, _ in parts], _merge([tensors for _, tensors in parts])
    if isinstance(tree, dict):
        if not all(isinstance(key, str) for key in tree):
            raise BadPlugin(f"{path} has a key that is not a string; keys of stage.memory must be strings")
        for key in tree:
            if "/" in key or key == _MARK:
                raise BadPlugin(f"{path} has the key '{key}'; a key of stage.memory is not '{_MARK}' and has no '/'")
        named = {key: flatten(value, f"{path}/{key}") for key, value in tree.items()}
        return {key: plain for key, (plain, _) in named.items()}, _merge([tensors for _, tensors in named.values()])
    raise BadPlugin(
        f"{path} holds a {type(tree).__name__}; stage.memory takes tensors, numbers, strings, lists and dicts only"
    )


def unflatten(plain: Any, tensors: dict[str, Tensor]) -> Any:
    """Undo `flatten`."""
    if isinstance(plain, dict):
        if set(plain) == {_MARK}:
            return tensors[plain[_MARK]]
        return {key: unflatten(value, tensors) for key, value in plain.items()}
    if isinstance(plain, list):
        return [unflatten(value, tensors) for value in plain]
    return plain


def num_bytes(tree: Tree) -> int:
    """Return what a tree costs to store, in bytes: its tensors as they are and the rest as JSON."""
    plain, tensors = flatten(tree)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return size + (len(json.dumps(plain)) if plain else 0)


def _merge(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: tensor for part in parts for name, tensor in part.items()}


class Reservoir:
    """A uniform sample of everything offered so far (Vitter 1985, algorithm R), kept as plain tensors in a tree.

    Args:
        tree: where it lives, from the first offer on: `seen` (int), and `columns` by name, each with a row per block kept.
        capacity: blocks kept at most.
    """

    def __init__(self, tree: Tree, *, capacity: int) -> None:
        self.tree = tree
        self.capacity = capacity

    def __len__(self) -> int:
        return min(int(self.tree.get("seen", 0)), self.capacity)

    def offer(self, generator: np.random.Generator, **columns: Tensor) -> None:
        """Offer n rows; each ends up in the sample with the same probability, whenever it was offered.

        Args:
            generator: decides what is kept.
            columns: tensors with n rows each, for example `blocks=[n, T]`; the same names at every call.
        """
        self.tree.setdefault("seen", 0)
        kept: dict[str, Tensor] = self.tree.setdefault("columns", {})
        rows = len(next(iter(columns.values())))
        filled = min(self.tree["seen"] + rows, self.capacity)
        for name, values in columns.items():
            before = kept.get(name, values[:0].to("cpu"))
            if len(before) < filled:
                more = torch.zeros((filled - len(before), *values.shape[1:]), dtype=values.dtype)
                kept[name] = torch.cat([before, more])
        order = self.tree["seen"] + np.arange(rows)
        places = np.where(order < self.capacity, order, generator.integers(0, order + 1))
        last = {int(places[row]): row for row in np.flatnonzero(places < self.capacity)}
        for name, values in columns.items():
            if last:
                kept[name][list(last)] = values[list(last.values())].to("cpu")
        self.tree["seen"] += rows

    def draw(self, count: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """Return `count` rows drawn with replacement, by column.

        Raises:
            ValueError: the reservoir is empty.
        """
        if not len(self):
            raise ValueError("an empty reservoir cannot be drawn from")
        rows = torch.from_numpy(generator.integers(0, len(self), size=count))
        return {name: values[rows] for name, values in self.tree["columns"].items()}


def num_replayed(fraction: float, num_rows: int) -> int:
    """Return how many of a batch's rows are replayed, one at least unless the share `fraction` is 0.

    Examples:
        >>> num_replayed(0.25, 8), num_replayed(0.01, 8), num_replayed(0.0, 8)
        (2, 1, 0)
    """
    return max(1, round(fraction * num_rows)) if fraction else 0


def mix_past(stage: Stage, batch: Batch, *, fraction: float, capacity: int) -> Batch:
    """Return a batch with its last rows drawn from the reservoir of past text; the batch itself while that is empty.

    Args:
        stage: its memory is the reservoir.
        batch: of the stage's own text.
        fraction: share of the rows that are replayed, in [0, 1].
        capacity: blocks kept at most.
    """
    memory, count = Reservoir(stage.memory, capacity=capacity), num_replayed(fraction, len(batch.input_ids))
    if not (count and len(memory)):
        return batch
    return stage.mix(batch, memory.draw(count, stage.generator("replay"))["blocks"])


def keep_past(stage: Stage, *, fraction: float, capacity: int) -> None:
    """Offer the reservoir what a stage was trained on, at its end; nothing if the share `fraction` is 0."""
    count, num_rows = num_replayed(fraction, stage.recipe.batch), stage.recipe.batch
    if not count:
        return
    memory = Reservoir(stage.memory, capacity=capacity)
    # Rows that no replayed ones took the place of, and as many of the first stage, where none did.
    kept = num_rows - (count if len(memory) or count < num_rows else 0)
    for step in range(stage.num_steps):
        memory.offer(stage.generator("reservoir"), blocks=stage.blocks_of(step)[:kept].int())
