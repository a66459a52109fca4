"""Write result files, atomically; other numbers of a complete run are never replaced."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from ctbench.errors import BadConfig, BadResult, one_line, unwritable
from ctbench.machine.claims import SUFFIX, claimed
from ctbench.machine.files import write_whole
from ctbench.results.files import NO_RESULTS, OTHER_RESULTS, read_result
from ctbench.results.format import to_text
from ctbench.results.rewriting import Status, what_follows
from ctbench.results.schema import Result


@dataclass(frozen=True, kw_only=True)
class Written:
    """The file of a result, and how writing it ended.

    Args:
        path: the file.
        status: "new"; "incomplete": nodes failed; "completed": an incomplete file was there, or one of an older version that
            lacks figures, and is replaced; "kept": this result is incomplete, and a complete one is there; "same": a file
            with equal numbers was there and stayed; "marked anew": such a file was there and is replaced, for it was marked
            as less comparable than this run is (a setting now is the stream's own, a method is now registered); "differs": a
            file of this key with other numbers, or of another version of the stream, was there, so this one lies beside it
            under a suffix.
    """

    path: Path
    status: Status


def write_result(result: Result, folder: str | Path) -> Written:
    """Write `result` to `folder`/stream/backbone/method/key.json, atomically, and set its `path`.

    Other numbers of a complete run are never replaced.

    Raises:
        BadConfig: if the folder cannot be written.
    """
    written = _write(result, folder)
    object.__setattr__(result, "path", written.path)
    return written


def _write(result: Result, folder: str | Path) -> Written:
    names = {"stream": result.stream.name, "backbone": result.backbone.slug, "method": result.method.name}
    home = results_folder(folder, **names)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with claimed(home / f".{result.key[:16]}{SUFFIX}"):  # whoever replaces a file knows what is in it
            found = _write_into(home, result)
    except OSError as error:
        raise BadConfig(unwritable(f"results folder '{folder}'", error, OTHER_RESULTS)) from None
    if found is not None:
        return found
    raise BadConfig(f"results folder '{one_line(home)}' holds 999 files of the key {result.key[:16]}; remove some")


def _write_into(home: Path, result: Result) -> Written | None:
    """Write a result under the first name that is free, or holds no other numbers; None if no name is left."""
    for attempt in range(1, 1000):
        path = home / (result.key[:16] + (f"-{attempt}" if attempt > 1 else "") + ".json")
        if not path.exists() and write_whole(path, to_text(result), replace=False):
            is_new = attempt == 1
            return Written(path=path, status="incomplete" if result.failures else "new" if is_new else "differs")
        before = _read_if_it_is_one(path)
        if before is None or (status := what_follows(before, result)) is None:
            continue
        if status not in ("same", "kept"):
            write_whole(path, to_text(result))
        return Written(path=path, status=status)
    return None


def results_folder(results: str | Path, *, stream: str, backbone: str, method: str) -> Path:
    """Return the folder of the results of a method on a stream with a backbone."""
    return Path(results).joinpath(slug(stream) + "-" * (stream in NO_RESULTS), slug(backbone), slug(method))


def slug(text: str) -> str:
    """Return `text` as the name of one folder or file."""
    kept = "".join(c if c.isalnum() or c in "._-" else "-" for c in text).lstrip(".")
    return kept or "unnamed"


def _read_if_it_is_one(path: Path) -> Result | None:
    with contextlib.suppress(BadResult):
        return read_result(path)
    return None
