"""A real SLURM for the tests: installed with apt and started by root; elsewhere the tests are skipped, with a reason."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the controller is imported by its bare name
from controller import PACKAGES, PATH, PROGRAMS, Controller
from small_streams import write_method, write_stream

SECONDS = 300
"""Longest time of a command."""
SLOW = """
def after_step(self, stage):
    import os, time
    with open(os.environ["STEPS"], "a") as file:
        file.write(f"{stage.domains} {stage.step}\\n")
    time.sleep(float(os.environ.get("SLOW", "0")))
"""
"""A method that takes its time, and writes down every update that is made."""


def installed() -> str:
    """Install SLURM if it is not there; return why it cannot be had, or nothing."""
    if os.getuid() != 0:
        return "SLURM is started by root only"
    if not all(shutil.which(name, path=PATH) for name in PROGRAMS):
        if shutil.which("apt-get") is None:
            return "no SLURM on this machine, and no apt-get to install it"
        options = ["-y", "-qq", "--no-install-recommends"]
        for command in (["update", "-qq"], ["install", *options, *PACKAGES]):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True)
            if done.returncode:
                return f"apt-get {command[0]} fails: {done.stderr.strip()[-200:]}"
    return ""


@pytest.fixture(scope="session")
def slurm() -> Iterator[Controller]:
    """A controller and a node that takes jobs."""
    stop = pytest.fail if os.environ.get("CTBENCH_CLUSTER") == "required" else pytest.skip
    if reason := installed():
        stop(reason)
    folder = Path(tempfile.mkdtemp(prefix="ctbench-slurm-"))
    controller = Controller(folder)
    try:
        try:
            controller.start()
        except Exception as error:  # a machine that forbids what its daemons need
            stop(f"SLURM is installed and does not start here: {error}")
        yield controller
    finally:
        controller.stop()
        shutil.rmtree(folder)


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
        slurm: the cluster.
    """

    def __init__(self, folder: Path, slurm: Controller) -> None:
        self.folder, self.slurm = folder, slurm
        self.stream = write_stream(folder, seeds="[0]", epochs="1", num_test="16")
        self.method = write_method(folder, SLOW.strip(), "slow")
        self._count = 0

    def start(self, *words: Any, home: Path, **environment: str) -> Command:
        """Start a command."""
        self._count += 1
        more = {"CTBENCH_HOME": str(home), "STEPS": str(home.with_suffix(".steps")), **self.slurm.environment}
        return Command(words, {**more, **environment}, self.folder / f"{self._count}.err")

    def run(self, *more: Any, home: Path, **environment: str) -> Command:
        """Start a run of the slow method as jobs."""
        words = ["run", "-m", self.method, "-s", self.stream, "--launcher", "slurm", "--slurm", "time=10"]
        words += ["--results", home.with_suffix(".results"), "--checkpoint-seconds", "0"]
        return self.start(*words, *more, home=home, **environment)

    def home(self, name: str) -> Path:
        """Return a new home that holds the base and nothing else."""
        home = self.folder / name
        shutil.copytree(self.folder / "reference", home)
        for path in (home / "store").glob("??/*/record.json"):
            if '"kind": "base"' not in path.read_text():
                shutil.rmtree(path.parent)
        return home


@pytest.fixture(scope="session")
def place(slurm: Controller, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The folder, in which the run of the slow method is computed by this machine already."""
    found = Place(tmp_path_factory.mktemp("cluster"), slurm)
    home = found.folder / "reference"
    words = ("run", "-m", found.method, "-s", found.stream, "--workers", 1, "--results", home.with_suffix(".results"))
    command = found.start(*words, home=home)
    code, _ = command.end()
    assert code == 0, command.errors
    return found
