"""What one result looks like in a terminal: matrices, metrics, cost, findings, settings. Pure functions of the result."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from ctbench.findings import known_findings
from ctbench.metrics import METRICS
from ctbench.report import numbers
from ctbench.report.reproduce import command_line
from ctbench.report.tables import Cell, Table
from ctbench.schema import Result, StageRecord


def describe(result: Result, *, explain: bool = False, details: bool = True) -> Iterator[Table]:
    """Yield the tables of a result in the order in which a reader wants them.

    Args:
        result: the run.
        explain: add the definitions of the metrics.
        details: add settings, provenance and the command that makes it again.
    """
    yield matrix_table(result)
    yield loss_table(result)
    yield metric_table(result, explain=explain)
    yield cost_table(result)
    if details:
        yield settings_table(result)
        yield provenance_table(result)


def headline(result: Result) -> str:
    """Return one line that names the run."""
    backbone = f"{result.backbone.name} ({numbers.count(result.backbone.parameters)} parameters)"
    recipe = f"recipe {result.recipe.name}"
    order = f" order {result.order}" if result.order else ""
    run = f"{result.method.name} on {result.stream.name} v{result.stream.version}, seed {result.seed}{order}"
    return f"{run} · {backbone} · {recipe} · {result.precision} · key {result.key[:16]}"


def row_names(result: Result) -> list[str]:
    """Return what the rows of the matrix are called; a row without a stage of its own has only its number."""
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


def matrix_table(result: Result) -> Table:
    """Return the anytime matrix in percent: [just learned], seen, (not seen yet)."""
    has_stages = len(result.plan.stages) == result.num_tasks
    rows = []
    for row, (name, values) in enumerate(zip(row_names(result), result.matrix.tolist(), strict=True)):
        cells = [_matrix_cell(row, column, value, has_stages=has_stages) for column, value in enumerate(values)]
        rows.append((Cell(text=name), *cells))
    references: tuple[tuple[str, Sequence[float | None]], ...] = (
        ("control", result.control.scores if result.control else ()),
        (_majority_name(result), [result.stream.majority.get(domain) for domain in result.stream.domains]),
        ("Bayes", [result.stream.bayes.get(domain) for domain in result.stream.domains] if result.stream.bayes else ()),
    )
    for name, scores in references:
        if any(score is not None for score in scores):
            rows.append((Cell(text=name, dim=True), *(Cell(text=f"{numbers.percent(s)} ", dim=True) for s in scores)))
    notes = [f"off the leaderboard: {reason}" for reason in result.not_comparable]
    notes += [f"finding {finding.code}: {finding.message}" for finding in known_findings(result)]
    num_seeds = len({cell.finetune_seed for cell in result.cells})
    over = f"mean over {num_seeds} fine-tuning seeds" if num_seeds > 1 else "one fine-tuning seed"
    notes = [f"score in %, {over}: [domain just learned], (domain not seen yet)", *notes]
    return Table(title=headline(result), columns=("row", *result.stream.domains), rows=tuple(rows), notes=tuple(notes))


def _majority_name(result: Result) -> str:
    """Name the row of the most frequent class: its accuracy, whatever the metric of the scores above."""
    is_accuracy = set(result.stream.metric.values()) <= {"accuracy", "micro_f1"}
    return "majority class" if is_accuracy else "majority, accuracy"


def _matrix_cell(row: int, column: int, value: float, *, has_stages: bool) -> Cell:
    text = numbers.percent(value)
    if math.isnan(value) or row == 0 or row > column + 1 or not has_stages:
        return Cell(text=f"{text} ")
    return Cell(text=f"[{text}]") if row == column + 1 else Cell(text=f"({text})", dim=True)


def loss_table(result: Result) -> Table:
    """Return the held-out LM losses in nats per predicted token."""
    rows = [
        (Cell(text=name), *(Cell(text=numbers.loss(value)) for value in values))
        for name, values in zip(row_names(result), result.lm_loss.tolist(), strict=True)
    ]
    if result.control is not None:
        rows.append((Cell(text="control"), *(Cell(text=numbers.loss(value)) for value in result.control.lm_loss)))
    title = "LM loss on held-out text, nats per predicted token"
    return Table(title=title, columns=("row", *result.stream.domains), rows=tuple(rows))


def metric_table(result: Result, *, explain: bool = False) -> Table:
    """Return the metrics, with their definitions on request."""
    rows = []
    for name, value in result.metrics.items():
        metric = METRICS.get(name)
        arrow = "" if metric is None else "↑" if metric.better == "higher" else "↓"
        texts = [name, numbers.metric_number(name, value), arrow]
        if explain:
            texts += [metric.definition, metric.source] if metric else ["", ""]
        rows.append(tuple(Cell(text=text) for text in texts))
    columns = ("metric", "%", "better", *(("definition", "source") if explain else ()))
    notes = ("differences in points; the reference R[0] is the fine-tuned untouched LM",)
    return Table(title="Metrics", columns=columns, rows=tuple(rows), left=("definition", "source"), notes=notes)


def cost_table(result: Result) -> Table:
    """Return what each stage cost, and all together."""
    cost = result.cost
    has_cpu = cost.cpu_seconds is not None and all(stage.cpu_seconds is not None for stage in result.stages)
    rows = [_stage_row(stage, has_cpu=has_cpu) for stage in result.stages]
    total = [
        "all",
        "",
        numbers.count(cost.tokens),
        numbers.count(cost.forward_tokens),
        numbers.seconds(cost.cpu_seconds if has_cpu else cost.seconds),
        numbers.size(cost.peak_memory_bytes),
        "",
        numbers.count(cost.added_parameters),
        numbers.size(cost.stored_bytes),
        "",
    ]
    rows.append(tuple(Cell(text=text) for text in total))
    time_name = "CPU time" if has_cpu else "time"
    columns = ("stage", "domains", "tokens", "forward tokens", time_name, "peak memory", "trained", "added", "stored")
    traits = [name.replace("_", " ") for name, holds in asdict(result.method.traits).items() if holds]
    time = numbers.seconds(cost.cell_seconds)
    notes = (f"the cells took {time} of fine-tuning", f"traits: {', '.join(traits) or 'none'}")
    return Table(
        title="Cost",
        columns=(*columns, "training loss"),
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
        numbers.seconds(stage.cpu_seconds if has_cpu else stage.seconds),
        numbers.size(stage.peak_memory_bytes),
        numbers.count(stage.trained_parameters),
        numbers.count(stage.added_parameters),
        numbers.size(stage.stored_bytes),
        f"{numbers.loss(curve[0])} → {numbers.loss(curve[-1])}" if curve else numbers.DASH,
    ]
    return tuple(Cell(text=text) for text in texts)


def settings_table(result: Result) -> Table:
    """Return the settings of the method and of the recipe."""
    parts: dict[str, Mapping[str, object]] = {
        "method": result.method.settings,
        "base": result.recipe.base or {},
        "pretrain": result.recipe.pretrain,
        "finetune": result.recipe.finetune,
    }
    rows = []
    for part, settings in parts.items():
        for key, value in settings.items():
            name = f"{part}.{key}"
            texts = (name, json.dumps(value, ensure_ascii=False), "set by hand" if name in result.changed else "")
            rows.append(tuple(Cell(text=text) for text in texts))
    return Table(title="Settings", columns=("key", "value", ""), rows=tuple(rows), left=("value", ""))


def provenance_table(result: Result) -> Table:
    """Return with what the numbers were made, and how to make them again."""
    record = {key: value for key, value in asdict(result.provenance).items() if value not in (None, "")}
    record |= {"method version": result.method.version, "paper": result.method.paper or numbers.DASH}
    record |= {"protocol": result.protocol, "data digest": result.stream.digest[:16]}
    record |= {"backbone digest": result.backbone.digest[:16]}
    rows = [(Cell(text=key.replace("_", " ")), Cell(text=str(value))) for key, value in record.items()]
    notes = [f"make it again: {command_line(result)}"]
    if not (result.method.registered and result.stream.registered and result.backbone.name == "tiny"):
        notes.append("files and folders of one's own are named without their place: put it before their names")
    return Table(title="Provenance", columns=("", "value"), rows=tuple(rows), left=("value",), notes=tuple(notes))
