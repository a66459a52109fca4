"""Faster arithmetic for the passes of a backbone, with the same results up to rounding.

`CTBENCH_PLAIN_KERNELS=1` switches all of it off, so that anybody can rule it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctbench.kernels.dropout import drop

__all__ = ["drop"]


def __getattr__(name: str) -> Any:
    if name == "drop":
        from ctbench.kernels import dropout

        return dropout.drop
    raise AttributeError(f"module 'ctbench.kernels' has no attribute '{name}'")
