"""Which learning rates are usual for an LM of a size; others are allowed, and named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

SMALL: Final = 5_000_000
"""LMs of fewer parameters take larger learning rates."""
USUAL: Final[Mapping[str, tuple[float, float]]] = {"pretrain.lr": (1e-6, 3e-4), "finetune.lr": (1e-6, 5e-4)}
"""Smallest and largest usual peak learning rate of AdamW for an LM that was pre-trained before."""
USUAL_SMALL: Final[Mapping[str, tuple[float, float]]] = {"pretrain.lr": (1e-5, 1e-2), "finetune.lr": (1e-5, 1e-2)}


def unusual_rates(parameters: int, rates: Mapping[str, float]) -> Iterator[str]:
    """Yield a line for every learning rate that is far from what is usual.

    Args:
        parameters: number of parameters of the LM.
        rates: peak learning rates by key: "pretrain.lr", "finetune.lr".

    Examples:
        >>> list(unusual_rates(22_000_000, {"finetune.lr": 3e-5}))
        []
        >>> list(unusual_rates(22_000_000, {"pretrain.lr": 1e-3}))
        ['pretrain.lr is 0.001, and 1e-06 to 0.0003 is usual for an LM of 22M parameters: it may lose what it knew']
    """
    usual = USUAL_SMALL if parameters < SMALL else USUAL
    size = f"{parameters / 1e6:.0f}M" if parameters >= SMALL else f"{parameters:,}"
    for key, rate in rates.items():
        low, high = usual[key]
        if not low <= rate <= high:
            what = "it may lose what it knew" if rate > high else "it will hardly learn"
            yield f"{key} is {rate:g}, and {low:g} to {high:g} is usual for an LM of {size} parameters: {what}"
