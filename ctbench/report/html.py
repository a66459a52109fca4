"""The report: all results as one HTML page that needs no network. Everything from results is escaped."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ctbench.errors import BadConfig, MissingResult, one_line
from ctbench.metrics import METRICS, Array
from ctbench.report import charts, numbers
from ctbench.report.compare import Comparison
from ctbench.report.groups import Entry
from ctbench.report.heatmaps import order_of, same_order
from ctbench.report.leaderboard import TRAITS, Board, Row, differences, shown_costs
from ctbench.report.reproduce import command_line
from ctbench.report.style import ink_on
from ctbench.report.summary import row_names
from ctbench.report.views import COST_HEADS, leaderboard_table, metric_head
from ctbench.sanity import MEANINGS
from ctbench.schema import Result
from ctbench.statistics import mean_interval

MAX_PAIRED = 16
"""Up to this many methods, intervals of all pairwise differences are put into the page."""

_UNPRINTABLE = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), " ")
"""Control characters that have no place in a page."""

_SHADES = ((244, 247, 251), (195, 216, 236), (127, 176, 216), (59, 127, 184), (18, 63, 115))


def render_report(comparison: Comparison) -> str:
    """Return the page for a leaderboard comparison.

    Raises:
        MissingResult: if nothing is left to show.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    if not comparison.groups:
        raise MissingResult("no comparable result to report; --all shows those that are not comparable")
    sources = {
        name: files("ctbench.report").joinpath(f"report.{name}").read_text("utf-8") for name in ("html", "css", "js")
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    boards = [_section(index, board) for index, board in enumerate(comparison.boards)]
    data = {f"group{index}": section.pop("data") for index, section in enumerate(boards)}
    page: str = environment.from_string(sources["html"]).render(
        css=Markup(sources["css"]),
        js=Markup(sources["js"]),
        data=Markup(_json(data)),
        groups=boards,
        num_runs=sum(len(group.results) for group in comparison.groups),
        hidden=comparison.hidden,
        skipped=comparison.skipped,
        metrics=[METRICS[name] for name in comparison.question.metrics],
        meanings=MEANINGS,
    )
    return page.translate(_UNPRINTABLE)


def write_report(comparison: Comparison, path: str | Path) -> Path:
    """Write the page to `path`, whole or not at all.

    Raises:
        BadConfig: if it cannot be written.
    """
    path = Path(path)
    page = render_report(comparison)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".report-", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise BadConfig(f"report '{one_line(path.name)}' cannot be written ({error.strerror})") from None
    return path


def _json(data: object) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _section(index: int, board: Board) -> dict[str, Any]:
    from markupsafe import Markup

    entries = [row.entry for row in board.rows]
    first = board.group.results[0]
    metric = board.question.metrics[0]
    drawn = [*charts.anytime_charts(entries), *charts.scatter_charts(entries, metric)]
    return {
        "id": f"group{index}",
        "title": board.group.title,
        "summary": first.stream.summary,
        "domains": board.group.domains,
        "columns": list(_columns(board)),
        "rows": [list(_cells(row, board)) for row in board.rows],
        "notes": leaderboard_table(board).notes,
        "charts": [Markup(chart) for chart in drawn],
        "legend": [(Markup(charts.swatch(i)), entry.label) for i, entry in enumerate(entries)],
        "matrices": list(_matrices(entries)),
        "runs": [_run(entry, result) for entry in entries for result in entry.results.values()],
        "data": _data(board, entries),
    }


def _columns(board: Board) -> Iterator[tuple[str, str]]:
    """Yield name and explanation of each column of the leaderboard."""
    level = f"{100 * board.question.confidence:g} %"
    yield "rank", "1 + the number of methods that are better, the interval of the difference excluding 0"
    yield "method", "method and settings"
    yield "n", "number of runs (seed, order)"
    for name in board.question.metrics:
        yield metric_head(name), f"{METRICS[name].definition}; mean ± standard deviation, {level} interval over runs"
    yield "won/tied/lost", f"against the other methods in {board.question.metrics[0]}, by the same intervals"
    yield "between runs", f"standard deviation of {board.question.metrics[0]} due to pre-training"
    yield "between seeds", f"standard deviation of {board.question.metrics[0]} due to one fine-tuning seed"
    for name in shown_costs(board.rows):
        yield COST_HEADS[name], "mean over runs; pre-training only"
    yield "traits", "what the method needs or leaves behind"
    yield "findings", "what is odd; listed below the table"


def _cells(row: Row, board: Board) -> Iterator[dict[str, Any]]:
    """Yield the cells of a row: text, value to sort by, a second line, and whether it is the best."""
    main = row.scores[board.question.metrics[0]]
    yield _cell(numbers.DASH if main.rank is None else None, main.rank)
    yield _cell(row.entry.label, None)
    yield _cell(None, len(row.entry.results))
    for name in board.question.metrics:
        score = row.scores[name]
        spread = score.interval.deviation
        text = numbers.metric_number(name, score.mean) + ("" if math.isnan(spread) else f" ± {numbers.percent(spread)}")
        text = ("≈ " if score.is_partial else "") + text if not math.isnan(score.mean) else numbers.DASH
        signed = METRICS[name].is_difference
        limits = numbers.interval(score.interval.low, score.interval.high, signed=signed)
        yield _cell(text, score.mean, below="" if limits == numbers.DASH else limits, is_best=score.is_best)
    is_ranked = main.rank is not None
    yield _cell(
        f"{main.wins}/{main.ties}/{main.losses}" if is_ranked else numbers.DASH, main.wins if is_ranked else None
    )
    for value in (row.spread.pretraining, row.spread.finetuning):
        yield _cell(numbers.percent(value), value)
    for name in shown_costs(board.rows):
        yield _cell(numbers.cost(name, row.cost[name]), row.cost[name])
    yield _cell(", ".join(trait.replace("_", " ") for trait in TRAITS if trait in row.traits) or numbers.DASH, None)
    yield _cell(", ".join(sorted({text.partition(":")[0] for text in row.findings})) or numbers.DASH, None)


def _cell(text: str | None, value: float | None, *, below: str = "", is_best: bool = False) -> dict[str, Any]:
    is_number = value is not None and not math.isnan(value)
    shown = text if text is not None else f"{value:g}" if value is not None else numbers.DASH
    return {
        "text": shown,
        "value": repr(float(value)) if is_number and value is not None else "",
        "below": below,
        "best": is_best,
    }


def _matrices(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    shown = _runs(entries)
    means = {label: np.array([result.matrix for result in runs]) for label, runs in shown.items()}
    low = min(float(np.nanmin(each.mean(axis=0))) for each in means.values())
    high = max(float(np.nanmax(each.mean(axis=0))) for each in means.values())
    for entry in entries:
        matrices = means[entry.label]
        result = shown[entry.label][0]
        rows = []
        for row, name in enumerate(row_names(result)):
            cells = [_matrix_cell(result, matrices, row, column, (low, high)) for column in range(result.num_tasks)]
            rows.append({"name": name, "cells": cells})
        yield {
            "label": entry.label,
            "domains": result.stream.domains,
            "rows": rows,
            "n": len(matrices),
            "order": order_of(result, entries),
        }


def _runs(entries: Sequence[Entry]) -> dict[str, list[Result]]:
    """Return the runs whose matrices are averaged; each entry by itself where they share no order of domains."""
    try:
        return same_order(entries)
    except MissingResult:
        return {label: runs for entry in entries for label, runs in same_order([entry]).items()}


def _matrix_cell(result: Result, matrices: Array, row: int, column: int, limits: tuple[float, float]) -> dict[str, Any]:
    values = matrices[:, row, column]
    value, base, domain = float(values.mean()), float(matrices[:, 0, column].mean()), result.stream.domains[column]
    has_stages = len(result.plan.stages) == result.num_tasks
    kind = "" if row == 0 else "unseen" if row <= column else "own" if row == column + 1 and has_stages else "seen"
    if math.isnan(value):
        return {"text": numbers.DASH, "style": "", "kind": "missing", "tip": f"{domain}: no such cell in this plan"}
    shade = _shade((value - limits[0]) / ((limits[1] - limits[0]) or 1.0))
    place = f"after stage {row}" if row else "untouched LM"
    told = {"unseen": "not seen yet", "own": "just learned", "seen": "seen before"}.get(kind, "")
    spread = f" ± {numbers.percent(float(values.std(ddof=1)))}" if len(values) > 1 else ""
    change = f"; against row 0: {numbers.points(value - base)}" if row else ""
    tip = f"{domain}, {place}{f', {told}' if told else ''}: {numbers.percent(value)} %{spread} (n = {len(values)}){change}"
    style = f"background:rgb({','.join(map(str, shade))});color:{ink_on([part / 255 for part in shade])}"
    return {"text": numbers.percent(value), "style": style, "kind": kind, "tip": tip}


def _shade(place: float) -> tuple[int, ...]:
    position = min(max(place, 0.0), 1.0) * (len(_SHADES) - 1)
    index = min(int(position), len(_SHADES) - 2)
    share = position - index
    return tuple(round(a + (b - a) * share) for a, b in zip(_SHADES[index], _SHADES[index + 1], strict=True))


def _data(board: Board, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return what the page's script needs: matrices by run, and the differences of all pairs of methods."""
    runs = _runs(entries)
    rows = [row_names(runs[entry.label][0]) for entry in entries]
    pairs = {}
    if len(board.rows) <= MAX_PAIRED:
        for (i, one), (j, other) in combinations(enumerate(board.rows), 2):
            pairs[f"{i}-{j}"] = [_pair(one, other, name, board.question.confidence) for name in board.question.metrics]
    return {
        "labels": [entry.label for entry in entries],
        "domains": [list(runs[entry.label][0].stream.domains) for entry in entries],
        "rows": rows,
        "matrices": [
            {f"{result.order}:{result.seed}": _plain(result.matrix) for result in runs[entry.label]}
            for entry in entries
        ],
        "metrics": list(board.question.metrics),
        "better": [METRICS[name].better for name in board.question.metrics],
        "pairs": pairs,
    }


def _plain(matrix: Array) -> list[list[float | None]]:
    return [[None if math.isnan(value) else round(value, 6) for value in row] for row in matrix.tolist()]


def _pair(one: Row, other: Row, metric: str, confidence: float) -> list[float | None]:
    """Return mean, limits and number of the paired differences of two rows."""
    found = mean_interval(differences(one.scores[metric], other.scores[metric]), confidence=confidence)
    return [None if math.isnan(value) else value for value in (found.mean, found.low, found.high)] + [found.n]


def _run(entry: Entry, result: Result) -> dict[str, Any]:
    settings = {"method": result.method.settings, "base": result.recipe.base or {}}
    settings |= {"pretrain": result.recipe.pretrain, "finetune": result.recipe.finetune}
    return {
        "label": entry.label,
        "result": result,
        "scores": [numbers.metric_number(name, result.computed_metrics[name]) for name in ("A_Acc", "O_Acc", "F_Acc")],
        "command": command_line(result),
        "settings": [
            (f"{part}.{key}", json.dumps(value, ensure_ascii=False), f"{part}.{key}" in result.changed)
            for part, values in settings.items()
            for key, value in values.items()
        ],
    }
