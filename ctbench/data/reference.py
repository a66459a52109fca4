"""The reference table of a stream's keys, made from the dataclasses that read them."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from ctbench.data.config import dataclasses_in
from ctbench.data.streamfile import StreamFile

Row = tuple[str, str, str, str]
SOURCE_HELP = "Where it comes from: files of one's own, a data set of the hub, or the stream's `[language]`."


def describe_keys() -> list[Row]:
    """Return (key, type, default, help) of every key of a stream's TOML, in order, for the README's table."""
    return list(_describe(StreamFile, "", {}))


def _describe(table: type, prefix: str, places: dict[tuple[type, ...], str]) -> Iterator[Row]:
    """Walk a table; keys of a kind that was described before (`places`) are not described again."""
    docs, hints = field_docs(table), typing.get_type_hints(table, include_extras=True)
    for field in dataclasses.fields(table):
        if field.name not in docs:
            continue  # of a parent
        inner = tuple(dataclasses_in(hints[field.name]))
        name, help_text = prefix + field.name, docs[field.name]
        if not inner:
            yield name, _type(hints[field.name]), _default(field), help_text
            continue
        if inner in places:
            yield name, "table", _default(field), f"{help_text} Keys as of `{places[inner]}`."
            continue
        places[inner] = name
        parent = places.get(inner[0].__bases__) if len(inner) == 1 else None
        help_text += f" Keys as of `{parent}`, and:" if parent else ""
        yield name, "tables" if field.name in ("domains", "recipes") else "table", _default(field), help_text
        if len(inner) > 1:
            kinds = " or ".join(f'"{_source(choice)}"' for choice in inner)
            yield f"{name}.source", kinds, "required", f"{SOURCE_HELP} Keys of one kind alone say which."
        for choice in inner:
            tag = f" (source = {_source(choice)})" if len(inner) > 1 else ""
            inside = f"{name}.NAME." if field.name == "recipes" else f"{name}."
            for key, kind, default, text in _describe(choice, inside, places):
                if not (tag and key.endswith(".source")):
                    yield key, kind, default, text + tag


def field_docs(table: type) -> dict[str, str]:
    """Return the docstring under each field that a class itself declares."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(table))).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            docs[field.target.id] = str(ast.literal_eval(below.value))
    return docs


def _source(table: type) -> str:
    return str(typing.get_args(typing.get_type_hints(table)["source"])[0])


def _type(hint: Any) -> str:
    """Name a type as TOML does, with its range."""
    if typing.get_origin(hint) is typing.Annotated:
        ranges = [text for extra in hint.__metadata__ for text in _range(extra)]
        return _type(hint.__origin__) + (f" {', '.join(ranges)}" if ranges else "")
    arguments = [argument for argument in typing.get_args(hint) if argument not in (type(None), ...)]
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(f'"{value}"' for value in arguments)
    if typing.get_origin(hint) is tuple:
        return f"list of {_type(arguments[0])}"
    if len(arguments) == 1:
        return _type(arguments[0])
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(hint, "table")


def _range(extra: Any) -> Iterator[str]:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    for rule in extra.metadata if type(extra).__name__ == "FieldInfo" else ():
        for name, sign in signs.items():
            if name in getattr(rule, "__slots__", ()) or name in getattr(rule, "__dict__", {}):
                yield f"{sign} {getattr(rule, name)}"


def _default(field: Any) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return ""
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None or field.default == () or dataclasses.is_dataclass(field.default):
        return ""
    if isinstance(field.default, tuple):
        return str(list(field.default))
    return f'"{field.default}"' if isinstance(field.default, str) else str(field.default)
