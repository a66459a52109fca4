"""`ctbench plot`."""

from __future__ import annotations

from typing import Any

import ctbench
from ctbench.cli.options import takes_options_of


@takes_options_of(ctbench.plot, arguments=("run",))
def command(**given: Any) -> None:
    """Draw results; without --output the file is named after the stream and the kind of picture."""
    from ctbench.reporting.plots.style import save

    figure = ctbench.plot(**given)
    print(given.get("output") or save(figure, f"{figure.get_label()}.png"))
