"""SLURM's own commands: what is in the queue, which partitions there are, and cancelling. Accounting is not needed."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ctbench.engine.slurm.options import SlurmOptions
from ctbench.errors import BadConfig, did_you_mean, one_line

PROGRAMS: Final = ("sbatch", "squeue", "scancel", "scontrol")
REASONS: Final = {
    "BeginTime": "queued again, SLURM starts it in a minute or two",
    "Dependency": "waits for other jobs",
    "Priority": "waits its turn in the queue",
    "Resources": "waits for free machines",
    "BadConstraints": "never starts: no machine has what --slurm constraint asks for",
    "JobHeldAdmin": "is held by SLURM or its administrator",
    "JobHeldUser": "is held: scontrol release",
    "PartitionNodeLimit": "never starts: the partition has too few machines",
    "PartitionTimeLimit": "never starts: --slurm time is above the limit of the partition",
}
"""Reasons of SLURM in words."""
STUCK: Final = ("BadConstraints", "JobHeldAdmin", "JobHeldUser", "PartitionNodeLimit", "PartitionTimeLimit")
"""Reasons that do not pass by themselves."""
SECONDS: Final = 60.0
"""Time that a command of SLURM has to answer."""
MAX_CANCELLED: Final = 200
"""Number of jobs that one call of scancel is given."""


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """A job that SLURM has not ended.

    Args:
        state: such as PENDING, RUNNING or COMPLETING.
        reason: why it waits; "None" if it does not.
        where: machines that it runs on.
    """

    state: str
    reason: str
    where: str

    @property
    def is_running(self) -> bool:
        """Whether it has machines."""
        return self.state not in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


def require_slurm(asked: SlurmOptions) -> None:
    """Refuse a machine from which nothing can be submitted, and a partition that does not exist.

    Raises:
        BadConfig: submitit or a program of SLURM is missing, SLURM does not answer, or it has no such partition.
    """
    try:
        importlib.import_module("submitit")
    except ImportError as error:
        line = "--launcher slurm needs submitit, which is not installed: pip install 'ctbench[slurm]'"
        raise BadConfig(line) from error
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise BadConfig(
                f"--launcher slurm needs the program {program}, which is not on this machine; "
                "call ctbench where jobs are submitted, or with --launcher local"
            )
    told = _ask(["sinfo", "--noheader", "--format=%R"])
    if isinstance(told, _Refused):
        raise BadConfig(f"SLURM does not answer: {told.reason}")
    known = sorted({*told.split()})
    for name in (asked.partition or "").split(","):
        if name and name not in known:
            raise BadConfig(
                f"--slurm partition is '{name}'; the cluster has no such partition{did_you_mean(name, known)} "
                f"known: {', '.join(known)}"
            )


def queue() -> dict[str, QueuedJob] | None:
    """Return this user's jobs that SLURM has not ended, by id; None if it does not answer."""
    told = _ask(["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i|%T|%r|%N"])
    if isinstance(told, _Refused):
        return None
    rows = [line.strip().split("|") for line in told.splitlines() if line.count("|") == 3]
    return {job: QueuedJob(state=state, reason=reason, where=where) for job, state, reason, where in rows}


def cancel_jobs(jobs: Sequence[str]) -> None:
    """Cancel jobs; those that ended are left alone. Each has the time of `KillWait` to save a checkpoint.

    Raises:
        BadConfig: SLURM does not answer.
    """
    for start in range(0, len(jobs), MAX_CANCELLED):
        told = _ask(["scancel", *jobs[start : start + MAX_CANCELLED]])
        if isinstance(told, _Refused) and "Invalid job id" not in told.reason:
            raise BadConfig(f"SLURM does not cancel the jobs: {told.reason}")


def verdict(job: str) -> str:
    """Return what SLURM says about a job that ended a short while ago; "" if it has forgotten the job."""
    told = _ask(["scontrol", "show", "job", job])
    if isinstance(told, _Refused):
        return ""
    found = dict(re.findall(r"\b(JobState|Reason|ExitCode)=(\S+)", told))
    return f"SLURM says {found['JobState']}, exit code {found.get('ExitCode', '?')}" if "JobState" in found else ""


def error_lines(text: str) -> str:
    """Return what a program of SLURM complains about, in one line.

    Examples:
        >>> error_lines("sbatch: error: invalid partition specified: a")
        'invalid partition specified: a'
    """
    found = re.findall(r"^\s*s\w+: (?:fatal: |error: )+(.*)$", text, re.M)
    return "; ".join(map(one_line, found)) or one_line(text.strip().splitlines()[-1] if text.strip() else "no reason")


@dataclass(frozen=True)
class _Refused:
    reason: str


def _ask(command: Iterable[str]) -> str | _Refused:
    words = list(command)
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        return _Refused(f"{words[0]}: {one_line(error)}")
    return done.stdout if done.returncode == 0 else _Refused(error_lines(done.stderr or done.stdout))
