"""Run a method on a stream: expand the job, compute what is missing, assemble the result, write it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ctbench import metrics
from ctbench.data.schema import SyntheticText
from ctbench.data.sources import read_texts
from ctbench.data.stream import Stream
from ctbench.data.tasks import check_task
from ctbench.expand import Expander, Job, Run
from ctbench.findings import find
from ctbench.graph import plain
from ctbench.launch import Event, auto_workers, launch, missing
from ctbench.plan import BASE
from ctbench.plugins import describe_method
from ctbench.results import Result, check_writable, result_from, write_result
from ctbench.store import Store, home

Listener = Callable[[Event], None]
MAX_CHECKED_DOCUMENTS = 200_000


def run(
    *,
    method: str,
    stream: str,
    seeds: Sequence[int] = (0,),
    results: str | Path = "results",
    workers: int | None = None,
    listen: Callable[[Sequence[Any]], Listener] | None = None,
    say: Callable[[str], None] = print,
    **options: Any,
) -> list[Result]:
    """Run a method on a stream and write one result per seed; what is in the store is not computed again.

    Args:
        method: name of a method, or path of a file.
        stream: name of a stream, or path of a TOML file.
        seeds: run seeds: the order of the text, the masks, what the method initialises.
        results: folder of result files.
        workers: processes; 0 computes in this one, None picks what suits the machine.
        listen: given the nodes to compute, returns what is told about every event.
        say: given a line about each result that was written.
        options: the other fields of `Job`: model, recipe, settings, method_settings, order, online, control...

    Raises:
        CTBenchError: a mistake in the call, before anything is computed, or a node that failed.

    Example:
        >>> quick = {"base.tokens": "2000", "pretrain.tokens": "2000", "finetune.epochs": "1"}
        >>> result = run(method="naive", stream="domain", settings=quick, workers=0)[0]  # doctest: +SKIP
        >>> result.matrix.shape  # doctest: +SKIP
        (6, 5)
    """
    check_writable(results)
    expander = Expander(Job(method=method, stream=stream, **options))
    runs = [expander.run(seed) for seed in seeds]
    store = Store(home() / "store")
    todo = missing([node for each in runs for node in each.nodes], store)
    if todo:
        check_data(expander.stream)
    count = auto_workers(todo) if workers is None else workers
    hear = listen(todo) if listen is not None and todo else _ignore
    launch(todo, store, home() / "corpora", workers=count, listen=hear)
    found = []
    for each in runs:
        result = assemble(each, expander, store)
        written = write_result(result, results)
        say(f"{written.status}: {written.path}")
        found.append(result)
    return found


def check_data(stream: Stream) -> None:
    """Read every end task and the beginning of every text, so that a bad file is found before anything is computed.

    Texts of up to `MAX_CHECKED_DOCUMENTS` documents are read whole; a later fault in a longer one stops its packing.

    Raises:
        BadData: with file and line where there are some.
    """
    for domain in stream.domains:
        check_task(stream, domain)
    sources = [(domain.text, domain.name) for domain in stream.domains]
    sources += [(domain.held_out, domain.name) for domain in stream.domains if domain.held_out is not None]
    for source, name in [*sources, *([(stream.general, None)] if stream.general is not None else [])]:
        if not isinstance(source, SyntheticText):
            deque(islice(read_texts(stream, source, domain=name), MAX_CHECKED_DOCUMENTS), maxlen=0)


def _ignore(_event: Event) -> None:
    pass


def assemble(run: Run, expander: Expander, store: Store) -> Result:
    """Return the result of a run whose nodes are all in the store."""
    stream, plan = run.stream, run.plan
    matrix = _matrix(run, store)
    losses = {source: store.record(node.key) for source, node in run.losses.items()}
    cells = _cells(run, store)
    stages = _stages(run, store)
    any_loss = next(iter(losses.values()))
    result = result_from(
        {
            "schema": 1,
            "key": run.key,
            "stream": _stream_record(run, store, expander),
            "method": method_record(run),
            "backbone": {
                "name": shown_model(expander.model),
                "slug": _slug(expander.model),
                "digest": expander.backbone,
                "objective": any_loss["objective"],
                "parameters": any_loss["parameters"],
            },
            "recipe": {
                "name": stream.recipe.name,
                "base": plain(stream.recipe.base) if run.base and stream.recipe.base else None,
                "pretrain": plain(stream.recipe.pretrain),
                "finetune": _lists(plain(stream.recipe.finetune)),
            },
            "seed": run.seed,
            "order": stream.order,
            "precision": expander.precision["pretrain"],
            "protocol": expander.protocol,
            "changed": _changed(run),
            "not_comparable": _not_comparable(run),
            "plan": _plan_record(run),
            "matrix": _rows(matrix),
            "cells": cells,
            "lm_loss": [
                [
                    None if source is None else _finite(losses[source]["losses"][name])
                    for source, name in zip(row, stream.names, strict=True)
                ]
                for row in plan.cells
            ],
            "control": _control(run, store),
            "metrics": metrics.all_metrics(matrix),
            "stages": stages,
            "cost": _cost(run, stages, cells, any_loss["parameters"]),
            "findings": [{"code": "note", "message": note} for note in any_loss["notes"]],
            "provenance": provenance(),
        }
    )
    return dataclasses.replace(result, findings=(*result.findings, *find(result)))


def _matrix(run: Run, store: Store) -> np.ndarray[Any, np.dtype[np.float64]]:
    rows = []
    for row in run.plan.cells:
        values = []
        for source, name in zip(row, run.stream.names, strict=True):
            seeds = run.stream.recipe.finetune.seeds
            metric = run.stream.domain(name).task.metric
            scores = (
                [store.record(run.cells[source, name, s].key)["metrics"][metric] for s in seeds]
                if source is not None
                else [np.nan]
            )
            values.append(float(np.mean(scores)))
        rows.append(values)
    return np.array(rows)


def _cells(run: Run, store: Store) -> list[dict[str, Any]]:
    found = []
    for row, sources in enumerate(run.plan.cells):
        for source, name in zip(sources, run.stream.names, strict=True):
            if source is None:
                continue
            for seed in run.stream.recipe.finetune.seeds:
                node = run.cells[source, name, seed]
                record = store.record(node.key)
                metric = run.stream.domain(name).task.metric
                found.append(
                    {
                        "row": row,
                        "domain": name,
                        "finetune_seed": seed,
                        "source": _source_key(run, source),
                        "key": node.key,
                        "score": record["metrics"][metric],
                        "metrics": record["metrics"],
                        "validation_score": record["validation"][metric] if record["validation"] else None,
                        "seconds": record["seconds"],
                    }
                )
    return found


def _source_key(run: Run, source: int) -> str:
    if source != BASE:
        return run.stages[source - 1].key
    return run.base.key if run.base else "BASE"


def _stages(run: Run, store: Store) -> list[dict[str, Any]]:
    found = []
    for number, node in enumerate(run.stages, start=1):
        record = store.record(node.key)
        record["losses"] = {name: [_finite(value) for value in values] for name, values in record["losses"].items()}
        found.append({"stage": number, "key": node.key, **record})
    return found


def _cost(run: Run, stages: list[dict[str, Any]], cells: list[dict[str, Any]], parameters: int) -> dict[str, Any]:
    """Add up what the stages cost; a plan that ends in several LMs adds the others' parameters."""
    kept = {source for source in run.plan.cells[-1] if source} - set(run.plan.parents) or {BASE}
    seconds = {cell["key"]: cell["seconds"] for cell in cells}
    return {
        "tokens": sum(stage["tokens"] for stage in stages),
        "forward_tokens": sum(stage["forward_tokens"] for stage in stages),
        "seconds": sum(stage["seconds"] for stage in stages),
        "peak_memory_bytes": max((stage["peak_memory_bytes"] for stage in stages), default=None),
        "added_parameters": max((stage["added_parameters"] for stage in stages), default=0)
        + (len(kept) - 1) * parameters,
        "stored_bytes": max((stage["stored_bytes"] for stage in stages), default=0),
        "cell_seconds": sum(seconds.values()),
    }


