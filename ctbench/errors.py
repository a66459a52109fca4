"""Exceptions: one class per kind of mistake, one line per message.

A message says what was expected, what was found, what is allowed and what to do. The command line prints a
`CTBenchError` as one red line and exits with 2, so a message must stand on its own.
"""

from __future__ import annotations

import difflib
import errno
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

_PACKAGE: Final = Path(__file__).parent


def one_line(text: object) -> str:
    """Return `text` without line breaks and control characters, which would act on a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'X'?" for the known name that is nearest, or ";" if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ";"


def first_line(error: BaseException) -> str:
    r"""Return the first line of an exception's message, the second one too if the first ends in a colon.

    An exception without a message is called by its kind.

    Examples:
        >>> first_line(AssertionError()), first_line(ValueError("no")), first_line(ValueError("field:\n  not a number"))
        ('AssertionError', 'no', 'field: not a number')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    shown = lines[:2] if lines and lines[0].endswith(":") else lines[:1]
    return one_line(" ".join(shown)) or type(error).__name__


def code_place(error: BaseException) -> str:
    """Return " (FILE, line N)" for the line of somebody's own code that an exception came from, "" if it came from none."""
    import sysconfig  # both cost every start, and this is called when something has failed
    import traceback

    library = sysconfig.get_path("stdlib")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        is_foreign = path.is_relative_to(_PACKAGE) or path.is_relative_to(library) or "site-packages" in path.parts
        if path.suffix == ".py" and not is_foreign:
            return f" ({path.name}, line {frame.lineno})"
    return ""


def listing(names: Iterable[object], *, most: int = 12) -> str:
    """Return names in a row, those behind the first ones as a number.

    Examples:
        >>> listing(["a", "b", "c"], most=2), listing([])
        ('a, b and 1 more', 'none')
    """
    shown = [str(name) if len(str(name)) <= 60 else f"{str(name)[:57]}..." for name in names]
    rest = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + rest or "none"


def unwritable(what: object, error: OSError, otherwise: str) -> str:
    """Return in one line that something cannot be written, why, and what to do.

    Examples:
        >>> unwritable("report 'a.html'", OSError(errno.ENOSPC, "No space left on device"), "choose another folder")
        "report 'a.html' cannot be written (No space left on device); free some space there, or choose another folder"
    """
    advice = advice_on(error)
    reason = error.strerror or str(error)
    return one_line(f"{what} cannot be written ({reason}); {f'{advice}, or ' if advice else ''}{otherwise}")


def advice_on(error: OSError) -> str:
    """Return what to do about a disk that cannot be written; "" if the error does not tell."""
    return _ADVICE.get(error.errno or 0, "")


_ADVICE = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota there",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "mount that file system for writing",
    errno.EACCES: "change the permissions there",
    errno.EPERM: "change the permissions there",
}


class CTBenchError(Exception):
    """Base of everything a user or plug-in author can cause; one line, whatever it quotes."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UnknownName(CTBenchError):
    """A name that nothing is registered under.

    Args:
        kind: what was looked for, in the singular ("method", "stream", "metric").
        name: what was asked for.
        known: every name that would have worked.
        hint: where to find the list, for example "ctbench ls methods".
        near: what else may have been meant, such as files; not listed.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "", near: Iterable[str] = ()) -> None:
        names = sorted(known)
        where, meant = f" ({hint})" if hint else "", did_you_mean(name, [*names, *near])
        super().__init__(one_line(f"no {kind} '{name}'{meant} known: {', '.join(names) or 'none'}{where}"))


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


class Refused(CTBenchError):
    """Several things that are wrong with one call, one line each; nothing was computed.

    Args:
        summary: how many things are wrong.
        reasons: a line for each of them.
    """

    def __init__(self, summary: str, reasons: Iterable[str]) -> None:
        self.reasons = tuple(map(one_line, reasons))
        Exception.__init__(self, "\n".join([one_line(summary), *(f"  {reason}" for reason in self.reasons)]))


class RunFailed(CTBenchError):
    """A run that was called correctly and failed while computing, in one or more lines; the command line exits with 1."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)


class OutOfMemory(RunFailed):
    """The memory of the GPU or of the machine does not suffice."""


class Notice(UserWarning):
    """A warning that a call left something out: files that were skipped, runs that are not shown."""


def print_notices() -> None:
    """Print every `Notice` from now on as one plain line on standard error; other warnings stay as they are."""
    show = warnings.showwarning

    def print_notice(message: Warning | str, category: type[Warning], *args: Any, **more: Any) -> None:
        if issubclass(category, Notice):
            print(message, file=sys.stderr, flush=True)
        else:
            show(message, category, *args, **more)

    warnings.simplefilter("always", Notice)
    warnings.showwarning = print_notice
