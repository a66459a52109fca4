"""`ctbench bench`."""

from __future__ import annotations

import json
from typing import Any

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, takes_options_of


@takes_options_of(ctbench.bench)
def command(as_json: JsonOption = False, **given: Any) -> None:
    """Measure this machine and the engine."""
    from ctbench.reporting.console import print_tables

    found = ctbench.bench(**given)
    if as_json:
        print_answer(json.dumps(found.document))
        return
    print_tables(found.tables())
