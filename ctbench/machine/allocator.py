"""Settings of the C allocator: freshly mapped memory costs page faults in every step."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Final

KEEP_FREED: Final = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "9223372036854775807"}
"""Environment in which glibc keeps freed memory for the next step instead of mapping fresh pages. It is read when a process
starts, so workers have it and `--workers 0`, which computes in the process of the user, goes without."""


def return_freed_memory() -> None:
    """Return freed memory to the system, so that a peak measured from now on is that of the following computation."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # another libc
            ctypes.CDLL("libc.so.6").malloc_trim(0)
