"""`ctbench store`."""

from __future__ import annotations

import json
from typing import Any

import typer

import ctbench
from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, takes_options_of


@takes_options_of(ctbench.store, arguments=("action",))
def command(as_json: JsonOption = False, **given: Any) -> None:
    """List, verify or prune the store; verify exits with 1 if something is damaged."""
    found = ctbench.store(**given)
    if as_json:
        print_answer(json.dumps(found.record()))
    else:
        from ctbench.reporting.console import print_tables

        if found.entries:
            print_tables([found.table()])
        else:
            print(f"nothing {'to remove ' if found.action == 'prune' else ''}in {found.home}")
            print("".join(f"{note}\n" for note in found.notes), end="")
        for entry, reason in found.damaged:
            whose = " · ".join(text for text in (entry.stream, entry.method, entry.title) if text)
            print(f"damaged: {entry.key[:16] or entry.path.name} ({whose or entry.kind}): {reason}")
        if found.action == "verify" and found.entries and not found.damaged:
            print("every file is the one that was written")
        if found.action == "prune" and found.entries:
            print(_verdict(found.num_bytes, is_done=found.is_done))
    raise typer.Exit(1 if found.damaged else 0)


def _verdict(num_bytes: int, *, is_done: bool) -> str:
    from ctbench.reporting.numbers import size

    return f"{'freed' if is_done else 'would free'} {size(num_bytes)}"
