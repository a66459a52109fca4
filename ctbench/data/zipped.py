"""Files inside a zip archive that a path names: `a.zip/inner.csv`, `a.zip/*.csv`, or `zip://inner.csv::a.zip`."""

from __future__ import annotations

import atexit
import fnmatch
import functools
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ctbench.data.unpack import FREE_BYTES, MAX_RATIO
from ctbench.errors import BadData, first_line, listing

PREFIX: Final = "zip://"
SUFFIX: Final = ".zip"
ENCRYPTED: Final = 1
"""Bit of a member's flags."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file of an archive, unpacked for this process.

    Args:
        path: where it was unpacked to.
        shown: how the stream calls it.
    """

    path: Path
    shown: str


def find_members(folder: Path, written: str) -> list[Member] | None:
    """Return the files of an archive that a path means, in the order of their names; None if it names no archive.

    Args:
        folder: where relative paths start.
        written: as written in the stream.

    Raises:
        BadData: the archive is missing, damaged or encrypted, has no such file, or one that unpacks out of proportion.
    """
    split = _split(folder, written)
    if split is None:
        return None
    archive, inner = split
    shown = written.removeprefix(PREFIX).partition("::")[2] if written.startswith(PREFIX) else archive
    try:
        with zipfile.ZipFile(folder / archive) as opened:
            infos = [info for info in opened.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
            found = sorted((info for info in infos if _fits(info.filename, inner)), key=lambda info: info.filename)
            if not found:
                raise BadData(f"{written}: no such file in {shown}; it holds {listing([i.filename for i in infos])}")
            return [_unpack(opened, info, folder / archive, shown) for info in found]
    except BadData:
        raise
    except Exception as error:  # zipfile raises errors of several kinds where an archive is damaged
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise BadData(f"{written}: {shown} cannot be read as a zip archive: {reason}") from None


def names_in(path: Path) -> list[str]:
    """Return the names of the files in a zip archive; none where it cannot be read as one."""
    try:
        with zipfile.ZipFile(path) as opened:
            return [info.filename for info in opened.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
    except Exception:  # zipfile raises errors of several kinds where an archive is damaged
        return []


def _split(folder: Path, written: str) -> tuple[str, str] | None:
    """Return the archive and what is named in it."""
    if written.startswith(PREFIX):
        inner, separator, archive = written.removeprefix(PREFIX).partition("::")
        if not separator or not inner or not archive:
            raise BadData(f"{written}: of a file in an archive, zip://FILE::ARCHIVE.zip is expected")
        return archive, inner
    parts = written.split("/")
    for index, part in enumerate(parts[:-1]):
        archive = "/".join(parts[: index + 1])
        if part.lower().endswith(SUFFIX) and (folder / archive).is_file():
            return archive, "/".join(parts[index + 1 :]) or "*"
    return None


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern) or name.startswith(pattern.rstrip("/") + "/")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _unpack(opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path, shown: str) -> Member:
    label = f"{shown}/{info.filename}"
    if info.flag_bits & ENCRYPTED:
        raise BadData(f"{label}: is encrypted; unpack the archive")
    limit = FREE_BYTES + MAX_RATIO * info.compress_size
    if info.file_size > limit:
        raise BadData(f"{label}: unpacks to more than {MAX_RATIO} times its size, as no text does")
    stat = archive.stat()
    place = _scratch() / f"{stat.st_dev}-{stat.st_ino}-{stat.st_mtime_ns}" / f"{info.header_offset}"
    path = place / PurePosixPath(info.filename).name
    if not path.exists():
        place.mkdir(parents=True, exist_ok=True)
        partial = place / "partial"
        with opened.open(info) as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target)
        partial.rename(path)
    return Member(path=path, shown=label)


@functools.cache
def _scratch() -> Path:
    """Return a folder of this process, removed when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="ctbench-zip-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
