"""`ctbench run`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import DryRunOption, JsonOption, QuietOption, VerboseOption, progress_of, takes_options_of
from ctbench.cli.plan import print_plan
from ctbench.engine.failures import NodesFailed
from ctbench.machine.launched import is_follower

if TYPE_CHECKING:
    from ctbench.results.schema import Result


@takes_options_of(ctbench.run, arguments=("study",))
def command(
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    dry_run: DryRunOption = False,
    **given: Any,
) -> None:
    """Run methods on streams and write the results."""
    given["progress"] = progress_of(quiet=quiet, verbose=verbose)
    if dry_run:
        print_plan(ctbench.plan(**given), as_json=as_json)
        return
    try:
        found = ctbench.run(**given)
    except NodesFailed as error:
        _show(error.results, as_json=as_json, verbose=verbose)
        raise
    if not is_follower():
        _show(found, as_json=as_json, verbose=verbose)


def _show(found: Sequence[Result], *, as_json: bool, verbose: bool) -> None:
    if as_json:
        from ctbench.results.format import to_record

        records = [to_record(result) for result in found]
        print_answer(json.dumps(records[0] if len(records) == 1 else records, allow_nan=False))
        return
    if not found:  # every node failed, or the first failure ended the call
        return
    from ctbench.reporting.console import print_tables
    from ctbench.reporting.summary import answer, describe

    if verbose:
        for result in found:
            print_tables(list(describe(result)))
    else:
        print_tables(list(answer(found, places=[str(result.path) for result in found if result.path])))
