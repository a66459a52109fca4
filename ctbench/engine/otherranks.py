"""Finds stages that the store holds under another number of ranks: equal but for the last bits, and another node."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ctbench.engine.identity import StageIdentity
from ctbench.engine.node import Node
from ctbench.engine.store import Store

TRIED: Final = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64)
"""Numbers of ranks that are looked for."""
MAX_STAGES: Final = 200
"""Stages that are looked for at most."""


def other_ranks(todo: Iterable[Node], store: Store) -> tuple[str, ...]:
    """Return a line for each number of ranks under which the store holds stages that are to be computed.

    Args:
        todo: nodes that the store lacks.
        store: where they would go.
    """
    stages = [node for node in todo if isinstance(node.identity, StageIdentity)][:MAX_STAGES]
    return tuple(_lines(stages, store))


def _lines(stages: Sequence[Node], store: Store) -> Iterator[str]:
    for number in TRIED:
        known: dict[str, Node] = {}
        found = [node for node in stages if _number(node) != number and store.has(_under(node, number, known).key)]
        if found:
            many, wanted = len(found) > 1, _number(found[0])
            yield (
                f"{len(found)} stage{'s' * many} to compute with {_words(wanted)} {'are' if many else 'is'} in the store "
                f"for {_words(number)}, with other last bits; {_how(number)} uses {'them' if many else 'it'}"
            )


def _under(node: Node, number: int, known: dict[str, Node]) -> Node:
    """Return a node as a number of ranks would compute it, and what it goes on from."""
    if node.key not in known:
        identity, parents = node.identity, tuple(_under(parent, number, known) for parent in node.parents)
        if isinstance(identity, StageIdentity):
            identity = dataclasses.replace(identity, ranks=number if number > 1 else None)
        known[node.key] = dataclasses.replace(node, identity=identity, parents=parents)
    return known[node.key]


def _number(node: Node) -> int:
    assert isinstance(node.identity, StageIdentity)
    return node.identity.ranks or 1


def _words(number: int) -> str:
    return f"{number} ranks" if number > 1 else "one process"


def _how(number: int) -> str:
    return f"torchrun --nproc_per_node {number}" if number > 1 else "a call without torchrun"
