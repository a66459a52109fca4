"""Heat maps of matrices: scores of methods side by side, and the difference of two methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ctbench.errors import MissingResult
from ctbench.reporting.entries import Entry
from ctbench.reporting.plots.quantity import SCORES, Quantity
from ctbench.reporting.plots.style import FAINT, GREY, INK, diverging, ink_on, sequential, wrapped
from ctbench.reporting.statistics.intervals import mean_interval
from ctbench.reporting.summary import row_names
from ctbench.results.matrix import Array
from ctbench.results.schema import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

CELL = (0.78, 0.47)
"""Width and height of a cell in inches; heat maps compute their layout, which is several times faster than matplotlib's."""

GAP = 0.09
"""Space between row 0 and the stages."""

LETTER = 0.078
"""Width of an average letter."""

TITLE, LINE, BAR = 0.34, 0.17, 0.95
"""Height of a panel's title of one line, of each further line, and width of the colour bar with its labels."""


def same_order(entries: Sequence[Entry]) -> dict[str, list[Result]]:
    """Return by label the runs in one order of domains that all entries have, the stream's own if possible.

    Raises:
        MissingResult: the entries share no order.
    """
    shared = set.intersection(*({order for order, _ in entry.results} for entry in entries))
    if not shared:
        raise MissingResult(f"{' and '.join(entry.label for entry in entries)} have no order of domains in common")
    order = min(shared)
    return {entry.label: [result for (o, _), result in entry.results.items() if o == order] for entry in entries}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One matrix in a figure.

    Args:
        label: title.
        values: values of the colours [T+1, T].
        texts: texts of the cells [T+1][T].
        result: any of its runs, for the names of rows and columns.
    """

    label: str
    values: Array
    texts: Sequence[Sequence[str]]
    result: Result


def draw_matrices(figure: Figure, entries: Sequence[Entry], quantity: Quantity = SCORES) -> None:
    """Draw the mean matrix of each entry, all on one scale."""
    runs = same_order(entries)
    panels = []
    for label, each in runs.items():
        mean = np.mean([quantity.matrix(result) for result in each], axis=0)
        texts = [[quantity.text(value) for value in row] for row in mean.tolist()]
        panels.append(Panel(label=label, values=mean, texts=texts, result=each[0]))
    low = min(float(np.nanmin(panel.values)) for panel in panels)
    high = max(float(np.nanmax(panel.values)) for panel in panels)
    counts = sorted({len(each) for each in runs.values()})
    note = "framed: domain just learned · hatched: not seen yet"
    limits = (low, high if high > low else low + 1)
    title = _title(entries, counts, panels[0].result)
    colours = sequential().reversed() if quantity.is_loss else sequential()
    _draw(figure, panels, (colours, limits, f"{quantity.name}, {quantity.unit}"), (title, note))


def draw_difference(figure: Figure, first: Entry, second: Entry, quantity: Quantity = SCORES) -> None:
    """Draw the mean difference of two entries over their shared runs; a dot marks 95 % intervals that exclude 0."""
    runs = same_order([first, second])
    ours = {result.seed: result for result in runs[first.label]}
    theirs = {result.seed: result for result in runs[second.label]}
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        raise MissingResult(f"{first.label} and {second.label} share no run seed")
    differences = np.array([quantity.matrix(ours[seed]) - quantity.matrix(theirs[seed]) for seed in seeds])
    mean = differences.mean(axis=0)
    least = quantity.step / 4
    limit = max(least, float(np.nanmax(np.abs(mean)))) if not np.isnan(mean).all() else 2 * least
    texts = [
        [
            quantity.text(value, signed=True).replace("-", "−")
            + (" •" if mean_interval(differences[:, row, column]).excludes_zero else "")
            for column, value in enumerate(values)
        ]
        for row, values in enumerate(mean.tolist())
    ]
    label = f"{first.label} minus {second.label}"
    panel = Panel(label=label, values=mean, texts=texts, result=ours[seeds[0]])
    note = "framed: domain just learned · hatched: not seen yet"
    note += " · •: 95 % interval excludes 0" if len(seeds) > 1 else ""
    title = _title([first, second], [len(seeds)], panel.result)
    colours = diverging().reversed() if quantity.is_loss else diverging()
    _draw(figure, [panel], (colours, (-limit, limit), f"difference, {quantity.difference}"), (title, note))


def _num_columns(count: int) -> int:
    return count if count <= 3 else 2 if count == 4 else 3


def _draw(
    figure: Figure,
    panels: Sequence[Panel],
    scale: tuple[Colormap, tuple[float, float], str],
    words: tuple[str, str],
) -> None:
    """Draw panels in a grid, in inches from the upper left corner, with one colour bar.

    Args:
        figure: an empty figure; its size is set here.
        panels: the matrices.
        scale: colours, limits and label of the colour bar.
        words: the line above and the line below the panels.
    """
    from matplotlib.colors import Normalize

    figure.set_layout_engine(None)
    num_columns = _num_columns(len(panels))
    num_rows = math.ceil(len(panels) / num_columns)
    num_cells, num_tasks = panels[0].values.shape
    names = [name for panel in panels for name in row_names(panel.result)]
    longest = max(len(domain) for panel in panels for domain in panel.result.stream.domains)
    below = 0.24 if longest <= 9 else 0.2 + 0.45 * LETTER * longest
    left = 0.2 + LETTER * max(map(len, names))
    labels = [wrapped(panel.label, num_tasks * CELL[0], size=10.5) for panel in panels]
    panels = [replace(panel, label=label) for panel, label in zip(panels, labels, strict=True)]
    title = TITLE + LINE * max(label.count("\n") for label in labels)
    step = (num_tasks * CELL[0] + 0.3, title + num_cells * CELL[1] + GAP + below + 0.15)
    width = max(left + num_columns * step[0] + BAR, 0.1 + LETTER * max(map(len, words)))
    height = 0.3 + num_rows * step[1] + 0.28
    figure.set_size_inches(width, height)
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    normed = (scale[0], Normalize(*scale[1]))
    for index, panel in enumerate(panels):
        corner = (left + index % num_columns * step[0], 0.3 + title + index // num_columns * step[1])
        _panel(axis, panel, corner, normed, has_names=index % num_columns == 0, is_turned=longest > 9)
    for text, place in zip(words, (0.17, height - 0.15), strict=True):
        axis.text(0.1, place, text, va="center", color=GREY, fontsize=9)
    rows = min(num_rows, 2) * step[1] - title - below - 0.15
    place = (
        (left + num_columns * step[0] - 0.08) / width,
        1 - (0.3 + title + rows) / height,
        0.15 / width,
        rows / height,
    )
    _bar(figure, place, normed, scale[2])


def _panel(
    axis: Axes,
    panel: Panel,
    corner: tuple[float, float],
    normed: tuple[Colormap, Normalize],
    *,
    has_names: bool,
    is_turned: bool,
) -> None:
    """Draw one matrix with frames, hatches, texts and names, and a gap below row 0."""
    num_rows, num_tasks = panel.values.shape
    shades = normed[0](normed[1](np.nan_to_num(panel.values)))
    shades[np.isnan(panel.values)] = (0.933, 0.941, 0.953, 1.0)
    places = [(row, column) for row in range(num_rows) for column in range(num_tasks)]
    inks = {place: GREY if math.isnan(panel.values[place]) else ink_on(shades[place]) for place in places}
    _boxes(axis, corner, places, facecolor=[shades[place] for place in places], edgecolor="white", linewidth=1.2)
    unseen = [place for place in places if 0 < place[0] <= place[1] and not math.isnan(panel.values[place])]
    for ink, colour in (("white", "#ffffff59"), (INK, "#1d243326")):
        hatched = [place for place in unseen if inks[place] == ink]
        _boxes(axis, corner, hatched, facecolor="none", edgecolor=colour, hatch="////", linewidth=0)
    for top, height in ((0.0, CELL[1]), (CELL[1] + GAP, (num_rows - 1) * CELL[1])):
        _outline(axis, corner[0], corner[1] + top, num_tasks * CELL[0], height)
    if len(panel.result.plan.stages) == num_tasks:
        own = [(row, row - 1) for row in range(1, num_rows)]
        _boxes(axis, corner, own, inset=0.016, facecolor="none", edgecolor=INK, linewidth=2.4)
        _boxes(axis, corner, own, inset=0.036, facecolor="none", edgecolor="white", linewidth=1.0)
    for place in places:
        x, y = _middle(corner, *place)
        axis.text(
            x, y, panel.texts[place[0]][place[1]], ha="center", va="center_baseline", color=inks[place], fontsize=10
        )
    _names(axis, panel, corner, has_names=has_names, is_turned=is_turned)


def _names(axis: Axes, panel: Panel, corner: tuple[float, float], *, has_names: bool, is_turned: bool) -> None:
    axis.text(corner[0], corner[1] - 0.07, panel.label, va="bottom", fontsize=10.5, fontweight="bold")
    for row, name in enumerate(row_names(panel.result) if has_names else []):
        axis.text(corner[0] - 0.08, _middle(corner, row, 0)[1], name, ha="right", va="center", fontsize=9)
    bottom = corner[1] + len(panel.values) * CELL[1] + GAP + 0.07
    turned: dict[str, Any] = (
        {"ha": "right", "rotation": 25, "rotation_mode": "anchor"} if is_turned else {"ha": "center"}
    )
    for column, domain in enumerate(panel.result.stream.domains):
        axis.text(_middle(corner, 0, column)[0], bottom, domain, va="top", fontsize=9, **turned)


def _middle(corner: tuple[float, float], row: int, column: int) -> tuple[float, float]:
    return corner[0] + (column + 0.5) * CELL[0], corner[1] + (row + 0.5) * CELL[1] + (GAP if row else 0.0)


def _boxes(
    axis: Axes, corner: tuple[float, float], places: Sequence[tuple[int, int]], *, inset: float = 0.0, **look: Any
) -> None:
    """Draw the boxes of the cells at `places` as one collection."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    width, height = CELL[0] - 2 * inset, CELL[1] - 2 * inset
    middles = [_middle(corner, *place) for place in places]
    boxes = [Rectangle((x - width / 2, y - height / 2), width, height) for x, y in middles]
    axis.add_collection(PatchCollection(boxes, **look), autolim=False)


def _outline(axis: Axes, left: float, top: float, width: float, height: float) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=FAINT, linewidth=1.0))


def _bar(
    figure: Figure, place: tuple[float, float, float, float], normed: tuple[Colormap, Normalize], label: str
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(6, steps=[1, 2, 5, 10])
    bar = figure.colorbar(ScalarMappable(norm=normed[1], cmap=normed[0]), cax=figure.add_axes(place), ticks=ticks)
    bar.outline.set_visible(False)
    bar.set_label(label)


def order_of(result: Result, entries: Sequence[Entry]) -> str:
    """Return which order of the domains a plot shows; empty if all runs have the same order."""
    is_one = len({order for entry in entries for order, _ in entry.results}) == 1
    return "" if is_one else f", order {result.order}"


def _title(entries: Sequence[Entry], counts: list[int], first: Result) -> str:
    count = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    runs = f"mean of {count} runs" if counts[-1] > 1 else f"seed {first.seed}"
    runs += order_of(first, entries)
    return f"{first.stream.name} v{first.stream.version} · {first.backbone.name} · {runs}"
