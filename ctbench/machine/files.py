"""Files and folders that appear whole or not at all, also when the process is killed or the power fails.

Everything is written beside its place under a hidden name, flushed to the disk, and renamed; the rename is atomic on the
file systems that ctbench runs on, shared ones included. A crash leaves at most a hidden sibling, which `is_scratch` knows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ctbench.errors import BadConfig

SCRATCH: Final = ".partial"
"""Ending of everything that is not whole yet."""
_OS_ERROR: Final = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust end the message of what the system refused."""


def write_whole(path: Path, data: str | bytes, *, replace: bool = True) -> bool:
    """Write a file in one step; the folder must exist.

    Args:
        path: the file.
        data: its content; text is written as UTF-8.
        replace: whether a file that is there is replaced.

    Returns:
        Whether the file was written; False if `replace` is false and a file is there.

    Raises:
        OSError: the file cannot be written; what was there before is untouched.
    """
    scratch = scratch_beside(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise OSError(errno.EINVAL, "it is a device or a pipe", str(path))  # a rename would put a file in its place
        with scratch.open("xb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        if not replace:
            return _rename_new(scratch, path)
        scratch.replace(path)
        flush_folder(path.parent)
        return True
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)  # a full disk does not say where
        raise
    finally:
        with contextlib.suppress(OSError):  # a file system that became read-only keeps it
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a scratch folder that becomes `path` when the block ends without an error; an older folder is replaced.

    Raises:
        OSError: the folder cannot be written; what was there before is untouched.
    """
    scratch = scratch_beside(path)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        _share(scratch)
        flush_tree(scratch)
        old = scratch_beside(path)
        with contextlib.suppress(FileNotFoundError):
            path.rename(old)
        try:
            scratch.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        flush_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def os_errors() -> Iterator[None]:
    """Turn what safetensors and tokenizers, written in Rust, raise about a file that cannot be written into an OSError.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        yield
    except Exception as error:  # a SafetensorError, or no more than an Exception
        found = _OS_ERROR.search(str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def read_path(given: str | Path) -> Path:
    """Return a path that somebody wrote, with ~ read as a home folder; nothing needs to be there.

    Raises:
        BadConfig: nothing can be there: it is too long, holds a zero, or starts in the home of a user who does not exist.
    """
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        raise BadConfig(f"'{given}': there is no user whose home this starts in") from None
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, ValueError) as error:
        raise BadConfig(
            f"'{given!s:.60}' cannot be a path: {error.strerror if isinstance(error, OSError) else error}"
        ) from None
    return path


def _share(folder: Path) -> None:
    """Let whoever may read a folder read its files: safetensors writes files that only their owner can read."""
    readers = folder.stat().st_mode & 0o444
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | readers)


_SCRATCH_NAME: Final = re.compile(rf"\.(.+)\.[0-9]+-[0-9a-f]{{12}}{re.escape(SCRATCH)}", re.DOTALL)


def scratch_beside(path: Path) -> Path:
    """Return a hidden, unused name in the folder of `path`, of bounded length; a scratch file gets one like its own."""
    found = _SCRATCH_NAME.fullmatch(path.name)
    name = found[1] if found else path.name
    return path.with_name(f".{name[:100]}.{os.getpid()}-{uuid.uuid4().hex[:12]}{SCRATCH}")


def is_scratch(path: Path) -> bool:
    """Return whether a file or folder is what a write leaves if it is interrupted: it has a name of `scratch_beside`."""
    return _SCRATCH_NAME.fullmatch(path.name) is not None


def flush_tree(folder: Path) -> None:
    """Flush every file below a folder, and the folders, to the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            with (Path(place) / name).open("rb") as file:
                os.fsync(file.fileno())
        flush_folder(Path(place))


def flush_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _rename_new(scratch: Path, path: Path) -> bool:
    """Give `scratch` the name `path` unless that is taken; without hard links two writers may race for it."""
    try:
        path.hardlink_to(scratch)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if path.exists():
            return False
        scratch.replace(path)
    flush_folder(path.parent)
    return True
