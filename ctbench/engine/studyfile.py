"""A study as a TOML file: methods with settings, streams, models, seeds, orders, and values of settings to try."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from ctbench.backbone.checkpoint import MADE
from ctbench.data.config import Key, Origin, read_toml, show_key, validate
from ctbench.data.schema import Name
from ctbench.data.settings import Flag, Text, Texts
from ctbench.engine.job import PRECISIONS, read_numbers
from ctbench.engine.node import digest
from ctbench.engine.sweep import read_choice
from ctbench.errors import BadConfig, did_you_mean
from ctbench.machine.files import read_path
from ctbench.plugins.find import file_meant, find_plugins

WHOLE_FILE: Final = ("name", "summary", "runs")
"""Keys that belong to the file and not to a table of runs."""


def _checked(read: Callable[[Any], Any]) -> BeforeValidator:
    """Return a pydantic validator from a function that refuses with a `BadConfig`."""

    def call(value: Any) -> Any:
        try:
            return read(value)
        except BadConfig as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(call)


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | dict) else value


def _differ(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"must not name {getattr(value, 'place', value)} twice")
    return values


def _precision(value: object) -> object:
    if value not in PRECISIONS:
        guess = did_you_mean(str(value), PRECISIONS)
        raise BadConfig(f"'{value}' is no precision{guess} allowed: {', '.join(PRECISIONS)}")
    return value


Distinct = Annotated[Texts, AfterValidator(_differ)]
Method = Annotated[Any, _checked(read_choice)]
Methods = Annotated[tuple[Method, ...], BeforeValidator(_as_list), AfterValidator(_differ), Field(min_length=1)]
Precision = Annotated[Text, _checked(_precision)]
Precisions = Annotated[tuple[Precision, ...], BeforeValidator(_as_list), AfterValidator(_differ), Field(min_length=1)]
Seeds = Annotated[Any, _checked(lambda value: read_numbers(value, "seeds"))]
Orders = Annotated[Any, _checked(lambda value: read_numbers(value, "orders"))]


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """The keys of a study's TOML, or of one of its tables `[[runs]]`, which has those of the file where it lacks a key."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Name | None = None
    """Name of the study; by default the name of the file."""
    summary: str = ""
    """What the study is for, in one line."""
    methods: Methods = ()
    """Names of methods, paths of .py files, or tables `{ name = "replay", replay_fraction = [0.1, 0.5] }`."""
    streams: Distinct = ()
    """Names of streams, or paths of .toml files."""
    models: Distinct = ()
    """Backbones: tiny, Hugging Face ids with @revision, or folders. Default: the recipe's own."""
    recipes: Distinct = ()
    """Recipes of the streams. Default: each stream's default recipe."""
    precisions: Precisions = ()
    """Arithmetic of stages and cells: fp32, bf16, auto. Default: the recipe's own."""
    seeds: Seeds = (0,)
    """Run seeds: 3, "0..2" (both ends included), "0,1,5" or [0, 1, 5]."""
    orders: Orders = (0,)
    """Orders of the domains, written as seeds are; 0 is the stream's own."""
    reorder_periods: Flag = False
    """Let orders permute periods of time too."""
    control: Flag = False
    """Also score a control: the base model pre-trained for the same number of tokens on general text."""
    set: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings to override, by key as `--set` takes them; a list is several values, each of which is tried."""
    runs: tuple[dict[str, Any], ...] = ()
    """Several tables of runs; each has the keys of the file where it lacks its own, and adds its `set` to the file's."""


@dataclass(frozen=True, kw_only=True)
class ReadStudy:
    """A study file that was read.

    Args:
        name: name of the study.
        digest: SHA-256 of its content; comments and the order of keys do not enter.
        tables: its tables of runs; one if it has no `[[runs]]`.
        own: by table the keys of settings that it does not have from the file.
    """

    name: str
    digest: str
    tables: tuple[StudyFile, ...]
    own: tuple[frozenset[str], ...]


