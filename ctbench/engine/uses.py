"""Which results each entry of the store was made for.

A result names its base, its stages and its cells. The rest is told by the records of nodes, which name what they come from:
trunks, warm-ups and stages of other methods that a used node goes on from, the LM losses of a used LM, and the control. Of
what no record tells (packed text, losses of a base that is no node) every result on its stream counts as made from it, so
that nothing that is needed is called unused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ctbench.engine.inventory import Entry
from ctbench.results.schema import Result

Uses = defaultdict[str, dict[str, None]]
"""Names of results by key of a node or by name of a stream, each once and in order."""


def with_results(entries: Iterable[Entry], results: Iterable[Result]) -> list[Entry]:
    """Return the entries with the results that were made from them."""
    entries = list(entries)
    nodes, streams, controls = _named(results)
    _add_controls(nodes, entries, controls)
    for entry in entries:
        for key in entry.lineage:
            nodes[key] |= nodes.get(entry.key, {})
    _add_losses(nodes, entries, streams)
    return [replace(entry, results=tuple(_uses(entry, nodes, streams))) for entry in entries]


def _uses(entry: Entry, nodes: Uses, streams: Uses) -> dict[str, None]:
    """Return the results of an entry that is whole; what crashes left behind has none."""
    if entry.kind == "corpus":
        return streams.get(entry.stream, {})
    return nodes.get(entry.key, {}) if entry.kind in ("base", "stage", "loss", "cell") else {}


def _named(results: Iterable[Result]) -> tuple[Uses, Uses, Uses]:
    """Return the results by what they name: by keys of nodes, by their stream, and by that of their control."""
    nodes, streams, controls = Uses(dict), Uses(dict), Uses(dict)
    for result in results:
        name = {f"{result.method.name} on {result.stream.name}, seed {result.seed}": None}
        keys = {result.backbone.digest, *(stage.key for stage in result.stages)}
        for key in keys | {key for cell in result.cells for key in (cell.key, cell.source)}:
            nodes[key] |= name
        streams[result.stream.name] |= name
        if result.control is not None:
            controls[result.stream.name] |= name
    return nodes, streams, controls


def _add_controls(nodes: Uses, entries: Sequence[Entry], controls: Uses) -> None:
    """Add the stages of the control, which have no method, and the cells of their LMs: no result names them."""
    stages = {entry.key: entry.stream for entry in entries if entry.kind == "stage" and not entry.method}
    for key, stream in stages.items():
        nodes[key] |= controls.get(stream, {})
    for entry in entries:
        if entry.kind == "cell" and entry.lineage and entry.lineage[-1] in stages:
            nodes[entry.key] |= nodes[entry.lineage[-1]]


def _add_losses(nodes: Uses, entries: Sequence[Entry], streams: Uses) -> None:
    for entry in entries:
        if entry.kind == "loss":
            found = nodes.get(entry.lineage[-1], {}) if entry.lineage else streams.get(entry.stream, {})
            nodes[entry.key] |= found
