"""The one document that `--json` prints, apart from whatever else prints meanwhile: a method, its import, a library."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TextIO

_OUTPUT: ContextVar[TextIO | None] = ContextVar("_OUTPUT", default=None)


@contextlib.contextmanager
def answer_apart() -> Iterator[None]:
    """Send to standard error whatever is printed in the block, but for `print_answer`."""
    token = _OUTPUT.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _OUTPUT.reset(token)


def print_answer(text: str) -> None:
    """Print on standard output what a command was asked for."""
    print(text, file=_OUTPUT.get() or sys.stdout)
