"""Computes the nodes of a graph with several ranks: stages all together, other nodes side by side.

The first rank holds the agenda, writes and prints. The others wait for its word and do what it says.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ctbench.engine.compute import Executor
from ctbench.engine.failures import Failure, NodesFailed, Problem, problem_of
from ctbench.engine.launchers.agenda import Agenda
from ctbench.engine.launchers.events import Event, LaunchOptions, Listener, callbacks
from ctbench.engine.node import Node, Spec
from ctbench.engine.store import Store, home
from ctbench.machine.interrupts import Interrupted
from ctbench.machine.ranks import Ranks, join

if TYPE_CHECKING:
    from ctbench.results.schema import Result

Launch = Callable[..., tuple[Failure, ...]]
ORPHAN_SECONDS: Final = 60.0
"""Time that the first rank has to fail as another one did; a problem of one rank alone ends all."""


def as_rank(run_first: Callable[[Launch], list[Result]]) -> list[Result]:
    """Meet the other ranks and be one of them.

    Args:
        run_first: what the first rank does, called with what computes nodes.

    Returns:
        What the first rank returns; nothing on the others.
    """
    ranks = join()
    if not ranks.is_first:
        _follow(Store(home() / "store"), home() / "corpora", ranks)
        return []
    try:
        return run_first(functools.partial(launch_together, ranks=ranks))
    finally:
        ranks.dismiss()


def launch_together(
    nodes: Sequence[Node], store: Store, cache: Path, *, ranks: Ranks, options: LaunchOptions, listen: Listener
) -> tuple[Failure, ...]:
    """Compute nodes as the first rank; arguments and errors are those of `launch`.

    Raises:
        NodesFailed: a stage failed, after which ranks may no longer be in step.
    """
    if not nodes:
        return ()
    agenda = Agenda(nodes, listen=listen, fail_fast=options.fail_fast, is_claimed=store.is_claimed)
    told = {"save_seconds": options.checkpoint_seconds, "max_loss": options.max_loss}
    ranks.tell_all(json.dumps(told))
    executor = Executor(store, cache, ranks=ranks, **told)  # type: ignore[arg-type]  # each of its own type
    held: list[Node] = []
    while batch := _take(agenda, held, most=ranks.size):
        if batch[0].kind == "stage":
            _compute_stage(agenda, executor, batch[0])
        else:
            _compute_apart(agenda, executor, batch)
    return tuple(agenda.failures)


def _follow(store: Store, cache: Path, ranks: Ranks) -> None:
    """Do what the first rank says until its last word."""
    told = ranks.listen()
    executor = Executor(store, cache, ranks=ranks, **json.loads(told)) if told else None
    doom: threading.Timer | None = None
    try:
        while executor is not None and (text := ranks.listen()):
            if text.startswith("["):
                ranks.collect(json.dumps(_computed(executor, json.loads(text)[ranks.number])))
                continue
            try:
                executor.follow(Spec.from_json(text))
            except (Exception, SystemExit) as error:  # as on the first rank, which says so, or here alone
                doom = _doom(ranks, problem_of(error).reason)
    except Interrupted as stop:  # the first rank says so
        raise SystemExit(128 + stop.number) from None
    finally:
        if doom is not None:
            doom.cancel()


def _take(agenda: Agenda, held: list[Node], *, most: int) -> list[Node]:
    """Return a stage, or other nodes that are ready, one for each rank."""
    batch: list[Node] = []
    while len(batch) < most:
        node = held.pop() if held else agenda.take(num_busy=len(batch))
        if node is None:
            break
        if node.kind == "stage":
            if not batch:
                return [node]
            held.append(node)
            break
        batch.append(node)
    return batch


def _compute_stage(agenda: Agenda, executor: Executor, node: Node) -> None:
    try:
        executor.compute(node.spec(), **callbacks(functools.partial(_tell, agenda.listen, node)))
    except (Exception, SystemExit) as error:  # a method may be third-party code that raises anything
        problem = problem_of(error)
        agenda.fail(node, dataclasses.replace(problem, kind="node") if problem.is_retried else problem)
        raise NodesFailed(agenda.failures, went_on=False) from error
    agenda.finish(node)


def _compute_apart(agenda: Agenda, executor: Executor, batch: list[Node]) -> None:
    """Compute one node on each rank, the first one here."""
    specs = [node.spec().to_json() for node in batch] + [""] * (executor.ranks.size - len(batch))
    executor.ranks.tell_all(json.dumps(specs))
    tell = callbacks(functools.partial(_tell, agenda.listen, batch[0]))
    found = executor.ranks.collect(json.dumps(_computed(executor, specs[0], **tell)))
    for node, text in zip(batch, found, strict=False):
        problem = json.loads(text)
        if problem is None:
            agenda.finish(node)
        else:
            agenda.fail(node, Problem(**problem))


def _computed(executor: Executor, text: str, **tell: Any) -> dict[str, Any] | None:
    """Compute a node, and return what went wrong."""
    if not text:
        return None
    try:
        executor.compute(Spec.from_json(text), **tell)
    except (Exception, SystemExit) as error:  # a method may be third-party code that raises anything
        return dataclasses.asdict(problem_of(error))
    return None


def _doom(ranks: Ranks, reason: str) -> threading.Timer:
    """End this process in a while, unless the first rank fails too: it would wait for this one for ever."""

    def end() -> None:
        print(f"ctbench: rank {ranks.number}: {reason}", file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(ORPHAN_SECONDS, end)
    timer.daemon = True
    timer.start()
    return timer


def _tell(listen: Listener, node: Node, **fields: Any) -> None:
    listen(Event(node=node, **fields))
