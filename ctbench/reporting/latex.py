"""Tables for papers: LaTeX with booktabs and threeparttable."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable

from ctbench.errors import one_line
from ctbench.reporting.numbers import DASH
from ctbench.reporting.tables import Table, emphasised, is_left

PACKAGES = ("array", "booktabs", "graphicx", "threeparttable")
"""Packages that the tables need; graphicx for resized ones only."""

MINUS = "\N{MINUS SIGN}"
"""A minus in front of a number; LaTeX would set it as a hyphen."""

SPLIT = "\N{WORD JOINER}"
"""A hyphen in front of another one, which LaTeX would join to a dash; `one_line` leaves no such letter in a text."""

PREAMBLE = f"% needs \\usepackage{{{', '.join(PACKAGES)}}}"
"""First line of a file of tables."""

COLUMN_LETTERS = 48
"""Letters in a row that fit into one column of a page of two; a wider table spans both (`table*`)."""

LONG_TEXT = 28
"""Letters of a text that is not broken into lines."""


def latex(table: Table, *, resize: bool = False) -> str:
    """Return the table as a LaTeX `table`, or `table*` if it is wide, with caption, label, notes, and best values in bold.

    Args:
        table: the table.
        resize: shrink a table that is wider than the text.
    """
    rows = [[emphasised(latex_text(cell.text), cell, r"\textbf{", "}") for cell in row] for row in table.rows]
    body = [" & ".join(row) + r" \\" for row in [list(map(latex_text, table.columns)), *rows]]
    widths = _widths(table)
    align = "".join(_alignment(table, index, width) for index, width in enumerate(widths))
    tabular = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule"]
    tabular.append(r"\end{tabular}")
    if resize:  # threeparttable measures the outer tabular, so that notes are as wide as the shrunk table
        limit = r"\ifdim\width>\linewidth\linewidth\else\width\fi"
        tabular = [rf"\begin{{tabular}}{{@{{}}c@{{}}}}\resizebox{{{limit}}}{{!}}{{%", *tabular, r"}\end{tabular}"]
    notes = [rf"\item {latex_text(note)}" for note in table.notes]
    if notes:
        notes = [r"\begin{tablenotes}[flushleft]\footnotesize", *notes, r"\end{tablenotes}"]
    kind = "table*" if sum(widths) + 2 * len(widths) > COLUMN_LETTERS else "table"
    head = [rf"\begin{{{kind}}}", r"\centering", r"\small", rf"\caption{{{latex_text(table.title)}}}"]
    head += [rf"\label{{tab:{_slug(table.name or table.title)}}}", r"\begin{threeparttable}"]
    return "\n".join([*head, *tabular, *notes, r"\end{threeparttable}", rf"\end{{{kind}}}"]) + "\n"


def distinct(tables: Iterable[Table]) -> list[Table]:
    """Return the tables of one file with a name each: a label that is there twice would refer to the last table."""
    found: list[Table] = []
    taken: set[str] = set()
    for table in tables:
        first = name = _slug(table.name or table.title)
        numbers = itertools.count(2)
        while name in taken:
            name = f"{first}-{next(numbers)}"
        taken.add(name)
        found.append(dataclasses.replace(table, name=name))
    return found


def _widths(table: Table) -> list[int]:
    """Return the number of letters of the widest cell of each column."""
    texts = [table.columns, *([cell.text for cell in row] for row in table.rows)]
    return [max(len(one_line(text)) for text in column) for column in zip(*texts, strict=True)]


def _alignment(table: Table, index: int, width: int) -> str:
    if not is_left(table, index):
        return "r"
    return "l" if width <= LONG_TEXT else rf">{{\raggedright\arraybackslash}}p{{{LONG_TEXT / 2:g}em}}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", one_line(text).lower()).strip("-") or "table"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",  # a shorthand in some languages of the babel package
    "[": "{[}",  # after a line break LaTeX would read an optional argument
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
    MINUS: "$-$",
    SPLIT: "-{}",
    **{letter: "\\" + letter for letter in "&%$#_{}"},
}


def latex_text(text: str) -> str:
    r"""Return `text` escaped for LaTeX.

    Examples:
        >>> print(latex_text("50 % of F_Acc"))
        50 \% of F\_Acc
        >>> print(latex_text("1-2, -0.5"))
        1-2, $-$0.5
        >>> print(latex_text("--all"))
        -{}-all
    """
    signed = re.sub(r"(?<![\w.])-(?=\d)", MINUS, one_line(text))
    signed = re.sub("-(?=-)", SPLIT, signed)
    return "".join(_LATEX.get(letter, letter) for letter in signed)
