"""Worlds in which runs are killed: a home and a results folder, what lies in them, and processes that are forked.

A process that has imported everything forks each victim, which therefore starts at once. It must never compute itself.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import faults
from faults import Plan

ROOT: Final = Path(__file__).parent.parent.parent
VOLATILE: Final = ("seconds", "cpu_seconds", "cell_seconds", "peak_memory_bytes", "about")
"""Keys of records that differ between equal runs: time, memory, and for whom a node was computed first."""
PATIENCE_SECONDS: Final = 300.0
"""A victim that takes longer hangs."""
LOADED: Final = "modules.json"
HEAVY: Final = (
    "ctbench.engine.compute",
    "ctbench.engine.run",
    "ctbench.reporting.summary",
    "transformers.models.modernbert.modeling_modernbert",
    "sklearn.metrics",
)
"""What takes seconds to import, and what every victim needs."""
CHECKPOINTS: Final = ".checkpoints/"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a victim ended.

    Args:
        code: its exit status, negative for the signal that killed it.
        text: what it wrote.
    """

    code: int
    text: str

    @property
    def is_killed(self) -> bool:
        """Whether it was killed as planned."""
        return self.code == -signal.SIGKILL

    @property
    def num_resumed(self) -> int:
        """Number of stages that went on from a checkpoint inside them."""
        return self.text.count(": resuming from step ")


@dataclass(kw_only=True)
class World:
    """A home and a folder of results.

    Args:
        place: folder that holds them.
        stream: file of the stream.
        settings: of methods, by method.
        breaks: called in a victim first, to break what the comparison must notice.
    """

    place: Path
    stream: Path
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    breaks: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self.wipe()
        self.journal = self.place / "journal"

    def wipe(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)

    def arguments(self, method: str, *, workers: int = 0) -> list[str]:
        """Return the command line of a run, which saves a checkpoint at every logged point."""
        words = ["run", "-m", method, "-s", str(self.stream), "--workers", str(workers), "--checkpoint-seconds", "0"]
        more = [f"method.{key}={value}" for key, value in self.settings.get(method, {}).items()]
        return [*words, "--results", str(self.place / "results"), *(word for pair in more for word in ("--set", pair))]

    def start(self, method: str, *, workers: int = 0, **plan: Any) -> Victim:
        """Start a run that `plan` (see `faults.Plan`) may kill."""
        self.place.mkdir(parents=True, exist_ok=True)
        whole = Plan(root=str(self.place), journal=str(self.place / "journal"), **plan)
        return Victim(self, self.arguments(method, workers=workers), whole)

    def run(self, method: str, *, workers: int = 0, seconds: float | None = None, **plan: Any) -> Ended:
        """Run to the end, or until a call or `seconds` after the start, when it is killed."""
        victim = self.start(method, workers=workers, **plan)
        if seconds is not None and not victim.wait(seconds):
            victim.kill()
        return victim.end()

    def noted(self, word: str) -> list[str]:
        """Return what the journal says after a word, line by line."""
        lines = self.journal.read_text(encoding="utf-8").splitlines() if self.journal.exists() else []
        return [line.partition(" ")[2] for line in lines if line.split(" ")[0] == word]

    def content(self) -> dict[str, object]:
        """Return nodes, corpora and results by path: bytes, and records without what differs between equal runs."""
        found: dict[str, object] = {}
        for top in ("home/store", "home/corpora", "results"):
            for path in sorted((self.place / top).rglob("*")):
                if path.is_file():
                    name, data = path.relative_to(self.place).as_posix(), path.read_bytes()
                    is_record = path.suffix == ".json" and top != "home/corpora"
                    found[name] = _stable(data) if is_record else data
        return found

    def left_over(self) -> list[str]:
        """Return what is neither node nor corpus nor result, after a sweep an hour later."""
        from ctbench.engine.inventory import take_inventory
        from ctbench.engine.prune import removable, remove, sweep

        home, results = self.place / "home", self.place / "results"
        long_ago = time.time() - 7200
        for path in [*home.rglob("*"), *results.rglob("*")]:
            if path.name.startswith(".") or path.suffix in (".takeover", ".claim"):
                os.utime(path, (long_ago, long_ago))
        sweep(home)
        remove(removable(take_inventory(home, also=[results]), None, is_running=False))
        names = [path for path in [*home.rglob("*"), *results.rglob("*")] if _is_left_over(path)]
        return [path.relative_to(self.place).as_posix() for path in names]


