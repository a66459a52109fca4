"""`ctbench export`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, takes_options_of


@takes_options_of(ctbench.export, arguments=("run",))
def command(as_json: JsonOption = False, **given: Any) -> None:
    """Write the LM of a row as a Hugging Face checkpoint."""
    found = ctbench.export(**given)
    if as_json:
        print_answer(json.dumps(dataclasses.asdict(found) | {"folder": str(found.folder)}))
        return
    context = f", context {found.context}" if found.context else ""
    print_answer(f"{found.folder}: row {found.row}{context}, {found.architecture}, {found.parameters:,} parameters")
    print_answer(f'load it with transformers.{found.loader}.from_pretrained("{found.folder}")')
