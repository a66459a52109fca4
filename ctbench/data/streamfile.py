"""The keys of a stream's TOML, and the two things that change them: a named recipe and `--set`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ctbench.data.config import Key, Origin, Tree, parse_setting, resolve, show_setting, suggest
from ctbench.data.schema import Domain, Kind, Name, SyntheticTask, SyntheticText, Task, TextSource
from ctbench.data.settings import Count, FinetuneRecipe, Language, PretrainRecipe, Text, Texts
from ctbench.errors import BadConfig

_TABLES = ("base", "pretrain", "finetune", "language")
_FIXED = ("name", "version", "kind", "recipe", "recipes", "domains", "general", *_TABLES)


@dataclass(frozen=True, kw_only=True)
class RecipeOverlay:
    """What a named recipe changes of the default one."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    model: Text | None = None
    """Backbone that the recipe is meant for."""
    base: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of `[base]` that differ."""
    pretrain: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of `[pretrain]` that differ."""
    finetune: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of `[finetune]` that differ."""


@dataclass(frozen=True, kw_only=True)
class StreamFile:
    """The keys of a stream's TOML."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Name | None = None
    """Name of the stream; by default the name of the file."""
    version: Count = 1
    """Raised when numbers change; a stream is superseded, never edited, once results exist."""
    kind: Kind
    """Whether the domains differ in topic or in time; periods of time keep their order."""
    summary: Text
    """What the stream is, in one line."""
    citation: str = ""
    """What to cite."""
    licences: Annotated[Texts, Field(min_length=0)] = ()
    """Licences of the data."""
    root: Text = "."
    """Where relative data paths start: a folder relative to the TOML, or an environment variable as "$NAME"."""
    model: Text = "tiny"
    """Default backbone: tiny, a Hugging Face id with @revision, or a folder."""
    max_train: Count | None = None
    """Use at most so many training examples of every task that does not say itself."""
    max_test: Count | None = None
    """Use at most so many test examples of every task that does not say itself."""
    recipe: Name = "default"
    """Name of the default recipe."""
    general: TextSource | None = None
    """General text: the vocabulary and the base of the backbone `tiny` come from it."""
    language: Language | None = None
    """Knobs of the synthetic language, which then makes all domains."""
    domains: tuple[Domain, ...] = ()
    """The domains in order."""
    base: PretrainRecipe | None = None
    """How the backbone `tiny` is pre-trained on general text."""
    pretrain: PretrainRecipe
    """How a stage pre-trains."""
    finetune: FinetuneRecipe = dataclasses.field(default_factory=FinetuneRecipe)
    """How a cell fine-tunes."""
    recipes: dict[Name, RecipeOverlay] = dataclasses.field(default_factory=dict)
    """Other recipes, by name."""

    def __post_init__(self) -> None:
        names = [domain.name for domain in self.domains]
        if (self.language is None) == (not names):
            raise ValueError("the stream needs either [language] or [[domains]], and not both")
        if len({name.casefold() for name in names}) < len(names):
            raise ValueError(f"[[domains]]: names must differ, found {', '.join(names)}")
        if self.recipe in self.recipes:
            raise ValueError(f"[recipes.{self.recipe}]: the default recipe has this name already")
        sources: list[TextSource | Task | None] = [self.general] if self.language is None else []
        for domain in self.domains:
            sources += [domain.text, domain.held_out, domain.task]
        if any(isinstance(source, SyntheticText | SyntheticTask) for source in sources):
            raise ValueError("source 'synthetic' needs [language], which makes the domains itself")


def overlay(tree: Tree, recipe: str) -> Tree:
    """Lay a named recipe over the default one, key by key."""
    overlay = tree["recipes"][recipe]
    merged = {**tree, **({"model": overlay["model"]} if "model" in overlay else {})}
    for table in ("base", "pretrain", "finetune"):
        if table in overlay:
            merged[table] = {**tree.get(table, {}), **overlay[table]}
    return merged


def apply_settings(tree: Tree, origin: Origin, settings: Mapping[str, str]) -> tuple[Tree, Origin, tuple[str, ...]]:
    """Put `--set` values into a raw tree; return it with the origin for messages and the keys whose value changed.

    Raises:
        BadConfig: an unknown key, or one that must not be changed.
    """
    given: dict[Key, str] = {}
    changed = []
    for name, text in settings.items():
        key = _setting_key(name)
        tree, before = _replace(tree, key, parse_setting(text))
        given[key] = text
        if before != parse_setting(text):
            changed.append(show_setting(key))
    return tree, dataclasses.replace(origin, settings=given), tuple(sorted(changed))


def _setting_key(name: str) -> Key:
    table, _, rest = name.partition(".")
    if table not in ("stream", *_TABLES) or not rest:
        places = ", ".join(f"{place}.KEY" for place in ("stream", *_TABLES))
        raise BadConfig(f"--set {name}: no such setting of the stream; allowed: {places}")
    parent: type = StreamFile if table == "stream" else resolve(StreamFile, [table])[1][-1]
    known = [field.name for field in dataclasses.fields(parent)]
    if table == "stream":
        known = [field for field in known if field not in _FIXED]
    if rest not in known:
        raise BadConfig(f"--set {name}: no key '{rest}' of {table} can be set; {suggest(rest, known)}")
    return (rest,) if table == "stream" else (table, rest)


def _replace(tree: Tree, key: Key, value: object) -> tuple[Tree, object]:
    """Return a copy of the tree with `key` set, and the value that stood there."""
    name = str(key[-1])
    if len(key) == 1:
        return {**tree, name: value}, tree.get(name)
    table = tree.get(str(key[0]))
    if table is None:
        raise BadConfig(f"--set {show_setting(key)}: the stream has no table [{key[0]}]")
    return {**tree, str(key[0]): {**table, name: value}}, table.get(name)
