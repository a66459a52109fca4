"""Tables of runs: what the options of a call and the tables of a study file come to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ctbench.engine.sweep import Choice, Settings, read_settings
from ctbench.errors import BadConfig

if TYPE_CHECKING:
    from ctbench.engine.studyfile import ReadStudy, StudyFile


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of runs: every combination of what it holds is run.

    Args:
        methods: the methods with their own settings.
        streams: names or paths; `models`, `recipes` and `precisions` hold None for a default.
        seeds: run seeds; `orders`: orders of the domains.
        reorder_periods: whether orders may permute periods of time.
        control: whether the control is scored too.
        set: settings to override, by key.
        over: settings of the call beside a study, which replace whatever the file says of them.
        has_call_methods: whether the call beside a study names the methods; their tables replace `set`, too.
        own: keys of `set` that a table of a study has itself; the others are those of its file, for other tables too.
        known: the methods of all tables of a study.
    """

    methods: tuple[Choice, ...]
    streams: tuple[str, ...]
    models: tuple[str | None, ...] = (None,)
    recipes: tuple[str | None, ...] = (None,)
    precisions: tuple[str | None, ...] = (None,)
    seeds: tuple[int, ...] = (0,)
    orders: tuple[int, ...] = (0,)
    reorder_periods: bool = False
    control: bool = False
    set: Mapping[str, Any] = field(default_factory=dict)
    over: Mapping[str, Any] = field(default_factory=dict)
    has_call_methods: bool = False
    own: frozenset[str] = frozenset()
    known: tuple[Choice, ...] = ()

    @cached_property
    def settings(self) -> Settings:
        """What its runs override."""
        return read_settings(
            self.set,
            self.methods,
            over=self.over,
            has_call_methods=self.has_call_methods,
            known=self.known,
            own=self.own,
        )

    @property
    def num_runs(self) -> int:
        """How many runs it asks for, found without making them."""
        names = (self.streams, self.models, self.recipes, self.precisions, self.seeds, self.orders)
        return math.prod(map(len, names)) * self.settings.num_points


def merged(study: ReadStudy, given: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a file with what options replace of them; single settings are replaced by key."""
    tables = [_merged(file, own, given) for file, own in zip(study.tables, study.own, strict=True)]
    known = tuple(choice for table in tables for choice in table.methods)
    return [replace(table, known=known) for table in tables]


def _merged(file: StudyFile, own: frozenset[str], given: Mapping[str, Any]) -> Table:
    table = Table(
        methods=file.methods,
        streams=file.streams,
        models=file.models or (None,),
        recipes=file.recipes or (None,),
        precisions=file.precisions or (None,),
        seeds=file.seeds,
        orders=file.orders,
        reorder_periods=file.reorder_periods,
        control=file.control,
        set=file.set,
        over=given.get("set", {}),
        has_call_methods="methods" in given,
        own=own,
    )
    return replace(table, **{name: value for name, value in given.items() if name != "set"})


def require(table: Table) -> Table:
    """Return a table that names a method and a stream.

    Raises:
        BadConfig: it does not.
    """
    for name, values in (("method", table.methods), ("stream", table.streams)):
        if not values:
            raise BadConfig(
                f"no {name} is named: give --{name} NAME (ctbench ls {name}s), or a study file with the key '{name}s'"
            )
    return table