class Victim:
    """A forked process that calls the command line.

    Args:
        world: where it works.
        arguments: its command line.
        plan: what happens to it.
    """

    def __init__(self, world: World, arguments: Sequence[str], plan: Plan) -> None:
        self._log = world.place / f"log-{time.monotonic_ns()}"
        sys.stdout.flush()
        self.process = os.fork()
        if self.process == 0:
            _live(world, arguments, plan, self._log)
        self._handle = os.pidfd_open(self.process)

    def wait(self, seconds: float) -> bool:
        """Wait for its end so long; return whether it came."""
        return bool(select.select([self._handle], [], [], max(0.0, seconds))[0])

    def kill(self) -> None:
        """Kill it, which may have ended."""
        os.kill(self.process, signal.SIGKILL)

    def workers(self) -> list[int]:
        """Return its living worker processes."""
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self.process}/task/{self.process}/children").read_text(encoding="ascii")
            return [int(each) for each in text.split()]
        return []

    def end(self) -> Ended:
        """Wait for its end."""
        if not self.wait(PATIENCE_SECONDS):
            self.kill()
        _, status = os.waitpid(self.process, 0)
        os.close(self._handle)
        text = self._log.read_text(encoding="utf-8", errors="replace")
        self._log.unlink()
        return Ended(code=os.waitstatus_to_exitcode(status), text=text)


def _live(world: World, arguments: Sequence[str], plan: Plan, log: Path) -> None:
    """Be the victim, and end."""
    code = 70
    try:
        handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for number in (1, 2):
            os.dup2(handle, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ["CTBENCH_HOME"] = str(world.place / "home")
        sys.executable = _interpreter(world.place.parent)
        from ctbench.cli import main

        found = faults.install(plan)
        if world.breaks is not None:
            world.breaks()
        code = main(list(arguments))
        found.note("calls", len(found.calls), sum(CHECKPOINTS in path for path in found.calls))
        modules = [name for name in sys.modules if "." in name or name in sys.builtin_module_names]
        (world.place / LOADED).write_text(json.dumps(modules), encoding="utf-8")
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _interpreter(folder: Path) -> str:
    """Return a program that starts workers as Python does, watched by `faults`."""
    path = folder / "python"
    with contextlib.suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec "{sys.executable}" "{Path(faults.__file__)}" "$@"\n')
        path.chmod(0o755)
    return str(path)


def preload(world: World | None = None) -> None:
    """Import what takes long, or what an earlier victim has imported, so that the next ones start at once."""
    for name in HEAVY if world is None else json.loads((world.place / LOADED).read_text(encoding="utf-8")):
        if name.partition(".")[0] in ("torch", "transformers", "ctbench", "numpy", "tokenizers", "safetensors", "rich"):
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def differences(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Return the paths whose content differs, or that only one of two worlds has."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _stable(data: bytes) -> object:
    try:
        record = json.loads(data)
    except ValueError:
        return data
    if isinstance(record, dict):
        record.pop("digest", None)  # the checksum of a node's record, times included
    return _without(record)


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(each) for key, each in value.items() if key not in VOLATILE}
    return [_without(each) for each in value] if isinstance(value, list) else value


def _is_left_over(path: Path) -> bool:
    endings = (".partial", ".claim", ".takeover", ".checkpoints", ".damaged", ".lock")
    return path.name.startswith(".") or path.suffix in endings
