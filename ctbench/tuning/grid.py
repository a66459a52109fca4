"""The grid of a method's tuned hyper-parameters, and a seeded sample of its points."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ctbench.errors import BadPlugin
from ctbench.method import Method, configure

MAX_POINTS = 20_000
NUM_TRIALS = 12
"""Trials of a method by default. A grid with no more points is tried whole."""

Point = dict[str, Any]


def grid_of(cls: type[Method], name: str, *, fixed: Sequence[str] = ()) -> dict[str, tuple[Any, ...]]:
    """Return the values of every tuned field, as declared by `hyper(..., tune=(...))`.

    Args:
        cls: the method's class.
        name: public name of the method, for messages.
        fixed: fields that the caller has set; they are not tuned.

    Raises:
        BadConfig: a value that the field does not allow.
        BadPlugin: more than `MAX_POINTS` combinations.

    Examples:
        >>> from ctbench.plugins.find import find_plugin, load_class
        >>> grid_of(load_class(find_plugin("method", "averaging")), "averaging")["after_fraction"][:3]
        (0.2, 0.3, 0.4)
    """
    grid: dict[str, tuple[Any, ...]] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # every method is a dataclass
        if field.metadata.get("tune") and field.name not in fixed:
            tried = [configure(cls, name, {field.name: value}) for value in field.metadata["tune"]]
            grid[field.name] = tuple(dict.fromkeys(method.settings()[field.name] for method in tried))
    if num_points(grid) > MAX_POINTS:
        raise BadPlugin(
            f"method {name} declares {num_points(grid):,} combinations to tune ({', '.join(grid)}); at most "
            f"{MAX_POINTS:,} are allowed: shorten its `tune` tuples or fix a field with --set method.NAME=VALUE"
        )
    return grid


def num_points(grid: Mapping[str, Sequence[Any]]) -> int:
    """Return the number of combinations; 0 if nothing is tuned."""
    return math.prod(map(len, grid.values())) if grid else 0


def choose_points(
    grid: Mapping[str, Sequence[Any]], defaults: Point, count: int, generator: np.random.Generator
) -> list[Point]:
    """Return the defaults and other points of the grid, without repetition, with every value about equally often.

    The points are shuffled. Each step takes the point with the most values that no point has had yet, so that all values
    are covered as soon as there are as many points as a field has values; then the point whose values have been taken
    least often so far; ties are broken by the counts of its pairs of values, then by the shuffled order. Counts of the
    values of a field thus differ by at most one where the grid allows it, as in a Latin hypercube, and fields vary
    independently of each other.

    Args:
        grid: values by field.
        defaults: default values of these fields; they need not lie on the grid.
        count: number of points, the defaults included; a smaller grid is returned whole.
        generator: shuffles the points.

    Examples:
        >>> choose_points({"a": (1, 2)}, {"a": 2}, 8, np.random.default_rng(0))
        [{'a': 2}, {'a': 1}]
    """
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    rest = [point for point in points if point != defaults]
    if len(rest) < count:
        return [defaults, *rest]
    rest = [rest[index] for index in generator.permutation(len(rest))]
    chosen = [defaults]
    values, pairs = Counter(defaults.items()), Counter(_pairs(defaults))

    def times_taken(point: Point) -> tuple[int, int, int]:
        counts = [values[value] for value in point.items()]
        return -counts.count(0), sum(counts), sum(pairs[pair] for pair in _pairs(point))

    while len(chosen) < count:
        chosen.append(min(rest, key=times_taken))
        rest.remove(chosen[-1])
        values.update(chosen[-1].items())
        pairs.update(_pairs(chosen[-1]))
    return chosen


def _pairs(point: Point) -> Iterator[tuple[tuple[str, Any], tuple[str, Any]]]:
    return itertools.combinations(point.items(), 2)
