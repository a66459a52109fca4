"""`ctbench verify`."""

from __future__ import annotations

import json
from typing import Any

import typer

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, QuietOption, VerboseOption, progress_of, takes_options_of


@takes_options_of(ctbench.verify, arguments=("run",))
def command(
    as_json: JsonOption = False, quiet: QuietOption = False, verbose: VerboseOption = False, **given: Any
) -> None:
    """Compute a few nodes of a result again and compare them; exits with 1 if they do not agree."""
    found = ctbench.verify(**given, progress=progress_of(quiet=quiet, verbose=verbose))
    if as_json:
        print_answer(json.dumps(found.record()))
    else:
        from ctbench.reporting.console import print_tables

        if found.checks:
            print_tables([found.table()])
        for line in (*found.wrong, *found.remarks):
            print(f"- {line}")
        print_answer(found.verdict())
    raise typer.Exit(0 if found.agrees else 1)
