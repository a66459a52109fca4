"""A launch on a cluster as a folder below `CTBENCH_HOME`: what is to compute, which job computes it, what jobs told.

The submitter writes the nodes, the jobs and a token; every job appends lines of JSON to a file of its own. None of this
decides whether a node is done: the store does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import json
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ctbench.engine.launchers.agreement import versions
from ctbench.engine.node import Node, in_order, nodes_of
from ctbench.errors import BadConfig, RunFailed, UnknownName, advice_on, unwritable
from ctbench.machine.files import write_whole

LAUNCHES: Final = "launches"
PLAN, NODES, JOBS, TOKEN, CANCELLED = "plan.json", "nodes.jsonl", "jobs.jsonl", "token", "cancelled"
EVENTS, LOGS, SHARDS = "events", "jobs", "shards"
OTHER_PLACE: Final = "set CTBENCH_HOME to another folder"


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job that was submitted: its id as SLURM names it, the number of its shard, the keys of the nodes."""

    job: str
    shard: int
    keys: tuple[str, ...]


class LaunchFolder:
    """The folder of a launch.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Name of the launch."""
        return self.path.name

    @property
    def logs(self) -> Path:
        """Folder of the jobs' logs."""
        return self.path / LOGS

    def log(self, job: str) -> Path:
        """Return the log of a job."""
        return self.logs / f"{job}_0_log.out"

    def plan(self) -> dict[str, Any]:
        """Return versions, places and options that the jobs compute with."""
        found: dict[str, Any] = json.loads((self.path / PLAN).read_text(encoding="utf-8"))
        return found

    def token(self) -> str:
        """Return what the submitter wrote to be found by jobs; "" if there is nothing."""
        try:
            return (self.path / TOKEN).read_text(encoding="utf-8")
        except OSError:
            return ""

    def nodes(self) -> dict[str, Node]:
        """Return the nodes to compute and all their ancestors, by the key that the submitter found."""
        return nodes_of((self.path / NODES).read_text(encoding="utf-8").splitlines())

    def add_shard(self, keys: Sequence[str]) -> int:
        """Write down the nodes of a shard, for the job that will compute them, and return its number."""
        number = sum(1 for _ in (self.path / SHARDS).iterdir())
        with self.writing():
            write_whole(self.path / SHARDS / f"{number}.json", json.dumps(list(keys)))
        return number

    def shard(self, number: int) -> tuple[str, ...]:
        """Return the keys of the nodes of a shard."""
        return tuple(json.loads((self.path / SHARDS / f"{number}.json").read_text(encoding="utf-8")))

    def add_job(self, record: JobRecord) -> None:
        """Take note of a job that was submitted."""
        with self.writing(), (self.path / JOBS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(record)) + "\n")

    def jobs(self) -> list[JobRecord]:
        """Return the jobs that were submitted, in order."""
        lines = read_lines(self.path / JOBS)
        return [JobRecord(job=each["job"], shard=each["shard"], keys=tuple(each["keys"])) for each in lines]

    def events(self, job: str) -> Path:
        """Return the file of the lines that a job writes."""
        return self.path / EVENTS / f"{job}.jsonl"

    def told(self, job: str) -> list[dict[str, Any]]:
        """Return the lines that a job wrote, each with `what`."""
        return [line for line in read_lines(self.events(job)) if "what" in line]

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Say in one line why the folder cannot be written, for example because a quota is full.

        Raises:
            RunFailed: why, and what to do.
        """
        try:
            yield
        except OSError as error:
            if not advice_on(error):
                raise
            raise RunFailed(unwritable(f"the launch '{self.path}'", error, OTHER_PLACE)) from error

    @property
    def is_cancelled(self) -> bool:
        """Whether `ctbench cancel` was called."""
        return (self.path / CANCELLED).exists()

    def cancel(self) -> None:
        """Take note that the launch is cancelled."""
        (self.path / CANCELLED).touch()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of JSON of a file; a missing file has none."""
    with contextlib.suppress(OSError):
        yield from parse_lines(path.read_text(encoding="utf-8", errors="replace"))


def parse_lines(text: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of JSON of a text; one that a killed job has written in part is left out."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found


def new_launch(home: Path, todo: Sequence[Node], options: Mapping[str, Any]) -> LaunchFolder:
    """Write the folder of a launch.

    Args:
        home: `ctbench.engine.store.home()`, which compute nodes must see under the same path.
        todo: the nodes to compute.
        options: how the jobs compute them, as plain JSON.

    Raises:
        RunFailed: it cannot be written.
    """
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
    found = LaunchFolder(home.absolute() / LAUNCHES / name)
    plan = {
        "home": str(home.absolute()),
        "host": socket.gethostname(),
        "user": _user(),
        "started": time.time(),
        "versions": versions(),
        "keys": [node.key for node in todo],
        "options": dict(options),
    }
    lines = [node.spec().to_json() for node in in_order(todo)]
    try:
        for folder in (EVENTS, LOGS, SHARDS):
            (found.path / folder).mkdir(parents=True, mode=0o700 if folder == LOGS else 0o777)
        write_whole(found.path / NODES, "".join(f"{line}\n" for line in lines))
        write_whole(found.path / TOKEN, uuid.uuid4().hex)
        write_whole(found.path / PLAN, json.dumps(plan))
    except OSError as error:
        raise RunFailed(unwritable(f"the launch '{found.path}'", error, OTHER_PLACE)) from error
    return found


def launches(home: Path) -> list[LaunchFolder]:
    """Return the launches below a home, the newest first."""
    found = (home.absolute() / LAUNCHES).glob(f"*/{PLAN}")
    return [LaunchFolder(path.parent) for path in sorted(found, key=lambda path: path.parent.name, reverse=True)]


def find_launch(home: Path, name: str) -> LaunchFolder:
    """Return the launch of a name, or of the beginning of one.

    Raises:
        UnknownName: there is none.
        BadConfig: the beginning fits several.
    """
    every = launches(home)
    fitting = [each for each in every if each.name == name] or [each for each in every if each.name.startswith(name)]
    if not fitting:
        raise UnknownName("launch", name, [each.name for each in every], hint="ctbench status")
    if len(fitting) > 1:
        raise BadConfig(f"launch '{name}' may be {' or '.join(each.name for each in fitting)}; give more of the name")
    return fitting[0]


def failed_keys(told: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return why nodes failed, by key, as a job told."""
    return {str(line["key"]): str(line["reason"]) for line in told if line.get("what") == "failed"}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
