"""Settings of several runs: which methods a key of `--set` is for, and every combination of the values that are tried."""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from ctbench.data.config import TABLES, suggest
from ctbench.data.override import METHOD, STREAM, pairs, read_setting, write_setting
from ctbench.data.streamfile import takes_list
from ctbench.errors import BadConfig, UnknownName
from ctbench.machine.files import read_path
from ctbench.plugins.find import find_plugin
from ctbench.plugins.source import describe_method

Values = Mapping[str, tuple[Any, ...]]
"""The values to try, by key."""
NAME = "name"
"""Key of a method's table in a study that is not a hyper-parameter."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A method of a study.

    Args:
        place: name of the method, or path of its file.
        settings: hyper-parameters by name; a list means several values, each of which is tried.
    """

    place: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        """Public name of the method."""
        return find_plugin("method", self.place).name

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Names of its hyper-parameters, read from its source."""
        return tuple(each.name for each in describe_method(find_plugin("method", self.place)).fields)

    def require(self, key: str, *, asked: str) -> None:
        """Refuse a hyper-parameter that the method does not have.

        Raises:
            UnknownName: it does not; `asked` says where it was asked for.
        """
        if key not in self.fields:
            raise UnknownName(f"setting of method {self.name}", key, self.fields, hint=asked)


def read_choice(given: object) -> Choice:
    """Read a method: a name, a path, or a table with its `name` and hyper-parameters.

    Raises:
        BadConfig: anything else, or a table without a name.

    Examples:
        >>> read_choice({"name": "replay", "replay_fraction": [0.1, 0.5]}).settings
        {'replay_fraction': [0.1, 0.5]}
    """
    if isinstance(given, Choice):
        return given
    if isinstance(given, str | Path):
        return Choice(place=str(given))
    if not isinstance(given, Mapping):
        raise BadConfig(
            f'{given!r} is no method; expected a name, a path, or a table such as {{ name = "NAME", KEY = 1 }}'
        )
    if not isinstance(given.get(NAME), str | Path):
        raise BadConfig(f'a method is given as {dict(given)!r} without its name; expected {{ name = "NAME", KEY = 1 }}')
    return Choice(place=str(given[NAME]), settings={str(key): value for key, value in given.items() if key != NAME})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a study overrides.

    Args:
        protocol: values of the stream's keys ("pretrain.tokens"), as texts.
        methods: values of each method's hyper-parameters, in the order of the methods.
    """

    protocol: Values
    methods: tuple[Values, ...]

    @property
    def num_points(self) -> int:
        """Number of combinations, over all methods."""
        return _num_points(self.protocol) * sum(map(_num_points, self.methods))


def read_several(given: object, name: str) -> list[Any]:
    """Return several names: of a list, or of a text with commas; a path that is there may hold commas.

    Raises:
        BadConfig: neither names nor paths, or an empty name.
    """
    items = [given] if isinstance(given, str | Path | Mapping | Choice) else given
    if items is None:
        return []
    if not isinstance(items, Sequence) or not all(isinstance(each, str | Path | Mapping | Choice) for each in items):
        raise BadConfig(f"{name} is {given!r}; expected a name, a path, or several of them")
    found: list[Any] = []
    for item in items:
        is_names = isinstance(item, str) and "," in item and not read_path(item).exists()
        found += [each.strip() for each in item.split(",") if each.strip()] if is_names else [item]
    if any(each == "" for each in found):
        raise BadConfig(f"{name} is {given!r}; a name is empty")
    return found


