"""Stage checkpoints on the disk: what a killed stage resumes from, bit for bit."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ctbench.engine.tensors import load_changed, load_tensors, load_tree, save_changed, save_tensors, save_tree
from ctbench.machine.files import whole_folder
from ctbench.machine.manifest import Damaged, write_manifest
from ctbench.memory import Tree
from ctbench.training.checkpoint import StageCheckpoint

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "step-"
NUM_KEPT = 2
"""Number of checkpoints kept: the older one serves if the newest is damaged."""


def save_checkpoint(folder: Path, checkpoint: StageCheckpoint) -> None:
    """Write a checkpoint, flushed to the disk, and remove all but the newest two; a crash in between loses none.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder / f"{PREFIX}{checkpoint.step:09d}") as slot:
        save_tensors(slot, "weights", checkpoint.weights)
        save_tensors(slot, "optimizer", checkpoint.optimizer)
        save_tree(slot, "memory", checkpoint.memory)
        save_tree(slot, "progress", _progress(checkpoint))
        write_manifest(slot, {})
    for old in _slots(folder)[NUM_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> StageCheckpoint | None:
    """Return the newest checkpoint that is whole; None if there is none. Other files are left alone."""
    for slot in _slots(folder):
        try:
            return StageCheckpoint(
                **load_tree(slot, "progress"),
                weights=load_tensors(slot, "weights"),
                optimizer=load_tensors(slot, "optimizer"),
                memory=load_tree(slot, "memory"),
            )
        except (Damaged, FileNotFoundError, TypeError, ValueError):
            continue
    return None


def save_branching(folder: Path, checkpoint: StageCheckpoint, base: dict[str, Tensor]) -> None:
    """Write the state from which a branch goes on into the folder of its trunk's node."""
    save_changed(folder, "branch-weights", checkpoint.weights, base)
    save_tensors(folder, "optimizer", checkpoint.optimizer)
    save_tree(folder, "branch-memory", checkpoint.memory)
    save_tree(folder, "branch-progress", _progress(checkpoint))


def load_branching(folder: Path, base: dict[str, Tensor]) -> StageCheckpoint:
    """Read what `save_branching` wrote.

    Raises:
        Damaged: a file is missing or differs from its checksum.
    """
    return StageCheckpoint(
        **load_tree(folder, "branch-progress"),
        weights=load_changed(folder, "branch-weights", base),
        optimizer=load_tensors(folder, "optimizer"),
        memory=load_tree(folder, "branch-memory"),
    )


def _progress(checkpoint: StageCheckpoint) -> Tree:
    """Return the numbers of a checkpoint, without weights, moments and memory."""
    fields = {field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}
    return {name: value for name, value in fields.items() if name not in ("weights", "optimizer", "memory")}


def _slots(folder: Path) -> list[Path]:
    """Return the folders of checkpoints, newest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.name.startswith(PREFIX) and path.is_dir()]
    return sorted(found, key=lambda path: path.name, reverse=True)
