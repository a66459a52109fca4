"""Where tables meet the terminal: its width, its colours, or the full width of a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctbench.report.tables import Table, terminal

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 100_000
"""Columns of a console that is no terminal: nothing is wrapped there."""


def make_console() -> Console:
    """Return a console for standard output that neither wraps nor colours what goes into a pipe."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, markup=False, emoji=False, width=PIPE_WIDTH)


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables, broken into blocks of columns where the terminal is too narrow for them."""
    console = make_console()
    width = console.width if console.is_terminal else None
    for index, table in enumerate(tables):
        if index:
            console.print()
        text = terminal(table, width=width)
        text.rstrip()
        console.print(text, soft_wrap=True)
