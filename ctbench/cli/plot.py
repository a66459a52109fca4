"""`ctbench plot`: pictures of results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ctbench.cli.options import ResultsOption, to_path
from ctbench.errors import BadConfig

Many = list[str] | None


def command(
    run: Annotated[Many, typer.Argument(help="Paths of result files, or first characters of their keys.")] = None,
    kind: Annotated[
        str, typer.Option("--kind", "-k", help="matrix, difference, anytime, transfer, cost, loss or training.")
    ] = "matrix",
    stream: Annotated[str | None, typer.Option("--stream", "-s", help="Stream to draw.")] = None,
    method: Annotated[
        Many, typer.Option("--method", "-m", help="Only these methods (repeatable), in this order.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Of --kind cost.")] = "anytime",
    cost: Annotated[
        str,
        typer.Option(
            help="Of --kind cost: tokens, forward_tokens, seconds, cpu_seconds, peak_memory_bytes, added_parameters, "
            "stored_bytes."
        ),
    ] = "forward_tokens",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", parser=to_path, metavar="FILE", help="File to write: .png, .svg or .pdf."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse result files that cannot be used.")] = False,
    results: ResultsOption = Path("results"),
) -> None:
    """Draw the results of one stream; several runs of a method are averaged."""
    from ctbench.cli.show import find
    from ctbench.report.groups import Choice, group_results
    from ctbench.report.plots import choose_group, make_figure
    from ctbench.report.style import check_suffix, save
    from ctbench.results import read_results

    if output is not None:
        check_suffix(output)
    if run:
        if stream or method:
            raise BadConfig("runs are named, or chosen by --stream and --method: give one or the other")
        found = [result for name in run for result in find(name, results)]
    else:
        loaded = read_results(results, strict=strict)
        groups, hidden = group_results(
            loaded.results, Choice(streams=(stream,) if stream else (), methods=tuple(method or ()))
        )
        for line in (*(f"skipped {line}" for line in loaded.skipped), *hidden):
            print(line, file=sys.stderr)
        found = choose_group(groups, method or ())
        for group in groups:
            if group.why and group.results[0].stream.name == found[0].stream.name:
                print(f"not drawn: {group.title}", file=sys.stderr)
    figure = make_figure(found, kind=kind, metric=metric, cost=cost)
    print(save(figure, output or Path(f"{found[0].stream.name}-{kind}.png")))
