"""What an LM keeps: general text after every stage, and past domains inside the stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ctbench.errors import MissingResult
from ctbench.reporting.entries import Entry, mean_over_runs
from ctbench.reporting.plots.curves import BAND, BAND_ID, add_title, draw_curve, has_bands, mark_stages, name_lines
from ctbench.reporting.plots.looks import looks_of
from ctbench.reporting.plots.style import GREY
from ctbench.results.figures import as_numbers
from ctbench.results.schema import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_general(figure: Figure, entries: Sequence[Entry]) -> None:
    """Draw the held-out LM loss of general text after each stage, with bands of ± 1 deviation over runs.

    Raises:
        MissingResult: no result holds it.
    """
    figure.set_size_inches(6.4, 4.3)
    axis = figure.subplots()
    known = draw_general_panel(axis, entries)
    axis.set_ylabel("held-out LM loss of general text, nats")
    name_lines(figure, axis, len(known))
    add_title(figure, known, BAND if has_bands(known) else "")


def draw_general_panel(axis: Axes, entries: Sequence[Entry]) -> list[Entry]:
    """Draw the mean loss of general text of each entry after each stage; return the entries that have one.

    Raises:
        MissingResult: no result holds it.
    """
    known = [entry for entry in entries if all(result.general_loss for result in entry.results.values())]
    if not known:
        raise MissingResult("no result holds losses of general text; run the same command again to add them")
    looks, labels = looks_of(entries), [entry.label for entry in entries]
    for entry in known:
        place = labels.index(entry.label)
        curves = np.array([as_numbers(result.general_loss) for result in entry.results.values()])
        mean = mean_over_runs(entry.results, curves)
        line, band = draw_curve(axis, curves, mean, looks[place], entry.label, has_band=has_bands(known))
        line.set_gid(f"general-entry{place}")
        if band is not None:
            band.set_gid(f"{BAND_ID}-general-entry{place}")
    mark_stages(axis, known[0].first.num_tasks)
    return known


def draw_stability(figure: Figure, entries: Sequence[Entry]) -> None:
    """Draw how the held-out losses of past domains and of general text change inside a stage, mean over stages and runs.

    Raises:
        MissingResult: no result holds probes.
    """
    panels = ("past domains", "general text")
    found = {entry.label: [_changes(entry, is_past=name == panels[0]) for name in panels] for entry in entries}
    known = [entry for entry in entries if any(found[entry.label])]
    if not known:
        raise MissingResult("no result was probed inside its stages; run with --set pretrain.probes=8")
    figure.set_size_inches(9.0, 4.1)
    axes = figure.subplots(1, 2, sharey=True)
    for entry, shape in zip(known, looks_of(known), strict=True):
        style: dict[str, Any] = {
            "color": shape.colour,
            "linestyle": shape.dash,
            "marker": shape.marker,
            "markersize": 5,
        }
        for axis, changes in zip(axes, found[entry.label], strict=True):
            steps = sorted(changes)
            axis.plot(steps, [np.mean(changes[step]) for step in steps], label=entry.label, **style)
    for axis, name in zip(axes, panels, strict=True):
        axis.axhline(0, color=GREY, linewidth=0.9)
        axis.set_xscale("symlog", linthresh=1)
        axis.set(title=name, xlabel="updates into the stage")
    axes[0].set_ylabel("change of the held-out LM loss, nats")
    name_lines(figure, axes[0], len(known), at_ends=False)
    add_title(figure, known, "mean over stages and runs")


def _changes(entry: Entry, *, is_past: bool) -> dict[int, list[float]]:
    """Return the changes since the start of the stage by number of updates, over texts, stages and runs."""
    found: dict[int, list[float]] = {}
    for result in entry.results.values():
        for steps, losses in _probes(result, is_past=is_past):
            values = as_numbers(losses)
            for step, change in zip(steps, values - values[0], strict=True):
                found.setdefault(step, []).append(float(change))
    return found


def _probes(result: Result, *, is_past: bool) -> list[tuple[tuple[int, ...], tuple[float | None, ...]]]:
    return [
        (stage.probe_steps, losses)
        for stage in result.stages
        for name, losses in stage.probes.items()
        if (name in result.stream.domains) == is_past and losses
    ]
