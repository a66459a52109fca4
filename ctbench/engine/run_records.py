"""The records of a run's nodes, each read once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ctbench.engine.expand import RunGraph
from ctbench.engine.records import StoredCell, StoredLoss, StoredStage
from ctbench.engine.store import Store


class RunRecords:
    """Reads the records of runs' nodes; None for those that are not computed.

    Args:
        store: holds the others.
        lost: keys of nodes that failed, and of those that need them.
    """

    def __init__(self, store: Store, lost: frozenset[str]) -> None:
        self._store = store
        self._lost = lost
        self._read: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        """Return the record of a node."""
        if key in self._lost:
            return None
        if key not in self._read:
            self._read[key] = self._store.read(key)
        return self._read[key]

    def stages(self, run: RunGraph) -> dict[int, StoredStage]:
        """Return the records of the stages by their numbers."""
        found = {number: self.get(node.key) for number, node in enumerate(run.stages, start=1)}
        return {number: record for number, record in found.items() if record is not None}

    def loss(self, run: RunGraph, source: int) -> StoredLoss | None:
        """Return the LM losses after a stage, or of the base."""
        record: StoredLoss | None = self.get(run.losses[source].key)
        return record

    def losses(self, run: RunGraph) -> Iterator[StoredLoss]:
        """Yield the LM losses of all stages, those of the base first."""
        for source in sorted(run.losses):
            if (record := self.loss(run, source)) is not None:
                yield record

    def cell(self, run: RunGraph, source: int, name: str, seed: int) -> StoredCell | None:
        """Return the scores of a task after a stage, or of the base, under a fine-tuning seed."""
        record: StoredCell | None = self.get(run.cells[source, name, seed].key)
        return record

    def cell_of_each_task(self, run: RunGraph) -> dict[str, StoredCell]:
        """Return a cell of each task, for what all of them say alike."""
        every = ((name, self.cell(run, source, name, seed)) for source, name, seed in run.cells)
        return {name: record for name, record in every if record is not None}
