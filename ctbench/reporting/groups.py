"""Group results into tables, and the runs of a table into rows.

A group is a stream under one protocol; an entry is a method with its settings, and its runs (seed, order). A run that is not
comparable never enters a table silently: one line says that it is hidden, or a separate table says how it differs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ctbench.errors import UnknownName, one_line
from ctbench.reporting.across import ORDER, check_key, families, is_reason_of
from ctbench.reporting.apart import differences_of, protocol_reasons
from ctbench.reporting.labels import in_brief, labels_of, with_details
from ctbench.results.failures import incomplete_line
from ctbench.results.joint import is_joint_run, joints_of
from ctbench.results.schema import Result

RunId = tuple[int, int]
"""(order, seed), so that runs sort by order first."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of a table: a method with its settings, and its runs.

    Args:
        label: name of the method, followed by settings, version or digest if another entry has the same name.
        results: the runs by (order, seed).
        value: in a table across a key, the runs' value of it.
        levels: in a table over the values of a key, these values; the runs are then numbered (value, run) and not
            (order, seed).
    """

    label: str
    results: Mapping[RunId, Result]
    value: str = ""
    levels: tuple[str, ...] = ()

    @property
    def first(self) -> Result:
        """The first run, to read fields that all runs share."""
        return next(iter(self.results.values()))

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.first.method.name

    def place(self, run: RunId) -> str:
        """Return what names a run of this entry: seed, order, and the value of the key of a table over its values."""
        result = self.results[run]
        order = f" order {result.order}" if result.order else ""
        return (f"{self.levels[run[0]]} " if self.levels else "") + f"seed {result.seed}{order}"

    def units(self, values: Mapping[RunId, float]) -> dict[RunId, float]:
        """Return the units of intervals and tests: the runs, or the mean over the runs of each value of a key."""
        if not self.levels:
            return dict(values)
        by_level: dict[int, list[float]] = {}
        for (level, _), value in values.items():
            by_level.setdefault(level, []).append(value)
        return {(level, 0): float(np.mean(each)) for level, each in by_level.items()}


def mean_over_runs(runs: Iterable[RunId], values: Iterable[Any]) -> Any:
    """Return the mean over seeds, then over orders, of one number or array per run; NaN without runs.

    Examples:
        >>> float(mean_over_runs([(0, 0), (0, 1), (3, 0)], [1.0, 3.0, 6.0]))
        4.0
    """
    by_order: dict[int, list[Any]] = {}
    for (order, _), value in zip(runs, values, strict=True):
        by_order.setdefault(order, []).append(value)
    return np.mean([np.mean(each, axis=0) for each in by_order.values()], axis=0) if by_order else np.nan


def order_notes(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield notes on the means of runs with several orders of the domains."""
    runs = [list(entry.results) for entry in entries]
    if len({order for each in runs for order, _ in each}) > 1:
        yield "several orders of the domains: means over seeds first, then over orders"
        if any(len(set(Counter(order for order, _ in each).values())) > 1 for each in runs):
            yield "orders with unequal numbers of seeds: deviations and intervals give every run the same weight"


