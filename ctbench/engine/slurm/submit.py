"""Submitting arrays of jobs through submitit, and what submitit runs in each job.

A job starts a process that computes its shard (`ctbench.engine.slurm.process`) and passes signals on to it. Before the
time limit, and when a job is preempted with notice, SLURM sends SIGUSR2: the process saves a checkpoint, and the job is
queued again. What submitit returns or believes about a job is not looked at.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

from ctbench.engine.slurm.folder import LaunchFolder
from ctbench.engine.slurm.options import SlurmOptions
from ctbench.engine.slurm.queue import error_lines
from ctbench.errors import BadConfig

MAX_ARRAY: Final = 500
"""Jobs in one array; SLURM's own limit is 1001 by default."""
MAX_REQUEUED: Final = 10_000
"""Times that submitit may queue a job again; `ShardJob.checkpoint` stops one that makes no progress."""
POLL_SECONDS: Final = 0.2


def submit_array(
    folder: LaunchFolder, shards: Sequence[int], *, needs: Sequence[str], options: SlurmOptions
) -> Iterator[str]:
    """Submit a job for each of several shards, and yield their ids, those of one array before the next is submitted.

    Args:
        folder: of the launch.
        shards: numbers of the shards.
        needs: ids of jobs that must have ended before these start, however they end.
        options: of the call.

    Raises:
        BadConfig: SLURM refuses the jobs.
        RunFailed: the folder of the launch cannot be written.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    executor = SlurmExecutor(folder=folder.logs, max_num_timeout=MAX_REQUEUED)
    more = {"dependency": f"afterany:{':'.join(needs)}"} if needs else {}
    executor.update_parameters(job_name=f"ctbench-{folder.name}", **options.parameters(), **more)
    token = folder.token()
    for start in range(0, len(shards), MAX_ARRAY):
        try:
            with folder.writing(), _outside_of_jobs(), executor.batch():
                jobs = [
                    executor.submit(ShardJob(folder.path, shard, token, uses_gpu=options.gpus > 0))
                    for shard in shards[start : start + MAX_ARRAY]
                ]
        except (FailedJobError, FailedSubmissionError) as error:
            raise BadConfig(f"SLURM refuses the jobs: {error_lines(str(error))}") from error
        yield from (str(job.job_id) for job in jobs)


class ShardJob:
    """What submitit calls in a job.

    Args:
        folder: of the launch.
        shard: number of the shard.
        token: what the submitter wrote into the folder.
        uses_gpu: whether GPUs were asked for; without them nodes are computed on the CPU of any machine.
    """

    def __init__(self, folder: Path, shard: int, token: str, *, uses_gpu: bool) -> None:
        self.folder, self.shard, self.token, self.uses_gpu = folder, shard, token, uses_gpu
        self.process_id = 0

    def __call__(self) -> None:
        """Compute the shard in a process of its own.

        Raises:
            RuntimeError: the process ended with an error, which its log says.
        """
        environment = {**os.environ, **({} if self.uses_gpu else {"ACCELERATE_USE_CPU": "1"})}
        arguments = [str(self.folder), str(self.shard), self.token]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ctbench.engine.slurm.process", *arguments],
            env=environment,
            preexec_fn=_ignore_notice,  # SLURM sends the notice to every process of the job
        )
        self.process_id = process.pid
        signal.signal(signal.SIGTERM, self._stop)  # cancelled, or preempted without notice
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
        if process.returncode:
            raise RuntimeError(f"the shard's process ended with exit code {process.returncode}")

    def checkpoint(self) -> Any:
        """Let the process save a checkpoint; return what goes on in the requeued job.

        None if nothing was computed or saved since the job started: it would end like this again.
        """
        from submitit.helpers import DelayedSubmission

        self._stop()
        with contextlib.suppress(ChildProcessError):
            if self.process_id:
                os.waitpid(self.process_id, 0)
        self.process_id = 0
        if not has_progressed(LaunchFolder(self.folder)):
            return None
        return DelayedSubmission(ShardJob(self.folder, self.shard, self.token, uses_gpu=self.uses_gpu))

    def _stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        if self.process_id:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process_id, signal.SIGTERM)


def this_job() -> str:
    """Return the id of the job that this process runs in, as squeue shows it."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}") for name in ("JOB_ID", "TASK_ID"))
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "0")


def has_progressed(folder: LaunchFolder) -> bool:
    """Return whether this job has computed a node or saved a checkpoint since it started; True before it told anything."""
    whats = [line.get("what") for line in folder.told(this_job())]
    since = whats[len(whats) - whats[::-1].index("begin") :] if "begin" in whats else ["done"]
    return bool({"done", "saved"} & {*since})


@contextlib.contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hide the job that this process runs in, if it does, from those that it submits: they inherit the environment."""
    hidden = {name: os.environ.pop(name) for name in tuple(os.environ) if name.startswith("SLURM_ARRAY_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _ignore_notice() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
