"""The scaling study: time and memory against number of domains, corpus size, seeds and workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ctbench.errors import BadConfig, unwritable
from ctbench.machine.files import write_whole
from ctbench.reporting.numbers import DASH
from ctbench.reporting.plots.looks import look
from ctbench.reporting.plots.style import GREY, save, styled
from ctbench.reporting.tables import Table, csv_text, markdown, text_rows
from ctbench.results.files import OTHER_FILE
from ctbench.speed.cases import Case, run_case

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One field of a case that the study varies.

    Args:
        name: name of the field of `Case`.
        label: label in tables and plots, with unit.
        work: column that measures the amount of work of a case.
        quick: values of the quick study; the first one is the start case's.
        full: values of the full study.
        keeps_numbers: whether weights and scores of all cases must be equal.
    """

    name: str
    label: str
    work: str
    quick: tuple[float, ...]
    full: tuple[float, ...]
    keeps_numbers: bool = False


AXES: Final = (
    Axis(name="domains", label="domains", work="tokens", quick=(2, 4), full=(2, 4, 8, 16)),
    Axis(name="megabytes", label="corpus, MB", work="megabytes", quick=(1, 4), full=(1, 10, 100)),
    Axis(name="seeds", label="seeds", work="tokens", quick=(1, 2), full=(1, 2, 4)),
    Axis(name="workers", label="workers", work="tokens", quick=(1, 2), full=(1, 2, 4), keeps_numbers=True),
)
COLUMNS: Final = ("axis", "value", "nodes", "tokens", "megabytes", "wall_seconds", "cpu_seconds", "peak_memory_bytes")

Runner = Callable[[Case], Mapping[str, Any]]


