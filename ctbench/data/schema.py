"""What a stream is made of: sources of text and of end tasks, domains, recipes.

Each class is a table of the stream's TOML, chosen by its key `source` where there are several. The docstring under a
field is its help text. Paths are kept as they were written; `ctbench.data.sources` reads them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ctbench.data.dialect import Dialect
from ctbench.data.knobs import Language
from ctbench.data.settings import Count, Flag, Recipe, Text, Texts
from ctbench.data.tasktables import FilesTask, Format, HubTask, SyntheticTask, check_revision
from ctbench.errors import BadData, UnknownName

Kind = Literal["domain", "temporal"]
Name = Annotated[Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


@dataclass(frozen=True, kw_only=True)
class FilesText:
    """Raw text in files."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: Literal["files"] = "files"
    """Where the text comes from."""
    path: Texts
    """Files, folders or globs, relative to `root`; .gz, .bz2, .xz and .zst are read as they are."""
    format: Format = "auto"
    """Format of the files; `auto` goes by their names."""
    field: Text = "text"
    """Field or column with the text (JSONL, CSV, TSV, Parquet)."""
    dialect: Dialect | None = None
    """How delimited text is written."""
    document: Literal["line", "paragraph", "file"] = "line"
    """What a document is in plain text: a line, lines up to an empty one, or a whole file."""


@dataclass(frozen=True, kw_only=True)
class HubText:
    """Raw text from the Hugging Face hub."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: Literal["hub"] = "hub"
    """Where the text comes from."""
    id: Text
    """Data set on the hub, as owner/name."""
    revision: Text
    """Commit hash or tag of the data set; a branch would move."""
    config: Text | None = None
    """Configuration of the data set."""
    split: Text = "train"
    """Split to read."""
    field: Text = "text"
    """Field with the text."""
    max_documents: Count | None = None
    """Read at most so many documents."""
    streaming: Flag | None = None
    """Read without storing the data set; by default where it is over 1 GB or `max_documents` is set."""

    def __post_init__(self) -> None:
        check_revision(self.revision)


@dataclass(frozen=True, kw_only=True)
class SyntheticText:
    """Raw text of the stream's `[language]`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: Literal["synthetic"] = "synthetic"
    """Where the text comes from."""


TextSource = Annotated[FilesText | HubText | SyntheticText, Field(discriminator="source")]
Task = Annotated[FilesTask | HubTask | SyntheticTask, Field(discriminator="source")]


GENERAL = "general"
"""What general text is called among the texts of a stream, and the scope of what is drawn for it."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Unlabelled text and its end task."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Name
    """Name of the domain: letters, digits, dot, dash, underscore."""
    text: TextSource
    """Raw text that a stage pre-trains on."""
    held_out: TextSource | None = None
    """Text for the LM-loss matrix, never trained on; by default documents with 2 % of the tokens (up to 20 % of little
    text), chosen by their content."""
    task: Task
    """End task."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Ordered domains with the protocol they are run under.

    Attributes:
        root: where relative data paths start, as written: relative to the TOML, or an environment variable.
        order: 0 is the stream's own order of domains, any other number a seeded permutation.
        changed: keys that `--set` gave another value than the file's; not empty means not comparable.
    """

    name: str
    version: int
    kind: Kind
    summary: str
    citation: str
    licences: tuple[str, ...]
    model: str
    general: TextSource | None
    language: Language | None
    domains: tuple[Domain, ...]
    recipe: Recipe
    recipes: tuple[str, ...]
    path: Path | None
    root: str
    registered: bool
    order: int = 0
    changed: tuple[str, ...] = ()
    obtain: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the domains in order."""
        return tuple(domain.name for domain in self.domains)

    def domain(self, name: str) -> Domain:
        """Return the domain called `name`; raises UnknownName."""
        for domain in self.domains:
            if domain.name == name:
                return domain
        raise UnknownName("domain", name, self.names, hint=f"stream {self.name}")

    def folder(self) -> Path:
        """Return the folder where relative data paths start.

        Raises:
            BadData: `root` names an environment variable that is not set.
        """
        first, *rest = self.root.split("/")
        if first.startswith("$"):
            variable = first[1:].strip("{}")
            value = os.environ.get(variable)
            if not value:
                raise BadData(
                    f"stream {self.name}: its data lies in the folder named by the environment variable {variable}, "
                    f"which is not set; set it to the folder that holds {self._example_path()}{self._advice()}"
                )
            return Path(value).joinpath(*rest)
        here = self.path.parent if self.path else Path()
        return here / self.root

    def _advice(self) -> str:
        return f" (ctbench prepare {self.name} says where it comes from)" if self.obtain else ""

    def _example_path(self) -> str:
        texts = [domain.text for domain in self.domains] + [self.general]
        paths = [source.path[0] for source in texts if isinstance(source, FilesText)]
        return "/".join([*self.root.split("/")[1:], paths[0] if paths else "the files of the stream"])
