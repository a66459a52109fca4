"""From the records of a run's nodes to its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctbench import metrics
from ctbench.expand import Expander
from ctbench.findings import find
from ctbench.graph import plain
from ctbench.job import Run
from ctbench.plan import BASE
from ctbench.provenance import provenance
from ctbench.results import Result, result_from, slug
from ctbench.source import describe_method
from ctbench.store import Store


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
                "slug": slug(shown_model(expander.model)),
                "digest": expander.backbone,
                "objective": any_loss["objective"],
                "parameters": any_loss["parameters"],
            },
            "recipe": {
                "name": stream.recipe.name,
                "base": _pretrain_record(expander, "base") if run.base else None,
                "pretrain": _pretrain_record(expander, "pretrain"),
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
            "cost": _cost(run, stages, cells),
            "findings": [{"code": "note", "message": note} for note in any_loss["notes"]],
            "provenance": _provenance(run, store),
        }
    )
    return dataclasses.replace(result, findings=(*result.findings, *find(result)))


def _pretrain_record(expander: Expander, table: str) -> dict[str, Any]:
    """Return a recipe of pre-training; that layers were compiled is said where they were."""
    recipe = expander.stream.recipe
    found = plain(recipe.base if table == "base" else recipe.pretrain, without=("compiled",))
    return found | ({"compiled": True} if expander.compiled[table] else {})


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


def _provenance(run: Run, store: Store) -> dict[str, Any]:
    """Return what the numbers were made with; a GPU that stages ran on is named beside the processor."""
    made = provenance()
    used = {str(store.record(node.key).get("work", {}).get("device", "cpu")) for node in run.stages}
    return made | {"processor": " + ".join([made["processor"], *sorted(used - {"cpu"})])}


def _source_key(run: Run, source: int) -> str:
    if source != BASE:
        return run.stages[source - 1].key
    return run.base.key if run.base else "BASE"


def _stages(run: Run, store: Store) -> list[dict[str, Any]]:
    found = []
    for number, node in enumerate(run.stages, start=1):
        record = store.record(node.key)
        record.pop("work", None)  # for `plan`
        record["losses"] = {name: [_finite(value) for value in values] for name, values in record["losses"].items()}
        found.append({"stage": number, "key": node.key, **record})
    return found


def _cost(run: Run, stages: list[dict[str, Any]], cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up what the stages cost; a plan that ends in several LMs adds what was trained for each of the others."""
    trained = sorted(stages[source - 1]["trained_parameters"] for source in run.plan.kept)
    seconds = {cell["key"]: cell["seconds"] for cell in cells}
    return {
        "tokens": sum(stage["tokens"] for stage in stages),
        "forward_tokens": sum(stage["forward_tokens"] for stage in stages),
        "seconds": sum(stage["seconds"] for stage in stages),
        "cpu_seconds": sum(stage["cpu_seconds"] for stage in stages),
        "peak_memory_bytes": max((stage["peak_memory_bytes"] for stage in stages), default=None),
        "added_parameters": max((stage["added_parameters"] for stage in stages), default=0) + sum(trained[:-1]),
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
    traits = run.method.configured_traits
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


def shown_model(model: str) -> str:
    """Return the name under which a backbone is shown: of a folder, its last part."""
    return Path(model).name if Path(model).is_dir() else model


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _rows(matrix: np.ndarray[Any, np.dtype[np.float64]]) -> list[list[float | None]]:
    return [[_finite(float(value)) for value in row] for row in matrix]


def _lists(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in mapping.items()}
