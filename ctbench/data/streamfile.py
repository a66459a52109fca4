"""The keys of a stream's TOML, and the two things that change them: a named recipe and `--set`."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ctbench.data.config import TABLES, Key, Origin, Tree, resolve, show_setting, suggest
from ctbench.data.knobs import Language
from ctbench.data.override import STREAM, parse_setting, read_overrides
from ctbench.data.schema import GENERAL, Domain, Kind, Name, SyntheticText, Task, TextSource
from ctbench.data.settings import (
    BaseRecipe,
    Count,
    FinetuneRecipe,
    Flag,
    Natural,
    PretrainRecipe,
    Text,
    Texts,
)
from ctbench.data.tasktables import SyntheticTask
from ctbench.errors import BadConfig

_SETTABLE = ("root", "max_train", "max_test")


@dataclass(frozen=True, kw_only=True)
class RecipeOverlay:
    """What a named recipe changes of the default one."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    model: Text | None = None
    """Backbone that the recipe is meant for."""
    max_train: Natural | None = None
    """As at the top level; 0 takes all training examples."""
    max_test: Natural | None = None
    """As at the top level; 0 takes all test examples."""
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
    obtain: str = ""
    """Where the data comes from and how its files are laid out; `ctbench prepare` prints it."""
    root: Text = "."
    """Where relative data paths start: a folder relative to the TOML, or an environment variable as "$NAME"."""
    model: Text = "tiny"
    """Default backbone: tiny, tiny-causal, a Hugging Face id with @revision, or a folder."""
    max_train: Count | None = None
    """Use at most so many training examples of every task that does not say itself."""
    max_test: Count | None = None
    """Use at most so many test and so many validation examples of every task that does not say itself."""
    recipe: Name = "default"
    """Name of the default recipe."""
    general: TextSource | None = None
    """General text: the vocabulary and the base of the embedded backbones come from it, and a checkpoint's warm-up."""
    language: Language | None = None
    """Knobs of the synthetic language, which then makes all domains."""
    facts: Flag = False
    """Kind temporal with a `[language]`: in place of the class of a text, the end task of a period asks a decoder, without
    fine-tuning, for the classes of the period's words, and tells those that were kept, changed or are new apart."""
    domains: tuple[Domain, ...] = ()
    """The domains in order."""
    pretrain: PretrainRecipe
    """How a stage pre-trains."""
    base: BaseRecipe | None = None
    """How an embedded backbone (`tiny`, `tiny-causal`) is pre-trained on general text, or a checkpoint is warmed up."""
    finetune: FinetuneRecipe = dataclasses.field(default_factory=FinetuneRecipe)
    """How a cell fine-tunes."""
    recipes: dict[Name, RecipeOverlay] = dataclasses.field(default_factory=dict)
    """Other recipes, by name."""

    def __post_init__(self) -> None:
        names = [domain.name for domain in self.domains]
        if (self.language is None) == (not names):
            raise ValueError("the stream needs either [language] or [[domains]], and not both")
        if self.language is not None:
            self.language.require_kind(self.kind)
        if self.facts and (self.language is None or self.kind != "temporal"):
            raise ValueError("facts need a [language] of kind 'temporal', whose words change their classes")
        if self.base is not None and self.base.schedule in ("rsqrt", "ar_cap", "infinite"):
            raise ValueError(f"[base]: schedule '{self.base.schedule}' crosses stages, and the base is one; choose wsd")
        if self.base is not None and (self.base.carry_optimizer or self.base.probes):
            raise ValueError("[base]: carry_optimizer and probes belong to stages; set them in [pretrain]")
        if len({name.casefold() for name in names}) < len(names):
            raise ValueError(f"[[domains]]: names must differ, found {', '.join(names)}")
        if self.recipe in self.recipes:
            raise ValueError(f"[recipes.{self.recipe}]: the default recipe has this name already")
        if self.general is not None and GENERAL in names:
            raise ValueError(f"[[domains]]: the name '{GENERAL}' is taken by the general text; choose another")
        sources: list[TextSource | Task | None] = [self.general] if self.language is None else []
        for domain in self.domains:
            sources += [domain.text, domain.held_out, domain.task]
        if any(isinstance(source, SyntheticText | SyntheticTask) for source in sources):
            raise ValueError("source 'synthetic' needs [language], which makes the domains itself")


def overlay(tree: Tree, recipe: str) -> Tree:
    """Lay a named recipe over the default one, key by key."""
    overlay = tree["recipes"][recipe]
    merged = {**tree, **{key: overlay[key] for key in ("model", "max_train", "max_test") if key in overlay}}
    for limit in ("max_train", "max_test"):
        if merged.get(limit) == 0:
            del merged[limit]
    for table in ("base", "pretrain", "finetune"):
        if table in overlay:
            merged[table] = {**tree.get(table, {}), **overlay[table]}
    return merged


def apply_settings(tree: Tree, origin: Origin, settings: Mapping[str, Any]) -> tuple[Tree, Origin]:
    """Put the settings to override into a raw tree; return it with the origin for messages.

    Raises:
        BadConfig: an unknown key, or one that must not be changed.
    """
    given: dict[Key, str] = {}
    overrides = read_overrides(settings)
    if overrides.method:
        raise BadConfig(f"--set method.{next(iter(overrides.method))}: a stream has no hyper-parameters")
    for name, text in overrides.protocol.items():
        key = _setting_key(name)
        tree = _replace(tree, key, parse_setting(text))
        given[key] = text
    return tree, dataclasses.replace(origin, settings=given)


def takes_list(name: str) -> bool:
    """Return whether the value of a key of `--set` is a list: several values then are a list of lists.

    Raises:
        BadConfig: no stream has the key.

    Examples:
        >>> takes_list("finetune.seeds"), takes_list("pretrain.tokens")
        (True, False)
    """
    key = _setting_key(name)
    table = StreamFile if len(key) == 1 else resolve(StreamFile, key[:1])[1][-1]
    return typing.get_origin(typing.get_type_hints(table)[str(key[-1])]) is tuple


def changed_keys(before: StreamFile, after: StreamFile) -> tuple[str, ...]:
    """Return the keys whose values differ, as `--set` takes them.

    `root` is left out: it says where the data lies, and the data's fingerprint says what it is.
    """
    keys: list[Key] = [(name,) for name in _SETTABLE if name != "root"]
    for table in TABLES:
        if _value(before, (table,)) is not None:
            keys += [(table, field.name) for field in dataclasses.fields(_value(before, (table,)))]
    return tuple(sorted(show_setting(key) for key in keys if _value(before, key) != _value(after, key)))


def _value(file: StreamFile, key: Key) -> Any:
    return functools.reduce(getattr, map(str, key), file)


def _setting_key(name: str) -> Key:
    table, _, rest = name.partition(".")
    parent: type = StreamFile if table == STREAM else resolve(StreamFile, [table])[1][-1]
    known = [field.name for field in dataclasses.fields(parent)] if table != STREAM else list(_SETTABLE)
    if rest not in known:
        raise BadConfig(f"--set {name}: no key '{rest}' of {table} can be set; {suggest(rest, known)}")
    return (rest,) if table == STREAM else (table, rest)


def _replace(tree: Tree, key: Key, value: object) -> Tree:
    """Return a copy of the tree with `key` set."""
    name = str(key[-1])
    if len(key) == 1:
        return {**tree, name: value}
    table = tree.get(str(key[0]), {} if key[0] == "finetune" else None)
    if table is None:
        raise BadConfig(f"--set {show_setting(key)}: the stream has no table [{key[0]}]")
    return {**tree, str(key[0]): {**table, name: value}}