def read_study(given: str | Path) -> ReadStudy:
    """Read a study's TOML; paths in it start at its folder.

    Raises:
        BadConfig: the file cannot be read, or has a wrong key or value; the message names file and line.
    """
    path = read_path(given)
    if path.suffix != ".toml":
        known = [kind for kind in ("method", "stream") if str(given) in find_plugins(kind)]
        meant = f"did you mean --{known[0]} {given}? " if known else ""
        raise BadConfig(
            f"'{given}' is no study; {meant}expected the path of a .toml file (ctbench new study NAME writes one)"
        )
    meant = "" if path.exists() else file_meant(str(given), path.suffix)
    if meant.endswith("?"):
        raise BadConfig(f"{path.name}: cannot be read: No such file or directory{meant}")
    tree, origin = read_toml(path, shown=path.name)
    for key, header in (("domains", "[[domains]]"), ("pretrain", "[pretrain]")):
        if key in tree:
            raise BadConfig(f"{path.name} has {header}, so it is a stream and no study; name it with --stream")
    _require_plain(tree, origin)
    whole = validate(StudyFile, tree, origin)
    _require_once(whole.set, origin)
    tables, own = [], []
    for number, table in enumerate(whole.runs):
        for key in WHOLE_FILE:
            if key in table:
                place = origin.place(("runs", number, key))
                raise BadConfig(f"{place}: the key '{key}' belongs to the file and not to a table of runs")
        merged = {key: value for key, value in tree.items() if key not in WHOLE_FILE} | table
        _require_once(table.get("set"), origin, ("runs", number))
        mine = flat(table["set"]) if isinstance(table.get("set"), dict) else {}
        if mine:
            merged["set"] = flat(whole.set) | mine
        own.append(frozenset(mine))
        tables.append(validate(StudyFile, merged, dataclasses.replace(origin, prefix=("runs", number))))
    found = [_placed(table, path.parent) for table in tables or [whole]]
    return ReadStudy(
        name=whole.name or path.stem, digest=digest(tree), tables=tuple(found), own=tuple(own or [frozenset()])
    )


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by keys with a dot, whether they were written so or as tables."""
    return {key: value for key, value, _ in _settings(settings)}


def _settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any, Key]]:
    """Yield settings with their keys with a dot, and those in the file."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", inner, (key, name)) for name, inner in value.items())
        else:
            yield key, value, (key,)


def _require_once(settings: object, origin: Origin, where: Key = ()) -> None:
    """Refuse a setting that is written both as a key with a dot and in a table."""
    seen: dict[str, Key] = {}
    for key, _, own in _settings(settings) if isinstance(settings, dict) else ():
        if key in seen:
            first, second = (origin.place((*where, "set", *each)) for each in (seen[key], own))
            raise BadConfig(f"{second}: set.{key} was set at {first} already; set it once")
        seen[key] = own


def _placed(table: StudyFile, folder: Path) -> StudyFile:
    """Return a table whose paths start at a folder: files of methods and streams, and folders of models.

    The name of an embedded model is never a folder; ./tiny is.
    """

    def is_path(text: str, suffix: str) -> bool:
        if suffix:
            return text.endswith(suffix)
        return text.startswith((".", "~")) or (text not in MADE and read_path(folder / text).is_dir())

    def place(text: str, suffix: str = "") -> str:
        return str(folder / read_path(text)) if is_path(text, suffix) else text

    methods = [dataclasses.replace(each, place=place(each.place, ".py")) for each in table.methods]
    streams, models = (place(each, ".toml") for each in table.streams), (place(each) for each in table.models)
    return dataclasses.replace(
        table, methods=tuple(methods), streams=tuple(streams), models=tuple(models), set=flat(table.set)
    )


def _require_plain(tree: object, origin: Origin, key: Key = ()) -> None:
    """Refuse what TOML can hold and no key takes: dates, nan and infinite numbers."""
    if isinstance(tree, dict | list):
        for part, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            _require_plain(value, origin, (*key, part))
    elif not isinstance(tree, str | int | float) or (isinstance(tree, float) and not math.isfinite(tree)):
        wanted = "a finite number" if isinstance(tree, float) else "a number, true or false, a text or a list"
        raise BadConfig(f"{origin.place(key)}: {show_key(key)}: expected {wanted}, found {tree}")
