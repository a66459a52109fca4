"""What is told about nodes while they are computed, and how they are computed: the words that launchers and workers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ctbench.engine.node import Node
from ctbench.engine.ray.options import RayOptions
from ctbench.engine.slurm.options import SlurmOptions

MAX_WORKERS: Final = 256
CHECKPOINT_SECONDS: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a node.

    Args:
        what: "start"; "progress"; "waiting" (for another process that computes the node); "resuming" (from a checkpoint);
            "saved" (a checkpoint, because the run was interrupted); "retrying" (after a problem that may pass); "failed";
            "done".
        node: the node.
        step: of "progress", "resuming" and "saved": updates made, of `num_steps`; `loss`: the last logged loss.
        owner: of "waiting": the other process.
        reason: of "retrying" and "failed": one line.
        dependents: of "failed": nodes that need it and are not computed.
    """

    what: str
    node: Node
    step: int = 0
    num_steps: int = 0
    loss: float = 0.0
    owner: str = ""
    reason: str = ""
    dependents: tuple[Node, ...] = ()


Listener = Callable[[Event], None]


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """How nodes are computed; none of this changes a number.

    Args:
        workers: number of processes; 0 computes in this one. Under SLURM of every job. None: what suits the
            cluster.
        fail_fast: whether the first failure ends the launch.
        checkpoint_seconds: wall time between two checkpoints of a stage; 0 saves one at every logged point.
        max_loss: training loss above which a stage fails; None has no limit.
        slurm: what is asked of SLURM, whose jobs compute then.
        ray: what is asked of Ray, whose workers compute then. Without either, this machine computes.
    """

    workers: int | None
    fail_fast: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    max_loss: float | None = None
    slurm: SlurmOptions | None = None
    ray: RayOptions | None = None


def callbacks(tell: Callable[..., None]) -> dict[str, Callable[..., None]]:
    """Return the callbacks of `Executor.compute`; each passes on what it is called with as fields of an `Event`."""

    def report(step: int, num_steps: int, loss: float) -> None:
        tell(what="progress", step=step, num_steps=num_steps, loss=loss)

    def wait(owner: object) -> None:
        tell(what="waiting", owner=str(owner))

    def resume(step: int, num_steps: int) -> None:
        tell(what="resuming", step=step, num_steps=num_steps)

    def save(step: int, num_steps: int) -> None:
        tell(what="saved", step=step, num_steps=num_steps)

    return {"report": report, "waiting": wait, "resuming": resume, "saved": save}


def fields_of(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an event in a worker's reply."""
    return {name: value for name, value in reply.items() if name in Event.__dataclass_fields__}
