"""What the command and the processes that compute elsewhere must have in common: versions, methods, streams, keys."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from ctbench.engine.identity import StageIdentity
from ctbench.engine.node import NODE_SCHEMA, Node, library_versions
from ctbench.errors import BadConfig, BadPlugin
from ctbench.plugins.find import find_plugin
from ctbench.plugins.source import source_digest


def versions() -> dict[str, str]:
    """Return the versions that must be the same everywhere."""
    return {"ctbench": version("ctbench"), "schema of nodes": str(NODE_SCHEMA), **library_versions()}


def check_versions(planned: dict[str, str]) -> None:
    """Refuse to compute with other versions than the submitter's.

    Raises:
        BadConfig: the versions of both.
    """
    found = versions()
    if found != planned:
        names = sorted(name for name in {*found, *planned} if found.get(name) != planned.get(name))
        pairs = (f"{name} {planned.get(name, 'none')} there, {found.get(name, 'none')} here" for name in names)
        raise BadConfig(f"the launch was submitted with other versions: {'; '.join(pairs)}")


def check_nodes(nodes: Sequence[Node], keys: Sequence[str]) -> None:
    """Refuse nodes whose methods and streams are not here, or are others than the submitter's.

    Raises:
        CTBenchError: what is missing or differs.
    """
    methods = {}
    for node in nodes:
        lm = node.identity if isinstance(node.identity, StageIdentity) else getattr(node.identity, "lm", None)
        if node.lookup.method is not None and lm is not None and lm.method is not None:
            methods[node.lookup.method] = lm.method.digest
    for stream in sorted({node.lookup.stream for node in nodes}):
        find_plugin("stream", stream)
    for name, digest in sorted(methods.items()):
        plugin = find_plugin("method", name)
        if source_digest(plugin) != digest:
            raise BadPlugin(f"method '{plugin.name}' is not the one that was submitted; run the same command again")
    if any(node.key != key for node, key in zip(nodes, keys, strict=True)):
        raise BadConfig("the nodes have other keys here; submitter and jobs must use the same installation of ctbench")