def read_settings(
    given: Mapping[str, Any] | Iterable[str],
    choices: Sequence[Choice],
    *,
    over: Mapping[str, Any] | None = None,
    has_call_methods: bool = False,
    known: Sequence[Choice] = (),
    own: Container[str] = (),
) -> Settings:
    """Give every setting to the stream, to the methods that have it (`method.KEY`), or to one method (`NAME.KEY`).

    A list is several values to try, unless the key takes a list: then a list of lists is. `NAME.KEY` replaces what the
    method's own table says, and that replaces `method.KEY`.

    Args:
        given: the settings of a call, or of a study file.
        choices: the methods.
        over: settings of a call beside a study file, which replace whatever the file says, in tables of methods too.
        has_call_methods: whether the call beside the file names the methods; then their tables replace all of `given`.
        known: the methods of all tables of runs. A setting for one of them that is not in `choices` is for other tables.
        own: keys of `given` that are this table's own: they must be for one of `choices`.

    Raises:
        CTBenchError: a key that nothing has, or a value of another kind.
    """
    _ = [choice.name for choice in choices]  # a name that no method has comes first
    over = over or {}
    known = (*choices, *known)
    low = _layer([(key, over.get(key, value)) for key, value in pairs(given)], choices, known, own)
    high = _layer(over.items(), choices, known)
    methods = []
    for number, choice in enumerate(choices):
        table = [_own(choice)]
        tables = [low.many[number], *([] if has_call_methods else table), low.one[number]]
        tables += [high.many[number], *(table if has_call_methods else []), high.one[number]]
        methods.append(dict(chain.from_iterable(table.items() for table in tables)))
    return Settings(protocol={**low.protocol, **high.protocol}, methods=tuple(methods))


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """Settings from one place: for the stream, and by number of a method those for many and for this one."""

    protocol: dict[str, tuple[Any, ...]]
    many: list[dict[str, tuple[Any, ...]]]
    one: list[dict[str, tuple[Any, ...]]]


def _layer(
    given: Iterable[tuple[str, Any]], choices: Sequence[Choice], known: Sequence[Choice], own: Container[str] = ()
) -> _Layer:
    found = _Layer(protocol={}, many=[{} for _ in choices], one=[{} for _ in choices])
    for key, raw in given:
        value = read_setting(key, raw)
        table, _, name = key.partition(".")
        if table in (*TABLES, STREAM) and name:
            is_list = takes_list(key)
            found.protocol[key] = tuple(map(write_setting, _values(f"--set {key}", value, is_list=is_list)))
            continue
        for number in _receivers(key, choices, choices if key in own else known):
            (found.many if table == METHOD else found.one)[number][name] = _values(f"--set {key}", value)
    return found


def _own(choice: Choice) -> dict[str, tuple[Any, ...]]:
    """Return the values that the table of a method gives its hyper-parameters."""
    found = {}
    for name, value in choice.settings.items():
        choice.require(name, asked=f"ctbench ls methods {choice.name}")
        found[name] = _values(f"{choice.name}.{name}", read_setting(name, value))
    return found


def points(values: Values) -> list[dict[str, Any]]:
    """Return every combination of values, by key; the last key changes first.

    Examples:
        >>> points({"a": (1, 2), "b": (3,)})
        [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def _receivers(key: str, choices: Sequence[Choice], known: Sequence[Choice]) -> list[int]:
    """Return the numbers of the methods that a setting of methods is for; none if it is for others that are `known`."""
    table, dot, name = key.partition(".")
    named = dict.fromkeys(choice.name for choice in known)
    tables = (METHOD, *TABLES, STREAM, *named)
    if not dot or not name:
        hint = suggest(f"{table}.KEY", [f"{each}.KEY" for each in tables])
        raise BadConfig(f"--set {key}: expected a table before the key, such as pretrain.lr; {hint}")
    if table not in tables:
        hint = suggest(f"{table}.KEY", [f"{each}.KEY" for each in tables])
        raise BadConfig(f"--set {key}: no table and no method of this call is called '{table}'; {hint}")
    if table != METHOD:
        next(choice for choice in known if choice.name == table).require(name, asked=f"ctbench ls methods {table}")
        return [number for number, choice in enumerate(choices) if choice.name == table]
    if not any(name in choice.fields for choice in known):
        if len(named) == 1:
            known[0].require(name, asked=f"ctbench ls methods {known[0].name}")
        fields = sorted({field for choice in known for field in choice.fields})
        hint = suggest(name, fields)
        raise BadConfig(f"--set {key}: none of the methods {', '.join(named)} has a setting '{name}'; {hint}")
    return [number for number, choice in enumerate(choices) if name in choice.fields]


def _values(key: str, value: Any, *, is_list: bool = False) -> tuple[Any, ...]:
    """Return the values to try: those of a list, or of a list of lists where the key takes a list itself."""
    is_several = isinstance(value, list) and (not is_list or any(isinstance(each, list) for each in value))
    values = tuple(value) if is_several else (value,)
    texts = [write_setting(each) for each in values]
    if not values:
        raise BadConfig(f"{key} is an empty list; expected one value, or several to try")
    if len({*texts}) < len(texts):
        raise BadConfig(f"{key} is [{', '.join(texts)}]; each value may be given once")
    return values


def _num_points(values: Values) -> int:
    return math.prod(len(each) for each in values.values())
