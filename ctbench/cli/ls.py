"""`ctbench ls`: what there is, read without importing it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ctbench.cli.answer import print_answer
from ctbench.cli.options import JsonOption, ResultsOption
from ctbench.errors import BadConfig, MissingResult, UnknownName, one_line
from ctbench.plugins import find_plugin, find_plugins
from ctbench.source import describe_method

MODELS = [
    {"name": "tiny", "objective": "mlm", "summary": "2 layers of 128, made from the stream's general text, offline"},
    {
        "name": "ID@REVISION",
        "objective": "mlm or clm",
        "summary": "a Hugging Face checkpoint (add --online to fetch it)",
    },
    {"name": "FOLDER", "objective": "mlm or clm", "summary": "a local checkpoint of any of the families"},
]


def command(
    what: Annotated[str, typer.Argument(help="methods, streams, models or runs.")],
    name: Annotated[
        str | None, typer.Argument(help="Only this one; of a method its settings, of a run the beginning of its key.")
    ] = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """List what there is."""
    listers: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "methods": _methods,
        "streams": _streams,
        "models": _models,
        "runs": lambda: _runs(results),
    }
    if what not in listers:
        raise UnknownName("list", what, listers, hint="ctbench ls --help")
    if name is not None:
        every = _settings(name) if what == "methods" else listers[what]()
        fits = str.startswith if what == "runs" else str.__eq__
        rows = every if what == "methods" else [row for row in every if fits(str(row["name"]), name)]
        if not rows and what == "runs":
            raise MissingResult(f"no run whose key begins with '{name}' in {results}")
        if not rows and what != "methods":
            raise UnknownName(what.removesuffix("s"), name, [str(row["name"]) for row in every])
    else:
        rows = listers[what]()
    if as_json:
        print_answer(json.dumps(rows, allow_nan=False))
    else:
        _print(rows)


def _methods() -> list[dict[str, Any]]:
    rows = []
    for plugin in find_plugins("method").values():
        described = describe_method(plugin)
        traits = [trait.replace("_", " ") for trait, holds in described.traits.items() if holds]
        rows.append(
            {
                "name": described.name,
                "summary": described.summary.partition(": ")[2] or described.summary,
                "paper": described.paper,
                "traits": ", ".join(traits),
            }
        )
    return rows


def _settings(name: str) -> list[dict[str, Any]]:
    described = describe_method(find_plugin("method", name))
    return [
        {"name": f"method.{field.name}", "default": field.default, "help": field.help} for field in described.fields
    ]


def _streams() -> list[dict[str, Any]]:
    from ctbench.data.stream import stream_summary

    rows = []
    for name, plugin in find_plugins("stream").items():
        found = stream_summary(plugin.path)
        rows.append(
            {
                "name": name,
                "kind": found.kind,
                "domains": found.num_domains,
                "model": found.model,
                "summary": found.summary,
            }
        )
    return rows


def _models() -> list[dict[str, Any]]:
    return [dict(model) for model in MODELS]


def _runs(results: Path) -> list[dict[str, Any]]:
    from ctbench.results import read_results

    if results.is_file():
        raise BadConfig(f"'{results}' is a file; the folder of result files is wanted")
    loaded = read_results(results)
    for line in loaded.skipped:
        print(f"skipped {line}", file=sys.stderr)
    return [
        {
            "name": result.key[:12],
            "stream": result.stream.name,
            "method": result.method.name,
            "seed": result.seed,
            "order": result.order,
            "findings": len(result.findings),
            "backbone": result.backbone.name,
        }
        for result in loaded.results
    ]


def _print(rows: list[dict[str, Any]]) -> None:
    if not rows:
        print("nothing yet")
    elif sys.stdout.isatty():
        _print_fitted(rows)
    else:  # a pipe has no width to fit, and rich would take a quarter of the command's time
        lines = [[str(key) for key in rows[0]], *([one_line(value) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _print_fitted(rows: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for key in rows[0]:
        wraps = key not in ("name", "stream", "method", "backbone", "kind", "seed", "order", "findings")
        whole = max(len(one_line(row[key])) for row in rows)
        short = max(len(key), whole) if isinstance(rows[0][key], int) else None
        least = whole if key in ("name", "paper") else short  # names and papers are there to be copied
        table.add_column(key, no_wrap=not wraps, overflow="fold" if wraps else "ellipsis", min_width=least)
    for row in rows:
        table.add_row(*(Text(one_line(value)) for value in row.values()))
    Console(highlight=False).print(table)
