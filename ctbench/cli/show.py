"""`ctbench show`: one result, whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, ResultsOption
from ctbench.errors import BadConfig, MissingResult
from ctbench.schema import Result


def command(
    run: Annotated[list[str], typer.Argument(help="Paths of result files or folders, or first characters of keys.")],
    results: ResultsOption = Path("results"),
    explain: Annotated[bool, typer.Option("--explain", help="Print the definition of every metric.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show results: matrices, metrics, cost, findings, settings, provenance."""
    found = [result for name in run for result in find(name, results)]
    if as_json:
        from ctbench.results import to_text

        texts = [to_text(result).rstrip() for result in found]
        print_answer(texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "\n]")
        return
    for result in found:
        show(result, explain=explain)


def find(run: str, results: Path) -> list[Result]:
    """Return the results that a path or the beginning of a key names.

    Raises:
        MissingResult: there is none.
        BadConfig: the beginning fits several keys.
        BadResult: the file cannot be used.
    """
    from ctbench.results import read_result, read_results

    if Path(run).is_file():
        return [read_result(run)]
    if run and Path(run).is_dir():
        found = list(read_results(run, strict=True).results)
        if not found:
            raise MissingResult(f"no results in the folder '{run}'")
        return found
    loaded = read_results(results)
    found = [result for result in loaded.results if run and result.key.startswith(run.lower())]
    if not found:
        more = f"; {len(loaded.skipped)} files there cannot be used" if loaded.skipped else ""
        raise MissingResult(
            f"no result '{run}': neither a file nor the beginning of a key in {results} (ctbench ls runs){more}"
        )
    if len({result.key for result in found}) > 1:
        keys = ", ".join(f"{result.key[:16]} ({result.method.name}, seed {result.seed})" for result in found[:5])
        raise BadConfig(f"'{run}' is the beginning of {len(found)} keys; give more of one: {keys}")
    return found


def show(result: Result, *, explain: bool = False, details: bool = True) -> None:
    """Print one result.

    Args:
        result: the run.
        explain: add the definitions of the metrics.
        details: add settings, provenance and the command that makes it again.
    """
    from ctbench.report.console import print_tables
    from ctbench.report.summary import describe

    print_tables(list(describe(result, explain=explain, details=details)))
