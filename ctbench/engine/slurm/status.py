"""Where every node of a launch stands: done, running, waiting, failed, blocked by a failed one, or left by its job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ctbench.engine.node import Node
from ctbench.engine.slurm.folder import JobRecord, LaunchFolder
from ctbench.engine.slurm.queue import REASONS, QueuedJob
from ctbench.engine.store import Store
from ctbench.machine.claims import SUFFIX, is_stale, read_owner

STATES: Final = ("done", "running", "waiting", "failed", "blocked", "left")
"""The last one: its job is over, and no job computes the node."""


@dataclass(frozen=True, kw_only=True)
class NodeState:
    """Where a node stands.

    Args:
        key: of the node; `kind` and `title` are the node's.
        state: one of `STATES`.
        detail: where it runs, what it waits for, or why it failed.
        job: id of the job that computes it; "" if none was submitted.
        log: of that job.
    """

    key: str
    kind: str
    title: str
    state: str
    detail: str = ""
    job: str = ""
    log: Path | None = None


def node_states(folder: LaunchFolder, store: Store, live: Mapping[str, QueuedJob] | None) -> list[NodeState]:
    """Return where the nodes of a launch stand, parents first.

    Args:
        folder: of the launch.
        store: what is done.
        live: from `queue`; None if SLURM does not answer: then every job counts as queued.
    """
    nodes, records = folder.nodes(), folder.jobs()
    record = {key: each for each in records for key in each.keys}
    last: dict[str, dict[str, Any]] = {}
    for each in records:
        mine = {*each.keys}
        last |= {str(line["key"]): line for line in folder.told(each.job) if line.get("key") in mine}
    found: dict[str, NodeState] = {}
    for key in folder.plan()["keys"]:
        node, mine_record = nodes[key], record.get(key)
        state, detail = _state(node, store, last.get(key, {}), found, _queued(mine_record, live))
        job = "" if mine_record is None else mine_record.job
        detail = detail.replace("{job}", f"job {job}")
        log = folder.log(job) if job else None
        found[key] = NodeState(key=key, kind=node.kind, title=node.title, state=state, detail=detail, job=job, log=log)
    return list(found.values())


def _queued(record: JobRecord | None, live: Mapping[str, QueuedJob] | None) -> QueuedJob | None:
    if record is None:
        return None
    if live is None:
        return QueuedJob(state="PENDING", reason="SLURM does not answer", where="")
    return live.get(record.job)


def _state(
    node: Node, store: Store, line: Mapping[str, Any], found: Mapping[str, NodeState], job: QueuedJob | None
) -> tuple[str, str]:
    if store.has(node.key):
        return "done", ""
    if line.get("what") == "failed":
        return "failed", str(line["reason"])
    before = [found[parent.key] for parent in node.parents if parent.key in found]
    for other in before:
        if other.state in ("failed", "blocked"):
            return "blocked", f"needs {other.title}, which {'failed' if other.state == 'failed' else 'is blocked'}"
    if job is None:
        return _without_job(node, store)
    if job.is_running and line.get("what") not in (None, "saved", "retrying"):
        return "running", _place(line, job)
    waited_for = next((other for other in before if other.state != "done"), None)
    if waited_for is not None:
        return "waiting", f"waits for {waited_for.title}"
    if job.is_running:
        return "waiting", f"comes next in {{job}} on {job.where}"
    return "waiting", f"{{job}} {REASONS.get(job.reason, job.reason)}"


def _without_job(node: Node, store: Store) -> tuple[str, str]:
    claim = store.folder(node.key).with_suffix(SUFFIX)
    owner = read_owner(claim)
    if owner is not None and not is_stale(claim):
        return "running", f"computed by {owner}"
    return "left", "no job computes it; the same command submits it again"


def _place(line: Mapping[str, Any], job: QueuedJob) -> str:
    text = f"{{job}} on {job.where}"
    if line["what"] == "waiting":
        return f"{text}, waits for {line['owner']}"
    return f"{text}, step {line['step']} of {line['num_steps']}" if line.get("num_steps") else text
