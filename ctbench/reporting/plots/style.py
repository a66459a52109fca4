"""The style of all plots: safe for colour-blind readers, legible in black and white, deterministic."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctbench.errors import BadConfig, one_line, unwritable
from ctbench.machine.files import write_whole

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

LETTER_WIDTH = 0.0085
"""Width in inches of an average letter of one point, a little too large."""

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


@contextmanager
def styled() -> Iterator[None]:
    """Use this style inside the block, independently of the user's settings of matplotlib."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def sequential() -> Colormap:
    """Return the colours of scores, from pale to dark blue, ordered by lightness."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("scores", ["#f4f7fb", "#c3d8ec", "#7fb0d8", "#3b7fb8", "#123f73"])


def diverging() -> Colormap:
    """Return the colours of differences: orange below 0, blue above, white at 0."""
    from matplotlib.colors import LinearSegmentedColormap

    names = ["#8f3b00", "#d9772b", "#f6c9a0", "#ffffff", "#a9cbe6", "#3b7fb8", "#123f73"]
    return LinearSegmentedColormap.from_list("differences", names)


def ink_on(colour: Any) -> str:
    """Return a legible text colour on `colour` (red, green, blue in [0, 1])."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.067 else INK


def save(figure: Figure, path: str | Path) -> Path:
    """Write `figure` as PNG, SVG or PDF; equal figures give equal files.

    Raises:
        BadConfig: another suffix, or the file cannot be written.
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
            # The layout is applied here, so that matplotlib does not draw the figure a second time for it.
            if engine is not None:
                engine.execute(figure)
                figure.set_layout_engine(None)
            suffix, file = path.suffix.lower(), io.BytesIO()
            figure.savefig(file, format=suffix[1:], metadata=dates[suffix])
        write_whole(path, file.getvalue())
    except OSError as error:
        raise BadConfig(unwritable(f"plot '{path}'", error, "choose another file with --output")) from None
    return path


def check_suffix(path: Path) -> None:
    """Check that the suffix names a known format.

    Raises:
        BadConfig: another suffix.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadConfig(f"plot '{one_line(path.name)}': the name must end in {', '.join(SUFFIXES)}")


def wrapped(text: str, inches: float, *, size: float = 9.0) -> str:
    """Return a title broken into lines that fit into a width; a word longer than a line is broken.

    Args:
        text: one line.
        inches: width that the lines have.
        size: of the letters, in points.
    """
    letters = max(8, int(inches / (size * LETTER_WIDTH)))
    return "\n".join(textwrap.wrap(text, letters)) or text
