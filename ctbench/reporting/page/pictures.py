"""The plots of the HTML page: matplotlib figures as inline SVG, coloured by CSS variables, with a title on every point."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np

from ctbench.errors import MissingResult, one_line
from ctbench.reporting import numbers
from ctbench.reporting.entries import Entry
from ctbench.reporting.plots.curves import BAND_ID, PANELS, draw_anytime_panel, has_bands
from ctbench.reporting.plots.looks import COLOURS, looks_of
from ctbench.reporting.plots.scatters import Place, draw_cost_points, draw_transfer_points, name_points
from ctbench.reporting.plots.stages import draw_general_panel
from ctbench.reporting.plots.style import FAINT, GREY, INK, styled
from ctbench.results.metrics import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (3.7, 2.75)
"""Width and height of a plot in inches; the page scales it."""

VARIABLES = {INK: "--ink", GREY: "--grey", FAINT: "--faint", "#ffffff": "--paper", "#000000": "--ink"} | {
    colour: f"--line-{index}" for index, colour in enumerate(COLOURS)
}
"""CSS variable of each colour in a figure."""

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_NEEDLESS = ("stroke-linejoin", "stroke-linecap", "font", "font-family", "font-weight", "stroke-miterlimit")
_TIP = Callable[[str, float, float], str]


def page_plots(entries: Sequence[Entry], metric: Metric, name: str) -> Iterator[str]:
    """Yield the plots of a leaderboard as SVG elements.

    Args:
        entries: methods, in the order of the legend.
        metric: the metric of the plot of score against cost.
        name: prefix of all ids, unique on the page.
    """
    with styled(), _text_as_text():
        yield from _anytime(entries, name)
        yield from _general(entries, name)
        yield from _scatters(entries, metric, name)


def legend_marks(entries: Sequence[Entry], name: str) -> Iterator[str]:
    """Yield a small SVG element with line and marker of each entry."""
    from matplotlib.lines import Line2D

    with styled(), _text_as_text():
        for index, shape in enumerate(looks_of(entries)):
            figure = _figure((0.5, 0.2))
            line = Line2D([0.04, 0.5, 0.96], [0.5] * 3, markevery=[1], linestyle=shape.dash, marker=shape.marker)
            line.set(color=shape.colour, markersize=7, transform=figure.transFigure)
            figure.add_artist(line)
            yield to_svg(figure, f"{name}-legend{index}", "", css_class="swatch")


def share_styles(page: str) -> tuple[str, str]:
    """Return a page whose SVG elements have classes instead of styles, and the CSS of these classes."""
    names: dict[str, str] = {}

    def to_class(found: re.Match[str]) -> str:
        return f'class="{names.setdefault(found[1], f"s{len(names)}")}"'

    def shorten(found: re.Match[str]) -> str:
        return re.sub(r'style="([^"]*)"', to_class, found[0])

    page = re.sub(r"<svg.*?</svg>", shorten, page, flags=re.DOTALL)
    return page, "".join(f".{name}{{{style}}}" for style, name in names.items())


def _anytime(entries: Sequence[Entry], name: str) -> Iterator[str]:
    figures = []
    for panel in range(len(PANELS)):
        figure = _figure(SIZE, layout="constrained")
        draw_anytime_panel(figure.subplots(), entries, panel, has_bands=has_bands(entries))
        figures.append(figure)
    limits = np.array([figure.axes[0].get_ylim() for figure in figures])
    for panel, figure in enumerate(figures):
        axis = figure.axes[0]
        axis.set_ylim(limits[:, 0].min(), limits[:, 1].max())
        axis.set_ylabel("mean score, %")
        _hide_frame(axis)
        description = f"mean score over {PANELS[panel]} in percent after each stage"
        yield to_svg(figure, f"{name}-anytime{panel}", description, tip=_stage_tip(PANELS[panel]))


def _stage_tip(panel: str) -> _TIP:
    def tip(label: str, x: float, y: float) -> str:
        place = f"after stage {x:.0f}" if x else "untouched LM"
        return f"{label}, {panel}, {place}: {y:.1f} %"

    return tip


def _general(entries: Sequence[Entry], name: str) -> Iterator[str]:
    """Yield the plot of the loss of general text, unless no entry has one."""
    figure = _figure(SIZE, layout="constrained")
    axis = figure.subplots()
    try:
        draw_general_panel(axis, entries)
    except MissingResult:
        return
    axis.set_title("general text")
    axis.set_ylabel("held-out LM loss, nats")
    _hide_frame(axis)
    description = "held-out LM loss of general text in nats after each stage"
    yield to_svg(figure, f"{name}-general", description, tip=_loss_tip)


def _loss_tip(label: str, x: float, y: float) -> str:
    return f"{label}, general text, {f'after stage {x:.0f}' if x else 'untouched LM'}: {y:.4f} nats"


def _scatters(entries: Sequence[Entry], metric: Metric, name: str) -> Iterator[str]:
    """Yield the scatter plots that are defined for at least one entry."""
    cost = "forward_tokens"
    drawers: dict[str, tuple[Callable[[Axes], list[Place]], str, _TIP]] = {
        "transfer": (
            lambda axis: draw_transfer_points(axis, entries, has_bars=False),
            "FWT_all against forgetting",
            lambda label, x, y: f"{label}: FWT_all {y:.1f}, forgetting {x:.1f} points",
        ),
        "cost": (
            lambda axis: draw_cost_points(axis, entries, metric=metric, cost=cost, has_bars=False),
            f"{metric.name} against forward tokens",
            lambda label, x, y: f"{label}: {metric.name} {y:.1f}, {numbers.count(x)} forward tokens",
        ),
    }
    for kind, (draw, title, tip) in drawers.items():
        figure = _figure(SIZE, layout="constrained")
        axis = figure.subplots()
        try:
            places = draw(axis)
        except MissingResult:
            continue
        axis.set_title(title)
        _hide_frame(axis)
        name_points(figure, axis, places, size=7.5, has_halo=False)
        yield to_svg(figure, f"{name}-{kind}", f"{title}, one point per method", tip=tip)


def _figure(size: tuple[float, float], layout: str = "none") -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout=layout)  # type: ignore[arg-type]  # a literal upstream
    figure.patch.set_visible(False)
    return figure


def _hide_frame(axis: Axes) -> None:
    axis.patch.set_visible(False)
    axis.tick_params(length=0)


def _text_as_text() -> AbstractContextManager[None]:
    import matplotlib as mpl

    return mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "page"})


def to_svg(figure: Figure, name: str, description: str, *, css_class: str = "chart", tip: _TIP | None = None) -> str:
    """Return a figure as an SVG element for an HTML page.

    Args:
        figure: lines whose gid ends in `entry` and a number become groups of the CSS classes `entry` and `e` + number.
        name: prefix of all ids.
        description: for screen readers; empty hides the element from them.
        css_class: class of the element.
        tip: returns the title of a point from the label of its line and its coordinates.
    """
    from matplotlib.text import Text

    for label in figure.findobj(Text):  # a control character in a name would be no XML
        label.set_text("\n".join(one_line(line) for line in label.get_text().split("\n")))
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    root = ET.fromstring(file.getvalue())
    for gid, titles in _titles(figure, tip).items():
        _add_titles(root, gid, titles)
    for group in root.iter(f"{_SVG}g"):
        if group.get("id", "").startswith(BAND_ID):
            group.set("class", f"band e{group.get('id', '').rpartition('entry')[2]}")
    used = _defined_paths(root, name)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style", f"{_SVG}clipPath"):
                parent.remove(child)
        _clean(parent, used)
    view = root.get("viewBox", "")
    root.attrib = {"class": css_class, "viewBox": view}
    root.attrib |= {"role": "img", "aria-label": description} if description else {"aria-hidden": "true"}
    _drop_empty(root)
    text = ET.tostring(root, encoding="unicode").replace(' xmlns:ns0="http://www.w3.org/2000/svg"', "")
    return re.sub(r">\s+<", "><", text.replace("<ns0:", "<").replace("</ns0:", "</"))


def _titles(figure: Figure, tip: _TIP | None) -> dict[str, list[str]]:
    """Return the titles of the points of every line with a gid."""
    found: dict[str, list[str]] = {}
    for axis in figure.axes:
        for line in axis.get_lines():
            if line.get_gid() and tip is not None:
                points = np.column_stack([np.asarray(data, dtype=float) for data in line.get_data()])
                known = points[~np.isnan(points).any(axis=1)]
                found[str(line.get_gid())] = [one_line(tip(str(line.get_label()), x, y)) for x, y in known.tolist()]
    return found


def _add_titles(root: ET.Element, gid: str, titles: Sequence[str]) -> None:
    group = root.find(f".//*[@id='{gid}']")
    if group is None:
        return
    number = gid.rpartition("entry")[2]
    group.set("class", f"entry e{number}")
    for mark, title in zip(group.iter(f"{_SVG}use"), titles, strict=True):
        ET.SubElement(mark, f"{_SVG}title").text = title


def _defined_paths(root: ET.Element, name: str) -> dict[str, str]:
    """Return the new id of every path that the figure refers to, by its old id."""
    old = dict.fromkeys(use.get(_LINK, "").removeprefix("#") for use in root.iter(f"{_SVG}use"))
    return {each: f"{name}-{index}" for index, each in enumerate(old)}


def _clean(element: ET.Element, used: dict[str, str]) -> None:
    """Shorten an element: new ids, CSS variables for colours, one decimal, no defaults."""
    for key in ("clip-path", f"{_SVG}space"):
        element.attrib.pop(key, None)
    identity = element.attrib.pop("id", "")
    if identity in used:
        element.set("id", used[identity])
    if _LINK in element.attrib:
        element.set("href", "#" + used[element.attrib.pop(_LINK).removeprefix("#")])
    if "style" in element.attrib:
        _set_style(element, element.attrib.pop("style"))
    digits = 2 if identity in used else 1
    for key in ("d", "x", "y", "transform"):
        if key in element.attrib:
            element.set(key, _rounded(element.attrib[key], digits))
    if element.attrib.get("transform", "").startswith(("rotate(-0 ", "rotate(0 ")):
        del element.attrib["transform"]


def _rounded(text: str, digits: int) -> str:
    short = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.{digits}f}".rstrip("0").rstrip("."), text)
    return re.sub(r"\s+", " ", short).strip()


def _set_style(element: ET.Element, style: str) -> None:
    """Set the declarations of a style that the page does not set for all plots."""
    kept = []
    for declaration in style.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font" and element.tag == f"{_SVG}text":
            kept.append(f"font-size:{value.split()[0] if value[0].isdigit() else '9px'}")
        elif key and key not in _NEEDLESS:
            variable = VARIABLES.get(value.lower())
            kept.append(f"{key}:{f'var({variable})' if variable else value}".replace(": ", ":"))
    if kept:
        element.set("style", ";".join(kept))


def _drop_empty(element: ET.Element) -> None:
    """Remove groups and definitions without content, and comments' white space."""
    for child in list(element):
        _drop_empty(child)
        is_group = child.tag in (f"{_SVG}g", f"{_SVG}defs")
        if is_group and len(child) == 0:
            element.remove(child)
        elif child.tag == f"{_SVG}g" and not child.attrib and len(child) == 1:
            element[list(element).index(child)] = child[0]
