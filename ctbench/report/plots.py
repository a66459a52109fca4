"""Pictures of results: which runs enter one, and which kind it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctbench.errors import MissingResult, UnknownName
from ctbench.metrics import get_metric
from ctbench.report.groups import Choice, Entry, Group, group_results
from ctbench.report.leaderboard import COSTS
from ctbench.report.style import styled
from ctbench.schema import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {
    "matrix": "scores of every method after every stage on every task",
    "difference": "the matrix of one method minus that of another",
    "anytime": "mean score on seen, unseen and all domains after every stage",
    "transfer": "forgetting against forward transfer",
    "cost": "score against cost",
    "loss": "held-out LM loss of every domain after every stage",
    "training": "LM loss on the training text",
}


def make_figure(
    results: Sequence[Result] | Group, *, kind: str = "matrix", metric: str = "anytime", cost: str = "forward_tokens"
) -> Figure:
    """Return a picture of results that may share a table.

    Args:
        results: runs of one stream under one protocol, or a group of them.
        kind: one of KINDS; "difference" needs exactly two methods, the first minus the second in their given order.
        metric: of "cost".
        cost: of "cost".

    Raises:
        UnknownName: no such kind, metric or cost.
        MissingResult: there is nothing to draw, or not the right number of methods.

    Example:
        >>> from ctbench.results import read_results
        >>> figure = make_figure(read_results("results").results[:1], kind="anytime")
    """
    if kind not in KINDS:
        raise UnknownName("kind of picture", kind, KINDS)
    if cost not in COSTS:
        raise UnknownName("cost", cost, COSTS)
    get_metric(metric)
    entries = _entries(results)
    if not entries:
        raise MissingResult("there is no result to draw")
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(layout="constrained")
        _draw(figure, entries, kind, metric, cost)
    return figure


def _draw(figure: Figure, entries: list[Entry], kind: str, metric: str, cost: str) -> None:
    from ctbench.report import curves, heatmaps, scatters

    if kind == "difference":
        plain = [entry for entry in entries if entry.label == entry.name]
        entries = plain if len(plain) == 2 else entries  # two methods as they are, rather than their variants
        if len(entries) != 2:
            names = ", ".join(entry.label for entry in entries)
            raise MissingResult(
                f"a difference needs two methods, found {len(entries)} ({names}); name two with --method"
            )
        heatmaps.draw_difference(figure, *entries)
    elif kind == "matrix":
        heatmaps.draw_matrices(figure, entries)
    elif kind == "cost":
        scatters.draw_cost(figure, entries, metric=metric, cost=cost)
    else:
        drawers = {
            "anytime": curves.draw_anytime,
            "loss": curves.draw_loss,
            "training": curves.draw_training,
            "transfer": scatters.draw_transfer,
        }
        drawers[kind](figure, entries)


def _entries(results: Sequence[Result] | Group) -> list[Entry]:
    """Return the methods in `results`, in the order in which they first appear."""
    if isinstance(results, Group):
        return list(results.entries)
    groups, _ = group_results(results, Choice(everything=True))
    if len(groups) > 1:
        titles = "; ".join(group.title for group in groups[:3])
        raise MissingResult(f"a picture shows one stream under one protocol, these are {len(groups)}: {titles}")
    entries = list(groups[0].entries) if groups else []
    places = {id(result): place for place, result in enumerate(results)}
    return sorted(entries, key=lambda entry: min(places[id(result)] for result in entry.results.values()))


def choose_group(groups: Sequence[Group], methods: Sequence[str] = ()) -> list[Result]:
    """Return the runs of the one main table among `groups`, methods in the order asked for.

    Raises:
        MissingResult: there is none, or there are main tables of several streams.
    """
    main = [group for group in groups if not group.why] or list(groups[:1])
    if not main:
        raise MissingResult("there is no comparable result to draw; name a run, or look with ctbench compare --all")
    if len(main) > 1:
        names = ", ".join(sorted({group.results[0].stream.name for group in main}))
        raise MissingResult(f"a picture shows one stream, there are several: {names}; name one with --stream")
    order = {name: place for place, name in enumerate(methods)}
    return sorted(main[0].results, key=lambda result: order.get(result.method.name, len(order)))
