"""How long nodes take on several workers, which compute them in the order that the launchers choose."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence, Set

from ctbench.engine.node import Node


def makespan(nodes: Sequence[Node], seconds: Mapping[str, float], *, workers: int) -> float:
    """Return the time from the first start to the last end, in seconds.

    Every node waits for its parents among `nodes`; of those that are ready, the head of the longest chain goes first.

    Args:
        nodes: each behind its parents.
        seconds: of each node, by its key.
        workers: number of nodes that are computed at the same time, from 1.
    """
    keys = {node.key for node in nodes}
    parents = {node.key: {parent.key for parent in node.parents} & keys for node in nodes}
    return last_end(parents, seconds, workers=workers)


def last_end(before: Mapping[str, Set[str]], seconds: Mapping[str, float], *, workers: int) -> float:
    """Return the time from the first start to the last end of anything that waits for other things, in seconds.

    Args:
        before: what each thing waits for; each thing comes behind those.
        seconds: of each thing.
        workers: number of things at the same time, from 1.
    """
    parents = {key: {*waited} for key, waited in before.items()}
    children: dict[str, list[str]] = {key: [] for key in parents}
    for key, others in parents.items():
        for parent in others:
            children[parent].append(key)
    chain: dict[str, float] = {}
    for key in reversed(parents):
        chain[key] = seconds[key] + max((chain[child] for child in children[key]), default=0.0)
    ready = [(-chain[key], key) for key, mine in parents.items() if not mine]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            _, key = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[key], key))
        now, done = heapq.heappop(running)
        for child in children[done]:
            parents[child].discard(done)
            if not parents[child]:
                heapq.heappush(ready, (-chain[child], child))
    return now
