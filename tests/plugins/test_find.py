"""Methods run as they are written now, or are refused."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctbench import get_method
from ctbench.errors import BadPlugin
from ctbench.plugins.find import find_plugin, load_class
from ctbench.plugins.plugin import Plugin
from ctbench.plugins.source import source_digest

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
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "words").mkdir()
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


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


@pytest.mark.parametrize("package", ["beside", "words"])
@pytest.mark.parametrize("is_imported", [False, True])
def test_a_file_that_a_method_imports_is_read_anew_when_it_was_edited(folder, package, is_imported, monkeypatch):
    path = write(folder, value=0.1, package=package)
    if is_imported:  # by the process itself, as a notebook beside the method does
        monkeypatch.syspath_prepend(str(folder))
        importlib.import_module(package)
    paths = [*sys.path]
    assert get_method(path).reads == 0.1
    before = source_digest(find_plugin("method", path))
    (folder / ("beside.py" if package == "beside" else "words/inner.py")).write_text("VALUE = 0.2\n")
    assert get_method(path).reads == 0.2
    assert source_digest(find_plugin("method", path)) != before
    assert sys.path == paths
    assert (package in sys.modules) == is_imported


@pytest.mark.parametrize("package", ["beside", "words"])
def test_what_a_process_imported_from_elsewhere_by_the_name_is_not_what_a_method_imports(folder, package, monkeypatch):
    (folder / "elsewhere" / "words").mkdir(parents=True)
    write(folder / "elsewhere", value=0.3, package=package)
    path = write(folder, value=0.1, package=package)
    before = source_digest(find_plugin("method", path))
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(folder / "elsewhere"))
        module = importlib.import_module(package)
    assert source_digest(find_plugin("method", path)) == before
    assert get_method(path).reads == 0.1
    assert sys.modules[package] is module


@pytest.mark.parametrize("package", ["beside", "words", "bare"])
def test_what_a_method_imports_enters_its_digest_also_if_a_link_to_its_folder_is_on_the_path(
    folder, package, monkeypatch
):
    link = folder / "link"
    link.symlink_to(folder, target_is_directory=True)
    monkeypatch.syspath_prepend(str(link))
    module = "bare.inner" if package == "bare" else package
    path = write(folder, value=0.1, package=module)
    inner = folder / ("beside.py" if package == "beside" else f"{package}/inner.py")
    inner.parent.mkdir(exist_ok=True)
    digests = set()
    for value in (0.1, 0.2):
        inner.write_text(f"VALUE = {value}\n")
        assert get_method(path).reads == value
        digests.add(source_digest(find_plugin("method", path)))
    assert len(digests) == 2
    assert package not in sys.modules
    assert not list(folder.glob("*/__pycache__"))


def register(folder: Path, package: str, value: float, *, names: tuple[str, ...] = ("mine", "other")) -> list[Plugin]:
    """Write a package of methods that import one helper, as entry points would find them."""
    root = folder / package
    root.mkdir(exist_ok=True)
    (root / "__init__.py").touch()
    (root / "helper.py").write_text(f"VALUE = {value}\n")
    for name in names:
        (root / f"{name}.py").write_text(METHOD.format(value=0.1, package=f"{package}.helper"))
    return [Plugin(kind="method", name=name, path=root / f"{name}.py", module=f"{package}.{name}") for name in names]


def test_a_registered_method_that_was_edited_since_it_was_imported_is_refused(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    plugin, _ = register(folder, "edited_method", 0.1)
    text = plugin.path.read_text()
    assert load_class(plugin).share == 0.1
    plugin.path.write_text(text.replace("0.1", "0.2"))
    with pytest.raises(BadPlugin, match=r"^method 'mine' was edited since this process imported it; restart Python$"):
        load_class(plugin)
    plugin.path.write_text(f"# a comment\n{text}")
    assert load_class(plugin).share == 0.1


def test_a_registered_method_is_refused_when_a_file_that_another_one_imported_was_edited(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    mine, other = register(folder, "edited_helper", 0.1)
    assert load_class(mine).reads == 0.1
    register(folder, "edited_helper", 0.2)
    for plugin in (mine, other):
        with pytest.raises(BadPlugin, match=f"^helper.py of method '{plugin.name}' was edited since this process"):
            load_class(plugin)


def test_a_registered_method_that_could_not_be_imported_may_be_mended(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    mine, _ = register(folder, "mended_method", 0.1)
    text = mine.path.read_text()
    mine.path.write_text(f"{text}\nraise SystemExit('broken')\n")
    with pytest.raises(BadPlugin, match="cannot be imported"):
        load_class(mine)
    mine.path.write_text(text)
    assert load_class(mine).reads == 0.1
