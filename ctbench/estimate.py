"""How much a set of nodes would take, judged by the nodes that the store has already: of the same kind, model and precision.

Where the store has none, the speeds that `ctbench bench` measured on this machine and left in the home folder serve.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from ctbench.checkpoint import dimensions
from ctbench.errors import CTBenchError
from ctbench.graph import Node
from ctbench.store import Store

KINDS = ("base", "stage", "loss", "cell")
Work = tuple[str, str, str]
"""Model, precision and kind of device."""
MAX_SAMPLES = 200
"""So many records of each kind of work are enough."""
MAX_READ = 2000
"""Records of the store that are looked at, at most."""
TRAIN_OVER_EVALUATE: Final = 3.0
"""A token costs this many times as much in training, forward and backward, as when it is only read."""
TINY_LAYER_PARAMETERS: Final = 327_680


def estimate(nodes: Iterable[Node], store: Store, *, speeds: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return a row per kind of node: how many there are, are cached and missing, tokens to train on, and seconds.

    Seconds are the median of the nodes of that kind in the store with the same model and precision, scaled by tokens
    for bases and stages and by epochs for cells; where the store has none they come from `speeds`, and without those
    they are None. `source` says which: "store", "bench" or None.

    Args:
        nodes: of the runs asked for, each once.
        store: what is there already.
        speeds: from `read_speeds`.
    """
    every = list(nodes)
    seen = _samples(store, {_work(node) for node in every})
    rows = []
    for kind in KINDS:
        mine = [node for node in every if node.kind == kind]
        todo = [node for node in mine if not store.has(node.key)]
        tokens = sum(_num_tokens(node) for node in todo)
        seconds, source = _from_store(todo, seen), "store"
        if seconds is None:
            seconds, source = _from_bench(todo, speeds), "bench"
        rows.append(
            {
                "kind": kind,
                "total": len(mine),
                "cached": len(mine) - len(todo),
                "missing": len(todo),
                "tokens": tokens,
                "seconds": seconds,
                "source": None if seconds is None or not todo else source,
            }
        )
    return rows


