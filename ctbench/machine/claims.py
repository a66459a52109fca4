"""The claim of a node: one process computes it, the others wait, on one machine or several with a shared file system.

A claim is a small file that is created only if it is not there, which is atomic on local and on network file systems, with
neither flock nor hard links. Its owner (host and process) touches it every few seconds. A claim is taken over when its owner
is dead, or on another host when it has been silent for long.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

HEARTBEAT_SECONDS: Final = 5.0
"""Time between two signs of life of an owner."""
SILENT_SECONDS: Final = 90.0
"""Time without a sign of life after which an owner on another host is taken for dead."""
POLL_SECONDS: Final = 0.2
SUFFIX: Final = ".claim"
TAKEOVER: Final = ".takeover"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who holds a claim: `process` is the process id, `started` the start time of that process on its host."""

    host: str
    process: int
    started: str
    token: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


Waiting = Callable[[Owner], None]
"""Called once with the owner that a process waits for."""


@contextlib.contextmanager
def claimed(path: Path, *, waiting: Waiting | None = None) -> Iterator[None]:
    """Hold the claim `path` while the block runs; wait for it if somebody else holds it.

    Args:
        path: the claim's file; its folder must exist.
        waiting: called with the owner, once per owner, when there is one to wait for.
    """
    me = Owner(host=socket.gethostname(), process=os.getpid(), started=_start_time(os.getpid()), token=uuid.uuid4().hex)
    told: Owner | None = None
    while not _create(path, me):
        owner = read_owner(path)
        if owner is not None and _is_dead(path, owner):
            _take_over(path, owner)
            continue
        if owner is not None and owner.token and owner != told and waiting is not None:
            waiting(owner)
            told = owner
        time.sleep(POLL_SECONDS)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        if read_owner(path) == me:
            path.unlink(missing_ok=True)


def read_owner(path: Path) -> Owner | None:
    """Return who holds a claim; None if nobody does. An unreadable claim has an owner who may be on any host."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return Owner(host="an unknown host", process=0, started="", token="")


def is_stale(path: Path) -> bool:
    """Return whether a claim's owner is dead or silent."""
    owner = read_owner(path)
    return owner is not None and _is_dead(path, owner)


def _create(path: Path, me: Owner) -> bool:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(me)))
    except OSError:  # a full disk
        path.unlink(missing_ok=True)
        raise
    return True


def _take_over(path: Path, dead: Owner) -> None:
    """Remove the claim of a dead owner; of several processes that try, one does."""
    guard = path.with_suffix(TAKEOVER)
    with contextlib.suppress(OSError):
        if time.time() - guard.stat().st_mtime > SILENT_SECONDS:
            guard.unlink(missing_ok=True)  # whoever was taking over died meanwhile
    try:
        os.close(os.open(guard, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        time.sleep(POLL_SECONDS)
        return
    try:
        if read_owner(path) == dead and _is_dead(path, dead):
            path.unlink(missing_ok=True)
    finally:
        guard.unlink(missing_ok=True)


def _is_dead(path: Path, owner: Owner) -> bool:
    if owner.host == socket.gethostname():
        return _start_time(owner.process) != owner.started
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > SILENT_SECONDS
    return False


def _start_time(process: int) -> str:
    """Return when a process of this host started; "" if there is none. Process ids are used again, start times are not."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return _ask_signal(process)
    return "" if fields[0] in "ZX" else fields[19]


def _ask_signal(process: int) -> str:
    """Tell a living process without /proc (macOS), where its start time is not known."""
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)