def _control(run: Run, store: Store) -> dict[str, Any] | None:
    control = run.control
    if control is None:
        return None
    losses = store.record(control.losses[1].key)["losses"]
    return {
        "scores": _matrix(control, store)[1].tolist(),
        "lm_loss": [_finite(losses[name]) for name in run.stream.names],
        "tokens": store.record(control.stages[0].key)["tokens"],
    }


def _stream_record(run: Run, store: Store, expander: Expander) -> dict[str, Any]:
    stream = run.stream
    seed = stream.recipe.finetune.seeds[0]
    first = {
        name: source
        for row in run.plan.cells
        for source, name in zip(row, stream.names, strict=True)
        if source is not None
    }
    return {
        "name": stream.name,
        "version": stream.version,
        "kind": stream.kind,
        "summary": stream.summary,
        "domains": list(stream.names),
        "digest": expander.data_digest,
        "registered": stream.registered,
        "metric": {domain.name: domain.task.metric for domain in stream.domains},
        "majority": {name: store.record(run.cells[first[name], name, seed].key)["majority"] for name in stream.names},
        "bayes": _bayes(run),
    }


def _bayes(run: Run) -> dict[str, float] | None:
    if run.stream.language is None:
        return None
    from ctbench.data.language import bayes_accuracy

    return {name: bayes_accuracy(run.stream.language, run.stream.kind, name) for name in run.stream.names}


