"""The shape of the code: imports point one way, and the engine knows no method and no stream by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import structure
from structure import ORDER, modules

import ctbench
from ctbench.plugins.find import find_plugins

ROOT = Path(ctbench.__file__).parent
PUBLIC = {"domain", "temporal", "prompts", "adapters", "replay", "separate", "joint"}
"""Names that are words of the field too; comparisons with them are looked at, keys and defaults are not."""

MAX_MODULE, MAX_LINES, MAX_PARAMETERS = 300, 40, 6
"""Lines of a module, lines of a function without its docstring, parameters of a function."""
API = ("engine.run.run", "tuning.search.tune")
"""Functions of the Python API outside the room api; those, public functions of the room, and commands may be larger."""
DICTATED = ("kernels.attention.plain_attention", "kernels.attention.forward")
"""Functions whose parameters transformers and torch.autograd dictate."""


def upwards(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    line = {name: number for number, names in enumerate(ORDER) for name in names}
    return {(one, other) for one, other in pairs if line[other] > line[one]}


def test_rooms_do_not_import_each_other_in_a_circle():
    pairs = structure.arrows(modules())
    assert structure.circle(pairs) == []
    assert structure.circle(pairs | {("results", "reporting")}) != []


def test_imports_follow_the_order_of_the_rooms():
    pairs = structure.arrows(modules())
    assert upwards(pairs) == set()
    assert upwards(pairs | {("errors", "engine")}) == {("errors", "engine")}


def test_the_top_level_holds_the_listed_rooms_and_no_other_module():
    listed = {name for names in ORDER for name in names}
    assert {structure.room(name) for name in modules()} - set(structure.FRONT) == listed


def test_an_import_inside_a_function_is_an_arrow_and_one_for_types_is_not():
    tree = ast.parse("def f():\n    from ctbench.engine import run\n")
    assert structure.imports(tree) == {"engine.run"}
    tree = ast.parse("if TYPE_CHECKING:\n    from ctbench.engine import run\n")
    assert structure.imports(tree) == set()


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


AUTHORS = {
    "contexts",
    "errors",
    "hypernetwork",
    "linear",
    "masking",
    "memory",
    "method",
    "mixer",
    "plans",
    "randomness",
    "stage",
    "units",
}


def foreign(tree: ast.AST) -> set[str]:
    """Imports of ctbench that are neither names of its front nor modules of the author's room."""
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    inner = {module.partition(".")[2] for module in found if module.startswith("ctbench.")}
    return inner - AUTHORS


def test_methods_import_from_the_front_and_the_rooms_of_authors():
    for plugin in find_plugins("method").values():
        assert foreign(ast.parse(plugin.path.read_text(encoding="utf-8"))) == set(), plugin.name
    assert foreign(ast.parse("from ctbench.engine.store import Store")) == {"engine.store"}


@pytest.mark.parametrize(
    "code", ["from .replay import Replay", "from ctbench_methods.ewc import EWC", "import methods.das"]
)
def test_a_method_that_imports_another_is_found(code):
    assert imports_a_method(ast.parse(code))
    assert not imports_a_method(ast.parse("import torch\nfrom ctbench import Method"))


def left_over(tree: ast.Module) -> set[str]:
    """Private functions, classes and constants of a module that nothing in it names; decorators name what they mark."""
    defined = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.decorator_list:
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {target.id for target in targets if isinstance(target, ast.Name)}
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return {name for name in defined if name.startswith("_") and not name.endswith("__")} - named


def test_no_private_name_is_left_over():
    found = {f"{module}.{name}" for module, tree in modules().items() for name in left_over(tree)}
    assert found == set()


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("def _a(): pass\n_B = 1\nclass _C: pass\n__all__ = []", {"_a", "_B", "_C"}),
        ("def _a(): pass\n_B: int = _a()\nclass _C: x = _B\n@mark\ndef _d(x: _C): pass", set()),
    ],
)
def test_what_is_left_over_is_found(code, names):
    assert left_over(ast.parse(code)) == names


def too_large(trees: dict[str, ast.Module]) -> set[str]:
    """Modules and functions above a limit, except functions of the API and commands."""
    found = set()
    for name, tree in trees.items():
        found |= {name} if num_lines(tree) > MAX_MODULE else set()
        for function in structure.functions(tree):
            full = f"{name}.{function.name}"
            is_api = structure.room(name) == "api" and not function.name.startswith("_")
            is_excepted = (
                full in (*API, *DICTATED) or is_api or (structure.room(name) == "cli" and function.name == "command")
            )
            is_large = structure.num_lines(function) > MAX_LINES or structure.num_parameters(function) > MAX_PARAMETERS
            found |= {full} if is_large and not is_excepted else set()
    return found


def num_lines(tree: ast.Module) -> int:
    return max((getattr(node, "end_lineno", None) or 0 for node in ast.walk(tree)), default=0)


def test_modules_and_functions_stay_small():
    assert too_large(modules()) == set()


def test_listed_exceptions_exist_and_are_large():
    names = {f"{name}.{function.name}" for name, tree in modules().items() for function in structure.functions(tree)}
    assert names >= {*API, *DICTATED}


@pytest.mark.parametrize(
    ("code", "is_large"),
    [
        ("def f():\n" + "    x = 1\n" * 39, False),
        ("def f():\n" + "    x = 1\n" * 40, True),
        ('def f():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * 39, False),
        ("class A:\n    def f(self):\n" + "        x = 1\n" * 40, True),
        ("def f(a, b, c, *, d, e, f): pass", False),
        ("def f(a, b, c, *, d, e, f, g): pass", True),
        ("def f(a, b, c, d, *e, f, **g): pass", True),
        ("class A:\n    def f(self, a, b, c, d, e, f): pass", False),
        ("x = 1\n" * 300, False),
        ("x = 1\n" * 301, True),
    ],
)
def test_large_modules_and_functions_are_found(code, is_large):
    assert bool(too_large({"room.module": ast.parse(code)})) is is_large
