"""The rows of retention in a result: the held-out loss of general text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ctbench.data.schema import GENERAL
from ctbench.engine.expand import RunGraph
from ctbench.training.retention import bits_per_byte


def retention(run: RunGraph, read: Callable[[str], Any]) -> dict[str, list[float | None]]:
    """Return `general_loss` and `general_bits` [T+1] of a result; empty lists without general text.

    Args:
        run: the run.
        read: from the key of a node to its record; None for one that failed.
    """
    if not run.general:
        return {"general_loss": [], "general_bits": []}
    losses: dict[int, float | None] = {}
    bits: dict[int, float | None] = {}
    for source, node in run.general.items():
        record = read(node.key)
        if record is None:
            losses[source] = bits[source] = None
            continue
        loss, width = record.losses[GENERAL], record.bytes_per_token.get(GENERAL)
        losses[source] = loss
        bits[source] = bits_per_byte(loss, width) if loss is not None and width else None
    return {"general_loss": _rows(run, losses), "general_bits": _rows(run, bits)}


def _rows(run: RunGraph, values: dict[int, float | None]) -> list[float | None]:
    rows: list[float | None] = []
    for sources in run.plan.cells:
        found = [None if source is None else values[source] for source in sources]
        known = [value for value in found if value is not None]
        is_known = len(known) == len(found)
        rows.append(known[0] if is_known and len({*known}) == 1 else sum(known) / len(known) if is_known else None)
    return rows
