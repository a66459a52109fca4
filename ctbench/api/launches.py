"""The launches of a cluster: where their nodes stand, and cancelling them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ctbench.errors import BadConfig

if TYPE_CHECKING:
    from ctbench.engine.slurm.folder import LaunchFolder
    from ctbench.engine.slurm.status import NodeState
    from ctbench.reporting.tables import Table

MAX_LINES: Final = 10
"""Lines about nodes of one state, unless all are asked for."""


@dataclass(frozen=True, kw_only=True)
class LaunchStatus:
    """Where a launch stands.

    Args:
        name: of the launch, as `ctbench cancel` takes it.
        started: when it was submitted, in seconds since 1970; `host` and `user`: from where and by whom.
        nodes: where its nodes stand, parents first.
        num_jobs: number of its jobs that SLURM has not ended; None if SLURM does not answer.
        is_cancelled: whether it was cancelled.
    """

    name: str
    started: float
    host: str
    user: str
    nodes: tuple[NodeState, ...]
    num_jobs: int | None
    is_cancelled: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """Number of nodes by state."""
        from ctbench.engine.slurm.status import STATES

        found = Counter(node.state for node in self.nodes)
        return {state: found[state] for state in STATES}

    def record(self) -> dict[str, Any]:
        """Return everything as plain JSON data."""
        nodes = [
            {
                "key": node.key,
                "kind": node.kind,
                "title": node.title,
                "state": node.state,
                "detail": node.detail or None,
                "job": node.job or None,
                "log": None if node.log is None else str(node.log),
            }
            for node in self.nodes
        ]
        head = {"launch": self.name, "started": self.started, "host": self.host, "user": self.user}
        return {**head, "cancelled": self.is_cancelled, "jobs": self.num_jobs, "counts": self.counts, "nodes": nodes}

    def table(self) -> Table:
        """Return the number of nodes of each kind and state."""
        from ctbench.engine.identity import KINDS
        from ctbench.engine.slurm.status import STATES
        from ctbench.reporting.numbers import DASH
        from ctbench.reporting.tables import Table, text_rows

        found = Counter((node.kind, node.state) for node in self.nodes)
        kinds = [kind for kind in KINDS if any(node.kind == kind for node in self.nodes)]
        rows = [
            (kind, *(f"{found[kind, state]:,}" if found[kind, state] else DASH for state in STATES)) for kind in kinds
        ]
        rows.append(("total", *(f"{count:,}" for count in self.counts.values())))
        jobs = "SLURM does not answer here" if self.num_jobs is None else f"{self.num_jobs:,} jobs in the queue"
        title = f"{self.name}: {jobs}{', cancelled' if self.is_cancelled else ''}"
        return Table(title=title, columns=("nodes", *STATES), rows=text_rows(rows), left=("nodes",))

    def lines(self, *, most: int | None = MAX_LINES) -> list[str]:
        """Return a line for each node that is not done, those of each state with what they have in common.

        Args:
            most: number of lines for each state; None for all.
        """
        found = []
        for state in ("running", "failed", "blocked", "waiting", "left"):
            groups: dict[str, list[NodeState]] = {}
            for node in self.nodes:
                if node.state == state:
                    groups.setdefault(f"{node.detail} {node.log if state == 'failed' else ''}", []).append(node)
            lines = [_line(state, nodes) for nodes in groups.values()]
            found += lines if most is None else lines[:most]
            if most is not None and len(lines) > most:
                found.append(f"{state}: {len(lines) - most} more lines; --verbose shows them")
        return found

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        return "\n".join([f"{self.name}: {counts}", *self.lines()])


def _line(state: str, nodes: list[NodeState]) -> str:
    first = nodes[0]
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    log = f"; log: {first.log}" if state in ("failed", "left") and first.log is not None else ""
    return f"{state}: {first.title}{more}: {first.detail}{log}"


def status(launch: str | None = None) -> list[LaunchStatus]:
    """Show where the nodes of launches on a cluster stand: done, running where, waiting for what, failed why.

    Args:
        launch: Name of a launch, or its beginning. Default: all launches with jobs in the queue, else the newest.

    Returns:
        The launches, the newest first.

    Raises:
        UnknownName: no such launch.

    Examples:
        >>> [launch.counts["failed"] for launch in status()]
        []
    """
    from ctbench.engine.slurm.folder import find_launch, launches
    from ctbench.engine.slurm.queue import queue
    from ctbench.engine.slurm.status import node_states
    from ctbench.engine.store import Store, home

    live = queue()
    every = launches(home())
    if launch is not None:
        chosen = [find_launch(home(), launch)]
    else:
        chosen = [each for each in every if any(job.job in (live or {}) for job in each.jobs())] or every[:1]
    store, found = Store(home() / "store", writes=False), []
    for folder in chosen:
        plan = folder.plan()
        jobs = None if live is None else sum(job.job in live for job in folder.jobs())
        found.append(
            LaunchStatus(
                name=folder.name,
                started=plan["started"],
                host=plan["host"],
                user=plan["user"],
                nodes=tuple(node_states(folder, store, live)),
                num_jobs=jobs,
                is_cancelled=folder.is_cancelled,
            )
        )
    return found


def cancel(launch: str | None = None) -> int:
    """Cancel the jobs of a launch on a cluster; what is computed stays, and stages save a checkpoint.

    Args:
        launch: Name of a launch, or its beginning. Default: the only one with jobs in the queue.

    Returns:
        The number of jobs that were cancelled.

    Raises:
        UnknownName: no such launch.
        BadConfig: no launch has jobs, several have and none was named, or SLURM does not answer.
    """
    from ctbench.engine.slurm.folder import find_launch, launches
    from ctbench.engine.slurm.queue import cancel_jobs, queue
    from ctbench.engine.store import home

    chosen = None if launch is None else find_launch(home(), launch)
    live = queue()
    if live is None:
        raise BadConfig("SLURM does not answer; `ctbench cancel` must be called where jobs are submitted")
    if chosen is None:
        chosen = _only_live([each for each in launches(home()) if any(job.job in live for job in each.jobs())])
    jobs = [job.job for job in chosen.jobs() if job.job in live]
    if not jobs:
        raise BadConfig(f"launch {chosen.name} has no jobs in the queue; nothing is cancelled")
    chosen.cancel()
    cancel_jobs(jobs)
    return len(jobs)


def _only_live(found: list[LaunchFolder]) -> LaunchFolder:
    if not found:
        raise BadConfig("no launch has jobs in the queue; nothing is cancelled")
    if len(found) > 1:
        raise BadConfig(f"several launches have jobs: {', '.join(each.name for each in found)}; name one of them")
    return found[0]
