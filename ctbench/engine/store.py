"""The cache of computed nodes: one folder per key, complete the moment it has its name.

A node is written into a hidden sibling and renamed; the rename is the mark of completion. Its record holds checksums of all
its files, which are compared when they are read. One process at a time computes a node (`ctbench.machine.claims`), so any
number of processes may share a store.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from ctbench.engine.records import RECORD_SCHEMA, Stored, StoredBase, StoredStage, from_json, to_json
from ctbench.errors import BadConfig, RunFailed, unwritable
from ctbench.machine.claims import SUFFIX, Waiting, claimed
from ctbench.machine.files import read_path, scratch_beside, whole_folder
from ctbench.machine.manifest import (
    NAME,
    PASSING,
    Damaged,
    read_manifest,
    set_aside,
    verify_files,
    write_manifest,
)
from ctbench.results.files import check_place

OTHER_HOME = "set CTBENCH_HOME to another folder"
ROOM_BYTES: Final = 1 << 20
"""A store that has no room for so much is refused before anything is computed."""
OTHER_BITS: Final = "what it was made from was computed again, with other bits"
HIDDEN_SECONDS: Final = 5.0
"""How long a node that ought to be there is waited for."""
LOOK_SECONDS: Final = 0.2
CHECKPOINTS = ".checkpoints"
"""Ending of the folder in which a stage keeps its checkpoints."""


def home() -> Path:
    """Return where computed nodes and packed corpora live: `$CTBENCH_HOME`, else `~/.cache/ctbench`.

    Raises:
        BadConfig: no path can be made of it: see `read_path`.
    """
    return read_path(os.environ.get("CTBENCH_HOME") or "~/.cache/ctbench")


def unreadable(key: str, error: OSError) -> RunFailed:
    """Return what to say of a node that cannot be read now, and is no worse for it."""
    return RunFailed(f"node {key[:16]} of the store cannot be read now ({error.strerror}); run the same command again")


class _AlreadyComplete(Exception):
    """The node is in the store already."""


class Store:
    """Computed nodes under a folder.

    Args:
        root: the folder; created on first use.
        writes: False for a store that is only read; it need not exist or be writable.

    Raises:
        BadConfig: the folder cannot be written.
    """

    def __init__(self, root: Path, *, writes: bool = True) -> None:
        self.root = root
        self.writes = writes
        self._digests: dict[str, tuple[int, str]] = {}
        if not writes:
            return
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadConfig(unwritable(f"the store '{root}'", error, OTHER_HOME)) from error
        if not os.access(root, os.W_OK):
            reason = errno.EROFS if os.statvfs(root).f_flag & os.ST_RDONLY else errno.EACCES
            raise BadConfig(unwritable(f"the store '{root}'", OSError(reason, os.strerror(reason)), OTHER_HOME))

    def require_room(self) -> None:
        """Refuse a store that cannot be written now, for example because its file system or a quota is full.

        Raises:
            BadConfig: why, and what to do.
        """
        check_place(self.root, what=f"the store '{self.root}'", otherwise=OTHER_HOME, num_bytes=ROOM_BYTES)

    def folder(self, key: str) -> Path:
        """Return where the node of a key lies or would lie."""
        return self.root / key[:2] / key

    def wait_for(self, key: str) -> None:
        """Wait a while for a node that another machine has just written: a network file system may not show it yet."""
        deadline = time.monotonic() + HIDDEN_SECONDS
        while not self.folder(key).is_dir() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # a change of ours makes the system look at the folder again
                look = scratch_beside(self.folder(key))
                look.touch()
                look.unlink()
            time.sleep(LOOK_SECONDS)

    def has(self, key: str) -> bool:
        """Return whether the node of a key is complete, as far as its record tells; see `damage` for its files."""
        return self.folder(key).is_dir() and self._reason(key) is None

    def damage(self, key: str, *, thorough: bool = True) -> str | None:
        """Return what is wrong with a node that is there; None if nothing is, or if there is no node.

        Args:
            key: the node's key.
            thorough: compare every file with its checksum, and not the record alone.

        Raises:
            RunFailed: it cannot be read now, whether it is whole or not.
        """
        if not self.folder(key).is_dir():
            return None
        reason = self._reason(key)
        if reason is None and thorough:
            try:
                verify_files(self.folder(key))
            except Damaged as error:
                reason = str(error)
            except OSError as error:
                raise unreadable(key, error) from error
        return reason

    def read(self, key: str) -> Stored:
        """Return the record of a complete node.

        Raises:
            RunFailed: the node is damaged or not there.
        """
        try:
            return self._read(key)
        except (Damaged, OSError, ValueError) as error:
            reason = self._reason(key) or "it vanished"
            raise RunFailed(
                f"node {key[:16]} of the store is damaged ({reason}); run the same command again"
            ) from error

    def lineage(self, parents: Iterable[str]) -> dict[str, str]:
        """Return the digests of the weights of some bases and stages, and of all that they come from, by key."""
        found: dict[str, str] = {}
        for key in parents:
            record = self.read(key)
            assert isinstance(record, StoredBase | StoredStage)
            found |= {**record.lineage, key: record.weights_digest}
        return found

    def _weights(self, key: str) -> str | None:
        """Return the digest of the weights of a base or a stage; None if there is none that can be read."""
        try:
            changed = (self.folder(key) / NAME).stat().st_mtime_ns
            if self._digests.get(key, (0, ""))[0] != changed:
                self._digests[key] = changed, str(read_manifest(self.folder(key))["record"]["weights_digest"])
        except (Damaged, OSError, LookupError, TypeError):
            return None
        return self._digests[key][1]

    def _read(self, key: str) -> Stored:
        plain = read_manifest(self.folder(key))["record"]
        if not isinstance(plain, dict) or plain.pop("schema", None) != RECORD_SCHEMA:
            raise Damaged("its record has another layout")
        plain.pop("about", None)
        record = from_json(plain)
        if any(self._weights(ancestor) not in (None, digest) for ancestor, digest in record.lineage.items()):
            raise Damaged(OTHER_BITS)
        return record

    def _reason(self, key: str) -> str | None:
        try:
            self._read(key)
        except Damaged as error:
            return str(error)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in PASSING:
                raise unreadable(key, error) from error
            return "its record cannot be read"
        return None

    def set_aside(self, key: str) -> None:
        """Rename a damaged node, so that it is computed again; the newest damaged copy is kept for a look.

        Raises:
            RunFailed: the store cannot be written.
        """
        try:
            set_aside(self.folder(key))
        except OSError as error:
            raise RunFailed(f"node {key[:16]} is damaged and cannot be set aside: {error.strerror}") from error

    def is_claimed(self, key: str) -> bool:
        """Return whether a process has claimed the node of a key; it may have died since."""
        return self.folder(key).with_suffix(SUFFIX).exists()

    @contextlib.contextmanager
    def claim(self, key: str, *, waiting: Waiting | None = None) -> Iterator[None]:
        """Hold the node of a key against other processes, which wait; see `ctbench.machine.claims.claimed`.

        Raises:
            RunFailed: the store cannot be written.
        """
        path = self.folder(key).with_suffix(SUFFIX)
        with contextlib.ExitStack() as held:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(claimed(path, waiting=waiting))
            except OSError as error:
                raise RunFailed(unwritable(f"the store '{self.root}'", error, OTHER_HOME)) from error
            yield

    @contextlib.contextmanager
    def writing(self, key: str, record: Stored, *, about: Mapping[str, str] | None = None) -> Iterator[Path]:
        """Yield a folder that becomes the node of `key`, with `record`, when the block ends without error.

        A node that is complete by then stays: another process took the claim over while this one was suspended.

        Args:
            key: the node's key.
            record: what is kept of it.
            about: stream, method and title for which it was computed first, for `ctbench store`.

        Raises:
            RunFailed: the store cannot be written.
        """
        try:
            with contextlib.suppress(_AlreadyComplete), whole_folder(self.folder(key)) as folder:
                yield folder
                write_manifest(folder, {"schema": RECORD_SCHEMA, "about": dict(about or {})} | to_json(record))
                if self.has(key):
                    raise _AlreadyComplete
        except OSError as error:
            raise RunFailed(unwritable(f"the store '{self.root}'", error, OTHER_HOME)) from error
        shutil.rmtree(self.checkpoints(key), ignore_errors=True)

    def checkpoints(self, key: str) -> Path:
        """Return where the node of a key keeps its checkpoints while it is computed."""
        return self.folder(key).with_suffix(CHECKPOINTS)
