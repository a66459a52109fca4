"""The runs of the HTML page: one block per method with settings, costs, provenance, and a command for every run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ctbench.reporting import numbers
from ctbench.reporting.entries import Entry
from ctbench.reporting.reproduce import command_line
from ctbench.results.metrics import METRICS
from ctbench.results.schema import Result

SHOWN_METRICS = ("A_Acc", "O_Acc", "F_Acc")


def shared_settings(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Return the settings of the recipe that all runs share."""
    found = [set(_recipe(result)) for entry in entries for result in entry.results.values()]
    shared = set.intersection(*found)
    return [setting for setting in _recipe(entries[0].first) if setting in shared]


def runs_of(entry: Entry, shared: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return everything about the runs of an entry for the template."""
    results = list(entry.results.values())
    return {
        "label": entry.label,
        "method": entry.first.method,
        "backbone": entry.first.backbone,
        "settings": list(_own_settings(entry.first, shared)),
        "stages": list(_stages(results)),
        "provenance": list(dict.fromkeys(_provenance(result) for result in results)),
        "runs": [_run(result) for result in results],
    }


def _recipe(result: Result) -> list[tuple[str, str]]:
    recipe = result.recipe
    parts = {"base": recipe.base or {}, "pretrain": recipe.pretrain, "finetune": recipe.finetune}
    return [(f"{part}.{key}", _json(value)) for part, values in parts.items() for key, value in values.items()]


def _own_settings(result: Result, shared: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, bool]]:
    """Yield name, value and whether `--set` changed it."""
    own = [(f"method.{key}", _json(value)) for key, value in result.method.settings.items()]
    own += [setting for setting in _recipe(result) if setting not in shared or setting[0] in result.changed]
    yield from ((key, value, key in result.changed) for key, value in own)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _stages(results: Sequence[Result]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, tokens, forward tokens and mean time of each stage that all runs have."""
    for number, stages in enumerate(zip(*(result.stages for result in results), strict=False), start=1):
        names = {" + ".join(stage.domains) for stage in stages}
        name = f"{number} {names.pop()}" if len(names) == 1 else str(number)
        means = [float(np.mean([getattr(stage, key) for stage in stages])) for key in ("tokens", "forward_tokens")]
        seconds = float(np.mean([stage.seconds for stage in stages]))
        yield name, f"{means[0]:,.0f}", f"{means[1]:,.0f}", numbers.seconds(seconds)


def _provenance(result: Result) -> tuple[tuple[str, str], ...]:
    found = result.provenance
    versions = f"python {found.python}, torch {found.torch}, transformers {found.transformers}"
    return (
        ("versions", f"ctbench {found.ctbench}, {versions}"),
        ("machine", f"{found.platform}, {found.processor}, {found.num_cores or '?'} cores, {result.precision}"),
        ("source", f"{found.git or 'unknown'}, {found.date}"),
    )


def _run(result: Result) -> dict[str, Any]:
    scores = (f"{name} {numbers.metric_number(METRICS[name], result.computed_metrics[name])}" for name in SHOWN_METRICS)
    return {
        "name": f"seed {result.seed}" + (f" order {result.order}" if result.order else ""),
        "scores": " · ".join(scores),
        "key": result.key,
        "command": command_line(result),
        "not_comparable": ", ".join(result.not_comparable),
    }
