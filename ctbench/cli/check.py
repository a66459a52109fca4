"""`ctbench check`."""

from __future__ import annotations

import json
from typing import Any

import typer

import ctbench
from ctbench.api.answers import MethodCheck
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, takes_options_of


@takes_options_of(ctbench.check, arguments=("name",))
def command(as_json: JsonOption = False, **given: Any) -> None:
    """Check a method or a stream; exit with 1 if something is wrong with it."""
    found = ctbench.check(**given)
    if not isinstance(found, MethodCheck):
        from ctbench.cli.inspect import show_inspection

        show_inspection(found, as_json=as_json)
        raise typer.Exit(1 if found.problems else 0)
    if as_json:
        print_answer(json.dumps(found.record()))
    else:
        _show(found)
    raise typer.Exit(0 if found.holds else 1)


def _show(found: MethodCheck) -> None:
    from ctbench.reporting.console import print_tables

    print_tables([found.table()])
