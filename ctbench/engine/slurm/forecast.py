"""What a graph would take as jobs of a cluster: wall time on a number of GPUs, the longest chain of jobs, GPU hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ctbench.engine.node import Node
from ctbench.engine.schedule import last_end
from ctbench.engine.slurm.options import SlurmOptions
from ctbench.engine.slurm.shards import make_shards
from ctbench.errors import BadConfig
from ctbench.reporting.numbers import rough_duration

JOB_SECONDS: Final = 30.0
"""Time that is added to every job: until SLURM starts it, and until Python has loaded its libraries."""
MAX_GPUS: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class GridForecast:
    """What jobs would take.

    Args:
        jobs: number of jobs.
        gpus: GPUs that are free for them, or cores of jobs without a GPU; None for as many as there are jobs.
        gpus_per_job: as `--slurm gpus` says.
        wall_seconds: time from the first start to the last end, if no other user's job is in the way.
        critical_seconds: the same on any number of GPUs: the longest chain of jobs that wait for each other.
        busy_seconds: sum over all jobs of the time that each runs.
        is_measured: whether the times rest on measured speeds; else they are good for an order of magnitude.
    """

    jobs: int
    gpus: int | None
    gpus_per_job: int
    wall_seconds: float
    critical_seconds: float
    busy_seconds: float
    is_measured: bool

    @property
    def gpu_hours(self) -> float:
        """Hours of GPUs of all jobs."""
        return self.gpus_per_job * self.busy_seconds / 3600

    def record(self) -> dict[str, Any]:
        """Return everything as plain JSON data."""
        return {"kind": "slurm", **asdict(self), "gpu_hours": self.gpu_hours}

    def __str__(self) -> str:
        unit = "GPU" if self.gpus_per_job else "job"
        where = "without a limit" if self.gpus is None else f"on {self.gpus:,} {unit}{'s' * (self.gpus != 1)}"
        hours = f"{self.gpu_hours:.1f} GPU hours" if self.gpus_per_job else f"{self.busy_seconds / 3600:.1f} job hours"
        rough = "" if self.is_measured else " (nothing like it was measured: an order of magnitude)"
        return (
            f"slurm: {self.jobs:,} job{'s' * (self.jobs != 1)} {where}: about {rough_duration(self.wall_seconds)}, "
            f"longest chain {rough_duration(self.critical_seconds)}, {hours}{rough}"
        )


def forecast_grid(
    todo: Sequence[Node], seconds: Mapping[str, float], *, options: SlurmOptions, gpus: int | None, is_measured: bool
) -> GridForecast:
    """Return what nodes would take as jobs.

    Args:
        todo: nodes to compute, each behind its parents.
        seconds: of each node on one worker, by key.
        options: what is asked of SLURM.
        gpus: GPUs that are free; for jobs without one, jobs at the same time. None for no limit.
        is_measured: whether the seconds rest on measured speeds.

    Raises:
        BadConfig: a job needs more GPUs than there are.
    """
    per_job = max(1, options.gpus)
    if gpus is not None and not per_job <= gpus <= MAX_GPUS:
        raise BadConfig(f"gpus is {gpus}; expected a number from {per_job}, which one job takes, to {MAX_GPUS:,}")
    shards = make_shards(todo, seconds, minutes=options.minutes)
    times = {
        str(number): JOB_SECONDS + sum(seconds[node.key] for node in shard.nodes) for number, shard in enumerate(shards)
    }
    needs = {str(number): {str(other) for other in shard.needs} for number, shard in enumerate(shards)}
    most = max(1, len(shards))
    return GridForecast(
        jobs=len(shards),
        gpus=gpus,
        gpus_per_job=options.gpus,
        wall_seconds=last_end(needs, times, workers=most if gpus is None else min(most, gpus // per_job)),
        critical_seconds=last_end(needs, times, workers=most),
        busy_seconds=sum(times.values()),
        is_measured=is_measured,
    )
