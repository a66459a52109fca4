"""A plug-in: one method or stream that was found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One method or stream that can be used.

    Args:
        kind: "method" or "stream".
        name: its public name, the stem of its file.
        path: its file.
        module: the module to import for a registered method, None for a file given by path.
    """

    kind: str
    name: str
    path: Path
    module: str | None

    @property
    def registered(self) -> bool:
        """Whether it was found through an entry point and not given as a path."""
        return self.module is not None
