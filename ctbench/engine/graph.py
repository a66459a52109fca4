"""The graph of several jobs: their runs with every node once, or every reason why some of them are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ctbench.backbone.checkpoint import MADE
from ctbench.data.split import CorpusSize
from ctbench.engine.bases import find_shipped
from ctbench.engine.description import shown_model
from ctbench.engine.expand import RunGraph, expand
from ctbench.engine.inputs import Inputs, read_inputs
from ctbench.engine.job import Job
from ctbench.engine.labels import labels_of
from ctbench.engine.preflight import Setup, examine
from ctbench.engine.refusals import Refusals
from ctbench.engine.store import Store, home
from ctbench.results.files import check_writable
from ctbench.results.writing import results_folder


def read_runs(jobs: Sequence[Job]) -> list[RunGraph]:
    """Return the runs of jobs, in the order of the jobs, then of orders, then of seeds; equal runs are there once.

    Raises:
        CTBenchError: something wrong with a job, or with several of them.
    """
    parts = [part for job in jobs for part in job.parts()]
    refusals = Refusals(len({name_of(part) for part in parts}))
    shared: dict[object, Inputs] = {}
    inputs: list[Inputs] = []
    for part in parts:
        alike = alike_but_for_method(part)
        with refusals.collecting([name_of(part)]):
            found = _read(part, shared.get(alike))
            shared.setdefault(alike, found)
            inputs.append(found)
    refusals.end()
    every = [(each, seed) for each in inputs for seed in each.job.seeds]
    runs: dict[str, RunGraph] = {}
    for (each, seed), labels in zip(every, labels_of(every), strict=True):
        run = expand(each, seed, labels)
        runs.setdefault(run.key, run)
    return list(runs.values())


def preflight(
    inputs: Sequence[Inputs], store: Store, *, packs: bool = True, say: Callable[[str], None] = lambda _line: None
) -> list[tuple[Inputs, tuple[CorpusSize, ...]]]:
    """Find out whether runs would be refused or fail, before anything is computed; data and model are looked at once.

    Args:
        inputs: those of the jobs.
        store: may hold the bases.
        packs: whether corpora may be packed into `CTBENCH_HOME`, where the runs then find them.
        say: called with a line about everything that may take long.

    Returns:
        For each stream, model and recipe the first of its inputs, and how much of every text is trained on and held out;
        large synthetic texts are left out.

    Raises:
        CTBenchError: runs would be refused or fail.
    """
    if packs and store.writes:
        store.require_room()
    groups: dict[object, list[Inputs]] = {}
    for each in inputs:
        groups.setdefault(alike_but_for_method(each.job, orders=False), []).append(each)
    refusals = Refusals(len({name_of(each.job) for each in inputs}))
    found = []
    for group in groups.values():
        setup = _setup(group, store)
        with refusals.collecting(list(setup.methods)):
            sizes = examine(setup, corpora=home() / "corpora", packs=packs, refuse=refusals.add_one, say=say)
            found.append((group[0], sizes))
    refusals.end()
    return found


def _setup(group: Sequence[Inputs], store: Store) -> Setup:
    first = group[0]
    return Setup(
        stream=first.stream,
        model=first.model,
        online=first.job.online,
        methods={name_of(each.job): each.method for each in group},
        base=_base_folder(first, store),
        reads_general=first.job.control or any(each.general_text is not None for each in group),
    )


def _base_folder(inputs: Inputs, store: Store) -> Path | None:
    """Return the folder of the base of an embedded model, if it is there."""
    if inputs.model not in MADE:
        return None
    if inputs.base is None:
        return find_shipped(inputs.stream, inputs.model)
    return store.folder(inputs.base.key) if store.has(inputs.base.key) else None


def _read(job: Job, like: Inputs | None) -> Inputs:
    """Return the inputs of a job; refuse a folder of results that cannot be written."""
    found = read_inputs(job, like=like)
    names = {"stream": found.stream.name, "backbone": shown_model(found.model), "method": found.plugin.name}
    check_writable(results_folder(job.results_folder, **names))
    return found


def alike_but_for_method(job: Job, *, orders: bool = True) -> object:
    """Return what two jobs share if they differ in nothing but method and seed, or in the orders of the domains too."""
    settings = tuple(sorted(job.settings.items()))
    names = str(job.stream), str(job.model), job.recipe, job.online, job.control, job.reorder_periods
    return names, settings, job.orders if orders else ()


def name_of(job: Job) -> str:
    """Return a few words for the runs of a job."""
    model = "" if job.model is None else f" with {shown_model(str(job.model))}"
    settings = "".join(f", {key}={value}" for key, value in job.method_settings.items())
    return f"{job.method}{settings} on {job.stream}{model}"
