"""The keys of `--slurm`: what is asked of the cluster for every job."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ctbench.errors import BadConfig, did_you_mean

LAUNCHERS: Final = ("local", "slurm", "ray")
MAX_COUNT: Final = 4096
_TIME: Final = re.compile(r"(?:(?P<days>\d{1,3})-)?(?P<first>\d{1,6})(?::(?P<second>\d{1,2}))?(?::(?P<third>\d{1,2}))?")
_MEMORY: Final = re.compile(r"\d{1,9}[KMGT]?")
_NAMES: Final = re.compile(r"[^\s,=]+(,[^\s,=]+)*")


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What is asked of SLURM for every job.

    Args:
        partition: partition, or several with commas; without it, the cluster's default.
        account: account that the time is charged to.
        qos: quality of service.
        time: time limit of a job: minutes, HH:MM:SS or D-HH:MM:SS. A job that reaches it is queued again and resumes.
        gpus: GPUs of a job; 0 computes on CPUs.
        cpus: cores of a job.
        mem: memory of a job, such as 16G.
        constraint: features that a machine must have.
        exclude: machines that are not used.
        nodelist: machines that are used.
        setup: line of shell that every job runs first, such as "module load cuda".
        minutes: cells share a job until their estimated time reaches so many minutes; 0 gives each its own job.
        grace: seconds before the time limit at which a job is told to save a checkpoint.
        tries: number of jobs that a node is given before it fails, if they are killed.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: int = 60
    gpus: int = 0
    cpus: int | None = None
    mem: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    nodelist: str | None = None
    setup: str | None = None
    minutes: int = 10
    grace: int = 90
    tries: int = 3

    @property
    def device(self) -> str:
        """The kind of device that nodes are computed on, as torch names it."""
        return "cuda" if self.gpus else "cpu"

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of submitit's executor for SLURM."""
        names = ("partition", "account", "qos", "time", "mem", "constraint", "exclude", "nodelist")
        found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.gpus:
            found["gpus_per_node"] = self.gpus
        if self.cpus is not None:
            found |= {"cpus_per_task": self.cpus, "srun_args": [f"--cpus-per-task={self.cpus}"]}
        # a json.py in the folder of the call is not Python's
        setup = ["export PYTHONSAFEPATH=1", *([self.setup] if self.setup else [])]
        return {**found, "setup": setup, "signal_delay_s": self.grace, "stderr_to_stdout": True}


def read_slurm(given: Mapping[str, Any] | Sequence[str] | str) -> SlurmOptions:
    """Read the keys of `--slurm`, as a mapping or as texts KEY=VALUE,KEY=VALUE.

    Raises:
        BadConfig: an unknown key, a key twice, or a value that SLURM or ctbench would not take.

    Examples:
        >>> read_slurm("partition=short,gpus=1,time=1-12:00:00").time
        2160
        >>> read_slurm({"exclude": "n1,n2"}) == read_slurm(["exclude=n1,n2"])
        True
    """
    known = [field.name for field in dataclasses.fields(SlurmOptions)]
    found: dict[str, Any] = {}
    for key, value in given.items() if isinstance(given, Mapping) else read_pairs(given, "--slurm"):
        if key not in known:
            raise BadConfig(f"--slurm has no key '{key}'{did_you_mean(str(key), known)} known: {', '.join(known)}")
        if key in found:
            raise BadConfig(f"--slurm names {key} twice; once is enough")
        found[key] = _READ[key](key, str(value).strip())
    options = SlurmOptions(**found)
    if 60 * options.time <= options.grace:
        raise BadConfig(
            f"--slurm time is {options.time} min, and grace {options.grace} s before its end a job stops to save; "
            "expected a longer time or a shorter grace"
        )
    return options


def read_pairs(given: Sequence[str] | str, option: str) -> Iterator[tuple[str, str]]:
    """Yield the keys and values of an option; a part without = goes on with the value before it, as in exclude=n1,n2.

    Raises:
        BadConfig: a text of another form.
    """
    for text in [given] if isinstance(given, str) else given:
        pairs: list[tuple[str, str]] = []
        for part in str(text).split(","):
            key, equals, value = part.partition("=")
            if equals:
                pairs.append((key.strip(), value))
            elif pairs:
                pairs[-1] = pairs[-1][0], f"{pairs[-1][1]},{part}"
            else:
                raise BadConfig(f"{option} '{text}' is not of the form KEY=VALUE,KEY=VALUE")
        yield from pairs


def _minutes(key: str, text: str) -> int:
    parts = _TIME.fullmatch(text)
    numbers = [int(part) for part in parts.group("first", "second", "third") if part is not None] if parts else []
    if parts is None or any(number > 59 for number in numbers[1:]):
        raise _refusal(key, text, "minutes, HH:MM:SS or D-HH:MM:SS")
    if parts["days"] is not None:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
        total = 86_400 * int(parts["days"]) + 3600 * hours + 60 * minutes + seconds
    elif len(numbers) == 3:
        total = 3600 * numbers[0] + 60 * numbers[1] + numbers[2]
    else:
        total = 60 * numbers[0] + (numbers[1] if len(numbers) == 2 else 0)
    if not total:
        raise _refusal(key, text, "more than no time")
    return -(-total // 60)


def _count(least: int) -> Callable[[str, str], int]:
    def read(key: str, text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= 6 and least <= int(text) <= MAX_COUNT):
            raise _refusal(key, text, f"a whole number from {least} to {MAX_COUNT}")
        return int(text)

    return read


def _memory(key: str, text: str) -> str:
    if not _MEMORY.fullmatch(text):
        raise _refusal(key, text, "a size such as 16G or 4000M")
    return text


def _names(key: str, text: str) -> str:
    if not _NAMES.fullmatch(text) or not text.isprintable():
        raise _refusal(key, text, "a name, or several with commas")
    return text


def _line(key: str, text: str) -> str:
    if not text or not text.isprintable():
        raise _refusal(key, text, "one line of shell")
    return text


def _refusal(key: str, text: str, wanted: str) -> BadConfig:
    return BadConfig(f"--slurm {key} is '{text}'; expected {wanted}")


_READ: Final[Mapping[str, Callable[[str, str], Any]]] = {
    **dict.fromkeys(("partition", "account", "qos", "constraint", "exclude", "nodelist"), _names),
    "time": _minutes,
    "gpus": _count(0),
    "cpus": _count(1),
    "mem": _memory,
    "setup": _line,
    "minutes": _count(0),
    "grace": _count(10),
    "tries": _count(1),
}
