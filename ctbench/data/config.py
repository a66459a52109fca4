"""Reading TOML with precise errors: file, line, key, the value found, the values allowed.

`read_toml` parses a file and `validate` turns it into dataclasses; the mistakes of one file are reported together, in
one line. What `--set` overrides is read in `ctbench.data.override`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from ctbench.errors import BadConfig, first_line

T = TypeVar("T")
Key = tuple[str | int, ...]
Tree = dict[str, Any]

TABLES: Final = ("pretrain", "finetune", "base", "language")
"""Tables of a stream's TOML whose keys `--set` overrides."""
_MAX_SHOWN = 4
_UNKNOWN = ("unexpected_keyword_argument",)  # a misspelt key explains a missing one: it comes first
_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_ASSIGN = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")


class MissingKey(ValueError):
    """A key that other keys of its table ask for is missing.

    Args:
        name: the key.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"missing key '{name}'")
        self.name = name


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The file, lines and options that the values of a tree come from, for messages.

    Attributes:
        file: the file as the user knows it.
        lines: first line of each key.
        settings: keys that `--set` overrides, with the text of their value.
        prefix: table whose keys override the others (a chosen recipe); its lines are looked up first.
    """

    file: str
    lines: Mapping[Key, int]
    settings: Mapping[Key, str] = dataclasses.field(default_factory=dict)
    prefix: Key = ()

    def place(self, key: Key) -> str:
        """Return the place where `key` was set: the option `--set`, or file and line of the nearest table in the file."""
        for depth in range(len(key), 0, -1):
            if key[:depth] in self.settings:
                return f"--set {show_setting(key[:depth])}={self.settings[key[:depth]]}"
        for depth in range(len(key), 0, -1):
            line = self.lines.get(self.prefix + key[:depth]) if self.prefix else None
            line = line or self.lines.get(key[:depth])
            if line:
                return f"{self.file}:{line}"
        return self.file

    def place_of_table(self, key: Key, message: str) -> str:
        """Return the place of a table that is wrong as a whole: the options `--set` that the message names, if any."""
        words = set(re.findall(r"\w+", message))
        named = [own for own in self.settings if own[: len(key)] == key and own != key and str(own[-1]) in words]
        return " and ".join(map(self.place, named)) or self.place(key)


