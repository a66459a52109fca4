"""Find results: show, load_results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ctbench.api.texts import Names, names
from ctbench.errors import BadConfig, MissingResult
from ctbench.machine.files import read_path
from ctbench.results.folder import default_results

if TYPE_CHECKING:
    import pandas as pd

    from ctbench.results.schema import Result


def show(run: Names, *, results: str | Path | None = None) -> list[Result]:
    """Find results by the paths of their files, by folders, or by the first characters of their keys.

    Args:
        run: Paths of result files or folders, or first characters of keys.
        results: Folder of result files. Default: results; in a checkout of ctbench my-results.

    Returns:
        The results; in a notebook each shows its matrix.

    Raises:
        MissingResult: there is none.
        BadConfig: the characters fit several keys.
        BadResult: a file that cannot be used.
    """
    asked = names(run)
    if not asked:
        raise MissingResult("no result ''; expected paths, or first characters of keys (ctbench ls runs)")
    folder = default_results() if results is None else Path(results)
    return [result for name in asked for result in _find(name, folder)]


def load_results(results: str | Path | None = None, *, strict: bool = False) -> pd.DataFrame:
    """Return the results in a folder as a table with one run a row; its column `result` holds the `Result`.

    Args:
        results: Folder of result files. Default: results; in a checkout of ctbench my-results.
        strict: Refuse files that cannot be used, instead of warning about them.

    Raises:
        BadResult: with `strict`, for a file that cannot be used.
        MissingResult: there are none.

    Examples:
        >>> table = load_results("results/domain")
        >>> table["result"][0].matrix.shape
        (6, 5)
    """
    from ctbench.results.files import load_results

    return load_results(default_results() if results is None else results, strict=strict)


def _find(run: str, results: Path) -> list[Result]:
    from ctbench.results.files import read_result, read_results

    path = read_path(run)
    if path.is_file():
        return [read_result(path)]
    if path.is_dir():
        found = list(read_results(path, strict=True).results)
        if not found:
            raise MissingResult(f"no results in the folder '{run}'")
        return found
    loaded = read_results(results)
    found = [result for result in loaded.results if result.key.startswith(run.lower())]
    if not found:
        more = f"; {len(loaded.skipped)} files there cannot be used" if loaded.skipped else ""
        raise MissingResult(
            f"no result '{run}': neither a file nor the first characters of a key in {results} (ctbench ls runs){more}"
        )
    if len({result.key for result in found}) > 1:
        keys = ", ".join(f"{result.key[:16]} ({result.method.name}, seed {result.seed})" for result in found[:5])
        raise BadConfig(f"'{run}' begins {len(found)} keys; give more characters of one: {keys}")
    return found
