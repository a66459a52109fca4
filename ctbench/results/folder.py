"""Where results go and are read if nobody names a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RESULTS: Final = "results"
MINE: Final = "my-results"
"""In a checkout of ctbench, whose own `results` are the reference results. Git ignores it."""


def default_results() -> Path:
    """Return `results`, or `my-results` inside a checkout of ctbench, so that your runs do not mix with its own.

    Two runs of one table must share a base, and the base of `tiny` differs between kinds of processors.
    """
    here = Path.cwd()
    return Path(MINE if any(map(is_checkout, (here, *here.parents))) else RESULTS)


def is_checkout(folder: Path) -> bool:
    """Return whether a folder is the root of a checkout of ctbench."""
    try:
        project = (folder / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return '\nname = "ctbench"\n' in project and (folder / "ctbench" / "__init__.py").is_file()
