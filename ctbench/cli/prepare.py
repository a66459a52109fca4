"""`ctbench prepare`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, takes_options_of


@takes_options_of(ctbench.prepare, arguments=("stream", "folder"))
def command(as_json: JsonOption = False, **given: Any) -> None:
    """Say where a stream's data comes from, or arrange and check it."""
    found = ctbench.prepare(**given)
    if found.prepared is None:
        print_answer(json.dumps({"stream": found.stream, "obtain": found.obtain}) if as_json else found.obtain)
        return
    prepared = found.prepared
    if as_json:
        record = {"stream": found.stream, **dataclasses.asdict(prepared), "folder": str(prepared.folder)}
        print_answer(json.dumps(record))
        return
    print(f"{len(prepared.files)} files of stream {found.stream} are in {prepared.folder}")
    print(f"{prepared.checked} files there have the expected number of records and the expected digest")
    print(f"next: ctbench check {given['stream']}")
