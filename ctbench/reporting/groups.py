"""Group results into tables.

A group is a stream under one protocol, and its entries are rows. A run that is not comparable never enters a table
silently: one line says that it is hidden, or a separate table says how it differs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ctbench.errors import UnknownName, one_line
from ctbench.reporting.across import ORDER, check_key, families, is_reason_of
from ctbench.reporting.apart import differences_of, protocol_reasons
from ctbench.reporting.entries import Entry, RunId, entries_of, entry_key
from ctbench.reporting.labels import in_brief, labels_of, with_details
from ctbench.results.failures import incomplete_line
from ctbench.results.joint import is_joint_run, joints_of
from ctbench.results.schema import Result


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
            own, more = entries_of(members)
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
        ids = sorted({_within_level(result, key) for members in values.values() for result in members})
        numbers = {run: number for number, run in enumerate(ids)}
        for level, members in enumerate(values.values()):
            own, more = entries_of(members)
            notes += more
            for entry in own:
                runs = {(level, numbers[_within_level(each, key)]): each for each in entry.results.values()}
                found.setdefault(entry_key(entry.first), {}).update(runs)
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
        entries, notes = entries_of(members)
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
    runs = {(entry_key(result), result.order, result.seed) for result in members}
    is_equal_compute = bool((first.recipe.pretrain or {}).get("equal_compute"))
    return first.stream.name, bool(protocol_reasons(first)), is_equal_compute, -first.stream.version, -len(runs)


def _within_level(result: Result, key: str) -> RunId:
    """Return what tells the runs of one value of a key apart, and pairs those of two methods: order and seed."""
    return (0 if key == ORDER else result.order, result.seed)
