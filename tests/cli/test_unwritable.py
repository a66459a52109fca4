"""`tune`, `prepare`, `bench`, `store` and `compare` refuse a place that they cannot write in one line, before they compute."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from disks import call_in, fill, mounted
from fake_results import write_fakes
from small_streams import write_stream

from ctbench.machine.files import is_scratch

BENCH = "bench --shape tiny --what overhead --pairs 1 --seconds 0.1 --precision fp32 --threads 1 -o"
TUNE = "tune -m naive -s {root}/small.toml --allow-reported --trials 1 --workers 0 --results"
COMMANDS = {
    "tune": f"{TUNE} {{place}}/results",
    "tune, home": f"{TUNE} {{root}}/tuned",
    "prepare": "prepare {root}/mine.toml {root}/originals",
    "bench": f"{BENCH} {{place}}/bench.json",
    "bench, home": f"{BENCH} {{root}}/bench.json",
    "compare": "compare --results {root}/results -o {place}/table.md",
    "store prune, home": "store prune --all --yes --results {root}/results",
}
"""The home of those that are named so is in the place, that of the others elsewhere."""
REASONS = {
    "full": "No space left on device",
    "read-only": "Read-only file system",
    "no permission": "Permission denied",
    "a file": "is not a folder|Not a directory",
}
ADVICE = "choose another|set CTBENCH_HOME|change the permissions|free some space|mount that|must be a folder"
TOML = """\
kind = "domain"
summary = "Two files"
root = "$MY_DATA"
obtain = "From the attic."
general = { source = "files", path = "a.txt" }
pretrain = { tokens = 1000, lr = 1e-3 }

[[domains]]
name = "a"
text = { source = "files", path = "a.txt" }
task = { source = "files", train = "t.jsonl", test = "t.jsonl" }
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    write_fakes(folder / "results")
    write_stream(folder, tokens="640", epochs="1", num_test="16", num_train="12", num_validation="4", seeds="[0]")
    (folder / "mine.toml").write_text(TOML)
    (folder / "originals").mkdir()
    (folder / "originals" / "a.txt").write_text("a line of text\n" * 400)
    (folder / "originals" / "t.jsonl").write_text('{"text": "a", "label": "b"}\n' * 9)
    return folder


def put_node(home: Path) -> None:
    """Something to remove."""
    folder = home / "store" / "ab" / ("ab" * 32)
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")


@contextmanager
def spoiled(place: Path, how: str) -> Iterator[Path]:
    """Make a place that holds a node under home/ and cannot be written."""
    if how == "a file":
        place.write_text("a file")
        yield place
    elif how == "no permission":
        put_node(place / "home")
        folders = [place / "home/store/ab", place / "home/store", place / "home", place]
        for folder in folders:
            folder.chmod(0o555)
        yield place
        for folder in folders:
            folder.chmod(0o755)
    else:
        with mounted(place, "size=64k"):
            put_node(place / "home")
            if how == "full":
                fill(place)
            else:
                subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
            yield place


def call(command: str, root: Path, place: Path) -> subprocess.CompletedProcess[str]:
    words = COMMANDS[command].format(root=root, place=place).split()
    home = place / "home" if "home" in command else root / "home"
    return call_in(root, words, home=home, more={"MY_DATA": str(place / "data")})


def content(place: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in place.rglob("*") if path.is_file()}


def refused(command: str, root: Path, place: Path, how: str) -> str:
    """Call, and return what it says: one line with path, reason and advice, nothing written, nothing computed."""
    before, results = content(place), content(root)
    answer = call(command, root, place)
    assert answer.returncode == 2, answer.stdout + answer.stderr
    assert answer.stdout == ""
    assert content(place) == before
    assert content(root) == results
    return answer.stderr


PAIRS = [(command, how) for command in COMMANDS for how in REASONS if (command, how) != ("store prune, home", "full")]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "how"), PAIRS)
def test_a_place_that_cannot_be_written_is_one_line_and_nothing_is_computed(root, tmp_path, command, how) -> None:
    with spoiled(tmp_path / "place", how) as place:
        *before, line = refused(command, root, place, how).splitlines()
    assert line.startswith("ctbench: ")
    assert all(each.startswith("naive: ") for each in before)  # what `tune` is about to try
    assert str(place) in line
    assert re.search(REASONS[how], line), line
    assert re.search(ADVICE, line), line


def test_a_home_that_is_no_folder_is_one_line(root, tmp_path) -> None:
    (tmp_path / "home").write_text("a file")
    for action in ("list", "verify", "prune"):
        answer = call_in(root, ["store", action], home=tmp_path / "home")
        assert (answer.returncode, answer.stdout) == (2, "")
        (line,) = answer.stderr.splitlines()
        assert line == (
            f"ctbench: '{tmp_path / 'home'}' cannot be read (Not a directory); CTBENCH_HOME must be a folder that you may read"
        )
    answer = call_in(root, ["store"], home=tmp_path / "nowhere")
    assert (answer.returncode, answer.stdout.split()[0]) == (0, "nothing")


def test_a_store_that_may_not_be_read_is_one_line_and_not_empty(root, tmp_path) -> None:
    put_node(tmp_path / "home")
    (tmp_path / "home" / "store").chmod(0)
    answer = call_in(root, ["store"], home=tmp_path / "home")
    (tmp_path / "home" / "store").chmod(0o755)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "home/store' cannot be read (Permission denied)" in answer.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["compare", "prepare"])
def test_a_place_that_may_be_written_is_written(root, tmp_path, command) -> None:
    answer = call(command, root, tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert content(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if is_scratch(path)]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "limit"), [("tune", 600), ("compare", 100)])
def test_a_write_that_fails_at_the_end_leaves_nothing_half_written(root, tmp_path, command, limit) -> None:
    """Files may only grow to a limit, as if the disk filled up behind the check at the beginning."""
    words = COMMANDS[command].format(root=root, place=tmp_path).split()
    answer = call_in(root, words, home=root / "home", limit=limit, more={"MY_DATA": str(tmp_path / "data")})
    assert answer.returncode == 2, answer.stderr
    assert "File too large" in answer.stderr.splitlines()[-1]
    assert content(tmp_path) == {}
