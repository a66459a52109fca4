"""What functions of the API return where no room has a type for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctbench.errors import one_line

if TYPE_CHECKING:
    from ctbench.data.prepare import Prepared
    from ctbench.laws import Verdict
    from ctbench.reporting.tables import Table

Row = Mapping[str, Any]
WRAPPED = ("summary", "help", "traits", "default", "changed", "objective", "finds")
"""Columns of lists that hold texts."""
UNWRAPPED = ("date", "stream", "method", "backbone", "paper")
"""Columns of lists that hold names, which are short."""

HOLDS = {True: "holds", False: "broken", None: "not judged"}


@dataclass(frozen=True, kw_only=True, repr=False)
class Listing(Sequence[Row]):
    """Rows of `ls`.

    Args:
        what: "methods", "streams", "models" or "runs".
        rows: one mapping per line, all with the same keys.
        skipped: one line for each result file that could not be used.
        empty: what to say if there is no row.
    """

    what: str
    rows: tuple[Row, ...]
    skipped: tuple[str, ...] = ()
    empty: str = "nothing yet"

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def table(self) -> Table:
        """Return the rows as a table; texts are wrapped in a narrow terminal, names, papers and numbers are not."""
        from ctbench.reporting.tables import Cell, Table

        columns = tuple(str(key) for key in self.rows[0]) if self.rows else ()
        rows = tuple(tuple(Cell(text=one_line(value)) for value in row.values()) for row in self.rows)
        left = tuple(key for key in columns if key in WRAPPED + UNWRAPPED)
        return Table(title="", columns=columns, rows=rows, left=left)

    def __str__(self) -> str:
        """Return the rows as text of full width."""
        if not self.rows:
            return self.empty
        lines = [[str(key) for key in self.rows[0]], *([one_line(each) for each in row.values()] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = (zip(line, widths, strict=True) for line in lines)
        return "\n".join("  ".join(text.ljust(width) for text, width in line).rstrip() for line in padded)

    def __repr__(self) -> str:
        return f"Listing({len(self)} {self.what})"

    def _repr_html_(self) -> str:
        import pandas as pd

        return str(pd.DataFrame([dict(row) for row in self.rows]).to_html(index=False, border=0))


@dataclass(frozen=True, kw_only=True, repr=False)
class MethodCheck:
    """What `check` found about a method.

    Args:
        method: its name.
        verdicts: first whether it runs, then one per law.
    """

    method: str
    verdicts: tuple[Verdict, ...]

    @property
    def holds(self) -> bool:
        """Whether every law holds."""
        return all(verdict.holds for verdict in self.verdicts)

    def record(self) -> dict[str, Any]:
        """Return everything as plain JSON data."""
        return {"method": self.method, "holds": self.holds, "laws": [asdict(verdict) for verdict in self.verdicts]}

    def table(self) -> Table:
        """Return the verdicts as a table."""
        from ctbench.reporting.tables import Cell, Table

        columns = ("law", "verdict", "what it says, or how it is broken")
        texts = [(verdict.law, HOLDS[verdict.holds], verdict.line) for verdict in self.verdicts]
        rows = tuple(tuple(Cell(text=text) for text in row) for row in texts)
        notes = tuple(f"inert component {note}" for verdict in self.verdicts for note in verdict.notes)
        return Table(title=self.method, columns=columns, rows=rows, num_keys=2, left=columns[2:], notes=notes)

    def __repr__(self) -> str:
        broken = [verdict.law for verdict in self.verdicts if not verdict.holds]
        return f"MethodCheck({self.method}: {'every law holds' if self.holds else 'not ' + ', '.join(broken)})"

    def _repr_html_(self) -> str:
        from ctbench.reporting.notebook import table_html

        return table_html(self.table())


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Where the data of a stream comes from, and what `prepare` arranged.

    Args:
        stream: name of the stream.
        obtain: where the data comes from, as the stream says it.
        prepared: what was arranged and checked; None if no folder was given.
    """

    stream: str
    obtain: str
    prepared: Prepared | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class Measurement:
    """What `bench` measured.

    Args:
        document: plain JSON data, as written to a file.
    """

    document: Mapping[str, Any]

    def tables(self) -> list[Table]:
        """Return the measurements as tables."""
        if self.document["kind"] == "scaling":
            from ctbench.speed.scaling import scaling_tables

            return scaling_tables(dict(self.document))
        from ctbench.speed.show import tables

        return tables(dict(self.document))

    def __repr__(self) -> str:
        return f"Measurement({self.document['kind']}, {self.document['date']})"

    def _repr_html_(self) -> str:
        from ctbench.reporting.notebook import tables_html

        return tables_html(self.tables())


@dataclass(frozen=True, kw_only=True)
class Written:
    """Files that `new` wrote.

    Args:
        files: their paths.
        following: a command line that tries what was written.
    """

    files: tuple[Path, ...]
    following: str
