"""The claim of a node: one process computes it, the others wait, on one machine or several with a shared file system.

A claim is a folder that holds one file, named by the token of its owner: host and process. It is made whole under a hidden
name and renamed, which fails where a claim with an owner is; file systems do that atomically, network ones included, with
neither flock nor hard links. So no claim is without its owner for a moment, wherever a process is killed. Its owner touches
the file every few seconds. Whoever finds an owner dead, or on another host silent for long, removes the file of that very
token, so that nobody can remove the claim of somebody who came in between. A claim with no file in it is free.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ctbench.machine.files import scratch_beside

HEARTBEAT_SECONDS: Final = 5.0
"""Time between two signs of life of an owner."""
SILENT_SECONDS: Final = 90.0
"""Time without a sign of life after which an owner on another host is taken for dead."""
POLL_SECONDS: Final = 0.2
SUFFIX: Final = ".claim"
_TAKEN: Final = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
"""How a rename to a claim that has an owner fails; an older version's claim is a file, not a folder."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who holds a claim.

    Args:
        host: its host.
        process: the process id; `started`: the start time of that process, "" where it cannot be known.
        token: of this claim alone.
        space: in which the process id holds: containers of one host count apart. Empty where there are none, and in claims
            of an older version.
    """

    host: str
    process: int
    started: str
    token: str
    space: str = ""

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


_HELD: Final = set[str]()
"""Tokens of the claims that this process holds or is about to."""

Waiting = Callable[[Owner], None]
"""Called once with the owner that a process waits for."""


@contextlib.contextmanager
def claimed(path: Path, *, waiting: Waiting | None = None) -> Iterator[None]:
    """Hold the claim `path` while the block runs; wait for it if somebody else holds it.

    Args:
        path: the claim; its folder must exist.
        waiting: called with the owner, once per owner, when there is one to wait for.
    """
    me = _myself()
    told: Owner | None = None
    _HELD.add(me.token)
    try:
        while not _create(path, me):
            owner = read_owner(path)
            if is_stale(path):
                remove_stale(path)
            elif owner is not None and owner.token and owner != told and waiting is not None:
                waiting(owner)
                told = owner
            time.sleep(POLL_SECONDS)
        with _beating(path / me.token):
            yield
    finally:
        _HELD.discard(me.token)  # whatever an interrupt leaves behind is nobody's
        with contextlib.suppress(OSError):  # a file system that became read-only keeps it
            if (path / me.token).exists():
                _remove(path, path / me.token)


@contextlib.contextmanager
def _beating(file: Path) -> Iterator[None]:
    """Give signs of life while the block runs."""
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(file, stop), daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()


def read_owner(path: Path) -> Owner | None:
    """Return who holds a claim; None if nobody does. An unreadable claim has an owner who may be on any host."""
    return _read(path)[1]


def is_stale(path: Path) -> bool:
    """Return whether a claim is there whose owner is dead, silent or gone."""
    file, owner = _read(path)
    return path.is_dir() if file is None or owner is None else _is_dead(file, owner)


def remove_stale(path: Path) -> None:
    """Remove a claim whose owner is dead, silent or gone; one that somebody else took meanwhile stays.

    Raises:
        OSError: it cannot be removed.
    """
    file, owner = _read(path)
    if file is None or owner is None or _is_dead(file, owner):
        _remove(path, file)


def _read(path: Path) -> tuple[Path | None, Owner | None]:
    """Return the file that names a claim's owner, and the owner; files that the system hides in the folder do not count."""
    try:
        file = next((each for each in sorted(path.iterdir()) if not each.name.startswith(".")), None)
    except FileNotFoundError:
        return None, None
    except OSError:  # an older version's, which is a file, or a folder that may not be read
        file = path
    try:
        return file, None if file is None else _owner_of(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError, TypeError, RecursionError):
        return file, Owner(host="an unknown host", process=0, started="", token="")


def _owner_of(text: str) -> Owner:
    owner = Owner(**json.loads(text))
    if not isinstance(owner.process, int) or not all(
        isinstance(each, str) for each in (owner.host, owner.started, owner.token)
    ):
        raise TypeError("not as it is written")
    return owner


def _create(path: Path, me: Owner) -> bool:
    """Make the claim, with its owner in it, unless it has an owner; return whether it is ours."""
    owner = read_owner(path)
    if owner is not None:
        return owner == me  # a network file system may report a rename as failed that was done
    scratch = scratch_beside(path)
    scratch.mkdir()
    try:
        (scratch / me.token).write_text(json.dumps(asdict(me)), encoding="utf-8")
        scratch.rename(path)
    except FileNotFoundError:  # swept by another process
        return False
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        return False
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _remove(path: Path, file: Path | None) -> None:
    """Remove the file of one owner, and the claim if nobody else took it meanwhile."""
    for each in _hidden(path):
        with contextlib.suppress(OSError):
            _delete(each)
    if file is not None:
        with contextlib.suppress(FileNotFoundError):
            _delete(file)
    with contextlib.suppress(OSError):
        path.rmdir()


def _hidden(path: Path) -> list[Path]:
    """Return what the system hides in a folder; nothing of one that somebody else removed."""
    try:
        return [each for each in path.iterdir() if each.name.startswith(".")]
    except OSError:
        return []


def _delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _is_dead(file: Path, owner: Owner) -> bool:
    me = _myself()
    if owner.host == me.host and owner.space in ("", me.space):
        if (owner.process, owner.started) == (me.process, me.started):
            return owner.token not in _HELD
        started = _start_time(owner.process)
        if started is not None:
            return started != owner.started
    return _is_silent(file)


def _is_silent(file: Path) -> bool:
    """Return whether an owner has given no sign of life for long, by the clock that wrote the last one."""
    try:
        with file.open("rb") as opened:  # a network file system asks its server when a file is opened
            last = os.fstat(opened.fileno()).st_mtime
    except OSError:
        return False
    if time.time() - last <= SILENT_SECONDS:
        return False
    now = time.time()
    with contextlib.suppress(OSError):  # a store that is only read has no other clock than ours
        probe = scratch_beside(file.parent)
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    return now - last > SILENT_SECONDS


def _myself() -> Owner:
    """Return this process, with a token of its own."""
    space = ""
    with contextlib.suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    process = os.getpid()
    started = _start_time(process) or ""
    return Owner(host=socket.gethostname(), process=process, started=started, token=uuid.uuid4().hex, space=space)


def _start_time(process: int) -> str | None:
    """Return when a process of this host started, "" if there is none, None if that is hidden (macOS, another user's).

    Process ids are used again, start times are not.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return None


def _beat(file: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(file)
