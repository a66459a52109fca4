from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from ctbench.errors import BadConfig
from ctbench.machine import files
from ctbench.machine.files import is_scratch, os_errors, read_path, scratch_beside, whole_folder, write_whole

KILLED = """
import os, sys
from pathlib import Path
from ctbench.machine import files
os.fsync = lambda handle: os.kill(os.getpid(), 9)
files.write_whole(Path(sys.argv[1]), "new")
"""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("x" * 5000, "cannot be a path: File name too long"),
        ("a/" * 5000, "cannot be a path: File name too long"),
        ("a\0b", "cannot be a path: .*null byte"),
        ("~no-such-user/x", "there is no user whose home this starts in"),
    ],
)
def test_a_path_that_can_lead_nowhere_is_refused(given, words):
    with pytest.raises(BadConfig, match=words):
        read_path(given)


@pytest.mark.parametrize("given", ["", ".", "no/such/place", "file/below", "line\nbreak", "\u202e", "~"])
def test_any_other_path_is_taken_whether_anything_is_there_or_not(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("x")
    assert read_path(given) == (tmp_path if given == "~" else type(tmp_path)(given))


def test_a_file_is_replaced_or_kept(tmp_path):
    path = tmp_path / "a.txt"
    assert write_whole(path, "one")
    assert not write_whole(path, "two", replace=False)
    assert path.read_text() == "one"
    assert write_whole(path, b"three")
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "three"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="wants named pipes")
def test_a_pipe_or_a_device_is_refused_and_stays_what_it_is(tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="it is a device or a pipe"):
        write_whole(pipe, "x")
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.csv"]
    assert write_whole(tmp_path / "file.csv", "x")


def test_a_write_without_hard_links_never_replaces_either(tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(files.Path, "hardlink_to", refuse)
    assert write_whole(tmp_path / "a", "one", replace=False)
    assert not write_whole(tmp_path / "a", "two", replace=False)
    assert (tmp_path / "a").read_text() == "one"


def test_a_killed_write_leaves_the_old_file_and_a_known_scratch_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -9
    assert path.read_text() == "old"
    left = [each for each in tmp_path.iterdir() if each != path]
    assert len(left) == 1
    assert is_scratch(left[0])
    assert not is_scratch(path)


@pytest.mark.parametrize("name", ["state.json", "a", ".hidden", "line\nbreak", "x" * 200])
def test_every_scratch_name_is_known_as_one(name, tmp_path):
    scratch = scratch_beside(tmp_path / name)
    assert is_scratch(scratch)
    again = scratch_beside(scratch)
    assert is_scratch(again)
    assert again != scratch
    assert len(again.name) == len(scratch.name)


@pytest.mark.parametrize(
    "name",
    [
        ".thesis.partial",
        ".movie.mkv.partial",
        ".partial",
        ".a.12-34.partial",
        ".a.b-0123456789ab.partial",
        "a.12-0123456789ab.partial",
        ".a.12-0123456789ab.partial.txt",
    ],
)
def test_a_hidden_file_of_somebody_else_is_no_scratch_file(name, tmp_path):
    assert not is_scratch(tmp_path / name)


def test_data_is_flushed_before_the_rename(tmp_path, monkeypatch):
    order: list[str] = []
    fsync, replace = os.fsync, files.Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("fsync"), fsync(handle)))
    monkeypatch.setattr(files.Path, "replace", lambda self, to: (order.append("rename"), replace(self, to))[1])
    write_whole(tmp_path / "a", "x")
    assert order[:2] == ["fsync", "rename"]


def test_a_folder_is_flushed_before_the_rename(tmp_path, monkeypatch):
    order: list[str] = []
    fsync, rename = os.fsync, files.Path.rename
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("fsync"), fsync(handle)))
    monkeypatch.setattr(files.Path, "rename", lambda self, to: (order.append("rename"), rename(self, to))[1])
    with whole_folder(tmp_path / "folder") as scratch:
        (scratch / "file").write_text("x")
    assert order[:4] == ["fsync", "fsync", "rename", "rename"]  # file and folder, then the old one away and the new in
    assert order[4] == "fsync"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "folder"

    def write_half() -> None:
        with whole_folder(target) as folder:
            (folder / "half").write_text("")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_half()
    assert list(tmp_path.iterdir()) == []
    for text in ("one", "two"):
        with whole_folder(target) as folder:
            (folder / "file").write_text(text)
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
    assert (target / "file").read_text() == "two"


def test_an_error_of_the_system_that_is_told_in_words_alone_is_an_oserror():
    with pytest.raises(PermissionError, match="Permission denied"), os_errors():
        raise Exception("I/O error: Permission denied (os error 13) at path 'x'")
    with pytest.raises(OSError, match="No space left") as error, os_errors():
        raise Exception("No space left on device (os error 28)")
    assert error.value.errno == errno.ENOSPC
    with pytest.raises(KeyError, match="28"), os_errors():
        raise KeyError("error 28")


@pytest.mark.parametrize(("mask", "others"), [(0o022, 0o444), (0o077, 0o400)])
def test_the_files_of_a_folder_are_readable_to_whoever_can_read_the_folder(mask, others, tmp_path):
    before = os.umask(mask)
    try:
        with whole_folder(tmp_path / "new") as scratch:
            (scratch / "inner").mkdir()
            private = scratch / "inner" / "weights"
            private.write_text("x")
            private.chmod(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "inner" / "weights").stat().st_mode & 0o777 == 0o200 | others


def test_a_folder_whose_last_rename_fails_is_what_it_was(tmp_path, monkeypatch):
    target, rename = tmp_path / "folder", files.Path.rename
    with whole_folder(target) as folder:
        (folder / "file").write_text("old")

    def refuse(self, to):
        if is_scratch(self) and (self / "file").read_text() == "new":
            raise OSError(28, "No space left on device")
        return rename(self, to)

    monkeypatch.setattr(files.Path, "rename", refuse)

    def write_new() -> None:
        with whole_folder(target) as folder:
            (folder / "file").write_text("new")

    with pytest.raises(OSError, match="No space"):
        write_new()
    assert (target / "file").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
