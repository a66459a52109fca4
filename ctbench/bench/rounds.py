"""The protocol of a comparison: rounds in which every side does its work once, and ratios within a round."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

from ctbench.bench.loops import Work, as_request

MIN_STEPS: Final = {"engine": 10, "bare": 10, "trainer": 2}
"""Fewest timed steps of a loop; the engine's clock ticks every ten."""
WARMUP: Final = {"engine": 10, "bare": 2, "trainer": 2}
"""Steps before the clock starts."""

Reading = dict[str, Any]
Ask = Callable[[str, dict[str, Any]], Reading]
"""Given a loop and its request, returns the reading; the real one asks a process."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One competitor: a loop and its work; the number of steps is found by `calibrate`."""

    label: str
    loop: str
    work: Work


def calibrate(sides: Sequence[Side], ask: Ask, *, seconds: float) -> list[Side]:
    """Run every side once with few steps, which also warms it up, and give each as many steps as fill `seconds`."""
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
    """Return `pairs` readings of every side by label, taken in turn; every second round goes backwards."""
    readings: dict[str, list[Reading]] = {side.label: [] for side in sides}
    for number in range(pairs):
        for side in sides if number % 2 == 0 else reversed(sides):
            readings[side.label].append(ask(side.loop, as_request(side.loop, side.work)))
        speeds = ", ".join(f"{label} {found[-1]['tokens_per_second']:,.0f}" for label, found in readings.items())
        say(f"round {number + 1} of {pairs}, tokens/s: {speeds}")
    return readings


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median, min, max and the values themselves.

    Example:
        >>> spread([3.0, 1.0, 2.0])
        {'median': 2.0, 'min': 1.0, 'max': 3.0, 'values': [3.0, 1.0, 2.0]}
    """
    return {"median": median(values), "min": min(values), "max": max(values), "values": list(values)}


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """Return the spread of the ratios within rounds; both have one value a round.

    Example:
        >>> ratio([4.0, 9.0], [2.0, 3.0])["median"]
        2.5
    """
    return spread([a / b for a, b in zip(above, below, strict=True)])


def speeds(readings: Mapping[str, Sequence[Reading]], label: str) -> list[float]:
    """Return a side's tokens per second, a value a round."""
    return [float(reading["tokens_per_second"]) for reading in readings[label]]
