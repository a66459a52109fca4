"""Methods that are files run as they are written now."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ctbench import get_method

METHOD = '''"""A method."""
from ctbench import Method, hyper
from {package} import VALUE

class Mine(Method):
    """A method."""
    share: float = hyper({value})
    reads = VALUE
'''
TIME = 1_700_000_000


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "words").mkdir()
    return tmp_path


def write(folder: Path, *, value: float, package: str) -> str:
    """Write a method and what it imports, all files as of the same second."""
    files = {
        "mine.py": METHOD.format(value=value, package=package),
        "beside.py": f"VALUE = {value}\n",
        "words/__init__.py": "from words.inner import VALUE\n",
        "words/inner.py": f"VALUE = {value}\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
        os.utime(folder / name, (TIME, TIME))
    return str(folder / "mine.py")


@pytest.mark.parametrize("package", ["beside", "words"])
def test_a_method_that_is_written_anew_in_the_same_second_is_not_run_as_it_was_before(folder, package):
    for value in (0.1, 0.2):
        method = get_method(write(folder, value=value, package=package))
        assert (method.share, method.reads) == (value, value)


@pytest.mark.parametrize("package", ["beside", "words"])
def test_a_method_leaves_no_bytecode_beside_it_and_no_finder(folder, package):
    hooks, paths = [*sys.path_hooks], [*sys.path]
    get_method(write(folder, value=0.1, package=package))
    assert not list(folder.rglob("__pycache__"))
    assert (sys.path_hooks, sys.path) == (hooks, paths)
    assert not [path for path in sys.path_importer_cache if str(folder) in path]
