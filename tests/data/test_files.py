"""Which files a path means, what is left out, and what is refused."""

from __future__ import annotations

import os

import pytest

from ctbench.data.files import survey_files
from ctbench.errors import BadData


@pytest.fixture
def look(tmp_path):
    """Return a function that writes files and says what a path means: the files, and what was skipped and why."""

    def get(path, *names, format="auto"):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
        found = survey_files(tmp_path, [path], format=format, whose="a test")
        return [file.shown for file in found.files], {each.shown: each.reason for each in found.skipped}

    return get


@pytest.mark.parametrize("path", ["shards", "shards/**", "shards/**/*.txt", "**/*"])
def test_what_office_and_macos_put_beside_a_text_is_hidden(look, path):
    texts, skipped = look(path, "shards/0.txt", "shards/~$0.txt", "shards/__MACOSX/0.txt", "shards/MACOSX/1.txt")
    assert texts == ["shards/0.txt", "shards/MACOSX/1.txt"]
    assert skipped == {"shards/~$0.txt": "hidden", "shards/__MACOSX": "hidden"}
    assert look("shards/__MACOSX")[0] == ["shards/__MACOSX/0.txt"]
    assert look("shards/~$*")[0] == ["shards/~$0.txt"]


@pytest.mark.parametrize("path", ["shards", "shards/*", "shards/**", "**/*"])
def test_folders_and_patterns_leave_out_the_same_and_name_it(look, path):
    names = [
        "shards/0.txt",
        "shards/._0.txt",
        "shards/.DS_Store",
        "shards/1.txt.zip",
        "shards/2.tar.gz",
        "shards/x.pdf",
    ]
    assert look(path, *names) == (
        ["shards/0.txt"],
        {
            "shards/._0.txt": "hidden",
            "shards/.DS_Store": "hidden",
            "shards/1.txt.zip": "an archive",
            "shards/2.tar.gz": "an archive",
            "shards/x.pdf": "of an unknown ending",
        },
    )


def test_what_the_stream_names_is_read(look):
    assert look(".a/*.txt", ".a/b.txt") == ([".a/b.txt"], {})
    assert look(".c.txt", ".c.txt") == ([".c.txt"], {})
    assert look("data", "data/x.pdf", "data/y.zip", format="text") == (["data/x.pdf"], {"data/y.zip": "an archive"})


def test_links_are_followed_and_loops_noticed(look, tmp_path):
    look("real", "real/1.txt", "shards/0.txt")
    (tmp_path / "shards/more").symlink_to("../real")
    (tmp_path / "shards/back").symlink_to("..")
    (tmp_path / "shards/again.txt").symlink_to("0.txt")
    skipped = {"shards/back": "a link back to a folder above it", "shards/again.txt": "the same file"}
    for path in ("shards", "shards/**", "shards/**/*.txt"):
        files, left = look(path)
        assert sorted(files) in (["shards/0.txt", "shards/more/1.txt"], ["shards/again.txt", "shards/more/1.txt"])
        assert left.keys() == skipped.keys()
        assert set(left.values()) == set(skipped.values())


@pytest.mark.parametrize(
    ("path", "names", "wanted"),
    [
        ("a[1].txt", ["a[1].txt", "a1.txt"], ["a[1].txt"]),
        ("d[1]/*.txt", ["d[1]/x.txt", "d1/y.txt"], ["d[1]/x.txt"]),
        ("what?", ["what?/x.txt", "whats/y.txt"], ["what?/x.txt"]),
        ("a[1].txt", ["a1.txt"], ["a1.txt"]),
    ],
)
def test_path_that_exists_as_it_is_written_wins_over_its_reading_as_a_pattern(look, path, names, wanted):
    assert look(path, *names)[0] == wanted


@pytest.mark.parametrize(
    ("path", "names", "words"),
    [
        ("a.zip", ["a.zip"], "a.zip: is an archive; name the files in it"),
        (
            "d",
            ["d/a.zip", "d/b.bin"],
            r"d: no readable file in this folder, wanted by a test; d/a.zip is an archive; d/b.bin",
        ),
        ("*.bin", ["b.bin"], r"\*.bin: no readable file, wanted by a test; b.bin is of an unknown ending; known"),
        ("d", ["d/.a.txt"], "d/.a.txt is hidden"),
        ("x" * 300, [], "cannot be looked up: File name too long"),
        ("a\0b", [], "cannot be looked up"),
    ],
)
def test_path_without_a_file_to_read_is_refused_with_what_is_there(look, path, names, words):
    with pytest.raises(BadData, match=words):
        look(path, *names)


def test_pipes_and_links_to_nothing_are_refused_without_waiting(look, tmp_path):
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d/a.txt")
    for path in ("d/a.txt", "d", "d/*.txt"):
        with pytest.raises(BadData, match="is a pipe or a device, not a file"):
            look(path)
    (tmp_path / "d/a.txt").unlink()
    (tmp_path / "d/b.txt").symlink_to("gone.txt")
    with pytest.raises(BadData, match=r"b.txt \(found by d\): is a link to a file that is not there"):
        look("d")
    (tmp_path / "d/ring.txt").symlink_to("ring.txt")
    with pytest.raises(BadData, match="cannot be looked up"):
        look("d/ring.txt")


@pytest.mark.parametrize(
    ("content", "store"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"),
        ("\ufeffversion https://git-lfs.github.com/spec/v1\r\noid sha256:00\r\nsize 1\r\n", "Git LFS"),
        ("# xet version 0\nfilesize = 1\nhash = 'x'\n", "Git Xet"),
        ("/annex/objects/SHA256E-s1--00.txt\n", "git-annex"),
        ("version two of this text\n", None),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet", "a.txt.gz"])
def test_pointer_of_a_large_file_store_is_refused(look, tmp_path, name, content, store):
    (tmp_path / name).write_text(content)
    if store is None:
        assert look(name)[0] == [name]
        return
    with pytest.raises(BadData, match=f"{name}: is a pointer of {store} and not the file itself"):
        look(name)


@pytest.mark.parametrize(
    ("content", "is_pointer"),
    [
        ("../real/a.txt", True),
        ("real.txt", True),
        ("../real", True),
        ("../gone/a.txt", False),
        ("../real/a.txt\n", False),
        ("real", False),
        ("see ../real/a.txt", False),
    ],
)
def test_link_that_git_stored_as_text_is_refused(look, tmp_path, content, is_pointer):
    look("real", "real/a.txt", "shards/real.txt", "shards/real/b.txt")
    (tmp_path / "shards" / "1.txt").write_text(content)
    if not is_pointer:
        assert "shards/1.txt" in look("shards")[0]
        return
    with pytest.raises(BadData, match=r"1.txt.*: is a pointer of git, which stored a link as text, and not the file"):
        look("shards")
