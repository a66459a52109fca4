"""How much of a launch is done, and how long the rest will take: in seconds of work, and not in numbers of nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ctbench.engine.node import Node
from ctbench.engine.schedule import makespan

PRIOR_SECONDS: Final = 5.0
"""Seconds of work in which a guess by measured speeds counts beside what this launch measures itself."""
MAX_SCHEDULED: Final = 3000
"""Of more nodes the time left is their work divided by the workers, which is found sooner than a schedule."""
REFRESH_SECONDS: Final = 1.0
GROUPS: Final = {"base": "training", "stage": "training", "loss": "loss", "cell": "cell"}
"""Kinds of nodes whose guesses are wrong by the same factor."""


@dataclass(kw_only=True)
class _Running:
    """A node that is being computed: when it started, the time and share of its first report, its share now and before."""

    started: float
    first: tuple[float, float] | None = None
    share: float = 0.0
    resumed: float = 0.0


class Workload:
    """Nodes to compute, how much of each is done, and how far the guesses are off so far.

    Args:
        todo: the nodes, each behind its parents.
        guesses: seconds of each on one worker, by key.
        is_measured: whether the guesses rest on speeds of this machine.
        workers: number of workers, from 1.
        clock: returns seconds.
    """

    def __init__(
        self,
        todo: Sequence[Node],
        guesses: Mapping[str, float],
        *,
        is_measured: bool,
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._todo, self._guesses, self._is_measured = list(todo), guesses, is_measured
        self._groups = {node.key: GROUPS[node.kind] for node in todo}
        self._workers, self._clock = max(1, workers), clock
        self._running: dict[str, _Running] = {}
        self._finished: set[str] = set()
        self._measured: dict[str, tuple[float, float]] = {}
        self._left: tuple[float, float | None] | None = None
        self._share = 0.0

    def start(self, key: str) -> None:
        """A node is being computed from now on."""
        self._running[key] = _Running(started=self._clock())

    def resume(self, key: str, share: float) -> None:
        """A share of a node in [0, 1] was done before this launch."""
        node = self._running.setdefault(key, _Running(started=self._clock()))
        node.share = node.resumed = min(1.0, share)

    def report(self, key: str, share: float) -> None:
        """A share of a node in [0, 1] is done."""
        node = self._running.setdefault(key, _Running(started=self._clock()))
        node.first = node.first or (self._clock(), share)
        node.share = min(1.0, share)

    def finish(self, key: str) -> float | None:
        """Count a node as done and return the seconds that it took here; None if it was not started here."""
        node = self._running.pop(key, None)
        self._finished.add(key)
        if node is None:
            return None
        now = self._clock()
        started, before = node.first or (node.started, 1.0)
        if before >= 1.0:  # no report to judge by
            started, before = node.started, node.resumed
        self._measure(self._groups[key], now - started, self._guesses[key] * (1.0 - before))
        return now - node.started

    def stop(self, key: str) -> None:
        """A node is not being computed any more, and not done."""
        self._running.pop(key, None)

    def drop(self, key: str) -> None:
        """A node is given up: it counts as done, and says nothing about the guesses."""
        self._running.pop(key, None)
        self._finished.add(key)

    def share(self) -> float:
        """Return how much of the work is done, in [0, 1], by the guesses as they are corrected so far; it never falls."""
        factors = self._factors() or {}
        total = done = 0.0
        for key, group in self._groups.items():
            seconds = self._guesses[key] * factors.get(group, 1.0)
            total += seconds
            running = self._running.get(key)
            done += seconds * (1.0 if key in self._finished else running.share if running is not None else 0.0)
        self._share = max(self._share, done / total if total else 1.0)
        return self._share

    def seconds_left(self) -> float | None:
        """Return about how long the rest takes; None if nothing is known yet."""
        now = self._clock()
        if self._left is None or self._left[1] is None or now - self._left[0] >= REFRESH_SECONDS:
            self._left = now, self._schedule()
        then, left = self._left
        return None if left is None else max(0.0, left - (now - then))

    def _measure(self, group: str, seconds: float, guessed: float) -> None:
        before = self._measured.get(group, (0.0, 0.0))
        self._measured[group] = before[0] + seconds, before[1] + guessed

    def _factors(self) -> dict[str, float] | None:
        """Return by what the guesses of each group are to be multiplied; None if there is nothing to judge by."""
        measured = dict(self._measured)
        for key, node in self._running.items():
            if node.first is not None and node.share > node.first[1]:
                before, group = measured.get(self._groups[key], (0.0, 0.0)), self._groups[key]
                guessed = self._guesses[key] * (node.share - node.first[1])
                measured[group] = before[0] + self._clock() - node.first[0], before[1] + guessed
        prior = PRIOR_SECONDS if self._is_measured else 0.0
        found = {
            group: (seconds + prior) / (guessed + prior)
            for group, (seconds, guessed) in measured.items()
            if guessed + prior > 0
        }
        if not found and not self._is_measured:
            return None
        usual = 1.0 if self._is_measured else sum(found.values()) / len(found)
        return {group: found.get(group, usual) for group in {*self._groups.values()}}

    def _schedule(self) -> float | None:
        factors = self._factors()
        if factors is None:
            return None
        left = {
            node.key: self._guesses[node.key]
            * factors[self._groups[node.key]]
            * (1.0 - (self._running[node.key].share if node.key in self._running else 0.0))
            for node in self._todo
            if node.key not in self._finished
        }
        if len(left) > MAX_SCHEDULED:
            return sum(left.values()) / self._workers
        return makespan([node for node in self._todo if node.key in left], left, workers=self._workers)
