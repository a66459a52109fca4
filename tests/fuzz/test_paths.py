"""Any path of a stream means files, or is refused in one line; whatever the folder holds, nothing is read in silence."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import outcome

from ctbench.data.files import survey_files
from ctbench.errors import CTBenchError

NAMES = ("a.txt", "b.txt", ".c.txt", "d.zip", "e.bin", "[x].txt", "sub", "link", "up")
PARTS = st.sampled_from([*NAMES, "*", "**", "*.txt", "?.txt", "[ab].txt", "[x].txt", "..", "*.*"])
PATHS = st.one_of(
    st.text(alphabet="ab.*?[]x/-!t\0é", min_size=1, max_size=14),
    st.lists(PARTS, min_size=1, max_size=4).map("/".join),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("paths") / "root"
    for place in (root, root / "sub", root / "sub" / "deeper", root / "[x]"):
        place.mkdir(parents=True)
        for name in NAMES[:6]:
            (place / name).write_text("x")
    (root / "link").symlink_to("sub")
    (root / "sub" / "up").symlink_to("..")
    os.mkfifo(root / "pipe.txt")
    return root


@given(PATHS)
def test_any_path(folder, path):
    found = outcome(lambda: survey_files(folder, [path], format="auto", whose="fuzz"))
    if isinstance(found, CTBenchError):
        return
    assert found.files
    read = [file.path.resolve() for file in found.files]
    assert len(set(read)) == len(read)
    assert all(each.reason for each in found.skipped)


@given(st.sets(st.sampled_from([*NAMES[:6], "x.csv.gz", "y", "z.TXT"]), min_size=1))
def test_every_file_of_a_folder_is_read_or_named(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("one")
    for name in names:
        (folder / name).write_text("x")
    for path in (".", "*", "**", "./"):
        found = outcome(lambda path=path: survey_files(folder, [path], format="auto", whose="fuzz"))
        if not isinstance(found, CTBenchError):
            skipped = {each.shown.rpartition("/")[2] for each in found.skipped}
            assert {file.path.name for file in found.files} | skipped == names
