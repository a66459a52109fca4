"""Names and limits of the notes that say whether a part of a method does anything."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

GRADIENT: Final = "gradient_"
"""Begins the note on a loss term: the largest norm of its gradient that was seen, in units of the LM loss's."""
CHANGE: Final = "change_"
"""Begins the note on an added module: the largest change of a logit when the module is left out."""
INERT_GRADIENT: Final = 1e-3
INERT_CHANGE: Final = 1e-6
DOMAINS: Final = "prompt_domains"
"""The note on what a conditional LM generates: the share of groups of texts whose domain a linear probe names from it."""
PROBED: Final = 16
"""Groups of each domain whose name the probe has to tell."""


def guessed(num_domains: int) -> float:
    """Return the share of groups that guessing names in all but a few per cent of cases: its mean and two deviations.

    Example:
        >>> round(guessed(5), 2)
        0.29
    """
    mean = 1.0 / num_domains
    return mean + 2.0 * math.sqrt(mean * (1.0 - mean) / (PROBED * num_domains))


def inert_components(notes: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for each loss term and each added module that did nothing in a stage.

    Example:
        >>> list(inert_components({"gradient_kd": 0.2, "change_maps": 0.0}))
        ['without the added module maps all outputs are the same to 1e-06']
    """
    for name, value in notes.items():
        if not isinstance(value, int | float):
            continue  # null, or a note of another program
        if name.startswith(GRADIENT) and value < INERT_GRADIENT:
            term = name.removeprefix(GRADIENT)
            yield f"the gradient of the loss term {term} was never above {value:.1e} of the LM loss's"
        if name.startswith(CHANGE) and value <= INERT_CHANGE:
            yield f"without the added module {name.removeprefix(CHANGE)} all outputs are the same to {INERT_CHANGE:g}"
