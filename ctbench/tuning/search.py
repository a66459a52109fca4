"""Choose hyper-parameters: the same number of trials for every method, judged on validation texts, test scores unseen.

The first trial of a method is its defaults, the others are a seeded sample of the grid that its fields declare. A trial
is a run like any other, so its nodes lie in the store and a killed tuning goes on. On a synthetic stream the trials are
run on another language than the reported one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctbench.assemble import method_record, shown_model
from ctbench.data.schema import SyntheticTask
from ctbench.data.settings import Language
from ctbench.data.stream import Stream
from ctbench.errors import BadConfig
from ctbench.expand import Expander
from ctbench.graph import Node, in_order
from ctbench.job import Job, Run
from ctbench.launch import launch, missing
from ctbench.metrics import Array, compute
from ctbench.plugins import get_stream
from ctbench.provenance import provenance
from ctbench.randomness import make_generator
from ctbench.results import check_writable
from ctbench.runner import Listener, check_data
from ctbench.store import Store, home
from ctbench.tuning.grid import Point, choose_points, grid_of, num_points
from ctbench.tuning.record import Tuning, tuning_from, write_tuning
from ctbench.workers import auto_workers

LANGUAGE_SEED = 7
"""The language that synthetic streams are tuned on unless the caller names one."""


def tune(
    *,
    methods: Sequence[str],
    stream: str,
    trials: int = 8,
    seeds: Sequence[int] = (0,),
    settings: Mapping[str, str] | None = None,
    method_settings: Mapping[str, Any] | None = None,
    language_seed: int | None = None,
    allow_reported: bool = False,
    results: str | Path = "results",
    workers: int | None = None,
    listen: Callable[[Sequence[Node]], Listener] | None = None,
    say: Callable[[str], None] = print,
    **options: Any,
) -> list[Tuning]:
    """Try hyper-parameters of methods on a stream and write one tuning file per method; no method is edited.

    Args:
        methods: names or paths.
        stream: name or path.
        trials: how many for each method, its defaults included; a smaller grid is tried whole.
        seeds: run seeds of every trial; the objective is the mean over them, and the first one draws the sample.
        settings: changes of the protocol; fine-tuning seeds are [0] unless they say otherwise.
        method_settings: fields to fix; they are not tuned.
        language_seed: language of a synthetic stream, by default `LANGUAGE_SEED`.
        allow_reported: whether a synthetic stream may be tuned on its own language, the reported one.
        results: folder of result files; tuning files go to `tuning` in it.
        workers: processes; 0 computes in this one, None picks what suits the machine.
        listen: given the nodes that a method needs, returns what is told about every event.
        say: given a line now and then.
        options: other fields of `Job`: model, recipe, online.

    Raises:
        CTBenchError: a mistake in the call, before anything is computed, or a node that failed.
    """
    if trials < 1:
        raise BadConfig(f"trials is {trials}; at least 1 is wanted, the defaults")
    check_writable(results)
    settings = tuning_settings(
        stream,
        settings or {},
        recipe=options.get("recipe"),
        language_seed=language_seed,
        allow_reported=allow_reported,
    )
    searches = [
        _search(
            Job(method=method, stream=stream, settings=settings, method_settings=method_settings or {}, **options),
            trials,
            seeds,
        )
        for method in methods
    ]  # all of them before the first is computed, so that mistakes are found early
    store = Store(home() / "store")
    found: list[Tuning] = []
    for search in searches:
        say(search.headline)
        todo = missing(search.nodes, store)
        if todo and not found:
            check_data(search.expander.stream)
        launch(
            todo,
            store,
            home() / "corpora",
            workers=auto_workers(todo) if workers is None else workers,
            listen=listen(todo) if listen is not None and todo else lambda _event: None,
        )
        tuning = search.assess(store)
        path, status = write_tuning(tuning, results)
        say(f"{status}: {path}")
        say(tuning.advice)
        found.append(tuning)
    return found


def tuning_settings(
    stream: str,
    settings: Mapping[str, str],
    *,
    recipe: str | None = None,
    language_seed: int | None = None,
    allow_reported: bool = False,
) -> dict[str, str]:
    """Return the changes of a stream's protocol that trials are run under.

    Raises:
        BadConfig: a synthetic stream's own language, or a task without validation texts.

    Example:
        >>> tuning_settings("domain", {})
        {'finetune.seeds': '[0]', 'language.seed': '7'}
    """
    own = get_stream(stream, recipe=recipe)
    found = {"finetune.seeds": "[0]", **settings}
    if language_seed is not None:
        if "language.seed" in settings:
            raise BadConfig("--language-seed and --set language.seed say the same thing; give one of them")
        found["language.seed"] = str(language_seed)
    if own.language is not None:
        found.setdefault("language.seed", str(LANGUAGE_SEED))
        if own.language.num_validation == 0:
            found.setdefault("language.num_validation", str(Language.num_validation))
    tuned = get_stream(stream, recipe=recipe, settings=found)
    _check_language(own, tuned, allow_reported=allow_reported)
    _check_validation(tuned)
    return found


def _check_language(own: Stream, tuned: Stream, *, allow_reported: bool) -> None:
    if own.language is None or tuned.language is None or allow_reported:
        return
    if own.language.seed == tuned.language.seed:
        raise BadConfig(
            f"language seed {own.language.seed} is the one that stream {own.name} reports, and tuning on it would flatter "
            f"the method; choose another one with --language-seed (default {LANGUAGE_SEED}) or add --allow-reported"
        )


def _check_validation(stream: Stream) -> None:
    lacking = []
    for domain in stream.domains:
        if isinstance(domain.task, SyntheticTask):
            has_validation = stream.language is not None and stream.language.num_validation > 0
        else:
            has_validation = domain.task.validation is not None
        lacking += [] if has_validation else [domain.name]
    if lacking:
        key = "language.num_validation" if stream.language else "`validation` of [domains.task]"
        raise BadConfig(
            f"stream {stream.name} has no validation texts for {', '.join(lacking)}, and trials are judged by nothing else; "
            f"set {key}"
        )


@dataclass(frozen=True, kw_only=True)
class _Search:
    """The trials of one method: points of its grid, and their runs, one per run seed."""

    expander: Expander
    grid: dict[str, tuple[Any, ...]]
    points: list[Point]
    runs: list[list[Run]]
    num_trials: int

    @property
    def nodes(self) -> list[Node]:
        return [node for runs in self.runs for run in runs for nodes in judged_cells(run).values() for node in nodes]

    @property
    def headline(self) -> str:
        name, total = self.expander.plugin.name, num_points(self.grid)
        if not self.grid:
            return f"{name}: no hyper-parameters to tune, its defaults only"
        fields = " x ".join(f"{key} ({len(values)})" for key, values in self.grid.items())
        if len(self.points) < self.num_trials:
            return f"{name}: {fields}, all {total} points of the grid, fewer than {self.num_trials} trials"
        return f"{name}: {fields}, {len(self.points)} trials on a grid of {total} points"

    def assess(self, store: Store) -> Tuning:
        """Return the trials with their objectives; every node is in the store."""
        expander, stream, plugin = self.expander, self.expander.stream, self.expander.plugin
        trials = [_trial(point, runs, store) for point, runs in zip(self.points, self.runs, strict=True)]
        best = max(trials, key=lambda trial: -1.0 if trial["objective"] is None else trial["objective"])
        return tuning_from(
            {
                "tuned_on": {
                    "stream": stream.name,
                    "stream_version": stream.version,
                    "language_seed": stream.language.seed if stream.language else None,
                    "data_digest": expander.data_digest,
                    "backbone": shown_model(expander.model),
                    "backbone_digest": expander.backbone,
                    "recipe": stream.recipe.name,
                    "protocol": expander.protocol,
                    "changed": {key: text for key, text in expander.job.settings.items() if key in stream.changed},
                },
                "method": method_record(self.runs[0][0]),
                "file": f"{plugin.path.parent.name}/{plugin.path.name}" if plugin.registered else plugin.path.name,
                "grid": self.grid,
                "num_points": num_points(self.grid),
                "num_trials": self.num_trials,
                "seeds": [run.seed for run in self.runs[0]],
                "trials": [{**trial, "is_default": index == 0} for index, trial in enumerate(trials)],
                "chosen": best["settings"],
                "provenance": provenance(),
            }
        )


def _search(job: Job, count: int, seeds: Sequence[int]) -> _Search:
    expander = Expander(job)
    cls, name = type(expander.method), expander.plugin.name
    grid = grid_of(cls, name, fixed=tuple(job.method_settings))
    if not grid and grid_of(cls, name):
        raise BadConfig(f"method {name} has nothing left to tune: all that it declares is fixed by --set")
    defaults = {key: expander.method.settings()[key] for key in grid}
    points = choose_points(grid, defaults, count, make_generator(seeds[0], [name], "trials"))
    runs = []
    for point in points:
        trial = expander.with_settings({**job.method_settings, **point})
        runs.append([trial.run(seed) for seed in seeds])
    if grid and any(source is None for each in runs for row in each[0].plan.cells for source in row):
        raise BadConfig(
            f"the plan of method {name} leaves cells empty, so `anytime` is undefined and its trials cannot be ranked; "
            "remove its `tune` tuples"
        )
    return _Search(expander=expander, grid=grid, points=points, runs=runs, num_trials=count)


def judged_cells(run: Run) -> dict[tuple[int, int], tuple[Node, ...]]:
    """Return the cells that the objective reads, by row and column, one node per fine-tuning seed; row 0 has no part."""
    return {
        (row, column): tuple(run.cells[source, name, seed] for seed in run.stream.recipe.finetune.seeds)
        for row, sources in enumerate(run.plan.cells)
        for column, (source, name) in enumerate(zip(sources, run.stream.names, strict=True))
        if row > 0 and source is not None
    }


def objective(run: Run, store: Store) -> float:
    """Return the metric `anytime` of a run's validation scores; NaN where its plan leaves it undefined."""
    num_tasks = len(run.stream.names)
    matrix: Array = np.full((num_tasks + 1, num_tasks), np.nan)
    for (row, column), nodes in judged_cells(run).items():
        metric = run.stream.domains[column].task.metric
        matrix[row, column] = np.mean([store.record(node.key)["validation"][metric] for node in nodes])
    return compute("anytime", matrix)


def _trial(point: Point, runs: Sequence[Run], store: Store) -> dict[str, Any]:
    value = float(np.mean([objective(run, store) for run in runs]))
    cells = [node for run in runs for nodes in judged_cells(run).values() for node in nodes]
    return {
        "settings": point,
        "objective": None if math.isnan(value) else value,
        "seconds": sum(store.record(node.key)["seconds"] for node in in_order(cells) if node.kind != "base"),
        "keys": [run.key for run in runs],
    }