def measure_scaling(
    *, quick: bool, say: Callable[[str], None], common: Case | None = None, run: Runner = run_case
) -> dict[str, Any]:
    """Vary one field of the start case after another.

    Args:
        quick: use few and small values.
        say: called with a line of text before every case.
        common: the start case.
        run: runs a case.

    Returns:
        `machine`, `rows` (one per case and axis) and `growth` (one per axis).
    """
    from ctbench.speed.machine import describe

    start = Case() if common is None else common
    known: dict[Case, Mapping[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    for axis in AXES:
        for value in axis.quick if quick else axis.full:
            case = replace(start, **{axis.name: value})  # type: ignore[arg-type]  # the axes are numeric fields
            if case not in known:
                say(f"{axis.label}: {value:g}")
                known[case] = run(case)
            rows.append({"axis": axis.name, "value": value, **known[case]})
    return {
        "kind": "scaling",
        "schema": 1,
        "ctbench": version("ctbench"),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "quick": quick,
        "common": asdict(start),
        "machine": describe(),
        "rows": rows,
        "growth": [summarise(axis, [row for row in rows if row["axis"] == axis.name]) for axis in AXES],
    }


def summarise(axis: Axis, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the cost of the last case of an axis relative to the first: work, CPU time, wall time, memory.

    `time_over_work` above 1 means that time grows faster than the work. `same_numbers` tells whether all cases have the
    same weights and scores; it is None for an axis that changes them.
    """
    first, last = rows[0], rows[-1]
    times = {key: last[key] / first[key] for key in ("cpu_seconds", "wall_seconds", "peak_memory_bytes")}
    work = last[axis.work] / first[axis.work]
    return {
        "axis": axis.name,
        "work": work,
        **times,
        "time_over_work": times["cpu_seconds"] / work,
        "same_numbers": len({row["numbers"] for row in rows}) == 1 if axis.keeps_numbers else None,
    }


def keep_scaling(document: dict[str, Any], *, path: Path | None) -> list[Path]:
    """Write the document to `path` as JSON, and next to it as .md, .csv and .png; do nothing without a path.

    Raises:
        BadConfig: a file cannot be written.
    """
    if path is None:
        return []
    rows = [[row[column] for column in COLUMNS] for row in document["rows"]]
    texts = {
        ".json": json.dumps(document, indent=1) + "\n",
        ".csv": csv_text([COLUMNS, *rows]),
        ".md": "\n".join(markdown(table) for table in scaling_tables(document)),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for suffix, text in texts.items():
            write_whole(path.with_suffix(suffix), text)
    except OSError as error:
        raise BadConfig(unwritable(f"'{path}'", error, OTHER_FILE)) from None
    return [*(path.with_suffix(suffix) for suffix in texts), draw_scaling(document, path.with_suffix(".png"))]


def scaling_tables(document: dict[str, Any]) -> list[Table]:
    """Return a table of the cases and a table of the growth along each axis."""
    rows = [
        (
            row["axis"],
            f"{row['value']:g}",
            f"{row['nodes']:,}",
            f"{row['tokens'] / 1e6:.2f}",
            f"{row['megabytes']:.1f}",
            f"{row['wall_seconds']:.1f}",
            f"{row['cpu_seconds']:.1f}",
            f"{row['peak_memory_bytes'] / 2**20:,.0f}",
        )
        for row in document["rows"]
    ]
    columns = ("axis", "value", "nodes", "M tokens", "MB", "wall s", "CPU s", "peak MiB")
    growth = [
        (
            row["axis"],
            *(f"{row[key]:.2f}" for key in ("work", "cpu_seconds", "wall_seconds", "peak_memory_bytes")),
            {None: DASH, True: "yes", False: "no"}[row["same_numbers"]],
        )
        for row in document["growth"]
    ]
    names = ("axis", "work", "CPU time", "wall time", "peak memory", "same numbers")
    machine = document["machine"]
    note = f"{machine['processor']}, {machine['cores']} cores; memory of the largest process"
    return [
        _table("scaling: cases", columns, rows, note),
        _table("scaling: last case relative to the first", names, growth, ""),
    ]


def _table(title: str, columns: tuple[str, ...], rows: Sequence[Sequence[str]], note: str) -> Table:
    return Table(title=title, columns=columns, rows=text_rows(rows), num_keys=1, notes=(note,) if note else ())


def draw_scaling(document: dict[str, Any], path: Path) -> Path:
    """Plot time and memory against each axis and return the path of the file."""
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(2.7 * len(AXES), 5.2), layout="constrained")
        panels = figure.subplots(2, len(AXES), sharey="row", squeeze=False)
        for column, axis in enumerate(AXES):
            rows = [row for row in document["rows"] if row["axis"] == axis.name]
            _draw_time(panels[0, column], rows, axis)
            _draw_memory(panels[1, column], rows, axis)
        _mark_seconds(panels[0, 0])
        panels[1, 0].set_ylim(bottom=0, top=1.2 * max(row["peak_memory_bytes"] for row in document["rows"]) / 2**20)
        panels[1, 0].set_ylabel("peak memory, MiB")
        panels[0, 0].legend()
    return save(figure, path)


def _draw_time(panel: Axes, rows: Sequence[Mapping[str, Any]], axis: Axis) -> None:
    values = [row["value"] for row in rows]
    for index, (key, label) in enumerate((("cpu_seconds", "CPU time"), ("wall_seconds", "wall time"))):
        style = look(index)
        times = [row[key] for row in rows]
        panel.plot(values, times, color=style.colour, linestyle=style.dash, marker=style.marker, label=label)
    first = rows[0]
    ideal = [first["cpu_seconds"] * row[axis.work] / first[axis.work] for row in rows]
    panel.plot(values, ideal, color=GREY, linewidth=1, label="proportional to work")
    _mark(panel, values)


def _mark_seconds(panel: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(ScalarFormatter())
    panel.set_ylabel("seconds")


def _draw_memory(panel: Axes, rows: Sequence[Mapping[str, Any]], axis: Axis) -> None:
    values, style = [row["value"] for row in rows], look(2)
    memory = [row["peak_memory_bytes"] / 2**20 for row in rows]
    panel.plot(values, memory, color=style.colour, marker=style.marker)
    _mark(panel, values)
    panel.set_xlabel(axis.label)


def _mark(panel: Axes, values: Sequence[float]) -> None:
    panel.set_xscale("log")
    panel.set_xticks(list(values), [f"{value:g}" for value in values])
    panel.minorticks_off()
