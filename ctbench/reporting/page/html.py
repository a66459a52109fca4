"""The report: all results as one HTML page that needs no network. Every text from results is escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from ctbench.errors import BadConfig, MissingResult, unwritable
from ctbench.machine.files import write_whole
from ctbench.reporting.columns import Column, leaderboard_columns
from ctbench.reporting.compare import Comparison
from ctbench.reporting.entries import Entry
from ctbench.reporting.leaderboard import Board, make_board
from ctbench.reporting.page.duel import duel_data
from ctbench.reporting.page.facts import fact_columns
from ctbench.reporting.page.matrices import matrices_of
from ctbench.reporting.page.pictures import legend_marks, page_plots, share_styles
from ctbench.reporting.page.runs import runs_of, shared_settings
from ctbench.reporting.scores import PARTS, Question
from ctbench.reporting.tables import Cell
from ctbench.reporting.views import leaderboard_notes
from ctbench.results.checks import MEANINGS
from ctbench.results.loss_metrics import LOSS_METRICS

SUFFIXES: Final = (".html", ".htm")
_LOSSES = Question(on="loss", columns=("standing",))
"""What the page asks about LM losses."""

_PARTS = (
    ("leaderboard", "Leaderboard"),
    ("plots", "Plots"),
    ("matrices", "Matrices"),
    ("facts", "Facts"),
    ("losses", "LM losses"),
    ("duel", "Method against method"),
    ("runs", "Runs"),
)
"""Parts of a section by the end of their id, as the navigation calls them."""

_TRAITS = {
    "stores_text": ("store text", "store no text"),
    "needs_domain": ("need the domain of a text", "do not need the domain of a text"),
    "grows": ("grow with every domain", "do not grow"),
}
"""What the filter calls methods that have a trait, and those that do not."""

_UNPRINTABLE = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), " ")
"""Control characters; the page shows them as spaces."""


def render_report(comparison: Comparison, *, back: tuple[str, str] | None = None) -> str:
    """Return the HTML page of a leaderboard comparison.

    Args:
        comparison: the leaderboards.
        back: address and name of the page that a site shows it beside; None for a page that stands alone.

    Raises:
        MissingResult: there is no comparable result.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    if not comparison.groups:
        raise MissingResult("there is no comparable result; --all shows results that are not comparable")
    sources = {
        name: files("ctbench.reporting.page").joinpath(f"report.{name}").read_text("utf-8")
        for name in ("html", "css", "js")
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    boards = [_section(index, board) for index, board in enumerate(comparison.boards)]
    data = {f"group{index}": section.pop("data") for index, section in enumerate(boards)}
    page: str = environment.from_string(sources["html"]).render(
        css=Markup(sources["css"] + "/* styles of plots */"),
        js=Markup(sources["js"]),
        data=Markup(_json(data)),
        groups=boards,
        streams=list(dict.fromkeys(section["stream"] for section in boards)),
        models=list(dict.fromkeys(section["model"] for section in boards)),
        traits=_TRAITS,
        back=back,
        num_runs=sum(len(group.results) for group in comparison.groups),
        hidden=comparison.hidden,
        skipped=comparison.skipped,
        metrics=[comparison.question.metric(name) for name in comparison.question.metrics],
        loss_metrics=[LOSS_METRICS[name] for name in _LOSSES.metrics],
        meanings=MEANINGS,
    )
    page, css = share_styles(page)
    return page.replace("/* styles of plots */", css).translate(_UNPRINTABLE)


def write_report(comparison: Comparison, path: str | Path) -> Path:
    """Write the page to `path`, atomically.

    Raises:
        BadConfig: the file cannot be written.
    """
    path = Path(path)
    page = render_report(comparison)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, page)
    except OSError as error:
        raise BadConfig(unwritable(f"report '{path}'", error, "choose another file with --output")) from None
    return path


def _json(data: object) -> str:
    """Return JSON without characters that could end the surrounding script element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _section(index: int, board: Board) -> dict[str, Any]:
    """Return the data of a leaderboard for the template."""
    from markupsafe import Markup

    name = f"group{index}"
    pictured = replace(board, rows=tuple(sorted(board.rows, key=lambda row: row.entry.label)))
    entries = [row.entry for row in pictured.rows]
    losses = make_board(board.group, _LOSSES)
    shared = shared_settings(entries)
    columns, loss_columns = (
        [column for column in leaderboard_columns(each, everything=True) if column.part in parts]
        for each, parts in ((board, ("name", "score", *PARTS)), (losses, ("name", "score", "standing")))
    )
    facts = _facts(board, entries)
    return {
        "id": name,
        "name": f"{board.group.results[0].stream.name}, {board.group.results[0].backbone.name}",
        "parts": _parts(has_facts=bool(facts["fact_rows"]), has_pairs=len(entries) > 1),
        "stream": board.group.results[0].stream.name,
        "model": board.group.results[0].backbone.name,
        "title": board.group.title,
        "summary": board.group.results[0].stream.summary,
        "domains": board.group.domains,
        "columns": columns,
        "rows": _rows(board, columns, entries),
        "notes": list(leaderboard_notes(replace(board, question=replace(board.question, columns=("all",))))),
        "loss_columns": loss_columns,
        "loss_rows": _rows(losses, loss_columns, entries),
        "loss_notes": [note for note in leaderboard_notes(losses) if not note.startswith(("finding ", "note: "))],
        **facts,
        "plots": [Markup(plot) for plot in page_plots(entries, board.question.metric(board.question.metrics[0]), name)],
        "legend": [
            (Markup(mark), entry.label) for mark, entry in zip(legend_marks(entries, name), entries, strict=True)
        ],
        "matrices": list(matrices_of(entries)),
        "settings": shared,
        "methods": [{**runs_of(row.entry, shared), "traits": " ".join(row.traits)} for row in pictured.rows],
        "data": duel_data(pictured, entries),
    }


def _parts(*, has_facts: bool, has_pairs: bool) -> tuple[tuple[str, str], ...]:
    absent = {*([] if has_facts else ["facts"]), *([] if has_pairs else ["duel"])}
    return tuple(part for part in _PARTS if part[0] not in absent)


def _facts(board: Board, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return columns and rows of the table of facts; empty without facts."""
    facts = fact_columns(board)
    columns = [column for column in leaderboard_columns(board) if column.part == "name"] + facts
    return {"fact_columns": columns, "fact_rows": _rows(board, columns, entries) if facts else []}


def _rows(board: Board, columns: Sequence[Column], entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the rows of a leaderboard: their cells, their traits, and the place of the method in the list of runs."""
    places = {entry.label: place for place, entry in enumerate(entries)}
    return [
        {
            "cells": [_cell(column.cell(row)) for column in columns],
            "traits": " ".join(row.traits),
            "method": places[row.entry.label],
        }
        for row in board.rows
    ]


def _cell(cell: Cell) -> dict[str, Any]:
    is_number = cell.value is not None and not math.isnan(cell.value)
    value = repr(float(cell.value)) if is_number and cell.value is not None else ""
    return {"text": cell.text, "value": value, "below": cell.below, "bold": cell.bold}
