"""Which results may share a table, and which runs belong to one row of it.

A group is a stream under one protocol; an entry is a method with its settings, and its runs (seed, order). Runs off the
protocol never get into a group silently: they are hidden with one line, or shown in a table of their own that says why.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctbench.errors import UnknownName, one_line
from ctbench.schema import Result

Run = tuple[int, int]
"""(order, seed), so that runs sort by order first."""

UNREGISTERED_MARK = "†"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of a table: a method with its settings, and its runs.

    Args:
        label: the method's name, with whatever tells it from other entries of that name.
        results: its runs by (order, seed).
    """

    label: str
    results: Mapping[Run, Result]

    @property
    def first(self) -> Result:
        """Any run of it, for what all of them share."""
        return next(iter(self.results.values()))

    @property
    def name(self) -> str:
        """The method's name."""
        return self.first.method.name


def mean_over_runs(runs: Iterable[Run], values: Iterable[Any]) -> Any:
    """Return the mean over seeds first, then over orders, of one number or array per run; NaN of none.

    Example:
        >>> float(mean_over_runs([(0, 0), (0, 1), (3, 0)], [1.0, 3.0, 6.0]))
        4.0
    """
    by_order: dict[int, list[Any]] = {}
    for (order, _), value in zip(runs, values, strict=True):
        by_order.setdefault(order, []).append(value)
    return np.mean([np.mean(each, axis=0) for each in by_order.values()], axis=0) if by_order else np.nan


def order_notes(entries: Iterable[Entry]) -> Iterator[str]:
    """Say how means are made where runs have several orders."""
    runs = [list(entry.results) for entry in entries]
    if len({order for each in runs for order, _ in each}) > 1:
        yield "several orders of the domains: means over seeds first, then over orders"
        if any(len(set(Counter(order for order, _ in each).values())) > 1 for each in runs):
            yield "orders with unequal numbers of seeds: deviations and intervals weigh every run alike"


@dataclass(frozen=True, kw_only=True)
class Group:
    """What may share a table: runs of one stream under one protocol.

    Args:
        results: all runs in it.
        why: why it is not the stream's main table; empty for that one.
        entries: its rows, by label.
        notes: what a reader should know about the choice of runs.
    """

    results: tuple[Result, ...]
    why: tuple[str, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Stream, backbone, recipe, precision and protocol, and why it is not the main table."""
        first = self.results[0]
        registered = "" if first.stream.registered else " (unregistered stream)"
        parts = [
            f"{first.stream.name} v{first.stream.version}{registered}",
            first.backbone.name,
            f"recipe {first.recipe.name}",
            first.precision,
            f"protocol {first.protocol[:8]}",
        ]
        return " · ".join(parts) + (f" — a table of its own: {'; '.join(self.why)}" if self.why else "")

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains in the stream's own order, or in the order of the first run."""
        return min(self.results, key=lambda result: (result.order, result.seed)).stream.domains


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which results are asked for; empty tuples mean all.

    Args:
        streams: names of streams.
        methods: names of methods.
        everything: show runs that are not comparable too, marked or in tables of their own.
    """

    streams: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    everything: bool = False


def group_results(results: Sequence[Result], choice: Choice) -> tuple[list[Group], list[str]]:
    """Return the groups of the chosen results, main tables first, and one line for each kind of hidden runs.

    Raises:
        UnknownName: for a stream or method that no result has.
    """
    for kind, names, known in (
        ("stream", choice.streams, {result.stream.name for result in results}),
        ("method", choice.methods, {result.method.name for result in results}),
    ):
        for name in names:
            if name not in known:
                raise UnknownName(f"{kind} among the results", name, known, hint="ctbench ls runs")
    chosen = [result for result in results if not choice.streams or result.stream.name in choice.streams]
    chosen = [result for result in chosen if not choice.methods or result.method.name in choice.methods]
    reasons = {id(result): tuple(_hiding_reasons(result, choice)) for result in chosen}
    hidden = Counter(reason for found in reasons.values() for reason in found)
    shown = [result for result in chosen if choice.everything or not reasons[id(result)]]
    lines = [
        f"{count} run{'s' * (count > 1)} hidden ({reason}); ctbench compare --all shows them"
        for reason, count in sorted(hidden.items())
    ]
    return list(_groups(shown)), [] if choice.everything else lines


def protocol_reasons(result: Result) -> tuple[str, ...]:
    """Return why the run's protocol is not comparable; whether names are registered is told by their own marks."""
    told = (f"stream {result.stream.name} is not registered", f"method {result.method.name} is not registered")
    return tuple(reason for reason in result.not_comparable if reason not in told)


def _hiding_reasons(result: Result, choice: Choice) -> Iterator[str]:
    if reasons := protocol_reasons(result):
        yield one_line("not comparable: " + ", ".join(reasons))
    elif not result.method.registered and result.method.name not in choice.methods:
        yield one_line(f"not comparable: method {result.method.name} is not registered")


def _groups(results: Sequence[Result]) -> Iterator[Group]:
    groups: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(_group_key(result), []).append(result)
    mains: dict[str, Result] = {}
    by_age = sorted(groups.values(), key=_youngest, reverse=True)
    for members in sorted(by_age, key=_main_first):
        first = members[0]
        main = mains.setdefault(first.stream.name, first)
        why = () if main is first and not protocol_reasons(first) else _why(main, first)
        entries, notes = _entries(members)
        yield Group(results=tuple(members), why=why, entries=tuple(entries), notes=tuple(notes))


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
        result.precision,
        protocol_reasons(result),
    )


