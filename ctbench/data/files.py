"""Finding and opening the files of a source: folders and globs, formats by name, compression, digests."""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import importlib
import lzma
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from ctbench.errors import BadData

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


class DataFile:
    """One file of a source.

    Attributes:
        path: where it is.
        shown: how the stream calls it; messages use it.
        format: "jsonl", "text", "csv" or "parquet".
    """

    def __init__(self, path: Path, shown: str, *, format: str) -> None:
        self.path = path
        self.shown = shown
        self.format = _guess_format(path, shown) if format == "auto" else format

    def open(self) -> IO[bytes]:
        """Open for reading, decompressed."""
        try:
            match self.path.suffix:
                case ".gz":
                    return cast(IO[bytes], gzip.open(self.path, "rb"))
                case ".bz2":
                    return bz2.open(self.path, "rb")
                case ".xz":
                    return lzma.open(self.path, "rb")
                case ".zst":
                    return _open_zst(self.path, self.shown)
            return self.path.open("rb")
        except OSError as error:
            raise BadData(f"{self.shown}: cannot be read: {error.strerror or error}") from None

    def digest(self) -> str:
        """Return the SHA-256 of the bytes on disk."""
        stat = self.path.stat()
        try:
            return _digest(self.path, stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise BadData(f"{self.shown}: cannot be read: {error.strerror or error}") from None


def find_files(folder: Path, paths: Sequence[str], *, format: str, whose: str, root: str = ".") -> list[DataFile]:
    """Resolve files, folders and globs to files, in the order of their names; each file once.

    Args:
        folder: where relative paths start.
        paths: as written in the stream.
        format: a format, or "auto" to go by the file names.
        whose: what needs them, for messages.
        root: how the stream calls `folder`, for messages.

    Raises:
        BadData: nothing is there, a file is empty or of unknown format, or a folder mixes formats.
    """
    files: dict[Path, DataFile] = {}
    for written in paths:
        matches = sorted(_match(folder, written, format))
        if not matches:
            where = "" if root == "." or Path(written).is_absolute() else f" under root '{root}'"
            what = "no readable file in this folder" if (folder / written).is_dir() else "no such file"
            raise BadData(f"{written}: {what}{where}, wanted by {whose}; check the path")
        for path in matches:
            shown = _shown(path, folder, written)
            if path.stat().st_size == 0:
                raise BadData(f"{shown}: the file is empty, wanted by {whose}")
            files.setdefault(path, DataFile(path, shown, format=format))
        formats = sorted({files[path].format for path in matches})
        if len(formats) > 1:
            raise BadData(f"{written}: mixes formats ({', '.join(formats)}); set `format`, or name the files by a glob")
    return list(files.values())


def _match(folder: Path, written: str, format: str) -> Iterator[Path]:
    path = folder / written
    if path.is_file():
        yield path
    elif path.is_dir():
        for inner in path.rglob("*"):
            hidden = any(part.startswith(".") for part in inner.relative_to(path).parts)
            if inner.is_file() and not hidden and (format != "auto" or plain_suffix(inner) in SUFFIXES):
                yield inner
    elif any(mark in written for mark in "*?["):
        pattern = Path(written)
        base = Path(pattern.anchor) if pattern.is_absolute() else folder
        relative = str(pattern.relative_to(pattern.anchor)) if pattern.is_absolute() else written
        yield from (inner for inner in base.glob(relative) if inner.is_file())


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


def _guess_format(path: Path, shown: str) -> str:
    suffix = plain_suffix(path)
    if suffix == ".parquet" and path.suffix.lower() in COMPRESSED:
        raise BadData(f"{shown}: Parquet files are compressed inside; unpack this one")
    if suffix not in SUFFIXES:
        raise BadData(
            f"{shown}: unknown format '{suffix}'; known: {', '.join(SUFFIXES)}; or set `format` in the stream"
        )
    return SUFFIXES[suffix]


def _open_zst(path: Path, shown: str) -> IO[bytes]:
    module = "compression.zstd" if sys.version_info >= (3, 14) else "zstandard"
    try:
        opened: IO[bytes] = importlib.import_module(module).open(path, "rb")
    except ImportError:
        raise BadData(f"{shown}: .zst needs Python 3.14 or `pip install zstandard`; or unpack the file") from None
    return opened


@functools.lru_cache(maxsize=4096)
def _digest(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
