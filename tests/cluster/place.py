"""Commands that run beside a test, and folders for them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from small_streams import write_method, write_stream

SECONDS = 900
"""Longest time of a command."""
HELD = """
def after_step(self, stage):
    import os, signal, time
    with open(os.environ["CTBENCH_STEPS"], "a") as file:
        file.write(f"{stage.domains} {stage.step}\\n")
    gate = os.environ.get("CTBENCH_GATE")
    while gate and stage.step == 12 and not os.path.exists(gate):
        if signal.getsignal(signal.SIGTERM).number:  # it is asked to stop
            break
        time.sleep(0.05)
"""
"""A method that writes down every update, and holds each stage two updates behind its first checkpoint until a gate is
opened or it is asked to stop: what a test does to a stage then happens inside of it, however slow the machine is."""


def gate(home: Path) -> Path:
    """Return the file that lets the stages of a home go on."""
    return home.with_suffix(".gate")


class Command:
    """A command of ctbench that runs beside the test.

    Args:
        words: its arguments.
        environment: added to that of the test.
        log: file of what it prints on standard error.
    """

    def __init__(self, words: tuple[Any, ...], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ctbench", *map(str, words)],
                env={**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1", **environment},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def errors(self) -> str:
        """What it has printed on standard error."""
        return self._log.read_text()

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what it printed on standard output."""
        output, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, output

    def until(self, is_so: Callable[[], Any]) -> Any:
        """Wait until something is so and return it; the command must go on until then."""
        deadline = time.monotonic() + SECONDS
        while not (found := is_so()):
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < deadline, self.errors
            time.sleep(0.1)
        return found


class Place:
    """A folder with a stream, a method, and homes for stores.

    Args:
        folder: the folder.
        cluster: SLURM or Ray.
    """

    def __init__(self, folder: Path, cluster: Any) -> None:
        self.folder, self.cluster = folder, cluster
        self.stream = write_stream(folder, seeds="[0]", epochs="1", num_test="16")
        self.method = write_method(folder, HELD.strip(), "held")
        self._count = 0

    def start(self, *words: Any, home: Path, **environment: str) -> Command:
        """Start a command."""
        self._count += 1
        more = {"CTBENCH_HOME": str(home), "CTBENCH_STEPS": str(home.with_suffix(".steps"))}
        return Command(words, {**more, **self.cluster.environment, **environment}, self.folder / f"{self._count}.err")

    def run(self, *more: Any, home: Path, held: bool = False) -> Command:
        """Start a run of the method on the cluster; `held` in its stages until the gate of its home is opened."""
        environment = {"CTBENCH_GATE": str(gate(home))} if held else {}
        words = ["run", "-m", self.method, "-s", self.stream, *self.cluster.words]
        words += ["--results", home.with_suffix(".results"), "--checkpoint-seconds", "0"]
        return self.start(*words, *more, home=home, **environment)

    def with_hidden_plug_ins(self) -> list[tuple[Command, Path, str]]:
        """Start a run whose method the cluster does not see, and one whose stream; return each, its home and what it lacks."""
        started = []
        for kind in ("method", "stream"):
            home = self.home(f"{type(self.cluster).__name__}-missing-{kind}")
            hidden = Path(shutil.copy(getattr(self, kind), self.cluster.private))
            words = {"method": self.method, "stream": self.stream, kind: hidden}
            call = ("run", "-m", words["method"], "-s", words["stream"], *self.cluster.words)
            command = self.start(*call, "--results", home.with_suffix(".results"), home=home)
            started.append((command, home, f"no {kind} file '{hidden}'"))
        return started

    def home(self, name: str) -> Path:
        """Return a new home that holds the base with the nodes of row 0, and nothing that a method has to do with."""
        home = self.folder / name
        shutil.copytree(self.folder / "reference", home)
        for path in (home / "store").glob("??/*/record.json"):
            if json.loads(path.read_text())["record"]["about"]["method"]:
                shutil.rmtree(path.parent)
        return home
