"""Whether a result has the numbers that its plan asks for, each once: a number without a record is never drawn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import Final

from ctbench.engine.costs import total_cost
from ctbench.engine.expand import RunGraph
from ctbench.errors import listing
from ctbench.plans import BASE
from ctbench.results.format import to_record
from ctbench.results.schema import CellRecord, Result

MOST: Final = 3
"""Number of places that a line names; the others are counted."""
ROUNDING: Final = 1e-9
"""Relative difference below which two sums of the same numbers are equal."""
UNCHECKED: Final = "costs that are timed, standard errors and bits per byte of losses"
"""What no part of a verification looks at, in every result."""


def lacking(result: Result, run: RunGraph) -> list[str]:
    """Return a line for each kind of record that is missing, doubled, empty or at odds with another; empty if none is.

    Args:
        result: as it was handed in; its plan, stream and recipe are those of `run`.
        run: what its command line means here.
    """
    return [
        *_places(result, run),
        *_scores(result),
        *_matrix(result),
        *_shared(result, run),
        *_losses(result, run),
        *_general(result),
        *_stages(result, run),
        *_cost(result, run),
    ]


def unverified(result: Result) -> str:
    """Return what a result says that no part of a verification looks at."""
    found = [UNCHECKED]
    if any(len({*row}) > 1 for row in result.plan.cells) and any(value is not None for value in result.general_loss):
        found.append("losses of general text in rows of several LMs")
    if any(stage.probes for stage in result.stages):
        found.append("probes")
    if result.control is not None:
        found.append("scores and losses of the control")
    return f"not verified: {', '.join(found)}"


def _places(result: Result, run: RunGraph) -> Iterator[str]:
    seeds = run.stream.recipe.finetune.seeds_of
    wanted = Counter(
        (row, name, seed)
        for row, sources in enumerate(run.plan.cells)
        for source, name in zip(sources, run.stream.names, strict=True)
        if source is not None
        for seed in seeds(is_base=source == BASE)
    )
    found = Counter((cell.row, cell.domain, cell.finetune_seed) for cell in result.cells)
    if result.is_complete and (missing := wanted - found):
        yield f"cells: no record of {_named(missing)}, which the plan and its seeds ask for"
    if more := found - wanted:
        yield f"cells: more records than the plan and its seeds ask for, of {_named(more)}"


def _scores(result: Result) -> Iterator[str]:
    empty = [cell for cell in result.cells if cell.score is None]
    if result.is_complete and empty:
        yield f"cells: no score of {_cells(empty)}, though the result names no failure"
    metric = result.stream.metric
    other = [cell for cell in result.cells if cell.metrics.get(metric[cell.domain], cell.score) != cell.score]
    if other:
        yield f"cells: the score is not the task's own metric in {_cells(other)}"


def _matrix(result: Result) -> Iterator[str]:
    scored: dict[tuple[int, str], bool] = {}
    for cell in result.cells:
        place = cell.row, cell.domain
        scored[place] = scored.get(place, True) and cell.score is not None
    places = [
        (row, name)
        for row, scores in enumerate(result.matrix.tolist())
        for name, score in zip(result.stream.domains, scores, strict=True)
        if not math.isnan(score) and not scored.get((row, name))
    ]
    if places:
        yield f"matrix: a score without scores of its cells in {_named(places)}"


def _shared(result: Result, run: RunGraph) -> Iterator[str]:
    """Yield a line if one node has several scores: rows that share a cell must agree, and seeds where nothing is tuned."""
    scores: dict[str, set[Hashable]] = {}
    for cell in result.cells:
        source = run.plan.cells[cell.row][run.stream.names.index(cell.domain)]
        node = None if source is None else run.cells.get((source, cell.domain, cell.finetune_seed))
        said = cell.score, tuple(sorted(cell.metrics.items(), key=lambda item: item[0]))
        for key in {cell.key, *([node.key] if node else [])}:
            scores.setdefault(key, set()).add(said)
    if wrong := [key[:16] for key, values in scores.items() if len(values) > 1]:
        yield f"cells: rows give different scores of one and the same node ({listing(wrong, most=MOST)})"


def _losses(result: Result, run: RunGraph) -> Iterator[str]:
    losses: dict[tuple[int, str], set[float]] = {}
    empty, more = [], []
    for row, sources in enumerate(run.plan.cells):
        for source, name, loss in zip(sources, run.stream.names, result.lm_loss[row].tolist(), strict=True):
            if source is None:
                more += [] if math.isnan(loss) else [(row, name)]
            elif math.isnan(loss):
                empty.append((row, name))
            else:
                losses.setdefault((source, name), set()).add(loss)
    if result.is_complete and empty:
        yield f"lm_loss: no loss in {_named(empty)}, though the result names no failure"
    if more:
        yield f"lm_loss: a loss in {_named(more)}, for which the plan has no LM"
    if wrong := [(f"stage {source}", name) for (source, name), values in losses.items() if len(values) > 1]:
        yield f"lm_loss: rows give different losses of one and the same LM ({_named(wrong)})"


def _general(result: Result) -> Iterator[str]:
    """Yield lines on losses of general text; none at all is what streams without it have, and so have older results."""
    losses: dict[int, set[float]] = {}
    empty, more = [], []
    for row, value in enumerate(result.general_loss):
        sources = {*result.plan.cells[row]}
        source = next(iter(sources))
        if value is None:
            empty += [] if None in sources else [f"row {row}"]
        elif None in sources:
            more.append(f"row {row}")
        elif len(sources) == 1 and source is not None:
            losses.setdefault(source, set()).add(value)
    if result.is_complete and empty and any(value is not None for value in result.general_loss):
        yield f"general_loss: no loss in {listing(empty, most=MOST)}, though the result names no failure"
    if more:
        yield f"general_loss: a loss in {listing(more, most=MOST)}, for which the plan has no LM"
    if wrong := [f"stage {source}" for source, values in losses.items() if len(values) > 1]:
        yield f"general_loss: rows give different losses of one and the same LM ({listing(wrong, most=MOST)})"


def _stages(result: Result, run: RunGraph) -> Iterator[str]:
    wanted = Counter({number: 1 for number, _ in enumerate(run.plan.stages, start=1)})
    found = Counter(stage.stage for stage in result.stages)
    if result.is_complete and (missing := wanted - found):
        yield f"stages: no record of stage {listing(missing, most=MOST)}, which the plan asks for"
    if more := found - wanted:
        yield f"stages: more records than the plan asks for, of stage {listing(more, most=MOST)}"
    if wrong := [
        stage.stage
        for stage in result.stages
        if stage.stage in wanted and stage.domains != run.plan.stages[stage.stage - 1]
    ]:
        yield f"stages: other domains than the plan's in stage {listing(wrong, most=MOST)}"


def _cost(result: Result, run: RunGraph) -> Iterator[str]:
    """Yield a line for each total that is not what the records of stages and cells add up to."""
    record = to_record(result)
    cells = [cell for cell in record["cells"] if cell["score"] is not None]  # a node that failed cost nothing known
    for name, value in total_cost(run.plan.kept, record["stages"], cells).items():
        stored = record["cost"][name]
        if not _near(stored, value):
            said, summed = ("absent" if number is None else f"{number:,}" for number in (stored, value))
            yield f"cost {name}: {said} in the result, {summed} by its stages and cells"


def _near(stored: float | None, computed: float | None) -> bool:
    if stored is None or computed is None:
        return stored is computed
    return math.isclose(stored, computed, rel_tol=ROUNDING, abs_tol=ROUNDING)


def _cells(cells: Iterable[CellRecord]) -> str:
    return _named((cell.row, cell.domain, cell.finetune_seed) for cell in cells)


def _named(places: Iterable[tuple[object, ...]]) -> str:
    """Return places in a row: "row 5 kitchen seed 0"."""
    words = ("row ", "", "seed ")
    shown = [
        " ".join(part if isinstance(part, str) else f"{word}{part}" for word, part in zip(words, place, strict=False))
        for place in places
    ]
    return listing(shown, most=MOST)
