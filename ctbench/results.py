"""Read and write result files. What they hold is said in `ctbench.schema`.

A result is written once, atomically; readers validate. Files that cannot be used are named in one line each and
skipped, or refused on request. Whether anything is computed is never decided here, but by the store.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ctbench.errors import BadConfig, BadResult, MissingResult, one_line
from ctbench.result_format import parse, result_from, to_record, to_text
from ctbench.schema import BASE, Finding, Result

if TYPE_CHECKING:
    import pandas as pd

TUNING = "tuning"
"""Folder below the results that holds what `ctbench tune` tried."""

NO_RESULTS = (TUNING, "bench", "ablations", "precision")
"""Folders directly below the results that stand apart; readers pass them by unless they are named themselves."""

__all__ = [
    "BASE",
    "NO_RESULTS",
    "TUNING",
    "Finding",
    "Loaded",
    "Result",
    "Written",
    "check_writable",
    "load_results",
    "read_result",
    "read_results",
    "result_from",
    "results_folder",
    "slug",
    "to_record",
    "to_text",
    "write_result",
]


def read_result(path: str | Path) -> Result:
    """Read one result file.

    Raises:
        BadResult: one line that says what is wrong with the file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadResult(f"{one_line(path)}: cannot be read ({error.strerror})") from None
    result = parse(data, one_line(path))
    object.__setattr__(result, "path", Path(path))
    return result


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a folder of results held.

    Args:
        results: the runs, ordered by the paths of their files.
        skipped: one line for each JSON file that could not be used, and for each folder that could not be read.
    """

    results: tuple[Result, ...]
    skipped: tuple[str, ...]


def read_results(folder: str | Path = "results", *, strict: bool = False) -> Loaded:
    """Read every result file under `folder`.

    Args:
        folder: where the results lie; a missing folder holds none.
        strict: refuse the first file that cannot be used instead of naming and skipping it.

    Raises:
        BadResult: with `strict`, for a file that is corrupt, truncated, foreign, older or newer.

    Example:
        >>> read_results("results").skipped
        ()
    """
    results: list[Result] = []
    files, skipped = _json_files(str(folder))
    if strict and skipped:
        raise BadResult(skipped[0])
    with _no_garbage():
        for path in files:
            try:
                results.append(read_result(path))
            except BadResult as error:
                if strict:
                    raise
                skipped.append(str(error))
    return Loaded(results=tuple(results), skipped=tuple(skipped))


def load_results(folder: str | Path = "results", *, strict: bool = False) -> pd.DataFrame:
    """Return the results under `folder` as a table with one run a row; its column `result` holds the `Result`.

    Files that cannot be used are warned about, one line each.

    Args:
        folder: where the results lie.
        strict: refuse such files instead.

    Raises:
        BadResult: with `strict`, for a file that cannot be used.
        MissingResult: there are none.

    Example:
        >>> table = load_results("results/domain")
        >>> bool(table.groupby("method")["F_Acc"].mean()["naive"] > 0.5)
        True
        >>> table["result"][0].matrix.shape
        (6, 5)
    """
    import pandas as pd

    loaded = read_results(folder, strict=strict)
    for line in loaded.skipped:
        warnings.warn(f"skipped {line}", stacklevel=2)
    if not loaded.results:
        raise MissingResult(f"no results in the folder '{one_line(folder)}'")
    return pd.DataFrame([_row(result) for result in loaded.results])


@dataclass(frozen=True, kw_only=True)
class Written:
    """Where a result lies now, and how it came there.

    Args:
        path: the file.
        status: "new"; "same": a file with equal numbers was there and stayed; "marked anew": such a file was there and is
            replaced, for it was marked as less comparable than this run is (a setting now is the stream's own, a
            method is now registered); "differs": a file of this key with other numbers was there, so this one lies
            beside it under a suffix.
    """

    path: Path
    status: Literal["new", "same", "marked anew", "differs"]


def write_result(result: Result, folder: str | Path) -> Written:
    """Write `result` to `folder`/stream/backbone/method/key.json, atomically, never over other numbers.

    Raises:
        BadConfig: if the folder cannot be written.
    """
    names = {"stream": result.stream.name, "backbone": result.backbone.slug, "method": result.method.name}
    home = results_folder(folder, **names)
    try:
        home.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, 1000):
            path = home / (result.key[:16] + (f"-{attempt}" if attempt > 1 else "") + ".json")
            if not path.exists() and _create(path, to_text(result)):
                return Written(path=path, status="new" if attempt == 1 else "differs")
            before = _with_same_numbers(path, result)
            if before is not None and _marks(before) <= _marks(result):
                return Written(path=path, status="same")
            if before is not None:
                _create(path, to_text(result), replace=True)
                return Written(path=path, status="marked anew")
    except OSError as error:
        raise BadConfig(f"results folder '{one_line(folder)}' cannot be written ({error.strerror})") from None
    raise BadConfig(f"results folder '{one_line(home)}' holds 999 files of the key {result.key[:16]}; remove some")


def results_folder(results: str | Path, *, stream: str, backbone: str, method: str) -> Path:
    """Return where the results of a method on a stream with a backbone lie."""
    return Path(results).joinpath(slug(stream) + "-" * (stream in NO_RESULTS), slug(backbone), slug(method))


def check_writable(folder: str | Path) -> None:
    """Make sure, without writing anything, that results can be written to `folder`.

    Raises:
        BadConfig: if they cannot.
    """
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise BadConfig(
            f"results folder '{one_line(folder)}' cannot be written ('{place.name or place}' is not a folder)"
        )
    if not os.access(place, os.W_OK | os.X_OK):
        raise BadConfig(
            f"results folder '{one_line(folder)}' cannot be written (no permission in '{place.name or place}')"
        )


def _json_files(folder: str) -> tuple[list[str], list[str]]:
    """Return the JSON files under a folder, and one line for each folder that could not be looked into."""
    found: list[str] = []
    unreadable: list[str] = []

    def tell(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            unreadable.append(one_line(f"{error.filename}: cannot be read ({error.strerror})"))

    for place, folders, names in os.walk(folder, onerror=tell):
        folders[:] = sorted(name for name in folders if place != folder or name not in NO_RESULTS)
        found += [os.path.join(place, name) for name in sorted(names) if name.endswith(".json")]  # noqa: PTH118
    return found, unreadable


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Hold the search for cycles of garbage: records hold none, and it takes a third of the time of reading them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _row(result: Result) -> dict[str, object]:
    cost = result.cost
    return {
        "stream": result.stream.name,
        "stream_version": result.stream.version,
        "backbone": result.backbone.name,
        "method": result.method.name,
        "method_version": result.method.version,
        "changed": json.dumps(result.changed, sort_keys=True),
        "recipe": result.recipe.name,
        "precision": result.precision,
        "protocol": result.protocol,
        "seed": result.seed,
        "order": result.order,
        "is_comparable": not result.not_comparable and result.method.registered,
        **result.metrics,
        "tokens": cost.tokens,
        "forward_tokens": cost.forward_tokens,
        "seconds": cost.seconds,
        "cpu_seconds": cost.cpu_seconds,
        "peak_memory_bytes": cost.peak_memory_bytes,
        "added_parameters": cost.added_parameters,
        "stored_bytes": cost.stored_bytes,
        "num_findings": len(result.findings),
        "key": result.key,
        "path": str(result.path),
        "result": result,
    }


def slug(text: str) -> str:
    """Return `text` as the name of one folder or file."""
    kept = "".join(c if c.isalnum() or c in "._-" else "-" for c in text).lstrip(".")
    return kept or "unnamed"


def _create(path: Path, text: str, *, replace: bool = False) -> bool:
    """Put `text` at `path` in one step; tell whether it is there, False if another process was first."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    scratch = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.chmod(0o644)
        if replace:
            scratch.replace(path)
            return True
        try:
            path.hardlink_to(scratch)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            scratch.replace(path)
        return True
    finally:
        scratch.unlink(missing_ok=True)


def _with_same_numbers(path: Path, result: Result) -> Result | None:
    """Return the result at `path` if its numbers are those of `result`."""
    with contextlib.suppress(BadResult):
        before = read_result(path)
        return before if _numbers(before) == _numbers(result) else None
    return None


def _marks(result: Result) -> int:
    """Return how many marks keep a run off the leaderboard."""
    return len(result.not_comparable) + (not result.method.registered) + (not result.stream.registered)


def _numbers(result: Result) -> object:
    """Return everything in `result` that two runs of one key must agree on; times and memory may differ."""
    record = to_record(result)
    cells = [{k: v for k, v in cell.items() if k != "seconds"} for cell in record["cells"]]
    timed = ("seconds", "cpu_seconds", "peak_memory_bytes")
    stages = [{k: v for k, v in stage.items() if k not in timed} for stage in record["stages"]]
    return [record[name] for name in ("key", "matrix", "lm_loss", "metrics", "control")], cells, stages
