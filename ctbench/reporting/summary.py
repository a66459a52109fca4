"""The tables of one result: matrices, metrics, cost, findings. Pure functions of the result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np

from ctbench.reporting import numbers
from ctbench.reporting.facts import facts_table
from ctbench.reporting.labels import in_brief, over_seeds
from ctbench.reporting.provenance import provenance_table, settings_table
from ctbench.reporting.scores import DEFAULT_METRICS
from ctbench.reporting.tables import Cell, Table
from ctbench.results.checks import NOTE
from ctbench.results.failures import failure_lines
from ctbench.results.figures import as_numbers
from ctbench.results.findings import known_findings
from ctbench.results.loss_metrics import metrics_on
from ctbench.results.metrics import METRICS
from ctbench.results.schema import Finding, Result, StageRecord

MAX_MATRICES: Final = 3
"""Number of runs up to which an answer shows every matrix."""


def describe(result: Result, *, explain: bool = False) -> Iterator[Table]:
    """Yield all tables of a result, the most important first.

    Args:
        result: the run.
        explain: add the definitions of the metrics.
    """
    yield matrix_table(result, details=True)
    if (facts := facts_table(result, row_names(result))) is not None:
        yield facts
    yield metric_table(result, explain=explain)
    yield loss_table(result)
    yield metric_table(result, explain=explain, on="loss")
    yield cost_table(result)
    yield settings_table(result)
    yield provenance_table(result)


def answer(results: Sequence[Result], *, places: Sequence[str] = ()) -> Iterator[Table]:
    """Yield what a run prints: the matrix and the metrics, and where the results are; of many runs one line each.

    Args:
        results: the runs.
        places: the files of the results.
    """
    if len(results) <= MAX_MATRICES:
        for result in results:
            yield matrix_table(result)
    yield runs_table(results, places) if len(results) > 1 else metric_table(results[0], notes=_whereabouts(places))


def _whereabouts(places: Sequence[str]) -> list[str]:
    if not places:
        return []
    return [f"result: {places[0]}", f"ctbench show {places[0]}: LM losses, cost, settings, provenance"]


def runs_table(results: Sequence[Result], places: Sequence[str] = ()) -> Table:
    """Return the metrics of several runs, one line each."""
    rows = []
    for result in results:
        order = f" order {result.order}" if result.order else ""
        values = result.computed_metrics
        scores = [numbers.metric_number(METRICS[name], values[name]) for name in DEFAULT_METRICS]
        names = (result.key[:12], result.stream.name, result.method.name, f"{result.seed}{order}")
        rows.append(tuple(Cell(text=text) for text in (*names, *scores)))
    named = ("key", "stream", "method", "seed")
    folders = sorted({str(Path(place).parent) for place in places})
    notes = [f"results: {', '.join(folders[:3])}{' ...' if len(folders) > 3 else ''}"] if folders else []
    notes.append("ctbench show KEY tells all about one run, ctbench compare compares methods")
    heads = [f"{name} {'↑' if METRICS[name].better == 'higher' else '↓'}" for name in DEFAULT_METRICS]
    title = f"{len(results)} runs: metrics in %, differences in points"
    return Table(
        title=title, columns=(*named, *heads), rows=tuple(rows), num_keys=1, left=named[1:3], notes=tuple(notes)
    )


def headline(result: Result) -> str:
    """Return one line that names the run."""
    backbone = f"{result.backbone.name} ({numbers.count(result.backbone.parameters)} parameters)"
    recipe = f"recipe {result.recipe.name}"
    order = f" order {result.order}" if result.order else ""
    run = f"{result.method.name} on {result.stream.name} v{result.stream.version}, seed {result.seed}{order}"
    return f"{run} · {backbone} · {recipe} · {result.precision} · key {result.key[:16]}"


def row_names(result: Result) -> list[str]:
    """Return the names of the rows of the matrix; a row without a stage of its own has only its number."""
    names = ["0 base"]
    stages = result.plan.stages
    for row in range(1, result.num_tasks + 1):
        is_stage = len(stages) == result.num_tasks
        domains = stages[row - 1] if is_stage else stages[-1] if row == result.num_tasks and len(stages) == 1 else ()
        names.append(
            f"{row} after {' + '.join(domains)}"
            if 0 < len(domains) <= 2
            else f"{row} after all"
            if domains
            else str(row)
        )
    return names


def matrix_table(result: Result, *, details: bool = False) -> Table:
    """Return the matrix in percent: [domain just learned], seen, (not seen yet).

    Args:
        result: the run.
        details: add the number of test texts and the sampling error.
    """
    has_stages = len(result.plan.stages) == result.num_tasks
    rows = []
    for row, (name, values) in enumerate(zip(row_names(result), result.matrix.tolist(), strict=True)):
        cells = [_matrix_cell(row, column, value, has_stages=has_stages) for column, value in enumerate(values)]
        rows.append((Cell(text=name), *cells))
    for name, scores in _references(result):
        if any(score is not None for score in scores):
            rows.append((Cell(text=name, dim=True), *(Cell(text=f"{numbers.percent(s)} ", dim=True) for s in scores)))
    if details and result.stream.num_test:
        sizes = [result.stream.num_test[domain] for domain in result.stream.domains]
        errors = [
            _sampling_error(result.matrix[-1][place], 0 if result.stream.lowest(domain) < 0 else size)
            for place, (domain, size) in enumerate(zip(result.stream.domains, sizes, strict=True))
        ]
        rows.append((Cell(text="test texts", dim=True), *(Cell(text=f"{size} ", dim=True) for size in sizes)))
        rows.append((Cell(text="sampling error", dim=True), *(Cell(text=f"± {error} ", dim=True) for error in errors)))
    kinds = [
        numbers.SCORES.get(kind, kind) for kind in (result.stream.metric[domain] for domain in result.stream.domains)
    ]
    is_one = len(set(kinds)) == 1
    heads = (
        result.stream.domains if is_one else [f"{d}, {k}" for d, k in zip(result.stream.domains, kinds, strict=True)]
    )
    notes = [f"incomplete, on no leaderboard: {line}" for line in failure_lines(result.failures)]
    notes += [f"not on the leaderboard: {reason}" for reason in in_brief(result.not_comparable)]
    notes += [_finding_line(finding) for finding in known_findings(result)]
    told = [
        f"{kinds[0] if is_one else 'score'} in %, {over_seeds(result)}: [domain just learned], (domain not seen yet)"
    ]
    if details and result.stream.num_test:
        told.append(
            "sampling error: standard error of row T for the number of test texts, as of an accuracy; none of a correlation"
        )
    columns = (f"{kinds[0]}, %" if is_one else "%", *heads)
    return Table(title=headline(result), columns=columns, rows=tuple(rows), notes=(*told, *notes))


def _references(result: Result) -> Iterator[tuple[str, Sequence[float | None]]]:
    """Yield points of reference by name: control, most frequent class, Bayes classifier."""
    stream = result.stream
    yield "control", result.control.scores if result.control else ()
    if stream.baseline is not None:
        name = "majority class" if stream.tasks is None else "trivial baseline"
        yield name, [stream.baseline.get(domain) for domain in stream.domains]
    else:  # an older result knows the accuracy alone
        is_accuracy = set(stream.metric.values()) <= {"accuracy", "micro_f1"}
        name = "majority class" if is_accuracy else "majority, accuracy"
        yield name, [stream.majority.get(domain) for domain in stream.domains]
    yield "Bayes", [stream.bayes.get(domain) for domain in stream.domains] if stream.bayes else ()


def _sampling_error(score: float, size: int) -> str:
    """Return the standard error in points of a share that was counted on `size` texts."""
    return numbers.percent(math.sqrt(score * (1 - score) / size) if size and 0 <= score <= 1 else None)


def _finding_line(finding: Finding) -> str:
    is_note = finding.code == NOTE
    return f"note: {finding.message}" if is_note else f"finding {finding.code}: {finding.message}"


def _matrix_cell(row: int, column: int, value: float, *, has_stages: bool) -> Cell:
    text = numbers.percent(value)
    if math.isnan(value) or row == 0 or row > column + 1 or not has_stages:
        return Cell(text=f"{text} ")
    return Cell(text=f"[{text}]") if row == column + 1 else Cell(text=f"({text})", dim=True)


def loss_table(result: Result) -> Table:
    """Return the held-out LM losses in nats per predicted token, with their standard errors if the result has them.

    The column `general` is the loss of the stream's general text.
    """
    errors = np.full_like(result.lm_loss, math.nan) if result.lm_loss_error is None else result.lm_loss_error
    more = [[numbers.loss(value)] for value in result.general_loss] or [[] for _ in result.lm_loss]
    rows = []
    for name, values, spread, general in zip(
        row_names(result), result.lm_loss.tolist(), errors.tolist(), more, strict=True
    ):
        shown = [
            numbers.loss(value) + ("" if math.isnan(error) else f" ± {numbers.loss(error)}")
            for value, error in zip(values, spread, strict=True)
        ]
        rows.append(tuple(Cell(text=text) for text in (name, *shown, *general)))
    lacking = [numbers.DASH] if result.general_loss else []
    if result.control is not None:
        losses = [*map(numbers.loss, result.control.lm_loss), *lacking]
        rows.append((Cell(text="control"), *(Cell(text=text) for text in losses)))
    notes = []
    if predicted := result.stream.num_predicted:
        counts = [*(numbers.count(predicted.get(domain)) for domain in result.stream.domains), *lacking]
        rows.append((Cell(text="predicted tokens", dim=True), *(Cell(text=text, dim=True) for text in counts)))
        notes.append("±: standard error for the number of predicted tokens, as if each was drawn for itself")
    notes += _general_notes(result)
    title = "LM loss on held-out text, nats per predicted token"
    columns = ("row", *result.stream.domains, *(["general"] if result.general_loss else []))
    return Table(title=title, columns=columns, rows=tuple(rows), notes=tuple(notes))


def _general_notes(result: Result) -> Iterator[str]:
    bits = as_numbers(result.general_bits)
    if bits.size and not math.isnan(bits[0] + bits[-1]):
        yield f"general: the stream's general text; {bits[0]:.3f} bits per byte in row 0, {bits[-1]:.3f} in the last row"


def metric_table(result: Result, *, explain: bool = False, on: str = "score", notes: Sequence[str] = ()) -> Table:
    """Return the metrics of the scores or of the LM losses, with their definitions if `explain` is set."""
    known, rows = metrics_on(on), []
    for name, value in (result.loss_metrics if on == "loss" else result.metrics).items():
        metric = known.get(name)
        if metric is None:  # of another version of ctbench
            texts = [name, numbers.percent(value), "", "", ""]
        else:
            arrow = "↑" if metric.better == "higher" else "↓"
            text = numbers.metric_number(metric, value)
            text += " %" if on == "loss" and not metric.is_loss and text != numbers.DASH else ""
            texts = [name, text, arrow, metric.definition, metric.source]
        rows.append(tuple(Cell(text=text) for text in (texts if explain else texts[:3])))
    columns = ("metric", "nats" if on == "loss" else "%", "better", *(("definition", "source") if explain else ()))
    if on == "loss":
        title, told = "Metrics of the LM losses", "BWT, FWT, FWT_all and gain are positive where the loss fell"
    else:
        title, told = "Metrics", "differences in points; the reference R[0] is the fine-tuned untouched LM"
    left = ("definition", "source")
    return Table(title=title, columns=columns, rows=tuple(rows), left=left, notes=(told, *notes))


def cost_table(result: Result) -> Table:
    """Return the cost of each stage and of all stages together."""
    cost = result.cost
    has_cpu = cost.cpu_seconds is not None and all(stage.cpu_seconds is not None for stage in result.stages)
    rows = [_stage_row(stage, has_cpu=has_cpu) for stage in result.stages]
    total = [
        "all",
        "",
        numbers.count(cost.tokens),
        numbers.count(cost.forward_tokens),
        numbers.count(cost.flops),
        numbers.seconds(cost.cpu_seconds if has_cpu else cost.seconds),
        numbers.size(cost.peak_memory_bytes),
        "",
        numbers.count(cost.added_parameters),
        numbers.size(cost.stored_bytes),
        "",
    ]
    rows.append(tuple(Cell(text=text) for text in total))
    time_name = "CPU time" if has_cpu else "time"
    head = ("stage", "domains", "tokens", "forward tokens", "FLOPs")
    columns = (*head, time_name, "peak memory", "trained", "added", "stored", "training loss")
    traits = [name.replace("_", " ") for name, holds in asdict(result.method.traits).items() if holds]
    time, flops = numbers.seconds(cost.cell_seconds), cost.cell_flops
    more = "" if flops is None else f" and {numbers.count(flops)} FLOPs"
    notes = (f"fine-tuning of the cells took {time}{more}", f"traits: {', '.join(traits) or 'none'}")
    return Table(
        title="Cost",
        columns=columns,
        rows=tuple(rows),
        num_keys=2,
        notes=notes,
    )


def _stage_row(stage: StageRecord, *, has_cpu: bool) -> tuple[Cell, ...]:
    curve = [value for value in stage.losses.get("lm", stage.losses.get("loss", ())) if value is not None]
    texts = [
        str(stage.stage),
        " + ".join(stage.domains),
        numbers.count(stage.tokens),
        numbers.count(stage.forward_tokens),
        numbers.count(stage.flops),
        numbers.seconds(stage.cpu_seconds if has_cpu else stage.seconds),
        numbers.size(stage.peak_memory_bytes),
        numbers.count(stage.trained_parameters),
        numbers.count(stage.added_parameters),
        numbers.size(stage.stored_bytes),
        f"{numbers.loss(curve[0])} → {numbers.loss(curve[-1])}" if curve else numbers.DASH,
    ]
    return tuple(Cell(text=text) for text in texts)
