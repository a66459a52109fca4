"""`ctbench compare`: leaderboards from result files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ctbench.cli.options import JsonOption, ResultsOption
from ctbench.errors import BadConfig, MissingResult, UnknownName
from ctbench.report.leaderboard import DEFAULT_METRICS, Board, Row, leaderboards
from ctbench.report.tables import DASH, big_number, percent

FORMATS = ("table", "markdown", "latex", "csv", "json")


def command(
    stream: Annotated[list[str] | None, typer.Option(help="Only these streams.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only these methods.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Columns; the first one orders the rows.")] = None,
    format_: Annotated[str, typer.Option("--format", help="table, markdown, latex, csv or json.")] = "table",
    everything: Annotated[bool, typer.Option("--all", help="Also show runs that are not comparable, apart.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse result files that cannot be used.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print the definition of every metric.")] = False,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Print one leaderboard per stream and protocol."""
    shape = "json" if as_json else format_
    if shape not in FORMATS:
        raise BadConfig(f"--format is '{shape}'; allowed: {', '.join(FORMATS)}")
    boards = _boards(stream or [], method or [], metric or list(DEFAULT_METRICS), everything, strict, results)
    if shape == "json":
        json.dump([dataclasses.asdict(board) for board in boards], sys.stdout, allow_nan=False)
        print()
    elif shape == "csv":
        print(_csv(boards), end="")
    elif shape == "table":
        _print(boards)
    else:
        print("\n\n".join(_markdown(board) if shape == "markdown" else _latex(board) for board in boards))
    if explain and shape == "table":
        from ctbench.metrics import METRICS

        for name, found in METRICS.items():
            print(f"{name}: {found.definition}. {found.source}")


def _boards(
    streams: list[str], methods: list[str], metrics: list[str], everything: bool, strict: bool, folder: Path
) -> list[Board]:
    from ctbench.results import read_results

    loaded = read_results(folder, strict=strict)
    for line in loaded.skipped:
        print(f"skipped {line}", file=sys.stderr)
    found = list(loaded.results)
    if not found:
        raise MissingResult(
            f"no results under {folder}; make some with ctbench run, or name another folder with --results"
        )
    known_streams, known_methods = {r.stream.name for r in found}, {r.method.name for r in found}
    for kind, names, known in (("stream", streams, known_streams), ("method", methods, known_methods)):
        for name in names:
            if name not in known:
                raise UnknownName(f"{kind} among the results", name, known, hint="ctbench ls runs")
    found = [
        r for r in found if (not streams or r.stream.name in streams) and (not methods or r.method.name in methods)
    ]
    left = sum(bool(result.not_comparable) for result in found)
    if left and not everything:
        print(f"{left} runs are not comparable and left out; --all shows them apart", file=sys.stderr)
    return leaderboards(found, metrics=metrics, everything=everything)


def _header(board: Board) -> list[str]:
    metrics = list(board.rows[0].scores)
    return [
        "method",
        "n",
        *(f"{name} %" for name in metrics),
        "tokens",
        "forward",
        "seconds",
        "added",
        "stored",
        "traits",
    ]


def _cells(row: Row) -> list[str]:
    scores = []
    for score in row.scores.values():
        spread = "" if score.deviation is None else f" ±{percent(score.deviation)}"
        scores.append(percent(score.mean) + (spread if score.mean is not None else ""))
    settings = ", ".join(f"{key.removeprefix('method.')}={value}" for key, value in row.changed.items())
    runs = max((score.n for score in row.scores.values()), default=0)
    cost = row.cost
    return [
        row.method + (f" ({settings})" if settings else ""),
        str(runs),
        *scores,
        big_number(cost["tokens"]),
        big_number(cost["forward_tokens"]),
        DASH if cost["seconds"] is None else f"{cost['seconds']:.0f}",
        big_number(cost["added_parameters"]),
        big_number(cost["stored_bytes"]),
        ", ".join(row.traits).replace("_", " ") or DASH,
    ]


def _title(board: Board) -> str:
    why = f"; off the leaderboard: {', '.join(board.reasons)}" if board.reasons else ""
    return f"{board.stream}, {board.backbone}, {board.precision}, protocol {board.protocol[:8]}{why}"


def _print(boards: list[Board]) -> None:
    from rich.console import Console

    from ctbench.report.tables import rich_table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    for board in boards:
        console.print(rich_table(_header(board), [_cells(row) for row in board.rows], title=_title(board)))
    print("mean ± standard deviation over n runs; cells are means over fine-tuning seeds; FWT's reference is row 0")


def _markdown(board: Board) -> str:
    lines = [_header(board), ["---"] * len(_header(board)), *map(_cells, board.rows)]
    table = "\n".join("| " + " | ".join(_escape(cell, "\\`*_|<>[]", "\\") for cell in line) + " |" for line in lines)
    return f"{_escape(_title(board), '*_`<>', chr(92))}\n\n{table}"


def _latex(board: Board) -> str:
    header, rows = _header(board), [_cells(row) for row in board.rows]
    body = [" & ".join(_tex(cell) for cell in line) + r" \\" for line in [header, *rows]]
    columns = "l" + "r" * (len(header) - 1)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0], r"\hline", *body[1:], r"\hline", r"\end{tabular}"]
    return f"% {_title(board)}\n" + "\n".join(lines)


def _escape(text: str, specials: str, mark: str) -> str:
    return "".join(mark + letter if letter in specials and text != "---" else letter for letter in text)


def _tex(text: str) -> str:
    words = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        DASH: "--",
    }
    return "".join(words.get(letter) or ("\\" + letter if letter in "&%$#_{}" else letter) for letter in text)


def _csv(boards: list[Board]) -> str:
    out = io.StringIO()
    metrics = list(boards[0].rows[0].scores) if boards else []
    writer = csv.writer(out, lineterminator="\n")
    names = [part for name in metrics for part in (name, f"{name}_sd", f"{name}_n")]
    costs = list(boards[0].rows[0].cost) if boards else []
    writer.writerow(
        ["stream", "backbone", "precision", "protocol", "off", "method", "settings", "seeds", *names, *costs]
    )
    for board in boards:
        for row in board.rows:
            scores = [part for score in row.scores.values() for part in (score.mean, score.deviation, score.n)]
            head = [board.stream, board.backbone, board.precision, board.protocol, "; ".join(board.reasons)]
            seeds = " ".join(map(str, row.seeds))
            writer.writerow([*head, row.method, json.dumps(row.changed), seeds, *scores, *row.cost.values()])
    return out.getvalue()
