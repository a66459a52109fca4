"""What a job would compute, what the store has, and what the rest would take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ctbench.data.overlap import inside_general
from ctbench.data.problems import overlap_problem
from ctbench.data.schema import GENERAL
from ctbench.data.split import CorpusSize, text_digest
from ctbench.engine.estimate import Estimator, costs, estimate, work_of
from ctbench.engine.graph import preflight, read_runs
from ctbench.engine.inputs import Inputs
from ctbench.engine.job import Job
from ctbench.engine.launchers.agenda import missing
from ctbench.engine.launchers.capacity import auto_workers
from ctbench.engine.node import Node
from ctbench.engine.otherranks import other_ranks
from ctbench.engine.recipes import passes, passes_line, recipe_remarks
from ctbench.engine.schedule import makespan
from ctbench.engine.slurm.forecast import GridForecast, forecast_grid
from ctbench.engine.slurm.options import SlurmOptions
from ctbench.engine.speeds import read_speeds
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig
from ctbench.reporting.notebook import table_html
from ctbench.reporting.numbers import DASH, rough_duration, size
from ctbench.reporting.tables import Cell, Table

PLURALS: Final = {"base": "bases", "stage": "stages", "loss": "losses", "cell": "cells"}
_ELSEWHERE: Final = {"slurm": "as jobs of a cluster", "ray": "as workers of a Ray cluster"}
"""What stands in place of a time by launcher: this machine knows neither the number nor the speed of theirs."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Forecast:
    """What a job would compute.

    Args:
        rows: one per kind of node: `kind`, `total`, `cached`, `missing`, `tokens` to train on, `seconds` on one worker
            (None if nothing is known), `source` of the seconds ("store", "bench" or None), and `bytes` of disk.
        num_runs: number of runs.
        workers: number of workers of this machine that would compute; 0 if nothing is missing, or a cluster computes.
        seconds: time on all of them; None if nothing is known.
        unknown: a node of each model, precision and device whose speed is not known here.
        notes: passes over the texts, and what is unusual about the recipes.
        grid: what it takes as jobs of SLURM; None if others would compute.
        elsewhere: how a cluster would compute; "" if this machine would.
    """

    rows: tuple[Mapping[str, Any], ...]
    num_runs: int = 1
    workers: int = 0
    seconds: float | None = None
    unknown: tuple[Node, ...] = field(default=(), compare=False)
    notes: tuple[str, ...] = ()
    grid: GridForecast | None = None
    elsewhere: str = ""

    @property
    def total(self) -> Mapping[str, Any]:
        """The sums over all kinds, under the same names, with `runs`, `workers` and their `wall_seconds`."""
        sums = {key: sum(row[key] for row in self.rows) for key in ("total", "cached", "missing", "tokens", "bytes")}
        seconds = [row["seconds"] for row in self.rows]
        known = None if None in seconds else sum(seconds)
        sources = {row["source"] for row in self.rows if row["missing"]}
        source = None if known is None or not sources else "bench" if "bench" in sources else "store"
        found = {"kind": "total", **sums, "seconds": known, "source": source}
        return {**found, "runs": self.num_runs, "workers": self.workers, "wall_seconds": self.seconds}

    @property
    def num_nodes(self) -> int:
        """Number of nodes that the job needs."""
        return sum(row["total"] for row in self.rows)

    @property
    def num_missing(self) -> int:
        """Number of nodes that the store lacks."""
        return sum(row["missing"] for row in self.rows)

    def record(self) -> list[dict[str, Any]]:
        """Return the rows and the total as plain JSON data."""
        grid = [] if self.grid is None else [self.grid.record()]
        return [dict(row) for row in (*self.rows, self.total)] + grid

    def table(self) -> Table:
        """Return the rows and the total as a table."""
        columns = ("nodes", "total", "cached", "missing", "tokens", "time on one worker", "disk", "estimated from")
        rows = tuple(tuple(Cell(text=text) for text in _texts(row)) for row in (*self.rows, self.total))
        return Table(title="Plan", columns=columns, rows=rows, left=("estimated from",))

    def __str__(self) -> str:
        grid = [] if self.grid is None else [str(self.grid)]
        return "\n".join([*map(_line, self.rows), *self.notes, self._last_line(), *grid])

    def _last_line(self) -> str:
        total, runs = self.total, f"{self.num_runs} run{'s' if self.num_runs > 1 else ''}"
        if not self.num_missing:
            return f"total: {runs}, nothing to compute"
        where = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        time = "time unknown" if self.seconds is None else f"about {rough_duration(self.seconds)} on {where}"
        time = self.elsewhere or time
        nodes = f"{self.num_missing:,} node{'s' if self.num_missing > 1 else ''} to compute"
        return f"total: {runs}, {nodes}: {total['tokens']:,} tokens, {time}, {_disk(total)} of disk"

    def __repr__(self) -> str:
        return f"Forecast({self.num_nodes} nodes, {self.num_missing} of them to compute)"

    def _repr_html_(self) -> str:
        return table_html(self.table())


