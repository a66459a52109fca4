"""Build wheel and sdist into dist/, then install the wheel in a fresh environment and use it in another folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SMALL = ("base.tokens=4096", "pretrain.tokens=4096", "finetune.epochs=1", "finetune.seeds=[0]")
"""A budget that takes seconds."""
COMMANDS = (
    ("--version",),
    ("ls", "methods"),
    ("new", "stream", "small"),
    ("new", "method", "mine"),
    ("run", "--method", "hyperprompt", "--stream", "./small.toml"),
    ("run", "--method", "./mine.py", "--stream", "./small.toml"),
    ("compare", "--all"),
    ("report", "--all"),
)


def main() -> None:
    """Build, install, try; the first step that fails ends it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(folder)
        python = install(folder, wheel)
        use(folder, python)
    print("built, installed and tried: " + ", ".join(sorted(path.name for path in (ROOT / "dist").iterdir())))


def build(folder: Path) -> Path:
    """Build the sdist from the files that git knows, and the wheel from the sdist; return the wheel in dist/."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    source = folder / "source"
    for file in run("git", "ls-files", where=ROOT, quiet=True).splitlines():
        if (ROOT / file).is_file() and not file.startswith("results/"):
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, source / file)
    backend = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
    run(sys.executable, "-c", backend, "build_sdist", str(ROOT / "dist"), where=source)
    (archive,) = (ROOT / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(folder / "sdist", filter="data")
    (unpacked,) = (folder / "sdist").iterdir()
    run(sys.executable, "-c", backend, "build_wheel", str(ROOT / "dist"), where=unpacked)
    (wheel,) = (ROOT / "dist").glob("*.whl")
    return wheel


def install(folder: Path, wheel: Path) -> Path:
    """Install the wheel with its dependencies in a fresh environment and return its Python."""
    run(sys.executable, "-m", "venv", str(folder / "env"), where=folder)
    python = folder / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel, where=folder)
    return python


def use(folder: Path, python: Path) -> None:
    """Call the installed command line in an empty folder with a store of its own."""
    where = folder / "elsewhere"
    where.mkdir()
    found = run(python, "-c", "import ctbench; print(ctbench.__file__)", where=where, quiet=True).strip()
    assert found.startswith(str(folder / "env")), f"the checkout was imported: {found}"
    for words in COMMANDS:
        budget = [part for pair in SMALL for part in ("--set", pair)] if words[0] == "run" else []
        run(python.parent / "ctbench", *words, *budget, where=where)
    assert len(list((where / "results").rglob("*.json"))) == 2
    assert (where / "report.html").stat().st_size > 10_000


def run(*words: str | Path, where: Path, quiet: bool = False) -> str:
    """Run a command and return what it prints; what it says is shown if it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"CTBENCH_HOME": str(where / "home"), "OMP_NUM_THREADS": "1"}
    if not quiet:
        print("$", *(Path(word).name if Path(word).is_absolute() else word for word in words[:6]), file=sys.stderr)
    done = subprocess.run([str(word) for word in words], cwd=where, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}exit code {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
