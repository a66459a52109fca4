"""Compute a few nodes of a result again, in a store of their own, and compare."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctbench.backbone.checkpoint import MADE
from ctbench.engine.expand import RunGraph
from ctbench.engine.failures import NodesFailed
from ctbench.engine.graph import preflight, read_runs
from ctbench.engine.job import AUTO, Job
from ctbench.engine.launchers.launch import launch
from ctbench.engine.materials import Materials
from ctbench.engine.node import Node
from ctbench.engine.run import Listener, launch_options, nodes_to_compute
from ctbench.engine.store import Store, home
from ctbench.errors import BadConfig, listing
from ctbench.exporting.source import place_of
from ctbench.machine.provenance import processor
from ctbench.plans import BASE
from ctbench.randomness import seed_from
from ctbench.results.schema import Result
from ctbench.verification.checks import Checker
from ctbench.verification.choice import choose, stages_below
from ctbench.verification.claims import contradictions, other_versions
from ctbench.verification.given import find_given, plant
from ctbench.verification.records import unverified
from ctbench.verification.verdict import Check, Verification

HOME = "CTBENCH_HOME"
Listen = Callable[[Sequence[Node]], Listener] | None
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be verified, and how.

    Args:
        result: the run.
        nodes: number of measured nodes to compute again.
        seed: which ones; None draws a new one.
        given: folder of exported LMs, in place of the stages.
        method: path of an unregistered method; `stream` and `model` (a folder) likewise.
        online: whether the network may be used.
        workers: number of worker processes, or "auto".
    """

    result: Result
    nodes: int = 3
    seed: int | None = None
    given: str | Path | None = None
    method: str | Path | None = None
    stream: str | Path | None = None
    model: str | Path | None = None
    online: bool = False
    workers: int | str | None = AUTO


def verify(request: Request, *, listen: Listen = None, say: Say = print) -> Verification:
    """Compute nodes of a result again and compare them with the result.

    Args:
        request: what and how.
        listen: called with the nodes to compute; returns an event callback.
        say: called with a line about everything that may take long.

    Raises:
        CTBenchError: a mistake in the call: method, stream or model cannot be found, or there is nothing to compute.
        NodesFailed: nodes could not be computed.
    """
    if request.nodes < 1:
        raise BadConfig(f"nodes is {request.nodes}; expected a whole number from 1 on")
    result = request.result
    seed = seed_from(0, [os.urandom(8).hex()], "verify") % 10_000 if request.seed is None else request.seed
    with own_home():
        job = _job(request)
        (run,) = read_runs([job])
        given = {} if request.given is None else find_given(request.given, result)
        wrong = contradictions(result, run)
        if wrong:
            return Verification(result=result, seed=seed, wrong=tuple(wrong))
        return _computed(request, run, seed, given, listen=listen, say=say)


def _computed(
    request: Request, run: RunGraph, seed: int, given: dict[int, Path], *, listen: Listen, say: Say
) -> Verification:
    """Return the verification of a result whose claims are right."""
    result, store = request.result, Store(home() / "store")
    chosen = choose(result, run, request.nodes, seed, sources=given or None)
    preflight([run.inputs], store, say=say)

    def compute(nodes: Sequence[Node]) -> None:
        todo = nodes_to_compute(nodes, store, say=say)
        hear = listen(todo) if listen is not None and todo else _ignore
        failures = launch(todo, store, home() / "corpora", options=launch_options(run.inputs.job, todo), listen=hear)
        if failures:
            raise NodesFailed(failures)

    if given:
        compute([run.base] if run.base else [])
        for stage in [stage for stage in given if stage != BASE]:
            plant(run, stage, given[stage], store, Materials(store, home() / "corpora"))
    below = [] if given else stages_below(run, [each.source for each in chosen])
    compute([*(run.stages[stage - 1] for stage in below), *(each.node for each in chosen)])
    checker = Checker(result, run, store, trained=below)
    checks: list[Check] = [check for stage in given if stage != BASE for check in checker.given(stage)]
    checks += [check for stage in below for check in checker.stage(stage)]
    checks += [check for each in chosen for check in checker.measured(each)]
    remarks = [*_remarks(result, run), unverified(result), *_about_stages(given, checker.other_bits)]
    return Verification(result=result, seed=seed, checks=tuple(checks), remarks=tuple(remarks))


def _about_stages(given: Collection[int], other_bits: Sequence[int]) -> Iterator[str]:
    if given:
        yield "stages were not trained again: their LMs are those that were given"
    if other_bits:
        yield (
            f"the LM after stage {listing(other_bits)} has other bits here, as another kind of processor would give; numbers "
            "on it are compared within the noise, which a result that was changed by less would pass too"
        )


def _remarks(result: Result, run: RunGraph) -> Iterator[str]:
    if (mine := processor()) != result.provenance.processor:
        yield f"computed on {result.provenance.processor or 'an unknown processor'} (here {mine})"
    if versions := other_versions(result, run):
        yield f"computed with {', '.join(versions)}"
    elif result.key == run.key:
        yield "every node has the key that it has here: data, recipe, method and versions of libraries are equal"


@contextlib.contextmanager
def own_home() -> Iterator[Path]:
    """Yield a new empty `CTBENCH_HOME`, removed at the end: no cached node answers, and nothing of the user's changes."""
    before = os.environ.get(HOME)
    with tempfile.TemporaryDirectory(prefix="ctbench-verify-", ignore_cleanup_errors=True) as folder:
        os.environ[HOME] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ[HOME]
            else:
                os.environ[HOME] = before


def _job(request: Request) -> Job:
    """Return the options that a result says it was computed with."""
    result = request.result
    method, stream = result.method, result.stream
    is_chosen = result.recipe.name == "default" and result.backbone.name in MADE  # a checkpoint may get another one
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in result.changed.items()}
    return Job(
        method=request.method or place_of("method", None, method.name, is_registered=method.registered),
        stream=request.stream or place_of("stream", None, stream.name, is_registered=stream.registered),
        model=request.model or result.backbone.name,
        recipe=None if is_chosen else result.recipe.name,
        seed=result.seed,
        order=result.order,
        reorder_periods=bool(result.order) and stream.kind == "temporal",
        control=result.control is not None,
        set=[f"{key}={text}" for key, text in texts.items()],
        results=home() / "results",
        online=request.online,
        workers=request.workers,
    )


def _ignore(_event: object) -> None:
    pass
