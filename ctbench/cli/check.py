"""`ctbench check`: the laws for a method, the data for a stream."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, read_settings
from ctbench.errors import BadConfig, UnknownName
from ctbench.plugins import find_plugin, find_plugins, get_stream, load_class

if TYPE_CHECKING:
    from ctbench.laws import Verdict

_WORDS = {True: "holds", False: "broken", None: "not judged"}


def command(
    name: Annotated[str, typer.Argument(help="Name of a method or stream, or path of a .py or .toml file.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting, as method.KEY=VALUE.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a method or a stream; exit with 1 if something is wrong with it."""
    protocol, settings = read_settings(set_)
    if protocol:
        raise BadConfig(
            f"--set {next(iter(protocol))}: only settings of the method (method.KEY) change what is checked"
        )
    kind = kind_of(name)
    if kind == "stream":
        if settings:
            raise BadConfig(f"'{name}' is a stream, it takes no --set method.KEY")
        stream = get_stream(name)
        inspection = importlib.import_module("ctbench.data.inspect").inspect_stream(stream)
        importlib.import_module("ctbench.cli.inspect").show_inspection(inspection, as_json=as_json)
        raise typer.Exit(1 if inspection.problems else 0)
    plugin = find_plugin("method", name)
    from ctbench.laws import check_method

    verdicts = check_method(load_class(plugin), name=plugin.name, settings=settings)
    holds = all(verdict.holds for verdict in verdicts)
    if as_json:
        laws = [dataclasses.asdict(verdict) for verdict in verdicts]
        print_answer(json.dumps({"method": plugin.name, "holds": holds, "laws": laws}))
    else:
        _show(verdicts)
    if not holds:
        raise typer.Exit(1)


def kind_of(name: str) -> str:
    """Return "method" or "stream", as the ending of a path or the registered names tell.

    Raises:
        UnknownName: neither has that name.
    """
    if name.endswith((".py", ".toml")):
        return "method" if name.endswith(".py") else "stream"
    known = {each: kind for kind in ("method", "stream") for each in find_plugins(kind)}
    if name not in known:
        raise UnknownName("method or stream", name, known, hint="ctbench ls methods, ctbench ls streams")
    return known[name]


def _show(verdicts: Sequence[Verdict]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from ctbench.report.console import make_console

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("law", "verdict", "what it says, or how it is broken"):
        table.add_column(column, no_wrap=column in ("law", "verdict"), overflow="fold")
    for verdict in verdicts:
        table.add_row(verdict.law, _WORDS[verdict.holds], Text(verdict.line))
    make_console().print(table)
