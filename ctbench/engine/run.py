"""Run jobs: expand them into nodes, compute those that the store lacks, assemble the results, write them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

from ctbench.engine.expand import RunGraph
from ctbench.engine.failures import Failure, NodesFailed
from ctbench.engine.graph import preflight, read_runs
from ctbench.engine.job import Job
from ctbench.engine.launchers.agenda import missing
from ctbench.engine.launchers.capacity import auto_workers
from ctbench.engine.launchers.events import Event, LaunchOptions
from ctbench.engine.launchers.launch import launch
from ctbench.engine.node import Node
from ctbench.engine.otherranks import other_ranks
from ctbench.engine.prune import sweep
from ctbench.engine.ray.options import RayOptions
from ctbench.engine.recipes import recipe_remarks
from ctbench.engine.result import assemble
from ctbench.engine.slurm.options import SlurmOptions
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig
from ctbench.machine.launched import check_launch, num_ranks
from ctbench.results.schema import Result
from ctbench.results.writing import write_result

Listener = Callable[[Event], None]


def run(
    jobs: Job | Sequence[Job],
    *,
    listen: Callable[[Sequence[Node]], Listener] | None = None,
    say: Callable[[str], None] = print,
) -> list[Result]:
    """Compute the runs of jobs and write one result for each; nodes that are in the store are not computed again.

    Args:
        jobs: the options; of several jobs, those of how nodes are computed, such as `workers`, are those of the first.
        listen: called with the nodes to compute, if there are any; returns an event callback.
        say: called with a line about each result that was written.

    Returns:
        One result for each run, in the order of the jobs, then of orders, then of seeds; equal runs are one.

    Raises:
        CTBenchError: a mistake in the call, before anything is computed.
        NodesFailed: nodes failed; everything that does not need them was computed, and the results of all runs, those
            with failures among them, are written and are the error's `results`.

    Examples:
        >>> quick = {"base.tokens": 2000, "pretrain.tokens": 2000, "finetune.epochs": 1}
        >>> result = run(Job(method="naive", stream="domain", set=quick, workers=0))[0]  # doctest: +SKIP
        >>> result.matrix.shape  # doctest: +SKIP
        (6, 5)
    """
    asked = [jobs] if isinstance(jobs, Job) else list(jobs)
    check_launch()
    if num_ranks() == 1:
        return _run(asked, functools.partial(launch, say=say), listen=listen, say=say)
    from ctbench.engine.together import as_rank

    return as_rank(lambda launcher: _run(asked, launcher, listen=listen, say=say))


def _run(
    asked: Sequence[Job],
    launcher: Callable[..., tuple[Failure, ...]],
    *,
    listen: Callable[[Sequence[Node]], Listener] | None,
    say: Callable[[str], None],
) -> list[Result]:
    require_launcher(asked[0])
    runs = read_runs(asked)
    store = Store(home() / "store")
    sweep(home())
    every = {node.key: node for each in runs for node in each.nodes}
    todo = nodes_to_compute(every.values(), store, say=say)
    if cached := len(every.keys() - {node.key for node in todo}) if todo else 0:
        say(f"in the store already: {cached} of {len(every)} nodes")
    for line in [*_unusual(runs), *other_ranks(todo, store)]:
        say(f"unusual: {line}")
    if todo:
        preflight([each.inputs for each in runs], store, say=say)
    hear = listen(todo) if listen is not None and todo else _ignore
    failures = launcher(todo, store, home() / "corpora", options=launch_options(asked[0], todo), listen=hear)
    found = []
    for each in runs:
        result = assemble(each, store, failures)
        if result is None:
            continue
        written = write_result(result, each.inputs.job.results_folder)
        say(f"{written.status}: {written.path}")
        found.append(result)
    if failures:
        raise NodesFailed(failures, found)
    return found


def launch_options(job: Job, todo: Sequence[Node]) -> LaunchOptions:
    """Return how the nodes of a job are computed."""
    workers, cluster = job.num_workers, job.cluster
    return LaunchOptions(
        workers=auto_workers(todo) if workers is None and cluster is None else workers,
        fail_fast=job.fail_fast,
        checkpoint_seconds=float(job.checkpoint_seconds),
        max_loss=job.max_loss,
        slurm=cluster if isinstance(cluster, SlurmOptions) else None,
        ray=cluster if isinstance(cluster, RayOptions) else None,
    )


def _unusual(runs: Iterable[RunGraph]) -> Iterable[str]:
    return dict.fromkeys(line for each in runs for line in recipe_remarks(each.inputs.stream, each.inputs.model))


def require_launcher(job: Job) -> None:
    """Refuse a launcher that cannot compute from this machine.

    Raises:
        BadConfig: what is missing.
    """
    if num_ranks() > 1 and (job.cluster is not None or job.num_workers):
        given = f"--workers {job.num_workers}" if job.cluster is None else "--launcher"
        raise BadConfig(
            f"{num_ranks()} ranks compute all nodes themselves; leave {given} out, or call without torchrun"
        )
    if isinstance(job.cluster, SlurmOptions):
        from ctbench.engine.slurm.queue import require_slurm

        require_slurm(job.cluster)
    elif isinstance(job.cluster, RayOptions):
        from ctbench.engine.ray.launch import require_ray

        require_ray(job.cluster)


def nodes_to_compute(nodes: Iterable[Node], store: Store, *, say: Callable[[str], None]) -> list[Node]:
    """Return the nodes that the store lacks, parents first; damaged ones are named and set aside.

    Args:
        nodes: those whose records are wanted.
        store: what is there already.
        say: called with a line about each damaged node.
    """

    def set_aside(node: Node, reason: str) -> None:
        with store.claim(node.key):
            if store.damage(node.key) is not None:  # another process may have computed it again
                store.set_aside(node.key)
                say(f"damaged: {node.title}: {reason}; it is set aside and computed again")

    return missing(nodes, store, damaged=set_aside)


def _ignore(_event: Event) -> None:
    pass
