"""`ctbench tune`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, QuietOption, VerboseOption, progress_of, takes_options_of
from ctbench.engine.failures import NodesFailed

if TYPE_CHECKING:
    from ctbench.tuning.record import Tuning


@takes_options_of(ctbench.tune)
def command(
    as_json: JsonOption = False, quiet: QuietOption = False, verbose: VerboseOption = False, **given: Any
) -> None:
    """Try the values to tune of methods' hyper-parameters."""
    given["progress"] = progress_of(quiet=quiet, verbose=verbose)
    try:
        _show(ctbench.tune(**given), as_json=as_json)
    except NodesFailed as error:
        _show(error.results, as_json=as_json)
        raise


def _show(found: Sequence[Tuning], *, as_json: bool) -> None:
    if as_json:
        records = [tuning.record() for tuning in found]
        print_answer(json.dumps(records[0] if len(records) == 1 else records, allow_nan=False))
        return
    from ctbench.reporting.console import print_tables
    from ctbench.tuning.table import trial_table

    print_tables([trial_table(tuning) for tuning in found])
