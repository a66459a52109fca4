"""What becomes of a result file when its run is written once more."""

from __future__ import annotations

from typing import Literal

from ctbench.results.same import lacks, same_numbers
from ctbench.results.schema import Result

Status = Literal["new", "incomplete", "completed", "kept", "same", "marked anew", "differs"]
"""How writing a result ended; see `ctbench.results.files.Written`."""


def what_follows(before: Result, result: Result) -> Status | None:
    """Return how writing `result` over `before` ends; None if both are complete, and of different numbers or protocols."""
    if before.key == result.key and before.failures:
        return "incomplete" if result.failures else "completed"
    if before.key == result.key and result.failures:
        return "kept"
    if not same_numbers(before, result):
        return None
    if _marks(before) > _marks(result):
        return "marked anew"
    # the key names nodes, which a stream's new version may share with the old one; a table holds the runs of one protocol
    if (before.protocol, before.stream.version) != (result.protocol, result.stream.version):
        return None
    return "completed" if _marks(before) == _marks(result) and lacks(before, result) else "same"


def _marks(result: Result) -> int:
    """Return the number of reasons that keep a run off the leaderboard."""
    return len(result.not_comparable) + (not result.method.registered) + (not result.stream.registered)
