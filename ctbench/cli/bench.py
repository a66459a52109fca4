"""`ctbench bench`: how fast this machine and the engine are, beside the usual choices."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, to_path
from ctbench.errors import BadConfig


def command(
    shape: Annotated[
        str, typer.Option(help="Shapes, with commas: tiny, 22m, roberta-base, roberta-base-512.")
    ] = "tiny,22m",
    method: Annotated[str, typer.Option(help="Methods whose cost to measure at the first shape, with commas.")] = "",
    what: Annotated[
        str,
        typer.Option(
            help="pretrain (beside a Trainer), overhead (beside a bare loop), cells, protocol (a whole run), all."
        ),
    ] = "all",
    precision: Annotated[
        str, typer.Option(help="fp32, bf16, with commas. Default: fp32, and bf16 where it is fast.")
    ] = "",
    pairs: Annotated[int, typer.Option(help="Rounds in which every side does its work once.")] = 5,
    seconds: Annotated[float, typer.Option(help="Timed seconds of a side in a round.")] = 4.0,
    threads: Annotated[int | None, typer.Option(help="CPU threads of each side. Default: all cores.")] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Measure compiled models too.")] = False,
    scaling: Annotated[bool, typer.Option("--scaling", help="Measure how cost grows with the work, instead.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Of --scaling: few and small cases.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=to_path,
            metavar="FILE",
            help="Write JSON here; --scaling also a table and a picture.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine and the engine."""
    from ctbench.bench.record import check_output

    check_output(output)
    if quick and not scaling:
        raise BadConfig("--quick is for --scaling; --pairs and --seconds make a bench short")
    if scaling:
        from ctbench.bench.scaling import keep_scaling, measure_scaling, scaling_tables

        document = measure_scaling(quick=quick, say=_say)
        keep_scaling(document, path=output)
        found = scaling_tables(document)
    else:
        from ctbench.bench.record import KINDS, Question, bench, keep
        from ctbench.bench.shapes import find_shape
        from ctbench.bench.show import tables
        from ctbench.store import home

        question = Question(
            shapes=tuple(find_shape(name) for name in _split(shape)),
            methods=_split(method),
            what=KINDS if what == "all" else _split(what),
            precisions=_split(precision),
            threads=threads,
            pairs=pairs,
            seconds=seconds,
            compiled=compiled,
        )
        document = bench(question, say=_say)
        keep(document, home=home(), path=output)
        found = tables(document)
    if as_json:
        print_answer(json.dumps(document))
        return
    from ctbench.report.console import print_tables

    print_tables(found)


def _split(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
