"""Arranging a stream's data: from a folder as its originals come to the files that the stream names, checked.

What a stream's TOML cannot say lies beside it: `NAME.py` with one function `prepare(source, target)`, for originals that
have to be turned into something else (dashes of the name become underscores), and `NAME.sums`, with a line
`RECORDS SHA256 PATH` for every file whose number of lines and digest are known (a dash stands for an unknown one).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctbench.data.files import find_files
from ctbench.data.schema import FilesText, Stream
from ctbench.data.tasktables import FilesTask
from ctbench.errors import BadConfig, BadData, BadPlugin, CTBenchError, unwritable
from ctbench.machine.files import scratch_beside, write_whole


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What `prepare_stream` did.

    Attributes:
        folder: where the files lie now.
        files: their paths in it.
        checked: files there with a known number of lines or digest that have it, be they read by the stream or not.
    """

    folder: Path
    files: tuple[str, ...]
    checked: int


def prepare_stream(stream: Stream, source: Path) -> Prepared:
    """Arrange the files of a stream in the folder where it looks for them, and check them.

    Args:
        stream: a stream whose data are files.
        source: a folder with the originals; the stream's own folder is only checked.

    Raises:
        BadConfig: the stream has no files to arrange.
        BadData: an original is missing or not what it should be.
        BadPlugin: the stream's `prepare` cannot be used.
    """
    wanted = list(_paths(stream))
    if not wanted:
        raise BadConfig(f"stream {stream.name} has no files to arrange: its data is made or fetched when it runs")
    if not source.is_dir():
        raise BadData(f"no folder '{source}'; wanted: the originals of stream {stream.name}")
    target = stream.folder()
    convert = _find_function(stream)
    if target.resolve() != source.resolve():
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            whose = f"folder '{target}' of stream {stream.name}"
            raise BadConfig(unwritable(whose, error, "choose another `root` for the stream")) from None
        try:
            if convert is not None:
                convert(source, target)
            else:
                for path, format in wanted:
                    _copy(stream, source, target, path, format=format)
        except (CTBenchError, OSError) as error:
            with contextlib.suppress(OSError):  # stays if anything is in it
                target.rmdir()
            if isinstance(error, OSError):
                whose = f"'{error.filename or target}' of stream {stream.name}"
                raise BadConfig(unwritable(whose, error, "choose another `root` for the stream")) from None
            raise
    files = {
        file.shown
        for path, format in wanted
        for file in find_files(target, [path], format=format, whose=f"stream {stream.name}")
    }
    return Prepared(folder=target, files=tuple(sorted(files)), checked=_check(stream, target))


def _paths(stream: Stream) -> Iterator[tuple[str, str]]:
    """Yield every path that the stream reads, labels of plain text included, with its format."""
    texts = [
        stream.general,
        *(domain.text for domain in stream.domains),
        *(domain.held_out for domain in stream.domains),
    ]
    for text in texts:
        if isinstance(text, FilesText):
            yield from ((path, text.format) for path in text.path)
    for task in (domain.task for domain in stream.domains):
        if isinstance(task, FilesTask):
            for paths in (task.train, task.test, task.validation, task.label_files()):
                yield from ((path, task.format) for path in paths or ())


def _find_function(stream: Stream) -> Callable[[Path, Path], None] | None:
    """Load `prepare` from the module beside the TOML, if there is one."""
    path = _beside(stream, ".py")
    if path is None:
        return None
    specification = importlib.util.spec_from_file_location(f"ctbench_prepare_{path.stem}", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
        function: Callable[[Path, Path], None] = module.prepare
    except CTBenchError:
        raise
    except Exception as error:  # whatever a module of somebody else raises
        raise BadPlugin(f"{path.name}: has no usable function prepare(source, target): {error}") from None
    return function


def _beside(stream: Stream, suffix: str) -> Path | None:
    if stream.path is None:
        return None
    stem = stream.path.stem
    path = stream.path.with_name((stem.replace("-", "_") if suffix == ".py" else stem) + suffix)
    return path if path.is_file() else None


def _copy(stream: Stream, source: Path, target: Path, path: str, *, format: str) -> None:
    if Path(path).is_absolute():
        return  # it stays where it is
    for file in find_files(source, [path], format=format, whose=f"stream {stream.name}", root=source.resolve().name):
        inside = Path(os.path.relpath(file.path, source))
        if ".." in inside.parts:
            raise BadConfig(
                f"{path}: lies outside the folder of stream {stream.name}; move it there, or give its whole path"
            )
        place(file.path, target / inside)


def place(original: Path, path: Path) -> None:
    """Put a file somewhere as it is: linked where that is possible, so that gigabytes are not stored twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = scratch_beside(path)
    try:
        os.link(original.resolve(), temporary)  # a symbolic link would be linked itself, and lead nowhere from here
    except OSError:
        try:
            shutil.copyfile(original, temporary)
        except OSError as error:
            if error.filename2 is not None:  # named after the original, although the copy could not be written
                error.filename = str(path)
            temporary.unlink(missing_ok=True)
            raise
    temporary.replace(path)
    temporary.unlink(missing_ok=True)  # a link is not renamed over another link to the same file


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file of lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(f"{line}\n" for line in lines))


def _check(stream: Stream, target: Path) -> int:
    """Compare files with the list beside the TOML; return how many there are on it."""
    listing = _beside(stream, ".sums")
    if listing is None:
        return 0
    lines = listing.read_text(encoding="utf-8").splitlines()
    for line in lines:
        records, digest, path = line.split(maxsplit=2)
        if not (target / path).is_file():
            raise BadData(f"{path}: no such file in {target.name}/, wanted by stream {stream.name}")
        found_records, found_digest = _measure(target / path)
        if records != "-" and int(records) != found_records:
            raise BadData(f"{path}: has {found_records} records, stream {stream.name} wants {records}")
        if digest not in ("-", found_digest):
            raise BadData(
                f"{path}: is another file than the one stream {stream.name} was made for: SHA-256 "
                f"{found_digest[:12]}..., wanted {digest[:12]}..."
            )
    return len(lines)


def _measure(path: Path) -> tuple[int, str]:
    """Return the number of lines that are not empty, and the SHA-256."""
    total, records = hashlib.sha256(), 0
    with path.open("rb") as file:
        for line in file:
            total.update(line)
            records += bool(line.strip())
    return records, total.hexdigest()
