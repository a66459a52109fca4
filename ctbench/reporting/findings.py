"""Findings of many runs in few lines: one line for each kind of anomaly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ctbench.errors import listing
from ctbench.reporting.entries import Entry
from ctbench.results.checks import MEANINGS, NOTE
from ctbench.results.findings import known_findings
from ctbench.results.schema import Finding


@dataclass(frozen=True, kw_only=True)
class Told:
    """One anomaly of some runs of an entry.

    Args:
        code: kind of anomaly, a key of MEANINGS.
        message: what was found.
        label: label of the entry.
        places: the runs.
    """

    code: str
    message: str
    label: str
    places: tuple[str, ...]

    @property
    def text(self) -> str:
        """Everything in one line."""
        return f"{self.code}: {self.label}, {', '.join(self.places)}: {self.message}"


def told_of(entry: Entry) -> Iterator[Told]:
    """Yield the anomalies of an entry, each with the runs that have it."""
    runs: dict[tuple[str, str], list[str]] = {}
    for run, result in entry.results.items():
        for finding in known_findings(result):
            runs.setdefault((finding.code, finding.message), []).append(entry.place(run))
    for (code, message), places in runs.items():
        yield Told(code=code, message=message, label=entry.label, places=tuple(places))


def finding_lines(told: Sequence[Told], across: Sequence[Finding] = ()) -> Iterator[str]:
    """Yield one line for each kind of finding, then one for each note.

    Args:
        told: anomalies of entries.
        across: anomalies between entries.
    """
    for code in dict.fromkeys(each.code for each in told if each.code != NOTE):
        yield _line([each for each in told if each.code == code])
    pairs = [finding.message for finding in across]
    if pairs:
        more = f"; and {len(pairs) - 1} more pairs" if len(pairs) > 1 else ""
        yield f"finding {across[0].code}: {pairs[0]}{more}"
    notes: dict[str, list[str]] = {}
    for each in told:
        if each.code == NOTE:
            notes.setdefault(each.message, []).append(each.label)
    for message, labels in notes.items():
        yield f"note: {_named(labels)}: {message}"


def _line(told: Sequence[Told]) -> str:
    """Return one line for all findings of one code."""
    first = told[0]
    if len(told) == 1:
        return f"finding {first.text}"
    labels = [each.label for each in told]
    if len({each.message for each in told}) == 1:
        return f"finding {first.code}: {_named(labels)}: {first.message}"
    meaning = MEANINGS.get(first.code, "an anomaly")
    such = f"{first.label}, {first.places[0]}: {first.message}"
    return f"finding {first.code}: {_named(labels)}: {meaning}; such as {such} (ctbench show tells the others)"


def _named(labels: Iterable[str]) -> str:
    """Return the names of a few entries, or the number of many."""
    names = sorted(set(labels))
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} methods ({listing(names, most=3)})"
