"""What a single result looks like in a terminal: matrices, metrics, cost, findings. Pure functions of the result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ctbench.findings import known_findings
from ctbench.metrics import METRICS
from ctbench.schema import Result

DASH = "–"
"""What stands where a number is missing; never a 0."""


def percent(value: float | None) -> str:
    """Return a score in percent with one decimal, or a dash.

    Example:
        >>> percent(0.9456)
        '94.6'
    """
    return DASH if value is None or math.isnan(value) else f"{100 * value:.1f}"


def plain_number(value: float | None) -> str:
    """Return a loss with three decimals, or a dash."""
    return DASH if value is None or math.isnan(value) else f"{value:.3f}"


def big_number(value: float | None) -> str:
    """Return a count in thousands (k), millions (M) or billions (G).

    Example:
        >>> big_number(1_280_000)
        '1.28M'
    """
    if value is None:
        return DASH
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def describe(result: Result, *, explain: bool = False) -> Iterator[RenderableType]:
    """Yield the parts of a result in the order in which a reader wants them."""
    stream, method = result.stream, result.method
    yield Text(f"{method.name} on {stream.name}, seed {result.seed}, order {result.order}", style="bold")
    yield Text(
        f"{stream.kind} shift, {len(stream.domains)} domains; backbone {result.backbone.name} "
        f"({big_number(result.backbone.parameters)} parameters), {result.precision}; recipe {result.recipe.name}; "
        f"key {result.key[:12]}"
    )
    yield matrix_table(result)
    yield loss_table(result)
    yield metric_table(result, explain=explain)
    yield cost_line(result)
    if result.control is not None:
        scores = ", ".join(percent(score) for score in result.control.scores)
        yield Text(f"control (base trained on {big_number(result.control.tokens)} tokens of general text): {scores}")
    for reason in result.not_comparable:
        yield Text(f"off the leaderboard: {reason}")
    for finding in known_findings(result):
        yield Text(f"finding {finding.code}: {finding.message}", style="yellow")


def matrix_table(result: Result) -> Table:
    """Return the anytime matrix in percent; [brackets] mark the domain just learned, the unseen half is dim."""
    table = _grid("score after fine-tuning, %", result.stream.domains)
    for row, values in enumerate(result.matrix.tolist()):
        cells = []
        for column, value in enumerate(values):
            text = percent(value)
            current, unseen = row == column + 1, 0 < row <= column
            cells.append(
                Text(f"[{text}]" if current else f" {text} ", style="bold" if current else "dim" if unseen else "")
            )
        table.add_row(_row_name(result, row), *cells)
    for name, values in (("majority", result.stream.majority), ("Bayes", result.stream.bayes)):
        if values:
            table.add_row(
                name, *(Text(f" {percent(values.get(domain))} ") for domain in result.stream.domains), style="dim"
            )
    return table


def loss_table(result: Result) -> Table:
    """Return the held-out LM losses in nats per predicted token."""
    table = _grid("held-out LM loss, nats", result.stream.domains)
    for row, values in enumerate(result.lm_loss.tolist()):
        table.add_row(_row_name(result, row), *(plain_number(value) for value in values))
    return table


def metric_table(result: Result, *, explain: bool = False) -> Table:
    """Return the metrics in percent, with their definitions on request."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric, %", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    if explain:
        table.add_column("definition", overflow="fold")
    for name, value in result.metrics.items():
        definition = [METRICS[name].definition if name in METRICS else ""] if explain else []
        table.add_row(name, percent(value), *definition)
    return table


def cost_line(result: Result) -> Text:
    """Return what the run cost, in one line."""
    cost = result.cost
    parts = [
        f"{big_number(cost.tokens)} tokens",
        f"{big_number(cost.forward_tokens)} forward tokens",
        f"{cost.seconds:.0f} s of stages",
        f"{cost.cell_seconds or 0:.0f} s of cells",
        f"peak {big_number(cost.peak_memory_bytes)}B",
        f"{big_number(cost.added_parameters)} added parameters",
        f"{big_number(cost.stored_bytes)}B stored",
    ]
    traits = result.method.traits
    held = [name.replace("_", " ") for name in ("stores_text", "needs_domain", "grows") if getattr(traits, name)]
    return Text("cost: " + ", ".join(parts + held))


def _row_name(result: Result, row: int) -> str:
    return "0 base" if row == 0 else f"{row} {result.stream.domains[row - 1]}"


def _grid(title: str, domains: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="")
    table.add_column("row", no_wrap=True)
    for domain in domains:
        table.add_column(Text(domain), justify="right", no_wrap=True)
    return table


def rich_table(columns: Iterable[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> Table:
    """Return a plain table of texts; nothing in it is read as markup."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=Text(title) if title else None, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table
