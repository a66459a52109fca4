"""A real SLURM, installed with apt and started by root, and a real Ray; elsewhere the tests are skipped, with a reason."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the controller is imported by its bare name
from controller import PACKAGES, PATH, PROGRAMS, Controller
from place import Place
from ray_cluster import RayCluster
from small_streams import write_stream


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


def stop(reason: str) -> None:
    """Skip the test, unless clusters are required."""
    (pytest.fail if os.environ.get("CTBENCH_CLUSTER") == "required" else pytest.skip)(reason)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Controller]:
    """A controller and a node that takes jobs."""
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


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A Ray cluster of one machine."""
    if importlib.util.find_spec("ray") is None:
        stop("ray is not installed: pip install 'ctbench[ray]'")
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        RayCluster(Path(folder)) as found,
    ):
        yield found


@pytest.fixture(scope="session")
def held_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which this machine has computed the run of the method of `Place`, in the home `reference`."""
    found = Place(tmp_path_factory.mktemp("cluster"), SimpleNamespace(environment={}))
    home = found.folder / "reference"
    words = ("run", "-m", found.method, "-s", found.stream, "--workers", 1, "--results", home.with_suffix(".results"))
    command = found.start(*words, home=home)
    assert command.end()[0] == 0, command.errors
    return found.folder


@pytest.fixture(scope="session")
def place(slurm: Controller, held_run: Path) -> Place:
    """The folder of the run, for jobs of SLURM."""
    return Place(held_run, slurm)


@pytest.fixture(scope="session")
def ray_place(ray_cluster: RayCluster, held_run: Path) -> Place:
    """The folder of the run, for workers of Ray."""
    return Place(held_run, ray_cluster)


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Three methods and two seeds: the `words` of the call, and the `home` in which this machine has computed it."""
    place = Place(tmp_path_factory.mktemp("grid"), SimpleNamespace(environment={}))
    stream = write_stream(place.folder, "grid", seeds="[0]", epochs="1", num_test="16")
    words = ("run", "-m", "naive", "-m", "replay", "-m", "ewc", "-s", stream, "--seed", "0,1")
    home = place.folder / "here"
    command = place.start(*words, "--results", home.with_suffix(".results"), "--workers", 2, home=home)
    assert command.end()[0] == 0, command.errors
    return SimpleNamespace(words=words, home=home)
