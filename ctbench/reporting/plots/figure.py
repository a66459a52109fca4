"""Choose the runs of a plot and draw it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctbench.errors import MissingResult, UnknownName
from ctbench.reporting.entries import Entry
from ctbench.reporting.groups import Choice, Group, group_results
from ctbench.reporting.labels import UNREGISTERED_MARK
from ctbench.reporting.plots.quantity import Quantity, get_quantity
from ctbench.reporting.plots.style import styled
from ctbench.reporting.scores import COSTS
from ctbench.results.failures import incomplete_line
from ctbench.results.loss_metrics import find_metric
from ctbench.results.schema import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTS = {
    "matrix": "scores of every method after every stage on every task",
    "difference": "the matrix of one method minus that of another",
    "anytime": "mean score on seen, unseen and all domains after every stage",
    "transfer": "forgetting against forward transfer",
    "cost": "score against cost",
    "loss": "held-out LM loss of every domain after every stage",
    "general": "held-out LM loss of general text after every stage",
    "stability": "held-out LM loss of past domains and general text inside the stages (needs pretrain.probes)",
    "training": "LM loss on the training text, and the learning rate",
}


def make_figure(
    results: Sequence[Result] | Group,
    *,
    kind: str = "matrix",
    metric: str = "anytime",
    cost: str = "forward_tokens",
    on: str = "score",
) -> Figure:
    """Return a plot of results that may share a table.

    Args:
        results: runs of one stream under one protocol, or a group of them.
        kind: one of PLOTS; "difference" needs exactly two methods and shows the first minus the second.
        metric: metric of the kind "cost".
        cost: cost of the kind "cost".
        on: "score" or "loss", the matrix that the picture is of.

    Raises:
        UnknownName: the kind, metric, cost or matrix does not exist.
        MissingResult: there is no result to draw, or not the right number of methods.

    Examples:
        >>> from ctbench.results.files import read_results
        >>> figure = make_figure(read_results("results").results[:1], kind="anytime")
    """
    if kind not in PLOTS:
        raise UnknownName("kind of plot", kind, PLOTS)
    if cost not in COSTS:
        raise UnknownName("cost", cost, COSTS)
    quantity = get_quantity(on)
    found = find_metric(metric, on)
    entries = _entries(results)
    if not entries:
        raise MissingResult("there is no result to draw")
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(layout="constrained")
        if kind == "cost":
            from ctbench.reporting.plots.scatters import draw_cost

            draw_cost(figure, entries, metric=found, cost=cost)
        else:
            _draw(figure, entries, kind, quantity)
    return figure


def _draw(figure: Figure, entries: list[Entry], kind: str, quantity: Quantity) -> None:
    from ctbench.reporting.plots import curves, heatmaps, scatters, stages, training

    if kind == "difference":
        plain = [entry for entry in entries if entry.label.removesuffix(f" {UNREGISTERED_MARK}") == entry.name]
        entries = plain if len(plain) == 2 else entries  # two methods with default settings, rather than their variants
        if len(entries) != 2:
            names = ", ".join(entry.label for entry in entries)
            raise MissingResult(
                f"a difference needs two methods, found {len(entries)} ({names}); choose two with --method"
            )
        heatmaps.draw_difference(figure, entries[0], entries[1], quantity)
        return
    of_losses = {  # in any case
        "loss": curves.draw_loss,
        "general": stages.draw_general,
        "stability": stages.draw_stability,
        "training": training.draw_training,
    }
    if kind in of_losses:
        of_losses[kind](figure, entries)
    else:
        drawers = {
            "anytime": curves.draw_anytime,
            "matrix": heatmaps.draw_matrices,
            "transfer": scatters.draw_transfer,
        }
        drawers[kind](figure, entries, quantity)


def _entries(results: Sequence[Result] | Group) -> list[Entry]:
    """Return the methods in `results`, in the order in which they first appear."""
    if isinstance(results, Group):
        return list(results.entries)
    groups, _ = group_results(results, Choice(everything=True))
    if len(groups) > 1:
        titles = "; ".join(group.title for group in groups[:3])
        raise MissingResult(f"a plot shows one stream under one protocol; these results have {len(groups)}: {titles}")
    if results and not groups:
        raise MissingResult(f"nothing to draw: {incomplete_line(results[0])}")
    entries = list(groups[0].entries) if groups else []
    places = {id(result): place for place, result in enumerate(results)}
    return sorted(entries, key=lambda entry: min(places[id(result)] for result in entry.results.values()))


def choose_group(groups: Sequence[Group], methods: Sequence[str] = ()) -> list[Result]:
    """Return the runs of the only main table among `groups`, or else of the only table, sorted by `methods`.

    Raises:
        MissingResult: there is no table, or there are tables of several streams or protocols.
    """
    main = [group for group in groups if not group.why] or list(groups)
    if not main:
        raise MissingResult("there is no comparable result to draw; --all draws others, or name runs")
    if len(main) > 1 and len({group.results[0].stream.name for group in main}) == 1:
        titles = "; ".join(group.title for group in main[:3])
        raise MissingResult(f"a plot shows one protocol; name the runs of one of {len(main)}: {titles}")
    if len(main) > 1:
        names = ", ".join(sorted({group.results[0].stream.name for group in main}))
        raise MissingResult(f"a plot shows one stream; choose one with --stream: {names}")
    order = {name: place for place, name in enumerate(methods)}
    return sorted(main[0].results, key=lambda result: order.get(result.method.name, len(order)))
