"""The files of a source: which they are, which were left out and why, formats by name, digests."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ctbench.data.dialect import Dialect
from ctbench.data.pointers import pointer_store
from ctbench.data.unpack import COMPRESSED, open_packed
from ctbench.data.walk import ARCHIVES, Skipped, Walked, walk
from ctbench.data.zipped import SUFFIX, find_members, names_in
from ctbench.errors import BadData, listing

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}


class DataFile:
    """One file of a source.

    Attributes:
        path: where it is.
        shown: how the stream calls it; messages use it.
        format: "jsonl", "text", "csv", "tsv", "parquet" or "xlsx".
        dialect: how delimited text is written, as far as the stream says.
    """

    def __init__(self, path: Path, shown: str, *, format: str, dialect: Dialect | None = None) -> None:
        self.path = path
        self.shown = shown
        self.format = _guess_format(path, shown) if format == "auto" else format
        self.dialect = dialect or Dialect()
        if self.format == "csv" and plain_suffix(path) == ".tsv":
            self.format = "tsv"

    def open(self) -> IO[bytes]:
        """Open for reading, decompressed."""
        try:
            return open_packed(self.path, self.shown)
        except OSError as error:
            raise BadData(f"{self.shown}: cannot be read: {error.strerror or error}") from None

    def digest(self) -> str:
        """Return the SHA-256 of the bytes on disk."""
        try:
            stat = self.path.stat()
            return _digest(self.path, stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise BadData(f"{self.shown}: cannot be read: {error.strerror or error}") from None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The files that the paths of a source mean.

    Attributes:
        files: in the order of their names, each once.
        skipped: what the paths cover and what is not read.
    """

    files: tuple[DataFile, ...]
    skipped: tuple[Skipped, ...]


def survey_files(
    folder: Path, paths: Sequence[str], *, format: str, whose: str, root: str = ".", dialect: Dialect | None = None
) -> Survey:
    """Resolve files, folders and globs to files, in the order of their names; each file once.

    Args:
        folder: where relative paths start.
        paths: as written in the stream.
        format: a format, or "auto" to go by the file names.
        whose: what needs them, for messages.
        root: how the stream calls `folder`, for messages.
        dialect: how delimited text is written.

    Raises:
        BadData: nothing is there, a file is empty, a pointer or of unknown format, or a folder mixes formats.
    """
    files: dict[Path, DataFile] = {}
    skipped: dict[str, Skipped] = {}
    for written in paths:
        if (members := find_members(folder, written)) is not None:
            _require_one_format([member.path for member in members], written, format)
            for member in members:
                file = DataFile(member.path, member.shown, format=format, dialect=dialect)
                _require_content(file, whose)
                files.setdefault(member.path, file)
            continue
        found = sorted(walk(folder, written), key=lambda each: each.path)
        is_named = len(found) == 1 and found[0].path == folder / written
        taken, left = _sort_out(found, folder, written, format=format, is_named=is_named)
        skipped |= {each.shown: each for each in left}
        if not taken:
            raise BadData(_nothing(folder, written, left, whose=whose, root=root))
        _require_one_format(taken, written, format)
        for path in taken:
            file = DataFile(path, _shown(path, folder, written), format=format, dialect=dialect)
            _require_content(file, whose)
            files.setdefault(path.resolve(), file)
    return Survey(files=tuple(files.values()), skipped=tuple(skipped.values()))


def find_files(folder: Path, paths: Sequence[str], *, format: str, whose: str, root: str = ".") -> list[DataFile]:
    """Return the files of `survey_files` alone."""
    return list(survey_files(folder, paths, format=format, whose=whose, root=root).files)


def _sort_out(
    found: Iterable[Walked], folder: Path, written: str, *, format: str, is_named: bool
) -> tuple[list[Path], list[Skipped]]:
    """Return the files to read and those to leave out."""
    taken: dict[Path, Path] = {}
    skipped: list[Skipped] = []
    for each in found:
        shown, reason = _shown(each.path, folder, written), each.reason
        is_archive = _is_archive(each.path)
        if is_archive and is_named:
            raise BadData(f"{shown}: is an archive; {_advice(each.path, shown)}")
        if reason is None and is_archive:
            reason = "an archive"
        elif reason is None and not is_named and format == "auto" and plain_suffix(each.path) not in SUFFIXES:
            reason = "of an unknown ending"
        elif reason is None and each.path.resolve() in taken:
            reason = "the same file"
        if reason is None:
            taken[each.path.resolve()] = each.path
        elif reason != "the same file" or each.path != taken[each.path.resolve()]:
            skipped.append(Skipped(shown=shown, reason=reason))
    return list(taken.values()), skipped


def _advice(path: Path, shown: str) -> str:
    """Return what to write instead of the name of an archive."""
    if path.suffix.lower() != SUFFIX:
        return "its files cannot be read inside it: unpack it and name the folder"
    names = names_in(path)
    return (
        f"name the files in it, such as '{shown}/{names[0] if names else '*.csv'}' (it holds {listing(names, most=5)})"
    )


def _nothing(folder: Path, written: str, skipped: Sequence[Skipped], *, whose: str, root: str) -> str:
    where = "" if root == "." or Path(written).is_absolute() else f" under root '{root}'"
    is_folder = (folder / written).is_dir()
    what = "no readable file in this folder" if is_folder else "no readable file" if skipped else "no such file"
    named = "; ".join(f"{each.shown} is {each.reason}" for each in skipped[:3])
    more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    advice = f"{named}{more}; known endings: {', '.join(SUFFIXES)}" if skipped else "check the path"
    return f"{written}: {what}{where}, wanted by {whose}; {advice}"


def _require_one_format(paths: Sequence[Path], written: str, format: str) -> None:
    if format != "auto":
        return
    formats = sorted({SUFFIXES.get(plain_suffix(path), "") for path in paths})
    if len(formats) > 1 and formats != ["csv", "tsv"]:
        raise BadData(f"{written}: mixes formats ({', '.join(formats)}); set `format`, or name the files by a glob")


def _require_content(file: DataFile, whose: str) -> None:
    """Refuse empty files, and pointers that stand in the place of a file in a large-file store."""
    try:
        size = file.path.stat().st_size
        if size == 0:
            raise BadData(f"{file.shown}: the file is empty, wanted by {whose}")
        store = pointer_store(file.path)
    except OSError as error:
        raise BadData(f"{file.shown}: cannot be read: {error.strerror or error}") from None
    if store:
        raise BadData(
            f"{file.shown}: is a pointer of {store} and not the file itself, wanted by {whose}; fetch the file"
        )


def _shown(path: Path, folder: Path, written: str) -> str:
    return (
        str(path) if Path(written).is_absolute() or not path.is_relative_to(folder) else str(path.relative_to(folder))
    )


def plain_suffix(path: Path) -> str:
    """Return the suffix that says the format, in lower case, without that of a compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _is_archive(path: Path) -> bool:
    return path.suffix.lower() in ARCHIVES or plain_suffix(path) in ARCHIVES


def _guess_format(path: Path, shown: str) -> str:
    suffix = plain_suffix(path)
    if suffix == ".parquet" and path.suffix.lower() in COMPRESSED:
        raise BadData(f"{shown}: Parquet files are compressed inside; unpack this one")
    if suffix not in SUFFIXES:
        raise BadData(
            f"{shown}: unknown format '{suffix}'; known: {', '.join(SUFFIXES)}; or set `format` in the stream"
        )
    return SUFFIXES[suffix]


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
