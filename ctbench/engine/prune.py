"""Removing from `CTBENCH_HOME`: what was chosen, and what crashes left behind; never under a running process."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ctbench.engine.inventory import KINDS, LEFTOVER, Entry, running, take_inventory
from ctbench.errors import BadConfig, UnknownName, advice_on
from ctbench.machine.claims import SUFFIX, remove_stale
from ctbench.machine.files import scratch_beside

_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
AGES: Final = "a number with a unit: 90m, 12h, 30d or 4w"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which entries are meant; nothing given means all.

    Args:
        streams: of these streams.
        methods: of these methods; row 0 and the base have none.
        kinds: of these of `KINDS`.
        seconds: written at least so long ago.
        is_unused: only those that no result was made from.

    Raises:
        UnknownName: no such kind.
    """

    streams: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    seconds: float | None = None
    is_unused: bool = False

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise UnknownName("kind of entry", kind, KINDS, hint="ctbench store --help")

    def holds(self, entry: Entry) -> bool:
        """Return whether an entry is meant."""
        return (
            (not self.streams or entry.stream in self.streams)
            and (not self.methods or entry.method in self.methods)
            and (not self.kinds or entry.kind in self.kinds)
            and (self.seconds is None or entry.seconds >= self.seconds)
            and not (self.is_unused and entry.results)
        )


def read_age(text: str) -> float:
    """Return the seconds of an age such as 30d.

    Raises:
        BadConfig: anything else.

    Examples:
        >>> read_age("90m"), read_age("2d")
        (5400.0, 172800.0)
    """
    number, unit = text.strip()[:-1], text.strip()[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdigit() or len(number) > 6:
        raise BadConfig(f"older_than is '{text}'; expected {AGES}")
    return float(int(number) * _UNITS[unit])


def removable(entries: Iterable[Entry], choice: Choice | None, *, is_running: bool) -> list[Entry]:
    """Return what may be removed: leftovers, and what was chosen.

    Args:
        entries: of `take_inventory`.
        choice: what is meant beside leftovers; None for nothing.
        is_running: whether any process computes here: then only leftovers may go, for a run reads nodes that it does not
            claim.
    """
    return [
        entry
        for entry in entries
        if not entry.is_claimed
        and (entry.kind == LEFTOVER or (choice is not None and not is_running and choice.holds(entry)))
    ]


def remove(entries: Sequence[Entry]) -> int:
    """Remove entries and return the bytes that this freed; each is renamed first, so that none is ever there in part.

    Raises:
        BadConfig: something cannot be removed; everything else is.
    """
    freed, refused = 0, list[tuple[Entry, OSError]]()
    for entry in entries:
        try:
            freed += _remove(entry)
        except OSError as error:
            refused.append((entry, error))
    if refused:
        (first, reason), more = refused[0], len(refused) - 1
        advice = advice_on(reason)
        raise BadConfig(
            f"'{first.path}' cannot be removed ({reason.strerror}){f', nor can {more:,} others' if more else ''}; "
            f"{f'{advice}; ' if advice else ''}{freed:,} bytes were freed"
        )
    return freed


def _remove(entry: Entry) -> int:
    """Remove an entry and return the bytes that this freed: 0 if another process was faster."""
    try:
        remove_stale(entry.path) if entry.path.name.endswith(SUFFIX) else _delete(entry.path)
    except FileNotFoundError:
        return 0
    return entry.num_bytes


def _delete(path: Path) -> None:
    scratch = scratch_beside(path)
    path.rename(scratch)
    shutil.rmtree(scratch) if scratch.is_dir() and not scratch.is_symlink() else scratch.unlink()


def sweep(home: Path) -> int:
    """Remove what crashes left behind, but for damaged copies, which are kept for a look; return the bytes freed.

    It is safe beside running processes, leaves what it cannot remove, and does nothing in a home that cannot be written.
    """
    if not os.access(home, os.W_OK):
        return 0
    left = [entry for entry in take_inventory(home) if entry.kind == LEFTOVER and "damaged" not in entry.title]
    freed = 0
    for entry in removable(left, None, is_running=bool(running(home))):
        with contextlib.suppress(OSError):  # another user's, or open somewhere on NFS
            freed += _remove(entry)
    return freed
