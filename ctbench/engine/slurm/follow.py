"""The submitter: it submits what no job computes yet, tells what happens, and submits again what a killed job left.

A node is done when the store has it, whatever SLURM says; a job is over when the queue does not hold it. A controller
that does not answer is asked again later. Jobs of other submitters on the same store are followed like its own.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ctbench.engine.failures import Problem
from ctbench.engine.launchers.agenda import Agenda
from ctbench.engine.launchers.events import Event, fields_of
from ctbench.engine.node import Node
from ctbench.engine.slurm.folder import JobRecord, LaunchFolder, failed_keys, launches, parse_lines
from ctbench.engine.slurm.options import SlurmOptions
from ctbench.engine.slurm.queue import REASONS, STUCK, QueuedJob, cancel_jobs, queue, verdict
from ctbench.engine.slurm.shards import arrays, make_shards, read_by
from ctbench.engine.slurm.submit import submit_array
from ctbench.engine.store import Store
from ctbench.errors import BadConfig, CTBenchError, RunFailed

MIN_POLL_SECONDS: Final = 1.0
MAX_POLL_SECONDS: Final = 15.0
"""Time between two looks at the queue: the first while something happens, growing to the second."""
HIDDEN_SECONDS: Final = 120.0
"""Time that a network file system may take to show a node that a job has computed."""
GONE_SECONDS: Final = 3.0
"""A job is over when the queue has lacked it for so long; what it wrote last is seen then."""
SILENT_SECONDS: Final = 15.0
"""The same for a job of which nothing was seen yet."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A job that is followed, and the launch whose folder holds its events and its log."""

    job: str
    folder: LaunchFolder

    @property
    def log(self) -> Path:
        return self.folder.log(self.job)


