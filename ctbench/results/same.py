"""Whether two results of one key hold the same numbers, and whether one holds figures that the other lacks."""

from __future__ import annotations

from typing import Any, Final

from ctbench.results.format import to_record
from ctbench.results.schema import Result

MEASURED: Final = ("seconds", "cpu_seconds", "peak_memory_bytes")
"""What may differ from run to run."""
ADDED: Final[tuple[str, ...]] = ("general_loss", "general_bits")
"""Figures of a result that a file written before they existed lacks; where both have one it must be equal."""
ADDED_TO_STAGES: Final[tuple[str, ...]] = ("rates", "flops")
"""The same of a stage."""


def same_numbers(before: Result, after: Result) -> bool:
    """Return whether two results agree in everything that runs of one key share; times and memory may differ."""
    one, other = to_record(before), to_record(after)
    shared = one["metrics"].keys() & other["metrics"].keys()
    metrics = [{name: record["metrics"][name] for name in shared} for record in (one, other)]
    stages = zip(one["stages"], other["stages"], strict=False)
    return (
        _numbers(one) == _numbers(other)
        and metrics[0] == metrics[1]
        and _agree(one, other, ADDED)
        and all(_agree(stage, again, ADDED_TO_STAGES) for stage, again in stages)
    )


def lacks(before: Result, after: Result) -> bool:
    """Return whether `after` has figures that `before`, of an older version, does not have."""
    one, other = to_record(before), to_record(after)
    pairs = [(one, other, name) for name in ADDED]
    for stage, again in zip(one["stages"], other["stages"], strict=False):
        pairs += [(stage, again, name) for name in ADDED_TO_STAGES]
    is_added = any(not old.get(name) and new.get(name) for old, new, name in pairs)
    return is_added or bool(other["metrics"].keys() - one["metrics"].keys())


def _agree(one: dict[str, Any], other: dict[str, Any], names: tuple[str, ...]) -> bool:
    return all(not one.get(name) or not other.get(name) or one[name] == other[name] for name in names)


def _numbers(record: dict[str, Any]) -> object:
    cells = [{key: value for key, value in cell.items() if key not in ("seconds", "flops")} for cell in record["cells"]]
    without = (*MEASURED, *ADDED_TO_STAGES)
    stages = [{key: value for key, value in stage.items() if key not in without} for stage in record["stages"]]
    base = record["backbone"]["weights_digest"]
    return [record[name] for name in ("key", "matrix", "lm_loss", "control")], cells, stages, base
