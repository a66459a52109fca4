"""`ctbench compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, takes_options_of, to_path
from ctbench.errors import BadConfig, UnknownName

Explain = Annotated[bool, typer.Option("--explain", help="Print the definitions below the tables.")]
Format = Annotated[str, typer.Option("--format", help="Format: table, markdown, latex, csv or json.")]
Resize = Annotated[bool, typer.Option("--resize", help="Shrink LaTeX tables that are wider than the text.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", parser=to_path, help="File to write: .txt, .md, .tex, .csv or .json."
    ),
]


@takes_options_of(ctbench.compare)
def command(
    explain: Explain = False,
    format_: Format = "",
    resize: Resize = False,
    output: Output = None,
    as_json: JsonOption = False,
    **given: Any,
) -> None:
    """Compare results."""
    from ctbench.reporting.compare import FORMATS, SUFFIXES, explanation
    from ctbench.reporting.console import print_tables

    if as_json and (output is not None or format_ not in ("", "json")):
        raise BadConfig("--json prints JSON on standard output; leave it out, or leave out --format and --output")
    form = "json" if as_json else format_
    if form and form not in FORMATS:
        raise UnknownName("format", form, FORMATS)
    written = form or ("table" if output is None else SUFFIXES.get(output.suffix.lower(), ""))
    if resize and written not in ("", "latex"):
        raise BadConfig(f"--resize is for LaTeX, and the format is {written}; leave it out, or give --format latex")
    comparison = ctbench.compare(**given)
    for line in (*(f"skipped {line}" for line in comparison.skipped), *comparison.hidden):
        print(line, file=sys.stderr)
    if output is not None:
        print(comparison.save(output, form or None, explain=explain, resize=resize))
    elif form in ("", "table"):
        print_tables([*comparison.tables(), *([explanation(comparison.question)] if explain else [])])
    else:
        print_answer(comparison.render(form, explain=explain, resize=resize).removesuffix("\n"))