def _main_first(members: list[Result]) -> tuple[object, ...]:
    """Sort the main table of a stream to the front: the newest version, then the most runs."""
    first = members[0]
    runs = {(_entry_key(result), result.order, result.seed) for result in members}
    return first.stream.name, bool(protocol_reasons(first)), -first.stream.version, -len(runs)


def _youngest(members: list[Result]) -> str:
    return max(result.provenance.date for result in members)


def _why(main: Result, other: Result) -> tuple[str, ...]:
    """Say what sets `other` apart from the stream's main table."""
    found = list(protocol_reasons(other))
    pairs = {
        "stream version": (main.stream.version, other.stream.version),
        "backbone": (main.backbone.name, other.backbone.name),
        "recipe": (main.recipe.name, other.recipe.name),
        "precision": (main.precision, other.precision),
    }
    found += [f"{name} {theirs} instead of {ours}" for name, (ours, theirs) in pairs.items() if ours != theirs]
    if main.backbone.name == other.backbone.name and main.backbone.digest != other.backbone.digest:
        found.append(f"other weights of {other.backbone.name}")
    for part in ("base", "pretrain", "finetune"):
        ours, theirs = getattr(main.recipe, part) or {}, getattr(other.recipe, part) or {}
        keys = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        found += [f"{part}.{key} {theirs.get(key)} instead of {ours.get(key)}" for key in keys]
    kinds = main.stream.metric
    for domain, theirs in other.stream.metric.items():
        if kinds.get(domain, theirs) != theirs:
            found.append(f"metric of {domain} {theirs} instead of {kinds[domain]}")
    if main.stream.digest != other.stream.digest:
        found.append("other data")
    return tuple(found) or ("another protocol",)


def _entries(members: Iterable[Result]) -> tuple[list[Entry], list[str]]:
    runs: dict[str, dict[Run, Result]] = {}
    notes: list[str] = []
    for result in sorted(members, key=lambda result: (result.provenance.date, str(result.path)), reverse=True):
        mine = runs.setdefault(_entry_key(result), {})
        run = (result.order, result.seed)
        if run not in mine:
            mine[run] = result
        elif not np.array_equal(result.matrix, mine[run].matrix, equal_nan=True):
            notes.append(
                f"{result.method.name}, seed {result.seed}, order {result.order}: several results with different "
                f"numbers; the newest, {mine[run].key[:12]}, is shown"
            )
    groups = [dict(sorted(each.items())) for each in runs.values()]
    labels = _labels([next(iter(each.values())) for each in groups])
    entries = [Entry(label=label, results=each) for label, each in zip(labels, groups, strict=True)]
    return sorted(entries, key=lambda entry: entry.label), sorted(set(notes))


def _entry_key(result: Result) -> str:
    method = result.method
    return json.dumps([method.name, method.version, method.digest, method.registered, method.settings], sort_keys=True)


def _labels(results: Sequence[Result]) -> list[str]:
    """Return a label for each entry: the name, settings given by hand, then whatever else tells two entries apart."""
    labels = [_with(result.method.name, _set_by_hand(result)) for result in results]
    for details in (_all_settings, _version, _digest):
        counts = Counter(labels)
        twins = {label: [r for r, other in zip(results, labels, strict=True) if other == label] for label in counts}
        labels = [
            _with(label, details(result, twins[label])) if counts[label] > 1 else label
            for label, result in zip(labels, results, strict=True)
        ]
    marks = ["" if result.method.registered else " " + UNREGISTERED_MARK for result in results]
    return [label + mark for label, mark in zip(labels, marks, strict=True)]


def _with(label: str, details: list[str]) -> str:
    return f"{label} ({', '.join(details)})" if details else label


def _set_by_hand(result: Result) -> list[str]:
    prefix = "method."
    return [f"{key.removeprefix(prefix)}={value}" for key, value in result.changed.items() if key.startswith(prefix)]


def _all_settings(result: Result, twins: list[Result]) -> list[str]:
    mine, others = result.method.settings, [twin.method.settings for twin in twins]
    return [f"{key}={value}" for key, value in sorted(mine.items()) if _differs(key, value, others)]


def _differs(key: str, value: Any, others: list[dict[str, Any]]) -> bool:
    return any(other.get(key) != value for other in others)


def _version(result: Result, twins: list[Result]) -> list[str]:
    return [f"v{result.method.version}"] if len({twin.method.version for twin in twins}) > 1 else []


def _digest(result: Result, twins: list[Result]) -> list[str]:
    return [f"source {result.method.digest[:6]}"] if len({twin.method.digest for twin in twins}) > 1 else []
