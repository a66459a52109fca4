"""`ctbench compare`: leaderboards and transfer tables from result files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, ResultsOption
from ctbench.errors import UnknownName

Many = list[str] | None


def command(
    stream: Annotated[Many, typer.Option("--stream", "-s", help="Only these streams (repeatable).")] = None,
    method: Annotated[Many, typer.Option("--method", "-m", help="Only these methods (repeatable).")] = None,
    metric: Annotated[Many, typer.Option(help="Columns (repeatable); the first one orders and ranks the rows.")] = None,
    against: Annotated[str | None, typer.Option(help="Compare every method with this one, Holm-corrected.")] = None,
    planned: Annotated[
        str | None, typer.Option(metavar="A:B", help="Test one comparison declared beforehand, without correction.")
    ] = None,
    view: Annotated[str, typer.Option(help="leaderboard or transfer (per domain).")] = "leaderboard",
    confidence: Annotated[
        float, typer.Option(help="Of the intervals; 1 - confidence is the level of the tests.")
    ] = 0.95,
    partial: Annotated[bool, typer.Option("--partial", help="Take means over incomplete sets, and mark them.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show runs that are not comparable too, apart.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse result files that cannot be used.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print the definitions below the tables.")] = False,
    format_: Annotated[str, typer.Option("--format", help="table, markdown, latex, csv or json.")] = "table",
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Print one leaderboard per stream and protocol, or what each domain gained and lost."""
    from ctbench.report.compare import FORMATS, compare, explanation

    form = "json" if as_json else format_
    if form not in FORMATS:
        raise UnknownName("format", form, FORMATS)
    comparison = compare(
        results,
        stream=stream or (),
        method=method or (),
        metric=metric or (),
        against=against,
        planned=planned,
        view=view,
        confidence=confidence,
        partial=partial,
        all=everything,
        strict=strict,
    )
    for line in (*(f"skipped {line}" for line in comparison.skipped), *comparison.hidden):
        print(line, file=sys.stderr)
    if form != "table":
        print_answer(comparison.render(form, explain=explain).removesuffix("\n"))
        return
    from ctbench.report.console import print_tables

    print_tables([*comparison.tables(), *([explanation(comparison.question.metrics)] if explain else [])])