def forecast(jobs: Sequence[Job], *, gpus: int | None = None) -> Forecast:
    """Return what jobs would compute; nothing is computed or written.

    Args:
        jobs: the options.
        gpus: GPUs of the cluster that are free.

    Raises:
        CTBenchError: a mistake in a job, or data or a model that its run would refuse.
    """
    cluster = jobs[0].cluster
    if gpus is not None and not isinstance(cluster, SlurmOptions):
        raise BadConfig("--gpus is for --launcher slurm, which was not given")
    store = Store(home() / "store", writes=False)
    runs = read_runs(jobs)
    nodes = [node for run in runs for node in run.nodes]
    todo = missing(nodes, store)
    inputs = [run.inputs for run in runs]
    examined = preflight(inputs, store, packs=False) if todo else []
    speeds = read_speeds(home())
    every = {node.key: node for node in nodes}.values()
    estimator = Estimator(every, store, speeds, held_out=dict(_held_out(examined)))
    rows = estimate(every, store, estimator=estimator)
    workers, elsewhere = jobs[0].num_workers, _ELSEWHERE.get(jobs[0].launcher, "")
    count = (auto_workers(todo) if workers is None else max(1, workers)) if todo and not elsewhere else 0
    guesses = {node.key: estimator.guess(node) for node in todo}
    known = {key: guess.seconds for key, guess in guesses.items() if guess is not None}
    unknown = {(*work_of(node), node.kind == "cell"): node for node in todo if node.key not in known}
    seconds = 0.0 if not todo else None if unknown or elsewhere else makespan(todo, known, workers=count)
    grid = None
    if isinstance(cluster, SlurmOptions) and todo:
        cost, is_measured = costs(todo, store, home())
        grid = forecast_grid(todo, cost, options=cluster, gpus=gpus, is_measured=is_measured)
    return Forecast(
        rows=tuple(rows),
        num_runs=len(runs),
        workers=count,
        seconds=seconds,
        unknown=tuple(unknown.values()),
        notes=(*_notes(inputs, examined), *_overlaps(inputs, todo), *other_ranks(todo, store)),
        grid=grid,
        elsewhere=elsewhere,
    )


def _held_out(examined: Iterable[tuple[Inputs, tuple[CorpusSize, ...]]]) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield how many tokens of each text are held out, by model and fingerprint of the text."""
    for inputs, sizes in examined:
        for each in sizes:
            text = text_digest(inputs.stream, GENERAL) if each.name is None else inputs.text[each.name]
            yield (inputs.model, text), each.held_out_tokens


def _notes(inputs: Sequence[Inputs], examined: Sequence[tuple[Inputs, tuple[CorpusSize, ...]]]) -> tuple[str, ...]:
    """Return how often stages pass over the texts and which learning rates are unusual, by stream if there are several."""
    lines = [
        (each.stream.name, passes_line(found)) for each, sizes in examined if (found := passes(each.stream, sizes))
    ]
    lines += [(each.stream.name, line) for each in inputs for line in recipe_remarks(each.stream, each.model)]
    is_one = len({each.stream.name for each in inputs}) == 1
    return tuple(dict.fromkeys(line if is_one else f"{name}: {line}" for name, line in lines))


def _overlaps(inputs: Sequence[Inputs], todo: Sequence[Node]) -> Iterator[str]:
    """Say which domains a base that is to be trained on general text would know beforehand."""
    keys, seen = {node.key for node in todo}, set()
    for each in inputs:
        if each.base is not None and each.base.key in keys and each.base.key not in seen:
            seen.add(each.base.key)
            for domain, share in inside_general(each.stream):
                yield from overlap_problem(share, f"domain {domain} of {each.stream.name}")


def _texts(row: Mapping[str, Any]) -> tuple[str, ...]:
    seconds = DASH if row["seconds"] is None else f"{row['seconds']:.0f} s"
    numbers = (f"{row[key]:,}" for key in ("total", "cached", "missing", "tokens"))
    return PLURALS.get(row["kind"], row["kind"]), *numbers, seconds, _disk(row), row["source"] or DASH


def _disk(row: Mapping[str, Any]) -> str:
    return size(row["bytes"])


def _line(row: Mapping[str, Any]) -> str:
    seconds = "time unknown" if row["seconds"] is None else f"about {row['seconds']:.0f} s on one worker"
    if row["source"] == "bench":
        seconds += ", estimated from a bench of this machine"
    nodes = "node, " if row["total"] == 1 else "nodes,"
    return (
        f"{PLURALS[row['kind']]:6} {row['total']:4} {nodes} {row['cached']:4} cached, {row['missing']:4} missing: "
        f"{row['tokens']:,} tokens, {seconds}"
    )
