"""Who computes the nodes of a graph: this process, local worker processes, jobs of a cluster, or workers of a Ray cluster.

Launchers only decide where a node runs; its numbers do not depend on it, because the number of threads belongs to the
node.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ctbench.engine.failures import Failure, problem_of
from ctbench.engine.launchers.agenda import Agenda
from ctbench.engine.launchers.events import Event, LaunchOptions, Listener, callbacks
from ctbench.engine.launchers.pool import Pool
from ctbench.engine.launchers.process import Replies, Start, Worker
from ctbench.engine.launchers.worker import arguments
from ctbench.engine.node import Node
from ctbench.engine.store import Store


def launch(
    nodes: Sequence[Node],
    store: Store,
    cache: Path,
    *,
    options: LaunchOptions,
    listen: Listener,
    say: Callable[[str], None] = lambda _line: None,
) -> tuple[Failure, ...]:
    """Compute nodes; one that fails takes along what needs it, and all others are computed.

    Args:
        nodes: from `missing`: each behind the ancestors that the store lacks.
        store: where they go.
        cache: folder of packed corpora.
        options: the number of workers, checkpoints, and what counts as a failure.
        listen: told about every event, in this thread.
        say: called with a line about jobs of a cluster.

    Returns:
        The nodes that failed.

    Raises:
        BadConfig: a node says that the call was wrong.
        NodesFailed: with `fail_fast`, the first failure.
        RunFailed: the store cannot be written.
    """
    if not nodes:
        return ()
    agenda = Agenda(nodes, listen=listen, fail_fast=options.fail_fast, is_claimed=store.is_claimed)
    if options.slurm is not None:
        _launch_jobs(agenda, store, options, say)
    elif options.ray is not None:
        from ctbench.engine.ray.launch import compute_on_ray

        args = arguments(store.root.absolute(), cache.absolute(), options)
        compute_on_ray(agenda, args, options=options.ray, workers=options.workers, say=say)
    elif not options.workers:
        _launch_here(agenda, store, cache, options)
    else:
        Pool(agenda, _starting(arguments(store.root, cache, options)), count=min(options.workers, len(nodes))).run()
    return tuple(agenda.failures)


def _launch_jobs(agenda: Agenda, store: Store, options: LaunchOptions, say: Callable[[str], None]) -> None:
    from ctbench.engine.estimate import costs
    from ctbench.engine.slurm.folder import new_launch
    from ctbench.engine.slurm.follow import Follower

    assert options.slurm is not None
    told = {name: getattr(options, name) for name in ("workers", "checkpoint_seconds", "max_loss")}
    todo, home = agenda.left(), store.root.parent
    seconds, _ = costs(todo, store, home)
    folder = new_launch(home, todo, told)
    Follower(agenda, store, folder, options=options.slurm, seconds=seconds, say=say).run()


def _starting(args: list[str]) -> Start:
    def start(index: int, replies: Replies) -> Worker:
        return Worker(args, index=index, replies=replies)

    return start


def _launch_here(agenda: Agenda, store: Store, cache: Path, options: LaunchOptions) -> None:
    from ctbench.engine.compute import Executor

    executor = Executor(store, cache, save_seconds=options.checkpoint_seconds, max_loss=options.max_loss)
    while (node := agenda.take(num_busy=0)) is not None:
        try:
            executor.compute(node.spec(), **callbacks(functools.partial(_tell, agenda.listen, node)))
        except (Exception, SystemExit) as error:  # a method may be third-party code that raises anything
            agenda.fail(node, problem_of(error))
        else:
            agenda.finish(node)


def _tell(listen: Listener, node: Node, **fields: Any) -> None:
    listen(Event(node=node, **fields))
