"""Packing as .zst, with what this version of Python has for it."""

from __future__ import annotations

import sys


def pack_zst(content: bytes) -> bytes:
    """Return one frame."""
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.compress(content)
    import zstandard

    return zstandard.ZstdCompressor().compress(content)
