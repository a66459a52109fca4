"""The trials of one method: their runs, their objective, and the record of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctbench.data.sources import read_examples
from ctbench.data.stream import Stream
from ctbench.engine.description import method_record, shown_model
from ctbench.engine.expand import RunGraph, expand
from ctbench.engine.failures import Failure, failure_records
from ctbench.engine.identity import StageIdentity
from ctbench.engine.inputs import Inputs, read_inputs
from ctbench.engine.job import Job
from ctbench.engine.labels import Labels
from ctbench.engine.node import Node, in_order
from ctbench.engine.records import StoredBase, StoredCell, seconds_of
from ctbench.engine.store import Store
from ctbench.errors import BadConfig
from ctbench.machine.provenance import provenance
from ctbench.randomness import make_generator
from ctbench.results.failures import FailureRecord, failure_lines
from ctbench.results.matrix import Array
from ctbench.results.metrics import compute
from ctbench.tuning.grid import Point, choose_points, grid_of, num_points
from ctbench.tuning.record import Tuning, tuning_from


@dataclass(frozen=True, kw_only=True)
class Search:
    """The search over one method: points of its grid, and their runs, one per run seed."""

    inputs: Inputs
    grid: dict[str, tuple[Any, ...]]
    points: list[Point]
    runs: list[list[RunGraph]]
    num_trials: int

    @property
    def nodes(self) -> list[Node]:
        """All nodes of the trials, bases and stages through their cells."""
        return [node for runs in self.runs for node in _cells(runs)]

    @property
    def headline(self) -> str:
        """One line: the tuned fields and the number of trials."""
        name, total = self.inputs.plugin.name, num_points(self.grid)
        if not self.grid:
            return f"{name}: no hyper-parameters to tune, its defaults only"
        fields = " x ".join(f"{key} ({len(values)})" for key, values in self.grid.items())
        if len(self.points) < self.num_trials:
            return f"{name}: {fields}, all {total} points of the grid, fewer than {self.num_trials} trials"
        return f"{name}: {fields}, {len(self.points)} trials on a grid of {total} points"

    def assess(self, store: Store, failures: Sequence[Failure] = ()) -> Tuning:
        """Return the trials with their objectives; the store must hold every node but for what failed."""
        inputs, stream, plugin = self.inputs, self.inputs.stream, self.inputs.plugin
        counts = num_texts(stream)
        trials = [
            _failed(point, runs, store, lines)
            if (lines := _failed_lines(runs, failures))
            else _trial(point, runs, store, counts)
            for point, runs in zip(self.points, self.runs, strict=True)
        ]
        best = max(trials, key=lambda trial: -1.0 if trial["objective"] is None else trial["objective"])
        return tuning_from(
            {
                "tuned_on": {
                    "stream": stream.name,
                    "stream_version": stream.version,
                    "language_seed": stream.language.seed if stream.language else None,
                    "data_digest": inputs.data_digest,
                    "backbone": shown_model(inputs.model),
                    "backbone_digest": inputs.backbone,
                    "base_weights": _weights(inputs, store),
                    "recipe": stream.recipe.name,
                    "protocol": inputs.protocol,
                    "changed": {key: text for key, text in inputs.job.settings.items() if key in stream.changed},
                },
                "method": method_record(self.runs[0][0]),
                "file": f"{plugin.path.parent.name}/{plugin.path.name}" if plugin.registered else plugin.path.name,
                "fixed": inputs.job.method_settings,
                "grid": self.grid,
                "num_points": num_points(self.grid),
                "num_trials": self.num_trials,
                "seeds": [run.seed for run in self.runs[0]],
                "trials": [{**trial, "is_default": index == 0} for index, trial in enumerate(trials)],
                "chosen": best["settings"],
                "provenance": provenance(),
            }
        )


def plan_search(job: Job, count: int, seeds: Sequence[int]) -> Search:
    """Return the search over a method: at most `count` points of its grid, each with a run per seed.

    Raises:
        BadConfig: nothing is left to tune, or the method's plan leaves the objective undefined.
    """
    inputs = read_inputs(job)
    cls, name = type(inputs.method), inputs.plugin.name
    grid = grid_of(cls, name, fixed=tuple(job.method_settings))
    if not grid and grid_of(cls, name):
        raise BadConfig(f"method {name} has nothing left to tune: --set fixes every field that it declares")
    defaults = {key: inputs.method.settings()[key] for key in grid}
    points = choose_points(grid, defaults, count, make_generator(seeds[0], [name], "trials"))
    runs = []
    for number, point in enumerate(points, start=1):
        trial = inputs.with_settings({**job.method_settings, **point})
        title = _title(name, number, len(points), point)
        seed_titles = [f"{title}, seed {seed}" if len(seeds) > 1 else title for seed in seeds]
        starts = [f"{name}, all trials, seed {seed}" if len(seeds) > 1 else f"{name}, all trials" for seed in seeds]
        labels = [Labels(run=text, start=start) for text, start in zip(seed_titles, starts, strict=True)]
        runs.append([expand(trial, seed, label) for seed, label in zip(seeds, labels, strict=True)])
    if grid and any(source is None for each in runs for row in each[0].plan.cells for source in row):
        raise BadConfig(
            f"the plan of method {name} leaves cells empty, so `anytime` is undefined and trials cannot be ranked; "
            "remove its `tune` tuples"
        )
    return Search(inputs=inputs, grid=grid, points=points, runs=runs, num_trials=count)


def _title(name: str, number: int, count: int, point: Point) -> str:
    """Return what the nodes of a trial are called."""
    settings = ", ".join(f"{key}={value}" for key, value in point.items())
    return f"{name}, trial {number} of {count}" + (f" ({settings})" if settings else "")


def judged_cells(run: RunGraph) -> dict[tuple[int, int], tuple[Node, ...]]:
    """Return the cells that the objective reads, by row and column, one node per fine-tuning seed; row 0 is not read."""
    return {
        (row, column): tuple(run.cells[source, name, seed] for seed in run.stream.recipe.finetune.seeds)
        for row, sources in enumerate(run.plan.cells)
        for column, (source, name) in enumerate(zip(sources, run.stream.names, strict=True))
        if row > 0 and source is not None
    }


def _cells(runs: Sequence[RunGraph]) -> list[Node]:
    """Return the cells that the objective of a trial reads."""
    return [node for run in runs for nodes in judged_cells(run).values() for node in nodes]


def objective(run: RunGraph, store: Store) -> float:
    """Return the metric `anytime` of a run's validation scores; NaN where its plan leaves it undefined."""
    return compute("anytime", _validation_matrix(run, store))


