"""Which nodes of a result are computed again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ctbench.data.schema import GENERAL
from ctbench.engine.expand import RunGraph
from ctbench.engine.node import Node
from ctbench.errors import BadConfig
from ctbench.plans import BASE
from ctbench.randomness import make_generator
from ctbench.results.schema import Result


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A measured node with what the result says of it.

    Args:
        node: what is computed again.
        source: number of the stage whose LM is measured; 0 for the untouched LM.
        stored: numbers of the result: of a cell its scores by metric, of a loss the losses by domain.
    """

    node: Node
    source: int
    stored: dict[str, float]


def choose(
    result: Result, run: RunGraph, count: int, seed: int, *, sources: Collection[int] | None = None
) -> list[Measured]:
    """Return some measured nodes of a result, drawn without replacement; all of them if there are fewer.

    Args:
        result: what is verified.
        run: the same run here.
        count: how many nodes.
        seed: of the draw.
        sources: stages whose LMs may be measured; None for all.

    Raises:
        BadConfig: the result holds no number of those LMs.
    """
    every = [*_cells(result, run), *_losses(result, run), *_general(result, run)]
    every = [each for each in every if each.stored and (sources is None or each.source in sources)]
    if not every:
        raise BadConfig("the result holds no scores and no losses of these LMs, so there is nothing to compute again")
    places = make_generator(seed, [result.key], "verify").permutation(len(every))[:count]
    return [every[place] for place in sorted(places)]


def _cells(result: Result, run: RunGraph) -> list[Measured]:
    scores = {(cell.row, cell.domain, cell.finetune_seed): cell for cell in result.cells}
    found: dict[str, Measured] = {}
    for row, sources in enumerate(run.plan.cells):
        for source, name in zip(sources, run.stream.names, strict=True):
            for (of, domain, seed), node in run.cells.items():
                cell = scores.get((row, name, seed))
                if (of, domain) != (source, name) or cell is None or cell.score is None:
                    continue
                metric = result.stream.metric[name]
                stored = {
                    metric: cell.score,
                    **{key: value for key, value in cell.metrics.items() if value is not None and key != metric},
                }
                found.setdefault(node.key, Measured(node=node, source=of, stored=stored))
    return list(found.values())


def _losses(result: Result, run: RunGraph) -> list[Measured]:
    found: dict[int, dict[str, float]] = {}
    for row, sources in enumerate(run.plan.cells):
        for column, (source, name) in enumerate(zip(sources, run.stream.names, strict=True)):
            value = float(result.lm_loss[row, column])
            if source is not None and value == value:
                found.setdefault(source, {})[name] = value
    return [Measured(node=run.losses[source], source=source, stored=stored) for source, stored in found.items()]


def _general(result: Result, run: RunGraph) -> list[Measured]:
    """Return the losses of general text, in rows that hold one LM alone; other rows have a mean."""
    found: dict[int, Measured] = {}
    for row, value in enumerate(result.general_loss):
        sources = {*run.plan.cells[row]}
        source = next(iter(sources))
        if value is not None and len(sources) == 1 and source is not None and source in run.general:
            found.setdefault(source, Measured(node=run.general[source], source=source, stored={GENERAL: value}))
    return list(found.values())


def stages_below(run: RunGraph, sources: Collection[int]) -> list[int]:
    """Return the numbers of the stages that LMs come from, those that they go on from included, in order."""
    found: set[int] = set()
    for source in sources:
        while source != BASE:
            found.add(source)
            source = run.plan.parents[source - 1]
    return sorted(found)
