"""Three loops that do the same pre-training work, each timed after a warm-up: engine, bare loop, Trainer.

The work: blocks of T tokens, 15 % of the places predicted (80/10/10), the model's own dropout, AdamW with a linear
schedule, gradients clipped at 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ctbench.speed.bare_loop import run_bare
from ctbench.speed.engine_loop import run_engine
from ctbench.speed.shapes import Shape
from ctbench.speed.trainer_loop import run_trainer
from ctbench.speed.work import Work

LOOPS: Final[dict[str, Callable[[Work], dict[str, Any]]]] = {
    "engine": run_engine,
    "bare": run_bare,
    "trainer": run_trainer,
}


def run_loop(request: dict[str, Any]) -> dict[str, Any]:
    """Run the loop that a request names; its other keys are the fields of `Work`, the shape as a dictionary."""
    rest = {key: value for key, value in request.items() if key != "loop"}
    return LOOPS[request["loop"]](Work(**rest | {"shape": Shape(**request["shape"])}))
