"""Which nodes share a job: the stages of a run in a row, and the cells of its LMs in parcels of some minutes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ctbench.engine.identity import StageIdentity
from ctbench.engine.node import Node, digest

LEAVES: Final = ("loss", "cell")
"""Kinds of nodes that no other node waits for."""


@dataclass(frozen=True)
class Shard:
    """The nodes of one job, parents first; `needs` are the shards that compute what they wait for, by their number."""

    nodes: tuple[Node, ...]
    needs: frozenset[int] = frozenset()


def make_shards(todo: Sequence[Node], seconds: Mapping[str, float], *, minutes: float) -> list[Shard]:
    """Share nodes out among jobs, so that each job waits for the ends of whole jobs only.

    A stage goes on in the job of the stage before it, unless several methods go on from that one. Cells and losses of the
    LMs of one job are packed together, the longest first into the job that is least full.

    Args:
        todo: each node behind its parents.
        seconds: estimated time of each node, by key.
        minutes: time of a job with cells; 0 gives each cell its own job.

    Returns:
        The shards, each behind those that it needs.
    """
    trunks: list[list[Node]] = []
    place: dict[str, int] = {}
    heirs: dict[str, set[str]] = {}
    for node in todo:
        if isinstance(node.identity, StageIdentity):
            for parent in node.parents:
                heirs.setdefault(parent.key, set()).add(digest(dataclasses.asdict(node.identity.method)))
    for node in todo:
        if node.kind in LEAVES:
            continue
        needed = _needs([node], place)
        last = max(needed, default=0)  # a shard needs earlier ones only, so there is no circle
        ahead = [parent for parent in node.parents if place.get(parent.key) == last and parent.kind == node.kind]
        if any(len(heirs.get(parent.key, ())) <= 1 for parent in ahead):
            place[node.key] = last
            trunks[last].append(node)
        else:
            place[node.key] = len(trunks)
            trunks.append([node])
    shards = [Shard(tuple(nodes), _needs(nodes, place) - {index}) for index, nodes in enumerate(trunks)]
    groups: dict[frozenset[int], list[Node]] = {}
    for node in todo:
        if node.kind in LEAVES:
            groups.setdefault(_needs([node], place), []).append(node)
    for needs, leaves in groups.items():
        shards += [Shard(tuple(parcel), needs) for parcel in _parcels(leaves, seconds, 60 * minutes)]
    return shards


def arrays(shards: Sequence[Shard]) -> list[list[int]]:
    """Return the numbers of the shards that can be one array, because they wait for the same; parents first."""
    level: dict[int, int] = {}
    groups: dict[tuple[int, frozenset[int]], list[int]] = {}
    for index, shard in enumerate(shards):
        level[index] = 1 + max((level[other] for other in shard.needs), default=0)
        groups.setdefault((level[index], shard.needs), []).append(index)
    return [groups[key] for key in sorted(groups, key=lambda key: key[0])]


def _needs(nodes: Sequence[Node], place: Mapping[str, int]) -> frozenset[int]:
    """Return the shards of everything that nodes read: their parents, and the base of their LM."""
    return frozenset(place[key] for key in read_by(nodes) if key in place)


def read_by(nodes: Sequence[Node]) -> set[str]:
    """Return the keys of everything that nodes read: their parents, and the bases of their LMs."""
    found = {parent.key for node in nodes for parent in node.parents}
    return found | {node.lookup.base for node in nodes if node.lookup.base is not None}


def _parcels(nodes: Sequence[Node], seconds: Mapping[str, float], most: float) -> list[list[Node]]:
    total = sum(seconds[node.key] for node in nodes)
    count = len(nodes) if most <= 0 else min(len(nodes), max(1, round(total / most)))
    parcels: list[tuple[float, int, list[Node]]] = [(0.0, number, []) for number in range(count)]
    for node in sorted(nodes, key=lambda node: -seconds[node.key]):
        load, number, parcel = min(parcels, key=lambda each: each[:2])
        parcels[number] = load + seconds[node.key], number, [*parcel, node]
    return [parcel for _, _, parcel in parcels]
