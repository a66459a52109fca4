"""Pictures of results, in one style that is safe for colour-blind readers and legible in black and white."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctbench.errors import BadConfig, MissingResult, UnknownName
from ctbench.metrics import seen_mask, unseen_mask
from ctbench.schema import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "ctbench",
    "pdf.fonttype": 42,
    "figure.dpi": 110,
    "savefig.dpi": 160,
}
LINES = (
    ("#0072b2", "-", "o"),
    ("#d55e00", "--", "s"),
    ("#009e73", ":", "^"),
    ("#cc79a7", "-.", "D"),
    ("#56b4e9", "-", "v"),
)
"""Okabe and Ito's colours, each with a dash and a marker of its own."""


def choose(run: str | None, stream: str | None, method: str | None, folder: Path) -> list[Result]:
    """Return one run by path or key prefix, or the comparable runs of a method on a stream.

    Raises:
        MissingResult: there is none, or runs of several protocols are meant.
    """
    from ctbench.cli.show import find
    from ctbench.results import read_results

    if run is not None:
        return find(run, folder)[:1]
    found = [
        result
        for result in read_results(folder).results
        if not result.not_comparable
        and not any(key.startswith("method.") for key in result.changed)
        and (stream is None or result.stream.name == stream)
        and (method is None or result.method.name == method)
    ]
    kinds = sorted({f"{result.method.name} on {result.stream.name}" for result in found})
    if len(kinds) != 1 or len({result.protocol for result in found}) != 1:
        raise MissingResult(
            f"one run, or the runs of one method on one stream, are wanted; found {', '.join(kinds) or 'none'} under "
            f"{folder}: name a key, or --stream and --method"
        )
    return found


def make_figure(results: Sequence[Result], *, kind: str = "matrix") -> Figure:
    """Return a figure of runs that share stream and method; matrices are means over them.

    Args:
        results: the runs.
        kind: "matrix", "anytime", "loss" or "training".

    Raises:
        UnknownName: no such kind.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    if kind not in _DRAWERS:
        raise UnknownName("kind of plot", kind, _DRAWERS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.6 + 0.95 * max(4, results[0].num_tasks), 4.4), layout="constrained")
        _DRAWERS[kind](figure.add_subplot(), results)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure without dates, so that equal results give equal files.

    Raises:
        BadConfig: the file cannot be written.
    """
    import matplotlib as mpl

    metadata: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix, {})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            figure.savefig(path, metadata=metadata)
    except OSError as error:
        raise BadConfig(f"'{path.name}' cannot be written ({error.strerror})") from error


def _title(results: Sequence[Result]) -> str:
    first = results[0]
    count = f"mean of {len(results)} runs" if len(results) > 1 else f"seed {first.seed}"
    return f"{first.method.name} on {first.stream.name}, {first.backbone.name} ({count})"


def _matrix(axes: Axes, results: Sequence[Result]) -> None:
    """Draw the score matrix: a frame marks the domain just learned, hatching the unseen half."""
    from matplotlib.patches import Rectangle

    first = results[0]
    values = 100 * np.mean([result.matrix for result in results], axis=0)
    image = axes.imshow(values, cmap="cividis", aspect="auto")
    image_range = np.nanmin(values), np.nanmax(values)
    unseen = unseen_mask(first.num_tasks)
    for (row, column), value in np.ndenumerate(values):
        share = (value - image_range[0]) / max(1e-9, image_range[1] - image_range[0])
        ink = "black" if share > 0.55 else "white"
        text = "–" if np.isnan(value) else f"{value:.1f}"
        is_current = row == column + 1
        axes.text(column, row, text, ha="center", va="center", color=ink, weight="bold" if is_current else "normal")
        if unseen[row, column]:
            axes.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", edgecolor=ink, lw=0, alpha=0.28)
            )
        if is_current:
            axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor="#d55e00", lw=2.4))
    axes.axhline(0.5, color="white", lw=2)
    axes.set_xticks(range(first.num_tasks), first.stream.domains, rotation=20, ha="right")
    axes.set_yticks(range(first.num_tasks + 1), ["base", *(f"after {name}" for name in first.stream.domains)])
    axes.set_xlabel("fine-tuned and tested on")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(_title(results) + "\nframed: domain just learned; hatched: not seen yet", fontsize=10, loc="left")
    assert axes.figure is not None
    axes.figure.colorbar(image, ax=axes, label="score, %")


def _anytime(axes: Axes, results: Sequence[Result]) -> None:
    """Draw means over seen, unseen and all domains per stage, with the spread over runs."""
    num_tasks = results[0].num_tasks
    seen, unseen = seen_mask(num_tasks), unseen_mask(num_tasks)
    masks = {"seen": seen, "unseen": unseen, "all": np.ones_like(seen)}
    rows = np.arange(num_tasks + 1)
    for (name, mask), (colour, dash, marker) in zip(masks.items(), LINES, strict=False):
        curves = np.array([[_mean(result.matrix[row][mask[row]]) for row in rows] for result in results]) * 100
        middle = curves.mean(0)
        axes.plot(rows, middle, color=colour, linestyle=dash, marker=marker, label=f"{name} domains")
        if len(results) > 1:
            spread = curves.std(0, ddof=1)
            axes.fill_between(rows, middle - spread, middle + spread, color=colour, alpha=0.15, lw=0)
    _finish(axes, results, "mean score, %")


def _loss(axes: Axes, results: Sequence[Result]) -> None:
    """Draw the held-out LM loss of every domain per stage."""
    values = np.mean([result.lm_loss for result in results], axis=0)
    for column, name in enumerate(results[0].stream.domains):
        colour, dash, marker = LINES[column % len(LINES)]
        axes.plot(range(len(values)), values[:, column], color=colour, linestyle=dash, marker=marker, label=name)
    _finish(axes, results, "held-out LM loss, nats")


def _training(axes: Axes, results: Sequence[Result]) -> None:
    """Draw the training loss of every stage of the first run."""
    for stage in results[0].stages:
        colour, dash, _ = LINES[(stage.stage - 1) % len(LINES)]
        losses = [np.nan if value is None else value for value in stage.losses.get("lm", stage.losses["loss"])]
        axes.plot(stage.steps, losses, color=colour, linestyle=dash, label=f"{stage.stage} {', '.join(stage.domains)}")
    axes.set_xlabel("update")
    axes.set_ylabel("training LM loss, nats")
    axes.set_title(_title(results[:1]), fontsize=10, loc="left")
    axes.legend(frameon=False)


def _finish(axes: Axes, results: Sequence[Result], label: str) -> None:
    axes.set_xticks(range(results[0].num_tasks + 1), ["base", *map(str, range(1, results[0].num_tasks + 1))])
    axes.set_xlabel("after stage")
    axes.set_ylabel(label)
    axes.set_title(_title(results), fontsize=10, loc="left")
    axes.legend(frameon=False)


def _mean(values: Any) -> float:
    return float(np.mean(values)) if values.size else float("nan")


_DRAWERS = {"matrix": _matrix, "anytime": _anytime, "loss": _loss, "training": _training}
