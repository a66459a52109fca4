"""Checksums of a folder's files, written with the folder and compared when it is read."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

NAME: Final = "record.json"
"""The file that holds a folder's record with the checksums of all other files and of itself."""
ASIDE: Final = ".damaged"
"""Ending of a folder that was set aside because a file in it was damaged."""


PASSING: Final = (errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
"""Errors of a read that say nothing about the file: it may be whole, and the next try may succeed."""


class Damaged(Exception):
    """A file that is missing or differs from its checksum; the message names the file and says which."""


def write_manifest(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `record` with the size and SHA-256 of every other file of `folder`."""
    files = {path.relative_to(folder).as_posix(): _entry(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    sealed = {"record": dict(record), "files": files}
    text = json.dumps(sealed | {"digest": _digest(sealed)}, allow_nan=False)
    (folder / NAME).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the record of a folder and, under "files", the checksums; other files are not looked at.

    Raises:
        Damaged: the record is not the one that was written.
        FileNotFoundError: there is no such folder.
    """
    try:
        data = (folder / NAME).read_bytes()
    except FileNotFoundError as error:
        if folder.is_dir():
            raise Damaged(f"{NAME} is missing") from error
        raise
    try:
        sealed = json.loads(data)
        digest = sealed.pop("digest")
        if digest != _digest(sealed) or not isinstance(sealed["files"], dict):
            raise Damaged(f"{NAME} does not match its checksum")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{NAME} cannot be read") from error
    found: dict[str, Any] = sealed
    return found


def verify_files(folder: Path) -> None:
    """Compare every file of a folder with its checksum.

    Raises:
        Damaged: a file is missing or differs.
        OSError: a file cannot be read now; see `PASSING`.
    """
    for name, entry in read_manifest(folder)["files"].items():
        _read(folder, name, entry)


def damage_of(folder: Path) -> str | None:
    """Return what is wrong with a folder that has a manifest; None if every file is the one that was written."""
    try:
        verify_files(folder)
    except Damaged as error:
        return str(error)
    except OSError as error:
        return f"{NAME} cannot be read ({error.strerror})"
    return None


def set_aside(folder: Path) -> None:
    """Rename a damaged folder, so that it is made again; the newest damaged copy is kept for a look.

    Raises:
        OSError: it cannot be renamed.
    """
    aside = folder.with_suffix(ASIDE)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)


def read_verified(folder: Path, name: str) -> bytes:
    """Return the content of a file, which is the one that was written.

    Raises:
        Damaged: the file is missing, unknown to the manifest, or differs.
        OSError: it cannot be read now; see `PASSING`.
    """
    entry = read_manifest(folder)["files"].get(name)
    if entry is None:
        raise Damaged(f"{name} is not in {NAME}")
    return _read(folder, name, entry)


def _read(folder: Path, name: str, entry: Mapping[str, Any]) -> bytes:
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        if error.errno in PASSING:
            raise
        raise Damaged(f"{name} cannot be read ({error.strerror})") from error
    if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise Damaged(f"{name} does not match its checksum")
    return data


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
