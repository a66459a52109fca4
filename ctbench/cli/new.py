"""`ctbench new`."""

from __future__ import annotations

import sys
from typing import Any

import ctbench
from ctbench.cli.options import takes_options_of


@takes_options_of(ctbench.new, arguments=("what", "name"))
def command(**given: Any) -> None:
    """Write a method or a stream to start from into the current folder."""
    written = ctbench.new(**given)
    for path in written.files:
        print(path)
    print(f"next: {written.following}", file=sys.stderr)
