"""The wheel, installed away from the checkout, finds its methods and streams and plans the same nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    names = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True).stdout
    for name in names.splitlines():
        source, target = ROOT / name, folder / "source" / name
        if source.is_file() and not name.startswith(("results/", "tests/")):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", folder, folder / "source"], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def ask(*words: str, site: Path | None, where: Path) -> str:
    """Run the command line from `where`, with the wheel in front of everything else."""
    environment = {**os.environ, "CTBENCH_HOME": str(where / "home"), "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": str(site)} if site else {}
    command = [sys.executable, "-m", "ctbench", *words]
    return subprocess.run(command, cwd=where, env=environment, check=True, capture_output=True, text=True).stdout


def test_wheel_holds_every_method_stream_and_page(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {f"ctbench_methods/{path.name}" for path in (ROOT / "methods").glob("*.py")}
    wanted |= {
        f"ctbench_benchmarks/{path.relative_to(ROOT / 'benchmarks').as_posix()}"
        for path in (ROOT / "benchmarks").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert any(name.endswith("domain-tiny/weights.safetensors") for name in wanted)
    wanted |= {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "ctbench").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - names == set()
    assert not {name for name in names if name.startswith(("methods/", "tests/", "results/"))}


def test_wheel_lists_and_plans_as_the_checkout_does(installed, tmp_path):
    where = ask("ls", "methods", "--json", site=installed, where=tmp_path)
    assert where == ask("ls", "methods", "--json", site=None, where=tmp_path)
    found = subprocess.run(
        [sys.executable, "-c", "import ctbench, ctbench_methods; print(ctbench.__file__, ctbench_methods.__file__)"],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert found.count(str(installed)) == 2
    plans = [
        json.loads(ask("plan", "--method", "replay", "--stream", "domain", "--json", site=site, where=tmp_path))
        for site in (installed, None)
    ]
    assert plans[0] == plans[1]
