"""The one document that `--json` prints, kept apart from what a method or a library prints meanwhile."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TextIO

_OUTPUT: ContextVar[TextIO | None] = ContextVar("_OUTPUT", default=None)


@contextlib.contextmanager
def answer_apart() -> Iterator[None]:
    """Send everything that is printed in the block to standard error, except by `print_answer`."""
    token = _OUTPUT.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _OUTPUT.reset(token)


def print_answer(text: str) -> None:
    """Print the answer of a command on standard output."""
    print(text, file=_OUTPUT.get() or sys.stdout)