def read_speeds(home: Path) -> list[dict[str, Any]]:
    """Return what `write_speeds` left in the home folder; nothing, or nothing legible, is no speed."""
    try:
        found = json.loads((home / "speeds.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def write_speeds(home: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep measured speeds for `plan`; a newer speed of the same kind, size, precision, threads and device replaces an older.

    Args:
        home: `ctbench.store.home()`.
        rows: `kind` "stage" or "cell", `layer_parameters`, `precision`, `threads`, `device` ("cpu" or "cuda"), and
            `seconds`: per token of a stage, per example and epoch of a cell.
    """

    def name(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return *(row[key] for key in ("kind", "layer_parameters", "precision", "threads")), row.get("device", "cpu")

    kept = {name(row): row for row in [*read_speeds(home), *rows]}
    home.mkdir(parents=True, exist_ok=True)
    temporary = home / "speeds.json.tmp"
    temporary.write_text(json.dumps(list(kept.values()), indent=1), encoding="utf-8")
    temporary.replace(home / "speeds.json")


def layer_parameters(model: str) -> int | None:
    """Return about how many weights the layers of a model have, judged by its config.json; None if it is not there."""
    if model == "tiny":
        return TINY_LAYER_PARAMETERS
    try:
        layers, width, _ = dimensions(model)
    except (CTBenchError, OSError, ValueError, TypeError):
        return None
    return 12 * layers * width**2 or None


def _num_tokens(node: Node) -> int:
    recipe = node.identity["recipe"]
    per_step = int(recipe.get("batch", 0)) * int(recipe.get("length", 0))
    if node.kind == "base":
        return -(-int(recipe["tokens"]) // per_step) * per_step
    if node.kind == "stage":
        return int(node.identity["num_steps"]) * per_step
    return 0


def _read_tokens(node: Node) -> float:
    """Tokens of a loss node, at most, counted as if they were trained on."""
    return int(node.identity["recipe"]["held_out_tokens"]) * len(node.identity["domains"]) / TRAIN_OVER_EVALUATE


def _work(node: Node) -> Work:
    """Return what a node's time depends on, beside its amount."""
    return str(node.how["model"]), str(node.identity["precision"]), str(node.identity.get("device", "cpu"))


def _from_store(todo: list[Node], seen: Mapping[Work, Sequence[Mapping[str, Any]]]) -> float | None:
    total = 0.0
    for work, nodes in _by_work(todo).items():
        records = seen.get(work, ())
        if nodes[0].kind == "cell":
            units = [record["seconds"] / record["work"]["epochs"] for record in records if "validation" in record]
            amount = sum(float(node.identity["recipe"]["epochs"]) for node in nodes)
        else:
            units = [record["seconds"] / record["tokens"] for record in records if _tells(record, nodes[0])]
            amount = sum(_read_tokens(node) if node.kind == "loss" else float(_num_tokens(node)) for node in nodes)
        if not units:
            return None
        total += median(units) * amount
    return total


def _tells(record: Mapping[str, Any], node: Node) -> bool:
    """Return whether a record is of training that tells how fast a node trains or reads text, which is never compiled."""
    same = record["work"].get("compiled", False) == node.identity.get("compiled", False)
    return "steps" in record and (same or node.kind == "loss")


def _by_work(nodes: Iterable[Node]) -> dict[Work, list[Node]]:
    found: dict[Work, list[Node]] = {}
    for node in nodes:
        found.setdefault(_work(node), []).append(node)
    return found


def _from_bench(todo: list[Node], speeds: Sequence[Mapping[str, Any]]) -> float | None:
    total, sizes = 0.0, {model: layer_parameters(model) for model in {str(node.how["model"]) for node in todo}}
    for node in todo:
        size = sizes[str(node.how["model"])]
        kind = "cell" if node.kind == "cell" else "stage"
        _, precision, where = _work(node)
        here = [row for row in speeds if row.get("device", "cpu") == where]
        near = _nearest(here, kind, size, precision, int(node.how["threads"]))
        if near is None or size is None:
            return None
        per_unit = float(near["seconds"]) * size / float(near["layer_parameters"])
        if node.kind == "cell":
            total += per_unit * float(near["examples"]) * int(node.identity["recipe"]["epochs"])
        else:
            total += per_unit * (_read_tokens(node) if node.kind == "loss" else _num_tokens(node))
    return total


def _nearest(
    speeds: Sequence[Mapping[str, Any]], kind: str, size: int | None, precision: str, threads: int
) -> Mapping[str, Any] | None:
    """Return the speed of that precision measured on the model of the nearest size, then with the nearest threads."""
    fitting = [row for row in speeds if row["kind"] == kind and row["precision"] == precision]
    if not fitting or size is None:
        return None
    return min(
        fitting,
        key=lambda row: (abs(math.log(size / row["layer_parameters"])), abs(threads - row["threads"])),
    )


def _samples(store: Store, wanted: set[Work]) -> dict[Work, list[dict[str, Any]]]:
    """Return the newest records by what was worked with; a damaged one, or one that goes away meanwhile, is left out."""
    paths = []
    for path in store.root.glob("??/*/record.json"):
        with contextlib.suppress(OSError):
            paths.append((path.stat().st_mtime, path))
    found: dict[Work, list[dict[str, Any]]] = {}
    for _, path in sorted(paths, reverse=True)[:MAX_READ]:
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            record = json.loads(path.read_text(encoding="utf-8"))
            told = record["work"]
            where = told.get("on", "cpu" if told.get("device", "cpu") == "cpu" else "cuda")
            work = told["model"], told["precision"], where
            if work in wanted:
                found.setdefault(work, []).append(record)
        if found.keys() == wanted and all(len(records) >= MAX_SAMPLES for records in found.values()):
            break
    return found
