"""`ctbench plot`: the matrix of one run, or the mean over the seeds of a method, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctbench.cli.options import ResultsOption
from ctbench.errors import BadConfig

SUFFIXES = (".png", ".svg", ".pdf")


def command(
    run: Annotated[
        str | None, typer.Argument(help="Path of a result file, or the first characters of its key.")
    ] = None,
    stream: Annotated[str | None, typer.Option(help="Stream of the runs to average, instead of one run.")] = None,
    method: Annotated[str | None, typer.Option(help="Method of the runs to average.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .png, .svg or .pdf.")] = Path(
        "matrix.png"
    ),
    kind: Annotated[str, typer.Option(help="matrix, anytime, loss or training.")] = "matrix",
    results: ResultsOption = Path("results"),
) -> None:
    """Draw the matrix as a heat map, or the anytime and loss curves."""
    if output.suffix not in SUFFIXES:
        raise BadConfig(f"--output is '{output.name}'; its name must end in {', '.join(SUFFIXES)}")
    from ctbench.report.plots import choose, make_figure, save

    figure = make_figure(choose(run, stream, method, results), kind=kind)
    save(figure, output)
    print(output)
