"""`ctbench report`."""

from __future__ import annotations

from typing import Any

import ctbench
from ctbench.cli.options import takes_options_of


@takes_options_of(ctbench.report)
def command(**given: Any) -> None:
    """Write all results as one HTML page."""
    print(ctbench.report(**given))
