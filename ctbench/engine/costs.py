"""What a run cost: the sums over its stages, and what fine-tuning added."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any


def total_cost(
    kept: Collection[int], stages: Sequence[dict[str, Any]], cells: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Add up what the stages cost; a plan that ends in several LMs adds what was trained for each of the others.

    Args:
        kept: stages whose LMs the plan ends in.
        stages: records of the result's stages.
        cells: records of the result's cells; one of several rows counts once.
    """
    trained = sorted(stage["trained_parameters"] for stage in stages if stage["stage"] in kept)
    seconds = {cell["key"]: cell["seconds"] for cell in cells if "seconds" in cell}
    flops = {cell["key"]: cell["flops"] for cell in cells if "flops" in cell}
    return {
        "tokens": sum(stage["tokens"] for stage in stages),
        "forward_tokens": sum(stage["forward_tokens"] for stage in stages),
        "flops": _sum([stage["flops"] for stage in stages]),
        "seconds": sum(stage["seconds"] for stage in stages),
        "cpu_seconds": _sum([stage["cpu_seconds"] for stage in stages]),
        "peak_memory_bytes": max(
            (peak for stage in stages if (peak := stage["peak_memory_bytes"]) is not None), default=None
        ),
        "added_parameters": max((stage["added_parameters"] for stage in stages), default=0) + sum(trained[:-1]),
        "stored_bytes": max((stage["stored_bytes"] for stage in stages), default=0),
        "cell_seconds": _sum(list(seconds.values())),
        "cell_flops": _sum(list(flops.values())),
    }


def _sum(values: Sequence[float | None]) -> float | None:
    """Return a sum; None if a part of it is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
