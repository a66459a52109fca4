"""`ctbench cancel`."""

from __future__ import annotations

import json
from typing import Any

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, takes_options_of


@takes_options_of(ctbench.cancel, arguments=("launch",))
def command(as_json: JsonOption = False, **given: Any) -> None:
    """Cancel the jobs of a launch."""
    count = ctbench.cancel(**given)
    print_answer(
        json.dumps({"cancelled": count}) if as_json else f"cancelled {count} jobs; the store keeps what is done"
    )
