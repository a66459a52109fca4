"""Print tables to standard output: in a terminal with its width and colours, in a pipe unwrapped and plain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctbench.reporting.tables import PIPE_WIDTH, Table, plain_text, terminal

if TYPE_CHECKING:
    from rich.console import Console


def make_console() -> Console:
    """Return a console for standard output; in a pipe it neither wraps nor colours."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, emoji=False, width=PIPE_WIDTH)


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables, separated by blank lines."""
    console = make_console()
    for index, table in enumerate(tables):
        if index:
            console.print()
        if console.is_terminal:
            console.print(terminal(table, width=console.width))
        else:
            console.file.write(plain_text(table))
