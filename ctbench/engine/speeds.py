"""Measured speeds of this machine, which `ctbench bench` and a first `ctbench plan` leave in the home folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ctbench.backbone.checkpoint import MADE_WIDTHS, dimensions
from ctbench.errors import CTBenchError
from ctbench.machine.files import write_whole

Speed = Mapping[str, Any]
TINY_LAYER_PARAMETERS: Final = 327_680
WEIGHT_BYTES: Final = 4
"""Of a parameter in the store."""


def read_speeds(home: Path) -> list[dict[str, Any]]:
    """Return the speeds that `write_speeds` stored; an empty list if there are none or the file cannot be read."""
    try:
        found = json.loads((home / "speeds.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return [row for row in found if _is_speed(row)] if isinstance(found, list) else []


def _is_speed(row: object) -> bool:
    """Return whether a row of the file has what `nearest` and its callers read."""
    if not isinstance(row, dict) or row.get("kind") not in ("stage", "cell"):
        return False
    numbers = ["layer_parameters", "threads", "seconds", *(["examples"] if row["kind"] == "cell" else [])]
    known = isinstance(row.get("precision"), str) and all(isinstance(row.get(key), int | float) for key in numbers)
    return known and row["layer_parameters"] > 0


def write_speeds(home: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep measured speeds for `plan`; a newer speed of the same kind, size, precision, threads and device replaces an older.

    Args:
        home: `ctbench.engine.store.home()`.
        rows: `kind` "stage" or "cell", `layer_parameters`, `precision`, `threads`, `device` ("cpu" or "cuda"), and
            `seconds`: per token of a stage, per example and epoch of a cell.
    """

    def name(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return *(row[key] for key in ("kind", "layer_parameters", "precision", "threads")), row.get("device", "cpu")

    kept = {name(row): row for row in [*read_speeds(home), *rows]}
    home.mkdir(parents=True, exist_ok=True)
    write_whole(home / "speeds.json", json.dumps(list(kept.values()), indent=1))


def layer_parameters(model: str) -> int | None:
    """Return about how many weights the layers of a model have, judged by its config.json; None if it is not there."""
    if model in MADE_WIDTHS:
        return TINY_LAYER_PARAMETERS * MADE_WIDTHS[model] ** 2 // MADE_WIDTHS["tiny"] ** 2
    try:
        layers, width, _ = dimensions(model)
    except (CTBenchError, OSError, ValueError, TypeError):
        return None
    return 12 * layers * width**2 or None


def model_bytes(model: str) -> int | None:
    """Return about how many bytes the weights of a model take in the store; None if its config.json is not there."""
    try:
        layers, width, vocabulary = dimensions(model)
    except (CTBenchError, OSError, ValueError, TypeError):
        return None
    return WEIGHT_BYTES * (12 * layers * width**2 + vocabulary * width)


def nearest(speeds: Sequence[Speed], kind: str, size: int | None, precision: str, threads: int) -> Speed | None:
    """Return the speed of that precision measured on the model of the nearest size, then with the nearest threads."""
    fitting = [row for row in speeds if row["kind"] == kind and row["precision"] == precision]
    if not fitting or size is None:
        return None
    return min(
        fitting,
        key=lambda row: (abs(math.log(size / row["layer_parameters"])), abs(threads - row["threads"])),
    )
