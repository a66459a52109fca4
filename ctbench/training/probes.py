"""Probes inside a stage: held-out losses of what was learned before, at log-spaced updates, outside the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ctbench.backbone import Backbone


def probe_steps(num_steps: int, count: int) -> tuple[int, ...]:
    """Return after how many updates a stage is probed: before the first, then log-spaced up to the last.

    Args:
        num_steps: updates of the stage.
        count: number of probes after the first update; rounding may leave fewer in a short stage. 0 probes nothing.

    Examples:
        >>> probe_steps(160, 8)
        (0, 1, 2, 4, 9, 18, 38, 77, 160)
    """
    if not count:
        return ()
    found = np.geomspace(1, num_steps, count) if count > 1 else [num_steps]
    return (0, *sorted({round(float(step)) for step in found}))


@dataclass(kw_only=True)
class Probes:
    """What the loop of a stage measures on its way.

    Args:
        steps: numbers of updates after which to measure.
        measure: returns held-out losses of an LM by name of the text; it must leave the LM as it is.

    Attributes:
        columns: the steps and losses so far, by name; "step" is the number of updates.
    """

    steps: frozenset[int] = frozenset()
    measure: Callable[[Backbone], Mapping[str, float]] = lambda _: {}
    columns: dict[str, list[float]] = field(default_factory=dict)

    def look(self, step: int, backbone: Backbone) -> None:
        """Measure an LM after `step` updates if that is one of the steps."""
        if step in self.steps:
            for name, value in {"step": float(step), **self.measure(backbone)}.items():
                self.columns.setdefault(name, []).append(value)

    @property
    def seen(self) -> tuple[int, ...]:
        """The steps measured so far."""
        return tuple(int(step) for step in self.columns.get("step", []))

    @property
    def losses(self) -> dict[str, tuple[float | None, ...]]:
        """The losses by name of the text (None: not finite)."""
        return {
            name: tuple(value if math.isfinite(value) else None for value in values)
            for name, values in self.columns.items()
            if name != "step"
        }
