"""File systems and folders that cannot be written, and calls of the command line that try."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

DROP_FROM_BOUNDING_SET = 24
"""prctl(2); the capabilities by which root writes (1) and reads (2) what permissions forbid."""


@contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """Mount a small file system of its own, where that is allowed."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, *, but: int = 0) -> None:
    """Fill a small file system, but for so many bytes."""
    with (place / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            file.truncate(file.tell() - but)


def obey_permissions() -> None:
    """Make what a process starts next obey permissions, also if it is root's."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(DROP_FROM_BOUNDING_SET, capability)


def call_in(
    cwd: Path, words: list[str], *, home: Path, limit: int | None = None, more: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Call the command line from a folder.

    Args:
        cwd: the folder.
        words: the arguments.
        home: CTBENCH_HOME.
        limit: the largest file that it may write, in bytes.
        more: further environment.
    """

    def lower() -> None:
        obey_permissions()
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    environment = {**os.environ, "CTBENCH_HOME": str(home), "NO_COLOR": "1", "MPLCONFIGDIR": str(cwd / "mpl")}
    options: dict[str, Any] = {"cwd": cwd, "env": environment | (more or {}), "capture_output": True, "text": True}
    command = [sys.executable, "-m", "ctbench", *words]
    return subprocess.run(command, preexec_fn=lower, check=False, timeout=600, **options)
