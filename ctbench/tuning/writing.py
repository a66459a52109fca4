"""Write tuning files, atomically; fewer or failed trials never replace a complete record, and other trials go beside it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

from ctbench.errors import BadConfig, BadResult, one_line, unwritable
from ctbench.machine.files import write_whole
from ctbench.results.files import OTHER_RESULTS, TUNING
from ctbench.results.writing import slug
from ctbench.tuning.record import Tuning, read_tuning

Status = Literal["new", "same", "replaced", "replaced trials from another base", "kept", "beside another"]
KEPT = " (it is complete, and these trials are fewer or failed; to write them, move it or choose another --results)"
"""What follows the path of a file that was kept."""
MOST = 999
"""Number of files of one method's name."""


def write_tuning(tuning: Tuning, folder: str | Path) -> tuple[Path, Status]:
    """Write to `folder`/tuning/stream/backbone/method.json, atomically.

    Returns:
        The file, and what became of it. "new"; "same": a file with these trials was there and stayed; "replaced", and
        "replaced trials from another base"; "kept": a complete record of more trials or run seeds was there and stayed;
        "beside another": the file of this name is of another protocol, other fixed settings or another unregistered
        method, so this one has a number.

    Raises:
        BadConfig: the folder cannot be written.
    """
    names = (tuning.tuned_on.stream, tuning.tuned_on.backbone, tuning.method.name)
    home = Path(folder).joinpath(TUNING, *map(slug, names[:2]))
    path, before = _place(home, slug(names[2]), tuning)
    if before is not None and _is_same(before, tuning):
        return path, "same"
    if before is not None and _is_poorer(tuning, before):
        return path, "kept"
    status: Status = "replaced" if path.exists() else "new" if path.stem == slug(names[2]) else "beside another"
    if before is not None and _base(before) != _base(tuning):
        status = "replaced trials from another base"
    try:
        home.mkdir(parents=True, exist_ok=True)
        write_whole(path, tuning.text())
    except OSError as error:
        raise BadConfig(unwritable(f"results folder '{folder}'", error, OTHER_RESULTS)) from None
    return path, status


def _place(home: Path, name: str, tuning: Tuning) -> tuple[Path, Tuning | None]:
    """Return the first file that is free, broken, or of the same search, and what it holds."""
    for attempt in range(1, MOST + 1):
        path = home / (name + (f"-{attempt}" if attempt > 1 else "") + ".json")
        before = None
        with contextlib.suppress(BadResult):
            before = read_tuning(path)
        if before is None or _search(before) == _search(tuning):
            return path, before
    raise BadConfig(f"results folder '{one_line(home)}' holds {MOST} files of the name {name}; remove some")


def _search(tuning: Tuning) -> tuple[object, ...]:
    """Return what two records must share for one to replace the other."""
    method = tuning.method
    whose = "" if method.registered else method.digest  # a registered method is tuned anew when its file has changed
    return method.name, method.registered, whose, tuning.tuned_on.protocol, tuning.fixed


def _is_poorer(after: Tuning, before: Tuning) -> bool:
    """Return whether a record says less than a complete one."""
    if _has_failures(before):
        return False
    return _has_failures(after) or len(after.trials) < len(before.trials) or len(after.seeds) < len(before.seeds)


def _has_failures(tuning: Tuning) -> bool:
    return any(trial.failures for trial in tuning.trials)


def _base(tuning: Tuning) -> tuple[str, str]:
    return tuning.tuned_on.backbone_digest, tuning.tuned_on.base_weights


def _is_same(before: Tuning, after: Tuning) -> bool:
    old, new = before.record(), after.record()
    return all(old[key] == new[key] for key in new if key != "provenance")
