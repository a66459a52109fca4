"""`ctbench status`."""

from __future__ import annotations

import json
from typing import Any

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, VerboseOption, takes_options_of


@takes_options_of(ctbench.status, arguments=("launch",))
def command(as_json: JsonOption = False, verbose: VerboseOption = False, **given: Any) -> None:
    """Show where launches on a cluster stand."""
    found = ctbench.status(**given)
    if as_json:
        print_answer(json.dumps([launch.record() for launch in found]))
        return
    from ctbench.reporting.console import print_tables

    if not found:
        print("no launch yet: ctbench run ... --launcher slurm")
    for launch in found:
        print_tables([launch.table()])
        print("".join(f"{line}\n" for line in launch.lines(**({"most": None} if verbose else {}))), end="")
