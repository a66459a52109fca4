"""Rounds in which every side does its work once, and ratios of speeds within a round."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

from ctbench.speed.work import Work, as_request

MIN_STEPS: Final = {"engine": 10, "bare": 10, "trainer": 2}
"""Minimum number of timed steps of a loop; the engine reports every tenth step."""
WARMUP: Final = {"engine": 10, "bare": 2, "trainer": 2}
"""Number of steps before the clock starts."""

Reading = dict[str, Any]
Ask = Callable[[str, dict[str, Any]], Reading]
"""Called with the name of a loop and a request; returns the reading. `side_processes` asks a process per side."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison: a loop and its work; `calibrate` sets the number of steps."""

    label: str
    loop: str
    work: Work


def calibrate(sides: Sequence[Side], ask: Ask, *, seconds: float) -> list[Side]:
    """Run every side once with few steps, which also warms it up, and choose the number of steps that fills `seconds`."""
    found = []
    for side in sides:
        least = MIN_STEPS[side.loop]
        work = replace(side.work, warmup=WARMUP[side.loop], steps=least)
        reading = ask(side.loop, as_request(side.loop, work))
        per_step = reading["seconds"] / reading["steps"]
        steps = max(1, math.ceil(seconds / per_step / least)) * least
        found.append(replace(side, work=replace(work, steps=steps)))
    return found


def run_rounds(sides: Sequence[Side], ask: Ask, *, pairs: int, say: Callable[[str], None]) -> dict[str, list[Reading]]:
    """Return `pairs` readings of every side by label; every second round runs the sides in reverse order."""
    readings: dict[str, list[Reading]] = {side.label: [] for side in sides}
    for number in range(pairs):
        for side in sides if number % 2 == 0 else reversed(sides):
            readings[side.label].append(ask(side.loop, as_request(side.loop, side.work)))
        speeds = ", ".join(f"{label} {found[-1]['tokens_per_second']:,.0f}" for label, found in readings.items())
        say(f"round {number + 1} of {pairs}, tokens/s: {speeds}")
    return readings


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median, min, max and the values themselves.

    Examples:
        >>> spread([3.0, 1.0, 2.0])
        {'median': 2.0, 'min': 1.0, 'max': 3.0, 'values': [3.0, 1.0, 2.0]}
    """
    return {"median": median(values), "min": min(values), "max": max(values), "values": list(values)}


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """Return the spread of the ratios within rounds; both arguments hold one value per round.

    Examples:
        >>> ratio([4.0, 9.0], [2.0, 3.0])["median"]
        2.5
    """
    return spread([a / b for a, b in zip(above, below, strict=True)])


def speeds(readings: Mapping[str, Sequence[Reading]], label: str) -> list[float]:
    """Return the tokens per second of a side, one value per round."""
    return [float(reading["tokens_per_second"]) for reading in readings[label]]
