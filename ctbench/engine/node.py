"""The nodes of a run's graph: a node's key holds everything that its numbers depend on.

A key is the SHA-256 of canonical JSON: the schema, the library versions, the node's identity and the keys of its parents.
Names and paths are not part of it, contents are, so equal work is recognised across methods, seeds and runs, and an edited
method never returns an old matrix.
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

from pydantic import TypeAdapter

from ctbench.data.settings import LATER
from ctbench.engine.identity import Identity, Kind, plain_identity

NODE_SCHEMA: Final = 3
"""Raised when the engine's arithmetic or the layout of an identity changes, so that no older node is used again."""


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """Where a worker finds what an identity holds as fingerprints only; not part of the key.

    Args:
        stream: name or path of the stream; `recipe`, `settings` and `order` as the user asked for them.
        model: an embedded model, a Hugging Face id or a folder.
        online: whether models and data may be fetched.
        threads: CPU threads inside the node.
        base: key of the base node; None for a given checkpoint and a shipped base.
        method: name or path of the method; None where no method is involved.
    """

    stream: str
    recipe: str
    settings: Mapping[str, str]
    order: int
    model: str
    online: bool
    threads: int = 1
    base: str | None = None
    method: str | None = None


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A node as a worker is given it, in another process or not; `parents` are keys.

    Examples:
        >>> from ctbench.engine.identity import Arithmetic, BaseIdentity
        >>> lookup = Lookup(stream="domain", recipe="", settings={}, order=0, model="tiny", online=False)
        >>> arithmetic = Arithmetic(precision="fp32")
        >>> identity = BaseIdentity(model="tiny", text="", recipe={}, arithmetic=arithmetic, seed=0)
        >>> spec = Node(identity=identity, lookup=lookup).spec()
        >>> Spec.from_json(spec.to_json()) == spec
        True
    """

    schema: int = NODE_SCHEMA
    key: str
    identity: Identity = field(metadata={"discriminator": "kind"})
    lookup: Lookup
    parents: tuple[str, ...] = ()
    title: str = ""

    @property
    def kind(self) -> Kind:
        """Kind of the node."""
        return self.identity.kind

    def to_json(self) -> str:
        """Return the spec as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Spec:
        """Read what `to_json` wrote."""
        return _spec_adapter().validate_json(text)


@cache
def _spec_adapter() -> TypeAdapter[Spec]:
    return TypeAdapter(Spec)


@dataclass(frozen=True, kw_only=True)
class Node:
    """One thing to compute.

    Args:
        identity: what its numbers depend on besides the parents.
        lookup: where a worker finds things.
        parents: nodes that must be complete before.
        title: a few words for people.
        label: what the title begins with to tell it from those of other runs of one call.
    """

    identity: Identity
    lookup: Lookup = field(repr=False)
    parents: tuple[Node, ...] = field(default=(), repr=False)
    title: str = ""
    label: str = ""

    @property
    def own_title(self) -> str:
        """The title without its label."""
        return self.title.removeprefix(f"{self.label}: ")

    @property
    def kind(self) -> Kind:
        """Kind of the node."""
        return self.identity.kind

    @cached_property
    def key(self) -> str:
        """The SHA-256 that names this node in the store."""
        return digest(
            {
                "schema": NODE_SCHEMA,
                "versions": library_versions(),
                "identity": plain_identity(self.identity),
                "parents": [parent.key for parent in self.parents],
            }
        )

    def spec(self) -> Spec:
        """Return what a worker computes this node from."""
        parents = tuple(parent.key for parent in self.parents)
        return Spec(key=self.key, identity=self.identity, lookup=self.lookup, parents=parents, title=self.title)


def nodes_of(lines: Iterable[str]) -> dict[str, Node]:
    """Return the nodes whose specs are lines of JSON, parents first, by the key in the spec."""
    found: dict[str, Node] = {}
    for line in lines:
        spec = Spec.from_json(line)
        parents = tuple(found[key] for key in spec.parents)
        found[spec.key] = Node(identity=spec.identity, lookup=spec.lookup, parents=parents, title=spec.title)
    return found


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical JSON of a plain value.

    Examples:
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
    """Return a recipe as plain JSON for an identity, without settings that came later and have their defaults."""
    defaults = {field.name: field.default for field in dataclasses.fields(recipe)}
    left_out = {*without, *(key for key in LATER if key in defaults and getattr(recipe, key) == defaults[key])}
    found = {key: value for key, value in dataclasses.asdict(recipe).items() if key not in left_out}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


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