def show_key(key: Key) -> str:
    """Write a key for a message: domains[0].task.metric."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.lstrip(".")


def show_setting(key: Key) -> str:
    """Write a key as `--set` takes it; top-level keys belong to `stream`."""
    return show_key(key if len(key) > 1 and key[0] in TABLES else ("stream", *key))


def read_toml(path: Path, *, shown: str) -> tuple[Tree, Origin]:
    """Parse a TOML file.

    Args:
        path: the file.
        shown: its name in messages.

    Raises:
        BadConfig: the file is missing, not UTF-8 or not TOML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadConfig(f"{shown}: not UTF-8 (byte {error.start}); save the file as UTF-8") from None
    except OSError as error:
        raise BadConfig(f"{shown}: cannot be read: {error.strerror or error}") from None
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"^(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error), re.S)
        line = found[2] if found and found[2] else str(len(text.splitlines()))
        reason = (found[1] if found else str(error)).replace("\n", " ")
        raise BadConfig(f"{shown}:{line}: broken TOML syntax: {reason}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, and deep nesting
        raise BadConfig(f"{shown}: cannot be read as TOML: {_reason(error)}") from None
    return tree, Origin(file=shown, lines=dict(_scan_lines(text)))


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else first_line(error).partition(";")[0]


def _scan_lines(text: str) -> Iterator[tuple[Key, int]]:
    """Yield (key, line) of tables and assignments of valid TOML; keys inside inline tables have no line of their own."""
    table: Key = ()
    counts: dict[Key, int] = {}
    seen: set[Key] = set()
    closing, depth = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if closing or depth:
            closing, depth = _skip(line, closing, depth)
            continue
        header, assign = _HEADER.match(line), _ASSIGN.match(line)
        if header:
            table = _table_key(_parts(header[2]), counts, is_array=header[1] == "[[")
            key = table
        elif assign:
            key = table + tuple(_parts(assign[1]))
            closing, depth = _skip(line[assign.end() :], "", 0)
        else:
            continue
        if key not in seen:
            seen.add(key)
            yield key, number


def _parts(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in re.findall(r"""[^."'\s]+|"[^"]*"|'[^']*'""", dotted)]


def _table_key(parts: Sequence[str], counts: dict[Key, int], *, is_array: bool) -> Key:
    """Resolve a header to the element of the arrays of tables that it lies in."""
    key: Key = ()
    for index, part in enumerate(parts):
        key = (*key, part)
        if is_array and index == len(parts) - 1:
            counts[key] = counts.get(key, -1) + 1
        if key in counts:
            key = (*key, counts[key])
    return key


def _skip(line: str, closing: str, depth: int) -> tuple[str, int]:
    """Follow multi-line strings and arrays over one line: (delimiter still open, brackets still open)."""
    index = 0
    while index < len(line):
        rest = line[index:]
        if closing:
            if rest.startswith(closing):
                index, closing = index + len(closing), ""
            else:
                index += 2 if rest[0] == "\\" and closing[0] == '"' else 1
            continue
        if rest[0] == "#":
            break
        opening = next((mark for mark in ('"""', "'''", '"', "'") if rest.startswith(mark)), "")
        closing = opening
        depth += (rest[0] in "[{") - (rest[0] in "]}")
        index += len(opening) or 1
    return (closing if len(closing) == 3 else ""), depth


def validate(cls: type[T], tree: Mapping[str, Any], origin: Origin) -> T:
    """Turn a tree into `cls`, a dataclass.

    Raises:
        BadConfig: with every mistake (the first four in words), in one line.
    """
    try:
        found: T = _adapter(cls).validate_python(dict(tree))  # type: ignore[arg-type]  # types can be hashed
        return found
    except ValidationError as error:
        details = sorted(error.errors(include_url=False), key=lambda detail: detail["type"] not in _UNKNOWN)
        problems = [_describe(cls, detail, origin) for detail in details]
    more = f"; and {len(problems) - _MAX_SHOWN} more" if len(problems) > _MAX_SHOWN else ""
    raise BadConfig("; ".join(problems[:_MAX_SHOWN]) + more)


@functools.cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    """Return the validator of a class, which takes far longer to make than to use."""
    return TypeAdapter(cls)


def suggest(name: str, known: Sequence[str]) -> str:
    """Return the known key that is nearest to a misspelt one, and all known keys."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    guess = f"did you mean '{near[0]}'? " if near else ""
    return f"{guess}known: {', '.join(known)}"


def _describe(cls: type, detail: Any, origin: Origin) -> str:
    key, tables = resolve(cls, detail["loc"])
    kind, found, context = detail["type"], detail.get("input"), detail.get("ctx", {})
    where = f"{origin.place(key)}: {show_key(key)}" if key else origin.place(key)
    match kind:
        case "unexpected_keyword_argument":
            known = [field.name for field in dataclasses.fields(tables[-1])]
            table = show_key(key[:-1]) or "the top level"
            return f"{origin.place(key)}: unknown key '{key[-1]}' in {table}; {suggest(str(key[-1]), known)}"
        case "missing":
            return f"{origin.place(key)}: missing key '{show_key(key)}'"
        case "union_tag_not_found":
            return f"{where}: missing key 'source'; allowed: {_tags(tables[-1], key[-1])}"
        case "union_tag_invalid":
            return f"{where}.source: unknown source '{context['tag']}'; allowed: {context['expected_tags']}"
        case "literal_error":
            return f"{where}: must be one of {context['expected']}, found {_show(found)}"
        case "dataclass_type":
            return f"{where}: must be a table, found {_show(found)}"
        case "value_error" if isinstance(context["error"], MissingKey):
            return f"{origin.place(key)}: missing key '{show_key((*key, context['error'].name))}'"
        case "value_error":
            said = str(context["error"])
            return f"{origin.place_of_table(key, said)}{f': {show_key(key)}' if key else ''}: {said}"
        case "string_pattern_mismatch":
            return f"{where}: letters, digits, dot, dash and underscore only, found {_show(found)}"
    return f"{where}: {_rule(detail['msg'])}, found {_show(found)}"


def _rule(message: str) -> str:
    rule = message.removeprefix("Input ").replace("should", "must", 1)
    rule = (
        rule.replace("valid tuple", "list")
        .replace("valid dictionary", "table")
        .replace("valid integer", "whole number")
    )
    rule = rule.replace("be a valid boolean", "be true or false").replace("valid ", "")
    rule = re.sub(r"value must have at least (.*) after validation, not .*", r"must have at least \1", rule, flags=re.I)
    return rule[:1].lower() + rule[1:]


def _show(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def resolve(cls: type, loc: Sequence[str | int]) -> tuple[Key, list[type]]:
    """Walk from `cls` along pydantic's location; return the TOML key (union tags dropped) and the dataclasses passed."""
    key: list[str | int] = []
    tables: list[type] = [cls]
    choices: dict[str, type] = {}
    for part in loc:
        if choices and part in choices:
            tables.append(choices[str(part)])
            choices = {}
            continue
        key.append(part)
        if isinstance(part, int):
            continue
        hints = typing.get_type_hints(tables[-1], include_extras=False)
        found = dataclasses_in(hints.get(part))
        choices = {tag: table for table in found for tag in _tag(table)} if len(found) > 1 else {}
        if len(found) == 1:
            tables.append(found[0])
    return tuple(key), tables


def dataclasses_in(hint: Any) -> list[type]:
    """Return the dataclasses that an annotation is made of."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return [hint]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is not None:
        return [table for argument in typing.get_args(hint) for table in dataclasses_in(argument)]
    return []


def _tag(table: type) -> tuple[str, ...]:
    return typing.get_args(typing.get_type_hints(table).get("source"))


def _tags(table: type, part: str | int) -> str:
    found = dataclasses_in(typing.get_type_hints(table).get(str(part)))
    return ", ".join(f"'{tag}'" for choice in found for tag in _tag(choice))
