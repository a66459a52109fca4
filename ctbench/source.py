"""What the source of a method says of it, read from its syntax tree: nothing is imported."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctbench.errors import BadPlugin

if TYPE_CHECKING:
    from ctbench.plugins import Plugin


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
    """Return the syntax tree of a method's file.

    Raises:
        BadPlugin: it cannot be parsed.
    """
    try:
        return ast.parse(plugin.path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        said = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else "not UTF-8"
        raise BadPlugin(f"method '{plugin.name}' cannot be read ({plugin.path.name}, {said})") from error


def method_class(plugin: Plugin, tree: ast.Module) -> ast.ClassDef:
    """Return the one public class of a method's file that derives from Method.

    Raises:
        BadPlugin: there is none, or more than one.
    """
    classes = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any(ast.unparse(base).split(".")[-1] == "Method" for base in node.bases)
    ]
    if len(classes) != 1:
        raise BadPlugin(
            f"method '{plugin.name}' ({plugin.path.name}) has {len(classes)} public classes derived from ctbench.Method; "
            "exactly one is wanted"
        )
    return classes[0]


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

    Docstrings do not enter it, nor do the ranges to tune over (`tune=` of a declared field), which no number depends on.
    It is the same under every version of Python.
    """
    tree = parse_method(plugin)
    for node in ast.walk(tree):
        if not getattr(node, "type_params", True):
            del node.type_params  # type: ignore[attr-defined]  # Python 3.12 added the field, empty as a rule
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [
                statement
                for statement in node.body
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            ]
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call):
            node.value.keywords = [keyword for keyword in node.value.keywords if keyword.arg != "tune"]
    return hashlib.sha256(_dump(tree).encode()).hexdigest()


def _dump(tree: ast.AST) -> str:
    if sys.version_info >= (3, 13):
        return ast.dump(tree, show_empty=True)  # as it was before
    return ast.dump(tree)