class Follower:
    """Computes an agenda by jobs of the cluster.

    Args:
        agenda: what is to compute.
        store: where the jobs write; below `home`.
        folder: of this launch.
        options: what is asked of SLURM.
        seconds: estimated time of each node, by key.
        say: called with a line about jobs.
    """

    def __init__(
        self,
        agenda: Agenda,
        store: Store,
        folder: LaunchFolder,
        *,
        options: SlurmOptions,
        seconds: Mapping[str, float],
        say: Callable[[str], None],
    ) -> None:
        self._agenda, self._store, self._folder = agenda, store, folder
        self._options, self._seconds, self._say = options, seconds, say
        self._nodes = {node.key: node for node in agenda.left()}
        self._jobs: dict[str, _Job] = {}
        self._tries: Counter[str] = Counter()
        self._read: dict[Path, int] = {}
        self._gone: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._started: set[str] = set()
        self._own: set[str] = set()
        self._pending: set[str] = set()
        self._is_answered = True
        self._warned: set[str] = set()

    def run(self) -> None:
        """Submit, and follow until nothing is left.

        Raises:
            BadConfig: SLURM refuses the jobs, or the first jobs cannot work where they run.
            RunFailed: the launch was cancelled.
            CTBenchError: a problem ends the whole launch; its jobs are cancelled.
            KeyboardInterrupt: the jobs go on.
        """
        try:
            self._adopt()
            self._submit([node for node in self._agenda.left() if node.key not in self._jobs], is_first=True)
            poll = MIN_POLL_SECONDS
            while self._agenda.num_left:
                time.sleep(poll)
                poll = MIN_POLL_SECONDS if self._step() else min(MAX_POLL_SECONDS, 1.3 * poll)
        except KeyboardInterrupt:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._say(
                    f"the jobs go on; follow them: ctbench status; cancel them: ctbench cancel {self._folder.name}"
                )
            raise
        except CTBenchError:
            with contextlib.suppress(BadConfig):
                cancel_jobs(sorted(self._own & (queue() or {}).keys()))
            raise

    def _adopt(self) -> None:
        """Follow the jobs of other launches that compute nodes of this one."""
        live = queue() or {}
        # what jobs finished until now is in the store, and what live jobs will finish is adopted
        self._finish([key for key in self._nodes if self._store.has(key)])
        for folder in launches(self._folder.path.parent.parent):
            if folder.is_cancelled:
                continue
            for record in folder.jobs():
                if record.job not in live:
                    continue
                failed = failed_keys(folder.told(record.job))
                mine = [key for key in record.keys if key in self._agenda and key not in failed]
                self._jobs |= {key: _Job(job=record.job, folder=folder) for key in mine if key not in self._jobs}
                with contextlib.suppress(OSError):  # what happened before is not told again
                    self._read[folder.events(record.job)] = folder.events(record.job).stat().st_size
        if self._jobs:
            count = len({job.job for job in self._jobs.values()})
            self._say(f"{len(self._jobs)} nodes are computed by {count} jobs that were submitted before")

    def _submit(self, nodes: Sequence[Node], *, is_first: bool = False) -> None:
        shards = make_shards(nodes, self._seconds, minutes=self._options.minutes)
        ids: dict[int, str] = {}
        live = queue() or {}
        for numbers in arrays(shards):
            needs = {ids[number] for number in shards[numbers[0]].needs}
            needs |= {job for number in numbers for job in self._elsewhere(shards[number].nodes) if job in live}
            places = [self._folder.add_shard([node.key for node in shards[number].nodes]) for number in numbers]
            found = submit_array(self._folder, places, needs=sorted(needs), options=self._options)
            for number, place, job in zip(numbers, places, found, strict=True):  # recorded before the next is submitted
                ids[number] = job
                keys = tuple(node.key for node in shards[number].nodes)
                self._own.add(job)
                self._folder.add_job(JobRecord(job=job, shard=place, keys=keys))
                self._pending.add(job)
                self._jobs |= dict.fromkeys(keys, _Job(job=job, folder=self._folder))
        if ids and is_first:
            where = self._options.partition or "the default partition"
            what = f"{self._options.gpus} GPUs" if self._options.gpus else "no GPU"
            self._say(f"submitted {len(nodes)} nodes as {len(ids)} jobs on {where}, {what} each: {self._folder.name}")

    def _elsewhere(self, nodes: Sequence[Node]) -> set[str]:
        """Return the jobs that compute what nodes wait for and that are followed already."""
        return {self._jobs[key].job for key in read_by(nodes) if key in self._jobs}

    def _step(self) -> bool:
        """Take note of what happened; return whether anything did."""
        if self._folder.is_cancelled:
            raise RunFailed("cancelled by `ctbench cancel`; run the same command to resume")
        before = self._agenda.num_left, len(self._started)
        for job in {job.job: job for job in map(self._job_of, self._agenda.left())}.values():
            # Of thousands of jobs most wait, and opening a file takes the server's time.
            if job.job not in self._pending:
                for line in self._new_lines(job):
                    self._hear(job, line)
        self._finish(key for key in tuple(self._told) if self._store.has(key))
        live = queue()
        if live is None:
            self._notice(is_answered=False)
        else:
            self._notice(is_answered=True)
            self._pending = {name for name, job in live.items() if not job.is_running}
            self._warn(live)
            self._look(live)
        return before != (self._agenda.num_left, len(self._started))

    def _notice(self, *, is_answered: bool) -> None:
        if is_answered != self._is_answered:
            self._say("SLURM answers again" if is_answered else "SLURM does not answer; asked again until it does")
        self._is_answered = is_answered

    def _warn(self, live: Mapping[str, QueuedJob]) -> None:
        """Name the reasons for which jobs wait in vain, once each."""
        for job in self._own & live.keys():
            reason = live[job].reason
            if not live[job].is_running and reason in STUCK and reason not in self._warned:
                self._warned.add(reason)
                self._say(f"job {job} {REASONS[reason]}")

    def _new_lines(self, job: _Job) -> list[dict[str, Any]]:
        """Return what a job has written since the last look."""
        path = job.folder.events(job.job)
        try:
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                text = file.read()
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(whole)
        return list(parse_lines(whole.decode("utf-8", errors="replace")))

    def _hear(self, job: _Job, line: dict[str, Any]) -> None:
        node = self._nodes.get(str(line.get("key")))
        if line.get("what") == "refused" and job.folder is self._folder:
            kind = RunFailed if line["code"] == 1 else BadConfig
            raise kind(f"job {job.job}: {line['reason']}; its log: {job.log}")
        if node is None or self._jobs[node.key].job != job.job or not self._is_left(node):
            return
        if line["what"] == "done":
            self._told.setdefault(node.key, time.monotonic())
        elif line["what"] == "failed":
            self._agenda.fail(node, Problem(reason=f"{line['reason']} (job {job.job}, log: {job.log})"))
        elif line["what"] != "start" or node.key not in self._started:
            self._started.add(node.key)
            self._agenda.listen(Event(node=node, **fields_of(line)))

    def _finish(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._told.pop(key, None)
            if self._is_left(self._nodes[key]):
                self._agenda.finish(self._nodes[key])

    def _look(self, live: Mapping[str, QueuedJob]) -> None:
        """Find the nodes whose jobs are over: they are done, or submitted again, or given up."""
        now = time.monotonic()
        over = {job.job: job for job in self._jobs.values() if job.job not in live}
        self._gone = {job: self._gone.get(job, now) for job in over}
        settled = {job for job, since in self._gone.items() if now - since >= self._patience(over[job])}
        lost = [node for node in self._agenda.left() if self._jobs[node.key].job in settled]
        self._finish([node.key for node in lost if self._store.has(node.key)])
        hidden = {key for key, since in self._told.items() if now - since < HIDDEN_SECONDS}
        lost = [node for node in lost if self._is_left(node) and node.key not in hidden]
        if not lost:
            return
        for job in sorted({self._jobs[node.key].job for node in lost}):
            self._count(over[job], [node for node in lost if self._jobs[node.key].job == job])
        again = [node for node in lost if self._is_left(node)]
        try:
            self._submit(again)
        except BadConfig as error:
            if queue() is None:  # the nodes stay with the jobs that are over, so they are found again
                return
            raise RunFailed(f"{error}; run the same command to resume") from error

    def _patience(self, job: _Job) -> float:
        """Return how long to wait for what a job wrote after it left the queue."""
        if self._read.get(job.folder.events(job.job)):
            return GONE_SECONDS
        with contextlib.suppress(OSError):  # a change of ours makes a network file system look at the folder again
            look = job.folder.events(job.job).with_name(".look")
            look.touch()
            look.unlink()
        return SILENT_SECONDS

    def _count(self, job: _Job, nodes: Sequence[Node]) -> None:
        """Count a try for the nodes that a job could have computed, and give up those that had enough."""
        if not job.folder.told(job.job) and job.folder is self._folder and not self._has_begun():
            self._store.require_room()  # a job that cannot write is as silent as one that does not see the folder
            raise BadConfig(
                f"job {job.job} ended and left nothing in '{self._folder.path}': the machines that jobs run on must see this "
                f"folder and Python under the same paths ({verdict(job.job) or 'SLURM has forgotten the job'}); "
                f"its log: {job.log}"
            )
        started = {line.get("key") for line in job.folder.told(job.job) if line["what"] == "start"}
        ready = [node for node in nodes if self._is_left(node) and not self._agenda.waits(node)]
        tried = [node for node in ready if node.key in started] or ready  # those that came after them are not to blame
        for node in tried:
            self._tries[node.key] += 1
            if self._tries[node.key] >= self._options.tries:
                times = "once" if self._options.tries == 1 else f"{self._options.tries} times"
                reason = f"its job ended {times} before it was computed, the last was {job.job}; log: {job.log}"
                self._agenda.fail(node, Problem(reason=reason))
        count = sum(map(self._is_left, nodes))
        if ready and count:
            self._say(f"job {job.job} is over and left {count} nodes, which are submitted again; its log: {job.log}")

    def _has_begun(self) -> bool:
        return any(self._folder.told(job) for job in self._own)

    def _job_of(self, node: Node) -> _Job:
        return self._jobs[node.key]

    def _is_left(self, node: Node) -> bool:
        return node.key in self._agenda
