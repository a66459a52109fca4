"""A disk that is full, read-only or limited is one line with the path and what to do, and nothing is half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from disks import call_in, mounted
from fake_results import write_fakes
from small_streams import write_stream

from ctbench.machine.files import is_scratch

COMMANDS = {
    "report": "report --results {results} -o {place}/report.html",
    "plot": "plot --results {results} --stream domain -o {place}/plot.png",
    "new method": "new method mine",
    "new stream": "new stream mine",
    "run": "run -m naive -s {stream} --workers 0 --results {place}/results",
    "run, home": "run -m naive -s {stream} --workers 0 --results {results}",
}
"""Commands that write to a place; `new` writes to the current folder, which is the place."""


def call(command: str, folder: Path, place: Path, *, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    words = command.format(results=folder / "results", place=place, stream=folder / "small.toml").split()
    home = place / "home" if words[0] == "run" and str(place) not in words[-1] else folder / "home"
    return call_in(place, words, home=home, limit=limit, more={"MPLCONFIGDIR": str(folder / "mpl")})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("disk")
    write_fakes(root / "results")
    write_stream(root, tokens="640", epochs="1", num_test="16", num_train="12", num_validation="0", seeds="[0]")
    return root


def refused(answer: subprocess.CompletedProcess[str], place: Path, reason: str) -> None:
    """One line that names path, reason and a way out, no traceback, and nothing half-written."""
    assert answer.returncode in (1, 2), answer.stdout + answer.stderr
    (line,) = [line for line in answer.stderr.splitlines() if line.startswith("ctbench: ")]
    assert "Traceback" not in answer.stderr
    assert reason in line
    assert str(place) in line or place.name in line or "'mine" in line
    assert any(word in line for word in ("choose another", "set CTBENCH_HOME", "go to another folder"))
    assert [path for path in place.rglob("*") if is_scratch(path)] == []


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(folder, tmp_path, command) -> None:
    with mounted(tmp_path / "small", "size=16k") as place:
        (place / "filler").write_bytes(b"x" * 12_288)
        answer = call(COMMANDS[command], folder, place)
        if command == "new method":  # it fits
            assert answer.returncode == 0
            return
        refused(answer, place, "No space left on device")
        files = [path.relative_to(place).parts[0] for path in place.rglob("*") if path.is_file()]
        assert {*files} <= {"filler", "home"}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_file_system_is_one_line(folder, tmp_path, command) -> None:
    with mounted(tmp_path / "fixed", "size=1m,ro") as place:
        refused(call(COMMANDS[command], folder, place), place, "Read-only file system")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "plot", "new method", "new stream", "run"])
def test_a_limit_on_the_size_of_files_is_one_line(folder, tmp_path, command) -> None:
    place = tmp_path / "limited"
    place.mkdir()
    refused(call(COMMANDS[command], folder, place, limit=512), place, "File too large")


def test_a_results_folder_that_cannot_be_written_is_found_before_anything_is_computed(folder, tmp_path) -> None:
    with mounted(tmp_path / "fixed", "size=1m,ro") as place:
        answer = call(COMMANDS["run"], folder, place)
    refused(answer, tmp_path / "fixed", "Read-only file system")
    assert answer.returncode == 2
    assert not (folder / "home").exists()


@pytest.mark.parametrize("command", ["ls methods", "compare --results {results}", "store", "ls methods --json"])
def test_an_answer_that_cannot_be_written_is_one_line(folder, tmp_path, command) -> None:
    words = command.format(results=folder / "results").split()
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(
            [sys.executable, "-m", "ctbench", *words],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == "ctbench: standard output: No space left on device"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&-", "| head -1"])
def test_closed_streams_are_no_error(folder, tmp_path, closed) -> None:
    line = f"set -o pipefail; {sys.executable} -m ctbench compare --results {folder / 'results'} {closed}"
    answer = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (answer.returncode, "Traceback" in answer.stderr) == (0, False), answer.stderr
    wrong = f"{sys.executable} -m ctbench compar {closed}"
    answer = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {wrong}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (answer.returncode, "Traceback" in answer.stderr) == (2, False), answer.stderr
