"""Files of its own that a plug-in imports: those beside a file given by path, or of a registered one's package.

Nothing is imported: names are looked up where Python would find them.
"""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ctbench.plugins.parsing import parse_file

if TYPE_CHECKING:
    from ctbench.plugins.plugin import Plugin


def neighbours(plugin: Plugin) -> list[tuple[str, Path]]:
    """Return the files of its own that a plug-in imports, and those that they import, each with the name it goes by.

    Of a registered plug-in these are the modules of its package, outside of which it may use what is installed.

    Raises:
        BadPlugin: one of them cannot be parsed.
    """
    if plugin.module is None:
        return list(_beside(plugin.path, seen={plugin.path}))
    root = plugin.path.parents[plugin.module.count(".") + (plugin.path.stem == "__init__")]
    return list(_within(root, plugin.module, plugin.path, seen={plugin.path}))


def _beside(path: Path, *, seen: set[Path]) -> Iterator[tuple[str, Path]]:
    names = {
        name.partition(".")[0]
        for name, level in _imported(parse_file(path, "a file that a method imports"))
        if name and not level
    }
    for name in sorted(name for name in names if not _is_found_elsewhere(name, path.parent)):
        for other in (path.parent / f"{name}.py", *sorted((path.parent / name).rglob("*.py"))):
            if other.is_file() and other not in seen:
                seen.add(other)
                yield name, other
                yield from _beside(other, seen=seen)


def _is_found_elsewhere(name: str, folder: Path) -> bool:
    if name == "ctbench":
        return True
    with contextlib.suppress(ImportError, ValueError):
        # importlib.util.find_spec would return the module of that name which the process happens to have imported
        found = (finder.find_spec(name, None) for finder in sys.meta_path)
        if (spec := next(filter(None, found), None)) is None:
            return False
        # a package without __init__.py has folders in place of an origin; that of a built-in module is no path
        places = [spec.origin] if spec.has_location else (spec.submodule_search_locations or ())
        return not any(folder.resolve() in Path(place).resolve().parents for place in places if place)
    return False


def _within(root: Path, module: str, path: Path, *, seen: set[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the modules of a module's package, below the folder `root`, that it imports."""
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    top = module.partition(".")[0]
    for name, level in sorted(_imported(parse_file(path, "a file that a method imports"))):
        parts = package.split(".")[: len(package.split(".")) - level + 1] if level else []
        full = ".".join([*parts, *([name] if name else [])])
        if full.partition(".")[0] != top:
            continue
        below = root.joinpath(*full.split("."))
        for other in (below.with_suffix(".py"), below / "__init__.py"):
            if other.is_file() and other not in seen:
                seen.add(other)
                yield full, other
                yield from _within(root, full, other, seen=seen)


def _imported(tree: ast.AST) -> set[tuple[str, int]]:
    """Return the modules that a file imports and what it imports from them, which may be modules too; dots as a level."""
    found: set[tuple[str, int]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, 0) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            own = node.module or ""
            found |= {(own, node.level)}
            found |= {(f"{own}.{alias.name}" if own else alias.name, node.level) for alias in node.names}
    return found
