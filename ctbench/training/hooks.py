"""What the pre-training loop calls on its way, and when it stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ctbench.training.checkpoint import StageCheckpoint

Report = Callable[[int, int, float], None]
"""Called with (step, num_steps, loss) at every logged point."""
Tell = Callable[[int, int], None]
"""Called with (step, num_steps)."""


@dataclass(frozen=True, kw_only=True)
class LoopHooks:
    """What the loop calls, and when it stops.

    Args:
        report: called with (step, num_steps, loss) at logged points.
        save: called with a checkpoint, at logged points and when an interrupt stops the loop; None saves none.
        save_seconds: wall time between two checkpoints; 0 saves one at every logged point.
        resuming: called with (step, num_steps) if the loop resumes from a checkpoint.
        saved: called with (step, num_steps) after the checkpoint of an interrupted loop was saved.
        max_loss: a stage whose loss, mean of a logged point, is above it fails; None has no limit.
    """

    report: Report | None = None
    save: Callable[[StageCheckpoint], None] | None = None
    save_seconds: float = 60.0
    resuming: Tell | None = None
    saved: Tell | None = None
    max_loss: float | None = None
