"""The one look of all pictures: safe for colour-blind readers, legible in black and white, the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctbench.errors import BadConfig, one_line

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
INK = "#1d2433"
GREY = "#6b7280"
FAINT = "#d9dde5"

_SETTINGS: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titlepad": 8.0,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "hatch.linewidth": 1.1,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "lines.linewidth": 1.9,
    "lines.markersize": 6.0,
    "path.simplify": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 160,
    "svg.hashsalt": "ctbench",
    "text.color": INK,
    "text.parse_math": False,  # a domain may be called "$x$"
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9.0,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9.0,
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one entry is drawn everywhere: a colour, a dash and a marker, each enough to tell it from the others."""

    colour: str
    dash: Any
    marker: str


_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a3457f", "#4c4c4c", "#3f97cf", "#b8860b")
_DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)), (0, (2.6, 1.2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")


def look(index: int) -> Look:
    """Return the look of the entry with this index; the three cycles have no common length, so looks do not repeat."""
    colour, dash = _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)]
    return Look(colour=colour, dash=dash, marker=_MARKERS[index % len(_MARKERS)])


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the house style within this block, whatever the user's own settings are."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def sequential() -> Colormap:
    """Return the colours of scores: pale to dark blue, so that lightness alone orders them."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("scores", ["#f4f7fb", "#c3d8ec", "#7fb0d8", "#3b7fb8", "#123f73"])


def diverging() -> Colormap:
    """Return the colours of differences: orange below 0, blue above, white at 0."""
    from matplotlib.colors import LinearSegmentedColormap

    names = ["#8f3b00", "#d9772b", "#f6c9a0", "#ffffff", "#a9cbe6", "#3b7fb8", "#123f73"]
    return LinearSegmentedColormap.from_list("differences", names)


def ink_on(colour: Any) -> str:
    """Return the text colour that is legible on `colour` (red, green, blue in [0, 1])."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.067 else INK


def save(figure: Figure, path: str | Path) -> Path:
    """Write `figure` as PNG, SVG or PDF; equal figures give equal files.

    Raises:
        BadConfig: for another suffix, or if the file cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    dates: dict[str, dict[str, Any]] = {
        ".png": {"Software": None},
        ".svg": {"Date": None, "Creator": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with styled():
            engine = figure.get_layout_engine()
            if engine is not None:  # laid out once here, matplotlib need not do so in a drawing of its own
                engine.execute(figure)
                figure.set_layout_engine(None)
            figure.savefig(path, metadata=dates[path.suffix.lower()])
    except OSError as error:
        raise BadConfig(f"picture '{one_line(path.name)}' cannot be written ({error.strerror})") from None
    return path


def check_suffix(path: Path) -> None:
    """Make sure that the name says which format is wanted.

    Raises:
        BadConfig: if it does not.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadConfig(f"picture '{one_line(path.name)}': its name must end in {', '.join(SUFFIXES)}")
