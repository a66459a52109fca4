"""Weights and method memory as files: safetensors beside JSON, so that nothing is ever unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ctbench.machine.files import os_errors
from ctbench.machine.manifest import read_manifest, read_verified

if TYPE_CHECKING:
    from torch import Tensor

    from ctbench.memory import Tree

_SUFFIX = ".safetensors"


def save_tensors(folder: Path, name: str, tensors: dict[str, Tensor]) -> None:
    """Write tensors into a folder as `name`.safetensors; what they share in memory is written for each of them.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    from safetensors.torch import save_file

    with os_errors():
        save_file(_apart(tensors), folder / f"{name}{_SUFFIX}")


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as safetensors takes them, without gaps and no two in the same memory; those that are so as they are."""
    import torch

    found: dict[str, Tensor] = {}
    taken: set[tuple[torch.device, int]] = set()
    for key, tensor in tensors.items():
        place = (tensor.device, tensor.untyped_storage().data_ptr())
        is_fit = tensor.is_contiguous() and place not in taken
        found[key] = tensor if is_fit else tensor.clone(memory_format=torch.contiguous_format)
        taken.add(place)
    return found


def load_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Read what `save_tensors` wrote into a folder with a manifest.

    Raises:
        Damaged: the file is missing or differs from its checksum.
    """
    from safetensors.torch import load

    tensors: dict[str, Tensor] = load(read_verified(folder, f"{name}{_SUFFIX}"))
    return tensors


def save_changed(folder: Path, name: str, state: dict[str, Tensor], base: dict[str, Tensor]) -> None:
    """Write the tensors of `state` that differ from those of `base`: a frozen backbone costs no space."""
    import torch

    changed = {key: tensor for key, tensor in state.items() if key not in base or not torch.equal(tensor, base[key])}
    save_tensors(folder, name, changed)


def load_changed(folder: Path, name: str, base: dict[str, Tensor]) -> dict[str, Tensor]:
    """Read what `save_changed` wrote against the same `base`."""
    return base | load_tensors(folder, name)


def save_tree(folder: Path, name: str, tree: Tree) -> None:
    """Write a plain tree into a folder as `name`.json and, if it has tensors, `name`.safetensors."""
    from ctbench.memory import flatten

    plain, tensors = flatten(tree)
    (folder / f"{name}.json").write_text(json.dumps(plain), encoding="utf-8")
    if tensors:
        save_tensors(folder, name, tensors)


def load_tree(folder: Path, name: str) -> Tree:
    """Read what `save_tree` wrote into a folder with a manifest.

    Raises:
        Damaged: a file is missing or differs from its checksum.
    """
    from ctbench.memory import unflatten

    plain = json.loads(read_verified(folder, f"{name}.json"))
    has_tensors = f"{name}{_SUFFIX}" in read_manifest(folder)["files"]
    tree: Tree = unflatten(plain, load_tensors(folder, name) if has_tensors else {})
    return tree
