"""How delimited text (CSV, TSV) is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

from ctbench.data.settings import Flag, Text


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How delimited text (CSV, TSV) is written."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    delimiter: Text | None = None
    """One character between two columns; by default a comma in CSV and a tab in TSV."""
    quoting: Literal["auto", "double", "none"] = "auto"
    """`double`: a field may stand in double quotes and then hold delimiters and line ends. `none`: quotes are letters.
    `auto`: `none` in TSV; `double` in CSV, but a line end in quotes that may be a mistake is refused."""
    header: Flag = True
    """Whether the first line names the columns; otherwise they are called "1", "2" and so on."""

    def __post_init__(self) -> None:
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '\r\n"\0\ufeff'):
            raise ValueError("delimiter must be one character, and no quote or line end")
