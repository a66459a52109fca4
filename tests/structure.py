"""The rooms of ctbench and the arrows between them: `python tests/structure.py` prints the map, tests hold it.

A room is an entry at the top level of `ctbench/`: a module that an author of a method imports, or a sub-package. An
arrow is an import from one room to another, those inside functions included and those for type checkers alone left
out. The floor of a room is the longest chain of arrows below it.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent / "ctbench"
FRONT = ("__init__", "__main__")
"""Modules that are no room: the first imports lazily what authors need, the second calls the command line."""


ORDER = [
    ["errors", "randomness"],
    ["machine", "kernels", "memory", "plans", "results", "data"],
    ["backbone", "reporting"],
    ["contexts", "hypernetwork", "linear", "masking", "method", "mixer", "units"],
    ["stage", "plugins"],
    ["training"],
    ["engine"],
    ["laws", "tuning", "speed", "exporting"],
    ["verification"],
    ["api"],
    ["cli"],
]
"""The rooms from the ground up: none imports from a later line. Every entry at the top level of ctbench is on the list."""


@functools.cache
def modules(root: Path = ROOT) -> dict[str, ast.Module]:
    """Return the syntax tree of every module by its dotted name below ctbench."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(root.rglob("*.py"))
        if path.parent.name != "templates"
    }


def imports(tree: ast.AST) -> set[str]:
    """Return what a module imports from ctbench when it runs, inside functions too, not for type checkers alone."""
    found = set()
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            top, _, rest = node.module.partition(".")
            if top == "ctbench":
                found |= {f"{rest}.{alias.name}".strip(".") for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("ctbench.") for alias in node.names if alias.name.startswith("ctbench.")}
    return found


def room(module: str) -> str:
    """Return the room of a module."""
    return module.split(".")[0]


def arrows(trees: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """Return the arrows (importing room, imported room)."""
    rooms = {room(name) for name in trees}
    pairs = {(room(name), room(other)) for name, tree in trees.items() for other in imports(tree)}
    return {(one, other) for one, other in pairs if one != other and one not in FRONT and other in rooms}


def circle(pairs: set[tuple[str, str]]) -> list[str]:
    """Return the rooms of a circle of arrows; empty if there is none."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for one, other in pairs:
        sorter.add(one, other)
    try:
        sorter.prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def floors(pairs: set[tuple[str, str]], rooms: set[str]) -> dict[str, int]:
    """Return the floor of each room, from 1; the arrows must not form a circle."""
    below = defaultdict(set)
    for one, other in pairs:
        below[one].add(other)
    found: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in found:
            found[name] = 1 + max((floor(other) for other in below[name]), default=0)
        return found[name]

    for name in rooms:
        floor(name)
    return found


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method, those inside others included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def num_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function, without decorators and docstring."""
    first, last = function.body[0], function.end_lineno or function.lineno
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0
    return last - function.lineno + 1 - docstring


def num_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of parameters of a function, without self and cls, with *args and **kwargs."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [each.arg for each in (given.vararg, given.kwarg) if each is not None]
    return len([name for name in names if name not in ("self", "cls")])


def lines(path: Path) -> int:
    """Return the number of lines of a file, or of all files below a folder."""
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def main() -> None:
    """Print the map."""
    trees = modules()
    pairs = arrows(trees)
    rooms = {room(name) for name in trees} - set(FRONT)
    found = circle(pairs)
    if found:
        sys.stdout.write(f"circle: {' -> '.join(found)}\n")
        for one, other in pairwise(found):
            for name, tree in trees.items():
                for target in imports(tree):
                    if {room(name), room(target)} == {one, other}:
                        sys.stdout.write(f"  {name} -> {target}\n")
        raise SystemExit(1)
    height = floors(pairs, rooms)
    for name in sorted(rooms, key=lambda name: (-height[name], name)):
        path = ROOT / name if (ROOT / name).is_dir() else ROOT / f"{name}.py"
        size = len(list(path.rglob("*.py"))) if path.is_dir() else 1
        uses = ", ".join(sorted(other for one, other in pairs if one == name)) or "nothing"
        sys.stdout.write(f"floor {height[name]:2}  {name:10} {size:2} modules {lines(path):5} lines  uses {uses}\n")
    sys.stdout.write(f"{len(rooms)} rooms, {max(height.values())} floors, {len(pairs)} arrows, 0 circles\n")


if __name__ == "__main__":
    main()
