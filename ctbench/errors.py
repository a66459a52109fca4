"""The words of failure: one class per kind of mistake, one line per message.

A message says what was wanted, what was found, what would be allowed and what to do. The command line prints a
`CTBenchError` as one red line and exits with 2, so a message must stand on its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def one_line(text: object) -> str:
    """Return `text` without line breaks and control characters, which would act on a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text))


class CTBenchError(Exception):
    """Base of everything a user or plug-in author can cause."""


class UnknownName(CTBenchError):
    """A name that nothing is registered under.

    Args:
        kind: what was looked for, in the singular ("method", "stream", "metric").
        name: what was asked for.
        known: every name that would have worked.
        hint: where to find the list, for example "ctbench ls methods".
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        guess = f"; did you mean '{near[0]}'?" if near else ";"
        where = f" ({hint})" if hint else ""
        super().__init__(f"no {kind} '{name}'{guess} known: {', '.join(names) or 'none'}{where}")


class BadPlugin(CTBenchError):
    """A method or stream plug-in that cannot be used as it is."""


class BadConfig(CTBenchError):
    """A setting, recipe or stream file with a wrong key, type or range."""


class BadData(CTBenchError):
    """A data file that is missing, empty, malformed or inconsistent."""


class BadResult(CTBenchError):
    """A result file that is corrupt, foreign or of another schema."""


class MissingResult(CTBenchError):
    """A result that was asked for and is not there, or is incomplete."""


class RunFailed(CTBenchError):
    """A run that was called correctly and failed while computing; the command line exits with 1."""
