"""Tune hyper-parameters: the same number of trials for every method, judged on validation texts, never on test scores.

The first trial of a method uses its defaults, the others are a seeded sample of the grid that its fields declare. A trial
is an ordinary run: the store keeps its nodes, so an interrupted tuning resumes. On a synthetic stream the trials use another
language than the reported one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctbench.data.override import METHOD
from ctbench.engine.failures import Failure, NodesFailed
from ctbench.engine.graph import preflight
from ctbench.engine.job import Job
from ctbench.engine.launchers.launch import launch
from ctbench.engine.node import Node
from ctbench.engine.prune import sweep
from ctbench.engine.run import Listener, launch_options, nodes_to_compute
from ctbench.engine.store import Store, home
from ctbench.engine.sweep import read_choice, read_settings
from ctbench.errors import BadConfig
from ctbench.results.files import check_writable
from ctbench.tuning.grid import NUM_TRIALS
from ctbench.tuning.protocol import tuning_settings
from ctbench.tuning.record import Tuning
from ctbench.tuning.trials import plan_search
from ctbench.tuning.writing import KEPT, write_tuning

Listen = Callable[[Sequence[Node]], Listener]
"""Called with the nodes to compute; returns an event callback."""


def tune(
    *,
    methods: Sequence[str],
    stream: str,
    trials: int = NUM_TRIALS,
    seeds: Sequence[int] = (0,),
    settings: Mapping[str, str] | None = None,
    method_settings: Mapping[str, Any] | None = None,
    language_seed: int | None = None,
    allow_reported: bool = False,
    results: str | Path = "results",
    workers: int | None = None,
    listen: Listen | None = None,
    say: Callable[[str], None] = print,
    **options: Any,
) -> list[Tuning]:
    """Tune the hyper-parameters of methods on a stream and write one tuning file per method; method files stay as they are.

    Args:
        methods: names or paths.
        stream: name or path.
        trials: number of trials per method, the defaults included; a smaller grid is tried whole.
        seeds: run seeds of every trial; the objective is the mean over them, and the first seed draws the sample.
        settings: settings of the protocol to override; the default of `finetune.seeds` is [0] here.
        method_settings: hyper-parameters to fix in the methods that have them; they are not tuned.
        language_seed: seed of a synthetic stream's language; None for 7.
        allow_reported: allow tuning a synthetic stream on its own language, the reported one.
        results: folder of result files; tuning files go to its sub-folder `tuning`.
        workers: worker processes; 0 computes in this process, None chooses a number for this machine.
        listen: called with the nodes that a method needs; returns an event callback.
        say: called with a line of text about the progress.
        options: other fields of `Job`: model, recipe, online, fail_fast, checkpoint_seconds, max_loss.

    Raises:
        CTBenchError: a mistake in the call, before anything is computed.
        NodesFailed: nodes failed; their trials have no objective, and the tunings are the error's `results`.
    """
    if trials < 1:
        raise BadConfig(f"trials is {trials}; at least 1 is needed, for the defaults")
    check_writable(results)
    settings = tuning_settings(
        stream,
        settings or {},
        recipe=options.get("recipe"),
        language_seed=language_seed,
        allow_reported=allow_reported,
    )
    jobs = [
        Job(method=method, stream=stream, set=settings, workers=workers, **options).with_method_settings(fixed)
        for method, fixed in zip(methods, _fixed(methods, method_settings or {}), strict=True)
    ]
    searches = [plan_search(job, trials, seeds) for job in jobs]  # finds every mistake before the first trial
    store = Store(home() / "store")
    sweep(home())
    found: list[Tuning] = []
    failures: list[Failure] = []
    for search in searches:
        say(search.headline)
        todo = nodes_to_compute(search.nodes, store, say=say)
        if todo and not found:
            preflight([search.inputs], store, say=say)
        failures += _compute(todo, store, search.inputs.job, listen)
        tuning = search.assess(store, failures)
        path, status = write_tuning(tuning, results)
        say(f"{status}: {path}{KEPT if status == 'kept' else ''}")
        say(tuning.advice)
        found.append(tuning)
    if failures:
        raise NodesFailed(failures, found)
    return found


def _fixed(methods: Sequence[str], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the hyper-parameters to fix of each method; one that no method has is refused."""
    values = read_settings(
        {f"{METHOD}.{name}": value for name, value in settings.items()}, list(map(read_choice, methods))
    )
    for name in (name for mine in values.methods for name, tried in mine.items() if len(tried) > 1):
        raise BadConfig(f"--set method.{name}: tune fixes one value; leave it out to have its own values tried")
    return [{name: tried[0] for name, tried in mine.items()} for mine in values.methods]


def _compute(todo: Sequence[Node], store: Store, job: Job, listen: Listen | None) -> tuple[Failure, ...]:
    hear = listen(todo) if listen is not None and todo else lambda _event: None
    return launch(todo, store, home() / "corpora", options=launch_options(job, todo), listen=hear)
