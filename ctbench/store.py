"""The cache of computed nodes: one folder per key, complete the moment it has its name.

A node is written into a temporary sibling and renamed; the rename is the mark of completion. Locks are per node, so
several processes may share a store. Weights and memory are safetensors beside JSON: nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ctbench.errors import BadConfig, RunFailed

if TYPE_CHECKING:
    from torch import Tensor

    from ctbench.memory import Tree


def home() -> Path:
    """Return where computed nodes and packed corpora live: `$CTBENCH_HOME`, else `~/.cache/ctbench`."""
    return Path(os.environ.get("CTBENCH_HOME") or "~/.cache/ctbench").expanduser()


class Store:
    """Computed nodes under a folder.

    Args:
        root: the folder; created on first use.
        writes: False for one that is only looked into, whether it can be written or not.

    Raises:
        BadConfig: the folder cannot be written.
    """

    def __init__(self, root: Path, *, writes: bool = True) -> None:
        self.root = root
        if not writes:
            return
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadConfig(
                f"the store cannot be written: {error.strerror}; set CTBENCH_HOME to a folder of yours"
            ) from error
        if not os.access(root, os.W_OK):
            raise BadConfig("the store cannot be written; set CTBENCH_HOME to a folder of yours")

    def folder(self, key: str) -> Path:
        """Return where the node of a key lies or would lie."""
        return self.root / key[:2] / key

    def has(self, key: str) -> bool:
        """Return whether the node of a key is complete; one whose record was damaged is not, and is computed again."""
        try:
            record: object = self.record(key)
        except (OSError, ValueError):
            return False
        return isinstance(record, dict) and bool(record)

    def record(self, key: str) -> dict[str, Any]:
        """Return the record of a complete node."""
        record: dict[str, Any] = json.loads((self.folder(key) / "record.json").read_text(encoding="utf-8"))
        return record

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold the node of a key against other processes; they wait."""
        folder = self.folder(key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            yield

    @contextlib.contextmanager
    def writing(self, key: str, record: dict[str, Any]) -> Iterator[Path]:
        """Give a temporary folder that becomes the node of `key`, with `record`, when the block ends without error."""
        folder = self.folder(key)
        temporary = folder.with_suffix(f".tmp-{os.getpid()}")
        for stale in folder.parent.glob(f"{folder.name}.tmp-*"):  # of a process that was killed: we hold the lock
            shutil.rmtree(stale, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            (temporary / "record.json").write_text(json.dumps(record), encoding="utf-8")
            _flush(temporary)
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder)
            temporary.rename(folder)
        except OSError as error:
            raise RunFailed(f"the store cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(self.partial(key), ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.with_suffix(".lock").unlink()

    def partial(self, key: str) -> Path:
        """Return where the node of a key keeps what it needs to go on when it is interrupted."""
        return self.folder(key).with_suffix(".partial")

    def save_tree(self, folder: Path, name: str, tree: Tree) -> None:
        """Write a plain tree into a node's folder as `name`.json and, if it has tensors, `name`.safetensors."""
        from safetensors.torch import save_file

        from ctbench.memory import flatten

        plain, tensors = flatten(tree)
        (folder / f"{name}.json").write_text(json.dumps(plain), encoding="utf-8")
        if tensors:
            save_file(tensors, folder / f"{name}.safetensors")

    def load_tree(self, folder: Path, name: str) -> Tree:
        """Read what `save_tree` wrote."""
        from ctbench.memory import unflatten

        plain = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        tree: Tree = unflatten(plain, load_tensors(folder / f"{name}.safetensors"))
        return tree


def _flush(folder: Path) -> None:
    """Let the files of a folder be on the disk before it has its name, should the power fail."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; a missing one holds no tensor."""
    from safetensors.torch import load_file

    return load_file(path) if path.is_file() else {}


def save_weights(path: Path, state: dict[str, Tensor], base: dict[str, Tensor]) -> None:
    """Write the tensors of `state` that differ from those of `base`: a frozen backbone costs no space."""
    import torch
    from safetensors.torch import save_file

    changed = {
        name: tensor.contiguous()
        for name, tensor in state.items()
        if name not in base or not torch.equal(tensor, base[name])
    }
    save_file(changed, path)


def load_weights(path: Path, base: dict[str, Tensor]) -> dict[str, Tensor]:
    """Read what `save_weights` wrote against the same `base`."""
    return base | load_tensors(path)
