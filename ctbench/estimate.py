"""How much a set of nodes would take, judged by the nodes of the same kind that the store has already."""

from __future__ import annotations

import json
from collections.abc import Iterable
from statistics import median
from typing import Any

from ctbench.graph import Node
from ctbench.store import Store

KINDS = ("base", "stage", "loss", "cell")
MAX_SAMPLES = 200
"""Records of the store that are looked at, at most."""


def estimate(nodes: Iterable[Node], store: Store) -> list[dict[str, Any]]:
    """Return a row per kind of node: how many there are, are cached and missing, tokens to train on, and seconds.

    Seconds are the median of the nodes of that kind in the store, scaled by tokens for bases and stages; None where
    the store has none.
    """
    every = list(nodes)
    seen = _samples(store)
    rows = []
    for kind in KINDS:
        mine = [node for node in every if node.kind == kind]
        todo = [node for node in mine if not store.has(node.key)]
        tokens = sum(_num_tokens(node) for node in todo)
        rows.append(
            {
                "kind": kind,
                "total": len(mine),
                "cached": len(mine) - len(todo),
                "missing": len(todo),
                "tokens": tokens,
                "seconds": _seconds(kind, todo, tokens, seen),
            }
        )
    return rows


def _num_tokens(node: Node) -> int:
    recipe = node.identity["recipe"]
    per_step = int(recipe.get("batch", 0)) * int(recipe.get("length", 0))
    if node.kind == "base":
        return -(-int(recipe["tokens"]) // per_step) * per_step
    if node.kind == "stage":
        return int(node.identity["num_steps"]) * per_step
    return 0


def _seconds(kind: str, todo: list[Node], tokens: int, seen: list[dict[str, Any]]) -> float | None:
    if not todo:
        return 0.0
    if kind in ("base", "stage"):
        speeds = [record["seconds"] / record["tokens"] for record in seen if "steps" in record]
        return tokens * median(speeds) if speeds else None
    if kind == "loss":
        return 0.0
    times = [record["seconds"] for record in seen if "validation" in record]
    return len(todo) * median(times) if times else None


def _samples(store: Store) -> list[dict[str, Any]]:
    paths = sorted(store.root.glob("??/*/record.json"), key=lambda path: path.stat().st_mtime)[-MAX_SAMPLES:]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]
