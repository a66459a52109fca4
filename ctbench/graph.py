"""The graph of a run: nodes whose key says everything that their numbers depend on.

A key is the SHA-256 of canonical JSON: the node's kind, the schema, what it is made from and the keys of its parents.
Names and paths do not enter it, contents do, so equal work is recognised across methods, seeds and runs, and an
edited method never returns an old matrix.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import version
from typing import Any, Final

SCHEMA: Final = 1
"""Raised when the engine's arithmetic changes, so that no node of before is used again."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One thing to compute.

    Args:
        kind: "base", "stage", "loss" or "cell".
        identity: plain JSON, all that the numbers depend on besides the parents.
        how: plain JSON, where a worker finds the things that `identity` only fingerprints.
        parents: nodes that must be complete before.
        title: a few words for people.
    """

    kind: str
    identity: Mapping[str, Any]
    how: Mapping[str, Any] = field(repr=False)
    parents: tuple[Node, ...] = field(default=(), repr=False)
    title: str = ""

    @cached_property
    def key(self) -> str:
        """The SHA-256 that names this node in the store."""
        return digest(
            {
                "kind": self.kind,
                "schema": SCHEMA,
                "versions": library_versions(),
                "identity": dict(self.identity),
                "parents": [parent.key for parent in self.parents],
            }
        )

    def spec(self) -> dict[str, Any]:
        """Return the JSON that a worker computes this node from."""
        return {
            "kind": self.kind,
            "key": self.key,
            "identity": dict(self.identity),
            "how": dict(self.how),
            "parents": [parent.key for parent in self.parents],
        }


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical JSON of a plain value.

    Example:
        >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """Return major.minor of the libraries whose arithmetic enters every number."""
    return {name: _major_minor(name) for name in ("torch", "transformers")}


@cache
def _major_minor(name: str) -> str:
    return ".".join(version(name).split(".")[:2])  # parses the package's metadata, and every node asks


def plain(recipe: Any, *, without: Iterable[str] = ()) -> dict[str, Any]:
    """Return a recipe as plain JSON for an identity."""
    return {key: value for key, value in dataclasses.asdict(recipe).items() if key not in set(without)}


def in_order(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes and all their ancestors once each, parents first."""
    ordered: dict[str, Node] = {}

    def visit(node: Node) -> None:
        if node.key in ordered:
            return
        for parent in node.parents:
            visit(parent)
        ordered[node.key] = node

    for node in nodes:
        visit(node)
    return list(ordered.values())
