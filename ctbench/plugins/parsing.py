"""Source files as syntax trees."""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path

from ctbench.errors import BadPlugin, one_line


def parse_file(path: Path, what: str) -> ast.Module:
    """Return the syntax tree of a file; an unchanged file is parsed once. Do not modify the tree.

    Raises:
        BadPlugin: it cannot be parsed; `what` names it.
    """
    try:
        return parse_source(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
        raise BadPlugin(f"{what} cannot be read ({path.name}, {_reason(error)})") from error


@lru_cache(maxsize=64)
def parse_source(source: str) -> ast.Module:
    """Return the syntax tree of a text. Do not modify it."""
    return ast.parse(source)


def _reason(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    if isinstance(error, RecursionError | MemoryError):
        return "an expression in it is nested too deeply"
    if isinstance(error, OSError):
        return str(error.strerror)
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else one_line(error)
