"""`ctbench show`: one result, whole."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ctbench.cli.options import JsonOption, ResultsOption
from ctbench.errors import MissingResult
from ctbench.schema import Result


def command(
    run: Annotated[str, typer.Argument(help="Path of a result file, or the first characters of its key.")],
    results: ResultsOption = Path("results"),
    explain: Annotated[bool, typer.Option("--explain", help="Print the definition of every metric.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one result: matrices, metrics, cost, findings, provenance."""
    found = find(run, results)
    if as_json:
        records = [result.record() for result in found]
        json.dump(records[0] if len(records) == 1 else records, sys.stdout, allow_nan=False)
        print()
        return
    for result in found:
        show(result, explain=explain)


def find(run: str, results: Path) -> list[Result]:
    """Return the results that a path or a key prefix names.

    Raises:
        MissingResult: there is none.
    """
    from ctbench.results import read_result, read_results

    if Path(run).is_file():
        return [read_result(run)]
    found = [result for result in read_results(results).results if run and result.key.startswith(run)]
    if not found:
        raise MissingResult(
            f"no result '{run}': neither a file nor a key that begins so under {results} (ctbench ls runs)"
        )
    return found


def show(result: Result, *, explain: bool = False) -> None:
    """Print one result."""
    from rich.console import Console

    from ctbench.report import tables

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    for part in tables.describe(result, explain=explain):
        console.print(part)
