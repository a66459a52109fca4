"""Compressed files: every frame is read, what is cut or damaged is refused, and what never ends is not waited for."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import sys
import time
import tracemalloc

import pytest
from packing import pack_zst

from ctbench.data.files import DataFile
from ctbench.data.records import read_documents
from ctbench.errors import BadData

PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": pack_zst}
FIRST, SECOND = [f"line {n} of the first" for n in range(500)], ["one more", "the last"]


def packed(ending, lines):
    return PACKERS[ending]("".join(f"{line}\n" for line in lines).encode())


def read(folder, ending, content):
    path = folder / f"a.txt{ending}"
    path.write_bytes(content)
    return list(read_documents(DataFile(path, path.name, format="auto"), "line"))


@pytest.mark.parametrize("ending", PACKERS)
def test_all_frames_are_read(tmp_path, ending):
    assert read(tmp_path, ending, packed(ending, FIRST)) == FIRST
    assert read(tmp_path, ending, packed(ending, FIRST) + packed(ending, SECOND)) == FIRST + SECOND
    assert read(tmp_path, ending.upper(), packed(ending, SECOND)) == SECOND


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("spoil", [lambda first, second: first + second[:-3], lambda first, _: first[:-1]])
def test_cut_file_is_refused_not_read_by_half(tmp_path, ending, spoil):
    with pytest.raises(BadData, match=rf"a.txt{ending}: cannot be unpacked: it breaks off in the middle"):
        read(tmp_path, ending, spoil(packed(ending, FIRST), packed(ending, SECOND)))


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("spoil", [lambda first: first + b"what is this?", lambda _: b"plain text, not packed at all"])
def test_file_that_is_not_packed_or_goes_on_behind_is_refused(tmp_path, ending, spoil):
    with pytest.raises(BadData, match=rf"a.txt{ending}: cannot be unpacked: \w+"):
        read(tmp_path, ending, spoil(packed(ending, FIRST)))


def test_padding_of_zeros_is_no_damage(tmp_path):
    assert read(tmp_path, ".gz", packed(".gz", SECOND) + bytes(512)) == SECOND
    assert read(tmp_path, ".xz", packed(".xz", SECOND) + bytes(4) + packed(".xz", SECOND)) == SECOND * 2


@pytest.mark.parametrize("ending", PACKERS)
def test_file_that_unpacks_out_of_all_proportion_is_refused_early(tmp_path, ending):
    started = time.perf_counter()
    bomb = PACKERS[ending](b"a" * 2**20 * 16) * 30  # 480 MB
    with pytest.raises(BadData, match=r"unpacks to more than 250 times its size"):
        read(tmp_path, ending, bomb)
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize("ending", [".gz", ".bz2"])
@pytest.mark.parametrize("is_refused", [True, False])
def test_memory_does_not_grow_with_what_a_file_unpacks_to(tmp_path, monkeypatch, ending, is_refused):
    """A few kB that are 32 MB: beyond the limits they are refused, within them they are read, both in little memory.

    Of .zst, whose library cannot be limited before Python 3.14, up to 64 MiB come out at once.
    """
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(PACKERS[ending]((b"x" * 1023 + b"\n") * 2**15))
    monkeypatch.setattr("ctbench.data.unpack.FREE_BYTES", 2**20 if is_refused else 2**26)
    tracemalloc.start()
    with contextlib.ExitStack() as stack:
        if is_refused:
            stack.enter_context(pytest.raises(BadData, match=r"a\.txt.*unpacks to more than 250 times its size"))
        assert sum(1 for _ in read_documents(DataFile(path, path.name, format="auto"), "line")) == 2**15
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


def test_zst_without_its_library_is_one_line(tmp_path, monkeypatch):
    if sys.version_info >= (3, 14):
        pytest.skip("the standard library reads .zst")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(BadData, match=r"a.txt.zst: .zst needs the library zstandard before Python 3.14: pip install"):
        read(tmp_path, ".zst", b"anything")
