"""`ctbench prepare`: where a stream's data comes from, and how it is arranged."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption


def command(
    stream: Annotated[str, typer.Argument(help="Name of a stream, or path of a .toml file.")],
    folder: Annotated[
        Path | None, typer.Argument(help="Folder with the originals. Without it: where they come from.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say where a stream's data comes from; given a folder with the originals, arrange and check them."""
    from ctbench.data.prepare import prepare_stream
    from ctbench.plugins import get_stream

    found = get_stream(stream)
    if folder is None:
        text = found.obtain.strip() or f"stream {found.name} says nothing about where its data comes from"
        print_answer(json.dumps({"stream": found.name, "obtain": text}) if as_json else text)
        return
    prepared = prepare_stream(found, folder)
    if as_json:
        print_answer(json.dumps({"stream": found.name, **dataclasses.asdict(prepared), "folder": str(prepared.folder)}))
        return
    print(f"{len(prepared.files)} files of stream {found.name} lie in {prepared.folder}")
    print(f"{prepared.checked} of them have the number of records and the digest they should have")
    print(f"next: ctbench check {stream}")