def _validation_matrix(run: RunGraph, store: Store) -> Array:
    num_tasks = len(run.stream.names)
    matrix: Array = np.full((num_tasks + 1, num_tasks), np.nan)
    for (row, column), nodes in judged_cells(run).items():
        metric = run.stream.domains[column].task.metric
        matrix[row, column] = np.mean([_validation_score(store, node, metric) for node in nodes])
    return matrix


def num_texts(stream: Stream) -> list[int]:
    """Return the number of validation texts of every domain."""
    return [len(read_examples(stream, domain, "validation")) for domain in stream.domains]


def standard_error(matrices: Sequence[Array], counts: Sequence[int]) -> float:
    """Return the standard error of the mean of `anytime` over run seeds.

    Two things add up: the share of right answers among n texts has the variance p (1 - p) / n, where the cells of a
    domain share its texts and are taken to err alike; and run seeds differ, which only two or more of them show.

    Args:
        matrices: validation scores [T+1, T] of each run seed.
        counts: number of validation texts of each domain, [T].

    Examples:
        >>> round(standard_error([np.array([[np.nan], [0.5]])], [100]), 3)
        0.05
    """
    mean = np.mean(matrices, axis=0)
    weights = np.zeros_like(mean)
    for place in np.argwhere(~np.isnan(mean)):  # `anytime` is linear in the cells
        one = np.where(np.isnan(mean), np.nan, 0.0)
        one[tuple(place)] = 1.0
        weights[tuple(place)] = compute("anytime", one)
    spread = np.nan_to_num(np.sqrt(np.clip(mean * (1 - mean), 0.0, None) / np.asarray(counts)))
    texts = float(((weights * spread).sum(axis=0) ** 2).sum())
    values = [compute("anytime", matrix) for matrix in matrices]
    seeds = float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0
    return math.sqrt(texts + seeds)


def _weights(inputs: Inputs, store: Store) -> str:
    """Return the digest of the weights of a base that was computed here; empty if its files came with it, or if it failed."""
    if inputs.base is None or not store.has(inputs.base.key):
        return ""
    record = store.read(inputs.base.key)
    assert isinstance(record, StoredBase)
    return record.weights_digest


def _validation_score(store: Store, node: Node, metric: str) -> float:
    record = store.read(node.key)
    assert isinstance(record, StoredCell) and record.validation is not None
    score = record.validation[metric]
    return math.nan if score is None else score


def _failed_lines(runs: Sequence[RunGraph], failures: Sequence[Failure]) -> list[str]:
    """Return a line for each node that failed and that the objective of a trial needs."""
    failed = failure_records(failures, in_order(_cells(runs)))
    return failure_lines(FailureRecord(**record) for record in failed)


def _failed(point: Point, runs: Sequence[RunGraph], store: Store, lines: Sequence[str]) -> dict[str, Any]:
    return {
        "settings": point,
        "objective": None,
        "seconds": _seconds(runs, store),
        "keys": [run.key for run in runs],
        "failures": lines,
    }


def _trial(point: Point, runs: Sequence[RunGraph], store: Store, counts: Sequence[int]) -> dict[str, Any]:
    value = float(np.mean([objective(run, store) for run in runs]))
    error = math.nan if math.isnan(value) else standard_error([_validation_matrix(run, store) for run in runs], counts)
    return {
        "settings": point,
        "objective": None if math.isnan(value) else value,
        "standard_error": None if math.isnan(error) else error,
        "seconds": _seconds(runs, store),
        "keys": [run.key for run in runs],
    }


def _seconds(runs: Sequence[RunGraph], store: Store) -> float:
    """Return the wall time of what was computed of a trial; a stage in two nodes counts once, as the second holds both."""
    computed = [node for node in in_order(_cells(runs)) if node.kind != "base" and store.has(node.key)]
    stages = [node for node in computed if isinstance(node.identity, StageIdentity) and node.identity.goes_on]
    held = {node.parents[-1].key for node in stages}
    return sum(seconds_of(store.read(node.key)) for node in computed if node.key not in held)
