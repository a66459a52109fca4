"""The tables of what a result was made with: settings, versions and digests, and the command that makes it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from ctbench.reporting import numbers
from ctbench.reporting.reproduce import command_line
from ctbench.reporting.tables import Cell, Table
from ctbench.results.schema import Result


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
    """Return versions, machine and digests, and the command that reproduces the result."""
    record = {key: value for key, value in asdict(result.provenance).items() if value not in (None, "")}
    record |= {"method version": result.method.version, "paper": result.method.paper or numbers.DASH}
    record |= {"protocol": result.protocol, "data digest": result.stream.digest[:16]}
    record |= {"backbone digest": result.backbone.digest[:16]}
    rows = [(Cell(text=key.replace("_", " ")), Cell(text=str(value))) for key, value in record.items()]
    notes = [f"reproduce: {command_line(result)}"]
    if not (result.method.registered and result.stream.registered and result.backbone.name == "tiny"):
        notes.append("the command names your own files and folders without their path; add it")
    return Table(title="Provenance", columns=("", "value"), rows=tuple(rows), left=("value",), notes=tuple(notes))
