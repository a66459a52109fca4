"""How the file of a method becomes a module, in a process that may outlive an edit of it.

A file given by path is imported anew whenever it, or a file of its own that it imports, has changed. A registered method is
a module of Python's as any other, which its package and others may hold, so a changed one is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from ctbench.errors import BadPlugin
from ctbench.plugins.neighbours import neighbours
from ctbench.plugins.plugin import Plugin
from ctbench.plugins.source import file_digest, parse_method


def import_method(plugin: Plugin) -> Any:
    """Return the module of a method, whose code is that of its files now.

    Raises:
        BadPlugin: it is registered, and this process imported one of its files before that was edited; or one of them
            cannot be parsed.
        Exception: whatever the method's own code raises.
    """
    return _import_file(plugin) if plugin.module is None else _import_registered(plugin, plugin.module)


def _import_registered(plugin: Plugin, module: str) -> ModuleType:
    parse_method(plugin)  # names the method if it cannot be parsed
    files = {module: plugin.path, **dict(neighbours(plugin))}
    now, imported = {name: file_digest(path) for name, path in files.items()}, _imported()
    for name, digest in now.items():
        if imported.get(name, digest) != digest:
            file = "" if name == module else f"{files[name].name} of "
            raise BadPlugin(f"{file}method '{plugin.name}' was edited since this process imported it; restart Python")
    try:
        return importlib.import_module(module)
    finally:  # what a failed import has imported stays imported
        for name in now.keys() & sys.modules.keys():
            imported.setdefault(name, now[name])


@lru_cache(maxsize=1)
def _imported() -> dict[str, str]:
    """Return the digests of registered methods and their own files as this process imported them, by module."""
    return {}


def _import_file(plugin: Plugin) -> Any:
    own = neighbours(plugin)
    # bytes, and not what decides about nodes: ranges to tune over and the hook `bake` must be those of the file, too
    content = hashlib.sha256()
    for path in (plugin.path, *sorted(path for _, path in own)):
        content.update(hashlib.sha256(path.read_bytes()).digest())
    name = f"ctbench_file_{plugin.name}_{content.hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, plugin.path, loader=_FromSource(name, str(plugin.path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _files_beside(plugin.path.parent, {name for name, _ in own}):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _FromSource(SourceFileLoader):
    """Runs a file as it is now and leaves no bytecode beside it.

    Bytecode counts as that of a file with its length, written in the same second. A method that a script writes anew for
    every trial would then run as the one before, under the digest of the new one.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


@contextlib.contextmanager
def _files_beside(folder: Path, own: Iterable[str]) -> Iterator[None]:
    """Let a file import what lies beside it, behind everything that is installed: no file there hides a module.

    The modules are forgotten again, so that two folders may each have one of the same name. Those named `own` that the
    process imported before, by itself, are set aside meanwhile: they may be older than their files.
    """

    def finder(path: str) -> FileFinder:
        if not Path(path).resolve().is_relative_to(folder):  # PYTHONPATH may name it through a link
            raise ImportError(f"{path} is elsewhere")
        return FileFinder(path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_FromSource, SOURCE_SUFFIXES))

    aside = {name: module for name, module in [*sys.modules.items()] if name.partition(".")[0] in own}
    for name in aside:
        del sys.modules[name]
    before = {*sys.modules}
    _forget_finders(folder)
    is_new = str(folder) not in sys.path
    if is_new:
        sys.path.append(str(folder))
    sys.path_hooks.insert(0, finder)
    try:
        yield
    finally:
        if is_new:
            sys.path.remove(str(folder))
        sys.path_hooks.remove(finder)
        _forget_finders(folder)
        for name in {*sys.modules} - before:
            if any(folder in Path(place).resolve().parents for place in _places(sys.modules[name])):
                del sys.modules[name]
        sys.modules.update(aside)


def _places(module: ModuleType) -> list[str]:
    """Return the file of a module, or the folders of a package without __init__.py."""
    file = getattr(module, "__file__", None)
    return [file] if file else [*getattr(module, "__path__", ())]


def _forget_finders(folder: Path) -> None:
    for path in [path for path in sys.path_importer_cache if Path(path).resolve().is_relative_to(folder)]:
        del sys.path_importer_cache[path]
