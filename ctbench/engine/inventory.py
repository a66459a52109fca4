"""What lies in `CTBENCH_HOME`: nodes, checkpoints, packed corpora, and what crashes left behind."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from ctbench.engine.slurm.folder import LAUNCHES
from ctbench.engine.store import CHECKPOINTS, Store
from ctbench.machine.claims import SUFFIX, Owner, is_stale, read_owner
from ctbench.machine.files import is_scratch
from ctbench.machine.manifest import ASIDE, Damaged, damage_of, read_manifest

DAMAGED: Final = "damaged"
"""Kind of a node or corpus whose record cannot be read."""
LEFTOVER: Final = "leftover"
NAMES: Final = ("stream", "method", "title")
"""What a node's record says of the run that it was computed for first."""
KINDS: Final = ("base", "stage", "loss", "cell", "checkpoint", "corpus", DAMAGED, LEFTOVER)
"""Kinds of entries, in the order in which they are shown."""
NODE_DIGITS: Final = 64
CORPUS_DIGITS: Final = 32
"""Lengths of the keys of nodes and of corpora."""
IDLE_SECONDS: Final = 3600.0
"""Scratch files that no claim protects (results, speeds) are leftovers after this time."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that can be removed as a whole.

    Args:
        kind: one of `KINDS`.
        path: the file or folder.
        key: key of the node or corpus; "" for other leftovers.
        num_bytes: size of its files.
        seconds: time since it was written.
        stream: stream that it was computed for first; "" if that is unknown.
        method: method of a stage, or of what was measured of it; "" for what all methods share.
        title: a few words for people.
        results: results that were made from it, as "METHOD on STREAM, seed N"; see `ctbench.engine.uses`.
        is_claimed: whether a running process holds it.
        lineage: keys of the bases and stages that a node comes from, its parent last; empty if its record names none.
    """

    kind: str
    path: Path
    key: str
    num_bytes: int
    seconds: float
    stream: str = ""
    method: str = ""
    title: str = ""
    results: tuple[str, ...] = ()
    is_claimed: bool = False
    lineage: tuple[str, ...] = ()


def take_inventory(home: Path, *, also: Sequence[Path] = ()) -> list[Entry]:
    """Return everything below `home`, which need not exist; foreign files are left out.

    Args:
        home: `ctbench.engine.store.home()`.
        also: other folders in which writing leaves something when it is interrupted.
    """
    found = [entry for folder in (*_shards(home / "store"), home / "corpora") for entry in _entries(folder)]
    # What has a key is an entry of its own; beside such entries, and in the other folders, scratch files have none.
    for folder in (home, home / "store", home / "corpora"):
        found += _idle_scratch(path for path in _children(folder) if not _is_key(_key_of(path)))
    for folder in (home / LAUNCHES, *also):
        found += _idle_scratch(Path(place) / name for place, *names in os.walk(folder) for name in chain(*names))
    return sorted(
        found, key=lambda entry: (entry.stream, entry.method, KINDS.index(entry.kind), entry.title, entry.key)
    )


def running(home: Path) -> list[Owner]:
    """Return the processes that compute something below `home` now."""
    places = [*_shards(home / "store"), home / "corpora"]
    owners = [read_owner(path) for place in places for path in _children(place) if _is_live_claim(path)]
    return list(dict.fromkeys(owner for owner in owners if owner is not None))


def damage(entry: Entry) -> str | None:
    """Return what is wrong with an entry whose files have checksums; None if nothing is, or if it has none."""
    if entry.kind == LEFTOVER:
        return None
    if entry.kind == "checkpoint":
        reasons = [damage_of(slot) for slot in _children(entry.path) if slot.is_dir() and not is_scratch(slot)]
        return next((reason for reason in reasons if reason is not None), None)
    if len(entry.key) == CORPUS_DIGITS:
        return damage_of(entry.path)
    return Store(entry.path.parent.parent, writes=False).damage(entry.key)


def _entries(folder: Path) -> list[Entry]:
    """Return the entries of a folder of nodes or of corpora."""
    return [entry for path in _children(folder) if (entry := _entry(path)) is not None]


def _entry(path: Path) -> Entry | None:
    key = _key_of(path)
    if not _is_key(key):
        return None
    is_claimed = _is_live_claim(path.with_name(f"{key}{SUFFIX}"))
    title = _leftover(path, key, is_claimed=is_claimed)
    common: dict[str, Any] = {"path": path, "key": key, "is_claimed": is_claimed, **_size_and_age(path)}
    if title is not None:
        return Entry(kind=LEFTOVER, title=title, **common)
    if path.name == f"{key}{CHECKPOINTS}":
        return Entry(kind="checkpoint", title="of a stage that is not complete", **common)
    if path.name == key and path.is_dir():
        return Entry(**common, **_about(path))
    return None


def _leftover(path: Path, key: str, *, is_claimed: bool) -> str | None:
    """Return what a crash left here; None if it is in use, or no leftover."""
    if path.name == f"{key}{ASIDE}":
        return "damaged copy that was set aside"
    if path.name in (f"{key}.lock", f"{key}.takeover"):
        return "lock of an older version"
    if is_claimed:
        return None
    if is_scratch(path):
        return "half-written"
    if path.name == f"{key}{SUFFIX}":
        return "claim of a process that is gone" if is_stale(path) else None
    if path.name == f"{key}{CHECKPOINTS}" and path.with_name(key).is_dir():
        return "checkpoints of a complete stage"
    return None


def _about(folder: Path) -> dict[str, Any]:
    """Return kind, stream, method, title and lineage of a node or corpus from its record."""
    try:
        record = read_manifest(folder)["record"]
        if "sizes" in record:
            title = f"text of domain {record['domain']}" if record["domain"] else "general text"
            return {"kind": "corpus", "stream": str(record["stream"]), "title": title}
        about = record.get("about") or {}
        kind = record["kind"] if record["kind"] in KINDS[:4] else DAMAGED
        lineage = tuple(map(str, record.get("lineage") or ()))
        return {"kind": kind, "lineage": lineage, **{name: str(about.get(name) or "") for name in NAMES}}
    except (Damaged, OSError, LookupError, TypeError, AttributeError) as error:
        return {"kind": DAMAGED, "title": str(error)}


def _idle_scratch(paths: Iterable[Path]) -> list[Entry]:
    found = [path for path in paths if is_scratch(path) and _age(path) > IDLE_SECONDS]
    return [Entry(kind=LEFTOVER, path=path, key="", title="half-written", **_size_and_age(path)) for path in found]


def _shards(store: Path) -> list[Path]:
    return [path for path in _children(store) if len(path.name) == 2 and _is_hex(path.name)]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_live_claim(path: Path) -> bool:
    return path.name.endswith(SUFFIX) and path.exists() and not is_stale(path)


def _key_of(path: Path) -> str:
    return path.name.lstrip(".").partition(".")[0]


def _is_key(text: str) -> bool:
    return len(text) in (NODE_DIGITS, CORPUS_DIGITS) and _is_hex(text)


def _is_hex(text: str) -> bool:
    return not set(text) - set("0123456789abcdef")


def _age(path: Path) -> float:
    with contextlib.suppress(OSError):
        return max(0.0, time.time() - path.lstat().st_mtime)
    return 0.0


def _size_and_age(path: Path) -> dict[str, Any]:
    return {"num_bytes": sum(_sizes(path)), "seconds": _age(path)}


def _sizes(path: Path) -> Iterator[int]:
    with contextlib.suppress(OSError):
        if not path.is_dir():
            yield path.lstat().st_size
            return
    for place, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                yield (Path(place) / name).lstat().st_size
