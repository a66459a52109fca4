"""`ctbench plan`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, QuietOption, VerboseOption, progress_of, takes_options_of

if TYPE_CHECKING:
    from ctbench.engine.forecast import Forecast


@takes_options_of(ctbench.plan, arguments=("study",))
def command(
    as_json: JsonOption = False, quiet: QuietOption = False, verbose: VerboseOption = False, **given: Any
) -> None:
    """Show what a run would compute."""
    print_plan(ctbench.plan(**given, progress=progress_of(quiet=quiet, verbose=verbose)), as_json=as_json)


def print_plan(found: Forecast, *, as_json: bool) -> None:
    """Print what a run would compute as lines, or as one JSON document."""
    print_answer(json.dumps(found.record()) if as_json else str(found))
