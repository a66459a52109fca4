"""Read result files; `ctbench.results.schema` defines their content, `ctbench.results.writing` writes them.

A result is written once, atomically; readers validate it. Readers skip files that they cannot read and report them in one
line each, or raise an error if `strict` is set. Result files never decide what is computed; the store does.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctbench.errors import BadConfig, BadResult, MissingResult, one_line, unwritable
from ctbench.machine.files import scratch_beside, write_whole
from ctbench.results.format import parse, read_small
from ctbench.results.schema import Result

if TYPE_CHECKING:
    import pandas as pd

OTHER_RESULTS = "choose another folder with --results"
OTHER_FILE = "choose another file with --output"
OTHER_FOLDER = "choose another folder with --output"
PROBE_BYTES = 4096

TUNING = "tuning"
"""Sub-folder of the results with the trials of `ctbench tune`."""

APART = ("ablations", "orders", "precision", "studies", "tracking")
"""Sub-folders of the results with results of other questions, each with tables of its own."""

NO_RESULTS = (TUNING, "bench", *APART)
"""Sub-folders of the results that readers skip unless a caller names them. Other orders would enter the usual one's tables."""


def read_result(path: str | Path) -> Result:
    """Read one result file.

    Raises:
        BadResult: the file cannot be read; the message is one line.
    """
    result = parse(read_small(path), one_line(path))
    object.__setattr__(result, "path", Path(path))
    return result


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The results in a folder.

    Args:
        results: the runs, ordered by the paths of their files.
        skipped: one line for each JSON file and each folder that could not be read.
    """

    results: tuple[Result, ...]
    skipped: tuple[str, ...]


def read_results(folder: str | Path = "results", *, strict: bool = False) -> Loaded:
    """Read every result file under `folder`.

    Args:
        folder: folder of result files; a missing folder holds none.
        strict: raise an error for the first file that cannot be read instead of skipping it.

    Raises:
        BadResult: with `strict`, a file is corrupt, truncated, foreign, older or newer.

    Examples:
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
    """Return the results under `folder` as a table with one row per run; its column `result` holds the `Result`.

    Files that cannot be read cause a warning each.

    Args:
        folder: folder of result files.
        strict: raise an error for such files instead.

    Raises:
        BadResult: with `strict`, a file cannot be read.
        MissingResult: there is no result.

    Examples:
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


def check_output(path: str | Path) -> None:
    """Check that a file can be written; see `check_place`.

    Raises:
        BadConfig: the path is a folder, or its folder cannot be written.
    """
    path = Path(path)
    check_place(path.parent, what=f"'{path}'", otherwise=OTHER_FILE)
    if path.is_dir():
        raise BadConfig(f"'{one_line(path)}' is a folder, not a file to write; {OTHER_FILE}")


def check_writable(folder: str | Path) -> None:
    """Check that results can be written to `folder`; see `check_place`.

    Raises:
        BadConfig: they cannot be written.
    """
    check_place(folder, what=f"results folder '{folder}'", otherwise=OTHER_RESULTS)


def check_place(folder: str | Path, *, what: str, otherwise: str, num_bytes: int = PROBE_BYTES) -> None:
    """Check that a folder can be written: a small file is written in it, or above it, and removed again.

    Args:
        folder: which need not exist.
        what: what would be written, as the error names it.
        otherwise: what to do, beside mending the folder.
        num_bytes: size of the file.

    Raises:
        BadConfig: it cannot be written.
    """
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise BadConfig(f"{one_line(what)} cannot be written ('{place.name or place}' is not a folder); {otherwise}")
    probe = scratch_beside(place / "probe")
    try:
        write_whole(probe, "x" * num_bytes)
    except OSError as error:
        raise BadConfig(unwritable(what, error, otherwise)) from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _json_files(folder: str) -> tuple[list[str], list[str]]:
    """Return the JSON files under a folder, and one line for each folder that could not be read."""
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
    """Pause the garbage collector: records hold no cycles, and it takes a third of the time of reading them."""
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
        "is_complete": result.is_complete,
        "is_comparable": result.is_complete and not result.not_comparable and result.method.registered,
        **result.metrics,
        **{f"loss_{name}": value for name, value in result.loss_metrics.items()},
        "tokens": cost.tokens,
        "forward_tokens": cost.forward_tokens,
        "flops": cost.flops,
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
