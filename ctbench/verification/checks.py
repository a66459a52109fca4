"""The numbers of nodes that were computed again, beside those of the result."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ctbench.engine.expand import RunGraph
from ctbench.engine.node import Node
from ctbench.engine.records import StoredCell, StoredLoss, StoredStage
from ctbench.engine.store import Store
from ctbench.plans import BASE
from ctbench.results.schema import Result, StageRecord
from ctbench.verification.choice import Measured
from ctbench.verification.claims import LIBRARIES, other_versions, was_on_gpu
from ctbench.verification.noise import (
    EXACT,
    Tolerance,
    bit_for_bit,
    of_same_weights,
    of_score,
    of_trained_loss,
)
from ctbench.verification.verdict import Check

COUNTS = ("tokens", "forward_tokens", "trained_parameters")
"""Costs of a stage that are the same on every machine; `flops` too, where both are known."""


class Checker:
    """Compares a result with a store in which some of its nodes were computed again.

    Args:
        result: the result.
        run: the same run here.
        store: holds the nodes that are asked for.
        trained: numbers of the stages that were trained again.
    """

    def __init__(self, result: Result, run: RunGraph, store: Store, *, trained: Collection[int]) -> None:
        self.result, self.run, self.store = result, run, store
        self.stages = {stage.stage: stage for stage in result.stages}
        self.other_bits = [number for number in trained if not self._has_same_weights(number)]
        proved = {*trained} - {*self.other_bits} if self._can_prove() else set()
        self.proved = proved | ({BASE} if proved and not self.other_bits else set())

    def stage(self, number: int) -> Iterator[Check]:
        """Yield the checks of a stage that was trained again: its last training loss, and its costs if they differ."""
        stored, node = self.stages.get(number), self.run.stages[number - 1]
        found = self.store.read(node.key)
        assert isinstance(found, StoredStage)
        if stored is None:
            return
        for name, values in stored.losses.items():
            computed = found.training.losses.get(name, ())
            if name == "loss" and values and values[-1] is not None:
                value = computed[-1] if computed else None
                yield _check(node, "last training loss", values[-1], value, self._of_loss(values[-1], number))
        yield from self._costs(node, stored, found)

    def given(self, number: int) -> Iterator[Check]:
        """Yield a check of an LM that was given, if its weights are not those of the result."""
        if not self._has_same_weights(number) and number in self.stages and self.stages[number].weights_digest:
            node = self.run.lms[number - 1]
            reason = "the LM that was given is not the one of the result: the digests of their weights differ"
            yield Check(
                node=node.own_title,
                of="weights (1: those of the result)",
                stored=1.0,
                computed=0.0,
                allowed=EXACT,
                reason=reason,
            )

    def measured(self, chosen: Measured) -> Iterator[Check]:
        """Yield the checks of a cell, its metric and others that differ, or of losses, the text that differs most."""
        record = self.store.read(chosen.node.key)
        if isinstance(record, StoredCell):
            for number, (metric, stored) in enumerate(chosen.stored.items()):
                value = record.metrics.get(metric)
                tolerance = self._of_score(stored if value is None else value, record.num_test, chosen.source)
                check = _check(chosen.node, metric, stored, value, tolerance)
                if number == 0 or check.verdict == "differs":
                    yield check
            return
        assert isinstance(record, StoredLoss)
        checks = [
            _check(
                chosen.node, f"loss of {name}", stored, record.losses.get(name), self._of_loss(stored, chosen.source)
            )
            for name, stored in chosen.stored.items()
        ]
        yield max(checks, key=_distance)

    def _costs(self, node: Node, stored: StageRecord, found: StoredStage) -> Iterator[Check]:
        computed: dict[str, float | None] = {name: getattr(found.training, name) for name in COUNTS}
        computed |= {"added_parameters": found.added_parameters, "stored_bytes": found.stored_bytes}
        if stored.flops is not None and found.training.flops is not None:
            computed["flops"] = found.training.flops
        for name, value in computed.items():
            said = getattr(stored, name)
            if said != value:
                reason = "costs that are counted, and not timed, are the same on every machine"
                yield Check(
                    node=node.own_title, of=name, stored=said, computed=value, allowed=EXACT * said, reason=reason
                )

    def _of_loss(self, stored: float, source: int) -> Tolerance:
        if source in self.proved:
            return bit_for_bit()
        if self._has_same_weights(source):
            return of_same_weights(stored, self.result.precision)
        return of_trained_loss(stored, rough=self._is_rough())

    def _of_score(self, score: float, num_test: int | None, source: int) -> Tolerance:
        return bit_for_bit() if source in self.proved else of_score(score, num_test, rough=self._is_rough())

    def _has_same_weights(self, source: int) -> bool:
        """Return whether an LM here has the weights of the result's."""
        if source == BASE:
            return self.run.inputs.base is None or self.result.backbone.weights_digest == self._base_digest()
        record = self.store.read(self.run.lms[source - 1].key)
        stored = self.stages.get(source)
        return isinstance(record, StoredStage) and stored is not None and stored.weights_digest == record.weights_digest

    def _base_digest(self) -> str:
        assert self.run.inputs.base is not None
        record = self.store.read(self.run.inputs.base.key)
        return getattr(record, "weights_digest", "")

    def _is_rough(self) -> bool:
        return was_on_gpu(self.result) or any(
            (each.device, each.precision) != ("cpu", "fp32") for each in self.run.inputs.arithmetic.values()
        )

    def _can_prove(self) -> bool:
        """Return whether equal weights prove equal arithmetic: versions are equal, and no GPU is involved."""
        names = ("ctbench", *LIBRARIES)
        is_alike = not any(line.startswith(names) for line in other_versions(self.result, self.run))
        return is_alike and {each.device for each in self.run.inputs.arithmetic.values()} == {"cpu"}


def _check(node: Node, of: str, stored: float, computed: float | None, allowed: Tolerance) -> Check:
    return Check(
        node=node.own_title,
        of=of,
        stored=stored,
        computed=computed,
        allowed=allowed.amount,
        reason=allowed.reason,
    )


def _distance(check: Check) -> float:
    if check.difference is None:
        return 0.0 if check.stored is None else float("inf")
    return abs(check.difference) / max(check.allowed, EXACT)  # of a stored 0 a share of it allows nothing
