"""`ctbench report`: all results as one HTML page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ctbench.cli.options import ResultsOption, to_path

Many = list[str] | None


def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", parser=to_path, metavar="FILE", help="File to write.")
    ] = Path("report.html"),
    stream: Annotated[Many, typer.Option("--stream", "-s", help="Only these streams (repeatable).")] = None,
    method: Annotated[Many, typer.Option("--method", "-m", help="Only these methods (repeatable).")] = None,
    metric: Annotated[Many, typer.Option(help="Columns (repeatable); the first one orders and ranks the rows.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Take means over incomplete sets, and mark them.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show runs that are not comparable too, apart.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse result files that cannot be used.")] = False,
    results: ResultsOption = Path("results"),
) -> None:
    """Write a page with leaderboards, curves, matrices, costs, settings and provenance; it needs no network."""
    from ctbench.report.compare import compare
    from ctbench.report.html import write_report

    comparison = compare(
        results,
        stream=stream or (),
        method=method or (),
        metric=metric or (),
        partial=partial,
        all=everything,
        strict=strict,
    )
    for line in (*(f"skipped {line}" for line in comparison.skipped), *comparison.hidden):
        print(line, file=sys.stderr)
    print(write_report(comparison, output))
