"""`ctbench show`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, takes_options_of

Explain = Annotated[bool, typer.Option("--explain", help="Print the definition of every metric.")]


@takes_options_of(ctbench.show, arguments=("run",))
def command(explain: Explain = False, as_json: JsonOption = False, **given: Any) -> None:
    """Show results: matrices, metrics, cost, findings, settings, provenance."""
    found = ctbench.show(**given)
    if as_json:
        from ctbench.results.format import to_text

        texts = [to_text(result).rstrip() for result in found]
        print_answer(texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "\n]")
        return
    from ctbench.reporting.console import print_tables
    from ctbench.reporting.summary import describe

    for result in found:
        print_tables(list(describe(result, explain=explain)))