@dataclass(frozen=True, kw_only=True)
class Group:
    """The runs of one table: one stream under one protocol.

    Args:
        why: differences to the main table of the stream; empty for the main table.
        entries: the rows, sorted by label.
        notes: notes on the choice of runs.
        across: the key in which the runs differ, of a table across protocols.
        levels: the values of that key, if a row is a mean over them.
        joints: joint runs under the protocols of the table, whether they are shown or not.
    """

    why: tuple[str, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]
    across: str = ""
    levels: tuple[str, ...] = ()
    joints: tuple[Result, ...] = ()

    @cached_property
    def results(self) -> tuple[Result, ...]:
        """The runs that are shown; neither copies in several folders nor results that newer ones replace."""
        return tuple(result for entry in self.entries for result in entry.results.values())

    @property
    def title(self) -> str:
        """Stream, backbone, recipe, precision and protocol, and the differences to the main table."""
        first = self.results[0]
        registered = "" if first.stream.registered else " (unregistered stream)"
        parts = [
            f"{first.stream.name} v{first.stream.version}{registered}",
            first.backbone.name,
            f"recipe {first.recipe.name}",
            first.precision,
            f"{'over' if self.levels else 'across'} {self.across}" if self.across else f"protocol {first.protocol[:8]}",
        ]
        return " · ".join(parts) + (f" — separate table: {'; '.join(in_brief(self.why))}" if self.why else "")

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains in the order of the first run, which is the stream's own if a run has it."""
        return min(self.results, key=lambda result: (result.order, result.seed)).stream.domains


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The results to show; empty tuples mean all.

    Args:
        streams: names of streams.
        methods: names of methods.
        everything: also show runs that are not comparable, marked or in separate tables.
        across: a key of the recipe or the language, or order: show runs that differ in it alone side by side.
        levels: show means over the values of that key instead, one row per method.
    """

    streams: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    everything: bool = False
    across: str = ""
    levels: bool = False


def group_results(results: Sequence[Result], choice: Choice) -> tuple[list[Group], list[str]]:
    """Return the groups of the chosen results, main tables first, and a line for each incomplete run and kind of hidden runs.

    Raises:
        UnknownName: no result has the stream or method.
        MissingResult: no two runs differ in the key of `across` alone.
    """
    if choice.across:
        check_key(choice.across)
    for kind, names, known in (
        ("stream", choice.streams, {result.stream.name for result in results}),
        ("method", choice.methods, {result.method.name for result in results}),
    ):
        for name in names:
            if name not in known:
                raise UnknownName(f"{kind} among the results", name, known, hint="ctbench ls runs")
    chosen = [result for result in results if not choice.streams or result.stream.name in choice.streams]
    chosen = [result for result in chosen if not choice.methods or result.method.name in choice.methods]
    incomplete = [result for result in chosen if not result.is_complete]
    chosen = [result for result in chosen if result.is_complete]
    reasons = {id(result): tuple(_hiding_reasons(result, choice)) for result in chosen}
    hidden = Counter(reason for found in reasons.values() for reason in found)
    shown = [result for result in chosen if choice.everything or not reasons[id(result)]]
    lines = [
        f"{count} run{'s' * (count > 1)} hidden ({reason}); ctbench compare --all shows them"
        for reason, count in sorted(hidden.items())
    ]
    joints = [result for result in results if is_joint_run(result)]
    make = _groups_over if choice.levels else _groups_across
    groups = make(shown, choice.across) if choice.across else _groups(shown)
    found = [replace(group, joints=tuple(joints_of(group.results, joints))) for group in groups]
    return found, [*map(incomplete_line, incomplete), *([] if choice.everything else lines)]


def _groups_across(results: Sequence[Result], key: str) -> Iterator[Group]:
    """Yield a table for each set of runs that differ in a key alone; each of its rows is a method under one value."""
    for values in families(results, key):
        entries, notes = [], []
        for value, members in values.items():
            own, more = _entries(members)
            name = f"{key.rpartition('.')[2]}={value}"
            for entry in own:
                runs = {(0, s): r for (_, s), r in entry.results.items()} if key == ORDER else entry.results
                entries.append(Entry(label=with_details(entry.label, [name]), results=runs, value=value))
            notes += more
        yield Group(why=(), entries=tuple(entries), notes=tuple(notes), across=key)


def _groups_over(results: Sequence[Result], key: str) -> Iterator[Group]:
    """Yield a table for each set of runs that differ in a key alone; each of its rows is a method over all values."""
    for values in families(results, key):
        found, notes = dict[str, dict[RunId, Result]](), list[str]()
        for level, members in enumerate(values.values()):
            own, more = _entries(members)
            notes += more
            for entry in own:
                runs = {(level, number): result for number, result in enumerate(entry.results.values())}
                found.setdefault(_entry_key(entry.first), {}).update(runs)
        levels = tuple(values)
        labels = labels_of([next(iter(runs.values())) for runs in found.values()])
        entries = [
            Entry(label=label, results=runs, levels=levels, value=", ".join(values_of(runs, levels)))
            for label, runs in zip(labels, found.values(), strict=True)
        ]
        entries.sort(key=lambda entry: entry.label)
        yield Group(why=(), entries=tuple(entries), notes=tuple(notes), across=key, levels=levels)


def values_of(runs: Iterable[RunId], levels: Sequence[str]) -> list[str]:
    """Return the values of a key that some runs, numbered (value, run), have."""
    return [levels[level] for level in sorted({level for level, _ in runs})]


def _hiding_reasons(result: Result, choice: Choice) -> Iterator[str]:
    reasons = [reason for reason in protocol_reasons(result) if not is_reason_of(reason, choice.across)]
    if reasons:
        yield one_line("not comparable: " + ", ".join(in_brief(reasons)))
    elif not result.method.registered and result.method.name not in choice.methods:
        yield one_line(f"not comparable: method {result.method.name} is not registered")


def _groups(results: Sequence[Result]) -> Iterator[Group]:
    groups: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(_group_key(result), []).append(result)
    mains: dict[str, Result] = {}
    by_age = sorted(groups.values(), key=lambda members: max(run.provenance.date for run in members), reverse=True)
    for members in sorted(by_age, key=_main_first):
        first = members[0]
        main = mains.setdefault(first.stream.name, first)
        why = () if main is first and not protocol_reasons(first) else differences_of(main, first)
        entries, notes = _entries(members)
        yield Group(why=why, entries=tuple(entries), notes=tuple(notes))


def _group_key(result: Result) -> tuple[object, ...]:
    stream = result.stream
    backbone = result.backbone.digest
    return (
        stream.name,
        stream.version,
        stream.registered,
        result.protocol,
        tuple(sorted(stream.metric.items())),
        backbone,
        result.backbone.weights_digest,
        result.precision,
        protocol_reasons(result),
    )


def _main_first(members: list[Result]) -> tuple[object, ...]:
    """Sort the main table of a stream to the front: equal tokens, the newest version, then the most runs."""
    first = members[0]
    runs = {(_entry_key(result), result.order, result.seed) for result in members}
    is_equal_compute = bool((first.recipe.pretrain or {}).get("equal_compute"))
    return first.stream.name, bool(protocol_reasons(first)), is_equal_compute, -first.stream.version, -len(runs)


def _entries(members: Iterable[Result]) -> tuple[list[Entry], list[str]]:
    runs: dict[str, dict[RunId, Result]] = {}
    notes: list[str] = []
    for result in sorted(members, key=lambda result: (result.provenance.date, str(result.path)), reverse=True):
        mine = runs.setdefault(_entry_key(result), {})
        run = (result.order, result.seed)
        if run not in mine:
            mine[run] = result
        elif not np.array_equal(result.matrix, mine[run].matrix, equal_nan=True):
            notes.append(
                f"{result.method.name}, seed {result.seed}, order {result.order}: several results with different "
                f"numbers; the table shows the newest, {mine[run].key[:12]}"
            )
    groups = [dict(sorted(each.items())) for each in runs.values()]
    labels = labels_of([next(iter(each.values())) for each in groups])
    entries = [Entry(label=label, results=each) for label, each in zip(labels, groups, strict=True)]
    return sorted(entries, key=lambda entry: entry.label), sorted(set(notes))


def _entry_key(result: Result) -> str:
    method = result.method
    return json.dumps([method.name, method.version, method.digest, method.registered, method.settings], sort_keys=True)
