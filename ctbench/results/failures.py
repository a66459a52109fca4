"""What an incomplete result says about the nodes that failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict

from ctbench.errors import one_line

if TYPE_CHECKING:
    from ctbench.results.schema import Result


@dataclass(frozen=True, kw_only=True)
class FailureRecord:
    """A node that failed: its numbers, and those of the nodes of the run that need it, are null.

    Args:
        node: what it is, such as "stage 2 (law)".
        key: its key.
        reason: one line, without paths.
        num_dependents: number of nodes of the run that were not computed because of it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)
    node: str
    key: str
    reason: str
    num_dependents: int = 0


def failure_lines(failures: Iterable[FailureRecord]) -> list[str]:
    """Return a line about each failure.

    Examples:
        >>> failure_lines([FailureRecord(node="stage 2 (law)", key="", reason="training diverged", num_dependents=3)])
        ['stage 2 (law): training diverged; 3 nodes that need it were not computed']
    """
    return [f"{failure.node}: {failure.reason}{_dependents(failure.num_dependents)}" for failure in failures]


def incomplete_line(result: Result) -> str:
    """Return the line with which tables leave an incomplete run out."""
    order = f" order {result.order}" if result.order else ""
    run = f"{result.method.name} on {result.stream.name}, seed {result.seed}{order}"
    return one_line(f"left out, incomplete: {run} ({'; '.join(failure_lines(result.failures))})")


def no_results_line(place: str, skipped: Sequence[str]) -> str:
    """Return that a place holds no results, and why the first of its files is none.

    Examples:
        >>> no_results_line("results", ["a.json: foreign"]).partition(";")[0]
        'no results in results (1 file could not be read: a.json: foreign)'
    """
    files = f" ({len(skipped)} file{'s' * (len(skipped) > 1)} could not be read: {skipped[0]})" if skipped else ""
    return one_line(f"no results in {place}{files}; run one (ctbench run) or name another folder (--results)")


def _dependents(count: int) -> str:
    if not count:
        return ""
    return f"; {count} nodes that need it were not computed" if count > 1 else "; 1 node that needs it was not computed"
