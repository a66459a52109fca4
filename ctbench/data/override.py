"""What `--set KEY=VALUE` accepts: its tables, and the one parser of its values.

A value is read as TOML if it is TOML, and as plain text otherwise. Keys that begin with `method.` are hyper-parameters,
which `ctbench.method.configure` checks; the others override keys of the stream's TOML and are checked with it.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ctbench.data.config import TABLES, suggest
from ctbench.errors import BadConfig, first_line

METHOD: Final = "method"
STREAM: Final = "stream"
ACCEPTED: Final = (METHOD, *TABLES, STREAM)
"""The tables that a key of `--set` may begin with."""


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Settings to override, by key.

    Attributes:
        protocol: keys of the stream ("pretrain.tokens"), with the text that `parse_setting` reads.
        method: hyper-parameters by name, with their values.
    """

    protocol: Mapping[str, str] = field(default_factory=dict)
    method: Mapping[str, Any] = field(default_factory=dict)


def read_overrides(given: Mapping[str, Any] | Iterable[str]) -> Overrides:
    """Read the settings to override: a mapping from keys to values, or texts KEY=VALUE as the command line has them.

    Raises:
        BadConfig: a text without "=", a key twice or without a table, a table that does not exist, or a value of another kind.

    Examples:
        >>> read_overrides(["pretrain.tokens=1e6", "method.deep=false"])
        Overrides(protocol={'pretrain.tokens': '1000000.0'}, method={'deep': False})
    """
    protocol: dict[str, str] = {}
    method: dict[str, Any] = {}
    for key, raw in pairs(given):
        table, dot, name = key.partition(".")
        if not dot or not name:
            raise BadConfig(f"--set {key}: expected a table before the key, such as pretrain.lr; {_tables(table)}")
        if table not in ACCEPTED:
            raise BadConfig(f"--set {key}: no table '{table}'; {_tables(table)}")
        value = read_setting(key, raw)
        if table == METHOD:
            method[name] = value
        else:
            protocol[key] = write_setting(value)
    return Overrides(protocol=protocol, method=method)


def pairs(given: Mapping[str, Any] | Iterable[str]) -> list[tuple[str, Any]]:
    """Return keys and values as they were given: of a mapping, or of texts KEY=VALUE.

    Raises:
        BadConfig: neither of them, a text without "=", or a key twice.
    """
    if isinstance(given, str) or not isinstance(given, Mapping | Iterable):
        raise BadConfig(f"set is {given!r}; expected settings by key, such as {{'pretrain.tokens': 1e6}}")
    if isinstance(given, Mapping):
        return [(str(key), value) for key, value in given.items()]
    found = [_split(text) for text in given]
    keys = [key for key, _ in found]
    for key in keys:
        if keys.count(key) > 1:
            values = ", ".join(value for other, value in found if other == key)
            raise BadConfig(f"--set {key} was given {keys.count(key)} times ({values}); give it once")
    return found


def read_setting(key: str, raw: Any) -> Any:
    """Return the value of a setting as plain data; a text is read as `parse_setting` does.

    Raises:
        BadConfig: a value that is no number, true or false, text or list of them.
    """
    return parse_setting(raw) if isinstance(raw, str) else _plain(key, raw)


def parse_setting(text: str) -> object:
    """Return the value of a text: a TOML value if it is one, else the text itself."""
    try:
        tree = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or deep nesting
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else first_line(error).partition(";")[0]
        raise BadConfig(f"--set: a value cannot be read: {reason}") from None
    return tree["value"] if tree.keys() == {"value"} else text


def write_setting(value: object) -> str:
    """Return a text that `parse_setting` reads as `value`.

    Examples:
        >>> [write_setting(value) for value in (True, 5e-4, [0, 1], "fp32", "1")]
        ['true', '0.0005', '[0, 1]', 'fp32', '"1"']
    """
    if isinstance(value, str):
        return value if parse_setting(value) == value else json.dumps(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, default=str)


def _split(text: object) -> tuple[str, str]:
    key, equals, value = str(text).partition("=")
    if not equals:
        raise BadConfig(f"--set '{text}': expected KEY=VALUE, such as pretrain.lr=1e-3")
    return key.strip(), value


def _tables(name: str) -> str:
    known = [f"{table}.KEY" for table in ACCEPTED]
    return suggest(f"{name}.KEY", known)


def _plain(key: str, value: Any) -> Any:
    """Return a number, a text or a list of them, without the types of numpy."""
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(key, each) for each in value]
    if not isinstance(value, str | int | float):
        raise BadConfig(f"--set {key} is {value!r}; expected a number, true or false, a text or a list")
    return value
