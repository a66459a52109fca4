"""A table of texts, and its forms: terminal, plain text, Markdown, CSV. Every form escapes texts from results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ctbench.errors import one_line

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table as RichTable

BEST_MARK = "*"
"""Mark of the best value, for output without bold letters."""

PIPE_WIDTH = 100_000
"""Width of output that is not a terminal: nothing is wrapped."""

MIN_TEXT_WIDTH = 32
"""A column of text may be wrapped to this many letters before it moves to another block of columns."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell.

    Args:
        text: the text shown.
        bold: whether the cell is better than all others of its column.
        dim: whether the cell is less important.
        value: number to sort by; None or NaN if there is none.
        below: a second line, on the HTML page only.
    """

    text: str
    bold: bool = False
    dim: bool = False
    value: float | None = None
    below: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A titled table.

    Args:
        title: one line above the table.
        columns: names of the columns; the first ones name the rows.
        rows: each as wide as the columns.
        num_keys: number of leading columns that name a row; a narrow terminal repeats them in every block of columns.
        left: columns of text, aligned to the left and wrapped in a narrow terminal; other columns are right-aligned.
        notes: lines below the table.
        optional: columns that a narrow terminal leaves out, the last ones first; a note names them.
        name: a short name without spaces, for LaTeX's label.
        elsewhere: what to do, apart from widening the terminal, to see columns that were left out.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    num_keys: int = 1
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    name: str = ""
    elsewhere: str = "name columns (--metric, --columns)"


def text_rows(rows: Iterable[Sequence[str]]) -> tuple[tuple[Cell, ...], ...]:
    """Return rows of texts as rows of cells."""
    return tuple(tuple(Cell(text=text) for text in row) for row in rows)


def terminal(table: Table, *, width: int | None = None) -> Group:
    """Return the table for rich; a table wider than the terminal leaves optional columns out, then is split into blocks.

    Args:
        table: the table.
        width: columns of the terminal; None for unlimited.
    """
    from rich.console import Group
    from rich.text import Text

    widths = _widths(table, width)
    if width is not None and sum(widths) + 2 * len(widths) - 2 > width:
        table = _narrowed(table, widths, width)
        widths = _widths(table, width)
    title = [Text(one_line(table.title), style="bold")] if table.title else []
    blocks = [_rich_table(table, block) for block in _blocks(widths, table.num_keys, width)]
    parts: list[Text | RichTable] = [*title]
    for block in blocks:
        parts += [Text(), block] if parts else [block]
    notes = [Text(one_line(note)) for note in table.notes]
    return Group(*parts, *([Text()] if notes else []), *notes)


def _widths(table: Table, width: int | None) -> list[int]:
    """Return the least width of each column; texts may be wrapped if the terminal's width is limited."""
    from rich.cells import cell_len

    texts = [table.columns, *([_marked(cell) for cell in row] for row in table.rows)]
    widths = [max(cell_len(one_line(text)) for text in column) for column in zip(*texts, strict=True)]
    if width is None:
        return widths
    return [min(each, MIN_TEXT_WIDTH) if table.columns[i] in table.left else each for i, each in enumerate(widths)]


def _narrowed(table: Table, widths: Sequence[int], width: int) -> Table:
    """Return a table without as many of its last optional columns as do not fit, and with a note that names them."""
    left_out: list[int] = []
    for index in reversed(range(len(widths))):
        kept = [each for place, each in enumerate(widths) if place not in left_out]
        if sum(kept) + 2 * len(kept) - 2 <= width:
            break
        if table.columns[index] in table.optional:
            left_out.insert(0, index)
    if not left_out:
        return table
    names = ", ".join(table.columns[index] for index in left_out)
    shown = [index for index in range(len(widths)) if index not in left_out]
    return replace(
        table,
        columns=tuple(table.columns[index] for index in shown),
        rows=tuple(tuple(row[index] for index in shown) for row in table.rows),
        notes=(*table.notes, f"no room for {names}: widen the terminal, or {table.elsewhere}"),
    )


def _rich_table(table: Table, block: Sequence[int]) -> RichTable:
    """Return some columns of a table for rich."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
    for column in block:
        is_text = table.columns[column] in table.left
        is_on_left = is_text or column < table.num_keys
        name = Text(one_line(table.columns[column]))
        drawn.add_column(name, justify="left" if is_on_left else "right", no_wrap=not is_on_left, overflow="fold")
    for row in table.rows:
        cells = [row[column] for column in block]
        drawn.add_row(
            *(Text(_marked(cell), style="bold" if cell.bold else "dim" if cell.dim else "") for cell in cells)
        )
    return drawn


def plain_text(table: Table, *, width: int | None = None) -> str:
    """Return the table as text without colours.

    Args:
        table: the table.
        width: maximum number of letters in a line; None for unlimited.
    """
    import io

    from rich.console import Console

    console = Console(file=io.StringIO(), width=width or PIPE_WIDTH, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(terminal(table, width=width))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _marked(cell: Cell) -> str:
    return one_line(cell.text) + (BEST_MARK if cell.bold else "")


def _blocks(widths: Sequence[int], num_keys: int, width: int | None) -> list[list[int]]:
    """Return groups of columns that fit into `width`, each beginning with the columns that name the rows."""
    keys = list(range(num_keys))
    blocks, current = [], list(keys)
    for column in range(num_keys, len(widths)):
        needed = sum(widths[c] + 2 for c in [*current, column]) - 2
        if width is not None and needed > width and len(current) > num_keys:
            blocks.append(current)
            current = list(keys)
        current.append(column)
    return [*blocks, current]


def markdown(table: Table) -> str:
    """Return the table in GitHub's Markdown, best values in bold."""
    dashes = [":---" if is_left(table, index) else "---:" for index in range(len(table.columns))]
    rows = [[emphasised(markdown_text(cell.text), cell, "**", "**") for cell in row] for row in table.rows]
    lines = [f"**{markdown_text(table.title)}**", ""]
    lines += ["| " + " | ".join(row) + " |" for row in [list(map(markdown_text, table.columns)), dashes, *rows]]
    notes = [f"- {markdown_text(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def markdown_text(text: str) -> str:
    r"""Return `text` escaped for Markdown and for HTML inside Markdown.

    Examples:
        >>> print(markdown_text("a|b *c* <script> F_Acc"))
        a\|b \*c\* &lt;script&gt; F_Acc
    """
    escaped = re.sub(r"([\\`*\[\]|~#!$])", r"\\\1", one_line(text).replace("&", "&amp;"))
    escaped = re.sub(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\\_", escaped)
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV: numbers in full precision, and texts that a spreadsheet would read as formulas in quotes."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([_csv_cell(value) for value in row])
    return out.getvalue()


def _csv_cell(value: object) -> object:
    if isinstance(value, float) and value != value:
        return ""
    if isinstance(value, str):
        text = one_line(value)
        return "'" + text if text.startswith(("=", "+", "-", "@")) else text
    return value


def is_left(table: Table, index: int) -> bool:
    """Return whether a column is aligned to the left."""
    return index < table.num_keys or table.columns[index] in table.left


def emphasised(text: str, cell: Cell, before: str, after: str) -> str:
    """Return the text of a cell between marks if the cell is bold."""
    return f"{before}{text}{after}" if cell.bold else text
