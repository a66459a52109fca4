"""`ctbench ls`."""

from __future__ import annotations

import json
import sys
from typing import Any

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, takes_options_of


@takes_options_of(ctbench.ls, arguments=("what", "name"))
def command(as_json: JsonOption = False, **given: Any) -> None:
    """List methods, streams, models or runs."""
    found = ctbench.ls(**given)
    for line in found.skipped:
        print(f"skipped {line}", file=sys.stderr)
    if as_json:
        print_answer(json.dumps([dict(row) for row in found], allow_nan=False))
    elif found and sys.stdout.isatty():
        from ctbench.reporting.console import print_tables

        print_tables([found.table()])
    else:  # a pipe has no width to fit, and rich would take a quarter of the command's time
        print(found)
