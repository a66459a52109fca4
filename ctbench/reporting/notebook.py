"""Tables in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ctbench.reporting.tables import Table


def table_html(table: Table) -> str:
    """Return a table as HTML: title, rows through pandas, notes."""
    import pandas as pd

    rows = [[cell.text for cell in row] for row in table.rows]
    body = pd.DataFrame(rows, columns=list(table.columns)).to_html(index=False, border=0)
    notes = "".join(f"<br><small>{escape(note)}</small>" for note in table.notes)
    return f"<p><b>{escape(table.title)}</b></p>{body}{notes}"


def tables_html(tables: Sequence[Table]) -> str:
    """Return several tables as HTML, one below the other."""
    return "".join(map(table_html, tables))
