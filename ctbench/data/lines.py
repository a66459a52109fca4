"""Lines of a file as text: decompressed, decoded, numbered, and bounded."""

from __future__ import annotations

from collections.abc import Iterator

from ctbench.data.files import DataFile
from ctbench.data.unpack import unpack_errors, unpack_reason
from ctbench.errors import BadData

PIECE = 1_000_000
"""Bytes after which a document of plain text is cut, so that memory stays bounded."""
MAX_RECORD = 64 * 2**20
"""Characters that one record of JSONL or delimited text may have."""
ZERO_BYTES = 4
"""A line is no text if one byte in so many is zero: UTF-16 without its mark is valid UTF-8, and would be read as it is."""


def read_lines(file: DataFile) -> Iterator[tuple[int, str]]:
    """Yield (line number, text with its line end); a very long line comes in pieces.

    Raises:
        BadData: not UTF-8, or mostly zero bytes.
    """
    number, is_start, rest = 1, True, b""
    for line in _raw_lines(file):
        if is_start and number == 1 and line.startswith(b"\xef\xbb\xbf"):
            line = line[3:]
        piece, rest = rest + line, b""
        if not piece.endswith(b"\n") and len(line) == PIECE:
            piece, rest = _cut(piece)
        if text := _decode(piece, file.shown, number):
            yield number, text
        is_start = line.endswith(b"\n")
        number += is_start
    if rest:
        yield number, _decode(rest, file.shown, number)


def read_whole_lines(file: DataFile) -> Iterator[tuple[int, str]]:
    """Yield (line number, text with its line end).

    Raises:
        BadData: not UTF-8, or a line of more than `MAX_RECORD` characters.
    """
    parts: list[str] = []
    size = 0
    for number, text in read_lines(file):
        parts.append(text)
        size += len(text)
        if size > MAX_RECORD:
            raise BadData(
                f"{file.shown}:{number}: the line has more than {MAX_RECORD:,} characters; is it a file of lines?"
            )
        if text.endswith("\n"):
            yield number, "".join(parts)
            parts, size = [], 0
    if parts:
        yield number, "".join(parts)


def require_line_feeds(file: DataFile, number: int, line: str) -> None:
    """Refuse plain text whose lines end in carriage returns alone: all of it would be one line.

    Raises:
        BadData: the first line has no line feed, and a carriage return inside.
    """
    if number == 1 and not line.endswith("\n") and "\r" in line.rstrip("\r"):
        raise BadData(f"{file.shown}: its lines end in carriage returns; save the file with line feeds as line ends")


def _raw_lines(file: DataFile) -> Iterator[bytes]:
    with file.open() as stream:
        try:
            while line := stream.readline(PIECE):
                yield line
        except unpack_errors() as error:
            raise BadData(f"{file.shown}: cannot be unpacked: {unpack_reason(error)}") from None


def _cut(piece: bytes) -> tuple[bytes, bytes]:
    """Cut behind the last space, else behind the last whole character."""
    end = piece.rfind(b" ") + 1
    if not end:
        end = len(piece)
        while end > len(piece) - 4 and piece[end - 1] & 0xC0 == 0x80:
            end -= 1
        end -= piece[end - 1] >= 0xC0
    return piece[:end], piece[end:]


def _decode(piece: bytes, shown: str, number: int) -> str:
    if piece.count(0) * ZERO_BYTES > len(piece):
        raise BadData(
            f"{shown}:{number}: {piece.count(0):,} of the line's {len(piece):,} bytes are zero: the file is UTF-16, or its "
            "end was never written; save it as UTF-8"
        )
    try:
        return piece.decode()
    except UnicodeDecodeError as error:
        raise BadData(f"{shown}:{number}: not UTF-8 (byte {error.start} of the line); save the file as UTF-8") from None
