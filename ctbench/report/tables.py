"""A table of texts and its forms: terminal, Markdown, LaTeX. Whatever comes from results is escaped in each of them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctbench.errors import one_line
from ctbench.report.numbers import DASH

if TYPE_CHECKING:
    from rich.text import Text

BEST_MARK = "*"
"""What marks the best value where there is no bold, as in a pipe."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One text; `bold` says that it is the best of its column beyond doubt, `dim` that it matters less."""

    text: str
    bold: bool = False
    dim: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A titled table.

    Args:
        title: one line above it.
        columns: names, the first one (or first few) naming the rows.
        rows: as wide as the columns.
        num_keys: how many leading columns name the row; they are repeated where a narrow terminal breaks the table.
        left: columns that are aligned to the left; the others to the right.
        notes: lines below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    num_keys: int = 1
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def terminal(table: Table, *, width: int | None = None) -> Text:
    """Return the table for a terminal; broken into blocks of columns where `width` is too small, never cut.

    Args:
        table: what to show.
        width: columns of the terminal; None for as many as are needed.
    """
    from rich.cells import cell_len
    from rich.text import Text

    names = [one_line(name) for name in table.columns]
    texts = [[_marked(cell) for cell in row] for row in table.rows]
    widths = [max(cell_len(text) for text in column) for column in zip(names, *texts, strict=True)]
    out = Text()
    out.append(_folded(table.title, width, "") + "\n", style="bold")
    for block in _blocks(widths, table.num_keys, width):
        out.append("\n")
        for index, row in enumerate([[Cell(text=name) for name in names], *table.rows]):
            line = Text()
            for column in block:
                text = _marked(row[column])
                pad = " " * (widths[column] - cell_len(text))
                is_left = names[column] in table.left or column < table.num_keys
                style = "bold" if row[column].bold else "dim" if row[column].dim else ""
                line.append(("" if column == block[0] else "  ") + ("" if is_left else pad))
                line.append(text, style=style)
                line.append(pad if is_left and column != block[-1] else "")
            line.rstrip()
            out.append_text(line).append("\n")
            if index == 0:
                out.append("─" * (sum(widths[c] + 2 for c in block) - 2) + "\n", style="dim")
    out.append("\n" if table.notes else "")
    for note in table.notes:
        out.append(_folded(note, width, "  ") + "\n")
    return out


def _folded(text: str, width: int | None, indent: str) -> str:
    """Return one line of text, broken between words where it is longer than a terminal."""
    line = one_line(text)
    return (
        line if width is None else textwrap.fill(line, max(width, 20), subsequent_indent=indent, break_on_hyphens=False)
    )


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
    dashes = [":---" if _is_left(table, index) else "---:" for index in range(len(table.columns))]
    rows = [[_bold(markdown_text(cell.text), cell, "**", "**") for cell in row] for row in table.rows]
    lines = [f"**{markdown_text(table.title)}**", ""]
    lines += ["| " + " | ".join(row) + " |" for row in [list(map(markdown_text, table.columns)), dashes, *rows]]
    notes = [f"- {markdown_text(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def latex(table: Table) -> str:
    """Return the table as a LaTeX `table` (packages booktabs and, for accents, inputenc), best values in bold."""
    align = "".join("l" if _is_left(table, index) else "r" for index in range(len(table.columns)))
    rows = [[_bold(latex_text(cell.text), cell, r"\textbf{", "}") for cell in row] for row in table.rows]
    body = [" & ".join(row) + r" \\" for row in [list(map(latex_text, table.columns)), *rows]]
    head = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(table.title)}}}",
        rf"\begin{{tabular}}{{{align}}}",
    ]
    foot = [r"\bottomrule", r"\end{tabular}", *(rf"\par\footnotesize {latex_text(note)}" for note in table.notes)]
    lines = [*head, r"\toprule", body[0], r"\midrule", *body[1:], *foot, r"\end{table}"]
    return "\n".join(lines) + "\n"


def markdown_text(text: str) -> str:
    r"""Return `text` so that Markdown and the HTML in it show it as it is.

    Example:
        >>> print(markdown_text("a|b *c* <script> F_Acc"))
        a\|b \*c\* &lt;script&gt; F_Acc
    """
    escaped = re.sub(r"([\\`*\[\]|~#!$])", r"\\\1", one_line(text).replace("&", "&amp;"))
    escaped = re.sub(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\\_", escaped)
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",  # a shorthand in some languages of babel
    "[": "{[}",  # after a line break it would begin an argument
    "]": "{]}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "Σ": r"$\Sigma$",
    "×": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≈": r"$\approx$",
    "†": r"\dag{}",
    "·": r"$\cdot$",
    DASH: "--",
    **{letter: "\\" + letter for letter in "&%$#_{}"},
}


def latex_text(text: str) -> str:
    r"""Return `text` so that LaTeX shows it as it is.

    Example:
        >>> print(latex_text("50 % of F_Acc"))
        50 \% of F\_Acc
    """
    return "".join(_LATEX.get(letter, letter) for letter in one_line(text))


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV; numbers in full precision, and no text that a spreadsheet would take for a formula."""
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


def _is_left(table: Table, index: int) -> bool:
    return index < table.num_keys or table.columns[index] in table.left


def _bold(text: str, cell: Cell, before: str, after: str) -> str:
    return f"{before}{text}{after}" if cell.bold else text