def method_record(run: Run) -> dict[str, Any]:
    """Return what a result says of the method of a run."""
    described = describe_method(run.plugin)
    traits = type(run.method).traits
    return {
        "name": run.plugin.name,
        "version": type(run.method).version,
        "digest": (run.stages or run.nodes)[0].identity["method"]["digest"],
        "settings": run.method.settings(),
        "registered": run.plugin.registered,
        "traits": {name: getattr(traits, name) for name in ("stores_text", "needs_domain", "grows")},
        "summary": described.summary,
        "paper": described.paper or None,
    }


def _plan_record(run: Run) -> dict[str, Any]:
    plan = run.plan
    return {
        "stages": [list(names) for names in plan.stages],
        "parents": ["BASE" if parent == BASE else parent - 1 for parent in plan.parents],
        "cells": [["BASE" if source == BASE else source for source in row] for row in plan.cells],
    }


def _changed(run: Run) -> dict[str, Any]:
    settings = {key: run.job.settings[key] for key in run.stream.changed if key in run.job.settings}
    return settings | {f"method.{key}": value for key, value in run.job.method_settings.items()}


def _not_comparable(run: Run) -> list[str]:
    reasons = [f"{key} was set" for key in run.stream.changed]
    if not run.stream.registered:
        reasons.append(f"stream {run.stream.name} is not registered")
    if not run.plugin.registered:
        reasons.append(f"method {run.plugin.name} is not registered")
    return reasons


def provenance() -> dict[str, Any]:
    """Return what the numbers were made with; nothing in it names a machine or a person."""
    return {
        "ctbench": version("ctbench"),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "num_cores": os.cpu_count(),
        "git": _git(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _git() -> str | None:
    """Return the commit of a source checkout, with a mark when it was edited; None for an installed package."""
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def shown_model(model: str) -> str:
    """Return the name under which a backbone is shown: of a folder, its last part."""
    return Path(model).name if Path(model).is_dir() else model


def _slug(model: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in shown_model(model))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _rows(matrix: np.ndarray[Any, np.dtype[np.float64]]) -> list[list[float | None]]:
    return [[_finite(float(value)) for value in row] for row in matrix]


def _lists(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in mapping.items()}
