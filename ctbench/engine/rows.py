"""Rows of the matrix as they are finished: one line with the scores of all cells of an LM."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import fmean

from ctbench.engine.identity import CellIdentity
from ctbench.engine.node import Lookup, Node
from ctbench.engine.records import StoredCell
from ctbench.engine.store import Store
from ctbench.errors import RunFailed
from ctbench.plugins.find import get_stream
from ctbench.reporting.numbers import percent

Key = tuple[str, str]


class Rows:
    """Waits for the cells of each row.

    Args:
        todo: the nodes to compute; cells that were computed before are not in the line of their row.
        store: where the cells are read.
    """

    def __init__(self, todo: Sequence[Node], store: Store) -> None:
        self._store = store
        self._waiting: dict[Key, set[str]] = {}
        self._cells: dict[Key, list[Node]] = {}
        for node in todo:
            if node.kind == "cell":
                self._waiting.setdefault(_row(node), set()).add(node.key)

    def finish(self, node: Node) -> str | None:
        """Count a cell as done; return the line of its row if it was the last one of it."""
        self._cells.setdefault(_row(node), []).append(node)
        return self.drop(node)

    def drop(self, node: Node) -> str | None:
        """Count a cell as given up; return the line of its row if it was the last one of it and others have scores."""
        row = _row(node)
        self._waiting[row].discard(node.key)
        return None if self._waiting[row] or row not in self._cells else self._line(row)

    def _line(self, row: Key) -> str:
        scores: dict[str, list[float]] = {}
        for node in self._cells.pop(row):
            score = self.score(node)
            scores.setdefault(_cell(node).domain, []).extend([] if score is None else [score])
        texts = [f"{name} {percent(fmean(found) if found else None)}" for name, found in sorted(scores.items())]
        return f"{row[1]}: {', '.join(texts)}"

    def score(self, node: Node) -> float | None:
        """Return the score of a cell by its task's own metric; None if it is undefined or cannot be read."""
        try:
            record = self._store.read(node.key)
        except RunFailed:
            return None
        assert isinstance(record, StoredCell)
        return record.metrics.get(_metrics(*_place(node.lookup))[_cell(node).domain])


def _cell(node: Node) -> CellIdentity:
    assert isinstance(node.identity, CellIdentity)
    return node.identity


def _row(node: Node) -> Key:
    """Return what the cells of a row share: the LM and the stream, and its name."""
    label, _, _ = node.title.rpartition("cell ")
    lm = node.parents[0].key if node.parents else str(_cell(node).lm.backbone)
    return f"{lm} {node.lookup.stream}", f"{label}row {_cell(node).lm.stage}"


def _place(lookup: Lookup) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    return lookup.stream, lookup.recipe, tuple(lookup.settings.items())


@cache
def _metrics(stream: str, recipe: str, settings: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return the metric of each domain's task."""
    found = get_stream(stream, recipe=recipe, settings=dict(settings))
    return {domain.name: domain.task.metric for domain in found.domains}
