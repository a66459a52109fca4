"""Reading compressed files: every frame, to the end, within bounds.

The standard readers ignore damage behind the first frame of a .bz2 or .xz, and the one of `zstandard` takes half of a
cut file for all of it. Here every byte of a file has to belong to a whole frame, and a file that grows beyond all
proportion is refused before it fills the memory or the day.
"""

from __future__ import annotations

import bz2
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

from ctbench.errors import BadData, first_line

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
MAX_RATIO = 250
"""A compressed file may be unpacked to so many times its size..."""
FREE_BYTES = 64 * 2**20
"""... and to this much more: text shrinks to a third or a tenth, a made-up file of one letter to a thousandth."""
_CHUNK = 2**16
_SMALL_CHUNK = 2**11
"""Bytes fed at a time to a decompressor whose output cannot be limited: at most 64 MiB come out."""
_MAX_OUTPUT = 2**20
_MAX_XZ_MEMORY = 2**30


class Decompressor(Protocol):
    """What one frame is unpacked with."""

    @property
    def eof(self) -> bool:
        """Whether the frame has ended."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What was given after the end of the frame."""
        ...

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        """Return what `data` unpacks to, at most `max_length` bytes if it can be limited."""
        ...


class _Gzip:
    """A frame of gzip with the interface of the other decompressors."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))


class _Unlimited:
    """A frame of the library `zstandard`, whose output cannot be limited."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, _max_length: int = -1, /) -> bytes:
        return bytes(self._inner.decompress(data)) if data else b""


class _Unpacked(io.RawIOBase):
    """What the frames of a file unpack to, one after the other."""

    def __init__(self, raw: IO[bytes], start: Callable[[], Decompressor], shown: str, *, chunk: int) -> None:
        self._raw, self._start, self._shown, self._chunk = raw, start, shown, chunk
        self._frame: Decompressor | None = None
        self._waiting = memoryview(b"")
        self._packed = self._unpacked = 0

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._raw.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while not self._waiting:
            found = self._next(_MAX_OUTPUT)
            if found is None:
                return 0
            self._waiting = memoryview(found)
        count = min(len(buffer), len(self._waiting))
        buffer[:count], self._waiting = self._waiting[:count], self._waiting[count:]
        self._unpacked += count
        if self._unpacked > FREE_BYTES + MAX_RATIO * self._packed:
            raise BadData(
                f"{self._shown}: unpacks to more than {MAX_RATIO} times its size, as no text does; "
                "unpack it yourself if it is meant"
            )
        return count

    def _next(self, limit: int) -> bytes | None:
        """Return the next bytes, perhaps none; None at the end of the file."""
        if self._frame is not None:
            if self._frame.eof:
                return self._begin(self._frame.unused_data)
            if found := self._frame.decompress(b"", limit):
                return found
        data = self._read()
        if not data:
            if self._frame is None:
                return None
            raise BadData(f"{self._shown}: cannot be unpacked: it breaks off in the middle; copy the file again")
        return self._begin(data) if self._frame is None else self._frame.decompress(data, limit)

    def _begin(self, data: bytes) -> bytes | None:
        """Start a frame with `data`; zeros between and behind frames are padding."""
        self._frame = None
        is_first = self._packed <= len(data)
        if not is_first:
            data = data.lstrip(b"\0")
        while not data:
            data = self._read()
            if not data:
                return None
            data = data.lstrip(b"\0")
        self._frame = self._start()
        return self._frame.decompress(data, _MAX_OUTPUT)

    def _read(self) -> bytes:
        data = self._raw.read(self._chunk)
        self._packed += len(data)
        return data


def open_packed(path: Path, shown: str) -> IO[bytes]:
    """Open a file decompressed, by the ending of its name.

    Args:
        path: the file.
        shown: its name in messages.

    Raises:
        BadData: the library for it is missing. Reading raises BadData (out of proportion, cut) or one of
            `unpack_errors`.
        OSError: it cannot be opened.
    """
    ending = path.suffix.lower()
    if ending not in COMPRESSED:
        return path.open("rb")
    chunk = _CHUNK
    start: Callable[[], Decompressor]
    if ending == ".gz":
        start = _Gzip
    elif ending == ".bz2":
        start = bz2.BZ2Decompressor
    elif ending == ".xz":
        start = _start_xz
    else:
        start, chunk = _start_zst(shown)
    return io.BufferedReader(_Unpacked(path.open("rb"), start, shown, chunk=chunk), buffer_size=2**18)


def _start_xz() -> Decompressor:
    return lzma.LZMADecompressor(memlimit=_MAX_XZ_MEMORY)


def _start_zst(shown: str) -> tuple[Callable[[], Decompressor], int]:
    if sys.version_info >= (3, 14):
        from compression.zstd import ZstdDecompressor

        return ZstdDecompressor, _CHUNK
    try:
        import zstandard
    except ImportError:
        raise BadData(
            f"{shown}: .zst needs the library zstandard before Python 3.14: pip install 'ctbench[zst]', or unpack the file"
        ) from None
    return lambda: _Unlimited(zstandard.ZstdDecompressor().decompressobj()), _SMALL_CHUNK


def unpack_errors() -> tuple[type[Exception], ...]:
    """Return what the decompressors raise at damaged files."""
    found: list[type[Exception]] = [OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, MemoryError]
    for module, name in (("zstandard", "ZstdError"), ("compression.zstd", "ZstdError")):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def unpack_reason(error: Exception) -> str:
    """Return why a file cannot be unpacked, never empty."""
    return first_line(error)
