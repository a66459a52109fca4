"""What the source of a method says of it, read from its syntax tree: nothing is imported."""

from __future__ import annotations

import ast
import copy
import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ctbench.errors import BadPlugin
from ctbench.plugins.neighbours import neighbours
from ctbench.plugins.parsing import parse_file, parse_source

if TYPE_CHECKING:
    from ctbench.plugins.plugin import Plugin

EXPORT_HOOK = "bake"
"""The hook of a method that only `ctbench export` calls."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A hyper-parameter as the source of a method declares it."""

    name: str
    default: str
    help: str


@dataclass(frozen=True, kw_only=True)
class Description:
    """What the source of a method says of itself, read without importing it."""

    name: str
    summary: str
    docstring: str
    paper: str
    traits: Mapping[str, bool]
    fields: tuple[Field, ...]
    registered: bool


def describe_method(plugin: Plugin) -> Description:
    """Read a method's docstring, paper, traits and hyper-parameters from its syntax tree.

    Raises:
        BadPlugin: the file cannot be parsed, or holds no single public class that derives from Method.
    """
    tree = parse_method(plugin)
    body = method_class(plugin, tree).body
    docstring = ast.get_docstring(tree) or ""
    fields = tuple(
        Field(name=node.target.id, default=_default(node.value), help=_following_docstring(body, index))
        for index, node in enumerate(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.value is not None
        and "ClassVar" not in ast.unparse(node.annotation)
    )
    constants = {
        target.id: node.value
        for node in body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    paper, traits = constants.get("paper"), constants.get("traits")
    return Description(
        name=plugin.name,
        summary=docstring.partition("\n")[0].rstrip("."),
        docstring=docstring,
        paper=str(paper.value) if isinstance(paper, ast.Constant) else "",
        traits={
            keyword.arg: bool(keyword.value.value)
            for keyword in (traits.keywords if isinstance(traits, ast.Call) else [])
            if keyword.arg and isinstance(keyword.value, ast.Constant)
        },
        fields=fields,
        registered=plugin.registered,
    )


def parse_method(plugin: Plugin) -> ast.Module:
    """Return the syntax tree of a method's file; an unchanged file is parsed once. Do not modify the tree.

    Raises:
        BadPlugin: it cannot be parsed.
    """
    return parse_file(plugin.path, f"method '{plugin.name}'")


def method_class(plugin: Plugin, tree: ast.Module) -> ast.ClassDef:
    """Return the one public class of a method's file that derives from Method.

    Raises:
        BadPlugin: there is none, or more than one.
    """
    classes = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and _derives_from_method(node)
    ]
    if len(classes) != 1:
        raise BadPlugin(
            f"method '{plugin.name}' ({plugin.path.name}) has {len(classes)} public classes derived from ctbench.Method; "
            "exactly one is wanted"
        )
    return classes[0]


def _derives_from_method(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).split(".")[-1] == "Method" for base in node.bases)


def _default(value: ast.expr) -> str:
    if isinstance(value, ast.Call) and value.args:
        value = value.args[0]
    return ast.unparse(value)


def _following_docstring(body: list[ast.stmt], index: int) -> str:
    after = body[index + 1] if index + 1 < len(body) else None
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
        return " ".join(after.value.value.split())
    return ""


def source_digest(plugin: Plugin) -> str:
    """Return the SHA-256 of a method's syntax tree: what decides whether its nodes are stale.

    Docstrings do not enter it, nor the ranges to tune over (`tune=` of a declared field) and the hook `bake`, which no
    number depends on, nor imports of ctbench itself, so that a name may move within ctbench; a name imported under
    another one (`import A as B`) does. The sources of files of its own that it imports do too, see `neighbours`. It is the
    same under every version of Python.

    Raises:
        BadPlugin: the file, or one of its own that it imports, cannot be parsed.
    """
    parse_method(plugin)  # raises BadPlugin for a file that cannot be parsed
    own = file_digest(plugin.path)
    beside = sorted(f"{name} {path.name} {file_digest(path)}" for name, path in neighbours(plugin))
    return hashlib.sha256("".join([own, *beside]).encode()).hexdigest() if beside else own


def file_digest(path: Path) -> str:
    """Return what a file adds to `source_digest`: the SHA-256 of its syntax tree, without what no number depends on.

    Raises:
        BadPlugin: it cannot be parsed.
    """
    parse_file(path, "a file that a method imports")
    return _digest(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=64)
def _digest(source: str) -> str:
    tree = _Digested().visit(copy.deepcopy(parse_source(source)))
    return hashlib.sha256(_dump(tree).encode()).hexdigest()


class _Digested(ast.NodeTransformer):
    """Removes from a syntax tree what no number depends on."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not getattr(node, "type_params", True):
            del node.type_params  # type: ignore[attr-defined]  # Python 3.12 added the field, empty as a rule
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [
                statement
                for statement in node.body
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            ]
        return super().generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:  # ast's own naming
        if isinstance(node.value, ast.Call):
            node.value.keywords = [keyword for keyword in node.value.keywords if keyword.arg != "tune"]
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:  # ast's own naming
        return node if node.level else _without_own(node, lambda alias: node.module or "")

    def visit_Import(self, node: ast.Import) -> ast.AST | None:  # ast's own naming
        return _without_own(node, lambda alias: alias.name)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:  # ast's own naming
        if _derives_from_method(node):
            node.body = [
                each for each in node.body if not (isinstance(each, ast.FunctionDef) and each.name == EXPORT_HOOK)
            ]
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:  # ast's own naming
        self.generic_visit(node)
        return node if node.body or node.orelse else None


def _without_own(node: ast.ImportFrom | ast.Import, module: Callable[[ast.alias], str]) -> ast.AST | None:
    """Return an import without the names of ctbench that keep their name; None if nothing is left."""
    own = [alias for alias in node.names if module(alias).split(".")[0] == "ctbench"]
    node.names = [alias for alias in node.names if alias not in own or alias.asname not in (None, alias.name)]
    if own and isinstance(node, ast.ImportFrom):
        node.module = "ctbench"
    return node if node.names else None


def _dump(tree: ast.AST) -> str:
    if sys.version_info >= (3, 13):
        return ast.dump(tree, show_empty=True)  # as it was before
    return ast.dump(tree)
