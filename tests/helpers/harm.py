"""What can happen to a file of the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 64
    path.write_bytes(bytes(data))


HARM: Mapping[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one bit flipped": _flip,
    "replaced": lambda path: path.write_bytes(b"[1]"),
}
"""By name; every one leaves other bytes than before."""
