"""Mid-stage checkpoints: what a killed stage goes on from, bit for bit."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from ctbench.pretrain import Progress
from ctbench.store import Store, load_tensors


def save_progress(store: Store, folder: Path, progress: Progress) -> None:
    """Write a mid-stage checkpoint; a crash in between leaves the one before."""
    from safetensors.torch import save_file

    temporary = folder.with_suffix(".partial-tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    save_file(progress.weights, temporary / "weights.safetensors")
    save_file(progress.optimizer, temporary / "optimizer.safetensors")
    store.save_tree(temporary, "memory", progress.memory)
    fields = {field.name: getattr(progress, field.name) for field in dataclasses.fields(progress)}
    rest = {name: value for name, value in fields.items() if name not in ("weights", "optimizer", "memory")}
    store.save_tree(temporary, "progress", rest)
    slot = folder / str(progress.step)
    folder.mkdir(parents=True, exist_ok=True)
    temporary.rename(slot)
    for other in folder.iterdir():
        if other != slot:
            shutil.rmtree(other, ignore_errors=True)


def load_progress(store: Store, folder: Path) -> Progress | None:
    """Read the newest mid-stage checkpoint, or None."""
    slots = sorted((int(slot.name), slot) for slot in folder.iterdir()) if folder.is_dir() else []
    if not slots:
        return None
    slot = slots[-1][1]
    return Progress(
        **store.load_tree(slot, "progress"),
        weights=load_tensors(slot / "weights.safetensors"),
        optimizer=load_tensors(slot / "optimizer.safetensors"),
        memory=store.load_tree(slot, "memory"),
    )
