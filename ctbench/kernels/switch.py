"""One switch for ctbench's own kernels: attention, dropout, LM head and LM loss."""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "CTBENCH_PLAIN_KERNELS"


def uses_plain_kernels() -> bool:
    """Return whether the libraries' own kernels are asked for (`CTBENCH_PLAIN_KERNELS=1`).

    Numbers differ by rounding, and dropout draws other masks, so the answer is part of a node's key.
    """
    return os.environ.get(VARIABLE, "") not in ("", "0")
