"""What a loop is asked to do, and the reading that it returns."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch

from ctbench.machine.device import device
from ctbench.speed.shapes import RandomBlocks, Shape

NUM_BLOCKS: Final = 2_048


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a loop is asked to do.

    Args:
        shape: model and batch.
        precision: "fp32" or "bf16".
        threads: CPU threads.
        warmup: steps before the clock starts.
        steps: timed steps.
        method: name or path of a method, for the engine; None is the LM loss alone.
        compiled: whether the engine compiles the layers, or the Trainer the model.
    """

    shape: Shape
    precision: str
    threads: int
    warmup: int
    steps: int
    method: str | None = None
    compiled: bool = False

    @property
    def num_steps(self) -> int:
        """All steps, warm-up included."""
        return self.warmup + self.steps


def as_request(loop: str, work: Work) -> dict[str, Any]:
    """Return the JSON request that `ctbench.speed.loops.run_loop` reads."""
    return {"loop": loop, **asdict(work)}


def make_blocks(shape: Shape, *, seed: int) -> RandomBlocks:
    """Return the random text that every loop trains on."""
    return RandomBlocks(vocabulary=shape.vocabulary, length=shape.length, num_blocks=NUM_BLOCKS, seed=seed)


def now() -> float:
    """Return the time in seconds, after waiting for the accelerator if there is one."""
    if device().type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


def reading(
    *, seconds: float, steps: int, tokens: int, predicted_fraction: float, loss: float, peak: int
) -> dict[str, Any]:
    """Return what a loop measured: its speed, and the numbers that show that all loops did the same work."""
    return {
        "seconds": seconds,
        "steps": steps,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "predicted_fraction": predicted_fraction,
        "loss": loss,
        "peak_memory_bytes": peak,
    }
