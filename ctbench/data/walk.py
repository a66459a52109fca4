"""Which files a path of a stream means: a file, a folder with all that is below it, or a pattern.

One set of rules for folders and patterns. Links are followed, and a link back to a folder above is noticed. What is
hidden, an archive or of an unknown ending is left out and named, unless the stream names it; what exists as it is
written is taken as that, even if its name reads as a pattern.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ctbench.errors import BadData

Reason = Literal["hidden", "an archive", "of an unknown ending", "a link back to a folder above it", "the same file"]
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".7z", ".rar", ".jar", ".whl")
_MARKS = "*?["
_HIDDEN = (".", "~$", "__MACOSX")
"""How names begin that are hidden: by custom, of files that Office has open, and what macOS puts into archives."""
_MAX_DEPTH = 100


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file or folder that a folder or pattern covers and that is not read.

    Attributes:
        shown: how the stream calls it.
        reason: what it is.
    """

    shown: str
    reason: Reason

    @property
    def may_hold_text(self) -> bool:
        """Whether text may be lost: hidden files and second names of a file hold none that is missed."""
        return self.reason in ("an archive", "of an unknown ending")


@dataclass(frozen=True, kw_only=True)
class Walked:
    """A file or folder that was come across."""

    path: Path
    reason: Reason | None = None


def walk(folder: Path, written: str) -> Iterator[Walked]:
    """Yield the files that `written` means, and what is passed over: hidden entries and loops.

    Args:
        folder: where relative paths start.
        written: a file, a folder or a pattern with *, ?, [...] and ** for any number of folders.

    Raises:
        BadData: a folder or file on the way cannot be read.
    """
    path = folder / written
    if (mode := _mode(path, written)) is not None:
        if stat.S_ISDIR(mode):
            yield from _below(path, written, *_line_of(path))
        else:
            _require_file(path, mode, written)
            yield Walked(path=path)
        return
    if any(mark in written for mark in _MARKS):
        parts = Path(written).parts
        base, rest = (Path(parts[0]), parts[1:]) if Path(written).is_absolute() else (folder, parts)
        yield from _matching(base, rest, written, ())


def _matching(base: Path, parts: tuple[str, ...], written: str, above: tuple[object, ...]) -> Iterator[Walked]:
    """Yield what is below `base` and fits the rest of a pattern."""
    first, rest = parts[0], parts[1:]
    if first == "**":
        yield from _matching_at_any_depth(base, rest, written, above)
        return
    literal = base / first
    mode = _mode(literal, written)
    if mode is not None or not any(mark in first for mark in _MARKS):
        names = [first] if mode is not None else []
    else:
        names = [name for name in _names(base, written) if fnmatch.fnmatchcase(name, first)]
    for name in names:
        path = base / name
        if name.startswith(_HIDDEN) and not first.startswith(_HIDDEN):
            yield Walked(path=path, reason="hidden")
        elif not rest:
            yield from _file(path, written)
        elif stat.S_ISDIR(_mode(path, written) or 0):
            yield from _matching(path, rest, written, above)


def _matching_at_any_depth(
    base: Path, rest: tuple[str, ...], written: str, above: tuple[object, ...]
) -> Iterator[Walked]:
    if not rest:
        yield from _below(base, written, *_line_of(base))
        return
    yield from _matching(base, rest, written, above)
    inside = (*above, _identity(base)) if above else _line_of(base)
    _require_depth(inside, written)
    for name in _names(base, written):
        path = base / name
        if not stat.S_ISDIR(_mode(path, written) or 0):
            continue
        if name.startswith(_HIDDEN):
            yield Walked(path=path, reason="hidden")
        elif _identity(path) in inside:
            yield Walked(path=path, reason="a link back to a folder above it")
        else:
            yield from _matching_at_any_depth(path, rest, written, inside)


def _below(folder: Path, written: str, *above: object) -> Iterator[Walked]:
    """Yield every file below a folder."""
    _require_depth(above, written)
    for name in _names(folder, written):
        path = folder / name
        if name.startswith(_HIDDEN):
            yield Walked(path=path, reason="hidden")
        elif not stat.S_ISDIR(_mode(path, written) or 0):
            yield from _file(path, written)
        elif (identity := _identity(path)) in above:
            yield Walked(path=path, reason="a link back to a folder above it")
        else:
            yield from _below(path, written, *above, identity)


def _require_depth(above: tuple[object, ...], written: str) -> None:
    if len(above) > _MAX_DEPTH:
        raise BadData(f"{written}: holds more than {_MAX_DEPTH} folders inside one another")


def _file(path: Path, written: str) -> Iterator[Walked]:
    mode = _mode(path, written)
    if mode is None:
        raise BadData(
            f"{path.name} (found by {written}): is a link to a file that is not there; fetch it, or remove the link"
        )
    if not stat.S_ISDIR(mode):
        _require_file(path, mode, written)
        yield Walked(path=path)


def _require_file(path: Path, mode: int, written: str) -> None:
    if not stat.S_ISREG(mode):
        shown = written if path.name == Path(written).name else f"{path.name} (found by {written})"
        raise BadData(f"{shown}: is a pipe or a device, not a file; write what comes out of it into a file")


def _names(folder: Path, written: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder))
    except NotADirectoryError:
        return []
    except OSError as error:
        raise BadData(f"{written}: folder '{folder.name}' cannot be read: {error.strerror or error}") from None


def _mode(path: Path, written: str) -> int | None:
    """Return the mode of what a path leads to, None where nothing is."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # no permission, a ring of links, a name too long or with a zero in it
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadData(f"{written}: cannot be looked up: {reason}") from None


def _line_of(folder: Path) -> tuple[object, ...]:
    """Return what a link inside a folder must not lead to: the folders above it, and itself."""
    real = folder.resolve()
    return tuple(_identity(path) for path in (*reversed(real.parents), real))


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
