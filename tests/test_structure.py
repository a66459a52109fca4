"""The shape of the code: imports point one way, and the engine knows no method and no stream by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ctbench
from ctbench.plugins import find_plugins

ROOT = Path(ctbench.__file__).parent
ROOMS = [
    ["errors", "precision", "plan", "randomness"],
    ["data", "metrics", "resampling"],
    ["backbone", "stage", "method", "plugins", "pretrain", "finetune", "store", "schema", "statistics"],
    ["expand", "compute", "results"],
    ["launch", "assemble", "report", "laws"],
    ["runner", "tuning", "bench"],
    ["api", "new"],
    ["cli"],
]
"""Rooms from the ground up: none imports from a room of a higher floor. Rooms that are not named lie between."""
LAZY = {("schema", "report")}
"""`Result.plot()` calls up for its picture, which is the one import that points upwards."""
PUBLIC = {"domain", "temporal", "prompts", "adapters", "replay", "separate", "joint"}
"""Names that are words of the field too; comparisons with them are looked at, keys and defaults are not."""


def modules(root: Path = ROOT) -> dict[str, ast.Module]:
    return {
        ".".join(path.relative_to(root).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(root.rglob("*.py"))
        if path.parent.name != "templates"
    }


def imports(tree: ast.AST) -> set[str]:
    """Modules of ctbench that a module imports when it runs, inside functions too; not those for types alone."""
    found = set()
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing_only:
            top, _, rest = node.module.partition(".")
            if top == "ctbench":
                found |= {rest} if rest else {alias.name for alias in node.names}
    return found


def room(module: str) -> str:
    return module.split(".")[0]


def edges() -> set[tuple[str, str]]:
    pairs = {(room(name), room(other)) for name, tree in modules().items() for other in imports(tree)}
    return {(one, other) for one, other in pairs if one != other and one not in ("__init__", "__main__")} - LAZY


def in_circle(pairs: set[tuple[str, str]]) -> list[str]:
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for one, other in pairs:
        sorter.add(one, other)
    try:
        sorter.prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_rooms_import_each_other_in_a_circle():
    assert in_circle(edges()) == []
    assert in_circle(edges() | LAZY) != []


def test_imports_point_downwards():
    floor = {name: number for number, names in enumerate(ROOMS) for name in names}
    upwards = {(one, other) for one, other in edges() if one in floor and other in floor and floor[other] > floor[one]}
    assert upwards == set()
    assert floor.keys() <= {room(name) for name in modules()}


def named(tree: ast.AST, names: set[str]) -> Iterator[str]:
    """Comparisons with a name, and names as keys of dictionaries and as defaults."""

    def is_name(node: ast.AST | None, known: set[str]) -> bool:
        return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in known

    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            sides += [item for side in sides if isinstance(side, ast.Tuple | ast.List | ast.Set) for item in side.elts]
            if any(is_name(side, names - {"domain", "temporal"}) for side in sides):
                yield f"line {node.lineno}: compared"
        if isinstance(node, ast.Dict) and any(is_name(key, names - PUBLIC) for key in node.keys):
            yield f"line {node.lineno}: key"
        if isinstance(node, ast.arguments) and any(is_name(item, names - PUBLIC) for item in node.defaults):
            yield "default"
        if isinstance(node, ast.AnnAssign) and is_name(node.value, names - PUBLIC):
            yield f"line {node.lineno}: default"


def test_engine_knows_no_method_and_no_stream_by_name():
    names = {*find_plugins("method"), *find_plugins("stream")}
    guilty = {name: list(named(tree, names)) for name, tree in modules().items()}
    assert {name: lines for name, lines in guilty.items() if lines} == {}


@pytest.mark.parametrize(
    "code",
    [
        "if name == 'replay': pass",
        "x = name in ('ewc', 'das')",
        "t = {'ewc': 1}",
        "def f(m='naive'): pass",
        "m: str = 'das'",
    ],
)
def test_a_name_in_the_engine_is_found(code):
    assert list(named(ast.parse(code), {"replay", "ewc", "das", "naive"}))


def imports_a_method(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            tops = {"." if node.level else str(node.module).split(".")[0]}
        elif isinstance(node, ast.Import):
            tops = {alias.name.split(".")[0] for alias in node.names}
        else:
            continue
        if tops & {".", "methods", "ctbench_methods"}:
            return True
    return False


def test_methods_import_the_engine_and_no_other_method():
    for plugin in find_plugins("method").values():
        assert not imports_a_method(ast.parse(plugin.path.read_text(encoding="utf-8"))), plugin.name


@pytest.mark.parametrize(
    "code", ["from .replay import Replay", "from ctbench_methods.ewc import EWC", "import methods.das"]
)
def test_a_method_that_imports_another_is_found(code):
    assert imports_a_method(ast.parse(code))
    assert not imports_a_method(ast.parse("import torch\nfrom ctbench import Method"))


def test_modules_stay_small():
    long = {str(path.relative_to(ROOT)): lines for path in ROOT.rglob("*.py") if (lines := count(path)) > 320}
    assert long == {}


def count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())
