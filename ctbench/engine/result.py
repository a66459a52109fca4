"""From the records of a run's nodes to its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctbench.backbone.checkpoint import MADE
from ctbench.engine.costs import total_cost
from ctbench.engine.description import changed_settings, method_record, not_comparable, plan_record, shown_model
from ctbench.engine.expand import RunGraph
from ctbench.engine.failures import Failure, failure_records, lost_keys
from ctbench.engine.identity import StageIdentity
from ctbench.engine.inputs import Inputs
from ctbench.engine.node import Node, plain
from ctbench.engine.records import StoredCell, StoredLoss, StoredStage
from ctbench.engine.retention import retention
from ctbench.engine.run_records import RunRecords
from ctbench.engine.store import Store
from ctbench.machine.provenance import provenance
from ctbench.plans import BASE
from ctbench.results import metrics
from ctbench.results.findings import find
from ctbench.results.format import result_from
from ctbench.results.schema import SCHEMA, Result
from ctbench.results.writing import slug
from ctbench.training.schedules import START, learning_rate

Matrix = np.ndarray[Any, np.dtype[np.float64]]


def assemble(run: RunGraph, store: Store, failures: Sequence[Failure] = ()) -> Result | None:
    """Return the result of a run.

    Args:
        run: the run.
        store: holds all its nodes, but for those that failed and those that need them.
        failures: what failed; numbers that are missing because of it are null.

    Returns:
        The result; None if so little was computed that the LM itself is unknown: its base failed, or all LM losses did.
    """
    inputs, plan, records = run.inputs, run.plan, RunRecords(store, lost_keys(failures))
    base_loss = next(records.losses(run), None)
    if base_loss is None:
        return None
    matrix, stages, cells = _matrix(run, records), _stages(run, records), _cells(run, records)
    result = result_from(
        {
            "schema": SCHEMA,
            "key": run.key,
            "stream": _stream_record(run, records),
            "method": method_record(run),
            "backbone": _backbone_record(inputs, base_loss),
            "recipe": recipe_record(run),
            "seed": run.seed,
            "order": inputs.stream.order,
            "precision": inputs.arithmetic["pretrain"].precision,
            "protocol": inputs.protocol,
            "changed": changed_settings(run),
            "not_comparable": not_comparable(run),
            "plan": plan_record(plan),
            "matrix": _rows(matrix),
            "cells": cells,
            "lm_loss": _lm_losses(run, records),
            "lm_loss_error": _lm_loss_errors(run, records),
            **retention(run, records.get),
            "control": _control(run, records),
            "metrics": metrics.all_metrics(matrix, num_stages=len(plan.stages)),
            "stages": stages,
            "cost": total_cost(run.plan.kept, stages, cells),
            "findings": [{"code": "note", "message": note} for note in base_loss.notes],
            "failures": failure_records(failures, run.nodes),
            "provenance": _provenance(run, records),
        }
    )
    return dataclasses.replace(result, findings=(*result.findings, *find(result)))


def _backbone_record(inputs: Inputs, base_loss: StoredLoss) -> dict[str, Any]:
    return {
        "name": shown_model(inputs.model),
        "slug": slug(shown_model(inputs.model)),
        "digest": inputs.backbone,
        "weights_digest": base_loss.weights_digest,
        "objective": base_loss.objective,
        "parameters": base_loss.parameters,
    }


def _lm_losses(run: RunGraph, records: RunRecords) -> list[list[float | None]]:
    return [
        [
            None if source is None else _loss_of(records.loss(run, source), name)
            for source, name in zip(row, run.stream.names, strict=True)
        ]
        for row in run.plan.cells
    ]


def _loss_of(record: StoredLoss | None, name: str) -> float | None:
    return None if record is None else record.losses[name]


def _lm_loss_errors(run: RunGraph, records: RunRecords) -> list[list[float | None]] | None:
    """Return the standard errors of the LM losses; None if a record is older than they are."""
    if any(record.errors is None for record in records.losses(run)):
        return None
    return [
        [None if source is None else _error_of(records.loss(run, source), name) for source, name in places]
        for places in (zip(row, run.stream.names, strict=True) for row in run.plan.cells)
    ]


def _error_of(record: StoredLoss | None, name: str) -> float | None:
    return None if record is None else (record.errors or {}).get(name)


def _score(record: StoredCell | None, metric: str) -> float:
    score = None if record is None else record.metrics[metric]
    return np.nan if score is None else score


def recipe_record(run: RunGraph) -> dict[str, Any]:
    """Return the recipe of a run as its result holds it."""
    recipe = run.inputs.stream.recipe
    return {
        "name": recipe.name,
        "base": _pretrain_record(run.inputs, "base") if run.base or run.inputs.model in MADE else None,
        "pretrain": _pretrain_record(run.inputs, "pretrain"),
        "finetune": plain(recipe.finetune),
    }


def _pretrain_record(inputs: Inputs, table: str) -> dict[str, Any]:
    """Return a recipe of pre-training, with "compiled" only if layers were compiled."""
    recipe = inputs.stream.recipe
    found = plain(recipe.base if table == "base" else recipe.pretrain, without=("compiled",))
    return found | ({"compiled": True} if inputs.arithmetic[table].compiled else {})


def _matrix(run: RunGraph, records: RunRecords) -> Matrix:
    stream = run.inputs.stream
    recipe, rows = stream.recipe.finetune, []
    for row in run.plan.cells:
        values = []
        for source, name in zip(row, stream.names, strict=True):
            metric = stream.domain(name).task.metric
            scores = [np.nan]
            if source is not None:
                seeds = recipe.seeds_of(is_base=source == BASE)
                scores = [_score(records.cell(run, source, name, seed), metric) for seed in seeds]
            values.append(float(np.mean(scores)))
        rows.append(values)
    return np.array(rows)


def _cells(run: RunGraph, records: RunRecords) -> list[dict[str, Any]]:
    stream, found = run.inputs.stream, []
    for row, sources in enumerate(run.plan.cells):
        for source, name in zip(sources, stream.names, strict=True):
            if source is None:
                continue
            metric = stream.domain(name).task.metric
            for seed in stream.recipe.finetune.seeds_of(is_base=source == BASE):
                place = {"row": row, "domain": name, "finetune_seed": seed, "source": _source_key(run, source)}
                measured = _measured(records.cell(run, source, name, seed), metric)
                found.append({**place, "key": run.cells[source, name, seed].key, **measured})
    return found


def _measured(record: StoredCell | None, metric: str) -> dict[str, Any]:
    if record is None:
        return {"score": None}
    return {
        "score": record.metrics[metric],
        "metrics": dict(record.metrics),
        "validation_score": record.validation[metric] if record.validation else None,
        "seconds": record.seconds,
        "flops": record.flops,
    }


def _provenance(run: RunGraph, records: RunRecords) -> dict[str, Any]:
    """Return what the numbers were made with; a GPU that stages ran on is named beside the processor."""
    made = provenance()
    used = {record.work.device_name for record in records.stages(run).values()}
    study = run.inputs.job.study
    asked = {"study": None if study is None else dataclasses.asdict(study) | {"changed": list(study.changed)}}
    return made | asked | {"processor": " + ".join([made["processor"], *sorted(used - {"cpu"})])}


def _source_key(run: RunGraph, source: int) -> str:
    if source != BASE:
        return run.lms[source - 1].key
    return run.base.key if run.base else "BASE"


def _stages(run: RunGraph, records: RunRecords) -> list[dict[str, Any]]:
    found = []
    for number, record in records.stages(run).items():
        trained = dataclasses.asdict(record.training)
        trained["losses"] = {name: [_finite(value) for value in values] for name, values in trained["losses"].items()}
        trained |= {name: list(trained[name]) for name in ("domains", "steps", "probe_steps")}
        if number in run.losses and (loss := records.loss(run, number)) is not None:
            trained["notes"] = {**trained["notes"], **loss.effects}
        node = run.stages[number - 1]
        own = ("weights_digest", "changed", "added_parameters", "stored_bytes")
        measured = {name: getattr(record, name) for name in own} | {"rates": _rates(run, node, record)}
        found.append({"stage": number, "key": node.key, **trained, **measured})
    return found


def _rates(run: RunGraph, node: Node, record: StoredStage) -> list[float]:
    """Return the learning rate of the last update before each logged point."""
    identity, recipe = node.identity, run.stream.recipe.pretrain
    assert isinstance(identity, StageIdentity)
    place = identity.place or START
    return [learning_rate(recipe, step - 1, identity.num_steps, place) for step in record.training.steps]


def _control(run: RunGraph, records: RunRecords) -> dict[str, Any] | None:
    control = run.control
    if control is None:
        return None
    loss, stage = records.loss(control, 1), records.stages(control).get(1)
    if stage is None:
        return None
    return {
        "scores": [_finite(float(value)) for value in _matrix(control, records)[1]],
        "lm_loss": [_loss_of(loss, name) for name in run.inputs.stream.names],
        "tokens": stage.training.tokens,
    }


def _stream_record(run: RunGraph, records: RunRecords) -> dict[str, Any]:
    stream = run.inputs.stream
    cells = records.cell_of_each_task(run)
    baselines = {name: cell.baseline for name, cell in cells.items() if cell.baseline is not None}
    tests = {name: cell.num_test for name, cell in cells.items() if cell.num_test is not None}
    predicted = next(records.losses(run)).num_predicted or {}
    is_whole = len(baselines) == len(tests) == len(stream.names)
    metric = {domain.name: domain.task.metric for domain in stream.domains}
    kinds = {domain.name: domain.task.kind for domain in stream.domains}
    return {
        "name": stream.name,
        "version": stream.version,
        "kind": stream.kind,
        "summary": stream.summary,
        "domains": list(stream.names),
        "digest": run.inputs.data_digest,
        "registered": stream.registered,
        "metric": metric,
        "majority": {name: cells[name].majority if name in cells else None for name in stream.names},
        "bayes": _bayes(run),
        "baseline": {name: scores[metric[name]] for name, scores in baselines.items()} if is_whole else None,
        "num_test": tests if is_whole else None,
        "num_predicted": {name: predicted[name] for name in stream.names} if predicted else None,
        "tasks": None if set(kinds.values()) == {"classification"} else kinds,
    }


def _bayes(run: RunGraph) -> dict[str, float] | None:
    stream = run.inputs.stream
    if stream.language is None or any(domain.task.kind != "classification" for domain in stream.domains):
        return None
    from ctbench.data.synthetic.language import bayes_accuracy

    return {name: bayes_accuracy(stream.language, stream.kind, name) for name in stream.names}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _rows(matrix: Matrix) -> list[list[float | None]]:
    return [[_finite(float(value)) for value in row] for row in matrix]
